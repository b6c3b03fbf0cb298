/* family_chatglm2.c - ChatGLM2 and ChatGLM3: fused q, k, v and gate, up; half of a head turns, in pairs. */
#include "family_impl.h"

static const esp_config_keys chatglm2_keys = { .hidden = "hidden_size",
                                               .layers = "num_layers",
                                               .heads = "num_attention_heads",
                                               .kv_heads = "multi_query_group_num",
                                               .mlp = "ffn_hidden_size",
                                               .head_dim = "kv_channels",
                                               .vocab = "padded_vocab_size",
                                               .positions = "seq_length",
                                               .norm_eps = "layernorm_epsilon",
                                               .eps = 1e-5 };

static const esp_config_flag chatglm2_flags[] = {
    { "multi_query_attention", true, false },
    { "rmsnorm", true, true },
    { "add_qkv_bias", true, true },
    { "add_bias_linear", false, false },
    { "apply_residual_connection_post_layernorm", false, false },
    { "post_layer_norm", true, true },
    { "original_rope", true, true },
};

enum { NORM1 = ESP_SLOT_BLOCK, QKV, O, NORM2, GATE_UP, DOWN };

#define LAYER "transformer.encoder.layers.%zu."
static const esp_slot chatglm2_slots[] = {
    MATRIX(ESP_SLOT_EMBED, "transformer.embedding.word_embeddings", "embed", VOCAB, HIDDEN, NEVER),
    VECTOR(ESP_SLOT_FINAL_NORM, "transformer.encoder.final_layernorm", "norm", HIDDEN, NEVER),
    MATRIX(ESP_SLOT_HEAD, "transformer.output_layer", "head", VOCAB, HIDDEN, NEVER),
    VECTOR(NORM1, LAYER "input_layernorm", "norm1", HIDDEN, NEVER),
    MATRIX(QKV, LAYER "self_attention.query_key_value", "qkv", QKV, HIDDEN, ALWAYS),
    MATRIX(O, LAYER "self_attention.dense", "o", HIDDEN, QUERY, NEVER),
    VECTOR(NORM2, LAYER "post_attention_layernorm", "norm2", HIDDEN, NEVER),
    MATRIX(GATE_UP, LAYER "mlp.dense_h_to_4h", "gate_up", GATE_UP, HIDDEN, NEVER),
    MATRIX(DOWN, LAYER "mlp.dense_4h_to_h", "down", HIDDEN, MLP, NEVER),
};

enum { X, H1, ALL, QP, KP, VP, QR, KR, ATT, ATT_OUT, X1, H2, GU, G, U, M, MLP_OUT, X2 };

static const esp_width chatglm2_values[] = {
    [X] = ESP_W_HIDDEN,       [H1] = ESP_W_HIDDEN, [ALL] = ESP_W_QKV,        [QP] = ESP_W_QUERY,
    [KP] = ESP_W_KV,          [VP] = ESP_W_KV,     [QR] = ESP_W_QUERY,       [KR] = ESP_W_KV,
    [ATT] = ESP_W_QUERY,      [X1] = ESP_W_HIDDEN, [ATT_OUT] = ESP_W_HIDDEN, [H2] = ESP_W_HIDDEN,
    [GU] = ESP_W_GATE_UP,     [G] = ESP_W_MLP,     [U] = ESP_W_MLP,          [M] = ESP_W_MLP,
    [MLP_OUT] = ESP_W_HIDDEN, [X2] = ESP_W_HIDDEN,
};

static const esp_op chatglm2_ops[] = {
    NORM(NORM1, X, H1),
    LINEAR(QKV, H1, ALL),
    SLICE_AFTER(NONE, NONE, ALL, QP, "q"),
    SLICE_AFTER(QUERY, NONE, ALL, KP, "k"),
    SLICE_AFTER(QUERY, KV, ALL, VP, "v"),
    ROTARY(QP, QR),
    ROTARY(KP, KR),
    ATTENTION(QR, KR, VP, ATT),
    LINEAR(O, ATT, ATT_OUT),
    ADD(X, ATT_OUT, X1),
    NORM(NORM2, X1, H2),
    LINEAR(GATE_UP, H2, GU),
    SLICE_AFTER(NONE, NONE, GU, G, "gate"),
    SLICE_AFTER(MLP, NONE, GU, U, "up"),
    GATE(G, U, M),
    LINEAR(DOWN, M, MLP_OUT),
    ADD(X1, MLP_OUT, X2),
};

const esp_arch esp_chatglm2_family = { .model_type = "chatglm",
                                       .architecture = "ChatGLMModel",
                                       .has_key = "multi_query_attention",
                                       .keys = &chatglm2_keys,
                                       .flags = chatglm2_flags,
                                       .n_flags = COUNT(chatglm2_flags),
                                       .rotary = { .pairs = true, .divisor = 2 },
                                       STEM(esp_plain_stem),
                                       TABLES(chatglm2) };
