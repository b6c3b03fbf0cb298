/* projections.c - which weights of a block are behind a cut. */
#include "compensate_impl.h"

size_t esp_projection_slots(int *slot, const esp_model *m)
{
    esp_groups g;
    size_t n = 0;

    esp_groups_find(&g, m);
    for (esp_unit_kind k = ESP_UNIT_ATTENTION; k <= ESP_UNIT_MLP; k++) {
        const esp_unit *u = esp_groups_unit(&g, k, 0);

        for (size_t i = 0; u && i < u->n_structures; i++) {
            if (u->structures[i].side == ESP_COLS) {
                ESP_REQUIRE(n < ESP_MOST_PROJECTIONS);
                slot[n++] = u->structures[i].slot;
            }
        }
    }
    esp_groups_free(&g);
    return n;
}
