/* cross_entropy.c - loss of the next token, rows on their own. */
#include <math.h>
#include <string.h>

#include "espalier/tensor.h"
#include "tensor/exp_impl.h"

static double sum_of_exp(const float *x, float max, size_t n)
{
    double sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += (double)esp_expf(x[i] - max);
    }
    return sum;
}

/* Capped logits x of a row become scale * (softmax - onehot), times the slope of the cap. */
static void to_gradient(float *x, float max, double sum, size_t target, float scale, float cap,
                        size_t n)
{
    float each = (float)((double)scale / sum), inverse = cap > 0 ? 1 / cap : 0;
    float of_target = scale * esp_cap_slope(x[target], inverse);

    for (size_t i = 0; i < n; i++) {
        x[i] = each * esp_expf(x[i] - max) * esp_cap_slope(x[i], inverse);
    }
    x[target] -= of_target;
}

/* The first index up to which the terms exp(x - max) come to more than `part`; rounding may leave none: then
 * the last that has any. */
static size_t index_of_part(const float *x, float max, double part, size_t n)
{
    size_t last = 0;
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        double term = (double)esp_expf(x[i] - max);

        sum += term;
        last = term > 0 ? i : last;
        if (sum > part) {
            break;
        }
    }
    return last;
}

/* Loss of a row with a target; x is capped and, unless scale is NULL, becomes the gradient. */
static double row_loss(bool *hit, float *x, size_t target, const double *uniform,
                       const float *scale, float cap, size_t V)
{
    float max;
    double sum, loss;

    if (cap > 0) {
        esp_cap_row(x, cap, V);
    }
    max = esp_largest(x, V);
    sum = sum_of_exp(x, max, V);
    if (uniform) {
        target = index_of_part(x, max, *uniform * sum, V);
    }
    loss = log(sum) + (double)max - (double)x[target];
    *hit = x[target] >= max;
    if (scale) {
        to_gradient(x, max, sum, target, *scale, cap, V);
    }
    return loss;
}

void esp_cross_entropy(double *loss, uint8_t *hit, float *logits, const int32_t *targets,
                       const double *uniform, const float *scale, float cap, size_t n, size_t V)
{
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < n; i++) {
        float *x = logits + i * V;
        bool right = false;

        loss[i] = 0;
        if (targets[i] != ESP_NO_TARGET) {
            loss[i] = row_loss(&right, x, (size_t)targets[i], uniform ? uniform + i : NULL,
                               scale ? scale + i : NULL, cap, V);
        } else if (scale) {
            memset(x, 0, V * sizeof *x);
        }
        if (hit) {
            hit[i] = right;
        }
    }
}
