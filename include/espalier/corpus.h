/* corpus.h - from files of text or ids to samples. */
#ifndef ESPALIER_CORPUS_H
#define ESPALIER_CORPUS_H

#include <stdbool.h>

#include "espalier/batch.h"
#include "espalier/tokenizer.h"

/* Documents of a corpus. A document is one text, or a prompt and its answer (Alpaca). */
typedef struct esp_document {
    char *text;      /* owned; prompt and answer joined   */
    size_t n;        /* bytes                             */
    size_t n_prompt; /* bytes of the prompt; 0 for a text */
} esp_document;

typedef struct esp_corpus {
    esp_document *documents; /* [n] owned */
    size_t n;
    bool instructions; /* Alpaca: documents are prompt and answer */
} esp_corpus;

/* By name and content: *.jsonl, *.ndjson or *.json with one object a line, *.json with an array of
 * objects, else plain text. An object is {instruction, input, output} (Alpaca: its prompt is put together,
 * input may be absent or "") or has a text under text, story, content, or under the field given; both kinds
 * in one file are refused, empty texts are left out. Plain text is cut at <|endoftext|> where it occurs,
 * else at empty lines (a line of blanks is not empty: WikiText's files are one document); line ends
 * around a document go. field NULL: the usual names. ESP_EFORMAT with file and line; an empty corpus, and a
 * file that is no text (text.h), is refused. Local. */
esp_status esp_corpus_read(esp_corpus *c, const char *path, const char *field);
void esp_corpus_free(esp_corpus *c); /* safe twice and on {0} */

/* How samples are cut from documents. */
typedef enum esp_cut {
    ESP_CUT_WINDOWS,  /* all documents joined, each as the tokenizer's rules begin and end it, then
                         windows of length; the last may be shorter */
    ESP_CUT_RANDOM,   /* a random start in a random document of more than length tokens; a document
                         serves again when all others have */
    ESP_CUT_DOCUMENTS /* one sample a document, in their order, cut off at length */
} esp_cut;

/* Documents of instructions end with EOS, so that a model learns to stop. A sample without a target (its
 * answer was cut off) is left out. */
typedef struct esp_sampling {
    esp_cut cut;
    size_t length;    /* T                                                              */
    size_t count;     /* samples wanted, the first; 0: all (refused for ESP_CUT_RANDOM)  */
    size_t stride;    /* windows: distance of starts; 0: length. With stride < length a target
                         counts in the first window that holds it, so each counts once */
    uint64_t seed;    /* of ESP_CUT_RANDOM                                              */
    bool answer_only; /* instructions: the loss counts the answer's tokens only         */
} esp_sampling;

/* ESP_EUSAGE when no document is long enough or length is longer than max_positions, ESP_EFORMAT for
 * ids beyond vocab; path is for messages. The same on every rank: from the seed alone. Local. */
esp_status esp_samples_draw(esp_samples *s, const esp_corpus *c, const esp_tokenizer *t,
                            esp_sampling how, size_t max_positions, size_t vocab, const char *path);

/* A file of ids, one sample a line, blanks between; empty lines are skipped. ESP_EFORMAT with line and
 * value. Local. */
esp_status esp_samples_read_ids(esp_samples *s, const char *path, size_t max_positions,
                                size_t vocab);

/* Token file of `espalier tokenize`, written by one process: /ids int32 of all documents, /start int64
 * [documents + 1] their borders, /prompt int64 [documents] how many ids of each are prompt; attributes
 * corpus (path) and tokenizer (digest). Samples drawn from it are those drawn from the corpus. Local. */
esp_status esp_tokens_save(const char *path, const esp_corpus *c, const esp_tokenizer *t,
                           const char *corpus_path);

/* Samples from a corpus file of any kind above or a token file (*.h5): opens, tokenizes, draws. A token
 * file of another tokenizer is refused; t NULL is fine for a token file. Every rank by itself; the
 * status is the same on all. Local. */
esp_status esp_samples_load(esp_samples *s, const char *path, const char *field,
                            const esp_tokenizer *t, esp_sampling how, size_t max_positions,
                            size_t vocab);

#endif
