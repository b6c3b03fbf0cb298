/* rope.c - the angles of rotary positions and their scalings for longer contexts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "model/model_impl.h"

#define PI 3.14159265358979323846

/* inv_freq[c] /= factor: positions are squeezed (Chen et al. 2023). */
static esp_status scale_linear(double *inv_freq, size_t n, const esp_config_part *c)
{
    double factor;

    ESP_TRY(esp_config_real(&factor, c, "factor", 0));
    for (size_t i = 0; i < n; i++) {
        inv_freq[i] /= factor;
    }
    return ESP_OK;
}

/* Llama 3.1: slow turns are squeezed, fast ones are kept, those between are mixed by how often they
 * turn within the original context. */
static esp_status scale_llama3(double *inv_freq, size_t n, const esp_config_part *c)
{
    double factor, low, high, context;

    ESP_TRY(esp_config_real(&factor, c, "factor", 0));
    ESP_TRY(esp_config_real(&low, c, "low_freq_factor", 0));
    ESP_TRY(esp_config_real(&high, c, "high_freq_factor", 0));
    ESP_TRY(esp_config_real(&context, c, "original_max_position_embeddings", 0));
    if (low >= high) {
        return esp_config_refuse(c, "high_freq_factor", "above low_freq_factor");
    }
    for (size_t i = 0; i < n; i++) {
        double turns = context * inv_freq[i] / (2 * PI);
        double keep = fmin(fmax((turns - low) / (high - low), 0), 1);

        inv_freq[i] *= keep + (1 - keep) / factor;
    }
    return ESP_OK;
}

static esp_status scale_none(double *inv_freq, size_t n, const esp_config_part *c)
{
    (void)inv_freq;
    (void)n;
    (void)c;
    return ESP_OK;
}

static const struct scaling {
    const char *name;
    esp_status (*apply)(double *inv_freq, size_t n, const esp_config_part *c);
} scalings[] = {
    { "default", scale_none },
    { "linear", scale_linear },
    { "llama3", scale_llama3 },
};

static esp_status apply_scaling(double *inv_freq, size_t n, const esp_config_part *c)
{
    const char *key = esp_config_get(c, "rope_type") ? "rope_type" : "type";
    const json_t *kind = esp_config_get(c, key);
    const char *name = kind ? json_string_value(kind) : "default";

    for (size_t i = 0; name && i < sizeof scalings / sizeof *scalings; i++) {
        if (strcmp(scalings[i].name, name) == 0) {
            return scalings[i].apply(inv_freq, n, c);
        }
    }
    return esp_config_refuse(c, key, "one of default, linear, llama3");
}

/* Families say themselves which channels turn. */
static esp_status check_part(const esp_config_part *c)
{
    double part;

    ESP_TRY(esp_config_real(&part, c, "partial_rotary_factor", 1));
    return part == 1 ? ESP_OK : esp_config_refuse(c, "partial_rotary_factor", "1");
}

esp_status esp_rope_read(double **inv_freq, const esp_config_part *c, size_t n_channels)
{
    const char *key = esp_config_get(c, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const json_t *object = esp_config_get(c, key);
    char *where = esp_format("%s: %s", c->where, key);
    const esp_config_part part = { .where = where, .json = object };
    const esp_config_part *holder = esp_config_get(&part, "rope_theta") ? &part : c;
    size_t n = n_channels / 2;
    double theta, ratio;
    esp_status st = ESP_OK;

    if (object && !json_is_object(object)) {
        st = esp_config_refuse(c, key, "an object or null");
    }
    if (st == ESP_OK) {
        st = check_part(c);
    }
    if (st == ESP_OK) {
        st = check_part(&part);
    }
    if (st == ESP_OK) {
        st = esp_config_real(&theta, holder, "rope_theta", 10000);
    }
    if (st == ESP_OK) {
        st = esp_config_real(&ratio, c, "rope_ratio", 1); /* ChatGLM's way to longer contexts */
    }
    if (st == ESP_OK) {
        ESP_NEW(*inv_freq, n);
        for (size_t i = 0; i < n; i++) {
            (*inv_freq)[i] = pow(ratio * theta, -2.0 * (double)i / (double)n_channels);
        }
        st = apply_scaling(*inv_freq, n, &part);
    }
    free(where);
    return st;
}
