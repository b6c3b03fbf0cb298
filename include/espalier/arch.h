/* arch.h - a family of models as data: which weights there are and how values flow through a block.
 *
 * The description is the only place that knows tensor names, config.json's keys and wiring. Forward and
 * backward run its operations, the dependency graph reads its wiring, loading and saving read its
 * weights. All of it is static: what the functions below return is borrowed, unless they say otherwise.
 */
#ifndef ESPALIER_ARCH_H
#define ESPALIER_ARCH_H

#include <stdbool.h>
#include <stddef.h>

#include "espalier/tensor.h"

/* Kinds of width that a value or a side of a weight has. The sizes are those of a model and a layer. */
typedef enum esp_width {
    ESP_W_NONE,     /* 0: of a slot that a family does not have */
    ESP_W_ONE,      /* the missing second side of a vector      */
    ESP_W_HIDDEN,   /* D                                        */
    ESP_W_QUERY,    /* H * d                                    */
    ESP_W_KV,       /* K * d                                    */
    ESP_W_MLP,      /* F                                        */
    ESP_W_VOCAB,    /* V                                        */
    ESP_W_HEAD,     /* d                                        */
    ESP_W_QKV,      /* (H + 2 K) * d                            */
    ESP_W_GATE_UP,  /* 2 F                                      */
    ESP_W_POSITIONS /* rows of a table of learned positions     */
} esp_width;

/* What an operation does. Those of the embedding work on the residual stream in place, one after another. */
typedef enum esp_op_kind {
    ESP_OP_NORM,   /* out = norm(in0); a head at a time where its weight has d rows */
    ESP_OP_LINEAR, /* out = in0 W^T (+ bias)                                                       */
    ESP_OP_SLICE, /* out = a part of in0, a value made by a fused weight                          */
    ESP_OP_ROTARY, /* out = in0 rotated by position, a head at a time                              */
    ESP_OP_ROTARY_BLOCK, /* the same for the next channels of a head, by block position           */
    ESP_OP_ATTENTION, /* out = softmax(in0 in1^T) in2, heads and groups                               */
    ESP_OP_ACTIVATION, /* out = f(in0)                                                                */
    ESP_OP_GATE, /* out = f(in0) * in1, index by index                                           */
    ESP_OP_ADD,  /* out = in0 + in1, index by index; in0 times sqrt(2 L) where deep_residual says */
    ESP_OP_LOOKUP, /* embedding: the rows of a table, by token (first) or position (added)              */
    ESP_OP_SCALE /* embedding: times sqrt(D) */
} esp_op_kind;

typedef enum esp_norm {
    ESP_NORM_RMS,     /* w x / rms(x)        */
    ESP_NORM_RMS_ONE, /* (1 + w) x / rms(x)  */
    ESP_NORM_LAYER    /* LayerNorm with bias */
} esp_norm;

/* Where a bias comes from. */
typedef enum esp_bias {
    ESP_BIAS_NEVER,
    ESP_BIAS_ALWAYS,
    ESP_BIAS_QKV,       /* where the family always has it, or config.json says attention_bias */
    ESP_BIAS_ATTENTION, /* where config.json says attention_bias                              */
    ESP_BIAS_MLP        /* where config.json says mlp_bias                                    */
} esp_bias;

/* Slots outside the blocks come first, the same in every family; one that a family does not have is
 * left out of its table and has 0 rows. */
enum {
    ESP_SLOT_EMBED,
    ESP_SLOT_POSITION,   /* learned positions                       */
    ESP_SLOT_EMBED_NORM, /* between the embedding and the first block */
    ESP_SLOT_FINAL_NORM,
    ESP_SLOT_HEAD,
    ESP_SLOT_BLOCK
};

typedef struct esp_slot {
    const char *name;     /* Hugging Face name without ".weight"; "%zu" stands for the layer */
    const char *label;    /* short name of the structure in importance.h5: "q"               */
    esp_width rows, cols; /* shape of the weight; cols ESP_W_ONE for a vector           */
    esp_bias bias;
} esp_slot;

/* Which part of a fused value a slice is: index i of it is index
 *     start + i / run * step + i % run
 * of the whole, see esp_slice. */
typedef struct esp_part_of {
    size_t parts, part; /* by head: heads of `parts` kinds alternate, this is kind `part`;
                            parts 0: the value is one block, after the blocks of widths before[] */
    esp_width before[2];
} esp_part_of;

typedef struct esp_op {
    esp_op_kind kind;
    int slot;          /* weight of NORM, LINEAR and LOOKUP, else -1 */
    int in[3];         /* values, -1 where unused                    */
    int out;           /* value; each value is written by one operation */
    esp_part_of part;  /* of SLICE                                             */
    const char *label; /* of SLICE: short name of the structure in importance.h5 */
} esp_op;

/* The names that a family gives to its sizes in config.json; NULL where it has none. */
typedef struct esp_config_keys {
    const char *hidden, *layers, *heads, *vocab;
    const char *kv_heads; /* NULL, or null in a file: as many as heads */
    const char *mlp;      /* NULL: 4 D              */
    const char *head_dim; /* null: D / heads */
    const char *positions;
    const char *norm_eps;
    double eps; /* where there is no norm_eps */
    const char *activation;
    const char *query_scale;   /* attention is scaled by 1 / sqrt of it instead of 1 / sqrt(d) */
    const char *attention_cap; /* soft caps of attention and of logits                         */
    const char *logit_cap;
    const char *prefix_start, *prefix_mask[2]; /* ids of an esp_prefix_rule; NULL: no prefixes */
} esp_config_keys;

