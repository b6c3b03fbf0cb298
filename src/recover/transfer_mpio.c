/* transfer_mpio.c - portions through parallel HDF5: a collective transfer of each piece of each vector. */
#include <stdlib.h>
#include <string.h>

#include "espalier/io.h"
#include "espalier/mem.h"
#include "writer_impl.h"

static void open_shared(esp_checkpoint_writer *w)
{
    char *reason;

    w->shared = (esp_h5_parallel){ .path = w->path, .comm = w->comm };
    reason = esp_h5_parallel_open(&w->shared, w->hints);
    w->failed = reason ? esp_format("%s; " ESP_MPI_IO_REMEDY, reason) : NULL;
    free(reason);
}

static void put(esp_checkpoint_writer *w, size_t i, esp_portion e)
{
    w->digest += esp_portion_digest(i, e);
    w->n_bytes += e.n * sizeof *e.data;
    esp_h5_parallel_write(&w->shared, esp_vector_names[i], e.begin, e.n, e.data);
}

static void close_shared(esp_checkpoint_writer *w)
{
    esp_h5_parallel_close(&w->shared);
}

/* Whether a portion is in the file; 0, errno or ESP_IO_SHORT. */
static int compare(bool *same, char *buffer, const esp_checkpoint_writer *w, size_t i,
                   esp_portion e)
{
    int error = 0;

    for (size_t at = 0; at < e.n && *same && !error; at += ESP_WRITE_CHUNK) {
        size_t n = esp_min(e.n - at, ESP_WRITE_CHUNK) * sizeof *e.data;

        error = esp_read_at(w->fd, buffer, n, w->file.offset[i] + (e.begin + at) * sizeof *e.data);
        *same = memcmp(buffer, e.data + at, n) == 0;
    }
    return error;
}

/* An MPI library may not tell of a transfer that failed, so this rank looks whether its share is there. */
static void check(esp_checkpoint_writer *w)
{
    char *buffer = esp_calloc(ESP_WRITE_CHUNK, sizeof(float));
    int error = 0;
    bool same = true;

    ESP_MPI(MPI_Barrier(w->comm)); /* until all is on disk */
    for (size_t i = 0; i < ESP_N_VECTORS; i++) {
        for (size_t k = 0; k < w->params->n_pieces && same && !error; k++) {
            error = compare(&same, buffer, w, i, esp_portion_of(w->params, i, k));
        }
    }
    free(buffer);
    esp_h5_parallel_confirm(&w->shared, same && !error,
                            "MPI-IO did not write what it was given, and told of no error; is the "
                            "disk full or failing?");
}

const esp_transfer esp_transfer_mpio = {
    .collective = true, .open = open_shared, .put = put, .close = close_shared, .check = check
};
