/* pretokenize_impl.h - what happens to a text before its pieces are looked up: the normalizers and
 * pre-tokenizers of tokenizer.json as one list of steps.
 *
 * Every step takes a list of pieces and makes another: it rewrites pieces, puts something before
 * them, or splits them. A named pre-tokenizer is one or several steps (Metaspace: replace, prefix, split).
 */
#ifndef ESPALIER_PRETOKENIZE_IMPL_H
#define ESPALIER_PRETOKENIZE_IMPL_H

#include "espalier/status.h"
#include "pattern_impl.h"
#include "rewrite_impl.h"
#include "text_impl.h"

typedef enum esp_pretokenize_kind {
    ESP_PRETOKENIZE_REPLACE, /* every match of pattern becomes text          */
    ESP_PRETOKENIZE_REWRITE, /* a piece becomes what rewrite makes of it     */
    ESP_PRETOKENIZE_PREFIX,  /* text is put before a piece                   */
    ESP_PRETOKENIZE_SPLIT    /* a piece is cut around the matches of pattern */
} esp_pretokenize_kind;

/* Which pieces a prefix is put before; never an empty one. */
typedef enum esp_prefix {
    ESP_PREFIX_EVERY,
    ESP_PREFIX_UNLESS_THERE, /* those that do not begin with it                              */
    ESP_PREFIX_AT_START      /* the piece at the start of the text, unless it begins with it */
} esp_prefix;

/* What becomes of a match; the text between matches stays in any case. */
typedef enum esp_split {
    ESP_SPLIT_ISOLATED,   /* a piece                                                 */
    ESP_SPLIT_REMOVED,    /* nothing                                                 */
    ESP_SPLIT_PREVIOUS,   /* the end of the piece before it, unless that is a match  */
    ESP_SPLIT_NEXT,       /* the start of the piece after it, unless that is a match */
    ESP_SPLIT_CONTIGUOUS, /* adjacent matches are one piece                          */
    ESP_N_SPLIT
} esp_split;

typedef struct esp_pretokenize_op {
    esp_pretokenize_kind kind;
    pcre2_code *pattern; /* owned; REPLACE and SPLIT                     */
    char *text;          /* owned; REPLACE and PREFIX                    */
    esp_rewrite *rewrite;
    esp_prefix prefix;
    esp_split split;
    bool invert; /* SPLIT: matches and the text between them change roles */
} esp_pretokenize_op;

typedef struct esp_pretokenizer {
    esp_pretokenize_op *step; /* [n] owned */
    size_t n;
} esp_pretokenizer;
esp_pretokenize_op *
esp_pretokenizer_add(esp_pretokenizer *s,
                     esp_pretokenize_kind kind); /* zeroed but for kind; the list owns it */
void esp_pretokenizer_add_replace(esp_pretokenizer *s, const char *literal,
                                  const char *text); /* one more REPLACE */
void esp_pretokenizer_free(esp_pretokenizer *s);     /* safe twice and on {0} */

/* Pieces of a text, one after another in one buffer. */
typedef struct esp_pieces {
    esp_byte_string text;
    size_t *end; /* [n] owned; piece i is text from end[i - 1] (0 for the first) to end[i] */
    size_t n, capacity;
} esp_pieces;
void esp_pieces_clear(esp_pieces *p);
void esp_pieces_add(esp_pieces *p, const char *s, size_t n); /* one more piece */
const char *esp_pieces_at(const esp_pieces *p, size_t i, size_t *n);
void esp_pieces_free(esp_pieces *p); /* safe twice and on {0} */

/* Takes the pieces through all steps; spare is room to work in. *at_start: the first piece begins the
 * text; false afterwards when that beginning went. Bytes that are not UTF-8 match no pattern and pass.
 * ESP_EFAILED when PCRE2 gives up. */
esp_status esp_pretokenizer_run(const esp_pretokenizer *s, esp_pieces *p, esp_pieces *spare,
                                bool *at_start);

#endif
