/* sentencepiece_shim.h - the C++ library SentencePiece (Kudo and Richardson 2018) as C functions.
 *
 * The only C++ of the program. Nothing is thrown through it: what the library reports is a status.
 */
#ifndef ESPALIER_SENTENCEPIECE_SHIM_H
#define ESPALIER_SENTENCEPIECE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_sp esp_sp; /* opaque */

typedef enum esp_sp_kind { ESP_SP_NORMAL, ESP_SP_UNKNOWN, ESP_SP_CONTROL, ESP_SP_USER } esp_sp_kind;

/* All: 0 for success, else -1 and the reason, cut to n_why bytes, in why. */
/* n bytes of a file tokenizer.model, which are the caller's. */
int esp_sp_open(esp_sp **sp, const char *file, size_t n, char *why, size_t n_why);
void esp_sp_close(esp_sp *sp); /* NULL is fine */

/* Vocabulary. A piece is a 0-terminated string that lives as long as sp. */
size_t esp_sp_size(const esp_sp *sp);
const char *esp_sp_piece(const esp_sp *sp, int32_t id);
esp_sp_kind esp_sp_kind_of(const esp_sp *sp, int32_t id);
int32_t esp_sp_bos(const esp_sp *sp); /* -1: none */
int32_t esp_sp_eos(const esp_sp *sp);

/* Calls add(to, id) for the ids of n bytes of text, without BOS and EOS. */
int esp_sp_encode(const esp_sp *sp, const char *text, size_t n, void (*add)(void *to, int32_t id),
                  void *to, char *why, size_t n_why);

/* Trains a BPE model of vocab pieces in LLaMA's conventions (unk 0, bos 1, eos 2, byte fallback, identity
 * normalization, a space before a text, digits apart) on n lines, line i of length[i] bytes. The content
 * of its tokenizer.model is in *model, freed with free(). */
int esp_sp_train(char **model, size_t *n_model, size_t vocab, const char *const *line,
                 const size_t *length, size_t n, char *why, size_t n_why);

#ifdef __cplusplus
}
#endif

#endif
