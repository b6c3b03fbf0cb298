/* importance.c - from a model and calibration samples to scores. */
#include "espalier/importance.h"

#include <math.h>
#include <stdlib.h>

#include "calibration_impl.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"
#include "weight_importance_impl.h"
#include "scores_impl.h"

/* ---- before the work ------------------------------------------------------------------------------ */

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

/* ---- with samples --------------------------------------------------------------------------------- */

/* What an estimate is about. */
typedef struct estimate {
    const esp_model *model;
    const esp_groups *groups;
    const esp_samples *samples;
    const esp_importance_options *options;
    const esp_grid *grid;
} estimate;

/* What scores are made of. */
typedef struct all_sums {
    esp_sample_sums samples;
    esp_saliency_sums of_moments; /* by criteria of weights and of what the samples gave */
} all_sums;

static void all_sums_init(all_sums *sums, const estimate *e)
{
    unsigned units = e->options->units, criteria = e->options->criteria;
    unsigned with_moments = esp_criteria_of_moments(criteria);

    esp_saliency_sums_init(&sums->samples.elements, e->model, e->groups, units,
                           criteria & ~with_moments);
    esp_gate_sums_init(&sums->samples.gates, e->model, e->groups, units, criteria, NULL);
    esp_value_sums_init(&sums->samples.values, e->model, e->groups, units, criteria, NULL);
    esp_saliency_sums_init(&sums->of_moments, e->model, e->groups, units, with_moments);
}

static void all_sums_free(all_sums *sums)
{
    esp_saliency_sums_free(&sums->samples.elements);
    esp_gate_sums_free(&sums->samples.gates);
    esp_value_sums_free(&sums->samples.values);
    esp_saliency_sums_free(&sums->of_moments);
}

/* Where a sum over samples is not finite, the weight that a backward meets first. */
static bool is_broken(size_t *layer, int *slot, const all_sums *sums, const estimate *e)
{
    const esp_sample_sums *s = &sums->samples;

    return esp_saliency_sums_broken(layer, slot, &s->elements, e->model) ||
           esp_gate_sums_broken(layer, slot, &s->gates) ||
           esp_value_sums_broken(layer, slot, &s->values);
}

/* Fresh sums, and losses, over the first n samples; as esp_calibrate. Collective. */
static esp_status calibrate(all_sums *sums, double *loss, double *flops, const estimate *e,
                            size_t n)
{
    esp_samples first = *e->samples;

    first.n = n;
    all_sums_init(sums, e);
    return esp_calibrate(&sums->samples, loss, flops, e->model, &first, e->options, e->grid);
}

/* Names the first sample whose gradient is not finite, and the weight that the backward met first, where
 * the sums over all samples are broken. A sample's gradient does not depend on the others: sums over the
 * first few are finite up to that sample. Only failures pay for it. Collective. */
static esp_status refuse_gradient(all_sums *sums, double *loss, const estimate *e)
{
    size_t good = 0, bad = e->samples->n, layer;
    double flops;
    char *name;
    int slot;

    while (bad - good > 1) {
        size_t half = good + (bad - good) / 2;
        all_sums some;

        calibrate(&some, loss, &flops, e, half);
        if (is_broken(&layer, &slot, &some, e)) {
            bad = half;
            all_sums_free(sums);
            *sums = some;
        } else {
            good = half;
            all_sums_free(&some);
        }
    }
    is_broken(&layer, &slot, sums, e);
    name = esp_model_tensor_name(e->model, layer, slot);
    esp_fail(ESP_EFORMAT,
             "calibration: sample %zu of %zu: the %s of %s is not finite: weights are too "
             "large for f32 or broken; get the model anew, or leave that text out",
             bad - 1, e->samples->n,
             esp_criteria_need(e->options->criteria, ESP_NEEDS_BACKWARD) ? "gradient" : "input",
             name);
    free(name);
    return ESP_EFORMAT;
}

static esp_status sum_with_samples(all_sums *sums, esp_scores *s, const estimate *e)
{
    size_t n = e->samples->n;
    size_t layer;
    double *loss;
    int slot;
    esp_status st;

    ESP_NEW(loss, n);
    st = calibrate(sums, loss, &s->flops, e, n);
    s->loss = 0;
    for (size_t j = 0; j < n; j++) { /* in their order, whatever rank has each */
        s->loss += loss[j];
    }
    s->loss /= (double)n;
    if (st == ESP_OK && is_broken(&layer, &slot, sums, e)) {
        st = refuse_gradient(sums, loss, e);
    }
    free(loss);
    return st;
}

/* ---- without ---------------------------------------------------------------------------------------- */

typedef struct own_weights {
    esp_weight_importance importance;
    esp_pipeline_stage stage;
    const esp_arch *arch;
    const esp_value_sums *values; /* for moments; NULL: no criterion needs them */
} own_weights;

/* Weights outside the blocks count as the first stage's. */
static void take_weight(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    own_weights *own = ctx;
    const esp_pipeline_stage *s = &own->stage;

    if (layer == ESP_NO_LAYER ? !s->first : layer < s->begin || layer >= s->end) {
        return;
    }
    if (own->arch->slots[slot].cols == ESP_W_ONE) {
        esp_weight_importance_add_norm(&own->importance, layer, slot, w, NULL, NULL);
    } else {
        own->importance.moments =
            own->values ? esp_value_sums_moments(own->values, layer, slot) : (esp_moments){ 0 };
        esp_weight_importance_add(&own->importance, layer, slot, w, &(esp_weight_gradient){ 0 });
    }
}

/* Sums of saliency for criteria that need the weights only, or moments beside them (else NULL). ESP_EFORMAT
 * for sums that are not finite. Collective on grid->world. */
