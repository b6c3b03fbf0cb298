/* criteria.c - a formula (docs/method.md, eq. 6-11) and a row of the table for each criterion. */
#include "criteria_impl.h"

#include <math.h>

/* Makes the esp_criterion_row of a formula of W, G and F at an element; what the formula does not mention is
 * not read. */
#define ROW_KERNEL(name, formula)                                                               \
    static double name(double *restrict cols, const float *w, const double *g, const double *f, \
                       size_t n)                                                                \
    {                                                                                           \
        double sum = 0;                                                                         \
                                                                                                \
        (void)w, (void)g, (void)f;                                                              \
        _Pragma("omp simd reduction(+ : sum)") for (size_t k = 0; k < n; k++)                   \
        {                                                                                       \
            double v = formula;                                                                 \
                                                                                                \
            cols[k] += v;                                                                       \
            sum += v;                                                                           \
        }                                                                                       \
        return sum;                                                                             \
    }

#define W ((double)w[k])
#define G (g[k])
#define F (f[k])

enum {
    NONE = ESP_NEEDS_NOTHING,
    OF_W = ESP_NEEDS_WEIGHTS,
    WITH_G = ESP_NEEDS_WEIGHTS | ESP_NEEDS_GRADIENT,
    WITH_F = WITH_G | ESP_NEEDS_FISHER,
    OF_M = ESP_NEEDS_GATES
};

enum {
    BLOCK_UNITS = 1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_MLP,
    ALL_UNITS = BLOCK_UNITS | 1u << ESP_UNIT_HIDDEN
};

/* clang-format off */
ROW_KERNEL(add_vector,   G * W)
ROW_KERNEL(add_element1, fabs(G * W))
ROW_KERNEL(add_element2, fabs(0.5 * F * W * W))
ROW_KERNEL(add_mix,      fabs(G * W - 0.5 * F * W * W))
ROW_KERNEL(add_l1,       fabs(W))
ROW_KERNEL(add_l2,       W * W)

const esp_criterion_info esp_criteria_table[ESP_N_CRITERIA] = {
    [ESP_VECTOR]   = { "vector",   WITH_G, ALL_UNITS,   add_vector,   { 0x1p-3, .of_mean = true } },
    [ESP_ELEMENT1] = { "element1", WITH_G, ALL_UNITS,   add_element1, { 0x1p-5 } },
    [ESP_ELEMENT2] = { "element2", WITH_F, ALL_UNITS,   add_element2, { 0x1p-4 } },
    [ESP_MIX]      = { "mix",      WITH_F, ALL_UNITS,   add_mix,      { 0x1p-5 } },
    [ESP_L1]       = { "l1",       OF_W,   ALL_UNITS,   add_l1,       { 0 } },
    [ESP_L2]       = { "l2",       OF_W,   ALL_UNITS,   add_l2,       { 0 } },
    [ESP_GATE1]    = { "gate1",    OF_M,   BLOCK_UNITS, NULL,         { 0x1p-4, .of_mean = true } },
    [ESP_GATE2]    = { "gate2",    OF_M,   BLOCK_UNITS, NULL,         { 0x1p-3 } },
    [ESP_RANDOM]   = { "random",   NONE,   ALL_UNITS,   NULL,         { 0 } },
};
/* clang-format on */

const char *esp_criterion_name(esp_criterion c)
{
    return c < ESP_N_CRITERIA ? esp_criteria_table[c].name : NULL;
}

unsigned esp_criterion_units(esp_criterion c)
{
    return esp_criteria_table[c].units;
}

const char *esp_fisher_name(unsigned sum)
{
    static const char *const names[] = { "mean", "sum" };

    return sum < 2 ? names[sum] : NULL;
}

const char *esp_labels_name(unsigned drawn)
{
    static const char *const names[] = { "data", "model" };

    return drawn < 2 ? names[drawn] : NULL;
}

bool esp_criteria_need(unsigned criteria, esp_need need)
{
    for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
        if (criteria >> c & 1 && esp_criteria_table[c].needs & need) {
            return true;
        }
    }
    return false;
}

esp_criteria esp_criteria_list(unsigned set)
{
    esp_criteria list = { 0 };

    for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
        if (set >> c & 1 && esp_criteria_table[c].add_row) {
            list.at[list.n++] = c;
        }
    }
    return list;
}

void esp_criteria_add(double *rows, double *cols, const esp_criteria *c, const esp_elements *e)
{
    for (size_t r = 0; r < e->n_rows; r++) {
        size_t at = r * e->n_cols;
        const double *g = e->g ? e->g + at : NULL, *f = e->f ? e->f + at : NULL;

        for (size_t i = 0; i < c->n; i++) {
            esp_criterion_row *add = esp_criteria_table[c->at[i]].add_row;

            rows[i * e->n_rows + r] += add(cols + i * e->n_cols, e->w + at, g, f, e->n_cols);
        }
    }
}
