/* candidates_impl.h - the groups that a plan may cut, ranked. */
#ifndef ESPALIER_CANDIDATES_IMPL_H
#define ESPALIER_CANDIDATES_IMPL_H

#include "espalier/plan.h"

/* Sums over another number of ranks differ in the last bits and are to rank alike: 24 bits count. The
 * range stays that of f64, for products over many structures. Local. */
double esp_round_score(double x);

typedef struct esp_candidate {
    double score;   /* rounded to the 24 bits of an f32 */
    size_t index;   /* of the group in its unit; of the layer in a pool of layers */
    uint64_t saves; /* cost saved by cutting its slice; of the first lane, set by plan_make.c */
} esp_candidate;

/* A unit, or all layers that may go. It is cut in slices: slice i is candidate i of each lane. */
typedef struct esp_unit_candidates {
    esp_unit_kind kind;
    size_t layer;     /* ESP_NO_LAYER for hidden and for layers                              */
    size_t lanes;     /* 1; of query heads: those of each key/value head, which lose as many */
    size_t n;         /* slices                                                              */
    esp_candidate *c; /* [lanes, n] owned; of a lane ascending: score, then index            */
    size_t bundle;    /* kept slices are a multiple of it: they make round_to channels even  */
} esp_unit_candidates;

typedef struct esp_candidates {
    esp_unit_candidates *pools; /* [n] owned, by layer, attention before mlp */
    size_t n;
} esp_candidates;

/* Candidates of the mode outside protected layers, with the scores of the criterion. ESP_EUSAGE for
 * ranges beyond the model, for a criterion without scores, and for query heads of a model where none share
 * keys; ESP_EFAILED for a score that is no finite number; p is to be freed in any case. Local. */
esp_status esp_candidates_find(esp_candidates *p, const esp_model *m, const esp_groups *g,
                               const esp_scores *scores, const esp_plan_options *o);
void esp_candidates_free(esp_candidates *p); /* safe twice and on {0} */

/* Whether groups of a unit are candidates: those of the mode, outside protected layers. Local. */
bool esp_unit_may_cut(const esp_plan_options *o, const esp_unit *u);

/* A ratio of each unit by itself is all in where a pool ends; there is no goal over all. Local. */
bool esp_candidates_each_alike(const esp_plan_options *o);

/* Of n groups those that a ratio leaves: floor(n ratio) go, never more. Local. */
size_t esp_after_ratio(double ratio, size_t n);

/* The ratio of a pool, where each is cut alike. Local. */
double esp_unit_ratio(const esp_unit_candidates *p, const esp_plan_options *o);

/* The score of slice i: the sum over the lanes, but for heads that went in an earlier step with their
 * key/value head, whose score is below 0. Local. */
double esp_slice_score(const esp_unit_candidates *p, size_t i);

/* Fewest slices that go from a pool of n > 0, where any do: what stays is a multiple of the bundle. Local. */
size_t esp_unit_first_cut(const esp_unit_candidates *p);

/* Slices of a pool that stay at least; exactly these where each pool is cut alike. Local. */
size_t esp_unit_min_kept(const esp_unit_candidates *p, const esp_plan_options *o);

#endif
