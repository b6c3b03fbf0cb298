/* rotary.c - rotary positions; the angles are computed once per call, for all heads and for all samples with
 * the same frequencies. */
#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/tensor.h"

/* Cosine and sine of every angle at the positions of those samples of a batch that have the same
 * frequencies. */
typedef struct angles {
    const esp_rotation *rotation;
    size_t reach;     /* of these samples             */
    size_t lowest;    /* position of the first row    */
    float *cos, *sin; /* [positions, half] owned      */
    size_t half;      /* pairs that rotate            */
} angles;

/* What the frequencies of sample j depend on: the tokens of its sequence, as far as they count. */
static size_t reach_of(const esp_rope *r, const esp_batch *batch, size_t j)
{
    size_t T = esp_batch_before(batch, j) + batch->start[j + 1] - batch->start[j];

    if (r->border == 0 || T <= r->border) {
        return 0;
    }
    return r->longer ? r->border + 1 : T;
}

static double frequency(const esp_rope *r, size_t reach, size_t c)
{
    double s;

    if (reach == 0 || r->longer) {
        return reach == 0 ? r->inv_freq[c] : r->longer[c];
    }
    s = r->stretch * (double)reach / (double)r->border - (r->stretch - 1);
    return r->inv_freq[c] * pow(s, -2.0 * (double)c / (double)(r->n - 2));
}

static size_t position_of(const esp_rotation *r, const esp_batch *batch, size_t j, size_t t)
{
    return r->block_position ? esp_batch_block_position(batch, j, t)
                             : esp_batch_position(batch, j, t);
}

static bool is_of(const angles *a, const esp_batch *batch, size_t j)
{
    return reach_of(a->rotation->rope, batch, j) == a->reach;
}

/* Sets the lowest position; returns how many there are from it to the highest. */
static size_t positions(angles *a, const esp_batch *batch)
{
    size_t highest = 0;

    a->lowest = SIZE_MAX;
    for (size_t j = 0; j < batch->n_samples; j++) {
        for (size_t t = 0; is_of(a, batch, j) && t < batch->start[j + 1] - batch->start[j]; t++) {
            size_t at = position_of(a->rotation, batch, j, t);

            highest = esp_max(highest, at);
            a->lowest = esp_min(a->lowest, at);
        }
    }
    return highest + 1 - a->lowest;
}

/* direction 1 rotates forward, -1 back */
static void angles_init(angles *a, const esp_rotation *r, size_t reach, double direction,
                        const esp_batch *batch)
{
    size_t n, half = r->rope->n / 2;
    double *inv_freq = NULL, gain = r->rope->gain;

    *a = (angles){ .rotation = r, .reach = reach, .half = half };
    n = positions(a, batch);
    ESP_NEW(inv_freq, half);
    ESP_NEW(a->cos, n * half);
    ESP_NEW(a->sin, n * half);
    for (size_t c = 0; c < half; c++) {
        inv_freq[c] = frequency(r->rope, reach, c);
    }
#pragma omp parallel for
    for (size_t t = 0; t < n; t++) {
        for (size_t c = 0; c < half; c++) {
            double angle = (double)(a->lowest + t) * inv_freq[c];

            a->cos[t * half + c] = (float)(gain * cos(angle));
            a->sin[t * half + c] = (float)(direction * gain * sin(angle));
        }
    }
    free(inv_freq);
}

size_t esp_rotary_bytes(const esp_rope *rope, size_t longest)
{
    size_t half = rope->n / 2;

    return esp_calloc_bytes(half, sizeof(double)) +
           2 * esp_calloc_bytes(longest * half, sizeof(float));
}

static void angles_free(angles *a)
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
static inline void rotate_pairs(float *y, const float *x, bool add, const float *cos_t,
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
static void rotate_head(float *y, const float *x, bool add, const angles *a, size_t position,
                        size_t d)
{
    const esp_rotation *r = a->rotation;
    const float *cos_t = a->cos + (position - a->lowest) * a->half;
    const float *sin_t = a->sin + (position - a->lowest) * a->half;
    size_t end = r->first + r->rope->n;

    pass_channels(y, x, add, r->first);
    if (r->pairs) {
        rotate_pairs(y + r->first, x + r->first, add, cos_t, sin_t, a->half, 2, 1);
    } else {
        rotate_pairs(y + r->first, x + r->first, add, cos_t, sin_t, a->half, 1, a->half);
    }
    pass_channels(y + end, x + end, add, d - end);
}

static void rotate_batch(float *y, const float *x, bool add, const angles *a, size_t H, size_t d,
                         const esp_batch *batch)
{
#pragma omp parallel
    for (size_t j = 0; j < batch->n_samples; j++) {
        size_t begin = batch->start[j];

        if (!is_of(a, batch, j)) {
            continue;
        }

#pragma omp for nowait
        for (size_t row = begin; row < batch->start[j + 1]; row++) {
            size_t position = position_of(a->rotation, batch, j, row - begin);

            for (size_t at = row * H * d; at < (row + 1) * H * d; at += d) {
                rotate_head(y + at, x + at, add, a, position, d);
            }
        }
    }
}

/* Whether no sample before j has the same frequencies. */
static bool is_first(const esp_rope *r, const esp_batch *batch, size_t j)
{
    size_t i = 0;

    while (i < j && reach_of(r, batch, i) != reach_of(r, batch, j)) {
        i++;
    }
    return i == j;
}

static void rotate_all(float *y, const float *x, bool back, const esp_rotation *r, size_t H,
                       size_t d, const esp_batch *batch)
{
    for (size_t j = 0; j < batch->n_samples; j++) {
        if (is_first(r->rope, batch, j)) {
            angles a;

            angles_init(&a, r, reach_of(r->rope, batch, j), back ? -1 : 1, batch);
            rotate_batch(y, x, back, &a, H, d, batch);
            angles_free(&a);
        }
    }
}

void esp_rotary_forward(float *y, const float *x, const esp_rotation *r, size_t H, size_t d,
                        const esp_batch *batch)
{
    rotate_all(y, x, false, r, H, d, batch);
}

void esp_rotary_backward(float *dx, const float *dy, const esp_rotation *r, size_t H, size_t d,
                         const esp_batch *batch)
{
    rotate_all(dx, dy, true, r, H, d, batch);
}
