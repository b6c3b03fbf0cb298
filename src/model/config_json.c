/* config_json.c - what the program takes from config.json, and what it writes back into it.
 *
 * Every refusal names the file, the key, its value and what it must be.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/reshape.h"
#include "model/model_impl.h"

#define MAX_SIZE   ESP_MAX_WIDTH
#define MAX_LAYERS ((size_t)1 << 16)

/* The sizes of a layer: their names in our own object, and where a family's name for each stands. */
static const struct layer_key {
    const char *name;
    size_t at;    /* in esp_layer_dims  */
    size_t plain; /* in esp_config_keys */
} layer_keys[] = {
    { "num_attention_heads", offsetof(esp_layer_dims, heads), offsetof(esp_config_keys, heads) },
    { "num_key_value_heads", offsetof(esp_layer_dims, kv_heads),
      offsetof(esp_config_keys, kv_heads) },
    { "intermediate_size", offsetof(esp_layer_dims, mlp), offsetof(esp_config_keys, mlp) },
};

#define N_LAYER_KEYS (sizeof layer_keys / sizeof *layer_keys)

static size_t *layer_size(const struct layer_key *key, esp_layer_dims *d)
{
    return (size_t *)(void *)((char *)d + key->at);
}

/* The family's name for a size of a layer, NULL where it has none. */
static const char *plain_name(const struct layer_key *key, const esp_config_keys *names)
{
    return *(const char *const *)(const void *)((const char *)names + key->plain);
}

/* ---- tokens ------------------------------------------------------------------------------------ */

/* Whether a number is that which the class has for the key. */
static bool is_default(const esp_arch *arch, const char *key, const json_t *v)
{
    const esp_config_default *d = esp_arch_default(arch, key);

    return d && json_is_integer(v) && strtoll(d->value, NULL, 10) == json_integer_value(v);
}

/* A token id, or the first of several; -1 where there is none. */
static esp_status get_token(int32_t *id, const esp_config_part *c, const char *key, size_t vocab)
{
    const json_t *v = esp_config_get(c, key);
    const json_t *first = json_is_array(v) ? json_array_get(v, 0) : v;

    *id = -1;
    if (!first) {
        return ESP_OK;
    }
    if (is_default(c->arch, key, first) && json_integer_value(first) >= (json_int_t)vocab) {
        return ESP_OK; /* the class brings it along; a small vocabulary has no such token */
    }
    if (!json_is_integer(first) || json_integer_value(first) >= (json_int_t)vocab) {
        return esp_config_refuse(c, key, "a token id below vocab_size, a list of them, or null");
    }
    if (json_integer_value(first) >= 0) {
        *id = (int32_t)json_integer_value(first);
    }
    return ESP_OK;
}

/* The family's tokens around a prefix; start -1 where it has none. */
static esp_status read_prefix_rule(esp_prefix_rule *rule, const esp_config_part *c,
                                   const esp_config_keys *keys, size_t vocab)
{
    const char *const name[3] = { keys->prefix_start, keys->prefix_mask[0], keys->prefix_mask[1] };
    int32_t *const id[3] = { &rule->start, &rule->mask[0], &rule->mask[1] };

    *rule = (esp_prefix_rule){ .start = -1 };
    for (size_t i = 0; i < 3 && keys->prefix_start; i++) {
        ESP_TRY(get_token(id[i], c, name[i], vocab));
        if (*id[i] < 0) {
            return esp_config_refuse(c, name[i], "a token id");
        }
    }
    return ESP_OK;
}

/* ---- sizes ------------------------------------------------------------------------------------- */

/* One size of every layer: from the list under "espalier" where there is one, else the plain key's. */
static esp_status read_layer_sizes(esp_dims *d, const esp_config_part *c,
                                   const struct layer_key *key, size_t plain)
{
    esp_config_part own = { .where = c->where, .json = esp_config_get(c, ESP_OWN_KEY) };
    const json_t *list = esp_config_get(&own, key->name);

    if (list && json_array_size(list) != d->n_layers) {
        return esp_config_refuse(&own, key->name, "a list with one number per layer");
    }
    for (size_t l = 0; l < d->n_layers; l++) {
        const json_t *v = json_array_get(list, l);

        if (list && !esp_config_is_size(v, MAX_SIZE)) {
            return esp_config_refuse(&own, key->name, "a list of whole numbers from 1");
        }
        *layer_size(key, &d->layer[l]) = list ? (size_t)json_integer_value(v) : plain;
    }
    return ESP_OK;
}

