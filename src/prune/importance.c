/* importance.c - one pass over the calibration samples, whose gradients become scores. */
#include "espalier/importance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "panels_impl.h"
#include "scores_impl.h"

/* The pass of this rank. A rank without samples goes through the first one with weight 0, so that all
 * ranks meet the same weights in the same order; its panels take no samples. */
typedef struct calibration {
    const esp_model *model;
    esp_pass pass;
    esp_batch batch;
    size_t n_own;    /* samples that count                                          */
    float *scale;    /* [batch.n_samples] owned: makes a gradient that of a mean    */
    float *d_logits; /* [n_tok, V] owned; NULL where the head is in no unit asked for */
    size_t n_logits; /* rows of it that are set */
    float *radial;   /* [batch.n_samples, V] owned: see esp_sink; NULL likewise or without it */
    size_t n_done;   /* blocks */
    esp_panels panels;
} calibration;

static void calibration_init(calibration *c, const esp_model *m, const esp_samples *samples,
                             const esp_importance_options *o, esp_sums *sums, const esp_grid *grid)
{
    size_t step = (size_t)grid->n_data, n_tok = 0, n = 0, *pick;

    *c = (calibration){ .model = m };
    ESP_NEW(pick, samples->n / step + 1); /* pick[0] is sample 0 where there is no own one */
    for (size_t j = (size_t)grid->i_data; j < samples->n; j += step) {
        pick[c->n_own++] = j;
    }
    n = c->n_own ? c->n_own : 1;
    for (size_t i = 0; i < n; i++) {
        n_tok += samples->start[pick[i] + 1] - samples->start[pick[i]];
    }
    esp_model_batch_init(&c->batch, m, n, n_tok);
    esp_batch_fill(&c->batch, samples, pick, n, 1);
    ESP_NEW(c->scale, n);
    for (size_t i = 0; i < c->n_own; i++) {
        c->scale[i] = 1.0f / (float)esp_samples_targets(samples, pick[i]);
    }
    if (o->units & 1u << ESP_UNIT_HIDDEN) {
        ESP_NEW(c->d_logits, n_tok * m->dims.vocab);
    }
    if (c->d_logits && m->normal_head) {
        ESP_NEW(c->radial, n * m->dims.vocab);
    }
    esp_pass_init(&c->pass, m,
                  (esp_pass_options){ .max_samples = n, .max_tok = n_tok, .backward = true });
    esp_panels_init(&c->panels, sums, m, c->batch.start, c->n_own, samples->n, o->fisher_sum, grid);
    free(pick);
}

static void calibration_free(calibration *c)
{
    esp_panels_free(&c->panels);
    esp_pass_free(&c->pass);
    esp_batch_free(&c->batch);
    free(c->scale);
    free(c->d_logits);
    free(c->radial);
}

/* ---- what backward hands over ---------------------------------------------------------------------- */

static void take_logits(void *ctx, size_t layer, int slot, const float *dy, const float *x,
                        size_t n_tok)
{
    calibration *c = ctx;
    size_t V = c->model->dims.vocab;

    (void)layer, (void)slot, (void)x; /* the head, whose input stays in the pass */
    memcpy(c->d_logits + c->n_logits * V, dy, n_tok * V * sizeof *dy);
    c->n_logits += n_tok;
}

/* Sums it over the tokens of each sample; they are those of take_logits just before. */
static void take_radial(void *ctx, const float *radial, size_t n_tok)
{
    calibration *c = ctx;
    size_t V = c->model->dims.vocab, first = c->n_logits - n_tok, j = 0;

    for (size_t t = 0; t < n_tok; t++) {
        while (c->batch.start[j + 1] <= first + t) {
            j++;
        }
        esp_accumulate(c->radial + j * V, radial + t * V, V);
    }
}

static void take_linear(void *ctx, size_t layer, int slot, const float *dy, const float *x,
                        size_t n_tok)
{
    calibration *c = ctx;

    (void)n_tok;
    esp_panels_add(&c->panels, layer, slot, esp_model_weight(c->model, layer, slot),
                   &(esp_gradient){ .dy = dy, .x = x });
}

static void take_norm(void *ctx, size_t layer, int slot, const float *dw, const float *db)
{
    calibration *c = ctx;

    esp_panels_add_norm(&c->panels, layer, slot, esp_model_weight(c->model, layer, slot), dw, db);
}

