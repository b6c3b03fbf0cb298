/* family_gemma2.c - Gemma 2: norms before and after both halves, soft caps, windows in turn. */
#include "family_impl.h"

static const esp_config_keys gemma2_keys = { .hidden = "hidden_size",
                                             .layers = "num_hidden_layers",
                                             .heads = "num_attention_heads",
                                             .kv_heads = "num_key_value_heads",
                                             .mlp = "intermediate_size",
                                             .head_dim = "head_dim",
                                             .vocab = "vocab_size",
                                             .positions = "max_position_embeddings",
                                             .norm_eps = "rms_norm_eps",
                                             .eps = 1e-6,
                                             .activation = "hidden_activation",
                                             .query_scale = "query_pre_attn_scalar",
                                             .attention_cap = "attn_logit_softcapping",
                                             .logit_cap = "final_logit_softcapping" };

enum { NORM1 = ESP_SLOT_BLOCK, Q, K, V, O, POST1, NORM2, GATE_PROJ, UP, DOWN, POST2 };

#define LAYER "model.layers.%zu."
static const esp_slot gemma2_slots[] = {
    MATRIX(ESP_SLOT_EMBED, "model.embed_tokens", "embed", VOCAB, HIDDEN, NEVER),
    VECTOR(ESP_SLOT_FINAL_NORM, "model.norm", "norm", HIDDEN, NEVER),
    MATRIX(ESP_SLOT_HEAD, "lm_head", "head", VOCAB, HIDDEN, NEVER),
    VECTOR(NORM1, LAYER "input_layernorm", "norm1", HIDDEN, NEVER),
    MATRIX(Q, LAYER "self_attn.q_proj", "q", QUERY, HIDDEN, ATTENTION),
    MATRIX(K, LAYER "self_attn.k_proj", "k", KV, HIDDEN, ATTENTION),
    MATRIX(V, LAYER "self_attn.v_proj", "v", KV, HIDDEN, ATTENTION),
    MATRIX(O, LAYER "self_attn.o_proj", "o", HIDDEN, QUERY, ATTENTION),
    VECTOR(POST1, LAYER "post_attention_layernorm", "post1", HIDDEN, NEVER),
    VECTOR(NORM2, LAYER "pre_feedforward_layernorm", "norm2", HIDDEN, NEVER),
    MATRIX(GATE_PROJ, LAYER "mlp.gate_proj", "gate", MLP, HIDDEN, NEVER),
    MATRIX(UP, LAYER "mlp.up_proj", "up", MLP, HIDDEN, NEVER),
    MATRIX(DOWN, LAYER "mlp.down_proj", "down", HIDDEN, MLP, NEVER),
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
                                     .tied = true,
                                     .alternate_window = true,
                                     .norm = ESP_NORM_RMS_ONE,
                                     .activation = ESP_GELU_TANH,
                                     .rotary = { .divisor = 1 },
                                     STEM(gemma2_stem),
                                     TABLES(gemma2) };
