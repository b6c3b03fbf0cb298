/* family_bloom.c - BLOOM: ALiBi, LayerNorm, q, k and v of a head side by side in one matrix. */
#include "family_impl.h"

static const esp_config_keys bloom_keys = { .hidden = "hidden_size",
                                            .layers = "n_layer",
                                            .heads = "n_head",
                                            .head_dim = "head_dim",
                                            .vocab = "vocab_size",
                                            .positions = "seq_length",
                                            .norm_eps = "layer_norm_epsilon" };

/* The class bounds no positions; published files say 2048. */
static const esp_config_default bloom_defaults[] = {
    DEFAULT("vocab_size", "250880"),
    DEFAULT("hidden_size", "64"),
    DEFAULT("n_layer", "2"),
    DEFAULT("n_head", "8"),
    DEFAULT("layer_norm_epsilon", "1e-5"),
    DEFAULT("apply_residual_connection_post_layernorm", "false"),
    DEFAULT("tie_word_embeddings", "true"),
    MAY_BE_NULL("seq_length", "2048"),
    MAY_BE_NULL("bos_token_id", "1"),
    MAY_BE_NULL("eos_token_id", "2"),
};

static const esp_config_synonym bloom_synonyms[] = {
    { "hidden_size", "n_embed", true },
    { "n_layer", "num_hidden_layers", true },
    { "n_head", "num_attention_heads", true },
};

static const esp_config_flag bloom_flags[] = {
    { "apply_residual_connection_post_layernorm", false, NULL },
    { "slow_but_exact", false,
      "pretraining_tp" }, /* sums in slices, without the biases of O and DOWN */
};

enum { NORM1 = ESP_SLOT_BLOCK, QKV, O, NORM2, UP, DOWN };

#define LAYER "transformer.h.%zu."
static const esp_slot bloom_slots[] = {
    MATRIX(ESP_SLOT_EMBED, "transformer.word_embeddings", "embed", VOCAB, HIDDEN, NEVER),
    VECTOR(ESP_SLOT_EMBED_NORM, "transformer.word_embeddings_layernorm", "norm0", HIDDEN, ALWAYS),
    VECTOR(ESP_SLOT_FINAL_NORM, "transformer.ln_f", "norm", HIDDEN, ALWAYS),
    MATRIX(ESP_SLOT_HEAD, "lm_head", "head", VOCAB, HIDDEN, NEVER),
    VECTOR(NORM1, LAYER "input_layernorm", "norm1", HIDDEN, ALWAYS),
    MATRIX(QKV, LAYER "self_attention.query_key_value", "qkv", QKV, HIDDEN, ALWAYS),
    MATRIX(O, LAYER "self_attention.dense", "o", HIDDEN, QUERY, ALWAYS),
    VECTOR(NORM2, LAYER "post_attention_layernorm", "norm2", HIDDEN, ALWAYS),
    MATRIX(UP, LAYER "mlp.dense_h_to_4h", "up", MLP, HIDDEN, ALWAYS),
    MATRIX(DOWN, LAYER "mlp.dense_4h_to_h", "down", HIDDEN, MLP, ALWAYS),
};

static const esp_op bloom_embedding[] = { LOOKUP(ESP_SLOT_EMBED), EMBED_NORM };

enum { X, H1, ALL, QP, KP, VP, ATT, ATT_OUT, X1, H2, U, M, MLP_OUT, X2 };

static const esp_width bloom_values[] = {
    [X] = ESP_W_HIDDEN,       [H1] = ESP_W_HIDDEN, [ALL] = ESP_W_QKV,        [QP] = ESP_W_QUERY,
    [KP] = ESP_W_KV,          [VP] = ESP_W_KV,     [ATT_OUT] = ESP_W_HIDDEN, [ATT] = ESP_W_QUERY,
    [MLP_OUT] = ESP_W_HIDDEN, [X1] = ESP_W_HIDDEN, [H2] = ESP_W_HIDDEN,      [U] = ESP_W_MLP,
    [X2] = ESP_W_HIDDEN,      [M] = ESP_W_MLP,
};

static const esp_op bloom_ops[] = {
    NORM(NORM1, X, H1), FUSED_QKV_OF_HEADS, ATTENTION(QP, KP, VP, ATT), ATTENTION_SUM, PLAIN_MLP,
};

const esp_arch esp_bloom_family = { .model_type = "bloom",
                                    .architecture = "BloomForCausalLM",
                                    .keys = &bloom_keys,
                                    .synonyms = bloom_synonyms,
                                    .n_synonyms = COUNT(bloom_synonyms),
                                    .flags = bloom_flags,
                                    .n_flags = COUNT(bloom_flags),
                                    DEFAULTS(bloom),
                                    .norm = ESP_NORM_LAYER,
                                    .activation = ESP_GELU_TANH,
                                    .alibi = true,
                                    EMBEDDING(bloom_embedding),
                                    TABLES(bloom) };
