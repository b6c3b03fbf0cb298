/* pass.c - forward, loss and backward of a batch through the layers of this rank.
 *
 * Letters: D model width, V vocabulary, n_tok rows of the batch.
 */
#include "espalier/pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/rng.h"
#include "pipeline_impl.h"
#include "embedding_impl.h"
#include "head_impl.h"

#define LOGITS_BYTES \
    ((size_t)64 << 20) /* of a run of logits, unless that is less than LEAST_RUN rows */
#define LEAST_RUN ((size_t)128)

#define LABELS UINT64_C(0x6c6162656c73) /* their random stream */

#define SHORTEST_ROW \
    1e-12 /* of a head: shorter ones are divided by this, as in torch's normalize */

size_t esp_pass_run(const esp_model *m, size_t max_tok)
{
    return esp_min(esp_max(LOGITS_BYTES / (m->dims.vocab * sizeof(float)), LEAST_RUN), max_tok);
}

/* ---- memory -- */

static void make_head_and_norm(esp_head_and_norm *head_and_norm, const esp_model *m,
                               esp_pass_options o, size_t *bytes)
{
    const esp_weight *head = esp_model_weight(m, ESP_NO_LAYER, ESP_SLOT_HEAD);
    size_t V = m->dims.vocab;

    *head_and_norm = (esp_head_and_norm){ .run = esp_pass_run(m, o.max_tok) };
    ESP_MAKE(head_and_norm->logits, head_and_norm->run * V, bytes);
    if (m->normalized_head) {
        bool rounded = m->precision == ESP_PRECISION_BF16;

        ESP_MAKE(head_and_norm->inverse, V, bytes);
        ESP_MAKE(head_and_norm->norm_head_grad, o.backward ? head_and_norm->run * V : 0, bytes);
        head_and_norm->head.capacity = V * m->dims.hidden;
        head_and_norm->head.rounded.n = rounded ? esp_bf16_rounded(V, m->dims.hidden) : 0;
    } else {
        esp_f32_fit_matrix(&head_and_norm->head, head, m->precision);
    }
    esp_f32_make(&head_and_norm->head, bytes);
    esp_f32_fit_vector(&head_and_norm->norm,
                       esp_model_weight(m, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM));
    esp_f32_make(&head_and_norm->norm, bytes);
    ESP_MAKE(head_and_norm->losses, o.max_tok, bytes);
    ESP_MAKE(head_and_norm->hits, o.max_tok, bytes);
    ESP_MAKE(head_and_norm->scale, o.max_tok, bytes);
    ESP_MAKE(head_and_norm->picked, head_and_norm->run * m->dims.hidden, bytes);
    ESP_MAKE(head_and_norm->row, head_and_norm->run, bytes);
    ESP_MAKE(head_and_norm->targets, head_and_norm->run, bytes);
    ESP_MAKE(head_and_norm->picked_losses, head_and_norm->run, bytes);
    ESP_MAKE(head_and_norm->picked_hits, head_and_norm->run, bytes);
    if (o.draws_labels) {
        ESP_MAKE(head_and_norm->uniform, o.max_tok, bytes);
    }
}

static size_t head_and_norm_bytes(const esp_model *m, esp_pass_options o)
{
    esp_head_and_norm head_and_norm;
    size_t bytes = 0;

    make_head_and_norm(&head_and_norm, m, o, &bytes);
    return bytes;
}

static void head_and_norm_free(esp_head_and_norm *head_and_norm)
{
    esp_f32_free(&head_and_norm->norm);
    esp_f32_free(&head_and_norm->head);
    free(head_and_norm->inverse);
    free(head_and_norm->logits);
    free(head_and_norm->norm_head_grad);
    free(head_and_norm->losses);
    free(head_and_norm->hits);
    free(head_and_norm->scale);
    free(head_and_norm->picked);
    free(head_and_norm->row);
    free(head_and_norm->targets);
    free(head_and_norm->picked_losses);
    free(head_and_norm->picked_hits);
    free(head_and_norm->uniform);
}

