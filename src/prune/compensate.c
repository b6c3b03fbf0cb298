/* compensate.c - two streams through the layers, block by block: sums over tokens, a solve, and on with what
 * it gave.
 *
 * Ranks of one pipeline stage have the same layers and share the samples; a stage begins when the one
 * before has passed on its streams.
 */
#include "espalier/compensate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compensate_impl.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"

enum {
    STATUS_TAG = 8,
    DENSE_TAG,
    PRUNED_TAG
}; /* beside those of other messages along a pipeline */

/* What is computed with: of this rank. */
typedef struct walk {
    esp_remnant *remnant;
    const esp_compensate_options *options;
    const esp_compensate_calls *calls;
    const esp_grid *grid;
    const char *dir;
    esp_projection *list; /* [n] owned; of all layers, in order                */
    size_t n;
    size_t begin, end; /* layers of what is left that are this pipeline stage's */
    esp_grid alone;    /* of the passes: one pipeline stage */
    esp_pass dense, pruned;
    esp_batch batch;
    bool counts;          /* the batch is this rank's own; else it only keeps step */
    size_t at_dense;      /* the layer that the dense stream goes into next        */
    esp_tensor_ref *refs; /* [n_refs] owned; of what is left                     */
    size_t n_refs;
    void **held_tensors; /* [n_refs] owned, each owned: numbers of tensors made for now */
    void *result[ESP_MOST_PROJECTIONS]; /* owned; of the layer under way */
    /* of the projection that is measured: */
    int slot;
    esp_gram fit, held; /* over samples, and over those held out */
    const float *y;     /* of the chunk, of the dense block      */
    float *target;      /* [chunk_tok, rows] owned               */
    float *scratch;     /* owned                                 */
} walk;

/* ---- which projections -------------------------------------------------------------------------- */

/* Whether a projection has lost rows or columns. */
static bool is_cut(const esp_remnant *c, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(&c->left, layer, slot);
    const esp_weight *whole = esp_model_weight(c->model, c->layer[layer], slot);

    return w->rows < whole->rows || w->cols < whole->cols;
}

/* Below the first cut both streams are the same. */
static void list_projections(walk *w)
{
    bool differs = false;
    size_t n_layers = w->remnant->left.dims.n_layers, n_slots;
    int slot[ESP_MOST_PROJECTIONS];

    n_slots = esp_projection_slots(slot, w->remnant->model);
    ESP_NEW(w->list, n_layers * ESP_MOST_PROJECTIONS);
    for (size_t l = 0; l < n_layers; l++) {
        for (size_t i = 0; i < n_slots; i++) {
            bool cut = is_cut(w->remnant, l, slot[i]);

            differs = differs || cut || w->remnant->layer[l] != l;
            if (w->options->cut_only ? cut : differs) {
                w->list[w->n++] = (esp_projection){ .layer = l, .slot = slot[i] };
            }
        }
    }
}

/* Whether nothing is left to be done from a layer on. */
static bool is_done(const walk *w, size_t layer)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->list[i].layer >= layer && !w->list[i].found) {
            return false;
        }
    }
    return true;
}

static const char *role_of(const walk *w, const esp_projection *p)
{
    return esp_slot_role(&w->remnant->left.arch->slots[p->slot]);
}

/* ---- weights of what is left ---------------------------------------------------------------------- */

/* The table is the remnant's own. */
static esp_weight *left_weight(walk *w, size_t layer, int slot)
{
    return (esp_weight *)(uintptr_t)esp_model_weight(&w->remnant->left, layer, slot);
}

static void point(walk *w, const esp_tensor_ref *t, const void *numbers)
{
    esp_weight *at = left_weight(w, t->layer, t->slot);

    if (t->part == ESP_PART_BIAS) {
        at->bias = numbers;
    } else {
        at->data = numbers;
    }
}

/* Gives the tensors of a layer their numbers: those of the model itself where they lie together there. */
static void hold_layer(walk *w, size_t layer)
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

