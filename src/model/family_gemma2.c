/* family_gemma2.c - Gemma 2: norms before and after both halves, soft caps, windows in every other layer. */
#include "family_impl.h"

static const esp_config_keys gemma2_keys = { USUAL_KEYS,
                                             .kv_heads = "num_key_value_heads",
                                             .mlp = "intermediate_size",
                                             .positions = "max_position_embeddings",
                                             .norm_eps = "rms_norm_eps",
                                             .activation = "hidden_activation",
                                             .query_scale = "query_pre_attn_scalar",
                                             .attention_cap = "attn_logit_softcapping",
                                             .logit_cap = "final_logit_softcapping" };

static const esp_config_default gemma2_defaults[] = {
    DEFAULT("vocab_size", "256000"),
    DEFAULT("hidden_size", "2304"),
    DEFAULT("intermediate_size", "9216"),
    DEFAULT("num_hidden_layers", "26"),
    DEFAULT("num_attention_heads", "8"),
    DEFAULT("num_key_value_heads", "4"),
    DEFAULT("head_dim", "256"),
    DEFAULT("hidden_activation", "\"gelu_pytorch_tanh\""),
    DEFAULT("max_position_embeddings", "8192"),
    DEFAULT("rms_norm_eps", "1e-6"),
    MAY_BE_NULL("rope_theta", "10000.0"),
    DEFAULT("attention_bias", "false"),
    DEFAULT("query_pre_attn_scalar", "256"),
    MAY_BE_NULL("sliding_window", "4096"),
    MAY_BE_NULL("layer_types", "null"),
    MAY_BE_NULL("attn_logit_softcapping", "50.0"),
    MAY_BE_NULL("final_logit_softcapping", "30.0"),
    MAY_BE_NULL("use_bidirectional_attention", "null"),
    DEFAULT("tie_word_embeddings", "true"),
    MAY_BE_NULL("bos_token_id", "2"),
    MAY_BE_NULL("eos_token_id", "1"),
};

static const esp_config_flag gemma2_flags[] = { { "use_bidirectional_attention", false, NULL } };

enum { NORM1 = ESP_SLOT_BLOCK, Q, K, V, O, POST1, NORM2, GATE_PROJ, UP, DOWN, POST2 };

#define LAYER "model.layers.%zu."
static const esp_slot gemma2_slots[] = {
    LLAMA_HEAD_AND_NORM,
    VECTOR(NORM1, LAYER "input_layernorm", "norm1", HIDDEN, NEVER),
    LLAMA_QKV(ATTENTION),
    MATRIX(O, LAYER "self_attn.o_proj", "o", HIDDEN, QUERY, ATTENTION),
    VECTOR(POST1, LAYER "post_attention_layernorm", "post1", HIDDEN, NEVER),
    VECTOR(NORM2, LAYER "pre_feedforward_layernorm", "norm2", HIDDEN, NEVER),
    LLAMA_MLP(NEVER),
    VECTOR(POST2, LAYER "post_feedforward_layernorm", "post2", HIDDEN, NEVER),
};

static const esp_op gemma2_stem[] = { LOOKUP(ESP_SLOT_EMBED), SCALE };

enum { X, H1, QP, KP, VP, QR, KR, ATT, O1, P1, X1, H2, G, U, M, O2, P2, X2 };

static const esp_width gemma2_values[] = {
    [X] = ESP_W_HIDDEN,  [H1] = ESP_W_HIDDEN, [QP] = ESP_W_QUERY, [KP] = ESP_W_KV,
    [VP] = ESP_W_KV,     [QR] = ESP_W_QUERY,  [KR] = ESP_W_KV,    [ATT] = ESP_W_QUERY,
    [O1] = ESP_W_HIDDEN, [P1] = ESP_W_HIDDEN, [G] = ESP_W_MLP,    [X1] = ESP_W_HIDDEN,
    [U] = ESP_W_MLP,     [H2] = ESP_W_HIDDEN, [M] = ESP_W_MLP,    [O2] = ESP_W_HIDDEN,
    [P2] = ESP_W_HIDDEN, [X2] = ESP_W_HIDDEN,
};

static const esp_op gemma2_ops[] = {
    NORM(NORM1, X, H1),  LINEAR(Q, H1, QP), LINEAR(K, H1, KP),          LINEAR(V, H1, VP),
    ROTARY(QP, QR),      ROTARY(KP, KR),    ATTENTION(QR, KR, VP, ATT), LINEAR(O, ATT, O1),
    NORM(POST1, O1, P1), ADD(X, P1, X1),    NORM(NORM2, X1, H2),        LINEAR(GATE_PROJ, H2, G),
    LINEAR(UP, H2, U),   GATE(G, U, M),     LINEAR(DOWN, M, O2),        NORM(POST2, O2, P2),
    ADD(X1, P2, X2),
};

const esp_arch esp_gemma2_family = { .model_type = "gemma2",
                                     .architecture = "Gemma2ForCausalLM",
                                     .keys = &gemma2_keys,
                                     DEFAULTS(gemma2),
                                     .flags = gemma2_flags,
                                     .n_flags = COUNT(gemma2_flags),
                                     .windows = ESP_WINDOWS_ALTERNATE,
                                     .norm = ESP_NORM_RMS_ONE,
                                     .activation = ESP_GELU_TANH,
                                     .rotary = { .divisor = 1 },
                                     EMBEDDING(gemma2_stem),
                                     TABLES(gemma2) };
