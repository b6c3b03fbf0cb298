/* plan.c - the plan as data: sizes it leaves, digest, broadcast, composition. */
#include "espalier/plan.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "plan_impl.h"

void esp_plan_keep_all(esp_kept_groups *k, size_t total)
{
    k->n = k->total = total;
    ESP_NEW(k->index, total);
    for (size_t i = 0; i < total; i++) {
        k->index[i] = (int32_t)i;
    }
}

void esp_plan_whole(esp_plan *p, const esp_model *m)
{
    *p = (esp_plan){ .n_layers = m->dims.n_layers };
    ESP_NEW(p->layers, p->n_layers);
    for (size_t l = 0; l < p->n_layers; l++) {
        p->layers[l].kept = true;
        esp_plan_keep_all(&p->layers[l].attention, m->dims.layer[l].kv_heads);
        esp_plan_keep_all(&p->layers[l].query, m->dims.layer[l].heads);
        esp_plan_keep_all(&p->layers[l].mlp, m->dims.layer[l].mlp);
    }
    esp_plan_keep_all(&p->hidden, m->dims.hidden);
}

size_t esp_plan_whole_bytes(const esp_model *m)
{
    size_t bytes = esp_calloc_bytes(m->dims.n_layers, sizeof(esp_layer_plan)) +
                   esp_calloc_bytes(m->dims.hidden, sizeof(int32_t));

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        bytes += esp_calloc_bytes(m->dims.layer[l].kv_heads, sizeof(int32_t)) +
                 esp_calloc_bytes(m->dims.layer[l].heads, sizeof(int32_t)) +
                 esp_calloc_bytes(m->dims.layer[l].mlp, sizeof(int32_t));
    }
    return bytes;
}

void esp_plan_drop_layer(esp_layer_plan *l)
{
    l->kept = false;
    l->attention.n = l->query.n = l->mlp.n = 0;
}

void esp_plan_drop_queries(esp_layer_plan *l)
{
    size_t of_group = l->query.total / l->attention.total, n = 0, at = 0;

    for (size_t i = 0; i < l->query.n; i++) {
        size_t group = (size_t)l->query.index[i] / of_group;

        while (at < l->attention.n && (size_t)l->attention.index[at] < group) {
            at++;
        }
        if (at < l->attention.n && (size_t)l->attention.index[at] == group) {
            l->query.index[n++] = l->query.index[i];
        }
    }
    l->query.n = n;
}

bool esp_plan_cuts_queries(const esp_layer_plan *l)
{
    return l->query.n * l->attention.total < l->attention.n * l->query.total;
}

void esp_plan_free(esp_plan *p)
{
    for (size_t l = 0; l < p->n_layers; l++) {
        free(p->layers[l].attention.index);
        free(p->layers[l].query.index);
        free(p->layers[l].mlp.index);
    }
    free(p->layers);
    free(p->hidden.index);
    free(p->near);
    *p = (esp_plan){ 0 };
}

const esp_kept_groups *esp_plan_kept(const esp_plan *p, const esp_unit *u)
{
    switch (u->kind) {
    case ESP_UNIT_ATTENTION:
        return &p->layers[u->layer].attention;
    case ESP_UNIT_QUERY:
        return &p->layers[u->layer].query;
    case ESP_UNIT_MLP:
        return &p->layers[u->layer].mlp;
    default:
        return &p->hidden;
    }
}

/* ---- what is cut, and to what ------------------------------------------------------------------- */

/* Names, with units as bits of esp_unit_kind. */
typedef struct named_units {
    const char *name;
    unsigned units;
} named_units;

/* Modes: what each cuts groups of; "block" also those of attention that are set. */
static const named_units modes[ESP_N_PRUNE_MODES] = {
    [ESP_PRUNE_BLOCK] = { "block", 1u << ESP_UNIT_MLP },
    [ESP_PRUNE_CHANNEL] = { "channel", 1u << ESP_UNIT_HIDDEN },
    [ESP_PRUNE_LAYER] = { "layer", 1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_MLP },
};

static const named_units attention_units[ESP_N_ATTENTION_UNITS] = {
    [ESP_ATTENTION_GROUPS] = { "groups", 1u << ESP_UNIT_ATTENTION },
    [ESP_ATTENTION_QUERIES] = { "queries", 1u << ESP_UNIT_QUERY },
    [ESP_ATTENTION_BOTH] = { "both", 1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_QUERY },
};

