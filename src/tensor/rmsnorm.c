/* rmsnorm.c - RMS norm, rows on their own, statistics in f64. */
#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/tensor.h"
#include "tensor/tile_impl.h"

#define COLUMNS ((size_t)128) /* of dw that one thread sums at a time */

/* r = 1 / sqrt(mean(x^2) + eps) of a row */
static double inverse_rms(const float *x, size_t D, float eps)
{
    double sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < D; c++) {
        sum += (double)x[c] * (double)x[c];
    }
    return 1 / sqrt(sum / (double)D + (double)eps);
}

void esp_rmsnorm_forward(float *y, const float *x, const float *w, size_t n_tok, size_t D,
                         float eps)
{
#pragma omp parallel for
    for (size_t t = 0; t < n_tok; t++) {
        const float *xt = x + t * D;
        float r = (float)inverse_rms(xt, D, eps);

        for (size_t c = 0; c < D; c++) {
            y[t * D + c] = xt[c] * r * w[c];
        }
    }
}

/* dx += r (w dy - x r^2 mean(w dy x)) for a row */
static void backward_row(float *dx, const float *dy, const float *x, const float *w, double r,
                         size_t D)
{
    double sum = 0;
    float a = (float)r, b;

#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < D; c++) {
        sum += (double)w[c] * (double)dy[c] * (double)x[c];
    }
    b = (float)(r * r * r * sum / (double)D);
    for (size_t c = 0; c < D; c++) {
        dx[c] += a * w[c] * dy[c] - b * x[c];
    }
}

/* dw = sum over rows of dy x r for n columns of one sample */
static void weight_columns(float *dw, const float *dy, const float *x, const double *r,
                           size_t n_rows, size_t n, size_t D)
{
    double sum[COLUMNS] = { 0 };

    for (size_t t = 0; t < n_rows; t++) {
        for (size_t c = 0; c < n; c++) {
            sum[c] += (double)dy[t * D + c] * (double)x[t * D + c] * r[t];
        }
    }
    for (size_t c = 0; c < n; c++) {
        dw[c] = (float)sum[c];
    }
}

void esp_rmsnorm_backward(float *dx, float *dw, const float *dy, const float *x, const float *w,
                          size_t D, float eps, const esp_batch *batch)
{
    double *r;

    ESP_NEW(r, batch->n_tok);
#pragma omp parallel for
    for (size_t t = 0; t < batch->n_tok; t++) {
        r[t] = inverse_rms(x + t * D, D, eps);
        backward_row(dx + t * D, dy + t * D, x + t * D, w, r[t], D);
    }
#pragma omp parallel for collapse(2) if (dw)
    for (size_t j = 0; j < (dw ? batch->n_samples : 0); j++) {
        for (size_t c = 0; c < D; c += COLUMNS) {
            size_t row = batch->start[j], at = row * D + c;

            weight_columns(dw + j * D + c, dy + at, x + at, r + row, batch->start[j + 1] - row,
                           esp_tile(c, D, COLUMNS), D);
        }
    }
    free(r);
}
