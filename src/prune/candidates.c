/* candidates.c - from units, protected layers and scores to ranked candidates (docs/method.md, eq. 15-17). */
#include "candidates_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/rng.h"

/* ---- protected layers -------------------------------------------------------------------------- */

static esp_status check_ranges(const char *key, esp_layer_ranges r, size_t n_layers)
{
    for (size_t i = 0; i < r.n; i++) {
        if (r.range[i].first > r.range[i].last || r.range[i].last >= n_layers) {
            return esp_fail(ESP_EUSAGE, "prune.%s: %zu-%zu is not a range of the layers 0-%zu", key,
                            r.range[i].first, r.range[i].last, n_layers - 1);
        }
    }
    return ESP_OK;
}

esp_status esp_plan_check_layers(const esp_model *m, const esp_plan_options *o)
{
    size_t n = m->dims.n_layers;

    ESP_TRY(check_ranges("attention_layers", o->attention_layers, n));
    return check_ranges("mlp_layers", o->mlp_layers, n);
}

static bool listed(esp_layer_ranges r, size_t layer)
{
    for (size_t i = 0; i < r.n; i++) {
        if (r.range[i].first <= layer && layer <= r.range[i].last) {
            return true;
        }
    }
    return false;
}

static bool may_cut(const esp_plan_options *o, esp_unit_kind k, size_t layer)
{
    size_t n_attention = o->attention_layers.n, n_mlp = o->mlp_layers.n;
    bool attention = listed(o->attention_layers, layer);
    bool mlp = listed(o->mlp_layers, layer);

    switch (k) {
    case ESP_UNIT_ATTENTION:
    case ESP_UNIT_QUERY:
        return attention || n_attention == 0;
    case ESP_UNIT_MLP:
        return mlp || n_mlp == 0;
    default: /* a whole layer: one that a list names, or any where there is no list */
        return attention || mlp || n_attention + n_mlp == 0;
    }
}

bool esp_unit_may_cut(const esp_plan_options *o, const esp_unit *u)
{
    return esp_plan_units(o) >> u->kind & 1 &&
           (u->layer == ESP_NO_LAYER || may_cut(o, u->kind, u->layer));
}

/* ---- scores ------------------------------------------------------------------------------------ */

double esp_round_score(double x)
{
    int e;
    double fraction = frexp(x, &e);

    return ldexp(nearbyint(ldexp(fraction, 24)), e - 24);
}

static esp_status not_finite(const esp_unit *u, size_t group, double score)
{
    if (u->layer == ESP_NO_LAYER) {
        return esp_fail(ESP_EFAILED, "importance of %s group %zu is %g", esp_unit_name(u->kind),
                        group, score);
    }
    return esp_fail(ESP_EFAILED, "importance of layer %zu, %s group %zu is %g", u->layer,
                    esp_unit_name(u->kind), group, score);
}

static esp_status unit_scores(const double **score, const esp_unit *u, const esp_scores *scores,
                              const esp_plan_options *o)
{
    *score = scores ? esp_scores_group(scores, u, o->criterion, o->aggregation) : NULL;
    if (!*score) {
        return esp_fail(
            ESP_EUSAGE,
            "prune: there is no importance of %s groups by criterion %s, aggregation %s; "
            "estimate it first",
            esp_unit_name(u->kind), esp_criterion_name(o->criterion),
            esp_aggregation_name(o->aggregation));
    }
    for (size_t i = 0; i < u->n_groups; i++) {
        if (!isfinite((*score)[i])) {
            return not_finite(u, i, (*score)[i]);
        }
    }
    return ESP_OK;
}

/* A layer is worth the sum of its groups. */
static esp_status score_layer(double *sum, size_t layer, const esp_groups *g,
                              const esp_scores *scores, const esp_plan_options *o)
{
    esp_rng r = { .key = esp_rng_key(o->seed, layer, ESP_UNIT_LAYER) };

    if (o->criterion == ESP_RANDOM) {
        *sum = esp_rng_uniform(&r);
        return ESP_OK;
    }
    *sum = 0;
    for (esp_unit_kind k = ESP_UNIT_ATTENTION; k <= ESP_UNIT_MLP; k++) {
        const esp_unit *u = esp_groups_unit(g, k, layer);
        const double *score;

        ESP_TRY(unit_scores(&score, u, scores, o));
        for (size_t j = 0; j < u->n_groups; j++) {
            *sum += score[j];
        }
    }
    return ESP_OK;
}

/* ---- pools ------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const esp_candidate *x = a, *y = b;

    if (x->score != y->score) {
        return x->score < y->score ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

static esp_candidate candidate(size_t index, double score)
{
    return (esp_candidate){ .index = index, .score = esp_round_score(score) };
}

static void sort(const esp_unit_candidates *p)
{
    for (size_t lane = 0; lane < p->lanes; lane++) {
        qsort(p->c + lane * p->n, p->n, sizeof *p->c, compare);
    }
}

/* Fewest groups of so many channels whose width is a multiple of round_to. */
static size_t bundle_of(size_t channels_per_group, size_t round_to)
{
    size_t a = channels_per_group, b = esp_max(round_to, 1);
    size_t round = b;

    while (b) { /* Euclid */
        size_t rest = a % b;

        a = b;
        b = rest;
    }
    return round / a;
}

