/* family_impl.h - what the tables of the families share. */
#ifndef ESPALIER_FAMILY_IMPL_H
#define ESPALIER_FAMILY_IMPL_H

#include "espalier/arch.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The tables of a family, by the prefix of their names: its weights, and the block that they make,
 * which families with other names for the same weights share. */
#define SLOTS(name) .slots = name##_slots, .n_slots = COUNT(name##_slots)
#define BLOCK(name)                                                               \
    .values = name##_values, .n_values = COUNT(name##_values), .ops = name##_ops, \
    .n_ops = COUNT(name##_ops)
#define TABLES(name) SLOTS(name), BLOCK(name)

/* Rows of defaults: a key that must have a value, and one that may be null. */
#define DEFAULTS(name) .defaults = name##_defaults, .n_defaults = COUNT(name##_defaults)
#define DEFAULT(key, value) \
    {                       \
        key, value, false   \
    }
#define MAY_BE_NULL(key, value) \
    {                           \
        key, value, true        \
    }

#define EMBEDDING(name) .embedding = name, .n_embedding = COUNT(name)

/* Matrices are [rows, columns], vectors have a norm's weight. */
#define MATRIX(slot, name, label, rows, cols, bias) \
    [slot] = { name, label, ESP_W_##rows, ESP_W_##cols, ESP_BIAS_##bias }
#define VECTOR(slot, name, label, rows, bias) \
    [slot] = { name, label, ESP_W_##rows, ESP_W_ONE, ESP_BIAS_##bias }

/* Operations by their operands. */
#define NORM(slot, in, out)                                 \
    {                                                       \
        ESP_OP_NORM, slot, { in, -1, -1 }, out, { 0 }, NULL \
    }
#define LINEAR(slot, in, out)                                 \
    {                                                         \
        ESP_OP_LINEAR, slot, { in, -1, -1 }, out, { 0 }, NULL \
    }
#define ROTARY(in, out)                                     \
    {                                                       \
        ESP_OP_ROTARY, -1, { in, -1, -1 }, out, { 0 }, NULL \
    }
#define ROTARY_BLOCK(in, out)                                     \
    {                                                             \
        ESP_OP_ROTARY_BLOCK, -1, { in, -1, -1 }, out, { 0 }, NULL \
    }
#define ATTENTION(q, k, v, out)                             \
    {                                                       \
        ESP_OP_ATTENTION, -1, { q, k, v }, out, { 0 }, NULL \
    }
#define ACTIVATION(in, out)                                     \
    {                                                           \
        ESP_OP_ACTIVATION, -1, { in, -1, -1 }, out, { 0 }, NULL \
    }
#define GATE(gate, up, out)                                 \
    {                                                       \
        ESP_OP_GATE, -1, { gate, up, -1 }, out, { 0 }, NULL \
    }
#define ADD(a, b, out)                                 \
    {                                                  \
        ESP_OP_ADD, -1, { a, b, -1 }, out, { 0 }, NULL \
    }

/* A block of a fused value behind blocks of two other widths, and the heads of one kind of three. */
#define SLICE_AFTER(first, second, in, out, label)                                              \
    {                                                                                           \
        ESP_OP_SLICE, -1, { in, -1, -1 }, out, { .before = { ESP_W_##first, ESP_W_##second } }, \
            label                                                                               \
    }
#define SLICE_OF_HEADS(number, in, out, label)                                       \
    {                                                                                \
        ESP_OP_SLICE, -1, { in, -1, -1 }, out, { .parts = 3, .part = number }, label \
    }

/* Steps of the embedding, on the residual stream. */
#define LOOKUP(slot)                                       \
    {                                                      \
        ESP_OP_LOOKUP, slot, { 0, -1, -1 }, 0, { 0 }, NULL \
    }
#define EMBED_NORM                                                      \
    {                                                                   \
        ESP_OP_NORM, ESP_SLOT_EMBED_NORM, { 0, -1, -1 }, 0, { 0 }, NULL \
    }
#define SCALE                                           \
    {                                                   \
        ESP_OP_SCALE, -1, { 0, -1, -1 }, 0, { 0 }, NULL \
    }

/* ---- what several families have alike ------------------------------------------------------------ */

/* Sizes that most call the same in config.json. */
#define USUAL_KEYS                                                                          \
    .hidden = "hidden_size", .layers = "num_hidden_layers", .heads = "num_attention_heads", \
    .head_dim = "head_dim", .vocab = "vocab_size"

/* Weights by their names in LLaMA: outside the blocks; of queries, keys and values; of a gated MLP. */
#define LLAMA_HEAD_AND_NORM                                                      \
    MATRIX(ESP_SLOT_EMBED, "model.embed_tokens", "embed", VOCAB, HIDDEN, NEVER), \
        VECTOR(ESP_SLOT_FINAL_NORM, "model.norm", "norm", HIDDEN, NEVER),        \
        MATRIX(ESP_SLOT_HEAD, "lm_head", "head", VOCAB, HIDDEN, NEVER)
#define LLAMA_QKV(bias)                                                        \
    MATRIX(Q, "model.layers.%zu.self_attn.q_proj", "q", QUERY, HIDDEN, bias),  \
        MATRIX(K, "model.layers.%zu.self_attn.k_proj", "k", KV, HIDDEN, bias), \
        MATRIX(V, "model.layers.%zu.self_attn.v_proj", "v", KV, HIDDEN, bias)
#define LLAMA_MLP(bias)                                                             \
    MATRIX(GATE_PROJ, "model.layers.%zu.mlp.gate_proj", "gate", MLP, HIDDEN, bias), \
        MATRIX(UP, "model.layers.%zu.mlp.up_proj", "up", MLP, HIDDEN, bias),        \
        MATRIX(DOWN, "model.layers.%zu.mlp.down_proj", "down", HIDDEN, MLP, bias)

/* Queries, keys and values from one matrix, as blocks of rows or head by head. */
#define FUSED_QKV                                                \
    LINEAR(QKV, H1, ALL), SLICE_AFTER(NONE, NONE, ALL, QP, "q"), \
        SLICE_AFTER(QUERY, NONE, ALL, KP, "k"), SLICE_AFTER(QUERY, KV, ALL, VP, "v")
#define FUSED_QKV_OF_HEADS                                                                  \
    LINEAR(QKV, H1, ALL), SLICE_OF_HEADS(0, ALL, QP, "q"), SLICE_OF_HEADS(1, ALL, KP, "k"), \
        SLICE_OF_HEADS(2, ALL, VP, "v")

/* A block from its attention on: projection and sum, norm, MLP and sum. */
#define ATTENTION_SUM LINEAR(O, ATT, ATT_OUT), ADD(X, ATT_OUT, X1), NORM(NORM2, X1, H2)
#define GATED_MLP                                                                         \
    LINEAR(GATE_PROJ, H2, G), LINEAR(UP, H2, U), GATE(G, U, M), LINEAR(DOWN, M, MLP_OUT), \
        ADD(X1, MLP_OUT, X2)
#define PLAIN_MLP \
    LINEAR(UP, H2, U), ACTIVATION(U, M), LINEAR(DOWN, M, MLP_OUT), ADD(X1, MLP_OUT, X2)

/* Of the LLaMA family and all that are named after it. */
extern const esp_config_keys esp_llama_keys;
extern const esp_op esp_plain_embedding[1]; /* the embedding alone */

extern const esp_arch esp_llama_family[3]; /* llama, mistral, qwen2 */
extern const esp_arch esp_qwen3_family, esp_phi3_family, esp_baichuan_family;
extern const esp_arch esp_baichuan_alibi_family, esp_bloom_family, esp_opt_family,
    esp_gemma2_family, esp_chatglm2_family, esp_chatglm_family;

#endif
