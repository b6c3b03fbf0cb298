/* tokenizer.h - text to ids and back, from the tokenizer files of a model folder.
 *
 * tokenizer.json (BPE: byte level with a split pattern, or metaspace with byte fallback) is preferred;
 * tokenizer.model (SentencePiece) is used where it is alone. Added tokens and the BOS/EOS rules of the
 * post-processor or of tokenizer_config.json apply.
 */
#ifndef ESPALIER_TOKENIZER_H
#define ESPALIER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/status.h"

typedef struct esp_tokenizer esp_tokenizer; /* opaque */

typedef struct esp_ids {
    int32_t *id; /* [n] owned */
    size_t n, room;
} esp_ids;
void esp_ids_add(esp_ids *ids, int32_t id);
void esp_ids_free(esp_ids *ids); /* safe twice and on {0} */

/* ESP_EUSAGE when the folder has no tokenizer, ESP_EFORMAT when it is one this program does not do
 * (named: the field and its value). Local. */
esp_status esp_tokenizer_open(esp_tokenizer **t, const char *model_dir);
void esp_tokenizer_free(esp_tokenizer *t); /* NULL is fine */

/* Largest id + 1, and the ids that begin and end a text (-1: none). Local. */
size_t esp_tokenizer_size(const esp_tokenizer *t);
int32_t esp_tokenizer_bos(const esp_tokenizer *t);
int32_t esp_tokenizer_eos(const esp_tokenizer *t);

/* Appends the ids of n bytes of UTF-8 text. special: add BOS/EOS as the model's own rules do.
 * ESP_EFORMAT for text that the tokenizer cannot express (no byte fallback, no unk). Local. */
esp_status esp_tokenizer_encode(const esp_tokenizer *t, esp_ids *ids, const char *text, size_t n,
                                bool special);

/* Text of n ids, 0-terminated, the caller frees; special tokens are left out when skip_special.
 * *n_bytes may be NULL. ESP_EFORMAT for an id beyond the vocabulary. Local. */
esp_status esp_tokenizer_decode(const esp_tokenizer *t, char **text, size_t *n_bytes,
                                const int32_t *ids, size_t n, bool skip_special);

#endif
