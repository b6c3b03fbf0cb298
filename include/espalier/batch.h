/* batch.h - token samples, and the ragged batches that one forward takes.
 *
 * Samples of different lengths lie one after another without padding. The rows (tokens) of a batch
 * are cut into row blocks, the unit of work of the linear kernels: a row's result depends on its
 * block alone, so where every block lies in one sample (min_rows = 1) what a sample gives does not
 * depend on its neighbours, hence neither on the number of ranks nor of threads.
 */
#ifndef ESPALIER_BATCH_H
#define ESPALIER_BATCH_H

#include <stddef.h>
#include <stdint.h>

#define ESP_NO_TARGET (-1)          /* a position whose prediction does not count */
#define ESP_ROW_BLOCK ((size_t)128) /* rows of a row block at most               */

typedef struct esp_samples {
    size_t n;         /* samples                                                     */
    size_t *start;    /* [n + 1] owned; sample j is tokens start[j] .. start[j+1]-1   */
    int32_t *ids;     /* [start[n]] owned                                            */
    int32_t *targets; /* [start[n]] owned; the id each position is to predict         */
} esp_samples;

/* Appends a sample of n ids. Position t predicts ids[t + 1] when counts is NULL or counts[t + 1] is
 * not 0; the last position predicts nothing. Local. */
void esp_samples_add(esp_samples *s, const int32_t *ids, const uint8_t *counts, size_t n);
void esp_samples_free(esp_samples *s);

/* Tokens of the longest sample, and positions with a target in sample j. Local. */
size_t esp_samples_longest(const esp_samples *s);
size_t esp_samples_targets(const esp_samples *s, size_t j);

typedef struct esp_batch {
    size_t n_samples;
    size_t n_tok;     /* = start[n_samples]                                          */
    size_t position;  /* position of the first token of each sample; 0 but in decoding */
    size_t *start;    /* [n_samples + 1] owned                                       */
    int32_t *ids;     /* [n_tok] owned                                               */
    int32_t *targets; /* [n_tok] owned; ESP_NO_TARGET where nothing is predicted      */
    uint64_t *key;    /* [n_samples] owned; names the sample in random streams        */
    size_t n_blocks;
    size_t *block; /* [n_blocks + 1] owned; row block i is rows block[i] .. block[i+1]-1 */
    size_t max_samples, max_tok;
} esp_batch;

/* Room for max_samples samples with max_tok tokens together. Local. */
void esp_batch_init(esp_batch *b, size_t max_samples, size_t max_tok);
void esp_batch_free(esp_batch *b);

/* Takes samples pick[0..n) of s; key of each is its index in s. Blocks close at the end of a sample
 * once they hold min_rows rows (1: no block spans two samples) and never exceed ESP_ROW_BLOCK rows.
 * They must fit the room of esp_batch_init. Local. */
void esp_batch_fill(esp_batch *b, const esp_samples *s, const size_t *pick, size_t n,
                    size_t min_rows);

/* Tokens of the longest sample. Local. */
size_t esp_batch_longest(const esp_batch *b);

#endif