static esp_status check_heads(const esp_dims *d, const esp_config_part *c,
                              const esp_config_keys *keys)
{
    for (size_t l = 0; l < d->n_layers; l++) {
        const esp_layer_dims *x = &d->layer[l];

        if (x->heads % x->kv_heads != 0) {
            return esp_fail(ESP_EFORMAT, "%s: layer %zu: %s %zu is not a multiple of %s %zu",
                            c->where, l, keys->heads, x->heads,
                            keys->kv_heads ? keys->kv_heads : keys->heads, x->kv_heads);
        }
        if (x->heads > MAX_SIZE / d->head_dim) {
            return esp_fail(ESP_EFORMAT, "%s: layer %zu: %zu heads of %zu channels are too many",
                            c->where, l, x->heads, d->head_dim);
        }
    }
    return ESP_OK;
}

static esp_status read_head_dim(esp_dims *d, const esp_config_part *c, const esp_arch *arch,
                                size_t heads)
{
    const char *key = arch->keys->head_dim;
    bool whole = d->hidden % heads == 0;
    char must_be[96];

    if (!esp_config_get(c, key) && !whole) {
        snprintf(must_be, sizeof must_be, "given where %s does not divide %s", arch->keys->heads,
                 arch->keys->hidden);
        return esp_config_refuse(c, key, must_be);
    }
    return esp_config_size(&d->head_dim, c, key, MAX_SIZE, d->hidden / heads);
}

/* Of a class that bounds none, null stands for what published files say. */
static esp_status read_positions(esp_dims *d, const esp_config_part *c, const char *key)
{
    const esp_config_default *usual = esp_arch_default(c->arch, key);
    size_t of_null = usual && usual->takes_null ? strtoul(usual->value, NULL, 10) : 0;

    return esp_config_size(&d->max_positions, c, key, MAX_SIZE, of_null);
}

static esp_status read_dims(esp_dims *d, const esp_config_part *c, const esp_arch *arch)
{
    const esp_config_keys *keys = arch->keys;
    size_t heads, kv_heads, mlp;

    ESP_TRY(esp_config_size(&d->hidden, c, keys->hidden, MAX_SIZE, 0));
    ESP_TRY(esp_config_size(&d->vocab, c, keys->vocab, MAX_SIZE, 0));
    ESP_TRY(esp_config_size(&d->n_layers, c, keys->layers, MAX_LAYERS, 0));
    ESP_TRY(esp_config_size(&heads, c, keys->heads, MAX_SIZE, 0));
    ESP_TRY(esp_config_size(&kv_heads, c, keys->kv_heads, MAX_SIZE, heads));
    ESP_TRY(esp_config_size(&mlp, c, keys->mlp, MAX_SIZE, keys->mlp ? 0 : 4 * d->hidden));
    ESP_TRY(read_head_dim(d, c, arch, heads));
    ESP_TRY(read_positions(d, c, keys->positions));
    ESP_NEW(d->layer, d->n_layers);
    for (size_t i = 0; i < N_LAYER_KEYS; i++) {
        size_t plain[N_LAYER_KEYS] = { heads, kv_heads, mlp };

        ESP_TRY(read_layer_sizes(d, c, &layer_keys[i], plain[i]));
    }
    ESP_TRY(esp_config_read_windows(d, c));
    return check_heads(d, c, keys);
}

/* ---- the whole --------------------------------------------------------------------------------- */

/* The names that transformers has for the activation of a family. */
static const char *const activations[][3] = {
    [ESP_SILU] = { "silu", "swish" },
    [ESP_GELU_TANH] = { "gelu_pytorch_tanh", "gelu_new", "gelu_fast" },
    [ESP_GELU_ERF] = { "gelu" },
    [ESP_RELU] = { "relu" },
};

const char *esp_config_activation(esp_activation a)
{
    return activations[a][0];
}

static esp_status check_activation(const esp_config_part *c, const esp_arch *arch)
{
    const char *key = arch->keys->activation, *const *names = activations[arch->activation];
    const json_t *v = key ? esp_config_get(c, key) : NULL;
    const char *name = json_string_value(v);
    char must_be[64];

    for (size_t i = 0; name && i < 3 && names[i]; i++) {
        if (strcmp(name, names[i]) == 0) {
            return ESP_OK;
        }
    }
    snprintf(must_be, sizeof must_be, "\"%s\"", names[0]);
    return v ? esp_config_refuse(c, key, must_be) : ESP_OK;
}

