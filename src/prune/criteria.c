/* criteria.c - a formula (docs/method.md, eq. 6-11, 36-38) and a row of the table for each criterion. */
#include "criteria_impl.h"

#include <math.h>

/* Makes the esp_criterion_row of a formula of W, G and F at an element; what the formula does not mention is
 * not read. */
#define ROW_KERNEL(name, formula)                                                               \
    static double name(double *restrict cols, const float *w, const double *g, const double *f, \
                       const esp_moments *of, size_t n)                                         \
    {                                                                                           \
        double sum = 0;                                                                         \
                                                                                                \
        (void)w, (void)g, (void)f, (void)of;                                                    \
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

#define X   (of->x[k])
#define X2  (of->x2[k])
#define DY2 (*of->dy2)

enum {
    NONE = ESP_NEEDS_NOTHING,
    OF_W = ESP_NEEDS_WEIGHTS,
    WITH_G = ESP_NEEDS_WEIGHTS | ESP_NEEDS_GRADIENT,
    WITH_F = WITH_G | ESP_NEEDS_FISHER,
    OF_M = ESP_NEEDS_GATES,
    M_T = ESP_NEEDS_TRAINING,
    W_F = ESP_NEEDS_WEIGHTS | ESP_NEEDS_FACTORS,
    W_X = ESP_NEEDS_WEIGHTS | ESP_NEEDS_INPUTS
};

enum {
    BLOCK_UNITS = 1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_QUERY | 1u << ESP_UNIT_MLP,
    ALL_UNITS = BLOCK_UNITS | 1u << ESP_UNIT_HIDDEN
};

/* clang-format off */
ROW_KERNEL(add_vector,   G * W)
ROW_KERNEL(add_element1, fabs(G * W))
ROW_KERNEL(add_element2, fabs(0.5 * F * W * W))
ROW_KERNEL(add_mix,      fabs(G * W - 0.5 * F * W * W))
ROW_KERNEL(add_l1,       fabs(W))
ROW_KERNEL(add_l2,       W * W)
ROW_KERNEL(add_kfac,     0.5 * W * W * X2 * DY2)
ROW_KERNEL(add_wanda_sp, fabs(W) * sqrt(X2))
ROW_KERNEL(add_flap,     W * W * fmax(X2 - X * X, 0))

const esp_criterion_info esp_criteria_table[ESP_N_CRITERIA] = {
    [ESP_VECTOR]   = { "vector",   WITH_G, ALL_UNITS,   add_vector,   { 0x1p-3, .of_mean = true } },
    [ESP_ELEMENT1] = { "element1", WITH_G, ALL_UNITS,   add_element1, { 0x1p-5 } },
    [ESP_ELEMENT2] = { "element2", WITH_F, ALL_UNITS,   add_element2, { 0x1p-4 } },
    [ESP_MIX]      = { "mix",      WITH_F, ALL_UNITS,   add_mix,      { 0x1p-5 } },
    [ESP_L1]       = { "l1",       OF_W,   ALL_UNITS,   add_l1,       { 0 } },
    [ESP_L2]       = { "l2",       OF_W,   ALL_UNITS,   add_l2,       { 0 } },
    [ESP_GATE1]    = { "gate1",    OF_M,   BLOCK_UNITS, NULL,         { 0x1p-4, .of_mean = true } },
    [ESP_GATE2]    = { "gate2",    OF_M,   BLOCK_UNITS, NULL,         { 0x1p-3 } },
    [ESP_KFAC]     = { "kfac",     W_F,    BLOCK_UNITS, add_kfac,     { 0x1p-5 } },
    [ESP_WANDA_SP] = { "wanda_sp", W_X,    BLOCK_UNITS, add_wanda_sp, { 0x1p-6 }, .columns_alone = true },
    [ESP_FLAP]     = { "flap",     W_X,    BLOCK_UNITS, add_flap,     { 0x1p-6 }, .columns_alone = true },
    [ESP_RANDOM]   = { "random",   NONE,   ALL_UNITS,   NULL,         { 0 } },
    [ESP_MASKS]    = { "masks",    M_T,    BLOCK_UNITS, NULL,         { 0 } },
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

unsigned esp_criteria_of_moments(unsigned set)
{
    unsigned found = 0;

    for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
        if (esp_criteria_table[c].needs & (ESP_NEEDS_FACTORS | ESP_NEEDS_INPUTS)) {
            found |= 1u << c;
        }
    }
    return found & set;
}

bool esp_criterion_reads(esp_criterion c, esp_unit_kind kind, esp_side side)
{
    const esp_criterion_info *info = &esp_criteria_table[c];

    return info->add_row && info->units >> kind & 1 && (side == ESP_COLS || !info->columns_alone);
}

size_t esp_criterion_structures(esp_criterion c, const esp_unit *u)
{
    size_t n = 0;

    for (size_t i = 0; i < u->n_structures; i++) {
        n += esp_criterion_reads(c, u->kind, u->structures[i].side);
    }
    return n;
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
        esp_moments of = e->moments;

        of.dy2 = of.dy2 ? of.dy2 + r : NULL;
        for (size_t i = 0; i < c->n; i++) {
            esp_criterion_row *add = esp_criteria_table[c->at[i]].add_row;

            rows[i * e->n_rows + r] += add(cols + i * e->n_cols, e->w + at, g, f, &of, e->n_cols);
        }
    }
}
