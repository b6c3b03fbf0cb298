/* gate.c - element by element: activations, alone and as a gate, the soft cap, and sums. */
#include "espalier/tensor.h"
#include "tensor/exp_impl.h"
#include "tensor/tile_impl.h"

#define WORTH_THREADS ((size_t)1 << 15) /* elements under which one thread is faster */
#define TILE          ((size_t)1024)    /* elements whose curve stays in cache         */

/* ---- curves ----------------------------------------------------------------------------------- */

/* An activation at one point. */
typedef struct curve {
    float y, slope;
} curve;

/* x where the exponent of a GELU is worth computing: beyond, its tail is under the smallest float. */
static inline float within_tails(float x)
{
    x = esp_select(x < -13.5f, -13.5f, x);
    return esp_select(x > 13.5f, 13.5f, x);
}

static inline curve silu(float x)
{
    float e = esp_expf(-x), s = 1 / (1 + e);

    return (curve){ x * s, s + x * s * (e * s) }; /* e s = 1 - s */
}

/* (1 + tanh(u)) / 2 is the sigmoid of z = 2u, which loses nothing in the tail. */
static inline curve gelu_tanh(float x)
{
    const double a = 1.5957691216057308, b = 0.044715; /* 2 sqrt(2 / pi) */
    float near = within_tails(x);
    double square = (double)near * (double)near;
    float e = esp_exp_of_double(-a * (double)near * (1 + b * square)), s = 1 / (1 + e);
    float dz = (float)(a * (1 + 3 * b * square));

    return (curve){ esp_select(x > near, x, near) * s, s + near * dz * s * (e * s) };
}

/* The normal distribution's tail P(X > z), z >= 0, over exp(-z^2 / 2), relative error under 1e-7 for
 * z <= 13.5: a polynomial in t = 1 / (1 + 0.28 z) fitted to it for the least largest relative error. */
static inline float normal_tail(float z)
{
    float t = 1 / (1 + 0.28f * z), p = 0.0224976074f;

    p = p * t - 0.0819158524f;
    p = p * t + 0.0667365425f;
    p = p * t + 0.024384255f;
    p = p * t + 0.0507679122f;
    p = p * t + 0.093162542f;
    p = p * t + 0.100646612f;
    p = p * t + 0.112035597f;
    p = p * t + 0.11168481f;
    return p * t;
}

static inline curve gelu_erf(float x)
{
    const float density = 0.398942280f; /* 1 / sqrt(2 pi) */
    float near = within_tails(x), e = esp_exp_of_double(-0.5 * (double)near * (double)near);
    float tail = e * normal_tail(esp_select(near < 0, -near, near));
    float below = esp_select(near < 0, tail, 1 - tail); /* P(X < x) */

    return (curve){ esp_select(x > near, x, near) * below, below + near * density * e };
}

static inline curve relu(float x)
{
    return (curve){ esp_select(x < 0, 0, x), esp_select(x > 0, 1, 0) };
}

static inline void follow(float *y, float *slope, const float *x, size_t n, curve (*at)(float))
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        curve c = at(x[i]);

        y[i] = c.y;
        slope[i] = c.slope;
    }
}

/* y, slope [n] of a tile */
static void curves(float *y, float *slope, const float *x, esp_activation a, size_t n)
{
    switch (a) {
    case ESP_SILU:
        follow(y, slope, x, n, silu);
        break;
    case ESP_GELU_TANH:
        follow(y, slope, x, n, gelu_tanh);
        break;
    case ESP_GELU_ERF:
        follow(y, slope, x, n, gelu_erf);
        break;
    case ESP_RELU:
        follow(y, slope, x, n, relu);
        break;
    }
}

/* ---- activations ------------------------------------------------------------------------------ */

void esp_activation_forward(float *y, const float *x, esp_activation a, size_t n)
{
#pragma omp parallel for if (n > WORTH_THREADS)
    for (size_t i = 0; i < n; i += TILE) {
        float slope[TILE];

        curves(y + i, slope, x + i, a, esp_tile(i, n, TILE));
    }
}

/* da += b c over a tile */
static void add_product(float *da, const float *b, const float *c, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        da[i] += b[i] * c[i];
    }
}

void esp_activation_backward(float *dx, const float *dy, const float *x, esp_activation a, size_t n)
{
#pragma omp parallel for if (n > WORTH_THREADS)
    for (size_t i = 0; i < n; i += TILE) {
        size_t m = esp_tile(i, n, TILE);
        float y[TILE], slope[TILE];

        curves(y, slope, x + i, a, m);
        add_product(dx + i, dy + i, slope, m);
    }
}

void esp_gate_forward(float *y, const float *g, const float *u, esp_activation a, size_t n)
{
#pragma omp parallel for if (n > WORTH_THREADS)
    for (size_t i = 0; i < n; i += TILE) {
        size_t m = esp_tile(i, n, TILE);
        float slope[TILE];

        curves(y + i, slope, g + i, a, m);
#pragma omp simd
        for (size_t c = i; c < i + m; c++) {
            y[c] *= u[c];
        }
    }
}

void esp_gate_backward(float *dg, float *du, const float *dy, const float *g, const float *u,
                       esp_activation a, size_t n)
{
#pragma omp parallel for if (n > WORTH_THREADS)
    for (size_t i = 0; i < n; i += TILE) {
        size_t m = esp_tile(i, n, TILE);
        float y[TILE], slope[TILE];

        curves(y, slope, g + i, a, m);
        add_product(du + i, dy + i, y, m);
        for (size_t c = 0; c < m; c++) {
            slope[c] *= u[i + c];
        }
        add_product(dg + i, dy + i, slope, m);
    }
}

void esp_soft_cap(float *x, float cap, size_t n)
{
#pragma omp parallel for if (n > WORTH_THREADS)
    for (size_t i = 0; i < n; i += TILE) {
        esp_cap_row(x + i, cap, esp_tile(i, n, TILE));
    }
}

/* ---- sums ------------------------------------------------------------------------------------- */

void esp_add(float *y, const float *a, float scale, const float *b, size_t n)
{
#pragma omp parallel for simd if (parallel : n > WORTH_THREADS)
    for (size_t i = 0; i < n; i++) {
        y[i] = scale * a[i] + b[i];
    }
}

void esp_accumulate(float *y, const float *a, size_t n)
{
    esp_add(y, y, 1, a, n);
}
