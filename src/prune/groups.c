/* groups.c - from the sets of the neuron graph to units, groups and the sides of weights in them. */
#include "espalier/groups.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "graph_impl.h"

static const char *const unit_names[ESP_N_UNITS] = {
    [ESP_UNIT_ATTENTION] = "attention",
    [ESP_UNIT_MLP] = "mlp",
    [ESP_UNIT_HIDDEN] = "hidden",
    [ESP_UNIT_QUERY] = "query",
};

const char *esp_unit_name(esp_unit_kind k)
{
    return k < ESP_N_UNITS ? unit_names[k] : NULL;
}

/* Numbers that groups and channels get when the walk over the weights first meets them, kept at the
 * neuron that represents each. */
typedef struct numbers {
    int32_t *group, *channel; /* [n] owned; -1: not met yet       */
    int32_t *size, *met;      /* [n] owned; channels of a group: all, and those met so far */
} numbers;

static void numbers_init(numbers *at, const esp_graph *g)
{
    ESP_NEW(at->group, g->n);
    ESP_NEW(at->channel, g->n);
    ESP_NEW(at->size, g->n);
    ESP_NEW(at->met, g->n);
    for (size_t i = 0; i < g->n; i++) {
        at->group[i] = at->channel[i] = -1;
        at->size[g->tied[i]] += g->aligned[i] == i;
    }
}

static void numbers_free(numbers *at)
{
    free(at->group);
    free(at->channel);
    free(at->size);
    free(at->met);
}

/* Channel of a neuron in its unit, which grows by a group where the neuron is the first of one. */
static int32_t channel_of(numbers *at, esp_unit *u, const esp_graph *g, size_t neuron)
{
    uint32_t group = g->tied[neuron], channel = g->aligned[neuron];

    if (at->group[group] < 0) {
        if (u->n_groups == 0) {
            u->channels_per_group = (size_t)at->size[group];
        }
        ESP_REQUIRE(u->channels_per_group == (size_t)at->size[group]);
        at->group[group] = (int32_t)u->n_groups++;
    }
    if (at->channel[channel] < 0) {
        at->channel[channel] = at->group[group] * at->size[group] + at->met[group]++;
    }
    return at->channel[channel];
}

/* The part of a side that lies in units of one kind, as a structure of the unit; none if it is empty. */
static void add_structure(esp_unit *u, numbers *at, const esp_graph *g, const esp_graph_side *s)
{
    esp_structure part = { s->layer, s->slot, s->label, s->side, s->length, NULL };

    for (size_t k = 0; k < s->n; k++) {
        size_t i = esp_slice_index(s->slice, k);

        if (g->kind[s->first + i] != u->kind) {
            continue;
        }
        if (!part.channel) {
            ESP_NEW(part.channel, s->length);
            memset(part.channel, -1, s->length * sizeof *part.channel);
        }
        part.channel[i] = channel_of(at, u, g, s->first + i);
    }
    if (part.channel) {
        u->structures = esp_grow(u->structures, u->n_structures + 1, sizeof *u->structures);
        u->structures[u->n_structures++] = part;
    }
}

/* Units that a layer can have, in their order. */
static const esp_unit_kind kinds_of_layer[] = { ESP_UNIT_ATTENTION, ESP_UNIT_QUERY, ESP_UNIT_MLP };

#define N_KINDS (sizeof kinds_of_layer / sizeof *kinds_of_layer)

/* All units there can be, then hidden. Sides outside the blocks lie in hidden alone. */
static void units_init(esp_groups *out, size_t n_layers)
{
    out->n_units = N_KINDS * n_layers + 1;
    ESP_NEW(out->units, out->n_units);
    for (size_t u = 0; u + 1 < out->n_units; u++) {
        out->units[u].kind = kinds_of_layer[u % N_KINDS];
        out->units[u].layer = u / N_KINDS;
    }
    out->units[out->n_units - 1].kind = ESP_UNIT_HIDDEN;
    out->units[out->n_units - 1].layer = ESP_NO_LAYER;
}

