/* family_opt.c - OPT: learned positions, LayerNorm, biases everywhere, a plain ReLU MLP. */
#include "family_impl.h"

static const esp_config_keys opt_keys = { USUAL_KEYS, .mlp = "ffn_dim",
                                          .positions = "max_position_embeddings", .eps = 1e-5,
                                          .activation = "activation_function" };

static const esp_config_default opt_defaults[] = {
    DEFAULT("vocab_size", "50272"),
    DEFAULT("hidden_size", "768"),
    DEFAULT("num_hidden_layers", "12"),
    DEFAULT("num_attention_heads", "12"),
    DEFAULT("ffn_dim", "3072"),
    DEFAULT("max_position_embeddings", "2048"),
    DEFAULT("activation_function", "\"relu\""),
    MAY_BE_NULL("word_embed_proj_dim", "null"),
    DEFAULT("do_layer_norm_before", "true"),
    DEFAULT("enable_bias", "true"),
    DEFAULT("layer_norm_elementwise_affine", "true"),
    DEFAULT("_remove_final_layer_norm", "false"),
    DEFAULT("tie_word_embeddings", "true"),
    MAY_BE_NULL("bos_token_id", "2"),
    MAY_BE_NULL("eos_token_id", "2"),
};

/* Of an embedding without a projection. */
static const esp_config_synonym opt_synonyms[] = {
    { "hidden_size", "word_embed_proj_dim", false },
};

/* The variants of 350M parameters (norms after the sums) and of Galactica (no biases) are others. */
static const esp_config_flag opt_flags[] = {
    { "do_layer_norm_before", true, NULL },
    { "enable_bias", true, NULL },
    { "layer_norm_elementwise_affine", true, NULL },
    { "_remove_final_layer_norm", false, NULL },
};

enum { NORM1 = ESP_SLOT_BLOCK, Q, K, V, O, NORM2, UP, DOWN };

#define LAYER "model.decoder.layers.%zu."
static const esp_slot opt_slots[] = {
    MATRIX(ESP_SLOT_EMBED, "model.decoder.embed_tokens", "embed", VOCAB, HIDDEN, NEVER),
    MATRIX(ESP_SLOT_POSITION, "model.decoder.embed_positions", "positions", POSITIONS, HIDDEN,
           NEVER),
    VECTOR(ESP_SLOT_FINAL_NORM, "model.decoder.final_layer_norm", "norm", HIDDEN, ALWAYS),
    MATRIX(ESP_SLOT_HEAD, "lm_head", "head", VOCAB, HIDDEN, NEVER),
    VECTOR(NORM1, LAYER "self_attn_layer_norm", "norm1", HIDDEN, ALWAYS),
    MATRIX(Q, LAYER "self_attn.q_proj", "q", QUERY, HIDDEN, ALWAYS),
    MATRIX(K, LAYER "self_attn.k_proj", "k", KV, HIDDEN, ALWAYS),
    MATRIX(V, LAYER "self_attn.v_proj", "v", KV, HIDDEN, ALWAYS),
    MATRIX(O, LAYER "self_attn.out_proj", "o", HIDDEN, QUERY, ALWAYS),
    VECTOR(NORM2, LAYER "final_layer_norm", "norm2", HIDDEN, ALWAYS),
    MATRIX(UP, LAYER "fc1", "up", MLP, HIDDEN, ALWAYS),
    MATRIX(DOWN, LAYER "fc2", "down", HIDDEN, MLP, ALWAYS),
};

static const esp_op opt_embedding[] = { LOOKUP(ESP_SLOT_EMBED), LOOKUP(ESP_SLOT_POSITION) };

enum { X, H1, QP, KP, VP, ATT, ATT_OUT, X1, H2, U, M, MLP_OUT, X2 };

static const esp_width opt_values[] = {
    [X] = ESP_W_HIDDEN,  [H1] = ESP_W_HIDDEN,      [QP] = ESP_W_QUERY,  [KP] = ESP_W_KV,
    [VP] = ESP_W_KV,     [ATT_OUT] = ESP_W_HIDDEN, [ATT] = ESP_W_QUERY, [X1] = ESP_W_HIDDEN,
    [H2] = ESP_W_HIDDEN, [MLP_OUT] = ESP_W_HIDDEN, [U] = ESP_W_MLP,     [M] = ESP_W_MLP,
    [X2] = ESP_W_HIDDEN,
};

static const esp_op opt_ops[] = {
    NORM(NORM1, X, H1),         LINEAR(Q, H1, QP), LINEAR(K, H1, KP), LINEAR(V, H1, VP),
    ATTENTION(QP, KP, VP, ATT), ATTENTION_SUM,     PLAIN_MLP,
};

const esp_arch esp_opt_family = { .model_type = "opt",
                                  .architecture = "OPTForCausalLM",
                                  .keys = &opt_keys,
                                  .synonyms = opt_synonyms,
                                  .n_synonyms = COUNT(opt_synonyms),
                                  .flags = opt_flags,
                                  .n_flags = COUNT(opt_flags),
                                  DEFAULTS(opt),
                                  .norm = ESP_NORM_LAYER,
                                  .activation = ESP_RELU,
                                  .position_offset = 2,
                                  EMBEDDING(opt_embedding),
                                  TABLES(opt) };