/* Final norm and head are on this rank, and wanted. */
static bool has_head(const esp_pass *p)
{
    return p->stage.last && !p->options.layers_only;
}

/* Numbers of the widest operand of a product that is rounded: x, and on the way back dy. */
static size_t widest_rounded(const esp_pass *p)
{
    const esp_model *m = p->model;
    size_t n = 0, C = p->options.chunk_tok, run = esp_pass_run(m, p->options.max_tok);
    bool backward = p->options.backward;

    if (m->precision != ESP_PRECISION_BF16) {
        return 0;
    }
    for (size_t l = p->stage.begin; l < p->stage.end; l++) {
        for (size_t i = 0; i < m->arch->n_ops; i++) {
            const esp_op *op = &m->arch->ops[i];

            if (op->kind == ESP_OP_LINEAR) {
                const esp_weight *w = esp_model_weight(m, l, op->slot);

                n = esp_max(n, esp_bf16_rounded(C, backward ? esp_max(w->rows, w->cols) : w->cols));
            }
        }
    }
    if (has_head(p)) {
        size_t V = backward ? m->dims.vocab : 0;

        n = esp_max(n, esp_bf16_rounded(run, esp_max(m->dims.hidden, V)));
    }
    return n;
}

/* All that is no part with a constructor of its own. */
static void make_pass(esp_pass *p, const esp_model *m, esp_pass_options o, size_t *bytes)
{
    size_t n, n_inputs;

    *p = (esp_pass){ .model = m, .options = o, .stage = esp_pipeline_stage_of(m, o.grid) };
    n = o.max_tok * m->dims.hidden;
    n_inputs = o.backward ? p->stage.end - p->stage.begin + 1 : 1;
    esp_spill_buffer_fit(&p->inputs, n_inputs * n, o.scratch, bytes);
    if (o.backward) {
        esp_spill_buffer_fit(&p->d_hidden, n, o.scratch, bytes);
        esp_spill_buffer_fit(&p->d_spare, n, o.scratch, bytes);
    }
    if (has_head(p)) {
        esp_spill_buffer_fit(&p->hidden, n, o.scratch, bytes);
    }
    if (p->stage.first) {
        ESP_MAKE(p->embedding, 1, bytes);
    }
    ESP_MAKE(p->pipeline, 1, bytes);
    ESP_MAKE(p->block, 1, bytes);
    ESP_MAKE(p->head_and_norm, 1, bytes);
    esp_bf16_buffer_make(&p->rounded, widest_rounded(p), bytes);
}

static esp_pass_options complete(esp_pass_options o)
{
    o.chunk_tok = o.chunk_tok ? o.chunk_tok : o.max_tok;
    return o;
}

void esp_pass_init(esp_pass *p, const esp_model *m, esp_pass_options options)
{
    esp_pass_options o = complete(options);

    make_pass(p, m, o, NULL);
    p->bf16 = esp_bf16_open(m->precision);
    esp_batch_init_chunk(&p->chunk, o.max_samples, o.chunk_tok);
    esp_pipeline_init(p->pipeline, o.grid, o.max_samples);
    esp_block_init(p->block, m, o);
    if (p->stage.first) {
        esp_embedding_init(p->embedding, m, o);
    }
    if (has_head(p)) {
        make_head_and_norm(p->head_and_norm, m, o, NULL);
    }
}

size_t esp_pass_bytes(const esp_model *m, esp_pass_options options)
{
    esp_pass_options o = complete(options);
    size_t bytes = 0;
    esp_pass p;

    make_pass(&p, m, o, &bytes);
    bytes += esp_bf16_bytes(m->precision) + esp_batch_chunk_bytes(o.max_samples) +
             esp_pipeline_bytes(o.grid, o.max_samples) + esp_block_bytes(m, o);
    bytes += p.stage.first ? esp_embedding_bytes(m, o) : 0;
    return bytes + (has_head(&p) ? head_and_norm_bytes(m, o) : 0);
}