/* A file that has a size under two names says the same twice. */
static esp_status check_synonyms(const esp_config_part *c, const esp_arch *arch)
{
    const esp_config_part plain = { .where = c->where, .json = c->json };

    for (size_t i = 0; i < arch->n_synonyms; i++) {
        const esp_config_synonym *s = &arch->synonyms[i];
        const json_t *v = esp_config_get(c, s->key), *other = esp_config_get(&plain, s->other);
        char must_be[128];

        if (other && !json_equal(v, other)) {
            snprintf(must_be, sizeof must_be, "the same as %s", esp_config_name(c, s->key));
            return esp_config_refuse(&plain, s->other, must_be);
        }
    }
    return ESP_OK;
}

static esp_status check_flags(const esp_config_part *c, const esp_arch *arch)
{
    for (size_t i = 0; i < arch->n_flags; i++) {
        const esp_config_flag *f = &arch->flags[i];
        bool idle = f->with && !(json_number_value(esp_config_get(c, f->with)) > 1), value;
        char must_be[96];

        ESP_TRY(esp_config_bool(&value, c, f->key, false));
        snprintf(must_be, sizeof must_be, "%s%s%s", f->value ? "true" : "false",
                 f->with ? " with more than 1 " : "", f->with ? f->with : "");
        if (value != f->value && !idle) {
            return esp_config_refuse(c, f->key, must_be);
        }
    }
    return ESP_OK;
}

/* A positive number under a key that the family may not have; missing: fallback. */
static esp_status read_number(float *number, const esp_config_part *c, const char *key,
                              double fallback)
{
    double v = fallback;

    if (key && esp_config_get(c, key)) {
        ESP_TRY(esp_config_real(&v, c, key, fallback));
    }
    *number = (float)v;
    return ESP_OK;
}

float esp_residual_scale(const esp_arch *arch, size_t n_layers)
{
    return arch->deep_residual ? sqrtf(2 * (float)n_layers) : 1;
}

static esp_status read_numbers(esp_model *m, const esp_config_part *c)
{
    const esp_config_keys *keys = m->arch->keys;
    float scaled_as;

    ESP_TRY(read_number(&m->norm_eps, c, keys->norm_eps, keys->eps));
    ESP_TRY(read_number(&scaled_as, c, keys->query_scale, (double)m->dims.head_dim));
    ESP_TRY(read_number(&m->attention_cap, c, keys->attention_cap, 0));
    ESP_TRY(read_number(&m->logit_cap, c, keys->logit_cap, 0));
    m->attention_scale = 1.0f / sqrtf(scaled_as);
    m->embed_scale = sqrtf((float)m->dims.hidden);
    m->residual_scale = esp_residual_scale(m->arch, m->dims.n_layers);
    return ESP_OK;
}

/* The type of shapes without data; files bring their own. */
static esp_dtype read_dtype(const esp_config_part *c)
{
    const char *name = json_string_value(esp_config_get(c, "torch_dtype"));

    name = name ? name : json_string_value(esp_config_get(c, "dtype"));
    if (name && strcmp(name, "float16") == 0) {
        return ESP_F16;
    }
    return name && strcmp(name, "bfloat16") == 0 ? ESP_BF16 : ESP_F32;
}

/* Whether config.json has a flag of biases set that the family knows. */
static bool has_biases(const json_t *config, const esp_arch *arch, const char *flag)
{
    return esp_arch_default(arch, flag) && json_is_true(json_object_get(config, flag));
}

/* Read again by esp_config_has_bias; here they are only checked. */
static esp_status check_bias_flags(const esp_config_part *c)
{
    static const char *const flags[] = { "attention_bias", "mlp_bias" };
    bool value;

    for (size_t i = 0; i < 2; i++) {
        if (esp_arch_default(c->arch, flags[i])) {
            ESP_TRY(esp_config_bool(&value, c, flags[i], false));
        }
    }
    return ESP_OK;
}

/* The key tells; a file without it that looks as if it had lost it is not guessed at. */
static esp_status read_normalized_head(esp_model *m, const esp_config_part *c)
{
    const esp_arch *a = m->arch;
    const char *class = json_string_value(json_array_get(esp_config_get(c, "architectures"), 0));
    bool looks =
        a->normalized_head_key &&
        (m->dims.vocab == a->normalized_head_vocab ||
         (class && a->normalized_head_class && strcmp(class, a->normalized_head_class) == 0));

    m->normalized_head = a->normalized_head_key && json_object_get(c->json, a->normalized_head_key);
    return looks && !m->normalized_head
               ? esp_config_refuse(c, a->normalized_head_key,
                                   "0 where the head is normalised, as vocabulary or class say")
               : ESP_OK;
}

