/* reshape.h - the shapes of a model with other sizes: what surgery leaves, or a copy in other types. */
#ifndef ESPALIER_RESHAPE_H
#define ESPALIER_RESHAPE_H

#include "espalier/model.h"

/* to [out, owned]: from with the sizes dims (copied), weights with data = NULL. config is changed where
 * dims differ: for uniform layers the plain keys (num_attention_heads, num_key_value_heads,
 * intermediate_size, hidden_size, num_hidden_layers, head_dim), else also lists per layer under
 * "espalier". A uniform llama whose heads no longer divide hidden_size becomes the mistral that computes
 * the same, as transformers refuses it under its old name. Layer l has the dtypes of from's layer l; dims has
 * no more layers than from, and its head_dim. from is borrowed for the call only. Local. */
void esp_model_reshape(esp_model *to, const esp_model *from, const esp_dims *dims);

/* The model_type under which a uniform model of m's family is written where its heads do not divide
 * hidden_size; m's own where that needs no other. Borrowed. Local. */
const char *esp_model_uneven_type(const esp_model *m);

/* Says which heads a reshaped model [in,out] has, where a head is more than its rows (the slopes of ALiBi):
 * layer l of to is layer[l] of from, and its query heads are head[l] [heads] of that layer. layer and head
 * [n_layers of to], or NULL: the first heads of layer l. Local. */
void esp_model_keep_heads(esp_model *to, const esp_model *from, const size_t *layer,
                          const int32_t *const *head);

#endif
