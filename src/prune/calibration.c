/* calibration.c - forward, loss and backward over the calibration samples, whose gradients become sums. */
#include "calibration_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"
#include "grad_store_impl.h"

/* Tokens of a chunk: larger chunks save little time and cost memory. */
#define CHUNK_TOKENS ((size_t)1024)

/* Micro-batches per pipeline stage, to fill the pipeline. */
#define CHUNKS_PER_STAGE ((size_t)2)

#define LOOKUP_TAG 2 /* beside those of the pass */

/* The pass of this rank. A rank without samples goes through the first one with weight 0, so that all
 * ranks meet the same weights in the same order; its weight importance takes no samples. */
typedef struct calibration {
    const esp_model *model;
    const esp_grid *grid;
    esp_pass pass;
    esp_batch batch;
    size_t n_own;          /* samples that count                                          */
    float *scale;          /* [batch.n_samples] owned: makes a gradient that of a mean    */
    bool hidden;           /* weights outside the blocks are in a unit asked for          */
    bool normalized;       /* and the rows of the head are normalised                     */
    size_t n_head;         /* tokens whose gradients the head has given                   */
    float *norm_head_grad; /* [batch.n_samples, V] owned: see esp_sink; NULL: no normalised head */
    size_t n_done;         /* blocks */
    bool elements;         /* gradients of weights are summed: the two that follow are used */
    esp_weight_importance importance;
    esp_grad_store store;
    bool backward;             /* there is one                                              */
    esp_sample_sums *sums;     /* borrowed; NULL: of sizes alone                                */
    esp_importance_work *work; /* borrowed: what sizes alone would take is added; NULL: data    */
} calibration;

size_t esp_importance_chunk(size_t n_tok, size_t longest, const esp_grid *grid)
{
    size_t chunks = esp_pass_chunks(grid, CHUNKS_PER_STAGE);
    size_t chunk = (n_tok + chunks - 1) / chunks;

    return esp_max(esp_min(chunk, CHUNK_TOKENS), longest);
}

/* Of a rank's own samples, at least one. */
static esp_pass_options pass_options(esp_text_size own, const esp_importance_options *o,
                                     const esp_grid *grid)
{
    size_t chunk =
        o->chunk_tok ? o->chunk_tok : esp_importance_chunk(own.tokens, own.longest, grid);

    bool backward = esp_criteria_need(o->criteria, ESP_NEEDS_BACKWARD);

    return (esp_pass_options){ .max_samples = own.samples,
                               .max_tok = own.tokens,
                               .chunk_tok = esp_min(esp_max(chunk, own.longest), own.tokens),
                               .longest = own.longest,
                               .kept_layers = o->kept_layers,
                               .backward = backward,
                               .layers_only = !backward,
                               .draws_labels = backward && o->model_labels,
                               .label_seed = o->seed,
                               .scratch = o->scratch,
                               .grid = grid };
}

/* This rank's samples, cut into chunks. */
static esp_pass_options take_samples(calibration *c, const esp_samples *samples,
                                     const esp_importance_options *o)
{
    esp_pass_options options;
    esp_text_size own;
    size_t *pick;

    c->n_own = esp_samples_of_rank(&pick, &own, samples, c->grid->i_data, c->grid->n_data);
    esp_model_batch_init(&c->batch, c->model, own.samples, own.tokens);
    options = pass_options(own, o, c->grid);
    c->batch.chunk_tok = options.chunk_tok;
    esp_batch_fill(&c->batch, samples, pick, own.samples);
    ESP_NEW(c->scale, own.samples);
    for (size_t i = 0; i < c->n_own; i++) {
        c->scale[i] = 1.0f / (float)esp_samples_targets(samples, pick[i]);
    }
    free(pick);
    return options;
}

