/* model_impl.h - what the files of src/model share about config.json and the tensors of a model. */
#ifndef ESPALIER_MODEL_IMPL_H
#define ESPALIER_MODEL_IMPL_H

#include "espalier/model.h"
#include "model/config_value_impl.h"

#define ESP_MAX_WIDTH ((size_t)1 << 28) /* of anything: products of two fit 64 bits with room */
#define ESP_OWN_KEY   "espalier"        /* object of config.json with what differs between layers */

/* Fills what config.json says (all but the weights) from m->config.
 * path names the file in messages. Local. */
esp_status esp_config_read(esp_model *m, const char *path);

/* Whether the family and config.json give the linear weight of a slot a bias. Local. */
bool esp_config_has_bias(const esp_model *m, int slot);

/* What in0 of an ESP_OP_ADD counts in a model of n_layers layers. Local. */
float esp_residual_scale(const esp_arch *arch, size_t n_layers);

/* Changes config to say dims: plain keys where layers are alike, else their maxima and lists. Local. */
void esp_config_write(json_t *config, const esp_arch *arch, const esp_dims *dims);

/* Rotary positions, in families that have them, with theta and scaling as config.json says them, in the old
 * spelling (rope_theta, rope_scaling) or the new one (rope_parameters). Sizes of m are known. Local. */
esp_status esp_rope_read(esp_model *m, const esp_config_part *c);
void esp_rope_copy(esp_rope *to, const esp_rope *from);
void esp_rope_free(esp_rope *r); /* safe twice and on {0} */

/* The family that config.json is of, NULL when there is none. Local. */
const esp_arch *esp_config_arch(const json_t *config);

/* The same, ESP_EFORMAT when there is none. Local. */
esp_status esp_config_find_arch(const esp_arch **arch, const esp_config_part *c);

/* Refuses what no family computes: quantised weights, trained prefixes, attention to later tokens. Local. */
esp_status esp_config_check_supported(const esp_config_part *c);

/* Adds to config (which c reads) the values that the class of c->arch gives to keys that are not there: a
 * folder that is written later says them to classes with other defaults. ESP_EFORMAT for a null that the
 * class refuses. Local. */
esp_status esp_config_complete(json_t *config, const esp_config_part *c);

/* Windows of all layers, whose number is known. Local. */
esp_status esp_config_read_windows(esp_dims *d, const esp_config_part *c);
void esp_config_write_windows(json_t *config, const esp_arch *arch, const esp_dims *d);

/* Slopes of a family that has ALiBi: by the number of heads, or as a cut model keeps them. Local. */
esp_status esp_alibi_read(esp_model *m, const esp_config_part *c);

/* Arrays of weights with the shapes that arch, dims and config give; data NULL, all of m->dtype. Local. */
void esp_model_make_weights(esp_model *m);

/* The same as esp_model_weight, to be changed. Local. */
esp_weight *esp_model_weight_at(const esp_model *m, size_t layer, int slot);

/* Tensors are read, written and digested in chunks of whole rows. */
#define ESP_CHUNK_BYTES ((size_t)8 << 20)

/* Rows of a chunk of a tensor; the last one may have fewer. Local. */
size_t esp_tensor_chunk_rows(const esp_tensor_ref *t);

/* The first chunks of n tensors, then how many chunks there are [n + 1]; the caller frees. Local. */
size_t *esp_tensor_chunks(const esp_tensor_ref *refs, size_t n);

/* The digest of a model from those of its chunks [chunks, ESP_DIGEST_WORDS]; NULL: of config.json, names,
 * types and shapes alone. Local. */
void esp_model_digest_of(char hex[ESP_DIGEST_SIZE], const esp_model *m, const uint64_t *chunks);

#endif
