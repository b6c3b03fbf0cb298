/* grad_store.c - outputs' gradients and inputs of the weights of the layers under way. */
#include "grad_store_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

static size_t n_slots(const esp_grad_store *k)
{
    return k->model->arch->n_slots;
}

static esp_grad_buffer *keep_of(const esp_grad_store *k, size_t layer, int slot)
{
    return layer == ESP_NO_LAYER
               ? &k->head_and_norm[slot]
               : &k->layer[esp_slot_index(n_slots(k), (layer - k->stage.begin) % k->stage.at_once,
                                          slot)];
}

static void make_kept(esp_grad_store *k, size_t *bytes)
{
    ESP_MAKE(k->head_and_norm, n_slots(k), bytes);
    ESP_MAKE(k->layer, k->stage.at_once * n_slots(k), bytes);
}

void esp_grad_store_init(esp_grad_store *k, esp_weight_importance *panels, const esp_pass *pass,
                         const esp_batch *batch)
{
    *k = (esp_grad_store){ .model = pass->model,
                           .panels = panels,
                           .stage = pass->stage,
                           .scratch = pass->options.scratch,
                           .n_samples = batch->n_samples,
                           .start = batch->start };
    make_kept(k, NULL);
}

size_t esp_grad_store_bytes(const esp_model *m, const esp_pipeline_stage *stage)
{
    esp_grad_store k = { .model = m, .stage = *stage };
    size_t bytes = 0;

    make_kept(&k, &bytes);
    return bytes;
}

static void free_keeps(esp_grad_buffer *keep, size_t n)
{
    for (size_t i = 0; keep && i < n; i++) {
        esp_spill_buffer_free(&keep[i].dy);
        esp_spill_buffer_free(&keep[i].x);
    }
    free(keep);
}

void esp_grad_store_free(esp_grad_store *k)
{
    if (k->model) {
        free_keeps(k->head_and_norm, n_slots(k));
        free_keeps(k->layer, k->stage.at_once * n_slots(k));
    }
    *k = (esp_grad_store){ 0 };
}

static bool is_wanted(const esp_grad_store *k, size_t layer, int slot)
{
    const esp_saliency_sums *sums = k->panels->sums;

    return k->panels->tiles.gradient && (esp_saliency_sums_at(sums, layer, slot, ESP_ROWS) ||
                                         esp_saliency_sums_at(sums, layer, slot, ESP_COLS));
}

size_t esp_grad_store_numbers(esp_factor which, size_t n_rows, size_t width)
{
    return n_rows * esp_packed_width(which, width);
}

/* Packs rows of a chunk, `at` of those of all samples in the end. */
static void append(const esp_grad_store *k, esp_spill_buffer *to, esp_factor which, size_t at,
                   const float *rows, size_t n, size_t width, const size_t *start)
{
    const esp_spans samples = { k->n_samples, start, start + 1 };
    size_t needed = esp_grad_store_numbers(which, start[k->n_samples], width);

    if (to->n < needed) {
        esp_spill_buffer_free(to);
        esp_spill_buffer_init(to, needed, k->scratch);
    }
    esp_packed_fill(to->at, which, rows, width, at, n, &samples);
}

/* The slot of the layer that has taken its first chunk from the same input, -1: none. */
static int same_input(const esp_grad_store *k, size_t layer, const float *x)
{
    for (int slot = ESP_SLOT_BLOCK; layer != ESP_NO_LAYER && slot < (int)n_slots(k); slot++) {
        const esp_grad_buffer *other = keep_of(k, layer, slot);

        if (other->n > 0 && other->seen == x && other->same < 0) {
            return slot;
        }
    }
    return -1;
}

void esp_grad_store_linear(esp_grad_store *k, size_t layer, int slot, const float *dy,
                           const float *x, size_t n_tok)
{
    const esp_weight *w = esp_model_weight(k->model, layer, slot);
    esp_grad_buffer *keep = keep_of(k, layer, slot);

    if (!is_wanted(k, layer, slot)) {
        return;
    }
    if (keep->n == 0) {
        keep->same = same_input(k, layer, x);
        keep->seen = x;
    }
    append(k, &keep->dy, ESP_FACTOR_DY, keep->n, dy, n_tok, w->rows, k->start);
    if (keep->same < 0) {
        append(k, &keep->x, ESP_FACTOR_X, keep->n, x, n_tok, w->cols, k->start);
    }
    keep->n += n_tok;
}

void esp_grad_store_norm(esp_grad_store *k, size_t layer, int slot, const float *dw,
                         const float *db, size_t n_samples)
{
    esp_grad_buffer *keep = keep_of(k, layer, slot);
    size_t n = esp_model_weight(k->model, layer, slot)->rows;

    if (!is_wanted(k, layer, slot)) {
        return;
    }
    append(k, &keep->dy, ESP_FACTOR_DY, keep->n, dw, n_samples, n, k->panels->row);
    if (db) {
        append(k, &keep->x, ESP_FACTOR_DY, keep->n, db, n_samples, n, k->panels->row);
    }
    keep->n += n_samples;
}

esp_weight_gradient esp_grad_store_gradient(const esp_grad_store *k, size_t layer, int slot)
{
    const esp_grad_buffer *keep = keep_of(k, layer, slot);
    esp_weight_gradient gradient = { 0 };

    if (keep->n > 0) {
        gradient.dy = keep->dy.at;
        gradient.x = keep->same < 0 ? keep->x.at : keep_of(k, layer, keep->same)->x.at;
    }
    return gradient;
}

void esp_grad_store_forget(esp_grad_store *k, size_t layer, int slot)
{
    esp_grad_buffer *keep = keep_of(k, layer, slot);

    keep->n = 0;
    if (layer == ESP_NO_LAYER) {
        esp_spill_buffer_free(&keep->dy);
        esp_spill_buffer_free(&keep->x);
        *keep = (esp_grad_buffer){ 0 };
    }
}

void esp_grad_store_flush(esp_grad_store *k, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(k->model, layer, slot);
    const esp_grad_buffer *keep = keep_of(k, layer, slot);

    if (k->model->arch->slots[slot].cols != ESP_W_ONE) {
        esp_weight_gradient gradient = esp_grad_store_gradient(k, layer, slot);

        esp_weight_importance_add(k->panels, layer, slot, w, &gradient);
    } else if (w->rows > 0) {
        esp_weight_importance_add_norm(k->panels, layer, slot, w, keep->dy.at, keep->x.at);
    }
    esp_grad_store_forget(k, layer, slot);
}
