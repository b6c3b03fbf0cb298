/* kept.c - values of blocks from the forward to the backward: those of the last layers of a stage. */
#include "kept_impl.h"

#include <stdlib.h>

#include "block_impl.h"
#include "espalier/mem.h"

static size_t first_kept(const esp_pass *p)
{
    return p->stage.end - p->options.kept_layers;
}

/* Place of a value in p->kept. */
static float **kept_at(const esp_pass *p, size_t layer, int value)
{
    size_t n_values = p->model->arch->n_values;

    return &p->kept[(layer - first_kept(p)) * n_values + (size_t)value];
}

void esp_kept_make(esp_pass *p, size_t *bytes)
{
    const esp_arch *a = p->model->arch;
    size_t n = p->options.kept_layers * a->n_values;

    ESP_MAKE(p->kept, n, bytes);
    for (size_t i = 0; i < n; i++) {
        int value = (int)(i % a->n_values);
        size_t width = esp_model_width(p->model, first_kept(p) + i / a->n_values, a->values[value]);

        if (esp_block_reads(a, value)) {
            ESP_MAKE(p->kept[i], p->options.max_tok * width, bytes);
        }
    }
}

void esp_kept_free(esp_pass *p)
{
    for (size_t i = 0; p->kept && i < p->options.kept_layers * p->model->arch->n_values; i++) {
        free(p->kept[i]);
    }
    free(p->kept);
}

bool esp_kept_has(const esp_pass *p, size_t layer)
{
    return layer >= first_kept(p);
}

void esp_kept_place(const esp_pass *p, size_t layer, size_t row)
{
    const esp_arch *a = p->model->arch;
    esp_block *b = p->block;

    for (int v = 1; v < (int)a->n_values; v++) {
        float *kept = esp_kept_has(p, layer) ? *kept_at(p, layer, v) : NULL;

        b->value[v] =
            kept ? kept + row * esp_model_width(p->model, layer, a->values[v]) : b->scratch[v];
    }
}
