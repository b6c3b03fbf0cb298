/* least_squares.c - damped normal equations by Cholesky, and the damping that held-out tokens prefer. */
#include "espalier/least_squares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/cholesky.h"
#include "espalier/mem.h"

/* Exponents of the dampings tried: whole ones first, then half a decade to either side of the best. */
#define LEAST_EXPONENT (-5)
#define MOST_EXPONENT  1

static void make(esp_least_squares *s, size_t n, size_t n_rows, size_t *bytes)
{
    *s = (esp_least_squares){ 0 };
    ESP_MAKE(s->factor, n * n, bytes);
    ESP_MAKE(s->residual, n_rows * n, bytes);
    ESP_MAKE(s->scratch, n_rows * n, bytes);
}

void esp_least_squares_init(esp_least_squares *s, size_t n, size_t n_rows)
{
    make(s, n, n_rows, NULL);
}

size_t esp_least_squares_bytes(size_t n, size_t n_rows)
{
    esp_least_squares s;
    size_t bytes = 0;

    make(&s, n, n_rows, &bytes);
    return bytes;
}

void esp_least_squares_free(esp_least_squares *s)
{
    free(s->factor);
    free(s->residual);
    free(s->scratch);
    *s = (esp_least_squares){ 0 };
}

double esp_least_squares_flops(size_t n, size_t n_rows)
{
    double wide = (double)n, rows = (double)n_rows;

    return wide * wide * (wide / 3 + 2 * rows);
}

/* ---- one damping ------------------------------------------------------------------------------ */

static void set_residual(esp_least_squares *s, const double *w0, const esp_gram *g, size_t first,
                         size_t n_rows)
{
    memcpy(s->residual, g->g + first * g->n, n_rows * g->n * sizeof *s->residual);
    esp_subtract_product(s->residual, g->n, w0, g->n, g->h, g->n, n_rows, g->n, g->n);
}

static double mean_diagonal(const esp_gram *g)
{
    double sum = 0;

    for (size_t i = 0; i < g->n; i++) {
        sum += g->h[i * g->n + i];
    }
    return sum / (double)g->n;
}

/* w = w0 + residual (H + lambda I)^-1, given the residual. */
static bool solve(double *w, const double *w0, const esp_gram *g, double damping, size_t n_rows,
                  esp_least_squares *s)
{
    double lambda = damping * mean_diagonal(g);
    size_t n = g->n;

    memcpy(s->factor, g->h, n * n * sizeof *s->factor);
    for (size_t i = 0; i < n; i++) {
        s->factor[i * n + i] += lambda;
    }
    if (esp_cholesky(s->factor, n) < n) {
        return false;
    }
    memcpy(w, s->residual, n_rows * n * sizeof *w);
    esp_cholesky_solve(w, s->factor, n_rows, n);
    for (size_t i = 0; i < n_rows * n; i++) {
        w[i] += w0[i];
    }
    return true;
}

bool esp_least_squares_solve(double *w, const double *w0, const esp_gram *g, double damping,
                             size_t first, size_t n_rows, esp_least_squares *s)
{
    set_residual(s, w0, g, first, n_rows);
    return solve(w, w0, g, damping, n_rows, s);
}

/* ---- the damping ------------------------------------------------------------------------------ */

/* A choice under way: arguments of esp_least_squares_choose. */
typedef struct trial {
    const esp_gram *fit, *held;
    const double *w0;
    double *w;
    size_t first, n_rows;
    esp_least_squares *s;
    MPI_Comm comm;
} trial;

/* |y - W x| / |y| on held-out tokens, of all rows; rounding may make the square of almost nothing
 * negative. Collective. */
static double held_error(const trial *t, const double *w)
{
    double error = esp_gram_error(t->held, w, t->first, t->n_rows, t->s->scratch);

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &error, 1, MPI_DOUBLE, MPI_SUM, t->comm));
    return t->held->y2 > 0 ? sqrt(fmax(error + t->held->y2, 0) / t->held->y2) : 0;
}

/* Tries a damping, and takes it where it is better. All ranks factor the same matrix. Collective. */
static void try_damping(esp_damping *best, const trial *t, double damping)
{
    double error;

    if (solve(t->w, t->w0, t->fit, damping, t->n_rows, t->s)) {
        error = held_error(t, t->w);
        if (error < best->after) {
            best->value = damping;
            best->after = error;
        }
    }
}

esp_damping esp_least_squares_choose(const esp_gram *fit, const esp_gram *held, double fixed,
                                     const double *w0, double *w, size_t first, size_t n_rows,
                                     esp_least_squares *s, MPI_Comm comm)
{
    const trial t = { fit, held, w0, w, first, n_rows, s, comm };
    esp_damping best = { .value = INFINITY };
    double coarse;

    best.before = best.after = held_error(&t, w0);
    set_residual(s, w0, fit, first, n_rows);
    if (fixed > 0) {
        best.after = INFINITY;
        try_damping(&best, &t, fixed);
        return best;
    }
    for (int e = LEAST_EXPONENT; e <= MOST_EXPONENT; e++) {
        try_damping(&best, &t, pow(10, e));
    }
    coarse = best.value;
    if (isfinite(coarse)) {
        try_damping(&best, &t, coarse / sqrt(10));
        try_damping(&best, &t, coarse * sqrt(10));
    }
    return best;
}
