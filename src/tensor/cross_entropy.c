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

/* Logits x of a row become scale * (softmax - onehot). */
static void to_gradient(float *x, float max, double sum, size_t target, float scale, size_t n)
{
    float each = (float)((double)scale / sum);

    for (size_t i = 0; i < n; i++) {
        x[i] = each * esp_expf(x[i] - max);
    }
    x[target] -= scale;
}

/* Loss of a row with a target; scale NULL leaves x as it is. */
static double row_loss(bool *hit, float *x, size_t target, const float *scale, size_t V)
{
    float max = esp_largest(x, V);
    double sum = sum_of_exp(x, max, V);
    double loss = log(sum) + (double)max - (double)x[target];

    *hit = x[target] >= max;
    if (scale) {
        to_gradient(x, max, sum, target, *scale, V);
    }
    return loss;
}

void esp_cross_entropy(double *loss, uint8_t *hit, float *logits, const int32_t *targets,
                       const float *scale, size_t n, size_t V)
{
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < n; i++) {
        float *x = logits + i * V;
        bool right = false;

        loss[i] = 0;
        if (targets[i] != ESP_NO_TARGET) {
            loss[i] = row_loss(&right, x, (size_t)targets[i], scale ? scale + i : NULL, V);
        } else if (scale) {
            memset(x, 0, V * sizeof *x);
        }
        if (hit) {
            hit[i] = right;
        }
    }
}
