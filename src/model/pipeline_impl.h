/* pipeline_impl.h - messages between pipeline stages: rows of a batch, one message per chunk, sent while
 * other chunks are computed.
 *
 * Flow: esp_pipeline_post_recvs (all messages of a direction) -> for each chunk: esp_pipeline_wait_recv,
 * compute, esp_pipeline_send -> esp_pipeline_wait_sends before the rows sent are written again. With one
 * pipeline stage all of them do nothing.
 */
#ifndef ESPALIER_PIPELINE_IMPL_H
#define ESPALIER_PIPELINE_IMPL_H

#include "espalier/batch.h"
#include "espalier/par.h"

/* Activations go forward, gradients backward. */
typedef enum esp_pipeline_way { ESP_PIPELINE_FORWARD, ESP_PIPELINE_BACKWARD } esp_pipeline_way;

typedef struct esp_pipeline {
    const esp_grid *grid; /* borrowed; NULL: one pipeline stage */
    MPI_Request *recvs;   /* [max_chunks] owned                 */
    MPI_Request *sends;   /* [max_chunks] owned                 */
    size_t n_recvs, n_sends;
} esp_pipeline;

void esp_pipeline_init(esp_pipeline *p, const esp_grid *grid, size_t max_chunks);
size_t esp_pipeline_bytes(const esp_grid *grid, size_t max_chunks); /* bytes that init allocates */
void esp_pipeline_free(esp_pipeline *p); /* waits for the sends; safe twice and on {0} */

/* Receives of all chunks of rows [n_tok, D] from the neighbour on that way; none where there is no neighbour.
 * Local, as all functions here: they match those of the neighbours. */
void esp_pipeline_post_recvs(esp_pipeline *p, esp_pipeline_way way, float *rows, size_t D,
                             const esp_batch *batch);

/* Waits for the rows of chunk c, where a receive was posted. */
void esp_pipeline_wait_recv(esp_pipeline *p, size_t c);

/* Starts to send the rows of chunk c of rows [n_tok, D] to the next pipeline stage on that way, if any. */
void esp_pipeline_send(esp_pipeline *p, esp_pipeline_way way, const float *rows, size_t D, size_t c,
                       const esp_batch *batch);

/* Gives MPI the chance to move messages on. */
void esp_pipeline_progress(esp_pipeline *p);

/* Waits until all sends are complete. */
void esp_pipeline_wait_sends(esp_pipeline *p);

#endif