esp_work esp_pass_work(const esp_model *m, const esp_grid *grid, esp_text_size t, double reads,
                       esp_pass_way way)
{
    esp_pipeline_stage s = esp_pipeline_stage_of(m, grid);
    double head = (double)m->dims.hidden * (double)m->dims.vocab;
    esp_work w = { .chunks = reads };

    for (size_t l = s.begin; l < s.end; l++) {
        esp_work block = esp_block_work(m, l, t, reads, way);

        w.products += block.products;
        w.attention += block.attention;
        w.moved += block.moved;
    }
    w.products += s.last ? (1 + way) * 2 * (double)t.tokens * head : 0; /* logits, dx, dW */
    return w;
}

/* The norms outside of blocks go over all of a batch at once. */
esp_pass_scratch esp_pass_scratch_bytes(const esp_model *m, esp_pass_options options)
{
    esp_pass_options o = complete(options);
    esp_pipeline_stage s = esp_pipeline_stage_of(m, o.grid);
    size_t norm = o.backward ? esp_norm_bytes(o.max_tok) : 0;
    bool embed_norm = s.first && esp_model_weight(m, ESP_NO_LAYER, ESP_SLOT_EMBED_NORM)->rows > 0;

    return (esp_pass_scratch){ .loss = s.last ? norm : 0,
                               .blocks = esp_block_scratch(m, o),
                               .embedding = embed_norm ? norm : 0 };
}

void esp_pass_free(esp_pass *p)
{
    if (p->pipeline) {
        esp_pipeline_free(p->pipeline);
    }
    if (p->block) {
        esp_block_free(p->block, p->model);
    }
    if (p->embedding) {
        esp_embedding_free(p->embedding);
    }
    if (p->head_and_norm) {
        head_and_norm_free(p->head_and_norm);
    }
    esp_batch_free_chunk(&p->chunk);
    esp_bf16_close(p->bf16);
    esp_bf16_buffer_free(&p->rounded);
    free(p->pipeline);
    free(p->block);
    free(p->embedding);
    free(p->head_and_norm);
    esp_spill_buffer_free(&p->inputs);
    esp_spill_buffer_free(&p->hidden);
    esp_spill_buffer_free(&p->d_hidden);
    esp_spill_buffer_free(&p->d_spare);
    *p = (esp_pass){ 0 };
}

/* ---- weights outside the blocks ---- */

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

/* Training changes the weights between batches: what is not a view of them is made again. */
static void refresh_weights(esp_pass *p)
{
    const esp_model *m = p->model;

    if (p->options.backward) {
        p->block->loaded = ESP_NO_LAYER;
    }
    if (p->stage.last) {
        esp_f32_load(&p->head_and_norm->norm,
                     esp_model_weight(m, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM),
                     esp_slot_weight_offset(m->arch, ESP_SLOT_FINAL_NORM));
    }
}

/* ---- forward ---- */

/* Without backward there is one buffer. */
float *esp_pass_input(const esp_pass *p, size_t l)
{
    size_t i = p->options.backward ? l - p->stage.begin : 0;

    return p->inputs.at + i * p->options.max_tok * p->model->dims.hidden;
}

static void forward_layer(esp_pass *p, size_t layer, size_t row, esp_cache *cache,
                          const esp_tap *tap)
{
    size_t at = row * p->model->dims.hidden, n = p->chunk.n_tok * p->model->dims.hidden;

    p->block->value[0] = esp_pass_input(p, layer) + at;
    esp_block_forward(p, layer, false, cache, tap, &p->chunk);
    if (tap && tap->last >= 0) {
        return;
    }
    memcpy(esp_pass_input(p, layer + 1) + at, p->block->value[esp_block_output(p->model->arch)],
           n * sizeof(float));
    esp_pipeline_progress(p->pipeline);
}