static const char *const target_names[ESP_N_TARGETS] = {
    [ESP_TARGET_NONE] = "none",
    [ESP_TARGET_PARAMETERS] = "parameters",
    [ESP_TARGET_MACS] = "macs",
    [ESP_TARGET_BYTES] = "bytes",
};

const char *esp_select_by_name(unsigned by)
{
    static const char *const names[] = { "importance", "reconstruction" };

    return by < ESP_N_SELECT_BY ? names[by] : NULL;
}

const char *esp_prune_mode_name(esp_prune_mode mode)
{
    return mode < ESP_N_PRUNE_MODES ? modes[mode].name : NULL;
}

const char *esp_attention_units_name(esp_attention_units units)
{
    return units < ESP_N_ATTENTION_UNITS ? attention_units[units].name : NULL;
}

unsigned esp_plan_units(const esp_plan_options *o)
{
    return modes[o->mode].units |
           (o->mode == ESP_PRUNE_BLOCK ? attention_units[o->attention].units : 0);
}

const char *esp_target_name(esp_target_kind kind)
{
    return kind < ESP_N_TARGETS ? target_names[kind] : NULL;
}

const char *esp_scope_name(unsigned global)
{
    static const char *const names[] = { "local", "global" };

    return global < 2 ? names[global] : NULL;
}

/* ---- sizes ------------------------------------------------------------------------------------- */

void esp_plan_dims(esp_dims *dims, const esp_plan *p, const esp_model *m)
{
    *dims = m->dims;
    dims->hidden = p->hidden.n;
    dims->n_layers = 0;
    ESP_NEW(dims->layer, p->n_layers);
    for (size_t l = 0; l < p->n_layers; l++) {
        const esp_layer_plan *lp = &p->layers[l];
        const esp_layer_dims *was = &m->dims.layer[l];

        if (lp->kept) {
            dims->layer[dims->n_layers++] = (esp_layer_dims){
                .heads = lp->query.n,
                .kv_heads = lp->attention.n,
                .mlp = lp->mlp.n,
                .window = was->window,
            };
        }
    }
}

static void resize(esp_weight *w, const esp_weight *from, const esp_model *to, size_t layer,
                   int slot)
{
    *w = *from;
    w->rows = esp_model_width(to, layer, to->arch->slots[slot].rows);
    w->cols = esp_model_width(to, layer, to->arch->slots[slot].cols);
}

esp_cost esp_plan_cost(const esp_plan *p, const esp_model *m, size_t n_tok)
{
    size_t n_block = m->arch->n_slots - ESP_SLOT_BLOCK, at = 0;
    esp_model to = *m; /* shapes alone; weights, and dims of the plan, are its own */
    esp_cost cost;

    esp_plan_dims(&to.dims, p, m);
    ESP_NEW(to.head_and_norm, ESP_SLOT_BLOCK);
    ESP_NEW(to.block, to.dims.n_layers * n_block);
    for (int s = 0; s < ESP_SLOT_BLOCK; s++) {
        resize(&to.head_and_norm[s], &m->head_and_norm[s], &to, ESP_NO_LAYER, s);
    }
    for (size_t l = 0; l < p->n_layers; l++) {
        for (size_t s = 0; p->layers[l].kept && s < n_block; s++, at++) {
            resize(&to.block[at], &m->block[l * n_block + s], &to, at / n_block,
                   (int)s + ESP_SLOT_BLOCK);
        }
    }
    cost = esp_model_cost(&to, n_tok);
    free(to.dims.layer);
    free(to.head_and_norm);
    free(to.block);
    return cost;
}

/* ---- one sequence of integers, for the digest and the broadcast --------------------------------- */

/* Of all but the query heads, which come last. */
static size_t flat_groups_length(const esp_plan *p)
{
    size_t n = 1 + 2 + p->hidden.n;

    for (size_t l = 0; l < p->n_layers; l++) {
        n += 1 + 2 + p->layers[l].attention.n + 2 + p->layers[l].mlp.n;
    }
    return n;
}

static size_t flat_length(const esp_plan *p)
{
    size_t n = flat_groups_length(p);

    for (size_t l = 0; l < p->n_layers; l++) {
        n += 2 + p->layers[l].query.n;
    }
    return n;
}

