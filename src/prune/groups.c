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

/* All units there can be: two a layer, then hidden. Sides outside the blocks lie in hidden alone. */
static void units_init(esp_groups *out, size_t n_layers)
{
    out->n_units = 2 * n_layers + 1;
    ESP_NEW(out->units, out->n_units);
    for (size_t l = 0; l < n_layers; l++) {
        out->units[2 * l].kind = ESP_UNIT_ATTENTION;
        out->units[2 * l].layer = l;
        out->units[2 * l + 1].kind = ESP_UNIT_MLP;
        out->units[2 * l + 1].layer = l;
    }
    out->units[2 * n_layers].kind = ESP_UNIT_HIDDEN;
    out->units[2 * n_layers].layer = ESP_NO_LAYER;
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

void esp_groups_find(esp_groups *out, const esp_model *m)
{
    esp_graph g;
    numbers at;

    esp_graph_build(&g, m);
    numbers_init(&at, &g);
    units_init(out, m->dims.n_layers);
    for (size_t i = 0; i < g.n_sides; i++) {
        const esp_graph_side *s = &g.sides[i];

        if (s->layer != ESP_NO_LAYER) {
            add_structure(&out->units[2 * s->layer], &at, &g, s);
            add_structure(&out->units[2 * s->layer + 1], &at, &g, s);
        }
        add_structure(&out->units[out->n_units - 1], &at, &g, s);
    }
    drop_empty_units(out);
    numbers_free(&at);
    esp_graph_free(&g);
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

const esp_unit *esp_groups_unit(const esp_groups *g, esp_unit_kind k, size_t layer)
{
    for (size_t u = 0; u < g->n_units; u++) {
        if (g->units[u].kind == k && (k == ESP_UNIT_HIDDEN || g->units[u].layer == layer)) {
            return &g->units[u];
        }
    }
    return NULL;
}
