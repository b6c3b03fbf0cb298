/* small.h - a model of a few thousand random weights, and samples that it can learn. */
#ifndef ESPALIER_TEST_SMALL_H
#define ESPALIER_TEST_SMALL_H

#include "espalier/rng.h"
#include "shapes.h"

typedef struct small {
    esp_model model; /* its weights point into bytes */
    char *bytes;     /* owned */
    size_t n;
    esp_dtype dtype;
} small;

static inline void *small_numbers(small *s, float mean, float deviation, size_t n)
{
    esp_rng r = { .key = esp_rng_key(11, s->n, 0) };
    char *at = s->bytes + s->n;
    float *x;

    ESP_NEW(x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = mean + deviation * sqrtf(12) * ((float)esp_rng_uniform(&r) - 0.5f);
    }
    esp_from_f32(at, s->dtype, x, n);
    free(x);
    s->n += n * esp_dtype_size(s->dtype);
    return at;
}

static inline void small_fill(small *s, esp_weight *w)
{
    bool is_norm = w->cols == 1;
    float deviation = is_norm ? 0.1f : 1 / sqrtf((float)w->cols);

    w->dtype = s->dtype;
    w->data = small_numbers(s, is_norm, deviation, w->rows * w->cols);
    if (w->has_bias) {
        w->bias = small_numbers(s, 0, 0.1f, w->rows);
    }
}

/* Weights for a model that has shapes only. */
static inline void small_weights(small *s, esp_dtype dtype)
{
    size_t n_block;

    s->dtype = dtype;
    s->n = 0;
    n_block = s->model.dims.n_layers * (s->model.arch->n_slots - ESP_SLOT_BLOCK);
    ESP_NEW(s->bytes, esp_model_cost(&s->model, 1).parameters * esp_dtype_size(dtype));
    for (int slot = 0; slot < ESP_SLOT_BLOCK; slot++) {
        if (s->model.outer[slot].rows > 0 && (slot != ESP_SLOT_HEAD || !s->model.tied)) {
            small_fill(s, &s->model.outer[slot]);
        }
    }
    for (size_t i = 0; i < n_block; i++) {
        small_fill(s, &s->model.block[i]);
    }
}

static inline void small_init(small *s, const shape *of, esp_dtype dtype)
{
    shape_model(&s->model, of);
    small_weights(s, dtype);
}

static inline void small_free(small *s)
{
    esp_model_free(&s->model);
    free(s->bytes);
}

/* n samples of 3 to 3 + spread tokens, each an arithmetic sequence modulo vocab. */
static inline esp_samples small_samples(size_t n, size_t spread, size_t vocab)
{
    esp_rng r = { .key = esp_rng_key(5, 0, 0) };
    esp_samples s = { 0 };
    int32_t ids[64];

    for (size_t j = 0; j < n; j++) {
        size_t length = 3 + esp_rng_below(&r, spread), step = 1 + esp_rng_below(&r, 3);

        ids[0] = (int32_t)esp_rng_below(&r, vocab);
        for (size_t t = 1; t < length; t++) {
            ids[t] = (int32_t)(((size_t)ids[t - 1] + step) % vocab);
        }
        esp_samples_add(&s, ids, NULL, length);
    }
    return s;
}

#endif
