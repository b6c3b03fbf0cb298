/* value_sums.c - moments of the values of blocks, and of their gradients. */
#include "value_sums_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/traffic.h"

#define TILE ((size_t)64) /* channels that a thread sums at a time */

static size_t index_of(const esp_value_sums *s, size_t layer, int value)
{
    return layer * s->model->arch->n_values + (size_t)value;
}

static size_t width_of(const esp_value_sums *s, size_t layer, int value)
{
    return esp_model_width(s->model, layer, s->model->arch->values[value]);
}

/* ---- what is summed ----------------------------------------------------------------------------------- */

static void want(esp_value_sums *s, int which, size_t layer, int value)
{
    size_t *place = &s->place[which][index_of(s, layer, value)];

    if (!*place) {
        *place = 1 + s->n;
        s->n += width_of(s, layer, value);
    }
}

/* Of a structure of a unit, for criteria that need these. */
static void want_of(esp_value_sums *s, const esp_structure *part, unsigned needs)
{
    const esp_op *op = esp_arch_linear(s->model->arch, part->slot);

    if (!op || part->layer == ESP_NO_LAYER) {
        return;
    }
    if (needs & ESP_NEEDS_INPUTS && part->side == ESP_COLS) {
        want(s, ESP_SUM_X, part->layer, op->in[0]);
        want(s, ESP_SUM_X2, part->layer, op->in[0]);
    }
    if (needs & ESP_NEEDS_FACTORS) {
        want(s, ESP_SUM_X2, part->layer, op->in[0]);
        want(s, ESP_SUM_DX2, part->layer, op->out);
    }
    if (needs & ESP_NEEDS_FACTORS && needs & ESP_NEEDS_INPUTS) { /* by one visit of each weight */
        want(s, ESP_SUM_X, part->layer, op->in[0]);
    }
}

/* What the criteria that score a kind of unit need. */
static unsigned needs_of(unsigned criteria, esp_unit_kind kind)
{
    unsigned needs = 0;

    for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
        if (criteria >> c & 1 && esp_criteria_table[c].units >> kind & 1) {
            needs |= esp_criteria_table[c].needs;
        }
    }
    return needs;
}

void esp_value_sums_init(esp_value_sums *s, const esp_model *m, const esp_groups *g, unsigned units,
                         unsigned criteria, size_t *bytes)
{
    size_t n_values = m->dims.n_layers * m->arch->n_values;

    *s = (esp_value_sums){ .model = m };
    for (int which = 0; which < ESP_N_VALUE_SUMS; which++) {
        ESP_NEW(s->place[which], n_values);
        if (bytes) {
            *bytes += esp_calloc_bytes(n_values, sizeof *s->place[which]);
        }
    }
    for (size_t u = 0; u < g->n_units; u++) {
        const esp_unit *unit = &g->units[u];
        unsigned needs = units >> unit->kind & 1 ? needs_of(criteria, unit->kind) : 0;

        for (size_t i = 0; i < unit->n_structures; i++) {
            want_of(s, &unit->structures[i], needs);
        }
    }
    ESP_MAKE(s->all, s->n, bytes);
}

void esp_value_sums_free(esp_value_sums *s)
{
    for (int which = 0; which < ESP_N_VALUE_SUMS; which++) {
        free(s->place[which]);
    }
    free(s->all);
    *s = (esp_value_sums){ 0 };
}

static double *sums_at(const esp_value_sums *s, int which, size_t layer, int value)
{
    size_t place = s->place[which][index_of(s, layer, value)];

    return place ? s->all + place - 1 : NULL;
}

/* ---- sums --------------------------------------------------------------------------------------- */

