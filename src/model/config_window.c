/* config_window.c - which layers see a window of the keys before them. */
#include <string.h>

#include "model/model_impl.h"

#define WINDOW_TYPE "sliding_attention" /* entries of layer_types */
#define FULL_TYPE   "full_attention"

static bool is_window(const json_t *type)
{
    return json_is_string(type) && strcmp(json_string_value(type), WINDOW_TYPE) == 0;
}

static bool is_full(const json_t *type)
{
    return json_is_string(type) && strcmp(json_string_value(type), FULL_TYPE) == 0;
}

/* Families whose layers are alike do not look at layer_types. */
static bool has_types(const esp_arch *arch)
{
    return esp_arch_default(arch, "layer_types");
}

static esp_status check_types(const json_t **types, const esp_config_part *c, size_t n_layers)
{
    *types = has_types(c->arch) ? esp_config_get(c, "layer_types") : NULL;
    if (*types && json_array_size(*types) != n_layers) {
        return esp_config_refuse(c, "layer_types", "a list with one entry per layer");
    }
    for (size_t l = 0; *types && l < n_layers; l++) {
        const json_t *type = json_array_get(*types, l);

        if (!is_window(type) && !is_full(type)) {
            return esp_config_refuse(c, "layer_types", "of " WINDOW_TYPE " and " FULL_TYPE);
        }
    }
    return ESP_OK;
}

/* The window where the model has one, and the first layer that has it where config.json counts them. */
static esp_status read_window(size_t *window, size_t *first, const esp_config_part *c)
{
    bool on = c->arch->windows != ESP_WINDOWS_NONE;

    *window = *first = 0;
    if (c->arch->windows == ESP_WINDOWS_LAST) {
        const json_t *layers = esp_config_get(c, "max_window_layers");

        ESP_TRY(esp_config_bool(&on, c, "use_sliding_window", false));
        if (!json_is_integer(layers) || json_integer_value(layers) < 0) {
            return esp_config_refuse(c, "max_window_layers", "a whole number from 0");
        }
        *first = (size_t)json_integer_value(layers);
    }
    return on && esp_config_get(c, "sliding_window")
               ? esp_config_size(window, c, "sliding_window", ESP_MAX_WIDTH, 0)
               : ESP_OK;
}

esp_status esp_config_read_windows(esp_dims *d, const esp_config_part *c)
{
    const json_t *types;
    size_t window, first;

    ESP_TRY(check_types(&types, c, d->n_layers));
    ESP_TRY(read_window(&window, &first, c));
    for (size_t l = 0; l < d->n_layers; l++) {
        bool alternate = c->arch->windows == ESP_WINDOWS_ALTERNATE;
        bool has = types       ? is_window(json_array_get(types, l))
                   : alternate ? l % 2 == 0
                               : window && l >= first;

        if (has && !window && c->arch->windows == ESP_WINDOWS_LAST &&
            !json_is_true(esp_config_get(c, "use_sliding_window"))) {
            return esp_config_refuse(c, "use_sliding_window",
                                     "true where layer_types has " WINDOW_TYPE);
        }
        if (has && !window) {
            return esp_config_refuse(c, "sliding_window",
                                     "a whole number from 1 where layers are " WINDOW_TYPE);
        }
        d->layer[l].window = has ? window : 0;
    }
    return ESP_OK;
}

void esp_config_write_windows(json_t *config, const esp_arch *arch, const esp_dims *d)
{
    bool counted = arch->windows == ESP_WINDOWS_LAST, any = false;
    bool named = arch->windows == ESP_WINDOWS_ALTERNATE ||
                 (has_types(arch) && json_object_get(config, "layer_types"));
    json_t *types = json_array();
    size_t n_full = 0; /* before the first layer with a window */

    for (size_t l = 0; l < d->n_layers; l++) {
        any = any || d->layer[l].window;
        n_full += !any;
        json_array_append_new(types, json_string(d->layer[l].window ? WINDOW_TYPE : FULL_TYPE));
    }
    if (counted && any) { /* for inference engines that count layers */
        json_object_set_new(config, "max_window_layers", json_integer((json_int_t)n_full));
    }
    if (named || (counted && any)) {
        json_object_set(config, "layer_types", types);
    } else if (json_array_size(json_object_get(config, "layer_types")) != d->n_layers) {
        json_object_del(config, "layer_types"); /* of a family that does not look at it */
    }
    json_decref(types);
}
