/* finite_differences.h - an operation written plainly in f64, and what is checked against it: the forward
 * of a kernel, and its backward by central differences of that plain forward. */
#ifndef ESPALIER_TEST_FINITE_DIFFERENCES_H
#define ESPALIER_TEST_FINITE_DIFFERENCES_H

#include "espalier/batch.h"
#include "espalier/rng.h"
#include "test.h"

#define MAX_IN 4

/* An operation in f64: out [n_out] from inputs in[i] [n_in[i]]. */
typedef struct op {
    void (*forward)(double *out, double *const *in, const void *shape);
    const void *shape;
    size_t n_out, n_in[MAX_IN];
} op;

static inline float *random_floats(size_t n, uint64_t seed)
{
    esp_rng r = { .key = esp_rng_key(seed, 0, 0) };
    float *x;

    ESP_NEW(x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)esp_rng_normal(&r);
    }
    return x;
}

/* What a forward finds in its output: it must set, not add. */
static inline float *nans(size_t n)
{
    float *x;

    ESP_NEW(x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = NAN;
    }
    return x;
}

static inline double *doubles_of(const float *x, size_t n)
{
    double *y;

    ESP_NEW(y, n);
    for (size_t i = 0; i < n; i++) {
        y[i] = (double)x[i];
    }
    return y;
}

static inline double largest_of(const double *x, size_t n)
{
    double m = 0;

    for (size_t i = 0; i < n; i++) {
        m = fmax(m, fabs(x[i]));
    }
    return m;
}

static inline int close_floats(const float *got, const double *want, size_t n, double tol)
{
    double *g = doubles_of(got, n);
    int ok = esp_test_close(g, want, n, largest_of(want, n), tol);

    free(g);
    return ok;
}

/* Samples of the given lengths; their ids do not matter here. */
static inline void make_batch(esp_batch *b, const size_t *length, size_t n)
{
    esp_samples s = { 0 };
    size_t *pick, n_tok = 0;

    ESP_NEW(pick, n);
    for (size_t j = 0; j < n; j++) {
        int32_t *ids;

        ESP_NEW(ids, length[j]);
        esp_samples_add(&s, ids, NULL, length[j]);
        free(ids);
        pick[j] = j;
        n_tok += length[j];
    }
    esp_batch_init(b, n, n_tok);
    esp_batch_fill(b, &s, pick, n);
    esp_samples_free(&s);
    free(pick);
}

static inline int forward_close(const op *o, float *const *in, const float *got)
{
    double *x[MAX_IN], *want;
    int ok;

    ESP_NEW(want, o->n_out);
    for (int i = 0; i < MAX_IN; i++) {
        x[i] = doubles_of(in[i], o->n_in[i]);
    }
    o->forward(want, x, o->shape);
    ok = close_floats(got, want, o->n_out, 2e-6);
    for (int i = 0; i < MAX_IN; i++) {
        free(x[i]);
    }
    free(want);
    return ok;
}

/* sum of dout * out */
static inline double objective(const op *o, double *const *in, const float *dout, double *out)
{
    double sum = 0;

    o->forward(out, in, o->shape);
    for (size_t i = 0; i < o->n_out; i++) {
        sum += (double)dout[i] * out[i];
    }
    return sum;
}

/* Gradient of the objective by input i, at every stride-th element, against got. */
static inline int input_gradient_close(const op *o, double *const *x, int i, const float *dout,
                                       const float *got, double *out)
{
    size_t stride = o->n_in[i] / 320 + 1, n = 0;
    double h = 1e-5, want[320], g[320];

    for (size_t e = 0; e < o->n_in[i]; e += stride, n++) {
        double kept = x[i][e], above;

        x[i][e] = kept + h;
        above = objective(o, x, dout, out);
        x[i][e] = kept - h;
        want[n] = (above - objective(o, x, dout, out)) / (2 * h);
        x[i][e] = kept;
        g[n] = (double)got[e];
    }
    return esp_test_close(g, want, n, largest_of(want, n), 1e-5);
}

/* grads[i] is checked for every input that has one. */
static inline int gradients_close(const op *o, float *const *in, const float *dout,
                                  float *const *grads)
{
    double *x[MAX_IN], *out;
    int ok = 1;

    ESP_NEW(out, o->n_out);
    for (int i = 0; i < MAX_IN; i++) {
        x[i] = doubles_of(in[i], o->n_in[i]);
    }
    for (int i = 0; i < MAX_IN; i++) {
        ok = (!grads[i] || input_gradient_close(o, x, i, dout, grads[i], out)) && ok;
    }
    for (int i = 0; i < MAX_IN; i++) {
        free(x[i]);
    }
    free(out);
    return ok;
}

/* Random inputs, and gradients that already hold ones: backward must add. */
static inline void make_arrays(float **in, float **grads, const op *o, uint64_t seed)
{
    for (int i = 0; i < MAX_IN; i++) {
        in[i] = random_floats(o->n_in[i], seed + (uint64_t)i);
        ESP_NEW(grads[i], o->n_in[i]);
        for (size_t e = 0; e < o->n_in[i]; e++) {
            grads[i][e] = 1;
        }
    }
}

static inline void take_ones(float *g, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g[i] -= 1;
    }
}

static inline void free_arrays(float **in, float **grads)
{
    for (int i = 0; i < MAX_IN; i++) {
        free(in[i]);
        free(grads[i]);
    }
}

#endif
