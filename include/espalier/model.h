/* model.h - a model folder in memory: sizes from config.json, weights mapped in their own type.
 *
 * A model without weights (shapes only) has data = NULL everywhere and serves inspection, plans with
 * criterion random, and cost. Layers of a pruned model differ in width: take sizes from here.
 */
#ifndef ESPALIER_MODEL_H
#define ESPALIER_MODEL_H

#include <jansson.h>
#include <stdbool.h>

#include "espalier/arch.h"
#include "espalier/batch.h"
#include "espalier/bf16.h"
#include "espalier/digest.h"
#include "espalier/par.h"
#include "espalier/safetensors.h"

#define ESP_NO_LAYER ((size_t)-1) /* the layer of slots outside the blocks */

/* Place of a weight in a table of [n_layers * n_slots]. Slots outside the blocks lie where layer 0 would have
 * them: no block has slots below ESP_SLOT_BLOCK. Local. */
static inline size_t esp_slot_index(size_t n_slots, size_t layer, int slot)
{
    return (layer == ESP_NO_LAYER ? 0 : layer * n_slots) + (size_t)slot;
}

typedef struct esp_layer_dims {
    size_t heads, kv_heads, mlp; /* H, K, F of this layer                            */
    size_t window;               /* keys that a query sees at most; 0: all before it */
} esp_layer_dims;

typedef struct esp_dims {
    size_t n_layers, hidden, head_dim, vocab, max_positions;
    esp_layer_dims *layer; /* [n_layers] owned */
} esp_dims;

typedef struct esp_weight {
    size_t rows, cols; /* cols 1 for a vector, and for a matrix of one channel  */
    esp_dtype dtype;
    const void *data; /* [rows, cols] borrowed, any alignment; NULL: shape only */
    bool has_bias;
    const void *bias; /* [rows] of the same dtype, borrowed                     */
} esp_weight;

typedef struct esp_model {
    const esp_arch *arch;
    esp_dims dims;
    bool tied;            /* the head is the embedding                         */
    bool normalized_head; /* logits = x n^T, n the rows of the head at length 1  */
    float norm_eps;
    float embed_scale;              /* of embedded tokens, where the embedding scales them */
    float attention_scale;          /* of products of queries and keys               */
    float residual_scale;           /* of in0 of ESP_OP_ADD                          */
    float attention_cap, logit_cap; /* s becomes cap tanh(s / cap); 0: it does not   */
    esp_rope rope;                  /* its arrays owned                              */
    double rope_ratio;       /* of a ChatGLM2 or 3, see esp_model_use_ratio; else 1          */
    esp_prefix_rule prefix;  /* start -1: the family has no prefixes          */
    int32_t bos, eos;        /* -1 when config.json names none                        */
    esp_dtype dtype;         /* of the embedding; files are written in each weight's own */
    esp_precision precision; /* of products with matrices; f32 until someone sets it  */
    float *slopes;           /* [n_layers * slope_step] owned; of ALiBi, see esp_model_slopes */
    size_t slope_step;
    esp_weight *head_and_norm; /* [ESP_SLOT_BLOCK] owned                                */
    esp_weight *block;         /* [n_layers * (n_slots - ESP_SLOT_BLOCK)] owned         */
    esp_safetensors *files;    /* [n_files] owned                                       */
    size_t n_files;
    bool bare;      /* the files leave out the family's base prefix, see esp_arch_base */
    json_t *config; /* config.json as read, with the class's defaults; owned */
    char *dir;      /* owned                                                 */
} esp_model;

/* m [out, owned]: from config.json only, sizes and weight shapes, no data. Keys are Hugging Face's; the
 * object "espalier" may hold a list with one number per layer for num_attention_heads, num_key_value_heads
 * and intermediate_size, which then counts instead of the plain key. Keys that are missing have the values of
 * esp_config_default, and are added to m->config. Rotary positions are those of transformers, in the old
 * spelling (rope_theta, rope_scaling) or the new one (rope_parameters); where they are scaled, max_positions
 * is what they are made for: factor times the original length for linear, dynamic and yarn, where config.json
 * says less. ESP_EFORMAT for an unsupported model_type, a missing or impossible value (named with file and
 * key), ESP_EUSAGE when dir is no model folder (place.h), ESP_EIO; *m is {0} then. Local. */
esp_status esp_model_shape(esp_model *m, const char *dir);

/* The same and the weights: model.safetensors, else an index with shards, each tensor's shape checked against
 * config.json. Files saved from the base model alone ("h.0.mlp..." of a BLOOM) are taken as they are, and
 * written again so. A tied model may have the head instead of the embedding, or both where they are equal.
 * Tensors that belong to no weight are logged in one line, not refused (old rotary buffers not even logged).
 * Every rank maps for itself. Errors of esp_model_shape and esp_safetensors_open; ESP_EFORMAT for a tensor
 * that is missing or of another shape or type. The same status on all ranks, *m is {0} after a failure.
 * Collective on comm. */
esp_status esp_model_load(esp_model *m, const char *dir, MPI_Comm comm);
void esp_model_free(esp_model *m); /* safe twice and on {0} */

/* Bytes of the tables of a model that esp_model_reshape has made, but for JSON and strings. Local. */
size_t esp_model_bytes(const esp_model *m);

/* Numbers of a weight with its bias. Local. */
static inline size_t esp_weight_numbers(const esp_weight *w)
{
    return w->rows * w->cols + (w->has_bias ? w->rows : 0);
}

/* Weight of a slot (layer ESP_NO_LAYER for slots below ESP_SLOT_BLOCK). A tied head gives the
 * embedding. Borrowed. Local. */