/* The value of a key that config.json lacks, as JSON: "32", "\"silu\""; that of the configuration class of
 * transformers, or of the code published with a model. Null: none, or it follows from other keys. A null in
 * the file is refused where the class refuses it. A key in no row is one that the class does not know. `make
 * interop` compares the rows with transformers. */
typedef struct esp_config_default {
    const char *key, *value;
    bool takes_null;
} esp_config_default;

/* Another name that the class takes for a key of config.json. */
typedef struct esp_config_synonym {
    const char *key, *other;
    bool alone; /* it may be there without the key; else it only repeats it */
} esp_config_synonym;

/* A flag of config.json of which only one value is supported. with: the flag only matters where this number
 * is above 1. */
typedef struct esp_config_flag {
    const char *key;
    bool value;
    const char *with; /* NULL: always */
} esp_config_flag;

/* Which keys of config.json give the frequencies of rotary positions, as the class of the family reads
 * them. */
typedef enum esp_rope_source {
    ESP_ROPE_SCALED, /* rope_theta with rope_scaling, or rope_parameters */
    ESP_ROPE_PHI, /* the same as Phi-3 has it: longrope alone, by its older names, too; a part of the
                        channels; decoding begins anew where the frequencies change */
    ESP_ROPE_RATIO, /* rope_ratio */
    ESP_ROPE_FIXED  /* none */
} esp_rope_source;

/* Which layers have the window that config.json calls sliding_window. */
typedef enum esp_windows {
    ESP_WINDOWS_NONE,      /* none, whatever config.json says                                    */
    ESP_WINDOWS_ALL,       /* those that layer_types names; without it all                       */
    ESP_WINDOWS_ALTERNATE, /* those that layer_types names; without it layers 0, 2, ...          */
    ESP_WINDOWS_LAST       /* with use_sliding_window the same; without it from max_window_layers */
} esp_windows;

typedef struct esp_rotary_kind {
    bool pairs;     /* channels 2c and 2c + 1 are a pair, else c and c + n / 2 */
    size_t divisor; /* the first d / divisor channels of a head rotate; 0: no rotary positions */
    esp_rope_source source;
} esp_rotary_kind;

typedef struct esp_arch {
    const char
        *name; /* where several families share a model_type: "chatglm2"; NULL: the model_type */
    const char *normalized_head_name; /* of the family with normalized_head_key; NULL: none */
    const char *model_type;           /* of config.json       */
    const char *architecture;         /* "LlamaForCausalLM"   */
    const char *uneven_type; /* model_type of the same block without biases that transformers takes
                                 where heads do not divide D; NULL: none */
    /* What tells the families of one model_type apart: config.json must have one of these; NULL: none. */
    const char *has_key[4];
    /* A key of config.json with which the head's rows are normalised (NULL: none), and vocabulary and class
     * of the published models that have it: a file of these without the key is refused. */
    const char *normalized_head_key, *normalized_head_class;
    size_t normalized_head_vocab;
    const esp_config_keys *keys;
    const esp_config_synonym *synonyms; /* [n_synonyms] of keys */
    size_t n_synonyms;
    const esp_config_flag *flags; /* [n_flags] */
    size_t n_flags;
    const esp_config_default *defaults; /* [n_defaults] */
    size_t n_defaults;
    bool always_qkv_bias;
    esp_windows windows;
    esp_norm norm;
    esp_activation activation;
    esp_rotary_kind rotary;
    bool alibi;             /* attention sees how far a key lies back, by a slope for each head */
    bool deep_residual;     /* in0 of ADD, a normed value, counts sqrt(2 L) times in L layers */
    size_t position_offset; /* row of the table of learned positions that position 0 looks up */
    const esp_slot *slots;  /* [n_slots]            */
    size_t n_slots;
    const esp_op *embedding; /* [n_embedding] from token ids to the input of the first block */
    size_t n_embedding;
    const esp_width *values; /* [n_values] widths; value 0 is the input of a block */
    size_t n_values;
    const esp_op *ops; /* [n_ops] of a block, in order; the last writes the block's output */
    size_t n_ops;
} esp_arch;

/* Description for a model_type (the first where several share it), NULL when there is none. Local. */
const esp_arch *esp_arch_find(const char *model_type);

/* The row of a key, NULL where the class does not know it. Local. */
const esp_config_default *esp_arch_default(const esp_arch *a, const char *key);

/* Description number i, NULL after the last. Local. */
const esp_arch *esp_arch_at(size_t i);

/* Supported model types, "llama, mistral, ...", for messages. Local. */
const char *esp_arch_list(void);

/* The family of a name: its own, or a model_type; NULL when there is none. normalized_head [out]: whether it
 * is the name of the family with a normalised head, "baichuan2-13b". Local. */
const esp_arch *esp_arch_named(bool *normalized_head, const char *name);

/* Names of all families, "llama, ..., baichuan-7b, baichuan2-7b, ..."; the caller frees. Local. */
char *esp_arch_names(void);

/* Characters of the prefix that the base model has in the class with a head ("model.", the first part of
 * the embedding's name), and that files saved from the base model alone leave out. Local. */
size_t esp_arch_base(const esp_arch *a);

/* Last part of the tensor name, as target lists have it: "q_proj". Local. */
const char *esp_slot_role(const esp_slot *s);

/* Slot of a role such as "q_proj", -1 when there is none. Local. */
int esp_arch_slot(const esp_arch *a, const char *role);

/* The operation of a block that multiplies by the weight of a slot; NULL: none does. Borrowed. Local. */
const esp_op *esp_arch_linear(const esp_arch *a, int slot);

/* What is added to the weight (not the bias) of a slot before it is used: 1 or 0. Local. */
float esp_slot_weight_offset(const esp_arch *a, int slot);

#endif
