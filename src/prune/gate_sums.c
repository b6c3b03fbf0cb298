/* gate_sums.c - x dL/dx of the outputs of groups, over the tokens of each sample. */
#include "gate_sums_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "criteria_impl.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"

#define TILE ((size_t)64) /* channels that a thread sums at a time */

/* Units of the set that some criterion of gates scores. */
static unsigned units_with_gates(unsigned units, unsigned criteria)
{
    unsigned with = 0;

    for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
        if (criteria >> c & 1 && esp_criteria_table[c].needs & ESP_NEEDS_GATES) {
            with |= esp_criteria_table[c].units;
        }
    }
    return with & units;
}

void esp_gate_sums_init(esp_gate_sums *s, const esp_model *m, const esp_groups *g, unsigned units,
                        unsigned criteria, size_t *bytes)
{
    unsigned with = units_with_gates(units, criteria);
    size_t widest = 0;

    *s = (esp_gate_sums){ .groups = g };
    ESP_MAKE(s->value, g->n_units, bytes);
    ESP_MAKE(s->place, g->n_units, bytes);
    for (size_t u = 0; u < g->n_units; u++) {
        const esp_unit *unit = &g->units[u];
        bool gates = with >> unit->kind & 1;
        const esp_structure *columns = gates ? esp_unit_columns(unit) : NULL;

        if (!bytes) {
            s->value[u] = gates ? esp_arch_linear(m->arch, columns->slot)->in[0] : -1;
            s->place[u] = s->n;
        }
        s->n += gates ? 2 * unit->n_groups : 0;
        widest = gates ? esp_max(widest, columns->length) : widest;
    }
    ESP_MAKE(s->all, s->n, bytes);
    ESP_MAKE(s->channel, widest, bytes);
    ESP_MAKE(s->gate, widest, bytes);
}

void esp_gate_sums_free(esp_gate_sums *s)
{
    free(s->value);
    free(s->place);
    free(s->all);
    free(s->channel);
    free(s->gate);
    *s = (esp_gate_sums){ 0 };
}

/* sum [n] = sum over rows begin .. end - 1 of x dx, both [rows, n] */
static void sum_channels(double *sum, const float *x, const float *dx, size_t n, size_t begin,
                         size_t end)
{
#pragma omp parallel for
    for (size_t at = 0; at < n; at += TILE) {
        size_t width = esp_min(n - at, TILE);
        double v[TILE] = { 0 };

        for (size_t t = begin; t < end; t++) {
            const float *a = x + t * n + at, *b = dx + t * n + at;

            for (size_t k = 0; k < width; k++) {
                v[k] += (double)a[k] * (double)b[k];
            }
        }
        memcpy(sum + at, v, width * sizeof *v);
    }
}

void esp_gate_gradients(double *gate, double *channel, const esp_unit *u, const float *x,
                        const float *dx, size_t begin, size_t end)
{
    const esp_structure *columns = esp_unit_columns(u);

    sum_channels(channel, x, dx, columns->length, begin, end);
    memset(gate, 0, u->n_groups * sizeof *gate);
    for (size_t i = 0; i < columns->length; i++) {
        gate[(size_t)columns->channel[i] / u->channels_per_group] += channel[i];
    }
}

/* One sample more, whose gates have their gradients. */
static void add_sample(esp_gate_sums *s, size_t u)
{
    const esp_unit *unit = &s->groups->units[u];
    double *sum = s->all + s->place[u], *square = sum + unit->n_groups;

    for (size_t g = 0; g < unit->n_groups; g++) {
        sum[g] += s->gate[g];
        square[g] += s->gate[g] * s->gate[g];
    }
}

void esp_gate_sums_add(esp_gate_sums *s, size_t layer, int value, const float *x, const float *dx,
                       const esp_batch *chunk)
{
    for (size_t u = 0; u < s->groups->n_units; u++) {
        const esp_unit *unit = &s->groups->units[u];

        if (unit->layer != layer || s->value[u] != value) {
            continue;
        }
        for (size_t j = 0; j < chunk->n_samples; j++) {
            esp_gate_gradients(s->gate, s->channel, unit, x, dx, chunk->start[j],
                               chunk->start[j + 1]);
            add_sample(s, u);
        }
    }
}

void esp_gate_sums_reduce(esp_gate_sums *s, MPI_Comm comm)
{
    esp_sent(ESP_SENT_SUMS, ESP_COST_ALLREDUCE, s->n * sizeof *s->all, comm);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, s->all, esp_count(s->n), MPI_DOUBLE, MPI_SUM, comm));
}

bool esp_gate_sums_broken(size_t *layer, int *slot, const esp_gate_sums *s)
{
    for (size_t u = s->groups->n_units; u-- > 0;) {
        const esp_unit *unit = &s->groups->units[u];
        const double *sums = esp_gate_sums_at(s, unit, 1);

        for (size_t i = 0; sums && i < 2 * unit->n_groups; i++) {
            if (!isfinite(sums[i])) {
                *layer = unit->layer;
                *slot = esp_unit_columns(unit)->slot;
                return true;
            }
        }
    }
    return false;
}

const double *esp_gate_sums_at(const esp_gate_sums *s, const esp_unit *u, int power)
{
    size_t i = (size_t)(u - s->groups->units);

    return s->value[i] < 0 ? NULL : s->all + s->place[i] + (power == 2 ? u->n_groups : 0);
}