static esp_unit_candidates *add_pool(esp_candidates *out, esp_unit_kind kind, size_t layer,
                                     size_t capacity)
{
    esp_unit_candidates *p = &out->pools[out->n++];

    p->kind = kind;
    p->layer = layer;
    p->lanes = p->bundle = 1;
    ESP_NEW(p->c, capacity);
    return p;
}

static esp_status add_unit(esp_candidates *out, const esp_model *m, const esp_unit *u,
                           const esp_scores *scores, const esp_plan_options *o)
{
    esp_unit_candidates *p = add_pool(out, u->kind, u->layer, u->n_groups);
    const double *score = NULL;

    p->lanes = u->kind == ESP_UNIT_QUERY ? m->dims.layer[u->layer].kv_heads : 1;
    p->n = u->n_groups / p->lanes;
    p->bundle = bundle_of(p->lanes * u->channels_per_group, o->round_to);
    if (o->criterion != ESP_RANDOM) {
        ESP_TRY(unit_scores(&score, u, scores, o));
    }
    for (size_t i = 0; i < u->n_groups; i++) {
        p->c[i] = candidate(i, score ? score[i] : esp_score_random(o->seed, u, i));
    }
    sort(p);
    return ESP_OK;
}

static esp_status add_layers(esp_candidates *out, const esp_model *m, const esp_groups *g,
                             const esp_scores *scores, const esp_plan_options *o)
{
    esp_unit_candidates *p = add_pool(out, ESP_UNIT_LAYER, ESP_NO_LAYER, m->dims.n_layers);

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        double score;

        if (may_cut(o, ESP_UNIT_LAYER, l)) {
            ESP_TRY(score_layer(&score, l, g, scores, o));
            p->c[p->n++] = candidate(l, score);
        }
    }
    sort(p);
    return ESP_OK;
}

/* Query heads are candidates where several share a key/value head. */
static esp_status check_queries(const esp_groups *g, const esp_plan_options *o)
{
    for (size_t i = 0; i < g->n_units; i++) {
        if (g->units[i].kind == ESP_UNIT_QUERY) {
            return ESP_OK;
        }
    }
    return esp_plan_units(o) >> ESP_UNIT_QUERY & 1
               ? esp_fail(ESP_EUSAGE,
                          "prune.attention = %s: the model has a key/value head for each query "
                          "head, which go together: set groups",
                          esp_attention_units_name(o->attention))
               : ESP_OK;
}

esp_status esp_candidates_find(esp_candidates *p, const esp_model *m, const esp_groups *g,
                               const esp_scores *scores, const esp_plan_options *o)
{
    *p = (esp_candidates){ 0 };
    ESP_TRY(esp_plan_check_layers(m, o));
    ESP_NEW(p->pools, g->n_units + 1);
    if (o->mode == ESP_PRUNE_LAYER) {
        return add_layers(p, m, g, scores, o);
    }
    ESP_TRY(check_queries(g, o));
    for (size_t i = 0; i < g->n_units; i++) {
        if (esp_unit_may_cut(o, &g->units[i])) {
            ESP_TRY(add_unit(p, m, &g->units[i], scores, o));
        }
    }
    return ESP_OK;
}

void esp_candidates_free(esp_candidates *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->pools[i].c);
    }
    free(p->pools);
    *p = (esp_candidates){ 0 };
}

/* ---- how many stay ----------------------------------------------------------------------------- */

bool esp_candidates_each_alike(const esp_plan_options *o)
{
    return o->target_kind == ESP_TARGET_NONE && !o->global;
}

size_t esp_after_ratio(double ratio, size_t n) /* 1e-9: 0.29 * 100 is a little less than 29 */
{
    return n - esp_min(n, (size_t)floor((double)n * ratio + 1e-9));
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

double esp_unit_ratio(const esp_unit_candidates *p, const esp_plan_options *o)
{
    bool attention = p->kind == ESP_UNIT_ATTENTION || p->kind == ESP_UNIT_QUERY;

    return attention && o->attention_ratio > 0 ? o->attention_ratio : o->ratio;
}

double esp_slice_score(const esp_unit_candidates *p, size_t i)
{
    double sum = 0;
    bool there = false;

    for (size_t lane = 0; lane < p->lanes; lane++) {
        double score = p->c[lane * p->n + i].score;

        there = there || score >= 0;
        sum += fmax(score, 0);
    }
    return there ? sum : p->c[i].score;
}

size_t esp_unit_first_cut(const esp_unit_candidates *p)
{
    return p->n - (p->n - 1) / p->bundle * p->bundle;
}

size_t esp_unit_min_kept(const esp_unit_candidates *p, const esp_plan_options *o)
{
    size_t least = esp_candidates_each_alike(o) ? esp_after_ratio(esp_unit_ratio(p, o), p->n) : 0;

    least = esp_max(least, round_up(esp_max(o->min_keep, 1), p->lanes) / p->lanes);
    return esp_min(round_up(least, p->bundle), p->n);
}
