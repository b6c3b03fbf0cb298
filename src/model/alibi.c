/* alibi.c - linear biases of attention (Press et al. 2022): a slope for each head, which a head keeps
 * when others are cut. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/reshape.h"
#include "model/model_impl.h"

#define KEY "alibi_slopes" /* in our own object: a list a layer, where heads have been cut */

/* A geometric series for a power of two; further heads take every second term of that of twice as many. */
static float slope_of(size_t head, size_t heads)
{
    size_t n = 1;

    while (2 * n <= heads) {
        n *= 2;
    }
    return (float)(head < n ? exp2(-8.0 * (double)(head + 1) / (double)n)
                            : exp2(-4.0 * (double)(2 * (head - n) + 1) / (double)n));
}

static float *slopes_of(const esp_model *m, size_t layer)
{
    return m->slopes + layer * m->slope_step;
}

const float *esp_model_slopes(const esp_model *m, size_t layer)
{
    return m->slopes ? slopes_of(m, layer) : NULL;
}

static void make_room(esp_model *m)
{
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        m->slope_step = esp_max(m->slope_step, m->dims.layer[l].heads);
    }
    ESP_NEW(m->slopes, m->dims.n_layers * m->slope_step);
}

esp_status esp_alibi_read(esp_model *m, const esp_config_part *c)
{
    const esp_config_part own = { .where = c->where, .json = esp_config_get(c, ESP_OWN_KEY) };
    const json_t *lists = esp_config_get(&own, KEY);

    if (!m->arch->alibi) {
        return ESP_OK;
    }
    make_room(m);
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        const json_t *list = json_array_get(lists, l);
        size_t heads = m->dims.layer[l].heads;

        if (lists && json_array_size(list) != heads) {
            return esp_config_refuse(&own, KEY, "a list per layer with one number per head");
        }
        for (size_t h = 0; h < heads; h++) {
            slopes_of(m, l)[h] =
                lists ? (float)json_number_value(json_array_get(list, h)) : slope_of(h, heads);
        }
    }
    return ESP_OK;
}

static bool is_plain(const esp_model *m)
{
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (size_t h = 0; h < m->dims.layer[l].heads; h++) {
            if (slopes_of(m, l)[h] != slope_of(h, m->dims.layer[l].heads)) {
                return false;
            }
        }
    }
    return true;
}

static json_t *list_of(const esp_model *m, size_t layer)
{
    json_t *list = json_array();

    for (size_t h = 0; h < m->dims.layer[layer].heads; h++) {
        json_array_append_new(list, json_real((double)slopes_of(m, layer)[h]));
    }
    return list;
}

static void write_slopes(esp_model *m)
{
    json_t *lists = json_array(), *own = json_object_get(m->config, ESP_OWN_KEY);

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        json_array_append_new(lists, list_of(m, l));
    }
    if (!own && !is_plain(m)) {
        json_object_set_new(m->config, ESP_OWN_KEY, own = json_object());
    }
    if (!is_plain(m)) {
        json_object_set(own, KEY, lists);
    } else {
        json_object_del(own, KEY);
    }
    json_decref(lists);
}

void esp_model_keep_heads(esp_model *to, const esp_model *from, const size_t *layer,
                          const int32_t *const *head)
{
    if (!from->slopes) {
        return;
    }
    if (!to->slopes) {
        make_room(to);
    }
    for (size_t l = 0; l < to->dims.n_layers; l++) {
        const float *slopes = slopes_of(from, layer ? layer[l] : l);

        for (size_t h = 0; h < to->dims.layer[l].heads; h++) {
            slopes_of(to, l)[h] = slopes[head ? (size_t)head[l][h] : h];
        }
    }
    write_slopes(to);
}