/* The last that backward has: tables, of which the embedding may be the same weight as the head. */
static void take_lookup(void *ctx, int slot, const int32_t *row, const float *dx)
{
    calibration *c = ctx;
    const esp_weight *w = esp_model_weight(c->model, ESP_NO_LAYER, slot);
    const esp_weight *head = esp_model_weight(c->model, ESP_NO_LAYER, ESP_SLOT_HEAD);
    esp_gradient product = { .dy = c->d_logits, .x = c->pass.hidden, .radial = c->radial };
    esp_gradient looked_up = { .ids = row, .dx = dx };

    if (slot != ESP_SLOT_EMBED) {
        esp_panels_add(&c->panels, ESP_NO_LAYER, slot, w, &looked_up);
        return;
    }
    if (c->model->tied) {
        looked_up.dy = product.dy;
        looked_up.x = product.x;
        looked_up.radial = product.radial;
    } else {
        esp_panels_add(&c->panels, ESP_NO_LAYER, ESP_SLOT_HEAD, head, &product);
    }
    esp_panels_add(&c->panels, ESP_NO_LAYER, ESP_SLOT_EMBED, w, &looked_up);
}

static void take_done(void *ctx, size_t layer)
{
    calibration *c = ctx;

    (void)layer;
    esp_progress("importance", ++c->n_done, c->model->dims.n_layers + 1);
}

/* Loss of sample j of all, summed in the order of the samples whatever rank has each. Collective. */
static double mean_loss(const esp_loss *own, const calibration *c, size_t n, const esp_grid *grid)
{
    double *loss, sum = 0;

    ESP_NEW(loss, n);
    for (size_t i = 0; i < c->n_own; i++) {
        loss[c->batch.key[i]] = own[i].sum / (double)own[i].count;
    }
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, loss, esp_count(n), MPI_DOUBLE, MPI_SUM, grid->data));
    for (size_t j = 0; j < n; j++) {
        sum += loss[j];
    }
    free(loss);
    return sum / (double)n;
}

/* Sums of salience by forward and backward over the samples. Collective on grid->data. */
static void sum_with_gradients(esp_sums *sums, esp_scores *s, const esp_model *m,
                               const esp_samples *samples, const esp_importance_options *o,
                               const esp_grid *grid)
{
    calibration c;
    esp_loss *loss;

    calibration_init(&c, m, samples, o, sums, grid);
    ESP_NEW(loss, c.batch.n_samples);
    esp_pass_forward(&c.pass, NULL, &c.batch);
    esp_pass_loss(&c.pass, loss, c.scale,
                  &(esp_sink){ .ctx = &c,
                               .linear = c.d_logits ? take_logits : NULL,
                               .radial = take_radial,
                               .norm = take_norm,
                               .done = take_done },
                  &c.batch);
    esp_pass_backward(&c.pass,
                      &(esp_sink){ .ctx = &c,
                                   .linear = take_linear,
                                   .norm = take_norm,
                                   .lookup = c.d_logits ? take_lookup : NULL,
                                   .done = take_done },
                      &c.batch);
    s->loss = mean_loss(loss, &c, samples->n, grid);
    s->flops = c.n_own ? c.pass.flops : 0;
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &s->flops, 1, MPI_DOUBLE, MPI_SUM, grid->data));
    free(loss);
    calibration_free(&c);
}

static void take_weight(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    esp_panels *p = ctx;

    if (w->cols == 1) {
        esp_panels_add_norm(p, layer, slot, w, NULL, NULL);
    } else {
        esp_panels_add(p, layer, slot, w, &(esp_gradient){ 0 });
    }
}

/* The same for criteria that need the weights only. Collective on grid->data. */
static void sum_without_gradients(esp_sums *sums, const esp_model *m, const esp_grid *grid)
{
    esp_panels p;

    esp_panels_init(&p, sums, m, NULL, 0, 0, false, grid);
    esp_model_visit(m, take_weight, &p);
    esp_panels_free(&p);
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

esp_status esp_importance_estimate(esp_scores *s, const esp_model *m, const esp_groups *g,
                                   const esp_samples *samples, const esp_importance_options *o,
                                   const esp_grid *grid)
{
    bool gradients = (o->criteria & ESP_NEEDS_GRADIENT) != 0;
    esp_sums sums;

    ESP_TRY(esp_agree(grid->world, gradients ? check_samples(samples) : ESP_OK));
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
    esp_sums_reduce(&sums, grid->data);
    esp_scores_fill(s, &sums);
    fill_random(s, o->seed);
    esp_sums_free(&sums);
    return ESP_OK;
}
