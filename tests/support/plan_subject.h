/* plan_subject.h - what the tests of plans share: a model, its groups, scores and a plan. */
#ifndef ESPALIER_TEST_PLAN_SUBJECT_H
#define ESPALIER_TEST_PLAN_SUBJECT_H

#include "espalier/plan.h"
#include "model_shapes.h"

static const shape small = { "llama", 4, 16, 8, 4, 2, 10, 11, false, NULL };

/* A model, its groups and a plan for it. */
typedef struct subject {
    esp_model m;
    esp_groups g;
    esp_scores scores;
    esp_plan p;
} subject;

static inline void subject_init(subject *x, const shape *s)
{
    memset(x, 0, sizeof *x);
    shape_model(&x->m, s);
    esp_groups_find(&x->g, &x->m);
}

static inline void subject_free(subject *x)
{
    esp_plan_free(&x->p);
    esp_plan_free(&x->p);
    esp_scores_free(&x->scores);
    esp_groups_free(&x->g);
    esp_model_free(&x->m);
}

/* Scores of one criterion and aggregation, those of a random stream. */
static inline void give_scores(subject *x, esp_criterion c, esp_aggregation a)
{
    size_t n = x->g.n_units * ESP_N_CRITERIA;

    x->scores.groups = &x->g;
    ESP_NEW(x->scores.group, n * ESP_N_AGGREGATIONS);
    ESP_NEW(x->scores.structure, n);
    for (size_t u = 0; u < x->g.n_units; u++) {
        size_t n_groups = x->g.units[u].n_groups;
        double *score;

        ESP_NEW(score, n_groups);
        for (size_t i = 0; i < n_groups; i++) {
            score[i] = esp_score_random(7, &x->g.units[u], i);
        }
        x->scores.group[(u * ESP_N_CRITERIA + c) * ESP_N_AGGREGATIONS + a] = score;
    }
}

static inline double *scores_of(subject *x, esp_unit_kind k, size_t layer, esp_criterion c,
                                esp_aggregation a)
{
    size_t u = (size_t)(esp_groups_unit(&x->g, k, layer) - x->g.units);

    return x->scores.group[(u * ESP_N_CRITERIA + c) * ESP_N_AGGREGATIONS + a];
}

static inline esp_status make(subject *x, const esp_plan_options *o)
{
    esp_plan_free(&x->p);
    return esp_plan_make(&x->p, &x->m, &x->g, x->scores.groups ? &x->scores : NULL, o);
}

static inline bool keeps(const esp_kept_groups *k, const int32_t *index, size_t n)
{
    return k->n == n && memcmp(k->index, index, n * sizeof *index) == 0;
}

static inline bool same_kept(const esp_kept_groups *a, const esp_kept_groups *b)
{
    return a->total == b->total && keeps(a, b->index, b->n);
}

static inline bool same_plan(const esp_plan *a, const esp_plan *b)
{
    bool same = a->n_layers == b->n_layers && same_kept(&a->hidden, &b->hidden) &&
                strcmp(a->digest, b->digest) == 0 && strcmp(a->model, b->model) == 0 &&
                memcmp(&a->dense, &b->dense, sizeof a->dense) == 0 &&
                memcmp(&a->pruned, &b->pruned, sizeof a->pruned) == 0;

    for (size_t l = 0; same && l < a->n_layers; l++) {
        same = a->layers[l].kept == b->layers[l].kept &&
               same_kept(&a->layers[l].attention, &b->layers[l].attention) &&
               same_kept(&a->layers[l].query, &b->layers[l].query) &&
               same_kept(&a->layers[l].mlp, &b->layers[l].mlp);
    }
    return same;
}

static inline bool error_has(const char *part)
{
    if (!strstr(esp_error_message(), part)) {
        printf("  \"%s\" is not in: %s\n", part, esp_error_message());
        return false;
    }
    return true;
}

static inline uint64_t cost_of(esp_cost c, esp_target_kind k)
{
    return k == ESP_TARGET_PARAMETERS ? c.parameters : k == ESP_TARGET_MACS ? c.macs : c.bytes;
}

/* At or under the target, by less than the largest group: over all options together. */
static inline void check_target(subject *x, esp_plan_options *o, uint64_t largest)
{
    double dense, asked, got;

    CU_ASSERT_EQUAL(make(x, o), ESP_OK);
    dense = (double)cost_of(x->p.dense, o->target_kind);
    got = (double)cost_of(x->p.pruned, o->target_kind);
    asked = o->target <= 1 ? o->target * dense : o->target;
    CU_ASSERT_TRUE(got <= asked);
    CU_ASSERT_TRUE(got > asked - (double)largest);
}

static inline void refused(subject *x, const esp_plan_options *o, esp_status st, const char *part)
{
    esp_error_clear();
    CU_ASSERT_EQUAL(make(x, o), st);
    CU_ASSERT_TRUE(error_has(part));
    CU_ASSERT_EQUAL(x->p.n_layers, 0);
    CU_ASSERT_PTR_NULL(x->p.layers);
}

#endif
