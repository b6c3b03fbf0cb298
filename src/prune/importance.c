/* importance.c - one pass over the calibration samples, whose gradients become scores. */
#include "espalier/importance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"
#include "kept_impl.h"
#include "scores_impl.h"

/* Tokens of a chunk: what one more would save is small, what it takes is not. */
#define CHUNK_TOKENS ((size_t)1024)

/* Chunks for each stage of a grid, so that most have one under way. */
#define CHUNKS_A_STAGE ((size_t)2)

#define LOOKUP_TAG 2 /* beside those of the pass */

/* The pass of this rank. A rank without samples goes through the first one with weight 0, so that all
 * ranks meet the same weights in the same order; its panels take no samples. */
typedef struct calibration {
    const esp_model *model;
    const esp_grid *grid;
    esp_pass pass;
    esp_batch batch;
    size_t n_own;  /* samples that count                                          */
    float *scale;  /* [batch.n_samples] owned: makes a gradient that of a mean    */
    bool hidden;   /* weights outside the blocks are in a unit asked for          */
    size_t n_head; /* tokens whose gradients the head has given                   */
    float *radial; /* [batch.n_samples, V] owned: see esp_sink; NULL: no normalised head */
    size_t n_done; /* blocks */
    esp_panels panels;
    esp_kept kept;
} calibration;

size_t esp_importance_chunk(size_t n_tok, size_t longest, const esp_grid *grid)
{
    size_t chunks = esp_pass_chunks(grid, CHUNKS_A_STAGE);
    size_t chunk = (n_tok + chunks - 1) / chunks;

    chunk = chunk < CHUNK_TOKENS ? chunk : CHUNK_TOKENS;
    return chunk > longest ? chunk : longest;
}

/* This rank's samples, cut into chunks. */
static void take_samples(calibration *c, const esp_samples *samples,
                         const esp_importance_options *o)
{
    size_t step = (size_t)c->grid->n_data, n_tok = 0, n, longest = 0, *pick;

    ESP_NEW(pick, samples->n / step + 1); /* pick[0] is sample 0 where there is no own one */
    for (size_t j = (size_t)c->grid->i_data; j < samples->n; j += step) {
        pick[c->n_own++] = j;
    }
    n = c->n_own ? c->n_own : 1;
    for (size_t i = 0; i < n; i++) {
        size_t length = samples->start[pick[i] + 1] - samples->start[pick[i]];

        n_tok += length;
        longest = length > longest ? length : longest;
    }
    esp_model_batch_init(&c->batch, c->model, n, n_tok);
    c->batch.chunk_tok =
        o->chunk_tok ? o->chunk_tok : esp_importance_chunk(n_tok, longest, c->grid);
    c->batch.chunk_tok = c->batch.chunk_tok > longest ? c->batch.chunk_tok : longest;
    esp_batch_fill(&c->batch, samples, pick, n);
    ESP_NEW(c->scale, n);
    for (size_t i = 0; i < c->n_own; i++) {
        c->scale[i] = 1.0f / (float)esp_samples_targets(samples, pick[i]);
    }
    free(pick);
}

static void calibration_init(calibration *c, const esp_model *m, const esp_samples *samples,
                             const esp_importance_options *o, esp_sums *sums, const esp_grid *grid)
{
    esp_pass_options options = { .backward = true, .grid = grid, .scratch = o->scratch };

    *c = (calibration){ .model = m, .grid = grid, .hidden = o->units & 1u << ESP_UNIT_HIDDEN };
    take_samples(c, samples, o);
    options.max_samples = c->batch.n_samples;
    options.max_tok = c->batch.n_tok;
    options.chunk_tok = c->batch.chunk_tok < options.max_tok ? c->batch.chunk_tok : options.max_tok;
    esp_pass_init(&c->pass, m, options);
    if (c->hidden && m->normal_head) {
        ESP_NEW(c->radial, c->batch.n_samples * m->dims.vocab);
    }
    esp_panels_init(&c->panels, sums, m, samples, c->batch.start, c->n_own, o->fisher_sum, grid);
    esp_kept_init(&c->kept, &c->panels, &c->pass, &c->batch);
}

static void calibration_free(calibration *c)
{
    esp_kept_free(&c->kept);
    esp_panels_free(&c->panels);
    esp_pass_free(&c->pass);
    esp_batch_free(&c->batch);
    free(c->scale);
    free(c->radial);
}

/* ---- what backward hands over ---------------------------------------------------------------------- */

/* The slot that has the numbers of the head. */
static int head_slot(const calibration *c)
{
    return c->model->tied ? ESP_SLOT_EMBED : ESP_SLOT_HEAD;
}

static void take_linear(void *ctx, size_t layer, int slot, const float *dy, const float *x,
                        size_t n_tok)
{
    calibration *c = ctx;

    if (slot == ESP_SLOT_HEAD) {
        slot = head_slot(c);
        c->n_head += n_tok;
    }
    esp_kept_linear(&c->kept, layer, slot, dy, x, n_tok);
}

