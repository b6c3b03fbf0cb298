/* importance.h - how much the loss would move if a group went (paper, eq. 3-5; DESIGN section 4).
 *
 * Flow: backward leaves dy and x of a matrix -> per-sample gradients, panel by panel, summed in f64
 * as G = mean g_j and F = mean g_j^2 -> sum over the data ranks -> salience of each element -> row and
 * column sums -> channels of structures -> scores of groups. Per-sample values do not depend on ranks or
 * threads and sums are f64, so scores agree over rank counts to about 1e-14; plans rank them as f32.
 */
#ifndef ESPALIER_IMPORTANCE_H
#define ESPALIER_IMPORTANCE_H

#include "espalier/groups.h"
#include "espalier/pass.h"

typedef enum esp_criterion {
    ESP_VECTOR,
    ESP_ELEMENT1,
    ESP_ELEMENT2,
    ESP_MIX,
    ESP_L1,
    ESP_L2,
    ESP_RANDOM,
    ESP_N_CRITERIA
} esp_criterion;
typedef enum esp_aggregation {
    ESP_SUM,
    ESP_PROD,
    ESP_MAX,
    ESP_LAST,
    ESP_N_AGGREGATIONS
} esp_aggregation;

const char *esp_criterion_name(esp_criterion c);     /* "vector" ... */
const char *esp_aggregation_name(esp_aggregation a); /* "sum" ...    */

typedef struct esp_importance_options {
    unsigned criteria;     /* bit set of 1u << esp_criterion       */
    unsigned aggregations; /* bit set of 1u << esp_aggregation     */
    unsigned units;        /* bit set of 1u << esp_unit_kind       */
    bool fisher_sum;       /* F = sum_j instead of mean_j          */
    size_t max_tok;        /* tokens of one local batch at most    */
    uint64_t seed;         /* of criterion random                  */
} esp_importance_options;

typedef struct esp_scores {
    const esp_groups *groups; /* borrowed */
    unsigned criteria, aggregations, units;
    /* [n_units * ESP_N_CRITERIA * ESP_N_AGGREGATIONS] of [n_groups], and
     * [n_units * ESP_N_CRITERIA] of [n_structures * n_channels]; NULL where not asked for; owned */
    double **group;
    double **structure;
    double loss; /* mean over samples of the mean cross-entropy */
    size_t n_samples, n_tok;
} esp_scores;

/* Scores of all criteria in one pass over the samples (none for l1, l2, random). Needs memory for one
 * block and one panel. The same scores on all ranks afterwards. Collective on grid->world. */
esp_status esp_importance_estimate(esp_scores *s, const esp_model *m, const esp_groups *g,
                                   const esp_samples *samples, const esp_importance_options *o,
                                   const esp_grid *grid);
void esp_scores_free(esp_scores *s); /* safe twice and on {0} */

/* Borrowed; NULL when not asked for. structure: [n_structures][n_groups * channels_per_group]. Local. */
const double *esp_scores_group(const esp_scores *s, const esp_unit *u, esp_criterion c,
                               esp_aggregation a);
const double *esp_scores_structure(const esp_scores *s, const esp_unit *u, esp_criterion c);

/* importance.h5: /layers/<l>/<unit>/<criterion>/<aggregation> f64 [groups],
 * /layers/<l>/<unit>/<criterion>/structures/<label> f64 [channels], /hidden/<criterion>/<aggregation>
 * f64 [hidden]; attributes of the file: model (digest), samples, sequence, seed, loss, fisher. Local. */
esp_status esp_scores_save(const esp_scores *s, const char *path, const char *model_digest,
                           const esp_importance_options *o);

/* Reads back what a plan needs; ESP_EFORMAT when sizes do not fit the groups or the digest differs. Local. */
esp_status esp_scores_load(esp_scores *s, const esp_groups *g, const char *path,
                           const char *model_digest);

#endif
