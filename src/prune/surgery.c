/* surgery.c - which rows and columns of each weight stay; a tensor source of these alone. */
#include "espalier/surgery.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/reshape.h"
#include "espalier/tensor_writer.h"

static esp_kept_groups *kept_at(const esp_remnant *c, esp_side side, size_t layer, int slot)
{
    return &c->side[side][esp_slot_index(c->model->arch->n_slots, layer, slot)];
}

/* Removes the indices of cut groups from a side of a weight. */
static void cut_side(esp_kept_groups *side, const esp_structure *s, const esp_unit *u,
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

static void cut_unit(esp_remnant *c, const esp_unit *u, const esp_kept_groups *kept)
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

/* Beside the shapes of what is left, which has no more layers. */
static void make_cut(esp_remnant *c, const esp_model *m, size_t *bytes)
{
    size_t n_weights = m->dims.n_layers * m->arch->n_slots;

    *c = (esp_remnant){ .model = m };
    ESP_MAKE(c->layer, m->dims.n_layers, bytes);
    ESP_MAKE(c->factor, m->arch->n_slots, bytes);
    ESP_MAKE(c->side[ESP_ROWS], n_weights, bytes);
    ESP_MAKE(c->side[ESP_COLS], n_weights, bytes);
    ESP_MAKE(c->replaced, n_weights, bytes);
}

void esp_remnant_free(esp_remnant *c)
{
    size_t n_weights = c->model ? c->model->dims.n_layers * c->model->arch->n_slots : 0;

    for (esp_side side = ESP_ROWS; side <= ESP_COLS; side++) {
        for (size_t i = 0; i < n_weights; i++) {
            free(c->side[side][i].index);
        }
        free(c->side[side]);
    }
    esp_model_free(&c->left);
    free(c->layer);
    free(c->factor);
    free(c->replaced);
    *c = (esp_remnant){ 0 };
}

/* Each side of a weight with a group has its indices, unless a whole layer goes. */
size_t esp_remnant_bytes(const esp_model *m, const esp_groups *g, const esp_model *left)
{
    esp_remnant c;
    size_t bytes = esp_model_bytes(left);

    make_cut(&c, m, NULL);
    for (size_t u = 0; u < g->n_units; u++) {
        for (size_t i = 0; i < g->units[u].n_structures; i++) {
            const esp_structure *s = &g->units[u].structures[i];
            esp_kept_groups *side = kept_at(&c, s->side, s->layer, s->slot);

            bytes += side->total ? 0 : esp_calloc_bytes(s->length, sizeof *side->index);
            side->total = s->length;
        }
    }
    esp_remnant_free(&c);
    make_cut(&c, m, &bytes);
    return bytes;
}

size_t esp_surgery_bytes(const esp_model *m, const esp_groups *g, const esp_model *to,
                         const esp_writer *writer)
{
    return esp_remnant_bytes(m, g, to) + esp_model_save_bytes(to, writer);
}

/* ---- factors that follow from sizes ------------------------------------------------------------- */

/* The slot whose weight computes a value, -1: none. */
static int maker_of(const esp_arch *a, int value)
{
    for (size_t i = 0; i < a->n_ops; i++) {
        if (a->ops[i].out == value) {
            return a->ops[i].slot;
        }
    }
    return -1;
}

/* Weights that add to a residual which inference engines multiply by sqrt(2 L): fewer layers make that factor
 * smaller, so these weights are scaled by the same ratio. The next norm cancels it. */
static void keep_residual(esp_remnant *c, float by)
{
    const esp_arch *a = c->model->arch;

    for (size_t i = 0; i < a->n_ops; i++) {
        int slot = a->ops[i].kind == ESP_OP_ADD ? maker_of(a, a->ops[i].in[1]) : -1;

        if (slot >= 0) {
            c->factor[slot] = by;
        }
    }
}

/* A table that engines multiply by sqrt(D). The final norm compensates where it is also the head. */
static void keep_lookups(esp_remnant *c, float by)
{
    const esp_arch *a = c->model->arch;
    size_t end = a->n_embedding;

    while (end > 0 && a->embedding[end - 1].kind != ESP_OP_SCALE) {
        end--;
    }
    for (size_t i = 0; i < end; i++) {
        if (a->embedding[i].kind == ESP_OP_LOOKUP) {
            c->factor[a->embedding[i].slot] = by;
        }
    }
    if (end > 0 && c->model->tied) {
        c->factor[ESP_SLOT_FINAL_NORM] = 1 / by;
    }
}

/* Some factors are in no file: inference engines derive them from the sizes in config.json, of which a cut
 * changes some. The weights beside them make up for it, so that what stays computes what it did
 * (docs/method.md, eq. 23). */
static void keep_scales(esp_remnant *c, const esp_model *to)
{
    keep_residual(c, to->residual_scale / c->model->residual_scale);
    keep_lookups(c, c->model->embed_scale / to->embed_scale);
}

/* Multiplies n weights w, each used as offset + w, by a factor: w = (w + offset) by - offset. */
static void scale(void *data, esp_dtype type, size_t n, float by, float offset)
{
    size_t size = esp_dtype_size(type);
    float buffer[ESP_SOURCE_NUMBERS];

    for (size_t at = 0; at < n; at += ESP_SOURCE_NUMBERS) {
        size_t count = esp_min(ESP_SOURCE_NUMBERS, n - at);
        char *part = (char *)data + at * size;

        esp_to_f32(buffer, part, type, count);
        for (size_t i = 0; i < count; i++) {
            buffer[i] = (buffer[i] + offset) * by - offset;
        }
        esp_from_f32(part, type, buffer, count);
    }
}

/* ---- data ----------------------------------------------------------------------------------------- */

/* Inlined with a constant size, so that each copy is one move. */
static inline __attribute__((always_inline)) void gather(char *out, const char *row,
                                                         const esp_kept_groups *cols, size_t size)
{
    for (size_t k = 0; k < cols->n; k++) {
        memcpy(out + k * size, row + (size_t)cols->index[k] * size, size);
    }
}

/* Kept columns of a row of n elements; returns where the next row goes. */
static char *copy_row(char *out, const char *row, const esp_kept_groups *cols, size_t n,
                      size_t size)
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

/* Numbers that take the place of the tensor's, NULL: none. */
static const char *replaced_by(const esp_remnant *c, const esp_tensor_ref *t)
{
    const esp_replaced *by =
        &c->replaced[esp_slot_index(c->model->arch->n_slots, t->layer, t->slot)];

    return t->layer == ESP_NO_LAYER ? NULL : t->part == ESP_PART_BIAS ? by->bias : by->data;
}

void esp_remnant_rows(void *out, const esp_remnant *c, const esp_tensor_ref *t, size_t first,
                      size_t n)
{
    static const esp_kept_groups all = { 0 };
    size_t from = t->layer == ESP_NO_LAYER ? t->layer : c->layer[t->layer];
    int slot = t->slot;
    bool bias = t->part == ESP_PART_BIAS;
    const esp_weight *w = esp_model_weight(c->model, from, slot);
    const esp_kept_groups *rows = kept_at(c, ESP_ROWS, from, slot);
    const esp_kept_groups *cols = bias ? &all : kept_at(c, ESP_COLS, from, slot);
    size_t size = esp_dtype_size(w->dtype), width = bias ? 1 : w->cols;
    const char *data = bias ? w->bias : w->data, *instead = replaced_by(c, t);
    char *at = out;

    if (instead) {
        memcpy(out, instead + first * esp_tensor_ref_row_bytes(t), n * esp_tensor_ref_row_bytes(t));
        return;
    }
    for (size_t i = first; i < first + n; i++) {
        size_t row = rows->total ? (size_t)rows->index[i] : i;

        at = copy_row(at, data + row * width * size, cols, width, size);
    }
    if (c->factor[slot] != 1) {
        scale(out, w->dtype, (size_t)(at - (char *)out) / size, c->factor[slot],
              bias ? 0 : esp_slot_weight_offset(c->model->arch, slot));
    }
}

/* All rows or columns are kept; of sides in no unit that is not even listed. */
static bool is_whole(const esp_kept_groups *side)
{
    return side->n == side->total;
}

const void *esp_remnant_in_place(const esp_remnant *c, const esp_tensor_ref *t)
{
    size_t from = t->layer == ESP_NO_LAYER ? t->layer : c->layer[t->layer];
    const esp_weight *w = esp_model_weight(c->model, from, t->slot);
    bool whole = is_whole(kept_at(c, ESP_ROWS, from, t->slot)) &&
                 is_whole(kept_at(c, ESP_COLS, from, t->slot)) && c->factor[t->slot] == 1;

    if (replaced_by(c, t) || !whole) {
        return replaced_by(c, t);
    }
    return t->part == ESP_PART_BIAS ? w->bias : w->data;
}

const esp_kept_groups *esp_remnant_source_rows(float *factor, const esp_remnant *c, size_t layer,
                                               int slot)
{
    *factor = c->factor[slot];
    return kept_at(c, ESP_ROWS, c->layer[layer], slot);
}

const esp_kept_groups *esp_remnant_source_cols(const esp_remnant *c, size_t layer, int slot)
{
    return kept_at(c, ESP_COLS, c->layer[layer], slot);
}

void esp_remnant_replace(esp_remnant *c, size_t layer, int slot, esp_replaced by)
{
    c->replaced[esp_slot_index(c->model->arch->n_slots, layer, slot)] = by;
}

static esp_status source(void *ctx, void *out, const esp_tensor_ref *t, size_t first, size_t n)
{
    esp_remnant_rows(out, ctx, t, first, n);
    return ESP_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------ */

/* Which rows and columns of each weight stay. */
static void find_kept(esp_remnant *c, const esp_groups *g, const esp_plan *p)
{
    const esp_model *m = c->model;
    size_t n = 0;

    for (size_t l = 0; l < p->n_layers; l++) {
        if (p->layers[l].kept) {
            c->layer[n++] = l;
        }
    }
    for (size_t i = 0; i < m->arch->n_slots; i++) {
        c->factor[i] = 1;
    }
    for (size_t u = 0; u < g->n_units; u++) {
        if (g->units[u].layer == ESP_NO_LAYER || p->layers[g->units[u].layer].kept) {
            cut_unit(c, &g->units[u], esp_plan_kept(p, &g->units[u]));
        }
    }
}

static void keep_heads(esp_model *to, const esp_remnant *c, const esp_plan *p)
{
    const int32_t **heads;

    ESP_NEW(heads, to->dims.n_layers);
    for (size_t l = 0; l < to->dims.n_layers; l++) {
        heads[l] = p->layers[c->layer[l]].query.index;
    }
    esp_model_keep_heads(to, c->model, c->layer, heads);
    free(heads);
}

/* Shapes of what the plan leaves; a layer takes its dtypes along to its new number. */
static void shape_of(esp_model *to, const esp_remnant *c, const esp_plan *p)
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

void esp_remnant_init(esp_remnant *c, const esp_model *m, const esp_groups *g, const esp_plan *p)
{
    make_cut(c, m, NULL);
    find_kept(c, g, p);
    shape_of(&c->left, c, p);
    keep_scales(c, &c->left);
}

void esp_remnant_recut(esp_remnant *c, const esp_groups *g, const esp_plan *p)
{
    const esp_model *m = c->model;
    esp_replaced *replaced = c->replaced;

    c->replaced = NULL;
    esp_remnant_free(c);
    esp_remnant_init(c, m, g, p);
    free(c->replaced);
    c->replaced = replaced;
}

esp_status esp_remnant_save(char digest[ESP_DIGEST_SIZE], esp_output to, esp_remnant *c,
                            MPI_Comm comm)
{
    return esp_model_save(digest, to, &c->left, source, c, c->model->dir, comm);
}

esp_status esp_surgery(char digest[ESP_DIGEST_SIZE], esp_output to, const esp_model *m,
                       const esp_groups *g, const esp_plan *p, MPI_Comm comm)
{
    esp_remnant c;
    esp_status st;

    esp_remnant_init(&c, m, g, p);
    st = esp_remnant_save(digest, to, &c, comm);
    esp_remnant_free(&c);
    return st;
}
