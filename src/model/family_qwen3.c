/* family_qwen3.c - Qwen3: the LLaMA block with norms over the channels of each query and key head. */
#include "family_impl.h"

enum { NORM1 = ESP_SLOT_BLOCK, Q, K, V, Q_NORM, K_NORM, O, NORM2, GATE_PROJ, UP, DOWN };

static const esp_slot qwen3_slots[] = {
    MATRIX(ESP_SLOT_EMBED, "model.embed_tokens", "embed", VOCAB, HIDDEN, NEVER),
    VECTOR(ESP_SLOT_FINAL_NORM, "model.norm", "norm", HIDDEN, NEVER),
    MATRIX(ESP_SLOT_HEAD, "lm_head", "head", VOCAB, HIDDEN, NEVER),
    VECTOR(NORM1, "model.layers.%zu.input_layernorm", "norm1", HIDDEN, NEVER),
    MATRIX(Q, "model.layers.%zu.self_attn.q_proj", "q", QUERY, HIDDEN, ATTENTION),
    MATRIX(K, "model.layers.%zu.self_attn.k_proj", "k", KV, HIDDEN, ATTENTION),
    MATRIX(V, "model.layers.%zu.self_attn.v_proj", "v", KV, HIDDEN, ATTENTION),
    VECTOR(Q_NORM, "model.layers.%zu.self_attn.q_norm", "q_norm", HEAD, NEVER),
    VECTOR(K_NORM, "model.layers.%zu.self_attn.k_norm", "k_norm", HEAD, NEVER),
    MATRIX(O, "model.layers.%zu.self_attn.o_proj", "o", HIDDEN, QUERY, ATTENTION),
    VECTOR(NORM2, "model.layers.%zu.post_attention_layernorm", "norm2", HIDDEN, NEVER),
    MATRIX(GATE_PROJ, "model.layers.%zu.mlp.gate_proj", "gate", MLP, HIDDEN, NEVER),
    MATRIX(UP, "model.layers.%zu.mlp.up_proj", "up", MLP, HIDDEN, NEVER),
    MATRIX(DOWN, "model.layers.%zu.mlp.down_proj", "down", HIDDEN, MLP, NEVER),
};

enum { X, H1, QP, KP, VP, QN, KN, QR, KR, ATT, ATT_OUT, X1, H2, G, U, M, MLP_OUT, X2 };

static const esp_width qwen3_values[] = {
    [X] = ESP_W_HIDDEN,       [H1] = ESP_W_HIDDEN, [QP] = ESP_W_QUERY,       [KP] = ESP_W_KV,
    [VP] = ESP_W_KV,          [QN] = ESP_W_QUERY,  [KN] = ESP_W_KV,          [QR] = ESP_W_QUERY,
    [KR] = ESP_W_KV,          [ATT] = ESP_W_QUERY, [ATT_OUT] = ESP_W_HIDDEN, [X1] = ESP_W_HIDDEN,
    [H2] = ESP_W_HIDDEN,      [G] = ESP_W_MLP,     [U] = ESP_W_MLP,          [M] = ESP_W_MLP,
    [MLP_OUT] = ESP_W_HIDDEN, [X2] = ESP_W_HIDDEN,
};

static const esp_op qwen3_ops[] = {
    NORM(NORM1, X, H1),       LINEAR(Q, H1, QP),    LINEAR(K, H1, KP),
    LINEAR(V, H1, VP),        NORM(Q_NORM, QP, QN), NORM(K_NORM, KP, KN),
    ROTARY(QN, QR),           ROTARY(KN, KR),       ATTENTION(QR, KR, VP, ATT),
    LINEAR(O, ATT, ATT_OUT),  ADD(X, ATT_OUT, X1),  NORM(NORM2, X1, H2),
    LINEAR(GATE_PROJ, H2, G), LINEAR(UP, H2, U),    GATE(G, U, M),
    LINEAR(DOWN, M, MLP_OUT), ADD(X1, MLP_OUT, X2),
};

const esp_arch esp_qwen3_family = { .model_type = "qwen3",
                                    .architecture = "Qwen3ForCausalLM",
                                    .keys = &esp_llama_keys,
                                    .rotary = { .divisor = 1 },
                                    STEM(esp_plain_stem),
                                    TABLES(qwen3) };
