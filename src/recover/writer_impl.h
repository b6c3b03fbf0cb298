/* writer_impl.h - the shares of all ranks of a training into a file that is laid out, by a thread, while the
 * others go on: forward and backward of the next step only read what is written.
 *
 * Flow: esp_checkpoint_writer_open -> _start, where it could be opened on all ranks -> _join before the
 * optimiser's next step.
 */
#ifndef ESPALIER_WRITER_IMPL_H
#define ESPALIER_WRITER_IMPL_H

#include <pthread.h>
#include <stdbool.h>

#include "espalier/checkpoint.h"
#include "espalier/h5_parallel.h"
#include "portion_impl.h"

/* Where the vectors begin in the file, and how many bytes it will have; the same on all ranks. */
typedef struct esp_file_layout {
    uint64_t offset[ESP_N_VECTORS], n_bytes;
} esp_file_layout;

typedef struct esp_checkpoint_writer {
    const struct esp_transfer *by;
    const esp_params *params; /* borrowed                              */
    const char *hints;        /* borrowed; of MPI-IO                   */
    char *path;               /* of the part of the file; owned        */
    esp_file_layout file;
    int fd;        /* of the part                                                 */
    MPI_Comm comm; /* owned; of this writing alone; MPI_COMM_NULL: none is needed */
    esp_h5_parallel shared;
    int direct;       /* the part again, past the page cache; -1: there is no such thing  */
    char *buffer;     /* [ESP_WRITE_CHUNK] numbers that are aligned for it; owned         */
    uint64_t digest;  /* of what was written, see esp_portion_digest                      */
    uint64_t n_bytes; /* of what was written, or was to be                                */
    int error;        /* errno of what failed; 0: nothing                                 */
    char *failed;     /* what failed without an errno; owned; NULL: nothing               */
    pthread_t thread;
    bool threaded; /* not where there was no thread to be had, or MPI allows none */
} esp_checkpoint_writer;

#define ESP_WRITE_CHUNK \
    ((size_t)1 << 20) /* numbers that are digested and then written, while in cache */

/* How portions get into the file. What fails is left in the writer; only what was opened is closed. */
typedef struct esp_transfer {
    bool collective; /* takes a communicator; all ranks put their portions in the same order */
    void (*open)(esp_checkpoint_writer *w);
    void (*put)(esp_checkpoint_writer *w, size_t i, esp_portion e);
    void (*close)(esp_checkpoint_writer *w);
    void (*check)(esp_checkpoint_writer
                      *w); /* when all is on disk, before closing; NULL: what fails has been told */
} esp_transfer;

extern const esp_transfer esp_transfer_mpio, esp_transfer_direct;

/* Opens the part of path, which is there, and sees that the disk has space for all of it. ESP_EIO, and *w is
 * to be freed all the same. Local but for MPI_Comm_dup: collective on c->grid->world. */
esp_status esp_checkpoint_writer_open(esp_checkpoint_writer **w, const char *part,
                                      const esp_file_layout *file, const esp_checkpoint *c);

/* Starts to write; where no thread may do that beside, writes. Collective, as esp_checkpoint_writer_open. */
void esp_checkpoint_writer_start(esp_checkpoint_writer *w);

/* Waits until everything is on disk and frees w. ESP_EIO. */
esp_status esp_checkpoint_writer_join(esp_checkpoint_writer *w, uint64_t *digest);

/* Of a writer that was not started. */
void esp_checkpoint_writer_free(esp_checkpoint_writer *w);

#endif
