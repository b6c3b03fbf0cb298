/* config_class.c - config.json as the class of transformers sees it: which family it is of, what it asks for
 * that no family here computes, and what the class means by keys that are not there. */
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "model/model_impl.h"

/* ---- the family -------------------------------------------------------------------------------- */

#define N_TELLING (sizeof((esp_arch *)0)->has_key / sizeof(const char *))

static bool is_type(const esp_arch *a, const json_t *config)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));

    return type && strcmp(type, a->model_type) == 0;
}

static bool is_of(const esp_arch *a, const json_t *config)
{
    bool has = !a->has_key[0];

    for (size_t i = 0; i < N_TELLING && a->has_key[i]; i++) {
        has = has || json_object_get(config, a->has_key[i]);
    }
    return has && is_type(a, config);
}

const esp_arch *esp_config_arch(const json_t *config)
{
    const esp_arch *a;
    size_t i = 0;

    do {
        a = esp_arch_at(i++);
    } while (a && !is_of(a, config));
    return a;
}

/* The families of a model_type that config.json gives no key of. */
static esp_status refuse_untold(const esp_config_part *c, const char *type)
{
    char *keys = esp_strdup("");
    const esp_arch *a;

    for (size_t i = 0; (a = esp_arch_at(i)); i++) {
        if (is_type(a, c->json)) {
            char *more = esp_format("%s%s%s", keys, *keys ? " or " : "", a->has_key[0]);

            free(keys);
            keys = more;
        }
    }
    esp_fail(ESP_EFORMAT, "%s: a %s needs the key %s, which tells its size or version", c->where,
             type, keys);
    free(keys);
    return ESP_EFORMAT;
}

esp_status esp_config_find_arch(const esp_arch **arch, const esp_config_part *c)
{
    const char *type = json_string_value(esp_config_get(c, "model_type"));
    char must_be[128];

    *arch = esp_config_arch(c->json);
    if (*arch) {
        return ESP_OK;
    }
    if (type && esp_arch_find(type)) {
        return refuse_untold(c, type);
    }
    snprintf(must_be, sizeof must_be, "one of %s", esp_arch_list());
    return esp_config_refuse(c, "model_type", must_be);
}

/* ---- what no family computes ------------------------------------------------------------------- */

/* Whether a value asks for anything. */
static bool asks(const json_t *v)
{
    return v && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_number(v) && !(json_number_value(v) > 0)) &&
           !(json_is_object(v) && json_object_size(v) == 0) &&
           !(json_is_array(v) && json_array_size(v) == 0);
}

/* Keys that say that weights are not plain numbers; they count whatever the weights are. */
static const char *const quantised[] = {
    "quantization_config", "compression_config", "quantization_bit", "load_in_8bit", "load_in_4bit",
};

static const char *method(const json_t *v)
{
    const json_t *name = json_object_get(v, "quant_method");

    if (json_is_string(name)) {
        return json_string_value(name);
    }
    return asks(json_object_get(v, "load_in_8bit")) || asks(json_object_get(v, "load_in_4bit"))
               ? "bitsandbytes"
               : "no quant_method is named";
}

static esp_status check_quantised(const esp_config_part *c)
{
    for (size_t i = 0; i < sizeof quantised / sizeof *quantised; i++) {
        const json_t *v = json_object_get(c->json, quantised[i]);

        if (asks(v)) {
            return esp_fail(
                ESP_EFORMAT,
                "%s: %s (%s): quantised weights are not read; take the folder that they "
                "were made from, or dequantise them, save them as F32, F16 or BF16 and "
                "take this key out of config.json",
                c->where, quantised[i], json_is_object(v) ? method(v) : "is set");
        }
    }
    return ESP_OK;
}

esp_status esp_config_check_supported(const esp_config_part *c)
{
    ESP_TRY(check_quantised(c));
    if (asks(json_object_get(c->json, "pre_seq_len"))) {
        return esp_config_refuse(c, "pre_seq_len", "null: trained prefixes are not supported");
    }
    if (asks(json_object_get(c->json, "pruned_heads"))) {
        return esp_config_refuse(c, "pruned_heads",
                                 "empty: let transformers save what is left first");
    }
    if (json_is_false(json_object_get(c->json, "is_causal"))) {
        return esp_config_refuse(c, "is_causal",
                                 "true: attention to later tokens is not supported");
    }
    return ESP_OK;
}

/* ---- keys that are not there ------------------------------------------------------------------- */

/* Whether the file has the key, or another name that may stand for it; null counts. */
static bool has(const json_t *config, const esp_arch *arch, const char *key)
{
    bool there = json_object_get(config, key);

    for (size_t i = 0; i < arch->n_synonyms; i++) {
        const esp_config_synonym *s = &arch->synonyms[i];

        there =
            there || (s->alone && strcmp(s->key, key) == 0 && json_object_get(config, s->other));
    }
    return there;
}

/* transformers 5 keeps the base of rotary positions with their scaling. */
static bool holds_theta(const json_t *config, const char *key)
{
    return strcmp(key, "rope_theta") == 0 &&
           (json_object_get(json_object_get(config, "rope_parameters"), key) ||
            json_object_get(json_object_get(config, "rope_scaling"), key));
}

esp_status esp_config_complete(json_t *config, const esp_config_part *c)
{
    for (size_t i = 0; i < c->arch->n_defaults; i++) {
        const esp_config_default *d = &c->arch->defaults[i];
        char must_be[128];

        if (json_is_null(json_object_get(config, d->key)) && !esp_config_get(c, d->key) &&
            !d->takes_null) {
            snprintf(must_be, sizeof must_be, "given, or left out for the default, %s", d->value);
            return esp_config_refuse(c, d->key, must_be);
        }
        if (!has(config, c->arch, d->key) && !holds_theta(config, d->key) &&
            strcmp(d->value, "null") != 0) {
            json_t *value = json_loads(d->value, JSON_DECODE_ANY, NULL);

            ESP_REQUIRE(value);
            json_object_set_new(config, d->key, value);
        }
    }
    return ESP_OK;
}
