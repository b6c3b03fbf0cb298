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
    /* [ESP_ROWS, ESP_COLS] of [n_layers * n_slots] owned: 1 + where the sums of a side begin in all; 0: no
     * unit needs them */
    size_t *place[2];
    double *all; /* [n] owned: [criteria.n, length] of a side, side after side; NULL: sizes alone */
    size_t n;
} esp_saliency_sums;

/* Zeros for the sides of weights that the units of the set have. Local. */
void esp_saliency_sums_init(esp_saliency_sums *s, const esp_model *m, const esp_groups *g,
                            unsigned units, unsigned criteria);
void esp_saliency_sums_free(esp_saliency_sums *s); /* safe twice and on {0} */

/* The same without the sums themselves, of which there are s->n. Local. */
void esp_saliency_sums_init_sizes(esp_saliency_sums *s, const esp_model *m, const esp_groups *g,
                                  unsigned units, unsigned criteria);

/* Bytes that esp_saliency_sums_init allocates for sums of these sizes. Local. */
size_t esp_saliency_sums_bytes(const esp_saliency_sums *s, const esp_model *m);

/* Bit set of 1u << esp_side: those of a weight that a unit needs. Local. */
unsigned esp_saliency_sums_sides(const esp_saliency_sums *s, size_t layer, int slot);

/* [criteria.n, length] of a side of a weight; NULL where no unit needs it, and of sizes alone. Borrowed.
 * Local. */
double *esp_saliency_sums_at(const esp_saliency_sums *s, size_t layer, int slot, esp_side side);

/* Whether a sum is not finite; where: of such weights, the one that a backward meets first. Local. */
bool esp_saliency_sums_broken(size_t *layer, int *slot, const esp_saliency_sums *s,
                              const esp_model *m);

/* Sum over the ranks. Collective on comm. */
void esp_saliency_sums_reduce(esp_saliency_sums *s, MPI_Comm comm);

#endif
