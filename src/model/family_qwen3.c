/* family_qwen3.c - Qwen3: the LLaMA block with norms over the channels of each query and key head. */
#include "family_impl.h"

enum { NORM1 = ESP_SLOT_BLOCK, Q, K, V, Q_NORM, K_NORM, O, NORM2, GATE_PROJ, UP, DOWN };

static const esp_slot qwen3_slots[] = {
    LLAMA_HEAD_AND_NORM,
    VECTOR(NORM1, "model.layers.%zu.input_layernorm", "norm1", HIDDEN, NEVER),
    LLAMA_QKV(ATTENTION),
    VECTOR(Q_NORM, "model.layers.%zu.self_attn.q_norm", "q_norm", HEAD, NEVER),
    VECTOR(K_NORM, "model.layers.%zu.self_attn.k_norm", "k_norm", HEAD, NEVER),
    MATRIX(O, "model.layers.%zu.self_attn.o_proj", "o", HIDDEN, QUERY, ATTENTION),
    VECTOR(NORM2, "model.layers.%zu.post_attention_layernorm", "norm2", HIDDEN, NEVER),
    LLAMA_MLP(NEVER),
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
    NORM(NORM1, X, H1),         LINEAR(Q, H1, QP),    LINEAR(K, H1, KP), LINEAR(V, H1, VP),
    NORM(Q_NORM, QP, QN),       NORM(K_NORM, KP, KN), ROTARY(QN, QR),    ROTARY(KN, KR),
    ATTENTION(QR, KR, VP, ATT), ATTENTION_SUM,        GATED_MLP,
};

static const esp_config_default qwen3_defaults[] = {
    DEFAULT("vocab_size", "151936"),
    DEFAULT("hidden_size", "4096"),
    DEFAULT("intermediate_size", "22016"),
    DEFAULT("num_hidden_layers", "32"),
    DEFAULT("num_attention_heads", "32"),
    MAY_BE_NULL("num_key_value_heads", "32"),
    DEFAULT("head_dim", "128"),
    DEFAULT("hidden_act", "\"silu\""),
    DEFAULT("max_position_embeddings", "32768"),
    DEFAULT("rms_norm_eps", "1e-6"),
    MAY_BE_NULL("rope_theta", "10000.0"),
    DEFAULT("attention_bias", "false"),
    DEFAULT("use_sliding_window", "false"),
    MAY_BE_NULL("sliding_window", "4096"),
    DEFAULT("max_window_layers", "28"),
    MAY_BE_NULL("layer_types", "null"),
    DEFAULT("tie_word_embeddings", "false"),
    MAY_BE_NULL("bos_token_id", "null"),
    MAY_BE_NULL("eos_token_id", "null"),
};

const esp_arch esp_qwen3_family = { .model_type = "qwen3",
                                    .architecture = "Qwen3ForCausalLM",
                                    .keys = &esp_llama_keys,
                                    DEFAULTS(qwen3),
                                    .windows = ESP_WINDOWS_LAST,
                                    .rotary = { .divisor = 1 },
                                    EMBEDDING(esp_plain_embedding),
                                    TABLES(qwen3) };
