/* exchange_impl.h - what the ranks of a training send each other of the trained numbers, piece by piece and
 * without blocking: sums of gradients, each rank its share, and the values of the shares to all.
 *
 * Flow: esp_exchange_sum or _gather of pieces 0, 1, ..., esp_exchange_progress now and then ->
 * esp_exchange_finish. Sums and gatherings are not under way together.
 *
 * A sum sends every rank its share of the piece and adds what comes from the others in the order of the
 * ranks. That is the least that can be sent, and several times as fast as MPI_Ireduce_scatter of Open MPI 4,
 * which sums whole pieces along a tree.
 */
#ifndef ESPALIER_EXCHANGE_IMPL_H
#define ESPALIER_EXCHANGE_IMPL_H

#include "espalier/params.h"

typedef struct esp_exchange {
    esp_params *params; /* borrowed                                                           */
    int *count;         /* [n_pieces, size] owned: numbers of a rank's share of a piece       */
    int *place;         /* [n_pieces, size] owned: where it begins in the piece               */
    MPI_Request *gatherings; /* [n_pieces] owned                                               */
    size_t n_gatherings;     /* under way                                                      */
    MPI_Request *messages;   /* [ESP_PIECES_AT_ONCE, 2 size] owned: of the sums under way        */
    float *buffer; /* [ESP_PIECES_AT_ONCE, capacity] owned: shares that come from others   */
    size_t capacity;
    size_t due, begun,
        added;     /* pieces to be summed, whose messages are under way, that are done  */
    MPI_Comm comm; /* borrowed; carries nothing else between a start and finish         */
} esp_exchange;

/* After esp_params_train with the rank and size of comm. Local. */
void esp_exchange_init(esp_exchange *x, esp_params *p, MPI_Comm comm);
size_t esp_exchange_bytes(const esp_params *p); /* that it takes */
void esp_exchange_free(esp_exchange *x);        /* safe twice and on {0} */

/* Starts the sum of piece k over the ranks: when it is finished, this rank's share of it in grad is the sum.
 * Collective on comm, as the next one, but without waiting. */
void esp_exchange_sum(esp_exchange *x, size_t k);

/* Starts to bring the values of piece k, of which each rank has its share, to all ranks. */
void esp_exchange_gather(esp_exchange *x, size_t k);

void esp_exchange_progress(esp_exchange *x); /* lets messages go on. Local. */
void esp_exchange_finish(esp_exchange *x);   /* waits for all that was started */

#endif
