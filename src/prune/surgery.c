/* surgery.c - which rows and columns of each weight stay, and a source of just those. */
#include "espalier/surgery.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/model_save.h"

/* Where the model that is written comes from. */
typedef struct cut {
    const esp_model *model;
    size_t *layer; /* [layers that stay] owned: the number each has in the model              */
    esp_kept
        *side[2]; /* [n_layers * n_slots] owned: kept rows and columns; total 0: all are kept */
} cut;

/* Slots outside the blocks come first, so their indices are free among those of layer 0. */
static esp_kept *kept_at(const cut *c, esp_side side, size_t layer, int slot)
{
    size_t first = layer == ESP_NO_LAYER ? 0 : layer * c->model->arch->n_slots;

    return &c->side[side][first + (size_t)slot];
}

/* Takes the indices of groups that go out of a side. */
static void cut_side(esp_kept *side, const esp_structure *s, const esp_unit *u,
                     const bool *group_stays)
{
    size_t n = 0;

    if (side->total == 0) {
        side->n = side->total = s->length;
        ESP_NEW(side->index, s->length);
        for (size_t i = 0; i < s->length; i++) {
            side->index[i] = (int32_t)i;
        }
    }
    for (size_t i = 0; i < side->n; i++) {
        int32_t channel = s->channel[side->index[i]];

        if (channel < 0 || group_stays[(size_t)channel / u->channels_per_group]) {
            side->index[n++] = side->index[i];
        }
    }
    side->n = n;
}

static void cut_unit(cut *c, const esp_unit *u, const esp_kept *kept)
{
    bool *stays;

    ESP_REQUIRE(kept->total == u->n_groups);
    ESP_NEW(stays, u->n_groups);
    for (size_t i = 0; i < kept->n; i++) {
        stays[kept->index[i]] = true;
    }
    for (size_t i = 0; i < u->n_structures; i++) {
        const esp_structure *s = &u->structures[i];

        cut_side(kept_at(c, s->side, s->layer, s->slot), s, u, stays);
    }
    free(stays);
}

static void cut_init(cut *c, const esp_model *m, const esp_groups *g, const esp_plan *p)
{
    size_t n_weights = m->dims.n_layers * m->arch->n_slots, n = 0;

    *c = (cut){ .model = m };
    ESP_NEW(c->layer, p->n_layers);
    for (size_t l = 0; l < p->n_layers; l++) {
        if (p->layers[l].kept) {
            c->layer[n++] = l;
        }
    }
    ESP_NEW(c->side[ESP_ROWS], n_weights);
    ESP_NEW(c->side[ESP_COLS], n_weights);
    for (size_t u = 0; u < g->n_units; u++) {
        if (g->units[u].layer == ESP_NO_LAYER || p->layers[g->units[u].layer].kept) {
            cut_unit(c, &g->units[u], esp_plan_kept(p, &g->units[u]));
        }
    }
}

static void cut_free(cut *c)
{
    size_t n_weights = c->model->dims.n_layers * c->model->arch->n_slots;

    for (esp_side side = ESP_ROWS; side <= ESP_COLS; side++) {
        for (size_t i = 0; i < n_weights; i++) {
            free(c->side[side][i].index);
        }
        free(c->side[side]);
    }
    free(c->layer);
}

/* ---- data ----------------------------------------------------------------------------------------- */

/* Inlined with a constant size, so that each copy is one move. */
static inline __attribute__((always_inline)) void gather(char *out, const char *row,
                                                         const esp_kept *cols, size_t size)
{
    for (size_t k = 0; k < cols->n; k++) {
        memcpy(out + k * size, row + (size_t)cols->index[k] * size, size);
    }
}

/* Kept columns of a row of n elements; returns where the next row goes. */
static char *copy_row(char *out, const char *row, const esp_kept *cols, size_t n, size_t size)
{
    if (cols->total == 0) {
        memcpy(out, row, n * size);
        return out + n * size;
    }
    if (size == 2) {
        gather(out, row, cols, 2);
    } else {
        gather(out, row, cols, 4);
    }
    return out + cols->n * size;
}

static esp_status source(void *ctx, void *out, size_t layer, int slot, bool bias, size_t first,
                         size_t n)
{
    static const esp_kept all = { 0 };
    const cut *c = ctx;
    size_t from = layer == ESP_NO_LAYER ? layer : c->layer[layer];
    const esp_weight *w = esp_model_weight(c->model, from, slot);
    const esp_kept *rows = kept_at(c, ESP_ROWS, from, slot);
    const esp_kept *cols = bias ? &all : kept_at(c, ESP_COLS, from, slot);
    size_t size = esp_dtype_size(w->dtype), width = bias ? 1 : w->cols;
    const char *data = bias ? w->bias : w->data;
    char *at = out;

    for (size_t i = first; i < first + n; i++) {
        size_t row = rows->total ? (size_t)rows->index[i] : i;

        at = copy_row(at, data + row * width * size, cols, width, size);
    }
    return ESP_OK;
}

static void keep_heads(esp_model *to, const cut *c, const esp_plan *p)
{
    const int32_t **groups;

    ESP_NEW(groups, to->dims.n_layers);
    for (size_t l = 0; l < to->dims.n_layers; l++) {
        groups[l] = p->layers[c->layer[l]].attention.index;
    }
    esp_model_keep_heads(to, c->model, c->layer, groups);
    free(groups);
}

/* Shapes of what the plan leaves; a layer takes its dtypes along to its new number. */
static void shape_of(esp_model *to, const cut *c, const esp_plan *p)
{
    size_t n_block = c->model->arch->n_slots - ESP_SLOT_BLOCK;
    esp_dims dims;

    esp_plan_dims(&dims, p, c->model);
    esp_model_reshape(to, c->model, &dims);
    keep_heads(to, c, p);
    for (size_t l = 0; l < dims.n_layers; l++) {
        for (size_t i = 0; i < n_block; i++) {
            to->block[l * n_block + i].dtype = c->model->block[c->layer[l] * n_block + i].dtype;
        }
    }
    free(dims.layer);
}

esp_status esp_surgery(const char *dir, const esp_model *m, const esp_groups *g, const esp_plan *p,
                       MPI_Comm comm)
{
    esp_model to;
    cut c;
    esp_status st;

    cut_init(&c, m, g, p);
    shape_of(&to, &c, p);
    st = esp_model_save(dir, &to, source, &c, m->dir, 0, comm);
    esp_model_free(&to);
    cut_free(&c);
    return st;
}
