/* compensate_streams.c - two streams through the layers, block by block, and sums over tokens on the way.
 *
 * Ranks of one pipeline stage have the same layers and share the samples; a stage begins when the one
 * before has passed on its streams.
 */
#include <stdlib.h>
#include <string.h>

#include "compensate_walk_impl.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"

enum {
    STATUS_TAG = 8,
    DENSE_TAG,
    PRUNED_TAG
}; /* beside those of other messages along a pipeline */

bool esp_walk_is_done(const esp_walk *w, size_t layer)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->list[i].layer >= layer && !w->list[i].found) {
            return false;
        }
    }
    return true;
}

const char *esp_walk_role(const esp_walk *w, const esp_projection *p)
{
    return esp_slot_role(&w->remnant->left.arch->slots[p->slot]);
}

/* ---- weights of what is left ---------------------------------------------------------------------- */

/* The table is the remnant's own. */
esp_weight *esp_walk_weight(esp_walk *w, size_t layer, int slot)
{
    return (esp_weight *)(uintptr_t)esp_model_weight(&w->remnant->left, layer, slot);
}

static void point(esp_walk *w, const esp_tensor_ref *t, const void *numbers)
{
    esp_weight *at = esp_walk_weight(w, t->layer, t->slot);

    if (t->part == ESP_PART_BIAS) {
        at->bias = numbers;
    } else {
        at->data = numbers;
    }
}

/* Numbers are those of the model itself where they lie together there. */
void esp_walk_hold(esp_walk *w, size_t layer)
{
    for (size_t i = 0; i < w->n_refs; i++) {
        const esp_tensor_ref *t = &w->refs[i];

        if (t->layer == layer) {
            const void *at = esp_remnant_in_place(w->remnant, t);

            if (!at) {
                w->held_tensors[i] = esp_calloc(esp_tensor_ref_bytes(t), 1);
                esp_remnant_rows(w->held_tensors[i], w->remnant, t, 0, t->shape[0]);
                at = w->held_tensors[i];
            }
            point(w, t, at);
        }
    }
}

static void drop_tensors(esp_walk *w, size_t layer)
{
    for (size_t i = 0; i < w->n_refs; i++) {
        if (w->refs[i].layer == layer) {
            point(w, &w->refs[i], NULL);
            free(w->held_tensors[i]);
            w->held_tensors[i] = NULL;
        }
    }
}

void esp_walk_drop(esp_walk *w, size_t layer)
{
    drop_tensors(w, layer);
    for (size_t i = 0; i < w->n_results; i++) {
        esp_remnant_replace(w->remnant, layer, w->result[i].slot, (esp_replaced){ NULL, NULL });
        free(w->result[i].numbers);
    }
    w->n_results = 0;
}

void esp_walk_recut(esp_walk *w, size_t layer)
{
    drop_tensors(w, layer);
    esp_remnant_recut(w->remnant, w->groups, w->plan);
    free(w->refs);
    w->refs = esp_model_tensors(&w->n_refs, &w->remnant->left);
    esp_walk_hold(w, layer);
}

