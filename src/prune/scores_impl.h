/* scores_impl.h - from sums over rows and columns to scores. */
#ifndef ESPALIER_SCORES_IMPL_H
#define ESPALIER_SCORES_IMPL_H

#include "gate_sums_impl.h"
#include "saliency_sums_impl.h"

/* Sets s->groups and allocates what has been asked for, zeros. Local. */
void esp_scores_init(esp_scores *s, const esp_groups *g, unsigned criteria, unsigned aggregations,
                     unsigned units);

/* Scores of all units from complete sums. Local. */
void esp_scores_fill(esp_scores *s, const esp_saliency_sums *sums);

/* Scores by gates, of complete sums over s->n_samples; the same by every aggregation. Local. */
void esp_scores_fill_gates(esp_scores *s, const esp_gate_sums *sums, bool fisher_sum);

/* ESP_EFORMAT for the first score of a group that is not finite: a product may be beyond f64. Local. */
esp_status esp_scores_check(const esp_scores *s);

/* Where the scores of a unit lie; as esp_scores_group, to be written. Local. */
double **esp_scores_place(const esp_scores *s, const esp_unit *u, esp_criterion c,
                          esp_aggregation a);

#endif
