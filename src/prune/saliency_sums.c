/* saliency_sums.c - one array for the sums of all sides, and where each side lies in it. */
#include "saliency_sums_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/traffic.h"

/* Visits each side of a weight that a unit of the set has, once: lengths first (all is NULL), then
 * pointers. */
static size_t place_sides(esp_saliency_sums *s, const esp_groups *g, unsigned units)
{
    size_t at = 0;

    for (size_t u = 0; u < g->n_units; u++) {
        const esp_unit *unit = &g->units[u];

        for (size_t i = 0; units & 1u << unit->kind && i < unit->n_structures; i++) {
            const esp_structure *part = &unit->structures[i];
            double **place =
                &s->side[part->side][esp_slot_index(s->n_slots, part->layer, part->slot)];

            if (s->all && !*place) {
                *place = s->all + at;
            }
            at += s->criteria.n * part->length;
        }
    }
    return at;
}

static void make_sides(esp_saliency_sums *s, const esp_model *m, unsigned criteria, size_t *bytes)
{
    size_t n_weights = m->dims.n_layers * m->arch->n_slots;

    *s =
        (esp_saliency_sums){ .criteria = esp_criteria_list(criteria), .n_slots = m->arch->n_slots };
    ESP_MAKE(s->side[ESP_ROWS], n_weights, bytes);
    ESP_MAKE(s->side[ESP_COLS], n_weights, bytes);
}

void esp_saliency_sums_init(esp_saliency_sums *s, const esp_model *m, const esp_groups *g,
                            unsigned units, unsigned criteria)
{
    make_sides(s, m, criteria, NULL);
    s->n = place_sides(s, g, units);
    ESP_NEW(s->all, s->n);
    place_sides(s, g, units);
}

size_t esp_saliency_sums_bytes(size_t *n, const esp_model *m, const esp_groups *g, unsigned units,
                               unsigned criteria)
{
    size_t bytes = 0;
    esp_saliency_sums s;

    make_sides(&s, m, criteria, NULL);
    *n = place_sides(&s, g, units);
    esp_saliency_sums_free(&s);
    make_sides(&s, m, criteria, &bytes);
    return bytes + esp_calloc_bytes(*n, sizeof *s.all);
}

void esp_saliency_sums_free(esp_saliency_sums *s)
{
    free(s->side[ESP_ROWS]);
    free(s->side[ESP_COLS]);
    free(s->all);
    *s = (esp_saliency_sums){ 0 };
}

double *esp_saliency_sums_at(const esp_saliency_sums *s, size_t layer, int slot, esp_side side)
{
    return s->side[side][esp_slot_index(s->n_slots, layer, slot)];
}

void esp_saliency_sums_reduce(esp_saliency_sums *s, MPI_Comm comm)
{
    esp_sent(ESP_SENT_SUMS, ESP_COST_ALLREDUCE, s->n * sizeof *s->all, comm);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, s->all, esp_count(s->n), MPI_DOUBLE, MPI_SUM, comm));
}

static bool is_broken(const esp_saliency_sums *s, const esp_model *m, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(m, layer, slot);
    const size_t length[] = { [ESP_ROWS] = w->rows, [ESP_COLS] = w->cols };

    for (int side = ESP_ROWS; side <= ESP_COLS; side++) {
        const double *sum = esp_saliency_sums_at(s, layer, slot, (esp_side)side);

        for (size_t i = 0; sum && i < s->criteria.n * length[side]; i++) {
            if (!isfinite(sum[i])) {
                return true;
            }
        }
    }
    return false;
}

/* Head and final norm have the highest slots outside the blocks, the embedding the lowest. */
bool esp_saliency_sums_broken(size_t *layer, int *slot, const esp_saliency_sums *s,
                              const esp_model *m)
{
    *layer = ESP_NO_LAYER;
    for (*slot = ESP_SLOT_BLOCK; --*slot >= ESP_SLOT_FINAL_NORM;) {
        if (is_broken(s, m, *layer, *slot)) {
            return true;
        }
    }
    for (*layer = m->dims.n_layers; (*layer)-- > 0;) {
        for (*slot = (int)m->arch->n_slots; --*slot >= ESP_SLOT_BLOCK;) {
            if (is_broken(s, m, *layer, *slot)) {
                return true;
            }
        }
    }
    *layer = ESP_NO_LAYER;
    for (*slot = ESP_SLOT_FINAL_NORM; --*slot >= 0;) {
        if (is_broken(s, m, *layer, *slot)) {
            return true;
        }
    }
    return false;
}