/* Sums it over the tokens of each sample; they are those of take_linear just before. */
static void take_radial(void *ctx, const float *radial, size_t n_tok)
{
    calibration *c = ctx;
    size_t V = c->model->dims.vocab, first = c->n_head - n_tok, j = 0;

    for (size_t t = 0; c->radial && t < n_tok; t++) {
        while (c->batch.start[j + 1] <= first + t) {
            j++;
        }
        esp_accumulate(c->radial + j * V, radial + t * V, V);
    }
}

static void take_norm(void *ctx, size_t layer, int slot, const float *dw, const float *db,
                      size_t n_samples)
{
    calibration *c = ctx;

    esp_kept_norm(&c->kept, layer, slot, dw, db, n_samples);
}

/* A weight outside the blocks, from the product that was kept, where it had one, and from rows of it looked
 * up, dx [n_tok, D] (NULL: none). Collective on the grid's data, of the stage that calls it. */
static void add_outer(calibration *c, int slot, const int32_t *row, const float *dx)
{
    esp_gradient gradient = esp_kept_gradient(&c->kept, ESP_NO_LAYER, slot);

    esp_gather_forget(&c->panels.gather);
    gradient.radial = slot == head_slot(c) ? c->radial : NULL;
    gradient.ids = row;
    gradient.dx = dx;
    esp_panels_add(&c->panels, ESP_NO_LAYER, slot, esp_model_weight(c->model, ESP_NO_LAYER, slot),
                   &gradient);
    esp_kept_forget(&c->kept, ESP_NO_LAYER, slot);
}

/* Whether the embedding is the head too, which another stage has: the last one, with the gradient of the
 * logits, adds up both. */
static bool is_head_elsewhere(const calibration *c)
{
    return c->model->tied && c->grid->n_layers > 1;
}

/* Tables, at the end of the first stage's backward. */
static void take_lookup(void *ctx, int slot, const int32_t *row, const float *dx)
{
    calibration *c = ctx;
    int n = esp_count(c->batch.n_tok * c->model->dims.hidden);

    if (slot == ESP_SLOT_EMBED && is_head_elsewhere(c)) {
        esp_sent(ESP_SENT_ACTIVATIONS, ESP_MOVES_TO_ONE, (size_t)n * sizeof *dx, c->grid->layers);
        ESP_MPI(MPI_Send(dx, n, MPI_FLOAT, c->grid->n_layers - 1, LOOKUP_TAG, c->grid->layers));
    } else {
        add_outer(c, slot, row, dx);
    }
}

/* The last stage's part of a tied embedding. */
static void receive_lookup(calibration *c)
{
    size_t n = c->batch.n_tok * c->model->dims.hidden;
    float *dx;

    if (!c->hidden || !is_head_elsewhere(c) || !c->pass.stage.last) {
        return;
    }
    ESP_NEW(dx, n);
    ESP_MPI(
        MPI_Recv(dx, esp_count(n), MPI_FLOAT, 0, LOOKUP_TAG, c->grid->layers, MPI_STATUS_IGNORE));
    add_outer(c, ESP_SLOT_EMBED, c->batch.ids, dx);
    free(dx);
}

static void take_done(void *ctx, size_t layer)
{
    calibration *c = ctx;

    esp_gather_forget(&c->panels.gather);
    if (layer != ESP_NO_LAYER) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)c->model->arch->n_slots; slot++) {
            esp_kept_flush(&c->kept, layer, slot);
        }
    } else {
        esp_kept_flush(&c->kept, layer, ESP_SLOT_FINAL_NORM);
        if (!c->model->tied) {
            add_outer(c, ESP_SLOT_HEAD, NULL, NULL);
        }
    }
    esp_progress("importance", ++c->n_done, c->pass.stage.end - c->pass.stage.begin + 1);
}

/* Loss of sample j of all, summed in the order of the samples whatever rank has each. Collective. */
static double mean_loss(const esp_loss *own, const calibration *c, size_t n, const esp_grid *grid)
{
    double *loss, sum = 0;

    ESP_NEW(loss, n);
    for (size_t i = 0; c->pass.stage.last && i < c->n_own; i++) {
        loss[c->batch.key[i]] = own[i].sum / (double)own[i].count;
    }
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, loss, esp_count(n), MPI_DOUBLE, MPI_SUM, grid->world));
    for (size_t j = 0; j < n; j++) {
        sum += loss[j];
    }
    free(loss);
    return sum / (double)n;
}

/* Sums of salience by forward and backward over the samples, of this rank's layers. Collective on
 * grid->world. */
