/* params.c - which numbers are trained, laid out in the order of the backward. */
#include "espalier/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/par.h"
#include "espalier/rng.h"
#include "model/model_impl.h"

/* ---- layout ---- */

/* Its numbers lie behind those of the entries before it. */
static void add_entry(esp_params *p, esp_entry e)
{
    e.begin = p->n;
    p->entries = esp_grow(p->entries, p->n_entries + 1, sizeof *p->entries);
    p->entries[p->n_entries++] = e;
    p->n += e.n;
}

/* A matrix may have one column, of a layer that is pruned to one channel. */
static bool is_matrix(const esp_model *m, int slot)
{
    return m->arch->slots[slot].cols != ESP_W_ONE;
}

static void add_weight(esp_params *p, const esp_model *m, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(m, layer, slot);

    add_entry(p, (esp_entry){ .layer = layer,
                              .slot = slot,
                              .part = ESP_PART_WEIGHT,
                              .n = w->rows * w->cols,
                              .decays = is_matrix(m, slot),
                              .original = w->dtype,
                              .from = w->data });
    if (w->has_bias) {
        add_entry(p, (esp_entry){ .layer = layer,
                                  .slot = slot,
                                  .part = ESP_PART_BIAS,
                                  .n = w->rows,
                                  .original = w->dtype,
                                  .from = w->bias });
    }
}

static void add_matrices(esp_params *p, const esp_model *m, size_t layer, int slot, size_t rank)
{
    const esp_weight *w = esp_model_weight(m, layer, slot);
    esp_entry a = { .layer = layer, .slot = slot, .part = ESP_PART_A, .decays = true }, b = a;

    a.n = rank * w->cols;
    b.part = ESP_PART_B;
    b.n = w->rows * rank;
    add_entry(p, a);
    add_entry(p, b);
}

static void begin_stages(esp_params *p, const esp_model *m)
{
    *p = (esp_params){ .n_stages = 0 };
    ESP_NEW(p->stage, m->dims.n_layers + 3);
}

static void end_stage(esp_params *p)
{
    p->stage[++p->n_stages] = p->n;
}

static void make_values(esp_params *p, size_t *bytes)
{
    ESP_MAKE(p->value, p->n, bytes);
}

const esp_entry *esp_params_find(const esp_params *p, size_t layer, int slot, esp_part part)
{
    for (size_t i = 0; i < p->n_entries; i++) {
        const esp_entry *e = &p->entries[i];

        if (e->layer == layer && e->slot == slot && e->part == part) {
            return e;
        }
    }
    return NULL;
}

/* ---- LoRA ---- */

static void init_a(float *a, size_t rank, size_t n_in, uint64_t key)
{
    esp_rng r = { .key = key };
    double bound = 1.0 / sqrt((double)n_in);

    for (size_t i = 0; i < rank * n_in; i++) {
        a[i] = (float)(bound * (2.0 * esp_rng_uniform(&r) - 1.0));
    }
}

/* Points the adapter at its values and, once there are some, its gradients. */
static void point_adapter(const esp_params *p, esp_adapter *adapter)
{
    for (size_t i = 0; i < p->n_entries; i++) {
        const esp_entry *e = &p->entries[i];
        esp_lora *lora = &adapter->lora[esp_slot_index(adapter->n_slots, e->layer, e->slot)];
        float *grad = p->grad ? p->grad + e->begin : NULL;

        if (e->part == ESP_PART_A) {
            lora->a = p->value + e->begin;
            lora->da = grad;
        } else {
            lora->b = p->value + e->begin;
            lora->db = grad;
        }
    }
}

static void plan_lora(esp_params *p, const esp_model *m, uint64_t targets, size_t rank)
{
    begin_stages(p, m);
    end_stage(p);
    for (size_t l = m->dims.n_layers; l-- > 0;) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
            if (targets >> slot & 1 && is_matrix(m, slot)) {
                add_matrices(p, m, l, slot, rank);
            }
        }
        end_stage(p);
    }
    end_stage(p);
}

void esp_params_lora(esp_params *p, esp_adapter *adapter, const esp_model *m, uint64_t targets,
                     uint64_t seed)
{
    plan_lora(p, m, targets, adapter->rank);
    p->lora_rank = adapter->rank;
    p->seed = seed;
    make_values(p, NULL);
    point_adapter(p, adapter);
    esp_params_restart(p);
}

/* ---- all weights ---- */

static void take_over(const esp_params *p, esp_model *m)
{
    for (size_t i = 0; i < p->n_entries; i++) {
        const esp_entry *e = &p->entries[i];
        esp_weight *w = esp_model_weight_at(m, e->layer, e->slot);
        const void **data = e->part == ESP_PART_WEIGHT ? &w->data : &w->bias;

        *data = p->value + e->begin;
        w->dtype = ESP_F32;
    }
}

static void plan_full(esp_params *p, const esp_model *m)
{
    begin_stages(p, m);
    add_weight(p, m, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM);
    if (!m->tied) {
        add_weight(p, m, ESP_NO_LAYER, ESP_SLOT_HEAD);
    }
    end_stage(p);
    for (size_t l = m->dims.n_layers; l-- > 0;) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
            add_weight(p, m, l, slot);
        }
        end_stage(p);
    }
    for (int slot = ESP_SLOT_EMBED; slot < ESP_SLOT_FINAL_NORM; slot++) {
        if (esp_model_weight(m, ESP_NO_LAYER, slot)->rows > 0) {
            add_weight(p, m, ESP_NO_LAYER, slot);
        }
    }
    end_stage(p);
}

