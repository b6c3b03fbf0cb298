/* norm.c - RMS norm and layer norm: rows on their own, statistics in f64.
 *
 * Both are y = (x - mean) r w (+ b); the RMS norm takes the mean for 0.
 */
#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/tensor.h"
#include "tensor/tile_impl.h"

#define COLUMNS ((size_t)128) /* of dw that one thread sums at a time */

typedef struct moments {
    double mean, r; /* r = 1 / sqrt(mean((x - mean)^2) + eps) */
} moments;

static moments moments_of(const float *x, size_t D, float eps, bool centred)
{
    double sum = 0, squares = 0, mean;

    if (centred) {
#pragma omp simd reduction(+ : sum)
        for (size_t c = 0; c < D; c++) {
            sum += (double)x[c];
        }
    }
    mean = sum / (double)D;
#pragma omp simd reduction(+ : squares)
    for (size_t c = 0; c < D; c++) {
        squares += ((double)x[c] - mean) * ((double)x[c] - mean);
    }
    return (moments){ mean, 1 / sqrt(squares / (double)D + (double)eps) };
}

void esp_rmsnorm_forward(float *y, const float *x, const float *w, size_t n_tok, size_t D,
                         float eps)
{
#pragma omp parallel for
    for (size_t t = 0; t < n_tok; t++) {
        const float *xt = x + t * D;
        float r = (float)moments_of(xt, D, eps, false).r;

        for (size_t c = 0; c < D; c++) {
            y[t * D + c] = xt[c] * r * w[c];
        }
    }
}

void esp_layernorm_forward(float *y, const float *x, const float *w, const float *b, size_t n_tok,
                           size_t D, float eps)
{
#pragma omp parallel for
    for (size_t t = 0; t < n_tok; t++) {
        const float *xt = x + t * D;
        moments m = moments_of(xt, D, eps, true);
        float mean = (float)m.mean, r = (float)m.r;

        for (size_t c = 0; c < D; c++) {
            y[t * D + c] = (xt[c] - mean) * r * w[c] + b[c];
        }
    }
}

/* dx += r (w dy - mean(w dy) - z r^2 mean(w dy z)) with z = x - mean for a row; the first mean is 0
 * where the row is not centred */
static void backward_row(float *dx, const float *dy, const float *x, const float *w, moments m,
                         size_t D, bool centred)
{
    double sum = 0, along = 0;
    float r = (float)m.r, mean = (float)m.mean, shift, slope;

#pragma omp simd reduction(+ : sum, along)
    for (size_t c = 0; c < D; c++) {
        double g = (double)w[c] * (double)dy[c];

        sum += g;
        along += g * ((double)x[c] - m.mean);
    }
    shift = centred ? (float)(m.r * sum / (double)D) : 0;
    slope = (float)(m.r * m.r * m.r * along / (double)D);
    for (size_t c = 0; c < D; c++) {
        dx[c] += r * w[c] * dy[c] - slope * (x[c] - mean) - shift;
    }
}

/* dw = sum over rows of dy (x - mean) r for n columns of one sample */
static void weight_columns(float *dw, const float *dy, const float *x, const moments *m,
                           size_t n_rows, size_t n, size_t D)
{
    double sum[COLUMNS] = { 0 };

    for (size_t t = 0; t < n_rows; t++) {
        for (size_t c = 0; c < n; c++) {
            sum[c] += (double)dy[t * D + c] * ((double)x[t * D + c] - m[t].mean) * m[t].r;
        }
    }
    for (size_t c = 0; c < n; c++) {
        dw[c] = (float)sum[c];
    }
}

/* db = sum over rows of dy, likewise */
static void bias_columns(float *db, const float *dy, size_t n_rows, size_t n, size_t D)
{
    double sum[COLUMNS] = { 0 };

    for (size_t t = 0; t < n_rows; t++) {
        for (size_t c = 0; c < n; c++) {
            sum[c] += (double)dy[t * D + c];
        }
    }
    for (size_t c = 0; c < n; c++) {
        db[c] = (float)sum[c];
    }
}

static void norm_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                          const float *w, size_t D, float eps, bool centred, const esp_batch *batch)
{
    moments *m;

    ESP_NEW(m, batch->n_tok);
#pragma omp parallel for
    for (size_t t = 0; t < batch->n_tok; t++) {
        m[t] = moments_of(x + t * D, D, eps, centred);
        backward_row(dx + t * D, dy + t * D, x + t * D, w, m[t], D, centred);
    }
#pragma omp parallel for collapse(2) if (dw || db)
    for (size_t j = 0; j < (dw || db ? batch->n_samples : 0); j++) {
        for (size_t c = 0; c < D; c += COLUMNS) {
            size_t row = batch->start[j], n_rows = batch->start[j + 1] - row, at = row * D + c;
            size_t n = esp_tile(c, D, COLUMNS);

            if (dw) {
                weight_columns(dw + j * D + c, dy + at, x + at, m + row, n_rows, n, D);
            }
            if (db) {
                bias_columns(db + j * D + c, dy + at, n_rows, n, D);
            }
        }
    }
    free(m);
}

size_t esp_norm_bytes(size_t n_rows)
{
    return esp_calloc_bytes(n_rows, sizeof(moments));
}

void esp_rmsnorm_backward(float *dx, float *dw, const float *dy, const float *x, const float *w,
                          size_t D, float eps, const esp_batch *batch)
{
    norm_backward(dx, dw, NULL, dy, x, w, D, eps, false, batch);
}

void esp_layernorm_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                            const float *w, size_t D, float eps, const esp_batch *batch)
{
    norm_backward(dx, dw, db, dy, x, w, D, eps, true, batch);
}