/* first [n] += x, second [n] += x^2 over the rows of x [n_tok, n], token after token; first may be NULL. */
static void add_powers(double *first, double *second, const float *x, size_t n_tok, size_t n)
{
#pragma omp parallel for
    for (size_t at = 0; at < n; at += TILE) {
        size_t width = esp_min(n - at, TILE);
        double one[TILE] = { 0 }, two[TILE];

        memcpy(two, second + at, width * sizeof *two);
        if (first) {
            memcpy(one, first + at, width * sizeof *one);
        }
        for (size_t t = 0; t < n_tok; t++) {
            const float *row = x + t * n + at;

            for (size_t k = 0; k < width; k++) {
                one[k] += (double)row[k];
                two[k] += (double)row[k] * (double)row[k];
            }
        }
        memcpy(second + at, two, width * sizeof *two);
        if (first) {
            memcpy(first + at, one, width * sizeof *one);
        }
    }
}

void esp_value_sums_add(esp_value_sums *s, size_t layer, int value, const float *x, const float *dx,
                        size_t n_tok)
{
    double *first = sums_at(s, ESP_SUM_X, layer, value);
    double *second = sums_at(s, ESP_SUM_X2, layer, value);
    double *of_gradient = sums_at(s, ESP_SUM_DX2, layer, value);
    size_t n = width_of(s, layer, value);

    if (second) {
        ESP_REQUIRE(x);
        add_powers(first, second, x, n_tok, n);
    }
    if (of_gradient) {
        ESP_REQUIRE(dx);
        add_powers(NULL, of_gradient, dx, n_tok, n);
    }
}

/* Each sum of a value of a layer, or NULL. */
static void scale(esp_value_sums *s, int which, size_t layer, int value, double by)
{
    double *sum = sums_at(s, which, layer, value);

    for (size_t i = 0; sum && i < width_of(s, layer, value); i++) {
        sum[i] *= by;
    }
}

void esp_value_sums_reduce(esp_value_sums *s, double n_tok, double of_gradients, MPI_Comm comm)
{
    esp_sent(ESP_SENT_SUMS, ESP_COST_ALLREDUCE, s->n * sizeof *s->all, comm);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, s->all, esp_count(s->n), MPI_DOUBLE, MPI_SUM, comm));
    for (size_t l = 0; l < s->model->dims.n_layers; l++) {
        for (int v = 0; v < (int)s->model->arch->n_values; v++) {
            scale(s, ESP_SUM_X, l, v, 1 / n_tok);
            scale(s, ESP_SUM_X2, l, v, 1 / n_tok);
            scale(s, ESP_SUM_DX2, l, v, of_gradients);
        }
    }
}

static bool is_finite(const double *sum, size_t n)
{
    for (size_t i = 0; sum && i < n; i++) {
        if (!isfinite(sum[i])) {
            return false;
        }
    }
    return true;
}

bool esp_value_sums_broken(size_t *layer, int *slot, const esp_value_sums *s)
{
    const esp_arch *a = s->model->arch;

    for (*layer = s->model->dims.n_layers; (*layer)-- > 0;) {
        for (size_t i = a->n_ops; i-- > 0;) {
            const esp_op *op = &a->ops[i];
            size_t n_in = op->kind == ESP_OP_LINEAR ? width_of(s, *layer, op->in[0]) : 0;

            *slot = op->slot;
            if (op->kind == ESP_OP_LINEAR &&
                !(is_finite(sums_at(s, ESP_SUM_X2, *layer, op->in[0]), n_in) &&
                  is_finite(sums_at(s, ESP_SUM_DX2, *layer, op->out),
                            width_of(s, *layer, op->out)))) {
                return true;
            }
        }
    }
    return false;
}

esp_moments esp_value_sums_moments(const esp_value_sums *s, size_t layer, int slot)
{
    const esp_op *op = esp_arch_linear(s->model->arch, slot);

    if (!op || layer == ESP_NO_LAYER) {
        return (esp_moments){ 0 };
    }
    return (esp_moments){ .x = sums_at(s, ESP_SUM_X, layer, op->in[0]),
                          .x2 = sums_at(s, ESP_SUM_X2, layer, op->in[0]),
                          .dy2 = sums_at(s, ESP_SUM_DX2, layer, op->out) };
}
