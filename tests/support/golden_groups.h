/* golden_groups.h - a golden model with its groups: what tests of pruning begin with. */
#ifndef ESPALIER_TEST_GOLDEN_GROUPS_H
#define ESPALIER_TEST_GOLDEN_GROUPS_H

#include "espalier/groups.h"
#include "golden_values.h"

#define OWN_MODEL (golden_models[0]) /* the one that is always there */

typedef struct fixture {
    golden golden;
    esp_groups groups;
} fixture;

/* NULL, after a message, when the model is not here. Collective on MPI_COMM_WORLD. */
static inline fixture *fixture_of(const char *name)
{
    fixture *t;

    ESP_NEW(t, 1);
    if (!golden_open(&t->golden, name)) {
        free(t);
        return NULL;
    }
    esp_groups_find(&t->groups, &t->golden.model);
    return t;
}

static inline void fixture_free(fixture *t)
{
    esp_groups_free(&t->groups);
    golden_close(&t->golden);
    free(t);
}

/* Whether query heads share key/value heads. */
static inline bool fixture_shares_keys(const fixture *t)
{
    return esp_groups_unit(&t->groups, ESP_UNIT_QUERY, 0) != NULL;
}

/* A check on the repository's model, or on the shared ones. */
static inline void fixture_each(bool shared, void (*check)(const fixture *t))
{
    for (size_t i = shared; i < (shared ? GOLDEN_MODELS : 1); i++) {
        fixture *t = fixture_of(golden_models[i]);

        if (t) {
            check(t);
            fixture_free(t);
        }
    }
}

#endif