/* What the digest is of: query heads that all stay with their key/value heads follow from these. */
static size_t digest_length(const esp_plan *p)
{
    for (size_t l = 0; l < p->n_layers; l++) {
        if (esp_plan_cuts_queries(&p->layers[l])) {
            return flat_length(p);
        }
    }
    return flat_groups_length(p);
}

static int32_t *flatten_kept(int32_t *at, const esp_kept_groups *k)
{
    *at++ = (int32_t)k->total;
    *at++ = (int32_t)k->n;
    memcpy(at, k->index, k->n * sizeof *at);
    return at + k->n;
}

static const int32_t *restore_kept(esp_kept_groups *k, const int32_t *at)
{
    k->total = (size_t)*at++;
    k->n = (size_t)*at++;
    ESP_NEW(k->index, k->n);
    memcpy(k->index, at, k->n * sizeof *at);
    return at + k->n;
}

static void flatten(int32_t *at, const esp_plan *p)
{
    *at++ = (int32_t)p->n_layers;
    at = flatten_kept(at, &p->hidden);
    for (size_t l = 0; l < p->n_layers; l++) {
        *at++ = p->layers[l].kept;
        at = flatten_kept(at, &p->layers[l].attention);
        at = flatten_kept(at, &p->layers[l].mlp);
    }
    for (size_t l = 0; l < p->n_layers; l++) {
        at = flatten_kept(at, &p->layers[l].query);
    }
}

static void restore(esp_plan *p, const int32_t *at)
{
    p->n_layers = (size_t)*at++;
    ESP_NEW(p->layers, p->n_layers);
    at = restore_kept(&p->hidden, at);
    for (size_t l = 0; l < p->n_layers; l++) {
        p->layers[l].kept = *at++ != 0;
        at = restore_kept(&p->layers[l].attention, at);
        at = restore_kept(&p->layers[l].mlp, at);
    }
    for (size_t l = 0; l < p->n_layers; l++) {
        at = restore_kept(&p->layers[l].query, at);
    }
}

void esp_plan_seal(esp_plan *p)
{
    size_t n = digest_length(p);
    int32_t *flat;

    ESP_NEW(flat, flat_length(p));
    flatten(flat, p);
    for (size_t i = 0; i < n; i++) {
        flat[i] = (int32_t)htole32((uint32_t)flat[i]);
    }
    esp_digest_bytes(p->digest, flat, n * sizeof *flat);
    free(flat);
}

/* What the sequence leaves out. */
typedef struct header {
    uint64_t n; /* integers of the sequence */
    esp_cost dense, pruned;
    char model[ESP_DIGEST_SIZE], digest[ESP_DIGEST_SIZE];
} header;

static void fill_header(header *h, const esp_plan *p)
{
    *h = (header){ .n = flat_length(p), .dense = p->dense, .pruned = p->pruned };
    memcpy(h->model, p->model, sizeof h->model);
    memcpy(h->digest, p->digest, sizeof h->digest);
}

static void restore_all(esp_plan *p, const header *h, const int32_t *flat)
{
    restore(p, flat);
    p->dense = h->dense;
    p->pruned = h->pruned;
    memcpy(p->model, h->model, sizeof p->model);
}

esp_status esp_plan_share(esp_plan *p, MPI_Comm comm)
{
    esp_status st = ESP_OK;
    header h = { 0 };
    int32_t *flat;
    int rank;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    if (rank == 0) {
        fill_header(&h, p);
    }
    ESP_MPI(MPI_Bcast(&h, sizeof h, MPI_BYTE, 0, comm));
    ESP_NEW(flat, h.n);
    if (rank == 0) {
        flatten(flat, p);
    }
    ESP_MPI(MPI_Bcast(flat, esp_count(h.n), MPI_INT32_T, 0, comm));
    if (rank != 0) {
        restore_all(p, &h, flat);
    }
    esp_plan_seal(p);
    if (strcmp(p->digest, h.digest) != 0) {
        st = esp_fail(ESP_EFAILED, "plan: rank 0 sent digest %s, rank %d has %s", h.digest, rank,
                      p->digest);
    }
    free(flat);
    return esp_agree(comm, st);
}