static calibration make_calibration(const esp_model *m, const esp_importance_options *o,
                                    const esp_grid *grid)
{
    bool elements = esp_criteria_need(o->criteria, ESP_NEEDS_GRADIENT);
    bool hidden = elements && o->units & 1u << ESP_UNIT_HIDDEN;

    return (calibration){ .model = m,
                          .grid = grid,
                          .hidden = hidden,
                          .normalized = hidden && m->normalized_head,
                          .elements = elements,
                          .backward = esp_criteria_need(o->criteria, ESP_NEEDS_BACKWARD) };
}

static void calibration_init(calibration *c, const esp_model *m, const esp_samples *samples,
                             const esp_importance_options *o, esp_sample_sums *sums,
                             const esp_grid *grid)
{
    esp_pass_options options;

    *c = make_calibration(m, o, grid);
    c->sums = sums;
    options = take_samples(c, samples, o);
    esp_pass_init(&c->pass, m, options);
    if (c->normalized) {
        ESP_NEW(c->norm_head_grad, c->batch.n_samples * m->dims.vocab);
    }
    if (c->elements) {
        esp_weight_importance_init(&c->importance, &sums->elements, m, samples, c->batch.start,
                                   c->n_own, o->fisher_sum, grid);
        esp_grad_store_init(&c->store, &c->importance, &c->pass, &c->batch);
    }
}

/* Of sizes alone: what init allocates is added to work. */
static void calibration_init_sizes(calibration *c, esp_importance_work *work, const esp_model *m,
                                   esp_text_size all, esp_text_size own,
                                   const esp_importance_options *o, esp_saliency_sums *sums,
                                   const esp_grid *grid)
{
    esp_pass_options options = pass_options(own, o, grid);

    *c = make_calibration(m, o, grid);
    c->work = work;
    c->batch = (esp_batch){ .n_samples = own.samples, .n_tok = own.tokens };
    c->pass = (esp_pass){ .model = m, .options = options, .stage = esp_pipeline_stage_of(m, grid) };
    work->held += esp_batch_bytes(own.samples, own.tokens) +
                  esp_calloc_bytes(own.samples, sizeof *c->scale) + esp_pass_bytes(m, options);
    if (c->normalized) {
        work->held += esp_calloc_bytes(own.samples * m->dims.vocab, sizeof *c->norm_head_grad);
    }
    if (c->elements) {
        work->held += esp_grad_store_bytes(m, &c->pass.stage);
        esp_weight_importance_init_sizes(&c->importance, work, sums, m, all, own, grid);
        esp_grad_store_init(&c->store, &c->importance, &c->pass, &c->batch);
    }
}

static void calibration_free(calibration *c)
{
    esp_grad_store_free(&c->store);
    esp_weight_importance_free(&c->importance);
    esp_pass_free(&c->pass);
    esp_batch_free(&c->batch);
    free(c->scale);
    free(c->norm_head_grad);
}

/* ---- the sink ---------------------------------------------------------------------------------------- */

/* The slot that has the numbers of the head. */
static int head_slot(const calibration *c)
{
    return c->model->tied ? ESP_SLOT_EMBED : ESP_SLOT_HEAD;
}

static void take_linear(void *ctx, size_t layer, int slot, int input, const float *dy,
                        const float *x, size_t n_tok)
{
    calibration *c = ctx;

    if (slot == ESP_SLOT_HEAD) {
        slot = head_slot(c);
        c->n_head += n_tok;
    }
    esp_grad_store_linear(&c->store, layer, slot, input, dy, x, n_tok);
}

/* Sums it over the tokens of each sample; they are those of take_linear just before. */
static void subtract_norm_head_grad(void *ctx, const float *norm_head_grad, size_t n_tok)
{
    calibration *c = ctx;
    size_t V = c->model->dims.vocab, first = c->n_head - n_tok, j = 0;

    for (size_t t = 0; c->norm_head_grad && t < n_tok; t++) {
        while (c->batch.start[j + 1] <= first + t) {
            j++;
        }
        esp_accumulate(c->norm_head_grad + j * V, norm_head_grad + t * V, V);
    }
}

