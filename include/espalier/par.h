/* par.h - the process grid, pipeline x data. Sample j belongs to data index j mod n_data.
 *
 * A pipeline stage is a contiguous range of layers; ranks with the same data index send a sample's
 * activations from one pipeline stage to the next. Ranks of one stage are neighbours in world, so that a
 * node maps few layers.
 */
#ifndef ESPALIER_PAR_H
#define ESPALIER_PAR_H

#include <stddef.h>

#include "espalier/digest.h"
#include "espalier/status.h"

typedef struct esp_grid {
    MPI_Comm world;     /* duplicate of the communicator given to esp_grid_init; owned     */
    MPI_Comm data;      /* ranks that hold the same layers and share the samples; owned    */
    MPI_Comm pipeline;  /* ranks that hold the same samples and share the layers; owned    */
    int rank, size;     /* in world                                               */
    int i_data, n_data; /* in data                                                */
    int i_pipeline, n_pipeline; /* in pipeline: which pipeline stage of how many          */
    int n_threads;              /* OpenMP threads of each rank                            */
} esp_grid;

/* A grid of one pipeline stage. n_threads 0: what OpenMP would use by itself. Sets the OpenMP threads of this
 * process. Collective on comm. */
void esp_grid_init(esp_grid *g, int n_threads, MPI_Comm comm);
void esp_grid_free(esp_grid *g);

/* The same ranks as n_pipeline x (size / n_pipeline). ESP_EUSAGE, and the grid as it was, when
 * n_pipeline does not divide the number of ranks. Collective on g->world. */
esp_status esp_grid_shape(esp_grid *g, size_t n_pipeline);

/* [begin, end) of n items that belong to index i of n_parts: contiguous, sizes differ by at most 1. */
void esp_share(size_t *begin, size_t *end, size_t n, int i, int n_parts);

/* ESP_EUSAGE where ranks hold different contents of what should be one thing, such as a file: the message
 * names it ("what"), two ranks that differ, and their hosts. words: digest of this rank's content, NULL
 * where it has none. Collective on comm. */
esp_status esp_agree_same(const uint64_t words[ESP_DIGEST_WORDS], const char *what, MPI_Comm comm);

/* Broadcast of a string from rank 0; on the others *s is fresh and the caller frees it.
 * Collective on comm. */
void esp_bcast_string(char **s, MPI_Comm comm);

#endif
