/* family_baichuan.c - Baichuan and Baichuan2: the LLaMA block with one matrix for q, k and v; with rotary
 * positions (7B) or ALiBi (13B). */
#include "family_impl.h"

#define BAICHUAN2_VOCAB 125696

enum { NORM1 = ESP_SLOT_BLOCK, QKV, O, NORM2, GATE_PROJ, UP, DOWN };

static const esp_slot baichuan_slots[] = {
    LLAMA_HEAD_AND_NORM,
    VECTOR(NORM1, "model.layers.%zu.input_layernorm", "norm1", HIDDEN, NEVER),
    MATRIX(QKV, "model.layers.%zu.self_attn.W_pack", "qkv", QKV, HIDDEN, NEVER),
    MATRIX(O, "model.layers.%zu.self_attn.o_proj", "o", HIDDEN, QUERY, NEVER),
    VECTOR(NORM2, "model.layers.%zu.post_attention_layernorm", "norm2", HIDDEN, NEVER),
    LLAMA_MLP(NEVER),
};

/* QR and KR last: ALiBi does without them. */
enum { X, H1, ALL, QP, KP, VP, ATT, ATT_OUT, X1, H2, G, U, M, MLP_OUT, X2, QR, KR };

static const esp_width baichuan_values[] = {
    [X] = ESP_W_HIDDEN,  [H1] = ESP_W_HIDDEN, [ALL] = ESP_W_QKV,        [QP] = ESP_W_QUERY,
    [KP] = ESP_W_KV,     [VP] = ESP_W_KV,     [QR] = ESP_W_QUERY,       [KR] = ESP_W_KV,
    [ATT] = ESP_W_QUERY, [X1] = ESP_W_HIDDEN, [ATT_OUT] = ESP_W_HIDDEN, [H2] = ESP_W_HIDDEN,
    [G] = ESP_W_MLP,     [U] = ESP_W_MLP,     [M] = ESP_W_MLP,          [MLP_OUT] = ESP_W_HIDDEN,
    [X2] = ESP_W_HIDDEN,
};

static const esp_op baichuan_ops[] = {
    NORM(NORM1, X, H1),         FUSED_QKV,     ROTARY(QP, QR), ROTARY(KP, KR),
    ATTENTION(QR, KR, VP, ATT), ATTENTION_SUM, GATED_MLP,
};

/* Of the published code; its versions differ in vocab_size, which has to be said. */
static const esp_config_default baichuan_defaults[] = {
    DEFAULT("hidden_size", "4096"),     DEFAULT("intermediate_size", "11008"),
    DEFAULT("num_hidden_layers", "32"), DEFAULT("num_attention_heads", "32"),
    DEFAULT("hidden_act", "\"silu\""),  DEFAULT("max_position_embeddings", "4096"),
    DEFAULT("rms_norm_eps", "1e-6"),    DEFAULT("tie_word_embeddings", "false"),
    MAY_BE_NULL("bos_token_id", "1"),   MAY_BE_NULL("eos_token_id", "2"),
};

/* The key tells the second generation, in any size. */
const esp_arch esp_baichuan_family = { .name = "baichuan-7b",
                                       .normalized_head_name = "baichuan2-7b",
                                       .model_type = "baichuan",
                                       .architecture = "BaiChuanForCausalLM",
                                       .has_key = { "max_position_embeddings" },
                                       .normalized_head_key = "z_loss_weight",
                                       .normalized_head_vocab = BAICHUAN2_VOCAB,
                                       .normalized_head_class = "BaichuanForCausalLM",
                                       .keys = &esp_llama_keys,
                                       DEFAULTS(baichuan),
                                       .rotary = { .divisor = 1, .source = ESP_ROPE_FIXED },
                                       EMBEDDING(esp_plain_embedding),
                                       TABLES(baichuan) };

/* ---- 13B ---- */

static const esp_config_keys baichuan_13b_keys = { USUAL_KEYS, .mlp = "intermediate_size",
                                                   .positions = "model_max_length",
                                                   .norm_eps = "rms_norm_eps",
                                                   .activation = "hidden_act" };

static const esp_config_default baichuan_13b_defaults[] = {
    DEFAULT("hidden_size", "5120"),     DEFAULT("intermediate_size", "13696"),
    DEFAULT("num_hidden_layers", "40"), DEFAULT("num_attention_heads", "40"),
    DEFAULT("hidden_act", "\"silu\""),  DEFAULT("model_max_length", "4096"),
    DEFAULT("rms_norm_eps", "1e-6"),    DEFAULT("tie_word_embeddings", "false"),
    MAY_BE_NULL("bos_token_id", "1"),   MAY_BE_NULL("eos_token_id", "2"),
};

static const esp_op baichuan_alibi_ops[] = {
    NORM(NORM1, X, H1), FUSED_QKV, ATTENTION(QP, KP, VP, ATT), ATTENTION_SUM, GATED_MLP,
};

const esp_arch esp_baichuan_alibi_family = { .name = "baichuan-13b",
                                             .normalized_head_name = "baichuan2-13b",
                                             .model_type = "baichuan",
                                             .architecture = "BaichuanForCausalLM",
                                             .has_key = { "model_max_length" },
                                             .normalized_head_key = "z_loss_weight",
                                             .normalized_head_vocab = BAICHUAN2_VOCAB,
                                             .keys = &baichuan_13b_keys,
                                             DEFAULTS(baichuan_13b),
                                             .alibi = true,
                                             EMBEDDING(esp_plain_embedding),
                                             SLOTS(baichuan),
                                             .values = baichuan_values,
                                             .n_values = QR,
                                             .ops = baichuan_alibi_ops,
                                             .n_ops = COUNT(baichuan_alibi_ops) };
