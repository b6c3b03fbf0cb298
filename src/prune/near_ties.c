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

/* Where a lane's candidates begin. */
static const esp_candidate *lane_of(const esp_unit_candidates *p, size_t lane)
{
    return p->c + lane * p->n;
}

static double mean_score(const esp_unit_candidates *p)
{
    double sum = 0;

    for (size_t i = 0; i < p->lanes * p->n; i++) {
        sum += p->c[i].score;
    }
    return sum / (double)(p->lanes * p->n);
}

/* How far a score may be off in a pool of some mean. */
static double error_of(const near *n, double mean, double score)
{
    return n->error.relative * (n->error.of_mean ? mean : score);
}

/* The same of a slice: the sum over its candidates. */
static double slice_error(const near *n, const esp_unit_candidates *p, double mean, size_t i)
{
    return error_of(n, (double)p->lanes * mean, esp_slice_score(p, i));
}

/* The last slice that goes in the same step as i: kept ones are a multiple of the bundle. */
static size_t last_of_step(const esp_unit_candidates *p, size_t i)
{
    return p->n - (p->n - 1 - i) / p->bundle * p->bundle - 1;
}

static void widen(border *b, double score, double error, bool goes)
{
    if (goes) {
        b->highest = fmax(b->highest, score + error);
    } else {
        b->lowest = fmin(b->lowest, score - error);
    }
}

/* Within a lane. */
static border border_of(const near *n, size_t pool, size_t lane)
{
    const esp_unit_candidates *p = &n->pools->pools[pool];
    const esp_candidate *c = lane_of(p, lane);
    border b = { -DBL_MAX, DBL_MAX };
    double mean = mean_score(p);

    for (size_t i = 0; i < p->n; i++) {
        widen(&b, c[i].score, error_of(n, mean, c[i].score), i < n->n_cut[pool]);
    }
    return b;
}

/* Where the ranking goes over all pools, by steps; slices that must stay take no part. */
static void widen_by_steps(border *b, const near *n, size_t pool)
{
    const esp_unit_candidates *p = &n->pools->pools[pool];
    double mean = mean_score(p);

    for (size_t i = 0; i < p->n - esp_unit_min_kept(p, n->o); i++) {
        size_t by = last_of_step(p, i);

        widen(b, esp_slice_score(p, by), slice_error(n, p, mean, by), i < n->n_cut[pool]);
    }
}

static bool crosses(const border *b, double score, double error, bool goes)
{
    return goes ? score + error >= b->lowest : score - error <= b->highest;
}

static void add(esp_plan *plan, const esp_unit_candidates *p, const esp_candidate *c, bool stays)
{
    plan->near = esp_grow(plan->near, plan->n_near + 1, sizeof *plan->near);
    plan->near[plan->n_near++] = (esp_near_tie){ p->kind, p->layer, c->index, stays };
}

static void list(esp_plan *plan, const near *n, size_t pool, size_t lane, const border *all)
{
    const esp_unit_candidates *p = &n->pools->pools[pool];
    const esp_candidate *c = lane_of(p, lane);
    border own = border_of(n, pool, lane);
    double mean = mean_score(p);

    for (size_t i = 0; i < p->n; i++) {
        bool goes = i < n->n_cut[pool];
        size_t by = last_of_step(p, i);

        if (crosses(&own, c[i].score, error_of(n, mean, c[i].score), goes) ||
            (n->o->global &&
             crosses(all, esp_slice_score(p, by), slice_error(n, p, mean, by), goes))) {
            add(plan, p, &c[i], !goes);
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
        widen_by_steps(&all, &n, k);
    }
    for (size_t k = 0; k < pools->n; k++) {
        for (size_t lane = 0; lane < pools->pools[k].lanes; lane++) {
            list(plan, &n, k, lane, &all);
        }
    }
}
