/* plan_impl.h - what the files of the plan share. */
#ifndef ESPALIER_PLAN_IMPL_H
#define ESPALIER_PLAN_IMPL_H

#include "espalier/plan.h"

/* A plan that keeps everything, without costs and digest. Local. */
void esp_plan_whole(esp_plan *p, const esp_model *m);
size_t esp_plan_whole_bytes(const esp_model *m); /* that it takes. Local. */

/* k [out, owned]: all of so many groups. Local. */
void esp_plan_keep_all(esp_kept_groups *k, size_t total);

/* The layer goes as a whole. Local. */
void esp_plan_drop_layer(esp_layer_plan *l);

/* Query heads go with their key/value heads. Local. */
void esp_plan_drop_queries(esp_layer_plan *l);

/* Whether query heads of a key/value head that stays go. Local. */
bool esp_plan_cuts_queries(const esp_layer_plan *l);

/* Cost of what a plan leaves of m. Local. */
esp_cost esp_plan_cost(const esp_plan *p, const esp_model *m, size_t n_tok);

/* Sets the digest: that of the little-endian int32 sequence n_layers, hidden, then per layer kept,
 * attention, mlp; then, where esp_plan_cuts_queries of any layer, query of each; each of these lists as
 * total, n, indices. Local. */
void esp_plan_seal(esp_plan *p);

#endif
