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

/* Of the LLaMA family and all that are named after it. */
extern const esp_config_keys esp_llama_keys;
extern const esp_op esp_plain_embedding[1]; /* the embedding alone */

extern const esp_arch esp_llama_family[3]; /* llama, mistral, qwen2 */
extern const esp_arch esp_qwen3_family, esp_phi3_family, esp_baichuan_family;
extern const esp_arch esp_baichuan_alibi_family, esp_bloom_family, esp_opt_family,
    esp_gemma2_family, esp_chatglm2_family, esp_chatglm_family;

#endif
