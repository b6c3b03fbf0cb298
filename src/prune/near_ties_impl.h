/* near_ties_impl.h - the near ties of a plan that was made from scores in bf16. */
#ifndef ESPALIER_NEAR_TIES_IMPL_H
#define ESPALIER_NEAR_TIES_IMPL_H

#include "candidates_impl.h"

/* Lists in plan->near which groups of the pools would trade places within the errors of their scores;
 * none in f32. n_cut [pools->n]: how many of each pool go. Local. */
void esp_near_ties_find(esp_plan *plan, const esp_candidates *pools, const size_t *n_cut,
                        const esp_model *m, const esp_plan_options *o);

#endif
