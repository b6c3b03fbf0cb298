/* near_ties.c - groups that would trade places if their scores were as wrong as bf16 may make them
 * (docs/method.md, eq. 21-22). */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "aggregations_impl.h"
#include "criteria_impl.h"
#include "near_ties_impl.h"

#define SWITCHES 8 /* rounding may switch a neuron of a ReLU on or off, which is much more */

/* The candidates between which a cut runs, by their scores at the end of their errors. */
typedef struct border {
    double highest, lowest; /* of those that go, of those that stay */
} border;

typedef struct near {
    const esp_candidates *pools;
    const size_t *n_cut;
    const esp_plan_options *o;
    esp_score_error error;
} near;

static double mean_score(const esp_unit_candidates *p)
{
    double sum = 0;

    for (size_t i = 0; i < p->n; i++) {
        sum += p->c[i].score;
    }
    return sum / (double)p->n;
}

/* How far a score of the pool may be off. */
static double error_of(const near *n, const esp_unit_candidates *p, double mean, size_t i)
{
    return n->error.relative * (n->error.of_mean ? mean : p->c[i].score);
}

/* The last candidate that goes in the same step as i: kept ones are a multiple of the bundle. */
static size_t last_of_step(const esp_unit_candidates *p, size_t i)
{
    return p->n - (p->n - 1 - i) / p->bundle * p->bundle - 1;
}

/* over_all: the ranking goes over all pools, by steps; candidates that must stay take no part. */
static void widen(border *b, const near *n, size_t pool, bool over_all)
{
    const esp_unit_candidates *p = &n->pools->pools[pool];
    size_t most = over_all ? p->n - esp_unit_min_kept(p, n->o) : p->n;
    double mean = mean_score(p);

    for (size_t i = 0; i < most; i++) {
        size_t by = over_all ? last_of_step(p, i) : i;
        double score = p->c[by].score, error = error_of(n, p, mean, by);

        if (i < n->n_cut[pool]) {
            b->highest = fmax(b->highest, score + error);
        } else {
            b->lowest = fmin(b->lowest, score - error);
        }
    }
}

static bool crosses(const border *b, const near *n, size_t pool, double mean, size_t by, bool goes)
{
    const esp_unit_candidates *p = &n->pools->pools[pool];
    double error = error_of(n, p, mean, by);

    return goes ? p->c[by].score + error >= b->lowest : p->c[by].score - error <= b->highest;
}

static void list(esp_plan *plan, const near *n, size_t pool, const border *all)
{
    const esp_unit_candidates *p = &n->pools->pools[pool];
    border own = { -DBL_MAX, DBL_MAX };
    double mean = mean_score(p);

    widen(&own, n, pool, false);
    for (size_t i = 0; i < p->n; i++) {
        bool goes = i < n->n_cut[pool];

        if (crosses(&own, n, pool, mean, i, goes) ||
            (n->o->global && crosses(all, n, pool, mean, last_of_step(p, i), goes))) {
            plan->near = esp_grow(plan->near, plan->n_near + 1, sizeof *plan->near);
            plan->near[plan->n_near++] = (esp_near_tie){ p->kind, p->layer, p->c[i].index, !goes };
        }
    }
}

/* Of a score in eq. 21; one that is not put together of structures is the same by every aggregation. */
static esp_score_error error_by(const esp_model *m, const esp_plan_options *o)
{
    const esp_criterion_info *c = &esp_criteria_table[o->criterion];
    esp_score_error error = c->bf16_error;

    error.relative *=
        c->add_row && !c->columns_alone ? esp_aggregations_table[o->aggregation].error_factor : 1;
    error.relative *= m->arch->activation == ESP_RELU ? SWITCHES : 1;
    return error;
}

void esp_near_ties_find(esp_plan *plan, const esp_candidates *pools, const size_t *n_cut,
                        const esp_model *m, const esp_plan_options *o)
{
    near n = { pools, n_cut, o, error_by(m, o) };
    border all = { -DBL_MAX, DBL_MAX };

    if (o->precision != ESP_PRECISION_BF16 || n.error.relative == 0) {
        return;
    }
    for (size_t k = 0; o->global && k < pools->n; k++) {
        widen(&all, &n, k, true);
    }
    for (size_t k = 0; k < pools->n; k++) {
        list(plan, &n, k, &all);
    }
}
