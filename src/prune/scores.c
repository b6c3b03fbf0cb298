/* scores.c - the importance of structures, channels and groups (docs/method.md, eq. 12-13). */
#include "scores_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "aggregations_impl.h"
#include "espalier/rng.h"

double esp_score_random(uint64_t seed, const esp_unit *u, size_t group)
{
    esp_rng r = { esp_rng_key(seed, u->layer, (uint64_t)u->kind), group };

    return esp_rng_uniform(&r);
}

/* ---- memory --------------------------------------------------------------------------------------- */

static size_t n_channels(const esp_unit *u)
{
    return u->n_groups * u->channels_per_group;
}

static size_t index_of(const esp_scores *s, const esp_unit *u, esp_criterion c)
{
    return (size_t)(u - s->groups->units) * ESP_N_CRITERIA + c;
}

double **esp_scores_place(const esp_scores *s, const esp_unit *u, esp_criterion c,
                          esp_aggregation a)
{
    return &s->group[index_of(s, u, c) * ESP_N_AGGREGATIONS + a];
}

const double *esp_scores_group(const esp_scores *s, const esp_unit *u, esp_criterion c,
                               esp_aggregation a)
{
    return *esp_scores_place(s, u, c, a);
}

const double *esp_scores_structure(const esp_scores *s, const esp_unit *u, esp_criterion c)
{
    return s->structure[index_of(s, u, c)];
}

static void make_unit(esp_scores *s, const esp_unit *u, esp_criterion c, size_t *bytes)
{
    size_t n = esp_criterion_structures(c, u);

    if (n > 0) {
        ESP_MAKE(s->structure[index_of(s, u, c)], n * n_channels(u), bytes);
    }
    for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS; a++) {
        if (s->aggregations & 1u << a) {
            ESP_MAKE(*esp_scores_place(s, u, c, a), u->n_groups, bytes);
        }
    }
}

static void make_scores(esp_scores *s, size_t *bytes)
{
    const esp_groups *g = s->groups;

    ESP_MAKE(s->group, g->n_units * ESP_N_CRITERIA * ESP_N_AGGREGATIONS, bytes);
    ESP_MAKE(s->structure, g->n_units * ESP_N_CRITERIA, bytes);
    for (size_t u = 0; u < g->n_units; u++) {
        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            unsigned units = s->units & esp_criteria_table[c].units;

            if (units & 1u << g->units[u].kind && s->criteria & 1u << c) {
                make_unit(s, &g->units[u], c, bytes);
            }
        }
    }
}

void esp_scores_init(esp_scores *s, const esp_groups *g, unsigned criteria, unsigned aggregations,
                     unsigned units)
{
    *s = (esp_scores){
        .groups = g, .criteria = criteria, .aggregations = aggregations, .units = units
    };
    make_scores(s, NULL);
}

size_t esp_scores_bytes(const esp_groups *g, unsigned criteria, unsigned aggregations,
                        unsigned units)
{
    esp_scores s = {
        .groups = g, .criteria = criteria, .aggregations = aggregations, .units = units
    };
    size_t bytes = 0;

    make_scores(&s, &bytes);
    return bytes;
}

void esp_scores_free(esp_scores *s)
{
    size_t n = s->groups ? s->groups->n_units * ESP_N_CRITERIA : 0;

    for (size_t i = 0; i < n; i++) {
        free(s->structure[i]);
        for (size_t a = 0; a < ESP_N_AGGREGATIONS; a++) {
            free(s->group[i * ESP_N_AGGREGATIONS + a]);
        }
    }
    free(s->group);
    free(s->structure);
    *s = (esp_scores){ 0 };
}

/* ---- structures, channels, groups ----------------------------------------------------------------- */

/* channel [n_channels] += magnitudes of the sums over the rows or columns that belong to each. */
static void add_structure(double *channel, const esp_structure *part, const double *sum)
{
    for (size_t i = 0; i < part->length; i++) {
        if (part->channel[i] >= 0) {
            channel[part->channel[i]] += fabs(sum[i]);
        }
    }
}

