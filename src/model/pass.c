/* pass.c - forward and backward of a batch through the layers of this rank.
 *
 * Letters: D model width, V vocabulary, n_tok rows of the batch.
 */
#include "espalier/pass.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "pipeline_impl.h"
#include "embedding_impl.h"
#include "head_impl.h"
#include "kept_impl.h"

#define LOGITS_BYTES \
    ((size_t)64 << 20) /* of a run of logits, unless that is less than LEAST_RUN rows */
#define LEAST_RUN ((size_t)128)

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
    ESP_MAKE(head_and_norm->picked_scale, head_and_norm->run, bytes);
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
    free(head_and_norm->picked_scale);
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
    size_t end = p->options.head_only ? p->stage.begin : p->stage.end;
    bool backward = p->options.backward;

    if (m->precision != ESP_PRECISION_BF16) {
        return 0;
    }
    for (size_t l = p->stage.begin; l < end; l++) {
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

/* What goes through the layers, and the parts that take it there. */
static void make_layers(esp_pass *p, size_t *bytes)
{
    const esp_pass_options *o = &p->options;
    size_t n = o->max_tok * p->model->dims.hidden;
    size_t n_inputs = o->backward ? p->stage.end - p->stage.begin + 1 : 1;

    if (o->head_only) {
        return;
    }
    esp_spill_buffer_fit(&p->inputs, n_inputs * n, o->scratch, bytes);
    if (o->backward) {
        esp_spill_buffer_fit(&p->d_hidden, n, o->scratch, bytes);
        esp_spill_buffer_fit(&p->d_spare, n, o->scratch, bytes);
    }
    if (p->stage.first) {
        ESP_MAKE(p->embedding, 1, bytes);
    }
    ESP_MAKE(p->pipeline, 1, bytes);
    ESP_MAKE(p->block, 1, bytes);
}

/* All that is no part with a constructor of its own. */
static void make_pass(esp_pass *p, const esp_model *m, esp_pass_options o, size_t *bytes)
{
    size_t n = o.max_tok * m->dims.hidden;

    *p = (esp_pass){ .model = m, .options = o, .stage = esp_pipeline_stage_of(m, o.grid) };
    if (has_head(p)) {
        esp_spill_buffer_fit(&p->hidden, n, o.scratch, bytes);
    }
    make_layers(p, bytes);
    ESP_MAKE(p->head_and_norm, 1, bytes);
    esp_kept_make(p, bytes);
    esp_bf16_buffer_make(&p->rounded, widest_rounded(p), bytes);
}

static esp_pass_options complete(esp_pass_options o, const esp_model *m)
{
    esp_pipeline_stage s = esp_pipeline_stage_of(m, o.grid);

    o.chunk_tok = o.chunk_tok ? o.chunk_tok : o.max_tok;
    o.kept_layers = o.backward ? esp_min(o.kept_layers, s.end - s.begin) : 0;
    return o;
}

static void init_layers(esp_pass *p)
{
    const esp_pass_options *o = &p->options;

    esp_batch_init_chunk(&p->chunk, o->max_samples, o->chunk_tok);
    esp_pipeline_init(p->pipeline, o->grid, o->max_samples);
    esp_block_init(p->block, p->model, *o);
    if (p->stage.first) {
        esp_embedding_init(p->embedding, p->model, *o);
    }
}

static size_t layers_bytes(const esp_pass *p)
{
    const esp_pass_options *o = &p->options;
    size_t embedding = p->stage.first ? esp_embedding_bytes(p->model, *o) : 0;

    return esp_batch_chunk_bytes(o->max_samples) + esp_pipeline_bytes(o->grid, o->max_samples) +
           esp_block_bytes(p->model, *o) + embedding;
}

void esp_pass_init(esp_pass *p, const esp_model *m, esp_pass_options options)
{
    esp_pass_options o = complete(options, m);

    make_pass(p, m, o, NULL);
    p->bf16 = esp_bf16_open(m->precision);
    if (has_head(p)) {
        make_head_and_norm(p->head_and_norm, m, o, NULL);
    }
    if (!o.head_only) {
        init_layers(p);
    }
}

size_t esp_pass_bytes(const esp_model *m, esp_pass_options options)
{
    esp_pass_options o = complete(options, m);
    size_t bytes = 0;
    esp_pass p;

    make_pass(&p, m, o, &bytes);
    bytes += esp_bf16_bytes(m->precision) + (o.head_only ? 0 : layers_bytes(&p));
    return bytes + (has_head(&p) ? head_and_norm_bytes(m, o) : 0);
}

esp_work esp_pass_work(const esp_model *m, const esp_grid *grid, esp_text_size t, double reads,
                       esp_pass_way way, size_t kept_layers)
{
    esp_pipeline_stage s = esp_pipeline_stage_of(m, grid);
    double head = (double)m->dims.hidden * (double)m->dims.vocab;
    esp_work w = { .chunks = reads };

    for (size_t l = s.begin; l < s.end; l++) {
        esp_work block = esp_block_work(m, l, t, reads, way, l + kept_layers >= s.end);

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
    esp_pass_options o = complete(options, m);
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
    esp_kept_free(p);
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
    esp_kept_place(p, layer, row);
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
    ESP_REQUIRE(!p->gates || p->options.gates);
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

/* ---- backward ---- */

/* From d to what lies below, both rows of the chunk. */
static void backward_layer(esp_pass *p, size_t layer, float *below, float *d, size_t row,
                           const esp_sink *sink)
{
    esp_block *b = p->block;

    b->value[0] = esp_pass_input(p, layer) + row * p->model->dims.hidden;
    b->grad[esp_block_output(p->model->arch)] = d;
    b->grad[0] = below;
    esp_kept_place(p, layer, row);
    if (!esp_kept_has(p, layer)) {
        esp_block_forward(p, layer, true, NULL, NULL, &p->chunk);
    }
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
