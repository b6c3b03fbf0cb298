/* family_llama.c - LLaMA, and the families that differ from it in names or biases alone. */
#include "family_impl.h"

const esp_config_keys esp_llama_keys = { USUAL_KEYS,
                                         .kv_heads = "num_key_value_heads",
                                         .mlp = "intermediate_size",
                                         .positions = "max_position_embeddings",
                                         .norm_eps = "rms_norm_eps",
                                         .activation = "hidden_act" };

static const esp_config_default llama_defaults[] = {
    DEFAULT("vocab_size", "32000"),
    DEFAULT("hidden_size", "4096"),
    DEFAULT("intermediate_size", "11008"),
    DEFAULT("num_hidden_layers", "32"),
    DEFAULT("num_attention_heads", "32"),
    MAY_BE_NULL("num_key_value_heads", "null"),
    MAY_BE_NULL("head_dim", "null"),
    DEFAULT("hidden_act", "\"silu\""),
    DEFAULT("max_position_embeddings", "2048"),
    DEFAULT("rms_norm_eps", "1e-6"),
    MAY_BE_NULL("rope_theta", "10000.0"),
    DEFAULT("attention_bias", "false"),
    DEFAULT("mlp_bias", "false"),
    DEFAULT("tie_word_embeddings", "false"),
    MAY_BE_NULL("bos_token_id", "1"),
    MAY_BE_NULL("eos_token_id", "2"),
};

/* transformers 5 takes one with layer_types for a Ministral, which differs in that alone. */
static const esp_config_default mistral_defaults[] = {
    DEFAULT("vocab_size", "32000"),
    DEFAULT("hidden_size", "4096"),
    DEFAULT("intermediate_size", "14336"),
    DEFAULT("num_hidden_layers", "32"),
    DEFAULT("num_attention_heads", "32"),
    DEFAULT("num_key_value_heads", "8"),
    MAY_BE_NULL("head_dim", "null"),
    DEFAULT("hidden_act", "\"silu\""),
    DEFAULT("max_position_embeddings", "131072"),
    DEFAULT("rms_norm_eps", "1e-6"),
    MAY_BE_NULL("rope_theta", "10000.0"),
    MAY_BE_NULL("sliding_window", "4096"),
    MAY_BE_NULL("layer_types", "null"),
    DEFAULT("tie_word_embeddings", "false"),
    MAY_BE_NULL("bos_token_id", "1"),
    MAY_BE_NULL("eos_token_id", "2"),
};

static const esp_config_default qwen2_defaults[] = {
    DEFAULT("vocab_size", "151936"),         DEFAULT("hidden_size", "4096"),
    DEFAULT("intermediate_size", "22016"),   DEFAULT("num_hidden_layers", "32"),
    DEFAULT("num_attention_heads", "32"),    MAY_BE_NULL("num_key_value_heads", "32"),
    DEFAULT("hidden_act", "\"silu\""),       DEFAULT("max_position_embeddings", "32768"),
    DEFAULT("rms_norm_eps", "1e-6"),         MAY_BE_NULL("rope_theta", "10000.0"),
    DEFAULT("use_sliding_window", "false"),  MAY_BE_NULL("sliding_window", "4096"),
    DEFAULT("max_window_layers", "28"),      MAY_BE_NULL("layer_types", "null"),
    DEFAULT("tie_word_embeddings", "false"), MAY_BE_NULL("bos_token_id", "null"),
    MAY_BE_NULL("eos_token_id", "null"),
};

const esp_op esp_plain_embedding[1] = { LOOKUP(ESP_SLOT_EMBED) };

enum { NORM1 = ESP_SLOT_BLOCK, Q, K, V, O, NORM2, GATE_PROJ, UP, DOWN };

static const esp_slot llama_slots[] = {
    LLAMA_HEAD_AND_NORM,
    VECTOR(NORM1, "model.layers.%zu.input_layernorm", "norm1", HIDDEN, NEVER),
    LLAMA_QKV(QKV),
    MATRIX(O, "model.layers.%zu.self_attn.o_proj", "o", HIDDEN, QUERY, ATTENTION),
    VECTOR(NORM2, "model.layers.%zu.post_attention_layernorm", "norm2", HIDDEN, NEVER),
    LLAMA_MLP(MLP),
};

enum { X, H1, QUERY, KEY, VALUE, QUERY_R, KEY_R, ATT, ATT_OUT, X1, H2, G, U, M, MLP_OUT, X2 };

static const esp_width llama_values[] = {
    [X] = ESP_W_HIDDEN,  [H1] = ESP_W_HIDDEN, [QUERY] = ESP_W_QUERY,    [KEY] = ESP_W_KV,
    [VALUE] = ESP_W_KV,  [KEY_R] = ESP_W_KV,  [QUERY_R] = ESP_W_QUERY,  [ATT] = ESP_W_QUERY,
    [X1] = ESP_W_HIDDEN, [H2] = ESP_W_HIDDEN, [ATT_OUT] = ESP_W_HIDDEN, [G] = ESP_W_MLP,
    [U] = ESP_W_MLP,     [M] = ESP_W_MLP,     [MLP_OUT] = ESP_W_HIDDEN, [X2] = ESP_W_HIDDEN,
};

static const esp_op llama_ops[] = {
    NORM(NORM1, X, H1),
    LINEAR(Q, H1, QUERY),
    LINEAR(K, H1, KEY),
    LINEAR(V, H1, VALUE),
    ROTARY(QUERY, QUERY_R),
    ROTARY(KEY, KEY_R),
    ATTENTION(QUERY_R, KEY_R, VALUE, ATT),
    ATTENTION_SUM,
    GATED_MLP,
};

#define LLAMA_LIKE(type, class)                                         \
    .model_type = type, .architecture = class, .keys = &esp_llama_keys, \
    .rotary = { .divisor = 1 }, EMBEDDING(esp_plain_embedding), TABLES(llama)

/* A Mistral without a window is the LLaMA block with any number of heads, but no biases. */
const esp_arch esp_llama_family[3] = {
    { LLAMA_LIKE("llama", "LlamaForCausalLM"), DEFAULTS(llama), .uneven_type = "mistral" },
    { LLAMA_LIKE("mistral", "MistralForCausalLM"), DEFAULTS(mistral), .windows = ESP_WINDOWS_ALL },
    { LLAMA_LIKE("qwen2", "Qwen2ForCausalLM"), DEFAULTS(qwen2), .windows = ESP_WINDOWS_LAST,
      .always_qkv_bias = true },
};
