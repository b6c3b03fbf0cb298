/* loss.c - the head: logits, losses, and the way back to the final hidden states.
 *
 * Letters: D model width, V vocabulary, n_tok rows of the batch.
 */
#include <math.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/rng.h"
#include "head_impl.h"

#define LABELS UINT64_C(0x6c6162656c73) /* their random stream */

#define SHORTEST_ROW \
    1e-12 /* of a head: shorter ones are divided by this, as in torch's normalize */

/* ---- weights ---- */

/* n = w / |w|, row by row. */
static void load_normalised(esp_f32 *f, float *inverse, const esp_weight *w)
{
    esp_to_f32(f->buffer, w->data, w->dtype, w->rows * w->cols);
    f->matrix = esp_array_f32(f->buffer);
#pragma omp parallel for
    for (size_t v = 0; v < w->rows; v++) {
        float *row = f->buffer + v * w->cols;
        double sum = 0;

        for (size_t i = 0; i < w->cols; i++) {
            sum += (double)row[i] * (double)row[i];
        }
        inverse[v] = (float)(1 / fmax(sqrt(sum), SHORTEST_ROW));
        for (size_t i = 0; i < w->cols; i++) {
            row[i] *= inverse[v];
        }
    }
}

static const esp_weight *head_of(const esp_pass *p)
{
    return esp_model_weight(p->model, ESP_NO_LAYER, ESP_SLOT_HEAD);
}

/* The head, from its first use on. Training changes the weights under a pass with backward: a view
 * follows them, what is made of them is made again. */
static void load_head(esp_pass *p)
{
    esp_f32 *f = &p->head_and_norm->head;
    bool loaded = f->matrix.at, trained = f->rounded.at && head_of(p)->dtype == ESP_F32;

    if (loaded && !(p->options.backward && (p->model->normalized_head || trained))) {
        return;
    }
    if (!p->model->normalized_head) {
        esp_matrix_load(f, head_of(p), p);
        return;
    }
    load_normalised(f, p->head_and_norm->inverse, head_of(p));
    if (p->bf16) {
        f->matrix.at = esp_bf16_round(&f->rounded, f->buffer, head_of(p)->rows, head_of(p)->cols);
        f->matrix.type = ESP_BF16;
    }
}

void esp_pass_logits(float *logits, esp_pass *p, size_t first_row, size_t n_rows)
{
    const esp_batch rows = { .n_tok = n_rows, .n_samples = 1 };
    size_t D = p->model->dims.hidden, V = p->model->dims.vocab;

    load_head(p);
    esp_matrix_forward(logits, p->hidden.at + first_row * D, &p->head_and_norm->head, head_of(p), p,
                       &rows);
    if (p->model->logit_cap > 0) {
        esp_soft_cap(logits, p->model->logit_cap, n_rows * V);
    }
}

/* ---- loss ---- */

static void sum_losses(esp_loss *loss, const esp_head_and_norm *head_and_norm,
                       const esp_batch *batch)
{
    for (size_t j = 0; j < batch->n_samples; j++) {
        loss[j] = (esp_loss){ 0 };
        for (size_t t = batch->start[j]; t < batch->start[j + 1]; t++) {
            if (batch->targets[t] != ESP_NO_TARGET) {
                loss[j].sum += head_and_norm->losses[t];
                loss[j].count++;
                loss[j].hits += head_and_norm->hits[t];
            }
        }
    }
}

/* From the gradient dn = dy^T x of normalised rows n, whose logits are l = x n^T, to that of the rows w:
 *     dw = (dn - n (n . dn)) / |w| = (dy / |w|)^T x - w sum over t of dy l / |w|^2
 * Turns dy into the first factor and l, in norm_head_grad, into the terms of the sum. */
static void split_gradient(esp_head_and_norm *head_and_norm, size_t n_tok, size_t V)
{
#pragma omp parallel for
    for (size_t t = 0; t < n_tok; t++) {
        float *dy = head_and_norm->logits + t * V,
              *norm_head_grad = head_and_norm->norm_head_grad + t * V;

        for (size_t v = 0; v < V; v++) {
            dy[v] *= head_and_norm->inverse[v];
            norm_head_grad[v] *= dy[v] * head_and_norm->inverse[v];
        }
    }
}

/* Gradient of the run's logits back to the hidden states and, for the sink, to the head. */
static void head_backward(esp_pass *p, float *d_hidden, const esp_sink *sink, size_t begin,
                          const esp_batch *run)
{
    size_t D = p->model->dims.hidden, V = p->model->dims.vocab;
    double flops = 2.0 * (double)run->n_tok * (double)D * (double)V;

    esp_matrix_backward(d_hidden + begin * D, p->head_and_norm->logits, &p->head_and_norm->head,
                        head_of(p), p, run);
    if (!sink || !sink->linear) {
        return;
    }
    if (p->model->normalized_head) {
        split_gradient(p->head_and_norm, run->n_tok, V);
    }
    sink->linear(sink->ctx, ESP_NO_LAYER, ESP_SLOT_HEAD, -1, p->head_and_norm->logits,
                 p->hidden.at + begin * D, run->n_tok);
    p->flops += flops;
    if (p->model->normalized_head) {
        sink->norm_head_grad(sink->ctx, p->head_and_norm->norm_head_grad, run->n_tok);
    }
}

