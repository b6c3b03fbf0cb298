/* family_chatglm.c - the first ChatGLM: LayerNorm, heads side by side, positions of two kinds, prefixes.
 *
 * Scores of layer l are divided by l + 1 and multiplied by it again, against overflow in f16; here that is
 * left out. */
#include "family_impl.h"

static const esp_config_keys chatglm_keys = { .hidden = "hidden_size",
                                              .layers = "num_layers",
                                              .heads = "num_attention_heads",
                                              .mlp = "inner_hidden_size",
                                              .head_dim = "head_dim",
                                              .vocab = "vocab_size",
                                              .positions = "max_sequence_length",
                                              .norm_eps = "layernorm_epsilon",
                                              .prefix_start = "bos_token_id",
                                              .prefix_mask = { "gmask_token_id",
                                                               "mask_token_id" } };

/* Of the published code; its versions differ in vocab_size and in the ids of tokens, which have to be said.
 * Head and embedding are one as in all classes of transformers 4 that do not say otherwise. */
static const esp_config_default chatglm_defaults[] = {
    DEFAULT("hidden_size", "4096"),          DEFAULT("num_layers", "28"),
    DEFAULT("num_attention_heads", "32"),    DEFAULT("inner_hidden_size", "16384"),
    DEFAULT("max_sequence_length", "2048"),  DEFAULT("layernorm_epsilon", "1e-5"),
    DEFAULT("position_encoding_2d", "true"), DEFAULT("tie_word_embeddings", "true"),
};

static const esp_config_flag chatglm_flags[] = {
    { "position_encoding_2d", true, NULL },
};

enum { NORM1 = ESP_SLOT_BLOCK, QKV, O, NORM2, UP, DOWN };

#define LAYER "transformer.layers.%zu."
static const esp_slot chatglm_slots[] = {
    MATRIX(ESP_SLOT_EMBED, "transformer.word_embeddings", "embed", VOCAB, HIDDEN, NEVER),
    VECTOR(ESP_SLOT_FINAL_NORM, "transformer.final_layernorm", "norm", HIDDEN, ALWAYS),
    MATRIX(ESP_SLOT_HEAD, "lm_head", "head", VOCAB, HIDDEN, NEVER),
    VECTOR(NORM1, LAYER "input_layernorm", "norm1", HIDDEN, ALWAYS),
    MATRIX(QKV, LAYER "attention.query_key_value", "qkv", QKV, HIDDEN, ALWAYS),
    MATRIX(O, LAYER "attention.dense", "o", HIDDEN, QUERY, ALWAYS),
    VECTOR(NORM2, LAYER "post_attention_layernorm", "norm2", HIDDEN, ALWAYS),
    MATRIX(UP, LAYER "mlp.dense_h_to_4h", "up", MLP, HIDDEN, ALWAYS),
    MATRIX(DOWN, LAYER "mlp.dense_4h_to_h", "down", HIDDEN, MLP, ALWAYS),
};

enum { X, H1, ALL, QP, KP, VP, QT, KT, QR, KR, ATT, ATT_OUT, X1, H2, U, M, MLP_OUT, X2 };

static const esp_width chatglm_values[] = {
    [X] = ESP_W_HIDDEN,       [H1] = ESP_W_HIDDEN, [ALL] = ESP_W_QKV,        [QP] = ESP_W_QUERY,
    [KP] = ESP_W_KV,          [VP] = ESP_W_KV,     [QT] = ESP_W_QUERY,       [KT] = ESP_W_KV,
    [QR] = ESP_W_QUERY,       [KR] = ESP_W_KV,     [ATT_OUT] = ESP_W_HIDDEN, [ATT] = ESP_W_QUERY,
    [MLP_OUT] = ESP_W_HIDDEN, [X1] = ESP_W_HIDDEN, [H2] = ESP_W_HIDDEN,      [U] = ESP_W_MLP,
    [X2] = ESP_W_HIDDEN,      [M] = ESP_W_MLP,
};

static const esp_op chatglm_ops[] = {
    NORM(NORM1, X, H1),
    FUSED_QKV_OF_HEADS,
    ROTARY(QP, QT),
    ROTARY(KP, KT),
    ROTARY_BLOCK(QT, QR),
    ROTARY_BLOCK(KT, KR),
    ATTENTION(QR, KR, VP, ATT),
    LINEAR(O, ATT, ATT_OUT),
    ADD(H1, ATT_OUT, X1),
    NORM(NORM2, X1, H2),
    LINEAR(UP, H2, U),
    ACTIVATION(U, M),
    LINEAR(DOWN, M, MLP_OUT),
    ADD(H2, MLP_OUT, X2),
};

const esp_arch esp_chatglm_family = { .model_type = "chatglm",
                                      .architecture = "ChatGLMModel",
                                      .has_key = { "inner_hidden_size", "position_encoding_2d",
                                                   "gmask_token_id", "max_sequence_length" },
                                      .keys = &chatglm_keys,
                                      DEFAULTS(chatglm),
                                      .flags = chatglm_flags,
                                      .n_flags = COUNT(chatglm_flags),
                                      .norm = ESP_NORM_LAYER,
                                      .activation = ESP_GELU_TANH,
                                      .rotary = { .divisor = 2, .source = ESP_ROPE_FIXED },
                                      .deep_residual = true,
                                      EMBEDDING(esp_plain_embedding),
                                      TABLES(chatglm) };