esp_status esp_config_read(esp_model *m, const char *path)
{
    esp_config_part c = { .where = path, .json = m->config };

    ESP_TRY(esp_config_find_arch(&m->arch, &c));
    c.arch = m->arch;
    ESP_TRY(esp_config_check_supported(&c));
    ESP_TRY(esp_config_complete(m->config, &c));
    ESP_TRY(check_synonyms(&c, m->arch));
    ESP_TRY(check_activation(&c, m->arch));
    ESP_TRY(check_flags(&c, m->arch));
    ESP_TRY(read_dims(&m->dims, &c, m->arch));
    ESP_TRY(esp_config_bool(&m->tied, &c, "tie_word_embeddings", false));
    ESP_TRY(read_normalized_head(m, &c));
    ESP_TRY(check_bias_flags(&c));
    ESP_TRY(read_numbers(m, &c));
    ESP_TRY(get_token(&m->bos, &c, "bos_token_id", m->dims.vocab));
    ESP_TRY(get_token(&m->eos, &c, "eos_token_id", m->dims.vocab));
    ESP_TRY(read_prefix_rule(&m->prefix, &c, m->arch->keys, m->dims.vocab));
    m->dtype = read_dtype(&c);
    ESP_TRY(esp_alibi_read(m, &c));
    return esp_rope_read(m, &c);
}

bool esp_config_has_bias(const esp_model *m, int slot)
{
    bool attention = has_biases(m->config, m->arch, "attention_bias");

    switch (m->arch->slots[slot].bias) {
    case ESP_BIAS_NEVER:
        return false;
    case ESP_BIAS_ALWAYS:
        return true;
    case ESP_BIAS_QKV:
        return m->arch->always_qkv_bias || attention;
    case ESP_BIAS_ATTENTION:
        return attention;
    case ESP_BIAS_MLP:
        return has_biases(m->config, m->arch, "mlp_bias");
    }
    esp_bug(__FILE__, __LINE__, "bias of slot %d", slot);
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* Sets the plain key to the largest size; where layers differ, or the family has no key for it and
 * means another size (0: none), adds the list to own. */
static void write_layer_sizes(json_t *config, json_t *own, const struct layer_key *key,
                              const esp_arch *arch, size_t meant, const esp_dims *d)
{
    const char *plain = plain_name(key, arch->keys);
    size_t first = *layer_size(key, &d->layer[0]), largest = first;
    bool alike = true;
    json_t *list = json_array();

    for (size_t l = 0; l < d->n_layers; l++) {
        size_t size = *layer_size(key, &d->layer[l]);

        alike = alike && size == first;
        largest = esp_max(largest, size);
        json_array_append_new(list, json_integer((json_int_t)size));
    }
    if (plain) {
        esp_config_put_size(config, arch, plain, largest);
    }
    if (!alike || (!plain && meant && first != meant)) {
        json_object_set(own, key->name, list);
    }
    json_decref(list);
}

/* transformers refuses some families whose heads do not divide the width, and takes the same block under
 * another name, where it has no biases. */
static const char *uneven_type(const json_t *config, const esp_arch *arch)
{
    bool biased =
        has_biases(config, arch, "attention_bias") || has_biases(config, arch, "mlp_bias");

    return arch->uneven_type && !biased ? arch->uneven_type : arch->model_type;
}

const char *esp_model_uneven_type(const esp_model *m)
{
    return uneven_type(m->config, m->arch);
}

static void choose_type(json_t *config, const esp_arch *arch, const esp_dims *d)
{
    const char *type = uneven_type(config, arch);

    if (type == arch->model_type || d->hidden % d->layer[0].heads == 0) {
        return;
    }
    json_object_set_new(config, "model_type", json_string(type));
    json_object_set_new(config, "architectures",
                        json_pack("[s]", esp_arch_find(type)->architecture));
    json_object_set_new(config, "sliding_window", json_null());
    json_object_del(config, "layer_types");
}

void esp_config_write(json_t *config, const esp_arch *arch, const esp_dims *d)
{
    const esp_config_keys *keys = arch->keys;
    json_t *own = json_object();

    esp_config_put_size(config, arch, keys->hidden, d->hidden);
    esp_config_put_size(config, arch, keys->layers, d->n_layers);
    esp_config_put_size(config, arch, keys->head_dim, d->head_dim);
    esp_config_put_size(config, arch, keys->vocab, d->vocab);
    for (size_t i = 0; i < N_LAYER_KEYS; i++) {
        size_t meant[N_LAYER_KEYS] = { 0, 0, 4 * d->hidden };

        write_layer_sizes(config, own, &layer_keys[i], arch, meant[i], d);
    }
    if (json_object_size(own) > 0) {
        json_object_set(config, ESP_OWN_KEY, own);
    } else {
        json_object_del(config, ESP_OWN_KEY);
        choose_type(config, arch, d);
    }
    json_decref(own);
    esp_config_write_windows(config, arch, d);
}
