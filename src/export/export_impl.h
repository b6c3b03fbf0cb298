/* export_impl.h - what formats made of safetensors files share. */
#ifndef ESPALIER_EXPORT_IMPL_H
#define ESPALIER_EXPORT_IMPL_H

#include "espalier/tensor_writer.h"

#define ESP_SAFETENSORS ".safetensors"

/* Name of a tensor in a format; the caller frees. */
typedef char *(*esp_tensor_namer)(const esp_model *m, const esp_tensor_ref *t);

/* The tensors of a writer in STEM.safetensors, or in STEM-00001-of-... with an index: the state between begin
 * and end. */
typedef struct esp_shards esp_shards;

/* Cuts the tensors into files of at most `limit` bytes; a larger tensor is a file by itself. stem is
 * borrowed. Freed by esp_shards_begin where that fails, else by esp_shards_end. Local. */
esp_shards *esp_shards_make(const esp_contents *c, const char *stem, esp_tensor_namer name,
                            size_t limit);
size_t esp_shards_bytes(const esp_contents *c, size_t limit);

/* Begin of a writer: config (taken) goes to the file config_name, the files copied from the folder `from`
 * (NULL: none) beside it, an index where there are several files, and each of these is made. Collective. */
esp_status esp_shards_begin(void **state, esp_shards *s, const char *config_name, char *config,
                            const char *from);

/* Rows and end of a writer. */
esp_status esp_shards_rows(void *state, size_t i, size_t first, size_t n, const void *data);
esp_status esp_shards_end(void *state, esp_status st);

/* Copies the files that go along with the weights of a model folder: every regular file of at most 64 MB (or
 * link to one), in it or in a folder right in it, that is neither config.json nor a file of weights by its
 * name and has no dot in front. A folder that holds weights, or is a link, is left out. One line tells what
 * was left out, the weights of the model itself apart. ESP_EUSAGE, ESP_EIO. Local. */
esp_status esp_companions_copy(const char *to, const char *from);

#endif
