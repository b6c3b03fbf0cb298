/* saliency_sums_impl.h - sums of saliency over every row and every column that a unit needs.
 *
 * For ESP_VECTOR they are signed until the structures take their magnitude: a row is complete only when
 * all its columns, its bias and all ranks have been added.
 */
#ifndef ESPALIER_SALIENCY_SUMS_IMPL_H
#define ESPALIER_SALIENCY_SUMS_IMPL_H

#include "criteria_impl.h"

typedef struct esp_saliency_sums {
    esp_criteria criteria;
    size_t n_slots;
    double *
        *side[2]; /* [ESP_ROWS, ESP_COLS] of [n_layers * n_slots] of [criteria.n, length]; owned */
    double *all;  /* [n] owned; what they point into */
    size_t n;
} esp_saliency_sums;

/* Zeros for the sides of weights that the units of the set have. Local. */
void esp_saliency_sums_init(esp_saliency_sums *s, const esp_model *m, const esp_groups *g,
                            unsigned units, unsigned criteria);
void esp_saliency_sums_free(esp_saliency_sums *s); /* safe twice and on {0} */

/* Bytes that it takes; n: of them numbers. Local. */
size_t esp_saliency_sums_bytes(size_t *n, const esp_model *m, const esp_groups *g, unsigned units,
                               unsigned criteria);

/* [criteria.n, length] of a side of a weight; NULL where no unit needs it. Borrowed. Local. */
double *esp_saliency_sums_at(const esp_saliency_sums *s, size_t layer, int slot, esp_side side);

/* Whether a sum is not finite; where: of such weights, the one that a backward meets first. Local. */
bool esp_saliency_sums_broken(size_t *layer, int *slot, const esp_saliency_sums *s,
                              const esp_model *m);

/* Sum over the ranks. Collective on comm. */
void esp_saliency_sums_reduce(esp_saliency_sums *s, MPI_Comm comm);

#endif
