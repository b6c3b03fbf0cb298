/* bf16.h - products of bf16 matrices, summed in f32 (precision = "bf16").
 *
 * Flow: esp_precision_check, before any work -> esp_bf16_open -> activations and gradients are rounded
 * (esp_bf16_round), weights stay as they are on disk where that is BF16 -> products. oneDNN multiplies, where
 * the build has found it and the processor has bf16 products (AVX512-BF16, AMX).
 *
 * An element of a product has the same bits for any number of threads and of rows: oneDNN sums over the inner
 * dimension in an order that does not depend on the number of rows, but for a single row, which is computed
 * as the first of two. Pointers of one call do not overlap.
 */
#ifndef ESPALIER_BF16_H
#define ESPALIER_BF16_H

#include "espalier/packed.h"
#include "espalier/status.h"
#include "espalier/tensor.h"

typedef enum esp_precision {
    ESP_PRECISION_F32,
    ESP_PRECISION_BF16,
    ESP_N_PRECISIONS
} esp_precision;

/* "f32" "bf16"; NULL from ESP_N_PRECISIONS on. Static. Local. */
const char *esp_precision_name(esp_precision p);

/* ESP_EUSAGE where this build or this processor has no products of that precision. Local. */
esp_status esp_precision_check(esp_precision p);

typedef struct esp_bf16 esp_bf16;

/* The products of a precision that has passed its check, for the caller to close; NULL for ESP_PRECISION_F32.
 * Local. */
esp_bf16 *esp_bf16_open(esp_precision p);
size_t esp_bf16_bytes(esp_precision p); /* that it allocates, but for the library's own. Local. */
void esp_bf16_close(esp_bf16 *b);       /* NULL is fine */

/* A matrix of bf16 numbers, row-major. */
typedef struct esp_bf16_buffer {
    uint16_t *at; /* owned; grows as needed */
    size_t n;
} esp_bf16_buffer;

/* Allocates n numbers in an empty buffer [in,out], or where bytes [in,out] is not NULL only adds the bytes
 * they take. Local. */
void esp_bf16_buffer_make(esp_bf16_buffer *buffer, size_t n, size_t *bytes);

/* Makes room for n numbers in buffer [in,out], or where bytes [in,out] is not NULL only counts them in
 * buffer->n and adds the bytes they take beyond those of before. Local. */
void esp_bf16_buffer_fit(esp_bf16_buffer *buffer, size_t n, size_t *bytes);

/* Numbers that esp_bf16_round needs in its buffer. Local. */
size_t esp_bf16_rounded(size_t n_rows, size_t n_cols);

/* x [n_rows, n_cols] rounded to nearest even, row-major, and a row of zeros. Points into buffer [in,out],
 * valid until the next call for that. Local. */
const uint16_t *esp_bf16_round(esp_bf16_buffer *buffer, const float *x, size_t n_rows,
                               size_t n_cols);
void esp_bf16_buffer_free(esp_bf16_buffer *buffer); /* safe twice and on {0} */

/* y [n_tok, n_out] = x W^T + b.  x [n_tok, n_in] of esp_bf16_round  w [n_out, n_in]  b [n_out] or NULL.
 * Local. */
void esp_bf16_forward(const esp_bf16 *p, float *y, const uint16_t *x, const uint16_t *w,
                      const float *b, size_t n_tok, size_t n_in, size_t n_out);

/* dx [n_tok, n_in] += dy W.  dy [n_tok, n_out] of esp_bf16_round  w [n_out, n_in]. Local. */
void esp_bf16_backward_input(const esp_bf16 *p, float *dx, const uint16_t *dy, const uint16_t *w,
                             size_t n_tok, size_t n_in, size_t n_out);

/* The transpose, [n_cols, n_tok], of packed rows (packed.h) of n_tok tokens in spans s, rounded to nearest
 * even, for a sum over tokens. Points into buffer [in,out], valid until the next call for that. Local. */
const uint16_t *esp_bf16_round_packed(esp_bf16_buffer *buffer, esp_factor which,
                                      const float *packed, size_t n_cols, size_t n_tok,
                                      const esp_spans *s);

/* g [n_rows, n_cols] = dy^T x, a tile of a weight's gradient, by the calling thread alone. dy and x of
 * esp_bf16_round_packed point at the first of n_tok tokens of the tile's first row and first column; their
 * rows are `distance` numbers apart. Local. */
void esp_bf16_gradient_tile(const esp_bf16 *p, float *g, size_t n_rows, size_t n_cols,
                            const uint16_t *dy, const uint16_t *x, size_t n_tok, size_t distance);

#endif
