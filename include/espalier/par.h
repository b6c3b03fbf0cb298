/* par.h - the process grid, layers x data. Sample j belongs to data index j mod n_data. */
#ifndef ESPALIER_PAR_H
#define ESPALIER_PAR_H

#include <stddef.h>

#include "espalier/status.h"

typedef struct esp_grid {
    MPI_Comm world;     /* duplicate of the communicator given to esp_grid_init; owned     */
    MPI_Comm data;      /* ranks that hold the same layers and share the samples; owned    */
    int rank, size;     /* in world                                               */
    int i_data, n_data; /* in data                                                */
    int n_threads;      /* OpenMP threads of each rank                            */
} esp_grid;

/* n_threads 0: what OpenMP would use by itself. Sets the threads of this process and makes BLAS
 * single-threaded: products are tiled over OpenMP threads by the kernels. Collective on comm. */
void esp_grid_init(esp_grid *g, int n_threads, MPI_Comm comm);
void esp_grid_free(esp_grid *g);

/* [begin, end) of n items that belong to index i of n_parts: contiguous, sizes differ by at most 1. */
void esp_share(size_t *begin, size_t *end, size_t n, int i, int n_parts);

/* Broadcast of a string from rank 0; on the others *s is fresh and the caller frees it.
 * Collective on comm. */
void esp_bcast_string(char **s, MPI_Comm comm);

#endif
