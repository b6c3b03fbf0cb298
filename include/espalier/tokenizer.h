/* tokenizer.h - text to ids and back, from the tokenizer files of a model folder.
 *
 * Of the files in the folder the first of these is taken: tokenizer.json (BPE, with the normalizers,
 * pre-tokenizers, added tokens and decoders of the Hugging Face library; what this program does not know of
 * them is refused by name); tokenizer.model (SentencePiece, BPE or unigram); ice_text.model (that of
 * ChatGLM-6B); vocab.json with merges.txt (byte-level BPE of GPT-2, OPT and Qwen2). Added tokens are found
 * in text before anything else. BOS and EOS follow the template of the post-processor; where there is none,
 * add_bos_token and add_eos_token of tokenizer_config.json (absent: neither, but for CodeLlamaTokenizer's
 * BOS). A truncation or padding that the file asks for is left out: the caller cuts.
 *
 * tokenizer.model alone is read as transformers 5 reads it. LlamaTokenizer, CodeLlamaTokenizer and
 * GemmaTokenizer take its pieces as the vocabulary of a BPE; LlamaTokenizer puts a space before each stretch
 * of text between added tokens with "legacy": true, before the first alone where the key is absent or
 * false, and none where a space is there. Every other class, and any with a model of type mistral,
 * mixtral or phi3, is SentencePiece itself, where an absent "legacy" is true.
 *
 * ChatGLM: a text follows [gMASK] sop (ChatGLM-6B: [gMASK] <sop>). To ChatGLM-6B these say that what is
 * before them was read and what is after them is written, so a text alone follows an empty prompt, and
 * the tokens of a document with a prompt go between the prompt and its answer
 * (esp_tokenizer_prompt_first). The special tokens that ChatGLM2 appends to its vocabulary are not sought
 * in text: one is called sop.
 *
 * Text goes round: decode(encode(text, special = false), skip_special = false) gives the same bytes, a
 * stretch of text at a time (the space that a vocabulary puts before a stretch is taken away again), but
 *   - for characters that become the unknown token, and U+2581 itself in a metaspace vocabulary;
 *   - for a text that begins with a space where the rule is "a space before it unless one is there";
 *   - for a pre-tokenizer that removes, a normalizer that rewrites, and added tokens that take the
 *     white space around them;
 *   - for a tokenizer.model whose own normalizer rewrites text or folds white space (LLaMA's does not).
 * Bytes that are not UTF-8 go round through byte-level and byte-fallback vocabularies of tokenizer.json;
 * tokenizer.model refuses them.
 *
 * With skip_special the text is the one to show, as the decoders of tokenizer.json make it: only the space
 * before the whole text is taken away, and bytes that are not UTF-8 become U+FFFD.
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
    size_t n, capacity;
} esp_ids;

void esp_ids_add(esp_ids *ids, int32_t id); /* appends it. Local. */
void esp_ids_free(esp_ids *ids);            /* safe twice and on {0} */

/* t [out, owned]: the tokenizer of a model folder. ESP_EUSAGE when the folder has none, ESP_EFORMAT when it
 * is damaged or asks for what this program does not know (named: the field and its value), ESP_EIO; *t is
 * NULL then. Local. */
esp_status esp_tokenizer_open(esp_tokenizer **t, const char *model_dir);
void esp_tokenizer_free(esp_tokenizer *t); /* NULL is fine */

/* Digest of the tokenizer's file and of what the folder's other files make of it (class, spaces,
 * added tokens, BOS and EOS). Owned by t. Local. */
const char *esp_tokenizer_digest(const esp_tokenizer *t);

/* Largest id + 1, and the tokens that are named BOS and EOS (-1: none), whether or not the rules add
 * them. Local. */
size_t esp_tokenizer_size(const esp_tokenizer *t);
int32_t esp_tokenizer_bos(const esp_tokenizer *t);
int32_t esp_tokenizer_eos(const esp_tokenizer *t);

/* Whether the tokens that begin a text go between a prompt and its answer (ChatGLM-6B). Local. */
bool esp_tokenizer_prompt_first(const esp_tokenizer *t);

/* Appends to ids [in,out] those of n bytes of UTF-8 text, and with `special` BOS and EOS as the model's own
 * rules say. ESP_EFORMAT for text that the tokenizer cannot express (no byte fallback, no unk), ESP_EFAILED
 * where a pattern of it takes too long; ids are as before then. Local. */
esp_status esp_tokenizer_encode(const esp_tokenizer *t, esp_ids *ids, const char *text, size_t n,
                                bool special);

/* Appends the ids of a prompt that an answer is to follow, with what the model's own rules put before a
 * text, or between a prompt and its answer (esp_tokenizer_prompt_first). Errors as esp_tokenizer_encode.
 * Local. */
esp_status esp_tokenizer_encode_prompt(const esp_tokenizer *t, esp_ids *ids, const char *text,
                                       size_t n);

/* Whether an id is a byte alone (byte fallback), which may be part of a character. Local. */
bool esp_tokenizer_is_byte(const esp_tokenizer *t, int32_t id);

/* text [out, owned]: the text of ids [n], 0-terminated, special tokens left out when skip_special. n_bytes
 * [out]: its length without the 0; may be NULL. ESP_EFORMAT for an id that is no token, both are untouched
 * then. Local. */
esp_status esp_tokenizer_decode(const esp_tokenizer *t, char **text, size_t *n_bytes,
                                const int32_t *ids, size_t n, bool skip_special);

/* Trains a SentencePiece BPE model of vocab pieces on a corpus (any that esp_corpus_read takes), in LLaMA's
 * conventions: <unk> 0, <s> 1, </s> 2, bytes 3 .. 258, digits apart, nothing normalized. Writes
 * tokenizer.model, tokenizer_config.json (BOS yes, EOS no) and special_tokens_map.json into the folder, which
 * is created; with `replace` over files of these names. The same corpus gives the same files. ESP_EUSAGE when
 * the corpus cannot fill the vocabulary, vocab cannot hold the bytes, or a file of these names is there
 * without `replace`; errors of esp_corpus_read; ESP_EIO. Local. */
esp_status esp_tokenizer_train(const char *model_dir, const char *corpus_path, size_t vocab,
                               bool replace);

#endif
