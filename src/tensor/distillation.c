/* distillation.c - loss of the next token and of what a teacher predicts, rows on their own.
 *
 * Letters: x logits of the student, z of the teacher, T temperature, V vocabulary.
 */
#include <math.h>
#include <string.h>

#include "espalier/tensor.h"
#include "tensor/exp_impl.h"

/* Of the terms exp((x - max) / T) of a row. */
typedef struct softmax {
    float max;
    double sum;
} softmax;

static softmax softmax_of(const float *x, float inverse, size_t n)
{
    softmax s = { .max = esp_largest(x, n) };
    double sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += (double)esp_expf((x[i] - s.max) * inverse);
    }
    s.sum = sum;
    return s;
}

/* KL(p || q) of p = softmax(z / T) and q = softmax(x / T); z becomes the terms of p. */
static double divergence(float *z, softmax p, const float *x, softmax q, float inverse, size_t n)
{
    double sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        float a = (z[i] - p.max) * inverse, b = (x[i] - q.max) * inverse;
        float term = esp_expf(a);

        sum += (double)term * (double)(a - b);
        z[i] = term;
    }
    return sum / p.sum + log(q.sum) - log(p.sum);
}

/* Each part of the gradient of a row: what a term of the softmax counts in it. */
typedef struct share {
    float of_target, soft, student, teacher;
} share;

/* x becomes (1 - ratio) (softmax(x) - onehot) + ratio T (q - p), times scale and the slope of the cap, from
 * the terms of p. */
static void to_gradient(float *x, const float *p_terms, size_t target, share s, float max,
                        const esp_distillation_rule *r, size_t n)
{
    float inverse = 1 / r->temperature, inverse_cap = r->cap > 0 ? 1 / r->cap : 0;
    float of_target = s.of_target * esp_cap_slope(x[target], inverse_cap);

    for (size_t i = 0; i < n; i++) {
        float d = x[i] - max;
        float soft = s.student * esp_expf(d * inverse) - s.teacher * p_terms[i];

        x[i] = (s.soft * esp_expf(d) + soft) * esp_cap_slope(x[i], inverse_cap);
    }
    x[target] -= of_target;
}

/* Loss of a row with a target; x becomes the gradient, z its terms. */
static double row_loss(bool *hit, float *x, float *z, size_t target, float scale,
                       const esp_distillation_rule *r, size_t V)
{
    float inverse = 1 / r->temperature;
    double ratio = (double)r->ratio, T = (double)r->temperature, each, entropy, kl;
    softmax own, p, q;

    if (r->cap > 0) {
        esp_cap_row(x, r->cap, V);
    }
    own = softmax_of(x, 1, V);
    q = softmax_of(x, inverse, V);
    p = softmax_of(z, inverse, V);
    kl = divergence(z, p, x, q, inverse, V);
    entropy = log(own.sum) + (double)own.max - (double)x[target];
    *hit = x[target] >= own.max;
    each = (double)scale * ratio * T;
    to_gradient(x, z, target,
                (share){ .of_target = scale * (1 - r->ratio),
                         .soft = (float)((double)scale * (1 - ratio) / own.sum),
                         .student = (float)(each / q.sum),
                         .teacher = (float)(each / p.sum) },
                own.max, r, V);
    return (1 - ratio) * entropy + ratio * T * T * kl;
}

void esp_distillation(double *loss, uint8_t *hit, float *logits, float *teacher,
                      const int32_t *targets, const float *scale, const esp_distillation_rule *rule,
                      size_t n, size_t V)
{
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < n; i++) {
        float *x = logits + i * V;
        bool right = false;

        loss[i] = 0;
        if (targets[i] != ESP_NO_TARGET) {
            loss[i] = row_loss(&right, x, teacher + i * V, (size_t)targets[i], scale[i], rule, V);
        } else {
            memset(x, 0, V * sizeof *x);
        }
        hit[i] = right;
    }
}
