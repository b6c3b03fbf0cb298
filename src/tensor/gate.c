/* gate.c - element by element: the gated activation and sums. */
#include "espalier/tensor.h"
#include "tensor/exp_impl.h"

#define WORTH_THREADS ((size_t)1 << 15) /* elements under which one thread is faster */

void esp_silu_gate_forward(float *y, const float *g, const float *u, size_t n)
{
#pragma omp parallel for simd if (parallel : n > WORTH_THREADS)
    for (size_t i = 0; i < n; i++) {
        y[i] = g[i] * esp_sigmoid(g[i]) * u[i];
    }
}

void esp_silu_gate_backward(float *dg, float *du, const float *dy, const float *g, const float *u,
                            size_t n)
{
#pragma omp parallel for simd if (parallel : n > WORTH_THREADS)
    for (size_t i = 0; i < n; i++) {
        float s = esp_sigmoid(g[i]), silu = g[i] * s;

        du[i] += dy[i] * silu;
        dg[i] += dy[i] * u[i] * (s + silu * (1 - s));
    }
}

void esp_add(float *y, const float *a, const float *b, size_t n)
{
#pragma omp parallel for simd if (parallel : n > WORTH_THREADS)
    for (size_t i = 0; i < n; i++) {
        y[i] = a[i] + b[i];
    }
}

void esp_accumulate(float *y, const float *a, size_t n)
{
    esp_add(y, y, a, n);
}
