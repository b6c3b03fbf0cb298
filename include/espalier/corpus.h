/* corpus.h - from files of text or ids to samples. */
#ifndef ESPALIER_CORPUS_H
#define ESPALIER_CORPUS_H

#include <stdbool.h>

#include "espalier/batch.h"
#include "espalier/tokenizer.h"

/* Documents of a corpus. A document is one text, or a prompt and its answer (Alpaca). */
typedef struct esp_document {
    char *text;      /* owned; prompt and answer joined */
    size_t n;        /* bytes                           */
    size_t n_prompt; /* bytes of the prompt; 0 for plain text */
} esp_document;

typedef struct esp_corpus {
    esp_document *documents; /* [n] owned */
    size_t n;
    bool instructions; /* Alpaca: documents are prompt and answer */
} esp_corpus;

/* By content and name: *.jsonl (one object a line; field text, story, content or the one given), a JSON
 * array of {instruction, input, output} or {text}, else plain text: documents separated by
 * <|endoftext|> where it occurs, else by blank lines. field NULL: the usual names.
 * ESP_EFORMAT with file and line; an empty corpus is refused. Local. */
esp_status esp_corpus_read(esp_corpus *c, const char *path, const char *field);
void esp_corpus_free(esp_corpus *c); /* safe twice and on {0} */

/* How samples are cut from documents. */
typedef enum esp_cut {
    ESP_CUT_WINDOWS, /* all documents joined (BOS and EOS between), non-overlapping windows of length   */
    ESP_CUT_RANDOM, /* count samples: a random start in a random document that is long enough          */
    ESP_CUT_DOCUMENTS /* one sample a document, cut off at length                                        */
} esp_cut;

typedef struct esp_sampling {
    esp_cut cut;
    size_t length; /* T                                                                     */
    size_t count;  /* samples wanted; 0: all (needed for ESP_CUT_RANDOM)                    */
    size_t stride; /* windows: distance of starts; 0: length. With stride < length a target counts
                             in the first window that holds it, so each counts once */
    uint64_t seed;
    bool answer_only; /* instructions: the loss counts the answer's tokens only                 */
} esp_sampling;

/* ESP_EUSAGE when no document is long enough or a length is longer than max_positions, ESP_EFORMAT for
 * ids beyond vocab; path is for messages. The same on every rank: from the seed alone. Local. */
esp_status esp_samples_draw(esp_samples *s, const esp_corpus *c, const esp_tokenizer *t,
                            esp_sampling how, size_t max_positions, size_t vocab, const char *path);

/* A file of ids, one sample a line, blanks between. ESP_EFORMAT with line and value. Local. */
esp_status esp_samples_read_ids(esp_samples *s, const char *path, size_t max_positions,
                                size_t vocab);

/* Token file of `espalier tokenize` (HDF5: /ids int32, /start int64, attributes corpus, tokenizer digest):
 * written by one process; esp_corpus-free way to windows. Documents keep their borders. Local. */
esp_status esp_tokens_save(const char *path, const esp_corpus *c, const esp_tokenizer *t,
                           const char *corpus_path);

/* Samples from a corpus file of any kind above, a token file (*.h5), or ids (*.txt of numbers only when
 * as_ids): opens, tokenizes, draws. tokenizer NULL is fine for files of ids. Every rank by itself;
 * the status is the same on all. Local. */
esp_status esp_samples_load(esp_samples *s, const char *path, const char *field,
                            const esp_tokenizer *t, esp_sampling how, size_t max_positions,
                            size_t vocab);

#endif