static void take_norm(void *ctx, size_t layer, int slot, const float *dw, const float *db,
                      size_t n_samples)
{
    calibration *c = ctx;

    esp_grad_store_norm(&c->store, layer, slot, dw, db, n_samples);
}

/* A weight outside the blocks, from the product that was kept, where it had one, and from rows of it where
 * they were looked up, dx [n_tok, D]. Collective on the grid's data, of the stage that calls it. */
static void add_outside(calibration *c, int slot, bool looked_up, const int32_t *row,
                        const float *dx)
{
    esp_weight_gradient gradient = esp_grad_store_gradient(&c->store, ESP_NO_LAYER, slot);

    gradient.from.normalized = slot == head_slot(c) && c->normalized;
    gradient.from.looked_up = looked_up;
    gradient.norm_head_grad = c->norm_head_grad;
    gradient.ids = row;
    gradient.dx = dx;
    esp_weight_importance_add(&c->importance, ESP_NO_LAYER, slot,
                              esp_model_weight(c->model, ESP_NO_LAYER, slot), &gradient);
    esp_grad_store_discard(&c->store, slot);
}

/* Whether the embedding is the head too, which another stage has: the last one, with the gradient of the
 * logits, adds up both. */
static bool is_head_elsewhere(const calibration *c)
{
    return c->model->tied && c->grid->n_pipeline > 1;
}

/* The gradient of such an embedding. Of sizes alone there is nothing to be sent, as below. */
static void send_lookup(const calibration *c, const float *dx)
{
    size_t n = c->batch.n_tok * c->model->dims.hidden;

    if (!c->work) {
        esp_sent(ESP_SENT_ACTIVATIONS, ESP_COST_P2P, n * sizeof *dx, c->grid->pipeline);
        ESP_MPI(MPI_Send(dx, esp_count(n), MPI_FLOAT, c->grid->n_pipeline - 1, LOOKUP_TAG,
                         c->grid->pipeline));
    }
}

/* Tables, at the end of the first stage's backward. */
static void take_lookup(void *ctx, int slot, const int32_t *row, const float *dx)
{
    calibration *c = ctx;

    if (slot == ESP_SLOT_EMBED && is_head_elsewhere(c)) {
        send_lookup(c, dx);
    } else {
        add_outside(c, slot, true, row, dx);
    }
}

/* The last stage's part of a tied embedding. */
static void receive_lookup(calibration *c)
{
    size_t n = c->batch.n_tok * c->model->dims.hidden;
    esp_importance_work *sizes = c->work;
    float *dx = NULL;

    if (!c->hidden || !is_head_elsewhere(c) || !c->pass.stage.last) {
        return;
    }
    ESP_MAKE(dx, n, sizes ? &sizes->held : NULL);
    if (!sizes) {
        ESP_MPI(MPI_Recv(dx, esp_count(n), MPI_FLOAT, 0, LOOKUP_TAG, c->grid->pipeline,
                         MPI_STATUS_IGNORE));
    }
    add_outside(c, ESP_SLOT_EMBED, true, c->batch.ids, dx);
    if (sizes) {
        esp_importance_release(sizes, esp_calloc_bytes(n, sizeof *dx));
    }
    free(dx);
}

/* What the backward of the embedding leaves to be added. */
static void finish_embedding(calibration *c)
{
    receive_lookup(c);
    if (c->elements && c->pass.stage.first) {
        esp_grad_store_flush(&c->store, ESP_SLOT_EMBED_NORM);
    }
}

/* Of samples that count. */
static void take_value(void *ctx, size_t layer, int value, const float *x, const float *dx,
                       const esp_batch *chunk)
{
    calibration *c = ctx;

    if (c->n_own > 0) {
        esp_gate_sums_add(&c->sums->gates, layer, value, x, dx, chunk);
        esp_value_sums_add(&c->sums->values, layer, value, x, dx, chunk->n_tok);
    }
}

