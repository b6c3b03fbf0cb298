/* linear.c - products with a weight.
 *
 * One row, as in decoding, goes to the product with a vector, which reads the weight once and in place.
 */
#include <string.h>

#include "espalier/tensor.h"
#include "tensor/gemm_impl.h"
#include "tensor/tile_impl.h"

#define COLUMNS ((size_t)192) /* of db that one thread sums at a time */
#define STRIP   ((size_t)256) /* columns of a symmetric product that are made together */

/* y = x W^T or y += x W^T */
static void product(float *y, const float *x, esp_array w, bool add, size_t n_in, size_t n_out,
                    const esp_batch *batch)
{
    if (batch->n_tok == 1 && batch->n_samples == 1) {
        esp_gemv(y, x, w, add, n_out, n_in);
    } else {
        esp_gemm(y, n_out, add, esp_plain(x, n_in), esp_transposed(esp_typed(w, n_in)),
                 batch->n_tok, n_out, n_in);
    }
}

void esp_linear_forward(float *y, const float *x, esp_array w, const float *b, size_t n_in,
                        size_t n_out, const esp_batch *batch)
{
    if (b) {
#pragma omp parallel for
        for (size_t t = 0; t < batch->n_tok; t++) {
            memcpy(y + t * n_out, b, n_out * sizeof *y);
        }
    }
    product(y, x, w, b != NULL, n_in, n_out, batch);
}

void esp_linear_accumulate(float *y, const float *x, esp_array w, size_t n_in, size_t n_out,
                           const esp_batch *batch)
{
    product(y, x, w, true, n_in, n_out, batch);
}

void esp_linear_backward_input(float *dx, const float *dy, esp_array w, size_t n_in, size_t n_out,
                               const esp_batch *batch)
{
    esp_gemm(dx, n_in, true, esp_plain(dy, n_out), esp_typed(w, n_in), batch->n_tok, n_in, n_out);
}

/* db += column sums of dy */
static void add_columns(float *db, const float *dy, size_t n_tok, size_t n_out)
{
#pragma omp parallel for
    for (size_t col = 0; col < n_out; col += COLUMNS) {
        size_t n = esp_tile(col, n_out, COLUMNS);
        double sum[COLUMNS] = { 0 };

        for (size_t t = 0; t < n_tok; t++) {
            for (size_t c = 0; c < n; c++) {
                sum[c] += (double)dy[t * n_out + col + c];
            }
        }
        for (size_t c = 0; c < n; c++) {
            db[col + c] += (float)sum[c];
        }
    }
}

void esp_linear_backward_weight(float *dw, float *db, const float *dy, const float *x, size_t n_tok,
                                size_t n_in, size_t n_out)
{
    esp_gemm(dw, n_in, true, esp_transposed(esp_plain(dy, n_out)), esp_plain(x, n_in), n_out, n_in,
             n_tok);
    if (db) {
        add_columns(db, dy, n_tok, n_out);
    }
}

/* Strips of columns, each from the diagonal down. */
void esp_syrk(float *h, const float *x, size_t n_tok, size_t n)
{
    for (size_t j = 0; j < n; j += STRIP) {
        esp_operand from = esp_plain(x + j, n);

        esp_gemm(h + j * n + j, n, true, esp_transposed(from), from, n - j, esp_tile(j, n, STRIP),
                 n_tok);
    }
}
