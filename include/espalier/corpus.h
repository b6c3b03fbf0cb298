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

/* Reads a corpus by name and content: *.jsonl, *.ndjson or *.json with one object per line, *.json with an
 * array of objects, else plain text. An object is {instruction, input, output} (Alpaca: its prompt is put
 * together, input may be absent or "") or has a text under text, story or content, or under `field` (NULL:
 * these); both kinds in one file are refused, empty texts are left out. Plain text is cut at <|endoftext|>
 * where it occurs, else at empty lines (a line of spaces is not empty: WikiText's files are one document);
 * line ends around a document go. ESP_EFORMAT, with line or element, for what is none of these, an empty
 * corpus, and a file that is no text (text.h); ESP_EUSAGE when it is not there or does not fit the memory
 * held to (limit.h); ESP_EIO. *c [out] is {0} then. Local. */
esp_status esp_corpus_read(esp_corpus *c, const char *path, const char *field);
void esp_corpus_free(esp_corpus *c); /* safe twice and on {0} */

/* How samples are cut from documents. */
typedef enum esp_cut {
    ESP_CUT_WINDOWS,  /* all documents joined, each as the tokenizer's rules begin and end it, then
                         windows of length; the last may be shorter */
    ESP_CUT_RANDOM,   /* a random start in a random document of more than length tokens; a document
                         serves again when all others have */
    ESP_CUT_DOCUMENTS /* one sample per document, in their order, cut off at length */
} esp_cut;

/* Documents of instructions end with EOS, so that a model learns to stop. A sample without a target (its
 * answer was cut off) is left out. */
typedef struct esp_sampling {
    esp_cut cut;
    size_t length;    /* T                                                              */
    size_t count;     /* samples wanted, the first; 0: all (refused for ESP_CUT_RANDOM)  */
    size_t stride;    /* windows: distance of starts, at most length; 0: length. A target counts
                         in the first window that holds it, so each counts once          */
    uint64_t seed;    /* of ESP_CUT_RANDOM                                              */
    bool answer_only; /* instructions: the loss counts the answer's tokens only         */
} esp_sampling;

/* Draws samples [out] from a corpus, tokenized by t; path is for messages. They follow from corpus,
 * tokenizer, `how` and its seed: the same on every rank. ESP_EUSAGE when no document is long enough,
 * how.length is not within 2 .. max_positions, or the samples do not fit the memory held to; ESP_EFORMAT for
 * ids beyond vocab, and as esp_tokenizer_encode. *s is {0} then. Local. */
esp_status esp_samples_draw(esp_samples *s, const esp_corpus *c, const esp_tokenizer *t,
                            esp_sampling how, size_t max_positions, size_t vocab, const char *path);

/* Samples of n texts, interleaved in proportion to weight [n], each above 0: sample k is the next of the text
 * that is furthest behind its share of k + 1 samples, method.md eq. (60). take [n, out]: how many of `count`
 * samples each text gives. Local. */
void esp_mix_counts(size_t *take, const double *weight, size_t n, size_t count);

/* mix [out, owned]: such samples, from those of each text of [n], none of which continues another one; taken
 * [n, out]: how many of each. With count so many, which the texts have, in their order. With count 0 until
 * the text whose turn it is has none left (the "first_exhausted" of Hugging Face's interleave_datasets),
 * those of a text in an order drawn from the seed. Local. */
void esp_samples_mix(esp_samples *mix, size_t *taken, const esp_samples *of, const double *weight,
                     size_t n, size_t count, uint64_t seed);

/* Reads a file of ids, one sample of 2 .. max_positions ids below vocab per line, white space between them;
 * empty lines are skipped. ESP_EFORMAT with line and value, and for a file without samples; ESP_EUSAGE and
 * ESP_EIO as esp_corpus_read. *s [out] is {0} then. Local. */
esp_status esp_samples_read_ids(esp_samples *s, const char *path, size_t max_positions,
                                size_t vocab);

/* Writes the token file of `espalier tokenize`: /ids int32 of all documents, /start int64 [documents + 1]
 * their borders, /prompt int64 [documents] how many ids of each are prompt; attributes corpus (path) and
 * tokenizer (digest). Samples drawn from it are those drawn from the corpus. ESP_EFORMAT as
 * esp_tokenizer_encode, ESP_EUSAGE for what does not fit the memory held to, ESP_EIO. Local, by one
 * process. */
esp_status esp_tokens_save(const char *path, const esp_corpus *c, const esp_tokenizer *t,
                           const char *corpus_path);

/* Whether the file is a token file. Local. */
bool esp_tokens_made(const char *path);

/* Draws samples [out] from a corpus file of any kind above or a token file (*.h5), as esp_corpus_read and
 * esp_samples_draw. A token file of another tokenizer than t, or a damaged one, is ESP_EFORMAT; t may be NULL
 * for a token file, and is ESP_EUSAGE for text. *s is {0} after a failure. Local: ranks that read the same
 * file get the same samples. */
esp_status esp_samples_load(esp_samples *s, const char *path, const char *field,
                            const esp_tokenizer *t, esp_sampling how, size_t max_positions,
                            size_t vocab);

#endif
