/* scores_h5.c - importance.h5. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/h5.h"
#include "espalier/mem.h"
#include "scores_impl.h"

/* "/layers/3/mlp/element1", "/hidden/element1"; the caller frees. */
static char *path_of(const esp_unit *u, esp_criterion c)
{
    const char *criterion = esp_criterion_name(c), *unit = esp_unit_name(u->kind);

    return u->layer == ESP_NO_LAYER ? esp_format("/%s/%s", unit, criterion)
                                    : esp_format("/layers/%zu/%s/%s", u->layer, unit, criterion);
}

static char *score_path(const esp_unit *u, esp_criterion c, esp_aggregation a)
{
    char *unit = path_of(u, c);
    char *path = esp_path(unit, esp_aggregation_name(a));

    free(unit);
    return path;
}

/* ---- writing -------------------------------------------------------------------------------------- */

static esp_status save_groups(esp_h5 *f, const esp_scores *s, const esp_unit *u, esp_criterion c)
{
    esp_status st = ESP_OK;

    for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS && st == ESP_OK; a++) {
        const double *score = esp_scores_group(s, u, c, a);
        char *path = score_path(u, c, a);

        if (score) {
            st = esp_h5_write(f, path, H5T_NATIVE_DOUBLE, 1, &u->n_groups, score);
        }
        free(path);
    }
    return st;
}

/* Structures of the units of a layer; those of the residual stream are every weight of the model. */
static esp_status save_structures(esp_h5 *f, const esp_scores *s, const esp_unit *u,
                                  esp_criterion c)
{
    const double *structure = esp_scores_structure(s, u, c);
    size_t n = u->n_groups * u->channels_per_group;
    char *unit = path_of(u, c);
    esp_status st = ESP_OK;
    size_t k = 0; /* among those that the criterion reads */

    for (size_t i = 0; structure && u->layer != ESP_NO_LAYER && i < u->n_structures; i++) {
        const char *label = u->structures[i].label;
        char *path;

        if (!esp_criterion_reads(c, u->kind, u->structures[i].side)) {
            continue;
        }
        path = esp_format("%s/structures/%s", unit, label);
        st = esp_h5_write(f, path, H5T_NATIVE_DOUBLE, 1, &n, structure + k++ * n);
        free(path);
        if (st != ESP_OK) {
            break;
        }
    }
    free(unit);
    return st;
}

static esp_status save_units(esp_h5 *f, const esp_scores *s)
{
    for (size_t u = 0; u < s->groups->n_units; u++) {
        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            ESP_TRY(save_groups(f, s, &s->groups->units[u], c));
            ESP_TRY(save_structures(f, s, &s->groups->units[u], c));
        }
    }
    return ESP_OK;
}

static esp_status save_attributes(esp_h5 *f, const esp_scores *s, const char *model_digest,
                                  const esp_importance_options *o)
{
    ESP_TRY(esp_h5_set_string(f, "/", "model", model_digest));
    ESP_TRY(esp_h5_set_string(f, "/", "fisher", esp_fisher_name(o->fisher_sum)));
    ESP_TRY(esp_h5_set_string(f, "/", "labels", esp_labels_name(o->model_labels)));
    ESP_TRY(esp_h5_set_int(f, "/", "samples", (int64_t)s->n_samples));
    ESP_TRY(esp_h5_set_int(f, "/", "tokens", (int64_t)s->n_tok));
    ESP_TRY(esp_h5_set_int(f, "/", "sequence", (int64_t)s->sequence));
    ESP_TRY(esp_h5_set_int(f, "/", "seed", (int64_t)o->seed));
    return isnan(s->loss) ? ESP_OK : esp_h5_set_double(f, "/", "loss", s->loss);
}

esp_status esp_scores_save(const esp_scores *s, const char *path, const char *model_digest,
                           const esp_importance_options *o)
{
    esp_h5 f;
    esp_status st;

    ESP_TRY(esp_h5_create(&f, path));
    st = save_units(&f, s);
    if (st == ESP_OK) {
        st = save_attributes(&f, s, model_digest, o);
    }
    return esp_h5_close(&f, st);
}

/* ---- reading -------------------------------------------------------------------------------------- */

static esp_status check_digest(const esp_h5 *f, const char *model_digest)
{
    char *found;
    esp_status st = ESP_OK;

    ESP_TRY(esp_h5_get_string(f, "/", "model", &found));
    if (strcmp(found, model_digest) != 0) {
        st = esp_fail(ESP_EFORMAT,
                      "%s: /: attribute model: scores of model %s, this one is %s; score it again",
                      f->path, found, model_digest);
    }
    free(found);
    return st;
}

/* The scores of one dataset, where there is one. */
static esp_status load_groups(esp_scores *s, const esp_h5 *f, const esp_unit *u, esp_criterion c,
                              esp_aggregation a)
{
    double **score = esp_scores_place(s, u, c, a);
    char *path = score_path(u, c, a);
    size_t dims[ESP_H5_MAX_DIMS], n_dims, n = esp_h5_size(f, path, dims, &n_dims);
    esp_status st = ESP_OK;

    if (n > 0 && n != u->n_groups) {
        st = esp_fail(ESP_EFORMAT, "%s: %s: %zu scores, the model has %zu groups there", f->path,
                      path, n, u->n_groups);
    } else if (n > 0) {
        ESP_NEW(*score, n);
        st = esp_h5_read(f, path, H5T_NATIVE_DOUBLE, 0, n, *score);
        s->criteria |= 1u << c;
        s->aggregations |= 1u << a;
        s->units |= 1u << u->kind;
    }
    free(path);
    return st;
}

static esp_status load_units(esp_scores *s, const esp_h5 *f)
{
    for (size_t u = 0; u < s->groups->n_units; u++) {
        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS; a++) {
                ESP_TRY(load_groups(s, f, &s->groups->units[u], c, a));
            }
        }
    }
    return ESP_OK;
}

static esp_status load_attributes(esp_scores *s, const esp_h5 *f)
{
    int64_t samples, tokens, sequence;

    ESP_TRY(esp_h5_get_int(f, "/", "samples", &samples));
    ESP_TRY(esp_h5_get_int(f, "/", "tokens", &tokens));
    ESP_TRY(esp_h5_get_int(f, "/", "sequence", &sequence));
    s->n_samples = (size_t)samples;
    s->n_tok = (size_t)tokens;
    s->sequence = (size_t)sequence;
    s->loss = NAN;
    if (esp_criteria_need(s->criteria, ESP_NEEDS_BACKWARD)) {
        ESP_TRY(esp_h5_get_double(f, "/", "loss", &s->loss));
    }
    return ESP_OK;
}

esp_status esp_scores_load(esp_scores *s, const esp_groups *g, const char *path,
                           const char *model_digest)
{
    esp_h5 f;
    esp_status st;

    *s = (esp_scores){ 0 };
    ESP_TRY(esp_h5_open(&f, path));
    esp_scores_init(s, g, 0, 0, 0);
    st = check_digest(&f, model_digest);
    if (st == ESP_OK) {
        st = load_units(s, &f);
    }
    if (st == ESP_OK) {
        st = load_attributes(s, &f);
    }
    if (st != ESP_OK) {
        esp_scores_free(s);
    }
    return esp_h5_close(&f, st);
}