static void drop_layer(walk *w, size_t layer)
{
    for (size_t i = 0; i < w->n_refs; i++) {
        if (w->refs[i].layer == layer) {
            point(w, &w->refs[i], NULL);
            free(w->held_tensors[i]);
            w->held_tensors[i] = NULL;
        }
    }
    for (size_t i = 0; i < ESP_MOST_PROJECTIONS; i++) {
        free(w->result[i]);
        w->result[i] = NULL;
    }
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* This rank's samples, cut into chunks. */
static esp_pass_options take_samples(walk *w, const esp_samples *samples)
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

static void walk_init(walk *w, const esp_samples *samples)
{
    esp_pass_options o = take_samples(w, samples);

    w->alone = *w->grid;
    w->alone.n_pipeline = 1;
    w->alone.i_pipeline = 0;
    esp_share(&w->begin, &w->end, w->remnant->left.dims.n_layers, w->grid->i_pipeline,
              w->grid->n_pipeline);
    w->refs = esp_model_tensors(&w->n_refs, &w->remnant->left);
    ESP_NEW(w->held_tensors, w->n_refs);
    hold_layer(w, ESP_NO_LAYER);
    esp_pass_init(&w->dense, w->remnant->model, o);
    esp_pass_init(&w->pruned, &w->remnant->left, o);
}

static void walk_free(walk *w)
{
    drop_layer(w, ESP_NO_LAYER);
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

/* The dense stream up to a layer; target own has none. */
static void advance_dense(walk *w, size_t to)
{
    for (; w->options->target == ESP_BRANCH_DENSE && w->at_dense < to; w->at_dense++) {
        run_layer(&w->dense, w->at_dense, &w->batch);
    }
}

/* The layer of the model that layer l of what is left is, or that follows the last. */
static size_t dense_layer(const walk *w, size_t l)
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

static void receive_stream(walk *w, esp_pass *p, int tag)
{
    for (size_t c = 0, n; c < w->batch.n_chunks; c++) {
        float *rows = rows_of(p, &w->batch, c, &n);

        ESP_MPI(MPI_Recv(rows, esp_count(n), MPI_FLOAT, w->grid->i_pipeline - 1, tag,
                         w->grid->pipeline, MPI_STATUS_IGNORE));
    }
}

static void send_stream(walk *w, esp_pass *p, int tag)
{
    for (size_t c = 0, n; c < w->batch.n_chunks; c++) {
        float *rows = rows_of(p, &w->batch, c, &n);

        esp_sent(ESP_SENT_ACTIVATIONS, ESP_COST_P2P, n * sizeof *rows, w->grid->pipeline);
        ESP_MPI(MPI_Send(rows, esp_count(n), MPI_FLOAT, w->grid->i_pipeline + 1, tag,
                         w->grid->pipeline));
    }
}

/* Embeddings, or what the stage before passes on: its status first. */
static esp_status begin_streams(walk *w)
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
    if (st == ESP_OK && !is_done(w, w->begin)) {
        if (dense) {
            receive_stream(w, &w->dense, DENSE_TAG);
        }
        receive_stream(w, &w->pruned, PRUNED_TAG);
    }
    return (esp_status)st;
}

static void end_streams(walk *w, esp_status st)
{
    bool dense = w->options->target == ESP_BRANCH_DENSE;
    int status = st;

    if (w->grid->i_pipeline + 1 == w->grid->n_pipeline) {
        return;
    }
    ESP_MPI(MPI_Send(&status, 1, MPI_INT, w->grid->i_pipeline + 1, STATUS_TAG, w->grid->pipeline));
    if (st == ESP_OK && !is_done(w, w->end)) {
        if (dense) {
            advance_dense(w, dense_layer(w, w->end));
            send_stream(w, &w->dense, DENSE_TAG);
        }
        send_stream(w, &w->pruned, PRUNED_TAG);
    }
}

/* ---- sums over tokens ----------------------------------------------------------------------------- */

static void take_output(void *ctx, size_t layer, int slot, const float *x, const float *y,
                        const esp_batch *chunk)
{
    walk *w = ctx;

    (void)layer, (void)x, (void)chunk;
    w->y = slot == w->slot ? y : w->y;
}

/* What the projection of what is left is to give: the rows that are kept, times their factor. */
static const float *target_of(walk *w, size_t layer, size_t n_tok)
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
    walk *w = ctx;
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
static void run_streams(walk *w, size_t layer, bool last)
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

/* w->fit and w->held of a projection, of all samples. Collective on the grid's data. */
static void measure(walk *w, const esp_projection *p)
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

/* ---- the solve ------------------------------------------------------------------------------------ */

static bool is_finite(const esp_gram *g)
{
    double sum = g->y2;

    for (size_t i = 0; i < g->n; i++) {
        sum += g->h[i * g->n + i];
    }
    return isfinite(sum);
}

static esp_status check_sums(const walk *w, const esp_projection *p)
{
    return is_finite(&w->fit) && is_finite(&w->held)
               ? ESP_OK
               : esp_fail(ESP_EFORMAT,
                          "compensate: layer %zu, %s: its inputs, or what it is to give, are not "
                          "finite: weights are too large for f32 or broken; get the model anew",
                          p->layer, role_of(w, p));
}

/* The projection becomes what fits best, here and in its file. Collective on the grid's data. */
static esp_status solve(void **result, esp_damping *d, walk *w, const esp_projection *p)
{
    esp_weight *at = left_weight(w, p->layer, p->slot);
    double set = w->options->damping;
    char *data, *bias;
    esp_status st = check_sums(w, p);

    ESP_TRY(esp_agree(w->grid->data, st));
    *result = esp_projection_make(&data, &bias, at);
    if (!esp_projection_solve(d, data, bias, at, &w->fit, &w->held, set, w->grid)) {
        st = esp_fail(ESP_EFAILED,
                      "compensate: layer %zu, %s: its inputs are so alike that a damping of %g "
                      "leaves no solution: set a larger compensate.damping, or 0",
                      p->layer, role_of(w, p), isfinite(d->value) ? d->value : set);
    }
    ESP_TRY(esp_agree(w->grid->data, st));
    at->data = data;
    at->bias = bias;
    st = w->grid->i_data == 0 ? esp_projection_write(*result, w->dir, &w->remnant->left, p, d)
                              : ESP_OK;
    return esp_agree(w->grid->data, st);
}

/* ---- the walk ------------------------------------------------------------------------------------- */

static void report(walk *w, esp_projection *p, const esp_damping *d)
{
    esp_compensate_news n = { .layer = p->layer,
                              .projection = role_of(w, p),
                              .done = (size_t)(p - w->list) + 1,
                              .total = w->n,
                              .damping = *d };

    p->told = true;
    if (w->calls->report) {
        w->calls->report(w->calls->ctx, &n);
    }
}

static esp_status check_stop(const walk *w, const esp_projection *p)
{
    int stop = w->calls->stop && w->calls->stop(w->calls->ctx);

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &stop, 1, MPI_INT, MPI_MAX, w->grid->data));
    return stop ? esp_fail(ESP_ESTOPPED,
                           "stopped on request before compensating %s of layer %zu; the same "
                           "command goes on",
                           role_of(w, p), p->layer)
                : ESP_OK;
}

