/* grad_store.c - output gradients and inputs of the weights of the layers under way. */
#include "grad_store_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

static size_t n_slots(const esp_grad_store *s)
{
    return s->model->arch->n_slots;
}

static size_t n_values(const esp_grad_store *s)
{
    return s->model->arch->n_values;
}

/* Place of a layer of a pipeline stage among those under way. */
static size_t place_of(const esp_grad_store *s, size_t layer)
{
    return (layer - s->stage.begin) % s->stage.at_once;
}

static esp_grad_factors *factors_of(const esp_grad_store *s, size_t layer, int slot)
{
    return layer == ESP_NO_LAYER ? &s->outside[slot]
                                 : &s->block[esp_slot_index(n_slots(s), place_of(s, layer), slot)];
}

/* The rows that a weight multiplies. */
static esp_grad_rows *input_of(const esp_grad_store *s, size_t layer, esp_grad_factors *f)
{
    return f->input < 0 ? &f->x : &s->value[place_of(s, layer) * n_values(s) + (size_t)f->input];
}

static void make_store(esp_grad_store *s, size_t *bytes)
{
    ESP_MAKE(s->outside, n_slots(s), bytes);
    ESP_MAKE(s->block, s->stage.at_once * n_slots(s), bytes);
    ESP_MAKE(s->value, s->stage.at_once * n_values(s), bytes);
}

void esp_grad_store_init(esp_grad_store *s, esp_weight_importance *importance, const esp_pass *pass,
                         const esp_batch *batch)
{
    *s = (esp_grad_store){ .model = pass->model,
                           .importance = importance,
                           .stage = pass->stage,
                           .scratch = pass->options.scratch,
                           .n_samples = batch->n_samples,
                           .tokens = { batch->n_tok, batch->start },
                           .samples = { batch->n_samples, importance->row } };
    make_store(s, NULL);
}

size_t esp_grad_store_bytes(const esp_model *m, const esp_pipeline_stage *stage)
{
    esp_grad_store s = { .model = m, .stage = *stage };
    size_t bytes = 0;

    make_store(&s, &bytes);
    return bytes;
}

static void free_factors(esp_grad_factors *f, size_t n)
{
    for (size_t i = 0; f && i < n; i++) {
        esp_spill_buffer_free(&f[i].dy.rows);
        esp_spill_buffer_free(&f[i].x.rows);
    }
    free(f);
}

void esp_grad_store_free(esp_grad_store *s)
{
    if (s->model) {
        free_factors(s->outside, n_slots(s));
        free_factors(s->block, s->stage.at_once * n_slots(s));
        for (size_t i = 0; i < s->stage.at_once * n_values(s); i++) {
            esp_spill_buffer_free(&s->value[i].rows);
        }
        free(s->value);
    }
    *s = (esp_grad_store){ 0 };
}

static bool is_wanted(const esp_grad_store *s, size_t layer, int slot)
{
    return s->importance->tiles.gradient &&
           esp_saliency_sums_sides(s->importance->sums, layer, slot);
}

/* Packs n rows of a chunk behind those stored, in a buffer for all rows of the batch; of sizes alone only
 * counts that. */
static void append(const esp_grad_store *s, esp_grad_rows *to, esp_factor which, const float *rows,
                   size_t n, size_t width, const esp_grad_batch *batch)
{
    esp_importance_work *sizes = s->importance->work;

    esp_spill_buffer_fit(&to->rows, batch->n * esp_packed_width(which, width), s->scratch,
                         sizes ? &sizes->held : NULL);
    if (!sizes) {
        const esp_spans samples = { s->n_samples, batch->start, batch->start + 1 };

        esp_packed_fill(to->rows.at, which, rows, width, to->n, n, &samples);
    }
    to->n += n;
}

void esp_grad_store_linear(esp_grad_store *s, size_t layer, int slot, int input, const float *dy,
                           const float *x, size_t n_tok)
{
    const esp_weight *w = esp_model_weight(s->model, layer, slot);
    esp_grad_factors *f = factors_of(s, layer, slot);
    esp_grad_rows *in;

    if (!is_wanted(s, layer, slot)) {
        return;
    }
    f->input = input;
    in = input_of(s, layer, f);
    if (in->n == f->dy.n) { /* no other weight has stored this chunk's rows of the value */
        append(s, in, ESP_FACTOR_X, x, n_tok, w->cols, &s->tokens);
    }
    append(s, &f->dy, ESP_FACTOR_DY, dy, n_tok, w->rows, &s->tokens);
}

void esp_grad_store_norm(esp_grad_store *s, size_t layer, int slot, const float *dw,
                         const float *db, size_t n_samples)
{
    esp_grad_factors *f = factors_of(s, layer, slot);
    const esp_weight *w = esp_model_weight(s->model, layer, slot);

    if (!is_wanted(s, layer, slot)) {
        return;
    }
    append(s, &f->dy, ESP_FACTOR_DY, dw, n_samples, w->rows, &s->samples);
    if (w->has_bias) {
        append(s, &f->x, ESP_FACTOR_DY, db, n_samples, w->rows, &s->samples);
    }
}

esp_weight_gradient esp_grad_store_gradient(const esp_grad_store *s, size_t layer, int slot)
{
    esp_grad_factors *f = factors_of(s, layer, slot);
    esp_weight_gradient gradient = { .from = { .layer = layer, .input = -1 } };

    if (f->dy.n > 0) {
        const esp_grad_rows *in = input_of(s, layer, f);

        ESP_REQUIRE(in->n == f->dy.n);
        gradient.from.product = true;
        gradient.from.input = f->input;
        gradient.dy = f->dy.rows.at;
        gradient.x = in->rows.at;
    }
    return gradient;
}

static void add(esp_grad_store *s, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(s->model, layer, slot);
    esp_grad_factors *f = factors_of(s, layer, slot);

    if (s->model->arch->slots[slot].cols != ESP_W_ONE) {
        esp_weight_gradient gradient = esp_grad_store_gradient(s, layer, slot);

        esp_weight_importance_add(s->importance, layer, slot, w, &gradient);
    } else if (w->rows > 0) {
        esp_weight_importance_add_norm(s->importance, layer, slot, w, f->dy.rows.at, f->x.rows.at);
    }
    f->dy.n = f->x.n = 0;
}

void esp_grad_store_flush(esp_grad_store *s, int slot)
{
    add(s, ESP_NO_LAYER, slot);
    esp_grad_store_discard(s, slot);
}

void esp_grad_store_flush_layer(esp_grad_store *s, size_t layer)
{
    for (int slot = ESP_SLOT_BLOCK; slot < (int)n_slots(s); slot++) {
        add(s, layer, slot);
    }
    for (size_t v = 0; v < n_values(s); v++) {
        s->value[place_of(s, layer) * n_values(s) + v].n = 0;
    }
}

static void discard(const esp_grad_store *s, esp_grad_rows *rows)
{
    if (s->importance->work) {
        esp_importance_release(s->importance->work,
                               esp_spill_buffer_bytes(rows->rows.n, s->scratch));
    }
    esp_spill_buffer_free(&rows->rows);
}

void esp_grad_store_discard(esp_grad_store *s, int slot)
{
    esp_grad_factors *f = &s->outside[slot];

    discard(s, &f->dy);
    discard(s, &f->x);
    *f = (esp_grad_factors){ 0 };
}