static void drop_empty_units(esp_groups *out)
{
    size_t n = 0;

    for (size_t u = 0; u < out->n_units; u++) {
        if (out->units[u].n_groups > 0) {
            out->units[n++] = out->units[u];
        }
    }
    out->n_units = n;
}

/* A side as a part of the units of its layer, and of hidden; those of query heads have their own graph. */
static void add_side(esp_groups *out, numbers *at, const esp_graph *g, const esp_graph_side *s,
                     bool queries)
{
    size_t n = s->layer == ESP_NO_LAYER ? 0 : N_KINDS;

    for (size_t k = 0; k < n; k++) {
        esp_unit *u = &out->units[s->layer * N_KINDS + k];

        if ((u->kind == ESP_UNIT_QUERY) == queries) {
            add_structure(u, at, g, s);
        }
    }
    if (!queries) {
        add_structure(&out->units[out->n_units - 1], at, g, s);
    }
}

static bool shares_keys(const esp_model *m, size_t layer)
{
    return layer != ESP_NO_LAYER && m->dims.layer[layer].heads > m->dims.layer[layer].kv_heads;
}

/* queries: those of layers where several heads share their keys and values. */
static void add_sides(esp_groups *out, const esp_model *m, bool queries)
{
    esp_graph g;
    numbers at;

    esp_graph_build(&g, m, queries);
    numbers_init(&at, &g);
    for (size_t i = 0; i < g.n_sides; i++) {
        if (!queries || shares_keys(m, g.sides[i].layer)) {
            add_side(out, &at, &g, &g.sides[i], queries);
        }
    }
    numbers_free(&at);
    esp_graph_free(&g);
}

void esp_groups_find(esp_groups *out, const esp_model *m)
{
    bool shared = false;

    units_init(out, m->dims.n_layers);
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        shared = shared || shares_keys(m, l);
    }
    add_sides(out, m, false);
    if (shared) {
        add_sides(out, m, true);
    }
    drop_empty_units(out);
}

size_t esp_groups_bytes(const esp_groups *g)
{
    size_t bytes = 0;

    for (size_t u = 0; u < g->n_units; u++) {
        for (size_t i = 0; i < g->units[u].n_structures; i++) {
            const esp_structure *s = &g->units[u].structures[i];

            bytes += sizeof *s + esp_calloc_bytes(s->length, sizeof *s->channel);
        }
    }
    return bytes;
}

void esp_groups_free(esp_groups *g)
{
    for (size_t u = 0; u < g->n_units; u++) {
        for (size_t i = 0; i < g->units[u].n_structures; i++) {
            free(g->units[u].structures[i].channel);
        }
        free(g->units[u].structures);
    }
    free(g->units);
    *g = (esp_groups){ 0 };
}

const esp_structure *esp_unit_columns(const esp_unit *u)
{
    const esp_structure *found = NULL;

    ESP_REQUIRE(u->kind != ESP_UNIT_HIDDEN);
    for (size_t i = 0; i < u->n_structures; i++) {
        if (u->structures[i].side == ESP_COLS) {
            ESP_REQUIRE(!found);
            found = &u->structures[i];
        }
    }
    ESP_REQUIRE(found);
    return found;
}

void esp_unit_scale_gates(const esp_gates *g, const esp_unit *u, const float *gate)
{
    const esp_structure *columns = esp_unit_columns(u);
    int value = esp_arch_linear(g->model->arch, columns->slot)->in[0];
    float *at = esp_gates_at(g, u->layer, value);

    for (size_t i = 0; i < columns->length; i++) {
        at[i] *= gate[(size_t)columns->channel[i] / u->channels_per_group];
    }
}

const esp_unit *esp_groups_unit(const esp_groups *g, esp_unit_kind k, size_t layer)
{
    for (size_t u = 0; u < g->n_units; u++) {
        if (g->units[u].kind == k && (k == ESP_UNIT_HIDDEN || g->units[u].layer == layer)) {
            return &g->units[u];
        }
    }
    return NULL;
}
