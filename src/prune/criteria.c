/* criteria.c - the formulas of the criteria (docs/method.md, eq. 6-11). */
#include "criteria_impl.h"

#include <math.h>

esp_criteria esp_criteria_list(unsigned set)
{
    esp_criteria list = { 0 };

    for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
        if (set & ESP_NEEDS_WEIGHTS & 1u << c) {
            list.at[list.n++] = c;
        }
    }
    return list;
}

/* Element k. Reads only what its criterion needs. */
static inline double salience(esp_criterion c, const float *w, const double *g, const double *f,
                              size_t k)
{
    double wk = (double)w[k];

    switch (c) {
    case ESP_VECTOR:
        return g[k] * wk;
    case ESP_ELEMENT1:
        return fabs(g[k] * wk);
    case ESP_ELEMENT2:
        return fabs(0.5 * f[k] * wk * wk);
    case ESP_MIX:
        return fabs(g[k] * wk - 0.5 * f[k] * wk * wk);
    case ESP_L1:
        return fabs(wk);
    default: /* ESP_L2 */
        return wk * wk;
    }
}

/* cols += a row of elements; returns their sum. Inlined with a constant criterion, so that each has a
 * loop of its own in vector code. */
static inline __attribute__((always_inline)) double add_row(double *restrict cols, esp_criterion c,
                                                            const float *w, const double *g,
                                                            const double *f, size_t n)
{
    double sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < n; k++) {
        double v = salience(c, w, g, f, k);

        cols[k] += v;
        sum += v;
    }
    return sum;
}

static double add_row_of(double *cols, esp_criterion c, const float *w, const double *g,
                         const double *f, size_t n)
{
    switch (c) {
    case ESP_VECTOR:
        return add_row(cols, ESP_VECTOR, w, g, f, n);
    case ESP_ELEMENT1:
        return add_row(cols, ESP_ELEMENT1, w, g, f, n);
    case ESP_ELEMENT2:
        return add_row(cols, ESP_ELEMENT2, w, g, f, n);
    case ESP_MIX:
        return add_row(cols, ESP_MIX, w, g, f, n);
    case ESP_L1:
        return add_row(cols, ESP_L1, w, g, f, n);
    default:
        return add_row(cols, ESP_L2, w, g, f, n);
    }
}

void esp_criteria_add(double *rows, double *cols, const esp_criteria *c, const esp_elements *e)
{
    for (size_t r = 0; r < e->n_rows; r++) {
        size_t at = r * e->n_cols;
        const double *g = e->g ? e->g + at : NULL, *f = e->f ? e->f + at : NULL;

        for (size_t i = 0; i < c->n; i++) {
            rows[i * e->n_rows + r] +=
                add_row_of(cols + i * e->n_cols, c->at[i], e->w + at, g, f, e->n_cols);
        }
    }
}