/* All chunks through the layers of the stage. */
static void forward_blocks(esp_pass *p, esp_cache *cache, const esp_batch *batch)
{
    size_t first = p->stage.begin;

    do {
        size_t end = first + p->stage.at_once;

        for (size_t c = 0; c < batch->n_chunks; c++) {
            size_t row = esp_batch_chunk(&p->chunk, batch, c);

            if (first == p->stage.begin) {
                esp_pipeline_wait_recv(p->pipeline, c);
            }
            for (size_t l = first; l < end; l++) {
                forward_layer(p, l, row, cache, NULL);
            }
            if (end == p->stage.end) {
                esp_pipeline_send(p->pipeline, ESP_PIPELINE_FORWARD, esp_pass_input(p, end),
                                  p->model->dims.hidden, c, batch);
            }
        }
        first = end;
    } while (first < p->stage.end);
}

/* The embedding, or the receives of what the stage before sends. */
static void begin_forward(esp_pass *p, const esp_batch *batch)
{
    ESP_REQUIRE(batch->n_tok <= p->options.max_tok && batch->n_samples <= p->options.max_samples);
    esp_pipeline_wait_sends(p->pipeline);
    esp_pipeline_post_recvs(p->pipeline, ESP_PIPELINE_FORWARD, esp_pass_input(p, p->stage.begin),
                            p->model->dims.hidden, batch);
    if (p->stage.first) {
        esp_embedding_forward(esp_pass_input(p, 0), p, batch);
    }
}

void esp_pass_forward(esp_pass *p, esp_cache *cache, const esp_batch *batch)
{
    const esp_model *m = p->model;

    ESP_REQUIRE(!p->options.layers_only);
    begin_forward(p, batch);
    refresh_weights(p);
    forward_blocks(p, cache, batch);
    if (p->stage.last) {
        esp_norm_forward(p->hidden.at, esp_pass_input(p, p->stage.end), &p->head_and_norm->norm, m,
                         batch->n_tok, m->dims.hidden);
    }
    if (cache) {
        cache->n += batch->n_tok;
    }
}

void esp_pass_begin(esp_pass *p, const esp_batch *batch)
{
    ESP_REQUIRE(!p->options.backward);
    begin_forward(p, batch);
    for (size_t c = 0; c < batch->n_chunks; c++) {
        esp_pipeline_wait_recv(p->pipeline, c);
    }
}

void esp_pass_layer(esp_pass *p, size_t layer, size_t chunk, const esp_tap *tap,
                    const esp_batch *batch)
{
    if (chunk == 0) {
        p->block->loaded = ESP_NO_LAYER;
    }
    forward_layer(p, layer, esp_batch_chunk(&p->chunk, batch, chunk), NULL, tap);
}