/* Of a forward alone: the inputs of matrices, each with the first that multiplies it. */
static void take_input(void *ctx, size_t layer, int slot, const float *x, const float *y,
                       const esp_batch *chunk)
{
    calibration *c = ctx;
    const esp_op *op = c->model->arch->ops;
    int value = esp_arch_linear(c->model->arch, slot)->in[0];

    (void)y;
    while (op->kind != ESP_OP_LINEAR || op->in[0] != value) {
        op++;
    }
    if (c->n_own > 0 && op->slot == slot) {
        esp_value_sums_add(&c->sums->values, layer, value, x, NULL, chunk->n_tok);
    }
}

static void flush(calibration *c, size_t layer)
{
    if (layer != ESP_NO_LAYER) {
        esp_grad_store_flush_layer(&c->store, layer);
        return;
    }
    esp_grad_store_flush(&c->store, ESP_SLOT_FINAL_NORM);
    if (!c->model->tied) {
        add_outside(c, ESP_SLOT_HEAD, false, NULL, NULL);
    }
}

static void take_done(void *ctx, size_t layer)
{
    calibration *c = ctx;

    if (c->elements) {
        flush(c, layer);
    }
    if (!c->work) {
        esp_progress("importance", ++c->n_done, c->pass.stage.end - c->pass.stage.begin + 1);
    }
}

/* ---- losses --------------------------------------------------------------------------------------- */

/* loss [n], the mean of each sample whatever rank has it, on all ranks. */
static void share_losses(double *loss, const esp_loss *own, const calibration *c, size_t n)
{
    memset(loss, 0, n * sizeof *loss);
    for (size_t i = 0; c->pass.stage.last && i < c->n_own; i++) {
        loss[c->batch.key[i]] = own[i].sum / (double)own[i].count;
    }
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, loss, esp_count(n), MPI_DOUBLE, MPI_SUM, c->grid->world));
}

/* In the order of the forward: 0 the embedding, 1 + l layer l, then the head. */
static uint64_t first_broken_step(const calibration *c, size_t sample)
{
    const esp_pipeline_stage *s = &c->pass.stage;
    size_t D = c->model->dims.hidden, own = sample / (size_t)c->grid->n_data, first, n;

    if (sample % (size_t)c->grid->n_data == (size_t)c->grid->i_data) {
        first = c->batch.start[own];
        n = (c->batch.start[own + 1] - first) * D;
        for (size_t l = s->first ? s->begin : s->begin + 1; l <= s->end; l++) {
            if (esp_find_nonfinite(esp_pass_input(&c->pass, l) + first * D, ESP_F32, n) < n) {
                return l;
            }
        }
    }
    return c->model->dims.n_layers + 1;
}

/* ESP_EFORMAT for the first of n losses that is not finite, with the layer where that began. The same on all
 * ranks. Collective on grid->world. */
static esp_status check_losses(const double *loss, size_t n, const calibration *c)
{
    size_t j = 0, n_layers = c->model->dims.n_layers;
    uint64_t step;
    char *where;

    while (j < n && isfinite(loss[j])) {
        j++;
    }
    if (j == n) {
        return ESP_OK;
    }
    step = first_broken_step(c, j);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &step, 1, MPI_UINT64_T, MPI_MIN, c->grid->world));
    where = step == 0          ? esp_strdup("the embedding")
            : step <= n_layers ? esp_format("layer %llu", (unsigned long long)step - 1)
                               : esp_strdup("the head");
    esp_fail(ESP_EFORMAT,
             "calibration: sample %zu of %zu: the loss is %g, as what %s gives is not finite: "
             "weights are too large for f32 or broken; get the model anew, or leave that text out",
             j, n, fabs(loss[j]), where); /* a NaN may have a sign */
    free(where);
    return ESP_EFORMAT;
}

