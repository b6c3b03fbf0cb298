/* gemm_impl.h - products of f32 matrices whose numbers depend on nothing around them.
 *
 * An element of C = A B is a chain of fused multiply-adds over the inner index, cut every ESP_INNER
 * terms; the pieces are added in order. So its bits follow from its row of A and its column of B alone:
 * not from the size of the product, the tiles it is cut into, the threads, nor the width of vectors.
 * (BLAS promises none of this.) Only a row alone, as in decoding, has another product: see esp_gemv.
 *
 * Both operands are copied into panels first: runs of ESP_TILE_ROWS rows of A, of ESP_TILE_COLS columns of
 * B, for each inner index. A micro-kernel holds a tile of C, ESP_TILE_ROWS x ESP_TILE_COLS, in vector
 * registers.
 */
#ifndef ESPALIER_GEMM_IMPL_H
#define ESPALIER_GEMM_IMPL_H

#include <stdbool.h>
#include <stddef.h>

#include "espalier/tensor.h"
#include "tensor/lanes_impl.h"

/* A tile of C fills the registers: it is two vectors wide. 32 registers with AVX-512, else 16. */
#define ESP_TILE_ROWS ((size_t)(ESP_LANES == 16 ? 8 : ESP_LANES == 8 ? 6 : 4))
#define ESP_TILE_COLS (2 * ESP_LANES)
#define ESP_INNER     ((size_t)256)

/* Length of n columns in whole panels. */
#define ESP_PANELS(n) (((n) + ESP_TILE_COLS - 1) / ESP_TILE_COLS * ESP_TILE_COLS)

/* Element (i, j) is number i * row + j * col of `at`; row or col is 1. */
typedef struct esp_operand {
    const void *at;
    size_t row, col;
    esp_dtype type;
} esp_operand;

/* The same of numbers that are written. */
typedef struct esp_target {
    float *at;
    size_t row, col;
} esp_target;

static inline esp_operand esp_plain(const float *at, size_t width)
{
    return (esp_operand){ at, width, 1, ESP_F32 };
}

static inline esp_operand esp_typed(esp_array m, size_t width)
{
    return (esp_operand){ m.at, width, 1, m.type };
}

static inline esp_operand esp_transposed(esp_operand m)
{
    return (esp_operand){ m.at, m.col, m.row, m.type };
}

/* C [m, n] = A [m, k] B [k, n], or C += A B. By all threads; not from inside a parallel region. */
void esp_gemm(float *c, size_t width, bool add, esp_operand a, esp_operand b, size_t m, size_t n,
              size_t k);

/* Panels of a [m, k], each `length` inner indices behind the one before; missing rows are zero. Room for m,
 * rounded up to whole panels, times `length` numbers. */
void esp_pack_rows(float *to, size_t length, esp_operand a, size_t m, size_t k);

/* Panels of b [k, n], likewise: ESP_PANELS(n) * length numbers. */
void esp_pack_cols(float *to, size_t length, esp_operand b, size_t k, size_t n);

/* C [m, n] = A B or C += A B of packed operands, by the calling thread. */
void esp_multiply(esp_target c, bool add, const float *a, const float *b, size_t length, size_t m,
                  size_t n, size_t k);

/* Columns in runs of ESP_TILE_COLS, all of them readable: number j of panel q at inner index p is
 * at[q * panel + p * row + j]. */
typedef struct esp_columns {
    const float *at;
    size_t panel, row;
} esp_columns;

/* The same for products too small to be worth packing both: A is F32, its strides are any. */
void esp_multiply_in_place(esp_target c, bool add, esp_operand a, esp_columns b, size_t m, size_t n,
                           size_t k);

/* y [n] = B x or y += B x.  B [n, k]. By all threads. */
void esp_gemv(float *y, const float *x, esp_array b, bool add, size_t n, size_t k);

#endif
