/* synth.c - random weights through the writer of model folders. */
#include "espalier/synth.h"

#include "espalier/model_save.h"
#include "espalier/rng.h"
#include "model/model_impl.h"

#define TILE ((size_t)4096) /* elements made in f32 at once */

typedef struct synth {
    const esp_synth_options *options;
    esp_model shape;
} synth;

static const char *const dtype_names[ESP_N_DTYPES] = {
    [ESP_F32] = "float32",
    [ESP_F16] = "float16",
    [ESP_BF16] = "bfloat16",
};

static json_t *make_config(const esp_synth_options *o)
{
    const esp_arch *arch = esp_arch_find(o->model_type);
    size_t kv_heads = o->kv_heads ? o->kv_heads : o->heads;
    size_t head_dim = o->head_dim || !o->heads ? o->head_dim : o->hidden / o->heads;
    json_t *config = json_pack(
        "{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:i, s:i, s:s}",
        "architectures", arch ? arch->architecture : "", "model_type", o->model_type, "hidden_act",
        "silu", "hidden_size", (json_int_t)o->hidden, "intermediate_size", (json_int_t)o->mlp,
        "num_hidden_layers", (json_int_t)o->layers, "num_attention_heads", (json_int_t)o->heads,
        "num_key_value_heads", (json_int_t)kv_heads, "head_dim", (json_int_t)head_dim, "vocab_size",
        (json_int_t)o->vocab, "max_position_embeddings", (json_int_t)o->max_positions,
        "rms_norm_eps", 1e-5, "rope_theta", o->rope_theta, "tie_word_embeddings", (int)o->tied,
        "bos_token_id", 1, "eos_token_id", 2, "torch_dtype", dtype_names[o->dtype]);

    ESP_REQUIRE(config);
    return config;
}

/* Sum of four uniform 16-bit numbers, centred and scaled to variance 1. */
static float cheap_normal(uint64_t bits)
{
    const float deviation = 37837.227f; /* sqrt(4 (2^32 - 1) / 12) */
    uint64_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);

    return ((float)sum - 2.0f * 65535.0f) / deviation;
}

static esp_status random_rows(void *ctx, void *out, size_t layer, int slot, bool bias, size_t first,
                              size_t n)
{
    const synth *s = ctx;
    const esp_weight *w = esp_model_weight(&s->shape, layer, slot);
    bool norm = s->shape.arch->slots[slot].cols == ESP_W_ONE;
    float mean = norm ? 1 : 0, std = norm ? 0.1f : (float)s->options->std;
    size_t cols = bias ? 1 : w->cols, size = esp_dtype_size(w->dtype);
    uint64_t key = esp_rng_key(s->options->seed, layer + 1, 2 * (uint64_t)slot + bias);
    float tile[TILE];

    for (size_t at = 0; at < n * cols; at += TILE) {
        size_t count = n * cols - at < TILE ? n * cols - at : TILE;

        for (size_t i = 0; i < count; i++) {
            tile[i] = mean + std * cheap_normal(esp_rng_at(key, first * cols + at + i));
        }
        esp_from_f32((char *)out + at * size, w->dtype, tile, count);
    }
    return ESP_OK;
}

esp_status esp_synth(const char *dir, const esp_synth_options *o, MPI_Comm comm)
{
    synth s = { .options = o };
    esp_status st = esp_agree(comm, esp_model_from_config(&s.shape, make_config(o), dir));

    if (st == ESP_OK) {
        st = esp_model_save(dir, &s.shape, random_rows, &s, NULL, 0, comm);
    }
    esp_model_free(&s.shape);
    return st;
}
