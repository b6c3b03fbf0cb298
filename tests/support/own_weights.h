/* own_weights.h - a model with weights of its own in f32, which a test may change. */
#ifndef ESPALIER_TEST_OWN_WEIGHTS_H
#define ESPALIER_TEST_OWN_WEIGHTS_H

#include "espalier/groups.h"
#include "test.h"

/* An array in f32; own_weights_free frees it. */
static inline float *own_f32(const void *data, esp_dtype dtype, size_t n)
{
    float *own;

    ESP_NEW(own, n);
    esp_to_f32(own, data, dtype, n);
    return own;
}

static inline size_t own_weights_n_block(const esp_model *m)
{
    return m->arch->n_slots - ESP_SLOT_BLOCK;
}

/* A weight that the family does not have stays empty. */
static inline void own_weight(esp_weight *w)
{
    if (w->rows == 0) {
        return;
    }
    w->data = own_f32(w->data, w->dtype, w->rows * w->cols);
    w->bias = w->has_bias ? own_f32(w->bias, w->dtype, w->rows) : NULL;
    w->dtype = ESP_F32;
}

/* Gives a model weights of its own, one array a tensor. A tied head is the embedding and has no data. */
static inline void own_weights(esp_model *m)
{
    for (int slot = 0; slot < ESP_SLOT_BLOCK - (m->tied ? 1 : 0); slot++) {
        own_weight(&m->head_and_norm[slot]);
    }
    for (size_t i = 0; i < m->dims.n_layers * own_weights_n_block(m); i++) {
        own_weight(&m->block[i]);
    }
}

static inline void own_weights_free(esp_model *m)
{
    for (int slot = 0; slot < ESP_SLOT_BLOCK - (m->tied ? 1 : 0); slot++) {
        free((void *)m->head_and_norm[slot].data);
        free((void *)m->head_and_norm[slot].bias);
    }
    for (size_t i = 0; i < m->dims.n_layers * own_weights_n_block(m); i++) {
        free((void *)m->block[i].data);
        free((void *)m->block[i].bias);
    }
}

/* A row or a column times a factor. */
static inline void own_weight_scale(const esp_weight *w, esp_side side, size_t i, float by)
{
    float *data = (float *)w->data, *bias = (float *)w->bias;
    size_t n = side == ESP_ROWS ? w->cols : w->rows;

    for (size_t k = 0; k < n; k++) {
        data[side == ESP_ROWS ? i * w->cols + k : k * w->cols + i] *= by;
    }
    if (side == ESP_ROWS && bias) {
        bias[i] *= by;
    }
}

/* The columns that multiply what the groups of a unit give, times gate [n_groups]. */
static inline void own_weights_scale(const esp_model *m, const esp_unit *u, const float *gate)
{
    const esp_structure *columns = esp_unit_columns(u);
    const esp_weight *w = esp_model_weight(m, u->layer, columns->slot);

    for (size_t i = 0; i < columns->length; i++) {
        own_weight_scale(w, ESP_COLS, i, gate[(size_t)columns->channel[i] / u->channels_per_group]);
    }
}

#endif
