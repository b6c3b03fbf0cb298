/* gradient.c - the sink of the training, and sums over ranks that overlap the backward.
 *
 * Every rank starts the sums in the order of the pieces, so they match whatever each has computed.
 */
#include "gradient_impl.h"

#include <string.h>

#include "espalier/mem.h"

#define COLUMNS ((size_t)64) /* of a table that one thread adds up at a time */

static float *grad_of(const esp_gradient *g, size_t layer, int slot, esp_part part)
{
    const esp_entry *e = esp_params_find(g->params, layer, slot, part);

    return e ? g->params->grad + e->begin : NULL;
}

/* ---- sink ---- */

/* The slot that has the numbers of the head. */
static int head_slot(const esp_gradient *g)
{
    return g->model->tied ? ESP_SLOT_EMBED : ESP_SLOT_HEAD;
}

static void take_linear(void *ctx, size_t layer, int slot, int input, const float *dy,
                        const float *x, size_t n_tok)
{
    const esp_gradient *g = ctx;
    const esp_weight *w = esp_model_weight(g->model, layer, slot);

    if (g->last) {
        esp_exchange_progress(g->exchange);
    }
    (void)input;
    slot = slot == ESP_SLOT_HEAD ? head_slot(g) : slot;
    esp_linear_backward_weight(grad_of(g, layer, slot, ESP_PART_WEIGHT),
                               grad_of(g, layer, slot, ESP_PART_BIAS), dy, x, n_tok, w->cols,
                               w->rows);
}

/* All weights are trained, in f32. */
static void subtract_norm_head_grad(void *ctx, const float *norm_head_grad, size_t n_tok)
{
    const esp_gradient *g = ctx;
    const esp_weight *w = esp_model_weight(g->model, ESP_NO_LAYER, ESP_SLOT_HEAD);
    const float *head = w->data;
    float *grad = grad_of(g, ESP_NO_LAYER, head_slot(g), ESP_PART_WEIGHT);

#pragma omp parallel for schedule(static)
    for (size_t v = 0; v < w->rows; v++) {
        float sum = 0;

        for (size_t t = 0; t < n_tok; t++) {
            sum += norm_head_grad[t * w->rows + v];
        }
        for (size_t i = 0; i < w->cols; i++) {
            grad[v * w->cols + i] -= sum * head[v * w->cols + i];
        }
    }
}

static void take_norm(void *ctx, size_t layer, int slot, const float *dw, const float *db,
                      size_t n_samples)
{
    const esp_gradient *g = ctx;
    float *grad = grad_of(g, layer, slot, ESP_PART_WEIGHT);
    float *bias = grad_of(g, layer, slot, ESP_PART_BIAS);
    size_t n = esp_model_weight(g->model, layer, slot)->rows;

    for (size_t j = 0; j < n_samples; j++) {
        esp_accumulate(grad, dw + j * n, n);
        if (db) {
            esp_accumulate(bias, db + j * n, n);
        }
    }
}

/* Tokens in order for every column, so the sums do not depend on the threads. */
static void take_lookup(void *ctx, int slot, const int32_t *looked_up, const float *dx)
{
    const esp_gradient *g = ctx;
    float *grad = grad_of(g, ESP_NO_LAYER, slot, ESP_PART_WEIGHT);
    size_t D = g->model->dims.hidden;

#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < D; first += COLUMNS) {
        size_t end = esp_min(first + COLUMNS, D);

        for (size_t t = 0; t < g->batch->n_tok; t++) {
            float *row = grad + (size_t)looked_up[t] * D;

            for (size_t i = first; i < end; i++) {
                row[i] += dx[t * D + i];
            }
        }
    }
}

/* ---- sums over ranks ---- */

/* Of all pieces up to number `end` of the vectors. */
static void start_sums(esp_gradient *g, size_t end)
{
    while (g->started < g->params->n_pieces && g->params->piece[g->started + 1] <= end) {
        esp_exchange_sum(g->exchange, g->started++);
    }
}

static void stage_done(void *ctx, size_t layer)
{
    esp_gradient *g = ctx;
    size_t stage = layer == ESP_NO_LAYER ? 0 : g->model->dims.n_layers - layer;

    if (g->last) {
        start_sums(g, g->params->stage[stage + 1]);
        esp_exchange_progress(g->exchange);
    }
}

void esp_gradient_init(esp_gradient *g, esp_exchange *x, const esp_model *m, bool full)
{
    *g = (esp_gradient){ .params = x->params, .model = m, .exchange = x };
    g->sink = (esp_sink){ .ctx = g, .done = stage_done };
    if (full) {
        g->sink.linear = take_linear;
        g->sink.norm_head_grad = subtract_norm_head_grad;
        g->sink.norm = take_norm;
        g->sink.lookup = take_lookup;
    }
}

void esp_gradient_begin(esp_gradient *g)
{
    memset(g->params->grad, 0, g->params->n * sizeof *g->params->grad);
    g->started = 0;
    g->last = false;
}

void esp_gradient_take(esp_gradient *g, const esp_batch *batch, bool last)
{
    g->batch = batch;
    g->last = last;
}

void esp_gradient_finish(esp_gradient *g)
{
    start_sums(g, g->params->n);
    esp_exchange_finish(g->exchange);
}