/* What the criteria need of the pass. */
static esp_sink make_sink(calibration *c)
{
    esp_sink sink = { .ctx = c, .done = take_done };

    if (c->elements) {
        sink.linear = take_linear;
        sink.norm_head_grad = subtract_norm_head_grad;
        sink.norm = take_norm;
        sink.lookup = c->hidden ? take_lookup : NULL;
    }
    if (c->sums->gates.n + c->sums->values.n > 0) {
        sink.value = take_value;
    }
    return sink;
}

static void reduce(const calibration *c, const esp_samples *samples, bool fisher_sum)
{
    esp_sample_sums *sums = c->sums;
    MPI_Comm world = c->grid->world;

    if (c->elements) {
        esp_saliency_sums_reduce(&sums->elements, world);
    }
    if (sums->gates.n > 0) {
        esp_gate_sums_reduce(&sums->gates, world);
    }
    if (sums->values.n > 0) {
        esp_value_sums_reduce(&sums->values, (double)samples->start[samples->n],
                              fisher_sum ? 1 : 1 / (double)samples->n, world);
    }
}

/* Loss and backward too. */
static esp_status run_both_ways(double *loss, calibration *c, size_t n)
{
    esp_sink sink = make_sink(c), of_loss = sink;
    esp_loss *own;
    esp_status st;

    of_loss.linear = c->hidden ? take_linear : NULL;
    ESP_NEW(own, c->batch.n_samples);
    esp_pass_forward(&c->pass, NULL, &c->batch);
    esp_pass_loss(&c->pass, own, c->scale, &of_loss, &c->batch);
    share_losses(loss, own, c, n);
    st = check_losses(loss, n, c);
    if (st == ESP_OK) {
        esp_pass_backward(&c->pass, &sink, &c->batch);
        finish_embedding(c);
    }
    free(own);
    return st;
}

static void run_forward(double *loss, calibration *c, size_t n)
{
    const esp_tap tap = { .ctx = c, .linear = take_input, .last = -1 };

    esp_pass_begin(&c->pass, &c->batch);
    for (size_t l = c->pass.stage.begin; l < c->pass.stage.end; l++) {
        for (size_t k = 0; k < c->batch.n_chunks; k++) {
            esp_pass_layer(&c->pass, l, k, &tap, &c->batch);
        }
        esp_progress("importance", ++c->n_done, c->pass.stage.end - c->pass.stage.begin);
    }
    esp_pass_end(&c->pass, &c->batch);
    for (size_t j = 0; j < n; j++) {
        loss[j] = NAN;
    }
}

esp_status esp_calibrate(esp_sample_sums *sums, double *loss, double *flops, const esp_model *m,
                         const esp_samples *samples, const esp_importance_options *o,
                         const esp_grid *grid)
{
    calibration c;
    esp_status st = ESP_OK;

    calibration_init(&c, m, samples, o, sums, grid);
    if (c.backward) {
        st = run_both_ways(loss, &c, samples->n);
    } else {
        run_forward(loss, &c, samples->n);
    }
    if (st == ESP_OK) {
        reduce(&c, samples, o->fisher_sum);
    }
    *flops = c.n_own ? c.pass.flops : 0;
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, flops, 1, MPI_DOUBLE, MPI_SUM, grid->world));
    calibration_free(&c);
    return st;
}

/* ---- sizes alone ------------------------------------------------------------------------------------- */

/* The calls that the sink gets, in their order, each with all rows of the batch at once. scratch: bytes that
 * the pass takes for a while. */
static void walk_loss(calibration *c, size_t scratch)
{
    take_linear(c, ESP_NO_LAYER, ESP_SLOT_HEAD, -1, NULL, NULL, c->batch.n_tok);
    esp_importance_pass_by(c->work, scratch);
    take_norm(c, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM, NULL, NULL, c->batch.n_samples);
    take_done(c, ESP_NO_LAYER);
}

