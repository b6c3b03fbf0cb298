/* saliency_sums.c - one array for the sums of all sides, and where each side lies in it. */
#include "saliency_sums_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/traffic.h"

static bool is_read(const esp_criteria *c, esp_unit_kind kind, esp_side side)
{
    for (size_t i = 0; i < c->n; i++) {
        if (esp_criterion_reads(c->at[i], kind, side)) {
            return true;
        }
    }
    return false;
}

/* A place for each side of a weight that a unit of the set has and a criterion reads. */
static void place_sides(esp_saliency_sums *s, const esp_groups *g, unsigned units)
{
    for (size_t u = 0; u < g->n_units; u++) {
        const esp_unit *unit = &g->units[u];

        for (size_t i = 0; units & 1u << unit->kind && i < unit->n_structures; i++) {
            const esp_structure *part = &unit->structures[i];

            if (!is_read(&s->criteria, unit->kind, part->side)) {
                continue;
            }
            size_t *place =
                &s->place[part->side][esp_slot_index(s->n_slots, part->layer, part->slot)];

            if (!*place) { /* of several parts of one weight, and of units that share it: once */
                *place = 1 + s->n;
                s->n += s->criteria.n * part->length;
            }
        }
    }
}

void esp_saliency_sums_init_sizes(esp_saliency_sums *s, const esp_model *m, const esp_groups *g,
                                  unsigned units, unsigned criteria)
{
    size_t n_weights = m->dims.n_layers * m->arch->n_slots;

    *s =
        (esp_saliency_sums){ .criteria = esp_criteria_list(criteria), .n_slots = m->arch->n_slots };
    ESP_NEW(s->place[ESP_ROWS], n_weights);
    ESP_NEW(s->place[ESP_COLS], n_weights);
    place_sides(s, g, units);
}

void esp_saliency_sums_init(esp_saliency_sums *s, const esp_model *m, const esp_groups *g,
                            unsigned units, unsigned criteria)
{
    esp_saliency_sums_init_sizes(s, m, g, units, criteria);
    ESP_NEW(s->all, s->n);
}

size_t esp_saliency_sums_bytes(const esp_saliency_sums *s, const esp_model *m)
{
    return 2 * esp_calloc_bytes(m->dims.n_layers * s->n_slots, sizeof **s->place) +
           esp_calloc_bytes(s->n, sizeof *s->all);
}

void esp_saliency_sums_free(esp_saliency_sums *s)
{
    free(s->place[ESP_ROWS]);
    free(s->place[ESP_COLS]);
    free(s->all);
    *s = (esp_saliency_sums){ 0 };
}

double *esp_saliency_sums_at(const esp_saliency_sums *s, size_t layer, int slot, esp_side side)
{
    size_t place = s->place[side][esp_slot_index(s->n_slots, layer, slot)];

    return place && s->all ? s->all + place - 1 : NULL;
}

unsigned esp_saliency_sums_sides(const esp_saliency_sums *s, size_t layer, int slot)
{
    size_t i = esp_slot_index(s->n_slots, layer, slot);

    return (s->place[ESP_ROWS][i] ? 1u << ESP_ROWS : 0) |
           (s->place[ESP_COLS][i] ? 1u << ESP_COLS : 0);
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
