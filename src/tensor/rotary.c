/* rotary.c - rotary positions; the angles are made once a call, for all heads and samples. */
#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/tensor.h"

/* Cosine and sine of every angle of the longest sample. */
typedef struct turns {
    float *cos, *sin; /* [longest sample, half] owned */
    size_t half;      /* d / 2                        */
} turns;

/* direction 1 turns forward, -1 back */
static void turns_init(turns *a, const double *inv_freq, size_t d, double direction,
                       const esp_batch *batch)
{
    size_t n = esp_batch_longest(batch), half = d / 2;

    a->half = half;
    ESP_NEW(a->cos, n * half);
    ESP_NEW(a->sin, n * half);
#pragma omp parallel for
    for (size_t t = 0; t < n; t++) {
        for (size_t c = 0; c < half; c++) {
            double angle = (double)(batch->position + t) * inv_freq[c];

            a->cos[t * half + c] = (float)cos(angle);
            a->sin[t * half + c] = (float)(direction * sin(angle));
        }
    }
}

static void turns_free(turns *a)
{
    free(a->cos);
    free(a->sin);
}

/* y = R x, or y += R x, for the heads of row t of a sample */
static void turn_row(float *y, const float *x, bool add, const turns *a, size_t t, size_t H)
{
    const float *cos_t = a->cos + t * a->half, *sin_t = a->sin + t * a->half;

    for (size_t h = 0; h < H; h++) {
        float *y0 = y + 2 * h * a->half, *y1 = y0 + a->half;
        const float *x0 = x + 2 * h * a->half, *x1 = x0 + a->half;

#pragma omp simd
        for (size_t c = 0; c < a->half; c++) {
            float u = x0[c] * cos_t[c] - x1[c] * sin_t[c];
            float v = x1[c] * cos_t[c] + x0[c] * sin_t[c];

            y0[c] = add ? y0[c] + u : u;
            y1[c] = add ? y1[c] + v : v;
        }
    }
}

static void turn_batch(float *y, const float *x, bool add, const turns *a, size_t H,
                       const esp_batch *batch)
{
    size_t width = 2 * H * a->half;

#pragma omp parallel
    for (size_t j = 0; j < batch->n_samples; j++) {
        size_t begin = batch->start[j];

#pragma omp for nowait
        for (size_t row = begin; row < batch->start[j + 1]; row++) {
            turn_row(y + row * width, x + row * width, add, a, row - begin, H);
        }
    }
}

void esp_rotary_forward(float *y, const float *x, const double *inv_freq, size_t H, size_t d,
                        const esp_batch *batch)
{
    turns a;

    turns_init(&a, inv_freq, d, 1, batch);
    turn_batch(y, x, false, &a, H, batch);
    turns_free(&a);
}

void esp_rotary_backward(float *dx, const float *dy, const double *inv_freq, size_t H, size_t d,
                         const esp_batch *batch)
{
    turns a;

    turns_init(&a, inv_freq, d, -1, batch);
    turn_batch(dx, dy, true, &a, H, batch);
    turns_free(&a);
}