static esp_status compensate_projection(walk *w, esp_projection *p, void **result)
{
    esp_damping d;
    esp_status st;

    ESP_TRY(check_stop(w, p));
    measure(w, p);
    st = solve(result, &d, w, p);
    esp_gram_free(&w->fit);
    esp_gram_free(&w->held);
    if (st == ESP_OK) {
        report(w, p, &d);
    }
    return st;
}

/* A layer of what is left, from the projection list[i] on; the streams end behind it. */
static esp_status walk_layer(walk *w, size_t layer, size_t *i)
{
    esp_status st = ESP_OK;

    hold_layer(w, layer);
    advance_dense(w, w->remnant->layer[layer]);
    for (size_t k = 0; st == ESP_OK && *i < w->n && w->list[*i].layer == layer; k++, (*i)++) {
        if (!w->list[*i].found) {
            st = compensate_projection(w, &w->list[*i], &w->result[k]);
        }
    }
    if (st == ESP_OK) {
        run_layer(&w->pruned, layer, &w->batch);
    }
    drop_layer(w, layer);
    return st;
}

/* The layers of this rank; those behind the last projection need not be run. */
static esp_status walk_layers(walk *w)
{
    size_t i = 0;

    for (size_t l = w->begin; l < w->end && !is_done(w, l); l++) {
        while (i < w->n && w->list[i].layer < l) {
            i++;
        }
        ESP_TRY(walk_layer(w, l, &i));
    }
    return ESP_OK;
}

static esp_status walk_all(walk *w, const esp_samples *samples)
{
    esp_status st;

    walk_init(w, samples);
    st = begin_streams(w);
    st = st == ESP_OK ? walk_layers(w) : st;
    end_streams(w, st);
    walk_free(w);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------------ */

/* Results of an earlier call. Collective. */
static void find_results(walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        bool *found = &w->list[i].found;

        if (w->grid->rank == 0) {
            *found = esp_projection_is_whole(w->dir, &w->remnant->left, &w->list[i]);
        }
        ESP_MPI(MPI_Bcast(found, 1, MPI_C_BOOL, 0, w->grid->world));
    }
}

/* Every rank maps the results that are there and have not been mapped; rank 0 tells of those that it has not
 * made. Local. */
static esp_status use_results(esp_compensated *done, walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        esp_projection *p = &w->list[i];
        const esp_projection_head *head;

        if (p->found && !done->files[i].data) {
            ESP_TRY(esp_projection_use(&done->files[i], w->remnant, w->dir, p));
            head = (const void *)done->files[i].data;
            if (w->grid->rank == 0 && !p->told) {
                report(w, p, &head->damping);
            }
        }
    }
    return ESP_OK;
}

/* Marks what this call has made. */
static void mark_made(walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        w->list[i].found = true;
    }
}

esp_status esp_compensate(esp_compensated *done, esp_remnant *remnant, const esp_samples *samples,
                          const esp_compensate_options *o, const char *dir,
                          const esp_compensate_calls *calls, const esp_grid *grid)
{
    walk w = { .remnant = remnant, .options = o, .calls = calls, .grid = grid, .dir = dir };
    esp_status st;

    list_projections(&w);
    *done = (esp_compensated){ .n = w.n };
    ESP_NEW(done->files, w.n);
    find_results(&w);
    st = esp_agree(grid->world, use_results(done, &w));
    if (st == ESP_OK && !is_done(&w, 0)) {
        st = esp_agree(grid->world, walk_all(&w, samples));
        mark_made(&w);
        st = st == ESP_OK ? esp_agree(grid->world, use_results(done, &w)) : st;
    }
    free(w.list);
    return st;
}

void esp_compensated_free(esp_compensated *done)
{
    for (size_t i = 0; i < done->n; i++) {
        esp_map_close(&done->files[i]);
    }
    free(done->files);
    *done = (esp_compensated){ 0 };
}