void esp_walk_take_result(esp_walk *w, const esp_projection *p, void *result, const char *data,
                          const char *bias)
{
    ESP_REQUIRE(w->n_results < ESP_MOST_PROJECTIONS);
    w->result[w->n_results].numbers = result;
    w->result[w->n_results++].slot = p->slot;
    for (size_t i = 0; i < w->n_refs; i++) {
        const esp_tensor_ref *t = &w->refs[i];

        if (t->layer == p->layer && t->slot == p->slot) {
            point(w, t, t->part == ESP_PART_BIAS ? bias : data);
            free(w->held_tensors[i]);
            w->held_tensors[i] = NULL;
        }
    }
    esp_remnant_replace(w->remnant, p->layer, p->slot, (esp_replaced){ data, bias });
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* This rank's samples, cut into chunks. */
static esp_pass_options take_samples(esp_walk *w, const esp_samples *samples)
{
    esp_pass_options options;
    esp_text_size own;
    size_t *pick;

    w->counts = esp_samples_of_rank(&pick, &own, samples, w->grid->i_data, w->grid->n_data) > 0;
    esp_model_batch_init(&w->batch, w->remnant->model, own.samples, own.tokens);
    options = esp_compensate_pass(w->options, own, &w->alone);
    w->batch.chunk_tok = options.chunk_tok;
    esp_batch_fill(&w->batch, samples, pick, own.samples);
    free(pick);
    return options;
}

void esp_walk_init(esp_walk *w, const esp_samples *samples)
{
    esp_pass_options o = take_samples(w, samples);

    w->alone = *w->grid;
    w->alone.n_pipeline = 1;
    w->alone.i_pipeline = 0;
    esp_share(&w->begin, &w->end, w->remnant->left.dims.n_layers, w->grid->i_pipeline,
              w->grid->n_pipeline);
    w->refs = esp_model_tensors(&w->n_refs, &w->remnant->left);
    ESP_NEW(w->held_tensors, w->n_refs);
    esp_walk_hold(w, ESP_NO_LAYER);
    esp_pass_init(&w->dense, w->remnant->model, o);
    esp_pass_init(&w->pruned, &w->remnant->left, o);
}

void esp_walk_free(esp_walk *w)
{
    esp_walk_drop(w, ESP_NO_LAYER);
    esp_pass_free(&w->dense);
    esp_pass_free(&w->pruned);
    esp_batch_free(&w->batch);
    free(w->refs);
    free(w->held_tensors);
}

/* ---- the streams ---------------------------------------------------------------------------------- */

/* All chunks through a layer. */
static void run_layer(esp_pass *p, size_t layer, const esp_batch *batch)
{
    for (size_t c = 0; c < batch->n_chunks; c++) {
        esp_pass_layer(p, layer, c, NULL, batch);
    }
}

void esp_walk_dense(esp_walk *w, size_t to)
{
    for (; w->options->target == ESP_BRANCH_DENSE && w->at_dense < to; w->at_dense++) {
        run_layer(&w->dense, w->at_dense, &w->batch);
    }
}

void esp_walk_pruned(esp_walk *w, size_t layer)
{
    run_layer(&w->pruned, layer, &w->batch);
}

/* The layer of the model that layer l of what is left is, or that follows the last. */
static size_t dense_layer(const esp_walk *w, size_t l)
{
    return l == w->remnant->left.dims.n_layers ? w->remnant->model->dims.n_layers
           : l == 0                            ? 0
                                               : w->remnant->layer[l];
}

/* Rows of a chunk of a pass. */
static float *rows_of(const esp_pass *p, const esp_batch *batch, size_t c, size_t *n)
{
    size_t D = p->model->dims.hidden, first = batch->start[batch->chunk[c]];

    *n = (batch->start[batch->chunk[c + 1]] - first) * D;
    return esp_pass_input(p, 0) + first * D;
}

static void receive_stream(esp_walk *w, esp_pass *p, int tag)
{
    for (size_t c = 0, n; c < w->batch.n_chunks; c++) {
        float *rows = rows_of(p, &w->batch, c, &n);

        ESP_MPI(MPI_Recv(rows, esp_count(n), MPI_FLOAT, w->grid->i_pipeline - 1, tag,
                         w->grid->pipeline, MPI_STATUS_IGNORE));
    }
}

static void send_stream(esp_walk *w, esp_pass *p, int tag)
{
    for (size_t c = 0, n; c < w->batch.n_chunks; c++) {
        float *rows = rows_of(p, &w->batch, c, &n);

        esp_sent(ESP_SENT_ACTIVATIONS, ESP_COST_P2P, n * sizeof *rows, w->grid->pipeline);
        ESP_MPI(MPI_Send(rows, esp_count(n), MPI_FLOAT, w->grid->i_pipeline + 1, tag,
                         w->grid->pipeline));
    }
}

esp_status esp_walk_begin(esp_walk *w)
{
    bool dense = w->options->target == ESP_BRANCH_DENSE;
    int st = ESP_OK;

    w->at_dense = dense_layer(w, w->begin);
    if (w->grid->i_pipeline == 0) {
        esp_pass_begin(&w->dense, &w->batch);
        esp_pass_begin(&w->pruned, &w->batch);
        return ESP_OK;
    }
    ESP_MPI(MPI_Recv(&st, 1, MPI_INT, w->grid->i_pipeline - 1, STATUS_TAG, w->grid->pipeline,
                     MPI_STATUS_IGNORE));
    if (st == ESP_OK && !esp_walk_is_done(w, w->begin)) {
        if (dense) {
            receive_stream(w, &w->dense, DENSE_TAG);
        }
        receive_stream(w, &w->pruned, PRUNED_TAG);
    }
    return (esp_status)st;
}

void esp_walk_end(esp_walk *w, esp_status st)
{
    bool dense = w->options->target == ESP_BRANCH_DENSE;
    int status = st;

    if (w->grid->i_pipeline + 1 == w->grid->n_pipeline) {
        return;
    }
    ESP_MPI(MPI_Send(&status, 1, MPI_INT, w->grid->i_pipeline + 1, STATUS_TAG, w->grid->pipeline));
    if (st == ESP_OK && !esp_walk_is_done(w, w->end)) {
        if (dense) {
            esp_walk_dense(w, dense_layer(w, w->end));
            send_stream(w, &w->dense, DENSE_TAG);
        }
        send_stream(w, &w->pruned, PRUNED_TAG);
    }
}

/* ---- sums over tokens ----------------------------------------------------------------------------- */

static void take_output(void *ctx, size_t layer, int slot, const float *x, const float *y,
                        const esp_batch *chunk)
{
    esp_walk *w = ctx;

    (void)layer, (void)x, (void)chunk;
    w->y = slot == w->slot ? y : w->y;
}

/* What the projection of what is left is to give: the rows that are kept, times their factor. */
static const float *target_of(esp_walk *w, size_t layer, size_t n_tok)
{
    size_t n = w->fit.n_out, n_all = esp_model_weight(w->remnant->model, 0, w->slot)->rows;
    float factor;
    const esp_kept_groups *kept = esp_remnant_source_rows(&factor, w->remnant, layer, w->slot);

    if (kept->n == kept->total && factor == 1) {
        return w->y;
    }
#pragma omp parallel for
    for (size_t t = 0; t < n_tok; t++) {
        for (size_t i = 0; i < n; i++) {
            size_t from = kept->total ? (size_t)kept->index[i] : i;

            w->target[t * n + i] = factor * w->y[t * n_all + from];
        }
    }
    return w->target;
}

static void take_input(void *ctx, size_t layer, int slot, const float *x, const float *y,
                       const esp_batch *chunk)
{
    esp_walk *w = ctx;
    size_t every = w->options->holdout;
    const float *target;

    (void)y;
    if (slot != w->slot || !w->counts) {
        return;
    }
    target = target_of(w, layer, chunk->n_tok);
    for (size_t j = 0; j < chunk->n_samples; j++) {
        bool held = every > 0 && chunk->key[j] % every == every - 1;
        size_t first = chunk->start[j], n = chunk->start[j + 1] - first;
        esp_gram *g = held ? &w->held : &w->fit;

        esp_gram_add(g, x + first * g->n_in, target + first * g->n_out, n, w->scratch);
    }
}

/* Each chunk through the dense block, then through that of what is left, up to the projection; last of the
 * layer: the dense stream goes on behind it. */
static void run_streams(esp_walk *w, size_t layer, bool last)
{
    bool ends = last && w->options->target == ESP_BRANCH_DENSE;
    const esp_tap dense = { w, take_output, ends ? -1 : w->slot };
    const esp_tap pruned = { w, take_input, w->slot };

    for (size_t c = 0; c < w->batch.n_chunks; c++) {
        if (w->options->target == ESP_BRANCH_OWN) {
            size_t n;
            float *to = rows_of(&w->dense, &w->batch, c, &n);

            memcpy(to, rows_of(&w->pruned, &w->batch, c, &n), n * sizeof *to);
        }
        esp_pass_layer(&w->dense, w->remnant->layer[layer], c, &dense, &w->batch);
        esp_pass_layer(&w->pruned, layer, c, &pruned, &w->batch);
    }
    w->at_dense += ends;
}

void esp_walk_measure(esp_walk *w, const esp_projection *p)
{
    const esp_weight *at = esp_model_weight(&w->remnant->left, p->layer, p->slot);

    w->slot = p->slot;
    esp_gram_init(&w->fit, at->cols, at->rows, at->has_bias);
    esp_gram_init(&w->held, at->cols, at->rows, at->has_bias);
    ESP_NEW(w->scratch, esp_gram_scratch(at->cols, at->rows));
    ESP_NEW(w->target, w->dense.options.chunk_tok * at->rows);
    run_streams(w, p->layer, p + 1 == w->list + w->n || p[1].layer != p->layer);
    free(w->scratch);
    free(w->target);
    esp_gram_reduce(&w->fit, w->grid->data);
    esp_gram_reduce(&w->held, w->grid->data);
}
