/* hand_impl.h - rows of a batch from stage to stage, a chunk a message, while the chunks are computed.
 *
 * Flow: esp_hand_expect (all messages of a direction) -> for each chunk: esp_hand_take, compute,
 * esp_hand_give -> esp_hand_finish before the rows given are written again. On one stage all do nothing.
 */
#ifndef ESPALIER_HAND_IMPL_H
#define ESPALIER_HAND_IMPL_H

#include "espalier/batch.h"
#include "espalier/par.h"

typedef enum esp_hand_way { ESP_HAND_ON, ESP_HAND_BACK } esp_hand_way; /* activations, gradients */

typedef struct esp_hand {
    const esp_grid *grid;  /* borrowed; NULL: one stage */
    MPI_Request *expected; /* [max_chunks] owned        */
    MPI_Request *given;    /* [max_chunks] owned        */
    size_t n_expected, n_given;
} esp_hand;

void esp_hand_init(esp_hand *h, const esp_grid *grid, size_t max_chunks);
size_t esp_hand_bytes(const esp_grid *grid, size_t max_chunks); /* that it takes */
void esp_hand_free(esp_hand *h); /* finishes; safe twice and on {0} */

/* Rows [n_tok, D] of all chunks will come from the neighbour on that way; where it has none nothing is
 * expected. Local, as all here are: they meet those of the neighbours. */
void esp_hand_expect(esp_hand *h, esp_hand_way way, float *rows, size_t D, const esp_batch *batch);

/* Waits for the rows of chunk c, where they are expected. */
void esp_hand_take(esp_hand *h, size_t c);

/* Starts to send the rows of chunk c of rows [n_tok, D] to the next stage on that way, if there is one. */
void esp_hand_give(esp_hand *h, esp_hand_way way, const float *rows, size_t D, size_t c,
                   const esp_batch *batch);

/* Lets messages go on; waits until all that was given is gone. */
void esp_hand_progress(esp_hand *h);
void esp_hand_finish(esp_hand *h);

#endif
