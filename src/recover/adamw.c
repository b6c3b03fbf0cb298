/* adamw.c - the optimiser on flat vectors. */
#include "adamw_impl.h"

#include <math.h>

#include "espalier/par.h"

#define N_SUMS 64 /* parts of the norm, each summed by one thread */

double esp_grad_norm(const esp_params *p)
{
    double part[N_SUMS], sum = 0;

#pragma omp parallel for schedule(static)
    for (int k = 0; k < N_SUMS; k++) {
        size_t begin, end;

        esp_share(&begin, &end, p->n, k, N_SUMS);
        part[k] = 0;
        for (size_t i = begin; i < end; i++) {
            part[k] += (double)p->grad[i] * (double)p->grad[i];
        }
    }
    for (int k = 0; k < N_SUMS; k++) {
        sum += part[k];
    }
    return sqrt(sum);
}

/* The factors of a step as the inner loop wants them. */
typedef struct factors {
    float grad, keep_m, add_m, keep_v, add_v;
    float rate; /* rate / (1 - beta1^t)       */
    float root; /* 1 / sqrt(1 - beta2^t)      */
    float epsilon;
    float shrink; /* 1 - rate * weight decay    */
} factors;

static void step_entry(esp_params *p, const esp_entry *e, factors f)
{
    float shrink = e->decays ? f.shrink : 1.0f;

#pragma omp parallel for schedule(static)
    for (size_t i = e->begin; i < e->begin + e->n; i++) {
        float g = f.grad * p->grad[i];

        p->m[i] = f.keep_m * p->m[i] + f.add_m * g;
        p->v[i] = f.keep_v * p->v[i] + f.add_v * g * g;
        p->value[i] =
            shrink * p->value[i] - f.rate * p->m[i] / (sqrtf(p->v[i]) * f.root + f.epsilon);
    }
}

void esp_adamw_step(esp_params *p, const esp_recover_options *o, double rate, double grad_scale,
                    size_t t)
{
    factors f = { .grad = (float)grad_scale,
                  .keep_m = (float)o->beta1,
                  .add_m = (float)(1 - o->beta1),
                  .keep_v = (float)o->beta2,
                  .add_v = (float)(1 - o->beta2),
                  .rate = (float)(rate / (1 - pow(o->beta1, (double)t))),
                  .root = (float)(1 / sqrt(1 - pow(o->beta2, (double)t))),
                  .epsilon = (float)o->epsilon,
                  .shrink = (float)(1 - rate * o->weight_decay) };

    for (size_t i = 0; i < p->n_entries; i++) {
        step_entry(p, &p->entries[i], f);
    }
}
