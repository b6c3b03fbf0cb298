/* added_impl.h - added tokens: strings that are one token wherever they stand in a text, found before
 * the model sees it.
 *
 * Those with normalized = false are sought in the text as it is; what lies between them is normalized,
 * and the others are sought, normalized alike, in that.
 */
#ifndef ESPALIER_ADDED_IMPL_H
#define ESPALIER_ADDED_IMPL_H

#include "text_impl.h"

typedef struct esp_added {
    char *content; /* owned, 0-terminated                      */
    char *sought;  /* owned; content or its normalized form    */
    size_t n;      /* bytes of sought                          */
    int32_t id;
    bool special; /* left out of decoded text on request    */
    bool normalized;
    bool lstrip, rstrip; /* takes the white space before, after it   */
    bool single_word;    /* no word character right before, after it */
} esp_added;

typedef struct esp_added_set {
    esp_added *token; /* [n] owned; after esp_added_sort the longest sought comes first */
    size_t n;
    bool begins[2][256]; /* [normalized][byte]: a token is sought that begins with it */
} esp_added_set;
esp_added *esp_added_new(esp_added_set *a); /* zeroed; the set owns it */
void esp_added_sort(esp_added_set *a);      /* when all are there */
void esp_added_free(esp_added_set *a);      /* safe twice and on {0} */

/* A token in a text, with the white space it takes. */
typedef struct esp_added_match {
    const esp_added *token; /* NULL: there is none; then begin = end = n */
    size_t begin, end;
    size_t
        seek; /* where the next one is sought: white space that this one takes may be a token, too */
} esp_added_match;

/* First token at or after byte seek, the longest of those that begin there; it takes no white space
 * before byte done. */
esp_added_match esp_added_find(const esp_added_set *a, bool normalized, const char *s, size_t n,
                               size_t seek, size_t done);

#endif