/* One channel of [n_structures, n] over the structures. */
static double aggregate(esp_aggregation a, const double *structure, size_t n_structures, size_t n,
                        size_t channel)
{
    double (*combine)(double, double) = esp_aggregations_table[a].combine;
    double v = structure[channel];

    for (size_t i = 1; i < n_structures; i++) {
        v = combine(v, structure[i * n + channel]);
    }
    return v;
}

static void fill_groups(double *score, esp_aggregation a, const esp_unit *u,
                        const double *structure, size_t n)
{
    for (size_t c = 0; c < n_channels(u); c++) {
        score[c / u->channels_per_group] += aggregate(a, structure, n, n_channels(u), c);
    }
}

static void fill_unit(esp_scores *s, const esp_unit *u, const esp_saliency_sums *sums, size_t i)
{
    esp_criterion c = sums->criteria.at[i];
    double *structure = s->structure[index_of(s, u, c)];
    size_t n = 0; /* structures that the criterion reads */

    for (size_t k = 0; k < u->n_structures; k++) {
        const esp_structure *part = &u->structures[k];
        const double *sum = esp_saliency_sums_at(sums, part->layer, part->slot, part->side);

        if (esp_criterion_reads(c, u->kind, part->side)) {
            add_structure(structure + n++ * n_channels(u), part, sum + i * part->length);
        }
    }
    for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS && n > 0; a++) {
        if (s->aggregations & 1u << a) {
            fill_groups(*esp_scores_place(s, u, c, a), a, u, structure, n);
        }
    }
}

void esp_scores_fill(esp_scores *s, const esp_saliency_sums *sums)
{
    for (size_t u = 0; u < s->groups->n_units; u++) {
        const esp_unit *unit = &s->groups->units[u];

        for (size_t i = 0; s->units & 1u << unit->kind && i < sums->criteria.n; i++) {
            fill_unit(s, unit, sums, i);
        }
    }
}

/* docs/method.md, eq. 34 and 35 */
static double score_of_gate(esp_criterion c, double sum, double square, double n, bool fisher_sum)
{
    return c == ESP_GATE1 ? fabs(sum) / n : square / 2 / (fisher_sum ? 1 : n);
}

void esp_scores_fill_gates(esp_scores *s, const esp_gate_sums *sums, bool fisher_sum)
{
    for (size_t i = 0; i < s->groups->n_units * ESP_N_CRITERIA * ESP_N_AGGREGATIONS; i++) {
        const esp_unit *u = &s->groups->units[i / ESP_N_AGGREGATIONS / ESP_N_CRITERIA];
        esp_criterion c = (esp_criterion)(i / ESP_N_AGGREGATIONS % ESP_N_CRITERIA);
        bool gates = esp_criteria_table[c].needs & ESP_NEEDS_GATES;
        const double *sum = esp_gate_sums_at(sums, u, 1), *square = esp_gate_sums_at(sums, u, 2);

        for (size_t g = 0; gates && s->group[i] && g < u->n_groups; g++) {
            s->group[i][g] = score_of_gate(c, sum[g], square[g], (double)s->n_samples, fisher_sum);
        }
    }
}

static esp_status check_groups(const esp_scores *s, const esp_unit *u, esp_criterion c,
                               esp_aggregation a)
{
    const double *score = esp_scores_group(s, u, c, a);

    for (size_t i = 0; score && i < u->n_groups; i++) {
        if (!isfinite(score[i])) {
            char *layer =
                u->layer == ESP_NO_LAYER ? esp_strdup("") : esp_format("layer %zu, ", u->layer);

            esp_fail(ESP_EFORMAT,
                     "importance of %s%s group %zu by criterion %s, aggregation %s is %g: take "
                     "another aggregation, or leave %s out of importance.units",
                     layer, esp_unit_name(u->kind), i, esp_criterion_name(c),
                     esp_aggregation_name(a), score[i], esp_unit_name(u->kind));
            free(layer);
            return ESP_EFORMAT;
        }
    }
    return ESP_OK;
}

esp_status esp_scores_check(const esp_scores *s)
{
    for (size_t u = 0; u < s->groups->n_units; u++) {
        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS; a++) {
                ESP_TRY(check_groups(s, &s->groups->units[u], c, a));
            }
        }
    }
    return ESP_OK;
}
