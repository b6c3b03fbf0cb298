/* rotary.c - rotary positions; the angles are made once a call, for all heads and samples. */
#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/tensor.h"

/* Cosine and sine of every angle at the positions of a batch. */
typedef struct turns {
    const esp_rotation *rotation;
    size_t lowest;    /* position of the first row    */
    float *cos, *sin; /* [positions, half] owned      */
    size_t half;      /* pairs that turn              */
} turns;

static size_t position_of(const esp_rotation *r, const esp_batch *batch, size_t j, size_t t)
{
    return r->block_position ? esp_batch_block_position(batch, j, t)
                             : esp_batch_position(batch, j, t);
}

/* Lowest position of the batch, and how many there are from it to the highest. */
static size_t positions(size_t *lowest, const esp_rotation *r, const esp_batch *batch)
{
    size_t highest = 0;

    *lowest = SIZE_MAX;
    for (size_t j = 0; j < batch->n_samples; j++) {
        for (size_t t = 0; t < batch->start[j + 1] - batch->start[j]; t++) {
            size_t at = position_of(r, batch, j, t);

            highest = at > highest ? at : highest;
            *lowest = at < *lowest ? at : *lowest;
        }
    }
    return highest + 1 - *lowest;
}

/* direction 1 turns forward, -1 back */
static void turns_init(turns *a, const esp_rotation *r, double direction, const esp_batch *batch)
{
    size_t n = positions(&a->lowest, r, batch), half = r->n / 2;

    a->rotation = r;
    a->half = half;
    ESP_NEW(a->cos, n * half);
    ESP_NEW(a->sin, n * half);
#pragma omp parallel for
    for (size_t t = 0; t < n; t++) {
        for (size_t c = 0; c < half; c++) {
            double angle = (double)(a->lowest + t) * r->inv_freq[c];

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

/* y = x, or y += x */
static void pass_channels(float *y, const float *x, bool add, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        y[c] = add ? y[c] + x[c] : x[c];
    }
}

/* y = R x, or y += R x, for the pairs (x[c * step], x[c * step + apart]) of a head */
static inline void turn_pairs(float *y, const float *x, bool add, const float *cos_t,
                              const float *sin_t, size_t half, size_t step, size_t apart)
{
#pragma omp simd
    for (size_t c = 0; c < half; c++) {
        float x0 = x[c * step], x1 = x[c * step + apart];
        float u = x0 * cos_t[c] - x1 * sin_t[c], v = x1 * cos_t[c] + x0 * sin_t[c];

        y[c * step] = add ? y[c * step] + u : u;
        y[c * step + apart] = add ? y[c * step + apart] + v : v;
    }
}

/* One head of d channels at a position. */
static void turn_head(float *y, const float *x, bool add, const turns *a, size_t position, size_t d)
{
    const esp_rotation *r = a->rotation;
    const float *cos_t = a->cos + (position - a->lowest) * a->half;
    const float *sin_t = a->sin + (position - a->lowest) * a->half;
    size_t end = r->first + r->n;

    pass_channels(y, x, add, r->first);
    if (r->pairs) {
        turn_pairs(y + r->first, x + r->first, add, cos_t, sin_t, a->half, 2, 1);
    } else {
        turn_pairs(y + r->first, x + r->first, add, cos_t, sin_t, a->half, 1, a->half);
    }
    pass_channels(y + end, x + end, add, d - end);
}

static void turn_batch(float *y, const float *x, bool add, const turns *a, size_t H, size_t d,
                       const esp_batch *batch)
{
#pragma omp parallel
    for (size_t j = 0; j < batch->n_samples; j++) {
        size_t begin = batch->start[j];

#pragma omp for nowait
        for (size_t row = begin; row < batch->start[j + 1]; row++) {
            size_t position = position_of(a->rotation, batch, j, row - begin);

            for (size_t at = row * H * d; at < (row + 1) * H * d; at += d) {
                turn_head(y + at, x + at, add, a, position, d);
            }
        }
    }
}

void esp_rotary_forward(float *y, const float *x, const esp_rotation *r, size_t H, size_t d,
                        const esp_batch *batch)
{
    turns a;

    turns_init(&a, r, 1, batch);
    turn_batch(y, x, false, &a, H, d, batch);
    turns_free(&a);
}

void esp_rotary_backward(float *dx, const float *dy, const esp_rotation *r, size_t H, size_t d,
                         const esp_batch *batch)
{
    turns a;

    turns_init(&a, r, -1, batch);
    turn_batch(dx, dy, true, &a, H, d, batch);
    turns_free(&a);
}