const esp_weight *esp_model_weight(const esp_model *m, size_t layer, int slot);

/* Full name of a tensor's module, without ".weight" / ".bias", as transformers and PEFT name it whatever the
 * files leave out; the caller frees. Local. */
char *esp_model_tensor_name(const esp_model *m, size_t layer, int slot);

/* Elements of a width in a layer (any layer for widths of the whole model). Local. */
size_t esp_model_width(const esp_model *m, size_t layer, esp_width w);

/* How a ChatGLM reaches longer contexts by rope_ratio: the code of ChatGLM3 and GLM-4 multiplies the base
 * of the angles by it, that of ChatGLM2-6B-32k divides positions. In the order of the setting rope_ratio. */
typedef enum esp_ratio_use { ESP_RATIO_AUTO, ESP_RATIO_BASE, ESP_RATIO_POSITIONS } esp_ratio_use;

/* Sets how rope_ratio is used, and logs it in one line where that matters. Auto, which a model that was
 * just read has: as modeling_chatglm.py in its folder does; base without it. ESP_EIO when that file cannot be
 * read. Local. */
esp_status esp_model_use_ratio(esp_model *m, esp_ratio_use use);

/* Tokens of the sequence at which decoding computes all of it again, because other frequencies hold from
 * there on (longrope of Phi-3), as transformers does; 0: never. Local. */
size_t esp_model_anew(const esp_model *m);

/* Where an ESP_OP_SLICE finds its part: index i of it is index start + i / run * step + i % run. */
typedef struct esp_slice {
    size_t start, run, step;
} esp_slice;

esp_slice esp_model_slice(const esp_model *m, size_t layer, const esp_op *op); /* Local. */
size_t esp_slice_index(esp_slice s, size_t i);                                 /* Local. */

/* ALiBi slopes of a layer's heads [heads], NULL where the family has none. Borrowed. Local. */
const float *esp_model_slopes(const esp_model *m, size_t layer);

/* The rule by which samples of a model have prefixes, NULL where they have none. Borrowed. Local. */
const esp_prefix_rule *esp_model_prefix_rule(const esp_model *m);

/* esp_batch_init for samples of m, with its rule for prefixes; m must outlive the batch. Local. */
void esp_model_batch_init(esp_batch *b, const esp_model *m, size_t max_samples, size_t max_tok);

/* Visits all weights once in file order: embedding, layers, final norm, head (when not tied). Local. */
typedef void (*esp_weight_visitor)(void *ctx, size_t layer, int slot, const esp_weight *w);
void esp_model_visit(const esp_model *m, esp_weight_visitor visit, void *ctx);

/* The parts of a weight that are tensors by themselves: the weight, its bias, the matrices of its adapter. */
typedef enum esp_part { ESP_PART_WEIGHT, ESP_PART_BIAS, ESP_PART_A, ESP_PART_B } esp_part;

/* One tensor of a model's or an adapter's files. */
typedef struct esp_tensor_ref {
    size_t layer; /* ESP_NO_LAYER outside the blocks */
    int slot;
    esp_part part;
    const esp_weight *weight; /* borrowed; NULL for A and B          */
    size_t n_dims;            /* 2 for a matrix, 1 for all else      */
    size_t shape[2];          /* rows and columns; columns 1 without */
} esp_tensor_ref;

/* All tensors of a model in file order, bias after weight [n]; the caller frees the array. Local. */
esp_tensor_ref *esp_model_tensors(size_t *n, const esp_model *m);
size_t esp_tensors_bytes(const esp_model *m); /* of that array. Local. */

/* Name of a model's tensor in its files, ".weight" or ".bias" included; the caller frees. Local. */
char *esp_tensor_ref_name(const esp_model *m, const esp_tensor_ref *t);

/* Type of the numbers; bytes of a row (of one number where there is one dimension). Local. */
esp_dtype esp_tensor_ref_dtype(const esp_tensor_ref *t);
size_t esp_tensor_ref_row_bytes(const esp_tensor_ref *t);
size_t esp_tensor_ref_bytes(const esp_tensor_ref *t); /* of all rows */

/* hex [out]: digest of config.json and all tensors (names, types, shapes, bytes), the same on any number of
 * ranks. A rank uses the layers begin .. end - 1, all of them together all; every node reads the bytes that
 * its ranks use, a share each. ESP_EUSAGE where nodes, or ranks of a node with files of their own, see
 * different bytes: tensor and hosts; ESP_EFORMAT where a number is NaN or infinite: tensor and element. The
 * same status on all ranks. Collective on comm. */
esp_status esp_model_digest(char hex[ESP_DIGEST_SIZE], const esp_model *m, size_t begin, size_t end,
                            MPI_Comm comm);

/* What a model costs. macs: multiply-accumulates of one forward of n_tok tokens of one sample: linear
 * weights (head included, embedding not) times n_tok, and both attention products, full square. */
typedef struct esp_cost {
    uint64_t parameters; /* a tied head counts once */
    uint64_t macs;
    uint64_t bytes; /* of the weights in their types */
} esp_cost;

esp_cost esp_model_cost(const esp_model *m, size_t n_tok); /* Local. */

#define ESP_MACS_TOKENS ((size_t)64) /* tokens of the forward whose MACs are reported and planned */

/* m [out, owned]: from a parsed config.json, sizes and weight shapes, no data. config is m's from then on,
 * also after a failure; dir is where it is or will be. ESP_EFORMAT; *m is {0} then. Local. */
esp_status esp_model_from_config(esp_model *m, json_t *config, const char *dir);

/* The name that transformers has for an activation; static. Local. */
const char *esp_config_activation(esp_activation a);

#endif