static esp_status sum_without_gradients(esp_saliency_sums *sums, const esp_value_sums *values,
                                        const esp_model *m, const esp_grid *grid)
{
    own_weights own = { .stage = esp_pipeline_stage_of(m, grid),
                        .arch = m->arch,
                        .values = values };
    size_t layer;
    char *name;
    int slot;

    esp_weight_importance_init(&own.importance, sums, m, NULL, NULL, 0, false, grid);
    esp_model_visit(m, take_weight, &own);
    esp_weight_importance_free(&own.importance);
    esp_saliency_sums_reduce(sums, grid->world);
    if (!esp_saliency_sums_broken(&layer, &slot, sums, m)) {
        return ESP_OK;
    }
    name = esp_model_tensor_name(m, layer, slot);
    esp_fail(ESP_EFORMAT, "importance of %s is not finite, as its weights are not", name);
    free(name);
    return ESP_EFORMAT;
}

/* ---- both --------------------------------------------------------------------------------------------- */

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

/* Criteria need the weights, and none of these their gradients. */
static bool are_weights_alone(unsigned criteria)
{
    return esp_criteria_need(criteria & ~esp_criteria_of_moments(criteria), ESP_NEEDS_WEIGHTS) &&
           !esp_criteria_need(criteria, ESP_NEEDS_GRADIENT);
}

/* Sums by the criteria that need any. Collective. */
static esp_status sum_up(all_sums *sums, esp_scores *s, const estimate *e)
{
    unsigned criteria = e->options->criteria;
    const esp_value_sums *values = &sums->samples.values;

    if (esp_criteria_need(criteria, ESP_NEEDS_SAMPLES)) {
        ESP_TRY(sum_with_samples(sums, s, e));
    } else {
        all_sums_init(sums, e);
    }
    if (are_weights_alone(criteria)) {
        ESP_TRY(sum_without_gradients(&sums->samples.elements, NULL, e->model, e->grid));
    }
    return esp_criteria_of_moments(criteria)
               ? sum_without_gradients(&sums->of_moments, values, e->model, e->grid)
               : ESP_OK;
}

esp_status esp_importance_estimate(esp_scores *s, const esp_model *m, const esp_groups *g,
                                   const esp_samples *samples, const esp_importance_options *o,
                                   const esp_grid *grid)
{
    const estimate e = { m, g, samples, o, grid };
    bool takes = esp_criteria_need(o->criteria, ESP_NEEDS_SAMPLES);
    all_sums sums = { 0 };
    esp_status st;

    ESP_TRY(esp_agree(grid->world, takes ? check_samples(samples) : ESP_OK));
    esp_scores_init(s, g, o->criteria, o->aggregations, o->units);
    s->arch = m->arch;
    s->loss = NAN;
    if (samples && samples->n) {
        s->n_samples = samples->n;
        s->n_tok = samples->start[samples->n];
        s->sequence = esp_samples_longest(samples);
    }
    st = sum_up(&sums, s, &e);
    if (st == ESP_OK) {
        esp_scores_fill(s, &sums.samples.elements);
        esp_scores_fill(s, &sums.of_moments);
        esp_scores_fill_gates(s, &sums.samples.gates, o->fisher_sum);
        fill_random(s, o->seed);
        st = esp_scores_check(s);
    }
    all_sums_free(&sums);
    if (st != ESP_OK) {
        esp_scores_free(s);
    }
    return st;
}

/* What the weights alone take, once the pass has gone. */
static void add_weights_alone(esp_importance_work *w, const esp_model *m, esp_saliency_sums *sums,
                              const esp_grid *grid)
{
    esp_weight_importance p;
    size_t before = w->held;

    esp_weight_importance_init_sizes(&p, w, sums, m, (esp_text_size){ 0 }, (esp_text_size){ 0 },
                                     grid);
    esp_importance_release(w, w->held - before);
}

void esp_importance_work_of(esp_importance_work *w, const esp_model *m, const esp_groups *g,
                            const esp_importance_options *o, esp_text_size all, esp_text_size own,
                            const esp_grid *grid)
{
    unsigned of_moments = esp_criteria_of_moments(o->criteria);
    esp_saliency_sums sums, with_moments;
    esp_gate_sums gates;
    esp_value_sums values;
    size_t held;

    *w = (esp_importance_work){ 0 };
    esp_saliency_sums_init_sizes(&sums, m, g, o->units, o->criteria & ~of_moments);
    esp_saliency_sums_init_sizes(&with_moments, m, g, o->units, of_moments);
    esp_gate_sums_init(&gates, m, g, o->units, o->criteria, &w->held);
    esp_value_sums_init(&values, m, g, o->units, o->criteria, &w->held);
    w->n_sums = sums.n + with_moments.n + gates.n + values.n;
    w->held += esp_scores_bytes(g, o->criteria, o->aggregations, o->units) +
               esp_saliency_sums_bytes(&sums, m) + esp_saliency_sums_bytes(&with_moments, m);
    w->sums =
        esp_moved_bytes(ESP_COST_ALLREDUCE, (double)(w->n_sums * sizeof *sums.all), grid->size);
    held = w->held;
    if (esp_criteria_need(o->criteria, ESP_NEEDS_SAMPLES)) {
        w->held += esp_calloc_bytes(all.samples, sizeof(double)); /* losses */
        esp_calibrate_sizes(w, &sums, m, all, own, o, grid);
        esp_importance_release(w, w->held - held);
    }
    if (are_weights_alone(o->criteria)) {
        add_weights_alone(w, m, &sums, grid);
    }
    if (of_moments) {
        add_weights_alone(w, m, &with_moments, grid);
    }
    esp_importance_release(w, 0);
    esp_saliency_sums_free(&sums);
    esp_saliency_sums_free(&with_moments);
    esp_value_sums_free(&values);
}