static void sum_with_gradients(esp_sums *sums, esp_scores *s, const esp_model *m,
                               const esp_samples *samples, const esp_importance_options *o,
                               const esp_grid *grid)
{
    calibration c;
    esp_sink sink, of_loss;
    esp_loss *loss;

    calibration_init(&c, m, samples, o, sums, grid);
    sink = (esp_sink){ .ctx = &c,
                       .linear = take_linear,
                       .radial = take_radial,
                       .norm = take_norm,
                       .lookup = c.hidden ? take_lookup : NULL,
                       .done = take_done };
    of_loss = sink;
    of_loss.linear = c.hidden ? take_linear : NULL;
    ESP_NEW(loss, c.batch.n_samples);
    esp_pass_forward(&c.pass, NULL, &c.batch);
    esp_pass_loss(&c.pass, loss, c.scale, &of_loss, &c.batch);
    esp_pass_backward(&c.pass, &sink, &c.batch);
    receive_lookup(&c);
    if (c.pass.stage.first) {
        esp_kept_flush(&c.kept, ESP_NO_LAYER, ESP_SLOT_STEM_NORM);
    }
    s->loss = mean_loss(loss, &c, samples->n, grid);
    s->flops = c.n_own ? c.pass.flops : 0;
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &s->flops, 1, MPI_DOUBLE, MPI_SUM, grid->world));
    free(loss);
    calibration_free(&c);
}

typedef struct own_weights {
    esp_panels panels;
    esp_stage_layers stage;
} own_weights;

/* Weights outside the blocks count as the first stage's. */
static void take_weight(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    own_weights *own = ctx;
    const esp_stage_layers *s = &own->stage;

    if (layer == ESP_NO_LAYER ? !s->first : layer < s->begin || layer >= s->end) {
        return;
    }
    if (w->cols == 1) {
        esp_panels_add_norm(&own->panels, layer, slot, w, NULL, NULL);
    } else {
        esp_panels_add(&own->panels, layer, slot, w, &(esp_gradient){ 0 });
    }
}

/* The same for criteria that need the weights only. Collective on grid->data. */
static void sum_without_gradients(esp_sums *sums, const esp_model *m, const esp_grid *grid)
{
    own_weights own = { .stage = esp_pass_layers(m, grid) };

    esp_panels_init(&own.panels, sums, m, NULL, NULL, 0, false, grid);
    esp_model_visit(m, take_weight, &own);
    esp_panels_free(&own.panels);
}

static void fill_random(esp_scores *s, uint64_t seed)
{
    for (size_t u = 0; u < s->groups->n_units; u++) {
        const esp_unit *unit = &s->groups->units[u];

        for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS; a++) {
            double *score = *esp_scores_place(s, unit, ESP_RANDOM, a);

            for (size_t g = 0; score && g < unit->n_groups; g++) {
                score[g] = esp_score_random(seed, unit, g);
            }
        }
    }
}

static esp_status check_samples(const esp_samples *samples)
{
    if (!samples || samples->n == 0) {
        return esp_fail(ESP_EUSAGE, "calibration: there are no samples; gradients need some");
    }
    for (size_t j = 0; j < samples->n; j++) {
        if (esp_samples_targets(samples, j) == 0) {
            return esp_fail(ESP_EUSAGE,
                            "calibration: sample %zu of %zu predicts nothing: it needs two tokens "
                            "or more",
                            j, samples->n);
        }
    }
    return ESP_OK;
}

/* Packed rows go from rank to rank as they are. Collective on grid->world, the same on all ranks. */
static esp_status check_builds(const esp_grid *grid)
{
    int widths[4] = { esp_count(esp_packed_width(ESP_FACTOR_DY, 1)),
                      esp_count(esp_packed_width(ESP_FACTOR_X, 1)) };

    widths[2] = -widths[0];
    widths[3] = -widths[1];
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, widths, 4, MPI_INT, MPI_MAX, grid->world));
    if (widths[0] == -widths[2] && widths[1] == -widths[3]) {
        return ESP_OK;
    }
    return esp_fail(ESP_EUSAGE, "score: ranks run programs compiled for different processors; run "
                                "one build on all nodes (make ARCH=...)");
}

esp_status esp_importance_estimate(esp_scores *s, const esp_model *m, const esp_groups *g,
                                   const esp_samples *samples, const esp_importance_options *o,
                                   const esp_grid *grid)
{
    bool gradients = (o->criteria & ESP_NEEDS_GRADIENT) != 0;
    esp_sums sums;

    ESP_TRY(esp_agree(grid->world, gradients ? check_samples(samples) : ESP_OK));
    ESP_TRY(gradients ? check_builds(grid) : ESP_OK);
    esp_scores_init(s, g, o->criteria, o->aggregations, o->units);
    s->arch = m->arch;
    s->loss = NAN;
    if (samples && samples->n) {
        s->n_samples = samples->n;
        s->n_tok = samples->start[samples->n];
        s->sequence = esp_samples_longest(samples);
    }
    esp_sums_init(&sums, m, g, o->units, o->criteria);
    if (gradients) {
        sum_with_gradients(&sums, s, m, samples, o, grid);
    } else if (o->criteria & ESP_NEEDS_WEIGHTS) {
        sum_without_gradients(&sums, m, grid);
    }
    esp_sums_reduce(&sums, grid->world);
    esp_scores_fill(s, &sums);
    fill_random(s, o->seed);
    esp_sums_free(&sums);
    return ESP_OK;
}
