/* gate_sums_impl.h - gradients of gates on the outputs of groups, summed over samples (docs/method.md,
 * eq. 33).
 *
 * The outputs of a group of an attention or MLP unit are channels of one value of the block, which one matrix
 * multiplies: that whose columns the unit has. A gate m = 1 on them has the gradient sum x dL/dx over these
 * channels and the tokens of a sample, x the value. Of sizes alone there is no array, only their length.
 */
#ifndef ESPALIER_GATE_SUMS_IMPL_H
#define ESPALIER_GATE_SUMS_IMPL_H

#include "espalier/importance.h"

typedef struct esp_gate_sums {
    const esp_groups *groups; /* borrowed */
    int *
        value; /* [n_units] owned: number of the value that holds the unit's outputs; -1: no gates */
    size_t *
        place; /* [n_units] owned: where the sums of a unit begin in all                            */
    double *
        all; /* [n] owned: [2, n_groups] of each unit, sums over samples of dL_j/dm and (dL_j/dm)^2 */
    size_t n;
    double *channel; /* [widest value] owned: scratch, sums of channels */
    double *gate;    /* [widest value] owned: scratch, sums of groups   */
} esp_gate_sums;

/* Zeros for the attention and MLP units of a set; none where no criterion needs gates. With bytes (else
 * NULL) of sizes alone: adds what that allocates. Local. */
void esp_gate_sums_init(esp_gate_sums *s, const esp_model *m, const esp_groups *g, unsigned units,
                        unsigned criteria, size_t *bytes);
void esp_gate_sums_free(esp_gate_sums *s); /* safe twice and on {0} */

/* gate [out, n_groups]: sum of x dx over rows begin .. end - 1 and the channels of each group of a unit of a
 * layer, x and dx [rows, width] its outputs and their gradients. channel [width]: scratch. Local. */
void esp_gate_gradients(double *gate, double *channel, const esp_unit *u, const float *x,
                        const float *dx, size_t begin, size_t end);

/* Takes a value and its gradient, as esp_sink has them, of samples that all count; those that hold no
 * outputs of a unit are left out. Local. */
void esp_gate_sums_add(esp_gate_sums *s, size_t layer, int value, const float *x, const float *dx,
                       const esp_batch *chunk);

/* Sum over the ranks. Collective on comm. */
void esp_gate_sums_reduce(esp_gate_sums *s, MPI_Comm comm);

/* Whether a sum is not finite; where: the matrix that a backward meets first of those that multiply such
 * outputs. Local. */
bool esp_gate_sums_broken(size_t *layer, int *slot, const esp_gate_sums *s);

/* [n_groups] of a unit: sums over samples of dL_j/dm, power 1, or of its square, power 2; NULL where it has
 * no gates. Borrowed. Local. */
const double *esp_gate_sums_at(const esp_gate_sums *s, const esp_unit *u, int power);

#endif
