/* linear.c - products with a weight, in tiles that the threads share out.
 *
 * A tile is one single-threaded product over the whole inner dimension. Tiles are cut at the row blocks
 * of the batch and at fixed columns, never by the number of threads: BLAS gives a number other bits
 * when the edges of the product around it move.
 */
#include <string.h>

#include "espalier/tensor.h"
#include "tensor/gemm_impl.h"
#include "tensor/tile_impl.h"

/* Columns of a tile of y or dx, rows and columns of a tile of dw: large enough for BLAS to come within a
 * tenth of its speed on the whole product, small enough that a narrow model gives every thread some. */
#define TILE ((size_t)192)

/* y = beta y + x W^T */
static void product(float *y, const float *x, const float *w, float beta, size_t n_in, size_t n_out,
                    const esp_batch *batch)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (size_t col = 0; col < n_out; col += TILE) {
        for (size_t i = 0; i < batch->n_blocks; i++) {
            size_t row = batch->block[i], n_rows = batch->block[i + 1] - row;

            esp_gemm(ESP_N, ESP_T, n_rows, esp_tile(col, n_out, TILE), n_in, 1, x + row * n_in,
                     n_in, w + col * n_in, n_in, beta, y + row * n_out + col, n_out);
        }
    }
}

void esp_linear_forward(float *y, const float *x, const float *w, const float *b, size_t n_in,
                        size_t n_out, const esp_batch *batch)
{
    if (b) {
#pragma omp parallel for
        for (size_t t = 0; t < batch->n_tok; t++) {
            memcpy(y + t * n_out, b, n_out * sizeof *y);
        }
    }
    product(y, x, w, b ? 1 : 0, n_in, n_out, batch);
}

void esp_linear_accumulate(float *y, const float *x, const float *w, size_t n_in, size_t n_out,
                           const esp_batch *batch)
{
    product(y, x, w, 1, n_in, n_out, batch);
}

void esp_linear_backward_input(float *dx, const float *dy, const float *w, size_t n_in,
                               size_t n_out, const esp_batch *batch)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (size_t col = 0; col < n_in; col += TILE) {
        for (size_t i = 0; i < batch->n_blocks; i++) {
            size_t row = batch->block[i], n_rows = batch->block[i + 1] - row;

            esp_gemm(ESP_N, ESP_N, n_rows, esp_tile(col, n_in, TILE), n_out, 1, dy + row * n_out,
                     n_out, w + col, n_in, 1, dx + row * n_in + col, n_in);
        }
    }
}

/* db += column sums of dy */
static void add_columns(float *db, const float *dy, size_t n_tok, size_t n_out)
{
#pragma omp parallel for
    for (size_t col = 0; col < n_out; col += TILE) {
        size_t n = esp_tile(col, n_out, TILE);
        double sum[TILE] = { 0 };

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
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (size_t row = 0; row < n_out; row += TILE) {
        for (size_t col = 0; col < n_in; col += TILE) {
            esp_gemm(ESP_T, ESP_N, esp_tile(row, n_out, TILE), esp_tile(col, n_in, TILE), n_tok, 1,
                     dy + row, n_out, x + col, n_in, 1, dw + row * n_in + col, n_in);
        }
    }
    if (db) {
        add_columns(db, dy, n_tok, n_out);
    }
}

void esp_linear_gradient_tile(float *g, size_t n_rows, size_t n_cols, const float *dy,
                              const float *x, size_t n_tok, size_t n_in, size_t n_out)
{
    esp_gemm(ESP_T, ESP_N, n_rows, n_cols, n_tok, 1, dy, n_out, x, n_in, 0, g, n_cols);
}
