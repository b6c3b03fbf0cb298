/* batch.h - token samples, and the ragged batches that one forward takes.  Samples of different lengths
 * lie one after another without padding. What a sample gives does not depend on its neighbours, hence
 * neither on the number of ranks nor of threads.  A sample may continue another one of the batch: its
 * tokens see that one's, too, and count their positions on from there. So what several samples have in
 * common is computed once, and each gives the same bits as if it was there as a whole.  A batch goes
 * through a model in chunks of whole samples, so that the scratch of a block need not have room for all
 * of it. */
#ifndef ESPALIER_BATCH_H
#define ESPALIER_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "espalier/digest.h"

#define ESP_NO_TARGET (-1) /* a position whose prediction does not count */

typedef struct esp_samples {
    size_t n;         /* samples                                                     */
    size_t *start;    /* [n + 1] owned; sample j is tokens start[j] .. start[j+1]-1   */
    int32_t *ids;     /* [start[n]] owned                                            */
    int32_t *targets; /* [start[n]] owned; the id each position is to predict         */
    size_t *back;     /* [n] owned; sample j continues sample j - back[j]; 0: it begins by itself.
                       * NULL: so do all                                              */
} esp_samples;

/* Appends a sample of ids [n] to s [in,out], {0} at first. Position t predicts ids[t + 1] when counts [n] is
 * NULL or counts[t + 1] is not 0; the last position predicts nothing. Local. */
void esp_samples_add(esp_samples *s, const int32_t *ids, const uint8_t *counts, size_t n);

/* Appends a sample of the first n of ids [n + 1], whose positions from `first` on predict the next id:
 * ids[n] is predicted, and is no part of the sample. Local. */
void esp_samples_add_continuation(esp_samples *s, const int32_t *ids, size_t n, size_t first);

/* Appends a sample of ids [n] with targets [n] that continues the one `back` samples before it, which
 * itself begins by itself; back 0: none. Local. */
void esp_samples_append(esp_samples *s, const int32_t *ids, const int32_t *targets, size_t n,
                        size_t back);
void esp_samples_free(esp_samples *s); /* safe twice and on {0} */

typedef struct esp_text_size {
    size_t samples, tokens, longest; /* longest: tokens of the longest sample */
} esp_text_size;

esp_text_size esp_samples_size(const esp_samples *s); /* Local. */

/* Bytes of the arrays of samples of that size. Local. */
size_t esp_samples_bytes(esp_text_size t);

/* Sizes of the samples of the data rank that has the most, when n samples of the text `all` are shared out
 * over n_data ranks; samples have as many tokens as those of the text on average. Local. */
esp_text_size esp_text_share(esp_text_size all, size_t n, size_t n_data);

/* Samples of data rank i of n: i, i + n, ... Where there is none, sample 0, which does not count, so that the
 * rank keeps step. pick [out, size->samples]: owned by the caller; size [out]: of those picked. Returns how
 * many count. Local. */
size_t esp_samples_of_rank(size_t **pick, esp_text_size *size, const esp_samples *s, int i, int n);

/* words [out]: digest of the samples, targets included. Local. */
void esp_samples_digest(uint64_t words[ESP_DIGEST_WORDS], const esp_samples *s);

/* Tokens of the longest sample (0 of none), and positions with a target in sample j. Local. */
size_t esp_samples_longest(const esp_samples *s);
size_t esp_samples_targets(const esp_samples *s, size_t j);

/* Samples whose first tokens attend to each other and whose others are generated (GLM, Du et al. 2022): the
 * tokens before the first `start` are the prefix, and those that follow have positions in a block at the
 * place of a mask token. */
typedef struct esp_prefix_rule {
    int32_t start;   /* id                                                                   */
    int32_t mask[2]; /* ids; the place is the first mask[0] of the prefix, else of mask[1],
                      * else the last token of the prefix                                    */
} esp_prefix_rule;

typedef struct esp_batch {
    const esp_prefix_rule *rule; /* borrowed, for esp_batch_fill; NULL: no prefixes   */
    size_t n_samples;
    size_t n_tok;     /* = start[n_samples]                                          */
    size_t position;  /* position of the first token of each sample; 0 but in decoding */
    size_t *start;    /* [n_samples + 1] owned                                       */
    int32_t *ids;     /* [n_tok] owned                                               */
    int32_t *targets; /* [n_tok] owned; ESP_NO_TARGET where nothing is predicted      */
    uint64_t *key;    /* [n_samples] owned; names the sample in random streams        */
    size_t *prefix;   /* [n_samples] owned; tokens of its prefix, 0 without           */
    size_t *place;    /* [n_samples] owned; position of all tokens after the prefix    */
    size_t *back;     /* [n_samples] owned; as in esp_samples, 0 in decoding           */
    size_t n_chunks;
    size_t *chunk;    /* [n_chunks + 1] owned; chunk c is samples chunk[c] .. chunk[c + 1] - 1 */
    size_t chunk_tok; /* tokens of a chunk at most, but one sample, with those that continue it, at
                       * least; 0: all one chunk                                      */
    size_t max_samples, max_tok;
} esp_batch;

/* b [out, owned]: room for max_samples samples with max_tok tokens together; rule is NULL, chunk_tok 0.
 * Local. */
void esp_batch_init(esp_batch *b, size_t max_samples, size_t max_tok);
size_t esp_batch_bytes(size_t max_samples, size_t max_tok); /* that it allocates. Local. */
void esp_batch_free(esp_batch *b);                          /* safe twice and on {0} */

/* Copies samples pick [n] of s into b [in,out], n at least 1, and cuts chunks; the key of each is its
 * index in s, position is 0. None may be empty, and they must fit the room of esp_batch_init; a sample
 * that others of the batch continue stands as far before them as in s, and has their prefix, if they have
 * one, to the end. Local. */
void esp_batch_fill(esp_batch *b, const esp_samples *s, const size_t *pick, size_t n);

/* chunk [out, owned]: for esp_batch_chunk, chunks of at most max_samples samples and max_tok tokens.
 * Local. */
void esp_batch_init_chunk(esp_batch *chunk, size_t max_samples, size_t max_tok);
size_t esp_batch_chunk_bytes(size_t max_samples); /* that it allocates. Local. */
void esp_batch_free_chunk(esp_batch *chunk);      /* safe twice and on {0} */

/* Makes chunk [in,out] chunk c of b as a batch of its own, which borrows ids, targets, keys and prefixes of
 * b. Returns the first row of the chunk in b. Local. */
size_t esp_batch_chunk(esp_batch *chunk, const esp_batch *b, size_t c);

/* Tokens before the first of sample j: those of earlier batches, and of the sample that it continues.
 * Local. */
size_t esp_batch_before(const esp_batch *b, size_t j);

/* Positions of token t of sample j, counted from esp_batch_before on. Without a prefix: its index, and
 * block position 0. With one: after it the position stays at the place, and the block counts 1, 2, ...
 * Local. */
size_t esp_batch_position(const esp_batch *b, size_t j, size_t t);
size_t esp_batch_block_position(const esp_batch *b, size_t j, size_t t);

/* Tokens of the longest sample of the batch; the most of a sample with those before it. Local. */
size_t esp_batch_longest(const esp_batch *b);
size_t esp_batch_reach(const esp_batch *b);

#endif
