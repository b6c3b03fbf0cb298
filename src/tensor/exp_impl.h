/* exp_impl.h - an exponential that compilers turn into vector code, for softmax and activations. */
#ifndef ESPALIER_EXP_IMPL_H
#define ESPALIER_EXP_IMPL_H

#include <stddef.h>

#include "tensor/bits_impl.h"

/* yes where condition is 1, no where it is 0; by masks, as compilers may make ?: a branch and the loop
 * around it scalar */
static inline float esp_select(uint32_t condition, float yes, float no)
{
    uint32_t mask = 0 - condition;

    return esp_float((esp_bits(yes) & mask) | (esp_bits(no) & ~mask));
}

/* exp(x) as power + power * series: 2^n and exp(r) - 1. */
typedef struct esp_exp_parts {
    float power, series;
} esp_exp_parts;

/* Parts of exp(x + low), low too small to show in x. x = n ln 2 + r with |r| <= ln 2 / 2, exp(r) by its
 * Taylor series, whose first missing term r^8 / 8! is under 6e-9. n is rounded by adding 1.5 * 2^23,
 * which leaves it in the low bits of the sum; ln 2 is split so that n times its first part is exact. */
static inline esp_exp_parts esp_exp_split(float x, float low)
{
    const float round = 0x1.8p23f, ln2_high = 0x1.62ep-1f, ln2_low = 0x1.0bfbe8p-15f;
    float shifted, n, r, series;

    x = esp_select(x < -87.3f, -87.3f, x);
    x = esp_select(x > 88.0f, 88.0f, x);
    shifted = x * 0x1.715476p0f + round;
    n = shifted - round;
    r = (x - n * ln2_high) - n * ln2_low + low;
    series = 1.0f / 5040;
    series = series * r + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * (r * r) + r;
    return (esp_exp_parts){ esp_float((esp_bits(shifted) + 127) << 23), series };
}

/* exp(x), relative error under 2e-7. Beyond [-87.3, 88] the value at that end; NaN stays NaN. */
static inline float esp_expf(float x)
{
    esp_exp_parts e = esp_exp_split(x, 0);

    return e.power + e.power * e.series;
}

/* The same of a finite f64 exponent, whose rounding to f32 would cost |x| ulps. */
static inline float esp_exp_of_double(double x)
{
    float high = (float)x;
    esp_exp_parts e = esp_exp_split(high, (float)(x - (double)high));

    return e.power + e.power * e.series;
}

/* tanh(x) = (exp(2x) - 1) / (exp(2x) + 1), relative error under 4e-7, near 0 too. */
static inline float esp_tanhf(float x)
{
    esp_exp_parts e = esp_exp_split(2 * x, 0);
    float above_one = (e.power - 1) + e.power * e.series;

    return above_one / (above_one + 2);
}

/* x = cap tanh(x / cap) over n numbers, cap above 0. */
static inline void esp_cap_row(float *x, float cap, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        x[i] = cap * esp_tanhf(x[i] / cap);
    }
}

/* Slope of that at a capped y; inverse is 1 / cap. */
static inline float esp_cap_slope(float y, float inverse)
{
    return 1 - (y * inverse) * (y * inverse);
}

/* Largest of n numbers, which softmax takes off before the exponential. */
static inline float esp_largest(const float *x, size_t n)
{
    float m = x[0];

#pragma omp simd reduction(max : m)
    for (size_t i = 0; i < n; i++) {
        m = x[i] > m ? x[i] : m;
    }
    return m;
}

#endif