static void final_norm_backward(esp_pass *p, const float *d_normed, const esp_sink *sink,
                                const esp_batch *batch)
{
    size_t D = p->model->dims.hidden;
    float *buffer = sink && sink->norm ? p->block->norm_grad : NULL;

    memset(p->d_hidden.at, 0, batch->n_tok * D * sizeof(float));
    esp_norm_backward(p->d_hidden.at, buffer, d_normed, esp_pass_input(p, p->stage.end),
                      &p->head_and_norm->norm, p->model, D, batch);
    esp_norm_to_sink(sink, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM, buffer, &p->head_and_norm->norm, D,
                     batch);
    if (sink && sink->done) {
        sink->done(sink->ctx, ESP_NO_LAYER);
    }
}

/* Of rows `begin` and on, whose logits become gradients; the teacher's are made in its own scratch. */
static void distil_run(esp_pass *p, const float *scale, size_t begin, size_t n_tok,
                       const esp_batch *batch)
{
    const esp_teaching *t = p->teaching;
    const esp_distillation_rule rule = { .ratio = (float)t->ratio,
                                         .temperature = (float)t->temperature,
                                         .cap = p->model->logit_cap };
    esp_head_and_norm *h = p->head_and_norm;
    float *logits = t->head->head_and_norm->logits;
    size_t D = t->head->model->dims.hidden, V = p->model->dims.vocab;

    esp_to_f32(t->head->hidden.at, t->hidden + begin * D, ESP_BF16, n_tok * D);
    esp_pass_logits(logits, t->head, 0, n_tok);
    p->flops += t->head->flops;
    t->head->flops = 0;
    esp_distillation(h->losses + begin, h->hits + begin, h->logits, logits, batch->targets + begin,
                     scale + begin, &rule, n_tok, V);
}

static void losses_of_run(esp_pass *p, const float *scale, const esp_sink *sink, size_t begin,
                          const esp_batch *run, const esp_batch *batch)
{
    esp_head_and_norm *head_and_norm = p->head_and_norm;
    size_t D = p->model->dims.hidden, V = p->model->dims.vocab;

    esp_matrix_forward(head_and_norm->logits, p->hidden.at + begin * D, &head_and_norm->head,
                       head_of(p), p, run);
    if (scale && p->model->normalized_head) {
        memcpy(head_and_norm->norm_head_grad, head_and_norm->logits,
               run->n_tok * V * sizeof(float));
    }
    if (scale && p->teaching) {
        distil_run(p, scale, begin, run->n_tok, batch);
    } else {
        esp_cross_entropy(head_and_norm->losses + begin, head_and_norm->hits + begin,
                          head_and_norm->logits, batch->targets + begin,
                          head_and_norm->uniform ? head_and_norm->uniform + begin : NULL,
                          scale ? scale + begin : NULL, p->model->logit_cap, run->n_tok, V);
    }
    if (scale) {
        head_backward(p, p->d_spare.at, sink, begin, run);
    }
}

/* Position t of a sample has number t of the sample's stream, whatever batch or rank it is in. */
static void draw_uniforms(double *uniform, uint64_t seed, const esp_batch *batch)
{
    for (size_t j = 0; j < batch->n_samples; j++) {
        esp_rng r = { .key = esp_rng_key(seed, LABELS, batch->key[j]) };

        for (size_t t = batch->start[j]; t < batch->start[j + 1]; t++) {
            uniform[t] = esp_rng_uniform(&r);
        }
    }
}

/* Whether rows without a target are left out: nobody wants the gradient of the head, nor follows a teacher
 * there. */
static bool picks_rows(const esp_pass *p, const float *scale, const esp_sink *sink,
                       const esp_batch *batch)
{
    bool all = scale && (p->teaching || (sink && sink->linear));

    return !all && !p->head_and_norm->uniform && esp_is_sparse(batch);
}

static void losses_in_runs(esp_pass *p, const float *scale, const esp_sink *sink,
                           const esp_batch *batch)
{
    size_t most = p->head_and_norm->run;

    for (size_t begin = 0; begin < batch->n_tok; begin += most) {
        esp_batch run = { .n_tok = esp_min(batch->n_tok - begin, most) };

        losses_of_run(p, scale, sink, begin, &run, batch);
    }
}

void esp_pass_loss(esp_pass *p, esp_loss *loss, const float *scale, const esp_sink *sink,
                   const esp_batch *batch)
{
    esp_head_and_norm *head_and_norm = p->head_and_norm;

    ESP_REQUIRE(!scale || p->options.backward);
    if (!p->stage.last) {
        memset(loss, 0, batch->n_samples * sizeof *loss);
        return;
    }
    for (size_t j = 0; scale && j < batch->n_samples; j++) {
        for (size_t t = batch->start[j]; t < batch->start[j + 1]; t++) {
            head_and_norm->scale[t] = scale[j];
        }
    }
    if (scale) {
        memset(p->d_spare.at, 0, batch->n_tok * p->model->dims.hidden * sizeof(float));
    }
    if (head_and_norm->uniform) {
        draw_uniforms(head_and_norm->uniform, p->options.label_seed, batch);
    }
    load_head(p);
    if (picks_rows(p, scale, sink, batch)) {
        esp_sparse_losses(scale ? p->d_spare.at : NULL, p, head_of(p), batch);
    } else {
        losses_in_runs(p, scale ? head_and_norm->scale : NULL, sink, batch);
    }
    sum_losses(loss, head_and_norm, batch);
    if (scale) {
        final_norm_backward(p, p->d_spare.at, sink, batch);
    }
}