void esp_params_full(esp_params *p, esp_model *m)
{
    plan_full(p, m);
    make_values(p, NULL);
    esp_params_restart(p);
    take_over(p, m);
}

void esp_params_set_types(esp_model *shape)
{
    esp_params p;

    plan_full(&p, shape);
    for (size_t i = 0; i < p.n_entries; i++) {
        esp_model_weight_at(shape, p.entries[i].layer, p.entries[i].slot)->dtype = ESP_F32;
    }
    esp_params_free(&p);
}

/* ---- both ---- */

void esp_params_restart(esp_params *p)
{
    for (size_t i = 0; i < p->n_entries; i++) {
        const esp_entry *e = &p->entries[i];
        float *value = p->value + e->begin;

        if (e->part == ESP_PART_A) {
            init_a(value, p->lora_rank, e->n / p->lora_rank,
                   esp_rng_key(p->seed, e->layer, (uint64_t)e->slot));
        } else if (e->part == ESP_PART_B) {
            memset(value, 0, e->n * sizeof *value);
        } else {
            esp_to_f32(value, e->from, e->original, e->n);
        }
    }
}

void esp_params_restore_types(esp_model *shape, const esp_params *p)
{
    for (size_t i = 0; i < p->n_entries; i++) {
        const esp_entry *e = &p->entries[i];

        if (e->part == ESP_PART_WEIGHT) {
            esp_model_weight_at(shape, e->layer, e->slot)->dtype = e->original;
        }
    }
}

/* ---- training ---- */

static size_t piece_limit(const esp_params *p)
{
    return p->piece_limit ? p->piece_limit : ESP_PIECE;
}

/* Room of p->piece: each stage may end in a piece that is not full. */
static size_t most_pieces(const esp_params *p)
{
    return p->n / piece_limit(p) + p->n_stages + 1;
}

static void cut_pieces(esp_params *p)
{
    size_t limit = piece_limit(p);

    ESP_NEW(p->piece, most_pieces(p));
    p->n_pieces = 0;
    for (size_t s = 0; s < p->n_stages; s++) {
        for (size_t at = p->stage[s]; at < p->stage[s + 1]; at += limit) {
            p->piece[p->n_pieces++] = at;
        }
    }
    p->piece[p->n_pieces] = p->n;
}

void esp_params_share(size_t *begin, size_t *end, const esp_params *p, size_t k, int rank)
{
    size_t first = p->piece[k], n = p->piece[k + 1] - first;

    esp_share(begin, end, (n + ESP_SHARE_BLOCK - 1) / ESP_SHARE_BLOCK, rank, p->size);
    *begin *= ESP_SHARE_BLOCK;
    *end *= ESP_SHARE_BLOCK;
    *begin = first + esp_min(*begin, n);
    *end = first + esp_min(*end, n);
}

/* Pieces, and the share of rank in each. */
static void share_out(esp_params *p, int rank, int size)
{
    p->rank = rank;
    p->size = size;
    cut_pieces(p);
    ESP_NEW(p->own, p->n_pieces + 1);
    for (size_t k = 0; k < p->n_pieces; k++) {
        size_t begin, end;

        esp_params_share(&begin, &end, p, k, rank);
        p->own[k + 1] = p->own[k] + (end - begin);
    }
    p->n_own = p->own[p->n_pieces];
}

static void make_training(esp_params *p, size_t *bytes)
{
    ESP_MAKE(p->grad, p->n, bytes);
    ESP_MAKE(p->m, p->n_own, bytes);
    ESP_MAKE(p->v, p->n_own, bytes);
    ESP_MAKE(p->best, p->n_own, bytes);
}

void esp_params_train(esp_params *p, esp_adapter *adapter, int rank, int size)
{
    ESP_REQUIRE(!p->grad);
    share_out(p, rank, size);
    make_training(p, NULL);
    if (adapter) {
        point_adapter(p, adapter);
    }
}

void esp_params_plan(esp_params *p, const esp_model *m, uint64_t targets, size_t r, int rank,
                     int size)
{
    if (r > 0) {
        plan_lora(p, m, targets, r);
    } else {
        plan_full(p, m);
    }
    share_out(p, rank, size);
}

size_t esp_params_bytes(const esp_params *plan)
{
    esp_params p = *plan;
    size_t bytes = p.n_entries * sizeof *p.entries;

    make_values(&p, &bytes);
    make_training(&p, &bytes);
    bytes += esp_calloc_bytes(p.n_stages + 1, sizeof *p.stage) +
             esp_calloc_bytes(most_pieces(&p), sizeof *p.piece) +
             esp_calloc_bytes(p.n_pieces + 1, sizeof *p.own);
    return bytes;
}

void esp_params_free(esp_params *p)
{
    free(p->entries);
    free(p->value);
    free(p->grad);
    free(p->m);
    free(p->v);
    free(p->best);
    free(p->stage);
    free(p->piece);
    free(p->own);
    *p = (esp_params){ 0 };
}
