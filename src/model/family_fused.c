/* family_fused.c - Phi-3, and ChatGLM2 and 3: the LLaMA block with one matrix for q, k and v and one for
 * gate and up. ChatGLM rotates half of a head, in pairs. */
#include "family_impl.h"

enum { NORM1 = ESP_SLOT_BLOCK, QKV, O, NORM2, GATE_UP, DOWN };

enum { X, H1, ALL, QP, KP, VP, QR, KR, ATT, ATT_OUT, X1, H2, GU, G, U, M, MLP_OUT, X2 };

static const esp_width fused_values[] = {
    [X] = ESP_W_HIDDEN,       [H1] = ESP_W_HIDDEN, [ALL] = ESP_W_QKV,        [QP] = ESP_W_QUERY,
    [KP] = ESP_W_KV,          [VP] = ESP_W_KV,     [QR] = ESP_W_QUERY,       [KR] = ESP_W_KV,
    [ATT] = ESP_W_QUERY,      [X1] = ESP_W_HIDDEN, [ATT_OUT] = ESP_W_HIDDEN, [H2] = ESP_W_HIDDEN,
    [GU] = ESP_W_GATE_UP,     [G] = ESP_W_MLP,     [U] = ESP_W_MLP,          [M] = ESP_W_MLP,
    [MLP_OUT] = ESP_W_HIDDEN, [X2] = ESP_W_HIDDEN,
};

static const esp_op fused_ops[] = {
    NORM(NORM1, X, H1),
    FUSED_QKV,
    ROTARY(QP, QR),
    ROTARY(KP, KR),
    ATTENTION(QR, KR, VP, ATT),
    ATTENTION_SUM,
    LINEAR(GATE_UP, H2, GU),
    SLICE_AFTER(NONE, NONE, GU, G, "gate"),
    SLICE_AFTER(MLP, NONE, GU, U, "up"),
    GATE(G, U, M),
    LINEAR(DOWN, M, MLP_OUT),
    ADD(X1, MLP_OUT, X2),
};

/* ---- Phi-3 ---- */

static const esp_slot phi3_slots[] = {
    LLAMA_HEAD_AND_NORM,
    VECTOR(NORM1, "model.layers.%zu.input_layernorm", "norm1", HIDDEN, NEVER),
    MATRIX(QKV, "model.layers.%zu.self_attn.qkv_proj", "qkv", QKV, HIDDEN, NEVER),
    MATRIX(O, "model.layers.%zu.self_attn.o_proj", "o", HIDDEN, QUERY, NEVER),
    VECTOR(NORM2, "model.layers.%zu.post_attention_layernorm", "norm2", HIDDEN, NEVER),
    MATRIX(GATE_UP, "model.layers.%zu.mlp.gate_up_proj", "gate_up", GATE_UP, HIDDEN, NEVER),
    MATRIX(DOWN, "model.layers.%zu.mlp.down_proj", "down", HIDDEN, MLP, NEVER),
};

static const esp_config_default phi3_defaults[] = {
    DEFAULT("vocab_size", "32064"),        DEFAULT("hidden_size", "3072"),
    DEFAULT("intermediate_size", "8192"),  DEFAULT("num_hidden_layers", "32"),
    DEFAULT("num_attention_heads", "32"),  MAY_BE_NULL("num_key_value_heads", "null"),
    DEFAULT("hidden_act", "\"silu\""),     DEFAULT("max_position_embeddings", "4096"),
    DEFAULT("rms_norm_eps", "1e-5"),       MAY_BE_NULL("rope_theta", "10000.0"),
    MAY_BE_NULL("sliding_window", "null"), DEFAULT("tie_word_embeddings", "false"),
    MAY_BE_NULL("bos_token_id", "1"),      MAY_BE_NULL("eos_token_id", "32000"),
};

const esp_arch esp_phi3_family = { .model_type = "phi3",
                                   .architecture = "Phi3ForCausalLM",
                                   .keys = &esp_llama_keys,
                                   DEFAULTS(phi3),
                                   .windows = ESP_WINDOWS_ALL,
                                   .rotary = { .divisor = 1, .source = ESP_ROPE_PHI },
                                   EMBEDDING(esp_plain_embedding),
                                   SLOTS(phi3),
                                   BLOCK(fused) };

/* ---- ChatGLM2 and 3 ---- */

static const esp_config_keys chatglm2_keys = { .hidden = "hidden_size",
                                               .layers = "num_layers",
                                               .heads = "num_attention_heads",
                                               .kv_heads = "multi_query_group_num",
                                               .mlp = "ffn_hidden_size",
                                               .head_dim = "kv_channels",
                                               .vocab = "padded_vocab_size",
                                               .positions = "seq_length",
                                               .norm_eps = "layernorm_epsilon" };

/* Of the published code, which never makes head and embedding one; vLLM does where the key says so. It has no
 * default for original_rope, and no other way to rotate. */
static const esp_config_default chatglm2_defaults[] = {
    DEFAULT("hidden_size", "4096"),
    DEFAULT("num_layers", "28"),
    DEFAULT("num_attention_heads", "32"),
    DEFAULT("multi_query_attention", "false"),
    DEFAULT("multi_query_group_num", "1"),
    DEFAULT("kv_channels", "128"),
    DEFAULT("ffn_hidden_size", "13696"),
    DEFAULT("padded_vocab_size", "65024"),
    DEFAULT("seq_length", "2048"),
    DEFAULT("layernorm_epsilon", "1e-5"),
    DEFAULT("rmsnorm", "true"),
    DEFAULT("add_qkv_bias", "false"),
    DEFAULT("add_bias_linear", "false"),
    DEFAULT("apply_residual_connection_post_layernorm", "false"),
    DEFAULT("post_layer_norm", "true"),
    DEFAULT("original_rope", "true"),
    DEFAULT("tie_word_embeddings", "false"),
};

static const esp_config_flag chatglm2_flags[] = {
    { "multi_query_attention", true, NULL },
    { "rmsnorm", true, NULL },
    { "add_qkv_bias", true, NULL },
    { "add_bias_linear", false, NULL },
    { "apply_residual_connection_post_layernorm", false, NULL },
    { "post_layer_norm", true, NULL },
    { "original_rope", true, NULL },
    { "tie_word_embeddings", false, NULL },
};

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

const esp_arch esp_chatglm2_family = {
    .name = "chatglm2",
    .model_type = "chatglm",
    .architecture = "ChatGLMModel",
    .has_key = { "multi_query_attention", "ffn_hidden_size", "padded_vocab_size", "kv_channels" },
    .keys = &chatglm2_keys,
    DEFAULTS(chatglm2),
    .flags = chatglm2_flags,
    .n_flags = COUNT(chatglm2_flags),
    .rotary = { .pairs = true, .divisor = 2, .source = ESP_ROPE_RATIO },
    EMBEDDING(esp_plain_embedding),
    SLOTS(chatglm2),
    BLOCK(fused)
};
