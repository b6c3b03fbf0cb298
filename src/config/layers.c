/* layers.c - layers that settings count from the end, in a model. */
#include <stdlib.h>

#include "espalier/config.h"

static bool is_from_end(size_t layer)
{
    return layer > SIZE_MAX / 2;
}

static bool any_from_end(const esp_layer_ranges *r)
{
    bool any = false;

    for (size_t i = 0; i < r->n; i++) {
        any = any || is_from_end(r->range[i].first) || is_from_end(r->range[i].last);
    }
    return any;
}

bool esp_config_counts_from_end(const esp_config *c)
{
    return any_from_end(&c->prune.attention_layers) || any_from_end(&c->prune.mlp_layers);
}

/* Of one before the first layer: n_layers, which there is not. */
static size_t place(size_t layer, size_t n_layers)
{
    size_t back = ESP_LAYER_FROM_END(0) - layer;

    return !is_from_end(layer) ? layer : back <= n_layers ? n_layers - back : n_layers;
}

static esp_status place_ranges(esp_layer_ranges *r, const char *path, const esp_config *c,
                               size_t n_layers)
{
    char *text = esp_option_text(c, esp_option_find(path));
    size_t n = any_from_end(r) ? r->n : 0;
    bool good = true;

    for (size_t i = 0; i < n; i++) {
        esp_layer_range *range = &r->range[i];

        *range = (esp_layer_range){ place(range->first, n_layers), place(range->last, n_layers) };
        good = good && range->first <= range->last && range->last < n_layers;
    }
    if (!good) {
        esp_fail(ESP_EUSAGE, "%s: %s is not a range of the layers 0-%zu", path, text, n_layers - 1);
    }
    free(text);
    return good ? ESP_OK : ESP_EUSAGE;
}

esp_status esp_config_place_layers(esp_config *c, size_t n_layers)
{
    ESP_TRY(place_ranges(&c->prune.attention_layers, "prune.attention_layers", c, n_layers));
    return place_ranges(&c->prune.mlp_layers, "prune.mlp_layers", c, n_layers);
}
