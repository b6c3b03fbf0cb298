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

/* How many channels of a head turn: an even number. */
static esp_status read_channels(size_t *n, const esp_config_part *c, const esp_model *m)
{
    size_t divisor = m->arch->rotary.divisor, d = m->dims.head_dim;

    *n = d / divisor;
    if (d % (2 * divisor) != 0) {
        return esp_fail(ESP_EFORMAT,
                        "%s: %s is %zu, must be a multiple of %zu for rotary positions", c->where,
                        m->arch->keys->head_dim, d, 2 * divisor);
    }
    return ESP_OK;
}

/* part: the object with the scaling, empty where there is none */
static esp_status read_rope(esp_rope *r, const esp_config_part *c, const esp_config_part *part)
{
    const esp_config_part *holder = esp_config_get(part, "rope_theta") ? part : c;
    double theta, ratio;

    ESP_TRY(check_part(c));
    ESP_TRY(check_part(part));
    ESP_TRY(esp_config_real(&theta, holder, "rope_theta", 10000));
    ESP_TRY(esp_config_real(&ratio, c, "rope_ratio", 1)); /* ChatGLM's way to longer contexts */
    ESP_NEW(r->inv_freq, r->n / 2);
    for (size_t i = 0; i < r->n / 2; i++) {
        r->inv_freq[i] = pow(ratio * theta, -2.0 * (double)i / (double)r->n);
    }
    return apply_scaling(r->inv_freq, r->n / 2, part);
}

esp_status esp_rope_read(esp_model *m, const esp_config_part *c)
{
    const char *key = esp_config_get(c, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const json_t *object = esp_config_get(c, key);
    esp_config_part part = { .json = object };
    char *where;
    esp_status st;

    if (m->arch->rotary.divisor == 0) {
        return ESP_OK;
    }
    if (object && !json_is_object(object)) {
        return esp_config_refuse(c, key, "an object or null");
    }
    m->rope.gain = 1;
    ESP_TRY(read_channels(&m->rope.n, c, m));
    part.where = where = esp_format("%s: %s", c->where, key);
    st = read_rope(&m->rope, c, &part);
    free(where);
    return st;
}

static double *copy_of(const double *list, size_t n)
{
    double *copy = NULL;

    if (list) {
        ESP_NEW(copy, n);
        memcpy(copy, list, n * sizeof *copy);
    }
    return copy;
}

void esp_rope_copy(esp_rope *to, const esp_rope *from)
{
    *to = *from;
    to->inv_freq = copy_of(from->inv_freq, from->n / 2);
    to->longer = copy_of(from->longer, from->n / 2);
}

void esp_rope_free(esp_rope *r)
{
    free(r->inv_freq);
    free(r->longer);
    *r = (esp_rope){ 0 };
}
