/* value_sums_impl.h - sums over the tokens of what a matrix takes and of the gradient of what it gives
 * (docs/method.md, eq. 36-38).
 *
 * A value of a block is summed once, whatever matrices multiply it. Of sizes alone there are places and their
 * number, but no sums.
 */
#ifndef ESPALIER_VALUE_SUMS_IMPL_H
#define ESPALIER_VALUE_SUMS_IMPL_H

#include "criteria_impl.h"

enum { ESP_SUM_X, ESP_SUM_X2, ESP_SUM_DX2, ESP_N_VALUE_SUMS }; /* of x, of x^2, of (dL/dx)^2 */

typedef struct esp_value_sums {
    const esp_model *model; /* borrowed */
    /* [n_layers * n_values] owned: 1 + where a sum of a value begins in all; 0: no criterion reads it */
    size_t *place[ESP_N_VALUE_SUMS];
    double *all; /* [n] owned: [width of the value] of each */
    size_t n;
} esp_value_sums;

/* Zeros for what the criteria of a set read of the weights of the units of a set. With bytes (else NULL) of
 * sizes alone: adds what that allocates; it is freed in the same way. Local. */
void esp_value_sums_init(esp_value_sums *s, const esp_model *m, const esp_groups *g, unsigned units,
                         unsigned criteria, size_t *bytes);
void esp_value_sums_free(esp_value_sums *s); /* safe twice and on {0} */

/* Adds n_tok tokens of a value, x and dx as esp_sink has them; NULL where there is none. Local. */
void esp_value_sums_add(esp_value_sums *s, size_t layer, int value, const float *x, const float *dx,
                        size_t n_tok);

/* Sum over the ranks, of x and x^2 then their means over n_tok tokens, of (dL/dx)^2 times scale. Collective
 * on comm. */
void esp_value_sums_reduce(esp_value_sums *s, double n_tok, double scale, MPI_Comm comm);

/* Whether a sum is not finite; where: a matrix that takes or gives the value. Local. */
bool esp_value_sums_broken(size_t *layer, int *slot, const esp_value_sums *s);

/* Of a matrix of a block, from sums that are reduced. Borrowed. Local. */
esp_moments esp_value_sums_moments(const esp_value_sums *s, size_t layer, int slot);

#endif
