/* samples_impl.h - documents of ids, wherever they come from: the one way from a corpus to samples. */
#ifndef ESPALIER_SAMPLES_IMPL_H
#define ESPALIER_SAMPLES_IMPL_H

#include "espalier/corpus.h"

/* All documents of a token file. */
typedef struct esp_tokens {
    int32_t *ids;    /* [start[n]] owned                                      */
    int64_t *start;  /* [n + 1] owned; document i is ids start[i] .. start[i + 1] */
    int64_t *prompt; /* [n] owned; leading ids of document i that are prompt  */
    size_t n;
} esp_tokens;

/* ESP_EFORMAT for what is no token file or was made with another tokenizer than t (NULL: any). Local. */
esp_status esp_tokens_read(esp_tokens *k, const char *path, const esp_tokenizer *t);
void esp_tokens_free(esp_tokens *k); /* safe twice and on {0} */

/* Ids of one document of a corpus by the tokenizer's rules; a prompt with its answer ends with EOS.
 * *n_prompt: leading ids that are prompt. Replaces what ids holds. Local. */
esp_status esp_document_encode(const esp_document *d, bool instructions, const esp_tokenizer *t,
                               esp_ids *ids, size_t *n_prompt);

#endif
