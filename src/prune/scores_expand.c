/* scores_expand.c - scores of what is left, at their places in the dense model. */
#include "espalier/scores_expand.h"

#include "scores_impl.h"

/* A dense unit in the model that the plan leaves, NULL when it has none. */
static const esp_unit *left_of(const esp_groups *left, const esp_plan *p, const esp_unit *u)
{
    size_t layer = 0;

    if (u->layer == ESP_NO_LAYER) {
        return esp_groups_unit(left, u->kind, ESP_NO_LAYER);
    }
    for (size_t l = 0; l < u->layer; l++) {
        layer += p->layers[l].kept;
    }
    return p->layers[u->layer].kept ? esp_groups_unit(left, u->kind, layer) : NULL;
}

/* to [n_groups of u] from the scores of the kept groups (NULL: there is nothing to choose among them any
 * more, as of query heads that are each alone with their key/value head). */
static void spread_unit(double *to, const esp_unit *u, const double *from,
                        const esp_kept_groups *kept)
{
    for (size_t i = 0; i < u->n_groups; i++) {
        to[i] = -1;
    }
    for (size_t i = 0; i < kept->n; i++) {
        to[kept->index[i]] = from ? from[i] : 0;
    }
}

void esp_scores_expand(esp_scores *to, const esp_groups *dense, const esp_scores *from,
                       const esp_plan *p)
{
    esp_scores_init(to, dense, from->criteria, from->aggregations, from->units);
    for (size_t i = 0; i < dense->n_units; i++) {
        const esp_unit *u = &dense->units[i], *left = left_of(from->groups, p, u);

        for (int k = 0; k < ESP_N_CRITERIA * ESP_N_AGGREGATIONS; k++) {
            esp_criterion c = (esp_criterion)(k / ESP_N_AGGREGATIONS);
            esp_aggregation a = (esp_aggregation)(k % ESP_N_AGGREGATIONS);
            double *scores = *esp_scores_place(to, u, c, a);

            if (scores) {
                spread_unit(scores, u, left ? esp_scores_group(from, left, c, a) : NULL,
                            esp_plan_kept(p, u));
            }
        }
    }
}
