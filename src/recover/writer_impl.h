/* writer_impl.h - this rank's share of a training into a file, by a thread that calls nothing of MPI, while
 * this one goes on: forward and backward of the next step only read what is written.
 *
 * Flow: esp_writer_start -> esp_writer_join before the optimiser's next step.
 */
#ifndef ESPALIER_WRITER_IMPL_H
#define ESPALIER_WRITER_IMPL_H

#include <pthread.h>
#include <stdbool.h>

#include "espalier/params.h"

enum { ESP_N_VECTORS = 4 }; /* m, v, best, value */

/* Numbers begin .. begin + n of a vector: the share of this rank in a piece of it. */
typedef struct esp_portion {
    float *data; /* [n] borrowed */
    size_t begin, n;
} esp_portion;

extern const char *const esp_vector_names[ESP_N_VECTORS];

/* The share of piece k in vector i. Local. */
esp_portion esp_portion_of(const esp_params *p, size_t i, size_t k);

/* Sum of the digests of the blocks of a portion of vector i. Summed over all portions and ranks it is the
 * same whatever the number of ranks. Local. */
uint64_t esp_portion_digest(size_t i, esp_portion e);

typedef struct esp_writer {
    const esp_params *params;       /* borrowed                        */
    char *path;                     /* of the file; owned              */
    uint64_t offset[ESP_N_VECTORS]; /* where the vectors begin in it   */
    uint64_t digest;                /* of what was written, see above  */
    uint64_t n_bytes;               /* of what was written, or was to be */
    int error;                      /* errno of what failed; 0: nothing */
    pthread_t thread;
    bool threaded; /* not where there was no thread to be had */
} esp_writer;

/* Starts to write into the file at path, which is there. Local. */
esp_writer *esp_writer_start(const char *path, const uint64_t offset[ESP_N_VECTORS],
                             const esp_params *p);

/* Waits until everything is on disk and frees w. ESP_EIO. Local. */
esp_status esp_writer_join(esp_writer *w, uint64_t *digest);

#endif
