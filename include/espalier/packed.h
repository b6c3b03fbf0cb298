/* packed.h - rows of dy and x, packed for the products dy^T x that are gradients of weights.
 *
 * Flow: rows are packed as they come (esp_packed_fill) -> tiles of a weight's gradient, or sums of them over
 * samples.
 *
 * Each sample has a block. There its columns lie in panels of a few, token after token; columns that are
 * missing in the last panel are zero. Blocks follow each other: that of sample j is behind begin[j] rows of
 * esp_packed_width. How wide panels are depends on the processor and the factor. All functions are Local.
 */
#ifndef ESPALIER_PACKED_H
#define ESPALIER_PACKED_H

#include <stddef.h>

typedef enum esp_factor { ESP_FACTOR_DY, ESP_FACTOR_X } esp_factor; /* of dy^T x */

#define ESP_WIDEST_PANEL ((size_t)32) /* columns of a panel at most */

/* Numbers that a row of n takes when packed; that of 1 is the width of a panel. */
size_t esp_packed_width(esp_factor which, size_t n);

/* Tokens begin[j] .. end[j] - 1 are sample j's. */
typedef struct esp_spans {
    size_t n;
    const size_t *begin, *end; /* [n] borrowed */
} esp_spans;

/* Packs rows first .. first + n - 1 of the batch, rows [n, width]; its samples follow each other. By all
 * threads. */
void esp_packed_fill(float *packed, esp_factor which, const float *rows, size_t width, size_t first,
                     size_t n, const esp_spans *s);

/* Sums over the tokens of a sample of columns `col` .. col + n - 1 of dy, which has `width`; `col` is a
 * multiple of 24.  sum [n] */
void esp_packed_sums(double *sum, const float *dy, size_t width, size_t col, size_t n, size_t begin,
                     size_t end);

/* Where a tile lies in its weight: row is a multiple of 24, col of 32. */
typedef struct esp_weight_tile {
    size_t row, col, n_rows, n_cols;
} esp_weight_tile;

/* Both sides of the product for a weight [rows, cols]. */
typedef struct esp_factors {
    const float *dy, *x; /* packed; borrowed */
    size_t rows, cols;
} esp_factors;

/* g [n_rows, n_cols] = a tile of dy^T x over tokens begin .. end - 1, a sample's. By the calling thread. */
void esp_packed_gradient(float *g, const esp_weight_tile *at, const esp_factors *f, size_t begin,
                         size_t end);

/* G = sum of g, F = sum of g^2 (NULL: not asked for) over the gradients g of samples, as if these were made
 * and added one after another: the same bits.  G, F [n_rows, n_cols]; scratch, likewise. By the calling
 * thread. */
void esp_packed_moments(double *G, double *F, float *scratch, const esp_weight_tile *at,
                        const esp_factors *f, const esp_spans *s);

/* G += g and F += g^2 over n numbers, by the calling thread; F may be NULL. */
void esp_moments_add(double *G, double *F, const float *g, size_t n);

#endif
