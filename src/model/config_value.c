/* config_value.c - values of config.json by key: read, refused, replaced. */
#include "model/config_value_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);

    return v && !json_is_null(v);
}

/* Number i of the other names of a key, NULL after the last; alone: of those that may stand without it. */
static const char *synonym(const esp_arch *arch, const char *key, bool alone, size_t i)
{
    for (size_t k = 0; arch && k < arch->n_synonyms; k++) {
        const esp_config_synonym *s = &arch->synonyms[k];

        if (strcmp(s->key, key) == 0 && (s->alone || !alone) && i-- == 0) {
            return s->other;
        }
    }
    return NULL;
}

const char *esp_config_name(const esp_config_part *c, const char *key)
{
    const char *name = key;

    for (size_t i = 0; name && !has(c->json, name); i++) {
        name = synonym(c->arch, key, true, i);
    }
    return name ? name : key;
}

const json_t *esp_config_get(const esp_config_part *c, const char *key)
{
    const json_t *v = json_object_get(c->json, esp_config_name(c, key));

    return json_is_null(v) ? NULL : v;
}

esp_status esp_config_refuse(const esp_config_part *c, const char *key, const char *must_be)
{
    const json_t *v = json_object_get(c->json, esp_config_name(c, key));
    char *value = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

    esp_fail(ESP_EFORMAT, "%s: %s is %.200s, must be %s", c->where, esp_config_name(c, key),
             value ? value : "missing", must_be);
    free(value);
    return ESP_EFORMAT;
}

bool esp_config_is_size(const json_t *v, size_t max)
{
    return json_is_integer(v) && json_integer_value(v) >= 1 && (size_t)json_integer_value(v) <= max;
}

esp_status esp_config_size(size_t *size, const esp_config_part *c, const char *key, size_t max,
                           size_t fallback)
{
    const json_t *v = key ? esp_config_get(c, key) : NULL;
    char must_be[64];

    if (!v && fallback) {
        *size = fallback;
        return ESP_OK;
    }
    if (!esp_config_is_size(v, max)) {
        snprintf(must_be, sizeof must_be, "a whole number from 1 to %zu", max);
        return esp_config_refuse(c, key, must_be);
    }
    *size = (size_t)json_integer_value(v);
    return ESP_OK;
}

esp_status esp_config_real(double *real, const esp_config_part *c, const char *key, double fallback)
{
    const json_t *v = esp_config_get(c, key);

    *real = v ? json_number_value(v) : fallback;
    if (!(*real > 0) || !isfinite(*real)) {
        return esp_config_refuse(c, key, "a number above 0");
    }
    return ESP_OK;
}

esp_status esp_config_bool(bool *flag, const esp_config_part *c, const char *key, bool missing)
{
    const json_t *v = esp_config_get(c, key);

    *flag = v ? json_is_true(v) : missing;
    return !v || json_is_boolean(v) ? ESP_OK : esp_config_refuse(c, key, "true or false");
}

void esp_config_put_size(json_t *config, const esp_arch *arch, const char *key, size_t v)
{
    const esp_config_part c = { .json = config, .arch = arch };
    json_t *size = json_integer((json_int_t)v);
    const char *other;

    json_object_set(config, esp_config_name(&c, key), size);
    for (size_t i = 0; (other = synonym(arch, key, false, i)); i++) {
        if (has(config, other)) {
            json_object_set(config, other, size);
        }
    }
    json_decref(size);
}
