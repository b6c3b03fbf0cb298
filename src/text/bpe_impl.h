/* bpe_impl.h - byte-pair encoding: the pair of neighbours with the lowest rank is merged until none
 * is left (Sennrich, Haddow and Birch 2016). */
#ifndef ESPALIER_BPE_IMPL_H
#define ESPALIER_BPE_IMPL_H

#include "espalier/tokenizer.h"
#include "text_impl.h"

typedef struct esp_bpe_merge {
    int32_t pair[2]; /* ids of the neighbours, the key in the dictionary */
    int32_t made;    /* id of what they become                           */
} esp_bpe_merge;

typedef struct esp_bpe {
    esp_dict ids;          /* piece -> id; keys are the tokenizer's     */
    esp_dict ranks;        /* pair -> index in merges; keys are in them */
    esp_bpe_merge *merges; /* [n_merges] owned, by rank                 */
    size_t n_merges;
    int32_t byte[256];  /* id of "<0xNN>"; used when byte_fallback   */
    int32_t unk;        /* -1: none                                  */
    bool byte_fallback; /* a character without a piece becomes bytes */
    bool fuse_unk;      /* unknown neighbours are one token          */
    bool ignore_merges; /* a text that is a piece is that piece      */
    char *prefix;       /* owned; of characters that do not begin a piece, NULL: none */
    char *suffix;       /* owned; of the character that ends a piece, NULL: none      */
} esp_bpe;
void esp_bpe_free(esp_bpe *b); /* safe twice and on {0} */

/* Room to work in, kept from call to call. */
typedef struct esp_bpe_work {
    esp_byte_string character;
    struct esp_symbol *symbol;
    uint64_t *heap;
    size_t n_symbols, symbol_capacity, n_heap, heap_capacity;
} esp_bpe_work;
void esp_bpe_work_free(esp_bpe_work *w);

/* Appends the ids of one piece of n bytes in O(n log n). Bytes that are not UTF-8 are characters by
 * themselves. ESP_EFORMAT for a character that has neither piece nor bytes nor unk. Local. */
esp_status esp_bpe_encode(const esp_bpe *b, esp_bpe_work *w, esp_ids *ids, const char *s, size_t n);

#endif
