/* scores_expand.h - scores of a pruned model's groups, put at the places of the dense model's groups, so that
 * a plan of several steps ranks the groups of the dense model in every step.
 */
#ifndef ESPALIER_SCORES_EXPAND_H
#define ESPALIER_SCORES_EXPAND_H

#include "espalier/plan.h"

/* from: scores of the groups of the model that plan p leaves. to [out, owned; esp_scores_free]: the same
 * scores for the groups of the dense model, which it borrows; groups that p cut score -1, below any other
 * (importance is never negative). Scores of structures are left out. Local. */
void esp_scores_expand(esp_scores *to, const esp_groups *dense, const esp_scores *from,
                       const esp_plan *p);

#endif
