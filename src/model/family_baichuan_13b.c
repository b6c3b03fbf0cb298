/* family_baichuan_13b.c - Baichuan-13B, Baichuan2-13B: as the 7B with ALiBi in place of rotary positions. */
#include "family_impl.h"

static const esp_config_keys baichuan_keys = { .hidden = "hidden_size",
                                               .layers = "num_hidden_layers",
                                               .heads = "num_attention_heads",
                                               .mlp = "intermediate_size",
                                               .head_dim = "head_dim",
                                               .vocab = "vocab_size",
                                               .positions = "model_max_length",
                                               .norm_eps = "rms_norm_eps",
                                               .eps = 1e-6,
                                               .activation = "hidden_act" };

enum { NORM1 = ESP_SLOT_BLOCK, QKV, O, NORM2, GATE_PROJ, UP, DOWN };

static const esp_slot baichuan_alibi_slots[] = {
    MATRIX(ESP_SLOT_EMBED, "model.embed_tokens", "embed", VOCAB, HIDDEN, NEVER),
    VECTOR(ESP_SLOT_FINAL_NORM, "model.norm", "norm", HIDDEN, NEVER),
    MATRIX(ESP_SLOT_HEAD, "lm_head", "head", VOCAB, HIDDEN, NEVER),
    VECTOR(NORM1, "model.layers.%zu.input_layernorm", "norm1", HIDDEN, NEVER),
    MATRIX(QKV, "model.layers.%zu.self_attn.W_pack", "qkv", QKV, HIDDEN, NEVER),
    MATRIX(O, "model.layers.%zu.self_attn.o_proj", "o", HIDDEN, QUERY, NEVER),
    VECTOR(NORM2, "model.layers.%zu.post_attention_layernorm", "norm2", HIDDEN, NEVER),
    MATRIX(GATE_PROJ, "model.layers.%zu.mlp.gate_proj", "gate", MLP, HIDDEN, NEVER),
    MATRIX(UP, "model.layers.%zu.mlp.up_proj", "up", MLP, HIDDEN, NEVER),
    MATRIX(DOWN, "model.layers.%zu.mlp.down_proj", "down", HIDDEN, MLP, NEVER),
};

enum { X, H1, ALL, QP, KP, VP, ATT, ATT_OUT, X1, H2, G, U, M, MLP_OUT, X2 };

static const esp_width baichuan_alibi_values[] = {
    [X] = ESP_W_HIDDEN,       [H1] = ESP_W_HIDDEN,      [ALL] = ESP_W_QKV,   [QP] = ESP_W_QUERY,
    [KP] = ESP_W_KV,          [VP] = ESP_W_KV,          [ATT] = ESP_W_QUERY, [X1] = ESP_W_HIDDEN,
    [ATT_OUT] = ESP_W_HIDDEN, [H2] = ESP_W_HIDDEN,      [G] = ESP_W_MLP,     [U] = ESP_W_MLP,
    [M] = ESP_W_MLP,          [MLP_OUT] = ESP_W_HIDDEN, [X2] = ESP_W_HIDDEN,
};

static const esp_op baichuan_alibi_ops[] = {
    NORM(NORM1, X, H1),
    LINEAR(QKV, H1, ALL),
    SLICE_AFTER(NONE, NONE, ALL, QP, "q"),
    SLICE_AFTER(QUERY, NONE, ALL, KP, "k"),
    SLICE_AFTER(QUERY, KV, ALL, VP, "v"),
    ATTENTION(QP, KP, VP, ATT),
    LINEAR(O, ATT, ATT_OUT),
    ADD(X, ATT_OUT, X1),
    NORM(NORM2, X1, H2),
    LINEAR(GATE_PROJ, H2, G),
    LINEAR(UP, H2, U),
    GATE(G, U, M),
    LINEAR(DOWN, M, MLP_OUT),
    ADD(X1, MLP_OUT, X2),
};

const esp_arch esp_baichuan_alibi_family = { .model_type = "baichuan",
                                             .architecture = "BaichuanForCausalLM",
                                             .has_key = "model_max_length",
                                             .normal_head_key = "z_loss_weight",
                                             .keys = &baichuan_keys,
                                             .alibi = true,
                                             STEM(esp_plain_stem),
                                             TABLES(baichuan_alibi) };
