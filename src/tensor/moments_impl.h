/* moments_impl.h - sums of numbers and of their squares. */
#ifndef ESPALIER_MOMENTS_IMPL_H
#define ESPALIER_MOMENTS_IMPL_H

#include <stddef.h>

/* sum += x, squares += x^2 over n numbers; squares may be NULL. */
static inline void esp_add_moments(double *restrict sum, double *restrict squares,
                                   const float *restrict x, size_t n)
{
    if (!squares) {
#pragma omp simd
        for (size_t k = 0; k < n; k++) {
            sum[k] += (double)x[k];
        }
        return;
    }
#pragma omp simd
    for (size_t k = 0; k < n; k++) {
        double v = (double)x[k];

        sum[k] += v;
        squares[k] += v * v;
    }
}

#endif