void esp_pass_end(esp_pass *p, const esp_batch *batch)
{
    for (size_t c = 0; c < batch->n_chunks; c++) {
        esp_pipeline_send(p->pipeline, ESP_PIPELINE_FORWARD, esp_pass_input(p, p->stage.end),
                          p->model->dims.hidden, c, batch);
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
    esp_cross_entropy(head_and_norm->losses + begin, head_and_norm->hits + begin,
                      head_and_norm->logits, batch->targets + begin,
                      head_and_norm->uniform ? head_and_norm->uniform + begin : NULL,
                      scale ? scale + begin : NULL, p->model->logit_cap, run->n_tok, V);
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
    if (!scale && !head_and_norm->uniform && esp_is_sparse(batch)) {
        esp_sparse_losses(p, head_of(p), batch);
        sum_losses(loss, head_and_norm, batch);
        return;
    }
    for (size_t begin = 0; begin < batch->n_tok; begin += head_and_norm->run) {
        size_t left = batch->n_tok - begin;
        esp_batch run = { .n_tok = left < head_and_norm->run ? left : head_and_norm->run };

        losses_of_run(p, scale ? head_and_norm->scale : NULL, sink, begin, &run, batch);
    }
    sum_losses(loss, head_and_norm, batch);
    if (scale) {
        final_norm_backward(p, p->d_spare.at, sink, batch);
    }
}

/* ---- backward ---- */

/* From d to what lies below, both rows of the chunk. */
static void backward_layer(esp_pass *p, size_t layer, float *below, float *d, size_t row,
                           const esp_sink *sink)
{
    esp_block *b = p->block;

    b->value[0] = esp_pass_input(p, layer) + row * p->model->dims.hidden;
    b->grad[esp_block_output(p->model->arch)] = d;
    b->grad[0] = below;
    esp_block_forward(p, layer, true, NULL, NULL, &p->chunk);
    esp_block_backward(p, layer, sink, &p->chunk);
    esp_pipeline_progress(p->pipeline);
}

/* One chunk down through layers first .. end - 1. Each layer's gradient takes the place of the last but
 * one; d[0] is where it ends up. */
static void backward_chunk(esp_pass *p, float *d[2], size_t first, size_t end, size_t row,
                           const esp_sink *sink)
{
    size_t at = row * p->model->dims.hidden;

    d[0] = p->d_hidden.at;
    d[1] = p->d_spare.at;
    for (size_t l = end; l-- > first;) {
        float *above = d[0];

        backward_layer(p, l, d[1] + at, above + at, row, sink);
        d[0] = d[1];
        d[1] = above;
    }
}

static void backward_blocks(esp_pass *p, const esp_sink *sink, const esp_batch *batch)
{
    size_t end = p->stage.end, first;

    do {
        float *d[2] = { p->d_hidden.at, p->d_spare.at };

        first = end - p->stage.at_once;
        for (size_t c = 0; c < batch->n_chunks; c++) {
            size_t row = esp_batch_chunk(&p->chunk, batch, c);

            if (end == p->stage.end) {
                esp_pipeline_wait_recv(p->pipeline, c);
            }
            backward_chunk(p, d, first, end, row, sink);
            if (first == p->stage.begin) {
                esp_pipeline_send(p->pipeline, ESP_PIPELINE_BACKWARD, d[0], p->model->dims.hidden,
                                  c, batch);
            }
        }
        p->d_hidden.at = d[0];
        p->d_spare.at = d[1];
        for (size_t l = end; sink && sink->done && l-- > first;) {
            sink->done(sink->ctx, l);
        }
        end = first;
    } while (end > p->stage.begin);
}

void esp_pass_backward(esp_pass *p, const esp_sink *sink, const esp_batch *batch)
{
    esp_pipeline_wait_sends(p->pipeline);
    esp_pipeline_post_recvs(p->pipeline, ESP_PIPELINE_BACKWARD, p->d_hidden.at,
                            p->model->dims.hidden, batch);
    backward_blocks(p, sink, batch);
    if (p->stage.first) {
        esp_embedding_backward(p->d_hidden.at, p->d_spare.at, p, sink, batch);
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

void esp_cache_init(esp_cache *c, const esp_model *m, size_t capacity)
{
    *c = (esp_cache){ .capacity = capacity, .n_layers = m->dims.n_layers };
    ESP_NEW(c->k, c->n_layers);
    ESP_NEW(c->v, c->n_layers);
    for (size_t l = 0; l < c->n_layers; l++) {
        ESP_NEW(c->k[l], capacity * esp_model_width(m, l, ESP_W_KV));
        ESP_NEW(c->v[l], capacity * esp_model_width(m, l, ESP_W_KV));
    }
}

void esp_cache_free(esp_cache *c)
{
    for (size_t l = 0; l < c->n_layers; l++) {
        free(c->k[l]);
        free(c->v[l]);
    }
    free(c->k);
    free(c->v);
    *c = (esp_cache){ 0 };
}