static void walk_layer(calibration *c, size_t layer)
{
    const esp_arch *a = c->model->arch;

    for (size_t i = a->n_ops; i-- > 0;) {
        const esp_op *op = &a->ops[i];

        if (op->kind == ESP_OP_LINEAR) {
            take_linear(c, layer, op->slot, op->in[0], NULL, NULL, c->batch.n_tok);
        } else if (op->kind == ESP_OP_NORM) {
            take_norm(c, layer, op->slot, NULL, NULL, c->batch.n_samples);
        }
    }
}

static void walk_layers(calibration *c, size_t scratch)
{
    const esp_pipeline_stage *s = &c->pass.stage;
    size_t end = s->end;

    do {
        size_t first = end - s->at_once;

        for (size_t l = end; l-- > first;) {
            walk_layer(c, l);
        }
        esp_importance_pass_by(c->work, scratch);
        for (size_t l = end; l-- > first;) {
            take_done(c, l);
        }
        end = first;
    } while (end > s->begin);
}

static void walk_embedding(calibration *c, size_t scratch)
{
    const esp_arch *a = c->model->arch;

    esp_importance_pass_by(c->work, scratch);
    take_norm(c, ESP_NO_LAYER, ESP_SLOT_EMBED_NORM, NULL, NULL, c->batch.n_samples);
    for (size_t i = a->n_embedding; c->hidden && i-- > 0;) {
        if (a->embedding[i].kind == ESP_OP_LOOKUP) {
            take_lookup(c, a->embedding[i].slot, NULL, NULL);
        }
    }
}

/* Loss and backward with gradients of weights. */
static void walk(calibration *c, const esp_pass_scratch *scratch)
{
    if (c->pass.stage.last) {
        walk_loss(c, scratch->loss);
    }
    walk_layers(c, scratch->blocks);
    if (c->pass.stage.first) {
        walk_embedding(c, scratch->embedding);
    }
    finish_embedding(c);
}

/* The pass and what the pipeline stages send each other. */
static void add_pass(esp_importance_work *w, const calibration *c, esp_text_size all,
                     esp_text_size own)
{
    double chunks = ceil((double)own.tokens / (double)c->pass.options.chunk_tok);
    double n_tok = (double)all.tokens;
    esp_pass_way way = c->backward ? ESP_PASS_BACKWARD : ESP_PASS_FORWARD;

    w->work = esp_pass_work(c->model, c->grid, own, c->grid->n_pipeline > 1 ? chunks : 1, way,
                            c->pass.options.kept_layers);
    if (!c->backward && c->pass.stage.last) { /* no head */
        w->work.products -=
            2 * (double)own.tokens * (double)c->model->dims.hidden * (double)c->model->dims.vocab;
    }
    w->work.chunks = chunks;
    w->activations = esp_pass_sent(c->model, c->grid, n_tok, way);
    if (c->hidden && is_head_elsewhere(c)) { /* send_lookup */
        w->activations += n_tok * (double)c->model->dims.hidden * sizeof(float);
    }
}

void esp_calibrate_sizes(esp_importance_work *w, esp_saliency_sums *sums, const esp_model *m,
                         esp_text_size all, esp_text_size own, const esp_importance_options *o,
                         const esp_grid *grid)
{
    calibration c;
    esp_pass_scratch scratch;

    calibration_init_sizes(&c, w, m, all, own, o, sums, grid);
    scratch = esp_pass_scratch_bytes(m, c.pass.options);
    w->held += c.backward ? esp_calloc_bytes(own.samples, sizeof(esp_loss)) : 0;
    add_pass(w, &c, all, own);
    esp_importance_pass_by(w, scratch.blocks); /* of the forward */
    if (c.elements) {
        walk(&c, &scratch);
    } else {
        esp_importance_pass_by(w, esp_max(scratch.loss, scratch.embedding));
    }
    calibration_free(&c);
}
