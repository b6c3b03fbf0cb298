/* small_model.h - a model of a few thousand random weights, and samples that it can learn. */
#ifndef ESPALIER_TEST_SMALL_MODEL_H
#define ESPALIER_TEST_SMALL_MODEL_H

#include "espalier/rng.h"
#include "model_shapes.h"

static const shape two_qwen2 = { .type = "qwen2",
                                 .layers = 2,
                                 .hidden = 24,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 6,
                                 .mlp = 20,
                                 .vocab = 30 };
static const shape three_llama = { .type = "llama",
                                   .layers = 3,
                                   .hidden = 16,
                                   .heads = 2,
                                   .kv_heads = 1,
                                   .head_dim = 8,
                                   .mlp = 24,
                                   .vocab = 21 };
static const shape three_llama_tied = { .type = "llama",
                                        .layers = 3,
                                        .hidden = 16,
                                        .heads = 2,
                                        .kv_heads = 1,
                                        .head_dim = 8,
                                        .mlp = 24,
                                        .vocab = 21,
                                        .tied = true };

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
        if (s->model.head_and_norm[slot].rows > 0 && (slot != ESP_SLOT_HEAD || !s->model.tied)) {
            small_fill(s, &s->model.head_and_norm[slot]);
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

/* Number `at` of a weight of that name, NULL: the embedding. */
static inline void small_set(small *s, size_t layer, const char *name, size_t at, float value)
{
    int slot = name ? esp_arch_slot(s->model.arch, name) : ESP_SLOT_EMBED;
    char *data = (char *)(uintptr_t)esp_model_weight(&s->model, layer, slot)->data;

    esp_from_f32(data + at * esp_dtype_size(s->dtype), s->dtype, &value, 1);
}

/* One token of a LLaMA breaks: channel 0 of a residual is that of the embedding up to the MLP of a layer, 1
 * for that token and 0 for all others; there it meets two weights whose product is beyond f32. */
static inline void small_plant(small *s, size_t layer, size_t token)
{
    for (size_t v = 0; v < s->model.dims.vocab; v++) {
        small_set(s, ESP_NO_LAYER, NULL, v * s->model.dims.hidden, v == token);
    }
    for (size_t l = 0; l <= layer; l++) {
        const char *into[] = { "o_proj", "down_proj" };

        for (int i = 0; i < (l < layer ? 2 : 1); i++) {
            size_t cols =
                esp_model_weight(&s->model, l, esp_arch_slot(s->model.arch, into[i]))->cols;

            for (size_t c = 0; c < cols; c++) {
                small_set(s, l, into[i], c, 0);
            }
        }
    }
    small_set(s, layer, "gate_proj", 0, 1e20f);
    small_set(s, layer, "up_proj", 0, 1e20f);
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
