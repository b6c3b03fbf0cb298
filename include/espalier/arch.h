/* arch.h - a family of models as data: which weights there are and how values flow through a block.
 *
 * The description is the only place that knows tensor names and wiring. Forward and backward run its
 * operations, the dependency graph reads its wiring, loading and saving read its weights.
 */
#ifndef ESPALIER_ARCH_H
#define ESPALIER_ARCH_H

#include <stdbool.h>
#include <stddef.h>

/* Kinds of width that a value or a side of a weight has. The sizes are those of a model (and, for
 * QUERY, KV and MLP, of a layer). */
typedef enum esp_width {
    ESP_W_ONE,    /* the missing second side of a vector   */
    ESP_W_HIDDEN, /* D                                     */
    ESP_W_QUERY,  /* H * d                                 */
    ESP_W_KV,     /* K * d                                 */
    ESP_W_MLP,    /* F                                     */
    ESP_W_VOCAB   /* V                                     */
} esp_width;

typedef enum esp_op_kind {
    ESP_OP_NORM,      /* out = norm(in0) with a weight vector                */
    ESP_OP_LINEAR,    /* out = in0 W^T (+ bias)                              */
    ESP_OP_ROTARY,    /* out = in0 turned by position, a head at a time      */
    ESP_OP_ATTENTION, /* out = softmax(in0 in1^T) in2, heads and groups      */
    ESP_OP_GATE,      /* out = silu(in0) * in1, index by index               */
    ESP_OP_ADD        /* out = in0 + in1, index by index                     */
} esp_op_kind;

/* Where the bias of a linear weight comes from. */
typedef enum esp_bias {
    ESP_BIAS_NEVER,
    ESP_BIAS_QKV,       /* where the family always has it, or config.json says attention_bias */
    ESP_BIAS_ATTENTION, /* where config.json says attention_bias                              */
    ESP_BIAS_MLP        /* where config.json says mlp_bias                                    */
} esp_bias;

/* Slots outside the blocks come first, the same in every family. */
enum { ESP_SLOT_EMBED, ESP_SLOT_FINAL_NORM, ESP_SLOT_HEAD, ESP_SLOT_BLOCK };

typedef struct esp_slot {
    const char *name;     /* Hugging Face name without ".weight"; "%zu" stands for the layer */
    const char *label;    /* short name of the structure in importance.h5: "q"               */
    esp_width rows, cols; /* shape of the weight; cols ESP_W_ONE for a vector           */
    esp_bias bias;
} esp_slot;

typedef struct esp_op {
    esp_op_kind kind;
    int slot;  /* weight of NORM and LINEAR, else -1 */
    int in[3]; /* values, -1 where unused            */
    int out;   /* value; each value is written by one operation */
} esp_op;

typedef struct esp_arch {
    const char *model_type;   /* of config.json       */
    const char *architecture; /* "LlamaForCausalLM"   */
    bool always_qkv_bias;
    const esp_slot *slots; /* [n_slots]            */
    size_t n_slots;
    const esp_width *values; /* [n_values] widths; value 0 is the input of a block */
    size_t n_values;
    const esp_op *ops; /* [n_ops] of a block, in order; the last writes the block's output */
    size_t n_ops;
} esp_arch;

/* Description for a model_type, NULL when there is none. Local. */
const esp_arch *esp_arch_find(const char *model_type);

/* Supported model types, "llama, mistral, ...", for messages. Local. */
const char *esp_arch_list(void);

/* Last part of the tensor name, as target lists say it: "q_proj". Borrowed. Local. */
const char *esp_slot_role(const esp_slot *s);

/* Slot of a role such as "q_proj", -1 when there is none. Local. */
int esp_arch_slot(const esp_arch *a, const char *role);

#endif
