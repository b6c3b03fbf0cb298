/* synth.c - config.json of a model of any shape, and a source of random weights. */
#include "espalier/synth.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/rng.h"

typedef struct synth {
    const esp_synth_options *options;
    esp_model shape;
} synth;

static const char *const dtype_names[ESP_N_DTYPES] = {
    [ESP_F32] = "float32",
    [ESP_F16] = "float16",
    [ESP_BF16] = "bfloat16",
};

static void put_size(json_t *config, const char *key, size_t n)
{
    if (key) {
        json_object_set_new(config, key, json_integer((json_int_t)n));
    }
}

static void put_sizes(json_t *config, const esp_config_keys *keys, const esp_synth_options *o)
{
    size_t head_dim = o->head_dim || !o->heads ? o->head_dim : o->hidden / o->heads;

    put_size(config, keys->hidden, o->hidden);
    put_size(config, keys->mlp, o->mlp);
    put_size(config, keys->layers, o->layers);
    put_size(config, keys->heads, o->heads);
    put_size(config, keys->kv_heads, o->kv_heads ? o->kv_heads : o->heads);
    put_size(config, keys->head_dim, head_dim);
    put_size(config, keys->vocab, o->vocab);
    put_size(config, keys->positions, o->max_positions);
    put_size(config, keys->query_scale, head_dim);
}

/* The tokens behind those of all families. */
static void put_prefix(json_t *config, const esp_config_keys *keys)
{
    for (size_t i = 0; i < 2 && keys->prefix_start; i++) {
        put_size(config, keys->prefix_mask[i], 3 + i);
    }
}

/* Under the names of the family. */
static json_t *make_config(const esp_arch *arch, bool normalized_head, const esp_synth_options *o)
{
    json_t *config = json_pack("{s:[s], s:s, s:f, s:b, s:i, s:i, s:s}", "architectures",
                               arch->architecture, "model_type", arch->model_type, "rope_theta",
                               o->rope_theta, "tie_word_embeddings", (int)o->tied, "bos_token_id",
                               1, "eos_token_id", 2, "torch_dtype", dtype_names[o->dtype]);

    ESP_REQUIRE(config);
    put_sizes(config, arch->keys, o);
    put_prefix(config, arch->keys);
    if (normalized_head) {
        json_object_set_new(config, arch->normalized_head_key, json_integer(0));
    }
    for (size_t i = 0; i < arch->n_flags; i++) {
        json_object_set_new(config, arch->flags[i].key, json_boolean(arch->flags[i].value));
    }
    if (arch->keys->norm_eps) {
        json_object_set_new(config, arch->keys->norm_eps, json_real(1e-5));
    }
    if (arch->keys->activation) {
        json_object_set_new(config, arch->keys->activation,
                            json_string(esp_config_activation(arch->activation)));
    }
    return config;
}

/* Sizes that a family has no name for are what it makes of the others. */
static esp_status check_sizes(const esp_model *m, const esp_synth_options *o)
{
    const esp_layer_dims *d = &m->dims.layer[0];

    if (d->mlp != o->mlp || (o->kv_heads && d->kv_heads != o->kv_heads)) {
        return esp_fail(
            ESP_EUSAGE,
            "synth: a %s of this width has mlp %zu and %zu key/value heads, not %zu and "
            "%zu",
            o->model_type, d->mlp, d->kv_heads, o->mlp, o->kv_heads);
    }
    return ESP_OK;
}

/* Sum of four uniform 16-bit numbers, centred and scaled to variance 1. */
static float cheap_normal(uint64_t bits)
{
    const float deviation = 37837.227f; /* sqrt(4 (2^32 - 1) / 12) */
    uint64_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);

    return ((float)sum - 2.0f * 65535.0f) / deviation;
}

static esp_status random_rows(void *ctx, void *out, const esp_tensor_ref *t, size_t first, size_t n)
{
    const synth *s = ctx;
    const esp_arch *arch = s->shape.arch;
    esp_dtype dtype = esp_tensor_ref_dtype(t);
    bool bias = t->part == ESP_PART_BIAS, norm = t->n_dims == 1 && !bias;
    float mean = norm && arch->norm != ESP_NORM_RMS_ONE ? 1 : 0,
          std = norm ? 0.1f : (float)s->options->std;
    size_t begin = first * t->shape[1], n_all = n * t->shape[1], size = esp_dtype_size(dtype);
    uint64_t key = esp_rng_key(s->options->seed, t->layer + 1, 2 * (uint64_t)t->slot + bias);
    float buffer[ESP_SOURCE_NUMBERS];

    for (size_t at = 0; at < n_all; at += ESP_SOURCE_NUMBERS) {
        size_t count = esp_min(ESP_SOURCE_NUMBERS, n_all - at);

        for (size_t i = 0; i < count; i++) {
            buffer[i] = mean + std * cheap_normal(esp_rng_at(key, begin + at + i));
        }
        esp_from_f32((char *)out + at * size, dtype, buffer, count);
    }
    return ESP_OK;
}

static esp_status refuse(const esp_synth_options *o)
{
    char *names = esp_arch_names();

    esp_fail(ESP_EUSAGE, "synth.model_type: %s is no family, must be one of %s", o->model_type,
             names);
    free(names);
    return ESP_EUSAGE;
}

/* The message is of a config.json that is not there: it is told of the settings behind it. */
static esp_status refuse_sizes(const esp_synth_options *o, const char *dir)
{
    const char *message = esp_error_message(), *file = "/config.json: ";
    size_t n = strlen(dir);
    char *why = esp_strdup(
        message + (strncmp(message, dir, n) == 0 && strncmp(message + n, file, strlen(file)) == 0
                       ? n + strlen(file)
                       : 0));

    esp_fail(ESP_EUSAGE,
             "synth: no %s has layers = %zu, hidden = %zu, heads = %zu, kv_heads = %zu, head_dim = "
             "%zu, mlp = %zu, vocab = %zu and positions = %zu: %s",
             o->model_type, o->layers, o->hidden, o->heads, o->kv_heads, o->head_dim, o->mlp,
             o->vocab, o->max_positions, why);
    free(why);
    return ESP_EUSAGE;
}

static esp_status make_shape(esp_model *m, const esp_synth_options *o, const char *dir)
{
    bool normalized_head;
    const esp_arch *arch = esp_arch_named(&normalized_head, o->model_type);

    *m = (esp_model){ 0 };
    if (!arch) {
        return refuse(o);
    }
    return esp_model_from_config(m, make_config(arch, normalized_head, o), dir) == ESP_OK
               ? check_sizes(m, o)
               : refuse_sizes(o, dir);
}

esp_status esp_synth_shape(esp_model *m, const esp_synth_options *o)
{
    esp_status st = make_shape(m, o, "synth");

    if (st != ESP_OK) {
        esp_model_free(m);
    }
    return st;
}

esp_status esp_synth(esp_output to, const esp_synth_options *o, MPI_Comm comm)
{
    synth s = { .options = o };
    esp_status st = esp_agree(comm, make_shape(&s.shape, o, to.dir));

    if (st == ESP_OK) {
        st = esp_model_save(NULL, to, &s.shape, random_rows, &s, NULL, comm);
    }
    esp_model_free(&s.shape);
    return st;
}
