/* model_save.h - writing a model folder that any client loads. One writer for surgery, merging,
 * trained models and synth: they differ in where the rows of a tensor come from. */
#ifndef ESPALIER_MODEL_SAVE_H
#define ESPALIER_MODEL_SAVE_H

#include "espalier/model.h"

/* Source of tensor data. Fills `out` with rows first .. first + n of a tensor in the dtype that the
 * target model gives it (bias: the bias vector, then a row is one element). Which rank asks for which
 * rows depends on the number of ranks, so each can give any. Local. */
typedef esp_status (*esp_tensor_source)(void *ctx, void *out, size_t layer, int slot, bool bias,
                                        size_t first, size_t n);

/* Shapes of a model that is to be written: config is changed to match dims where they differ
 * (uniform layers: the plain keys num_attention_heads, num_key_value_heads, intermediate_size,
 * hidden_size, num_hidden_layers, head_dim; else also per-layer lists under "espalier"). A uniform llama
 * whose heads no longer divide hidden_size becomes the mistral that computes the same: clients refuse it
 * under its old name. Weights get the new shapes with data = NULL. Layer l takes the dtypes of from's
 * layer l; dims has no more layers than from, and its head_dim. dims is copied. from is borrowed no longer
 * than the call. Local. */
void esp_model_reshape(esp_model *to, const esp_model *from, const esp_dims *dims);

/* The model_type that a uniform model is written under where its heads do not divide hidden_size.
 * Borrowed. Local. */
const char *esp_model_uneven_type(const esp_model *m);

/* Which heads a reshaped model has, where a head is more than its rows (the slopes of ALiBi): layer l of
 * to is layer[l] of from, its key/value heads are groups[l] [kv_heads] of that one. Without it they are
 * the first ones of layer l (layer, groups NULL). Local. */
void esp_model_keep_heads(esp_model *to, const esp_model *from, const size_t *layer,
                          const int32_t *const *groups);

/* Bytes of memory that esp_model_save takes, digest included; numbers that it asks a source for at most at a
 * time. Local. */
size_t esp_model_save_bytes(const esp_model *shape);
size_t esp_model_save_numbers(const esp_model *shape);

/* Writes shape's config.json and tensors to the part of dir and commits it: files of at most
 * shard_bytes (0: 5 GB; one larger tensor is a file by itself) with an index where there is more than
 * one, rows shared out over the ranks by bytes, streamed through a buffer of 8 MB; the small files of
 * files_from that are no weights (tokenizer, code, licence; NULL: none) are copied. On a failure dir is as
 * it was before. Collective on comm. */
esp_status esp_model_save(char digest[ESP_DIGEST_SIZE], const char *dir, const esp_model *shape,
                          esp_tensor_source source, void *ctx, const char *files_from,
                          size_t shard_bytes, MPI_Comm comm);

#endif
