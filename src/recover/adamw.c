/* adamw.c - the optimiser on this rank's share of flat vectors, piece by piece (docs/method.md, eq. 26). */
#include "adamw_impl.h"

#include <math.h>

#include "espalier/par.h"

#define N_SUMS 64 /* parts of the norm, each summed by one thread */

double esp_grad_squares(const esp_params *p)
{
    double sum = 0;

    for (size_t k = 0; k < p->n_pieces; k++) {
        double part[N_SUMS];
        size_t first, last;

        esp_params_share(&first, &last, p, k, p->rank);
#pragma omp parallel for schedule(static)
        for (int i = 0; i < N_SUMS; i++) {
            size_t begin, end;

            esp_share(&begin, &end, last - first, i, N_SUMS);
            part[i] = 0;
            for (size_t j = first + begin; j < first + end; j++) {
                part[i] += (double)p->grad[j] * (double)p->grad[j];
            }
        }
        for (int i = 0; i < N_SUMS; i++) {
            sum += part[i];
        }
    }
    return sum;
}

/* The factors of a step as the inner loop wants them. */
typedef struct factors {
    float grad, keep_m, add_m, keep_v, add_v;
    float rate; /* rate / (1 - beta1^t)       */
    float root; /* 1 / sqrt(1 - beta2^t)      */
    float epsilon;
    float shrink; /* 1 - rate * weight decay    */
} factors;

/* n numbers of one entry: their summed gradients, moments and values. */
static void step_range(float *value, float *m, float *v, const float *grad, size_t n, float shrink,
                       factors f)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        float g = f.grad * grad[i];

        m[i] = f.keep_m * m[i] + f.add_m * g;
        v[i] = f.keep_v * v[i] + f.add_v * g * g;
        value[i] = shrink * value[i] - f.rate * m[i] / (sqrtf(v[i]) * f.root + f.epsilon);
    }
}

/* The share of piece k; *e: an entry that begins before it, moved on. */
static void step_piece(esp_params *p, const esp_entry **e, size_t k, factors f)
{
    size_t begin, end, stop;

    esp_params_share(&begin, &end, p, k, p->rank);
    for (size_t at = begin; at < end; at = stop) {
        size_t own = p->own[k] + (at - begin);

        while ((*e)->begin + (*e)->n <= at) {
            ++*e;
        }
        stop = (*e)->begin + (*e)->n < end ? (*e)->begin + (*e)->n : end;
        step_range(p->value + at, p->m + own, p->v + own, p->grad + at, stop - at,
                   (*e)->decays ? f.shrink : 1.0f, f);
    }
}

void esp_adamw_step(esp_exchange *x, const esp_recover_options *o, double rate, double grad_scale,
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
    const esp_entry *e = x->params->entries;

    for (size_t k = 0; k < x->params->n_pieces; k++) {
        step_piece(x->params, &e, k, f);
        esp_exchange_gather(x, k);
        esp_exchange_progress(x);
    }
    esp_exchange_finish(x);
}
