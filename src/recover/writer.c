/* writer.c - the thread that writes. It touches no other state than its own, errors included. */
#include "writer_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/io.h"
#include "espalier/mem.h"

static bool has_failed(const esp_checkpoint_writer *w)
{
    return w->error != 0 || w->failed;
}

/* All portions of this rank, in the same order on all ranks. */
static void put_all(esp_checkpoint_writer *w)
{
    for (size_t i = 0; i < ESP_N_VECTORS; i++) {
        for (size_t k = 0; k < w->params->n_pieces && !has_failed(w); k++) {
            w->by->put(w, i, esp_portion_of(w->params, i, k));
        }
    }
}

static void *write_share(void *writer)
{
    esp_checkpoint_writer *w = writer;

    w->by->open(w);
    if (!has_failed(w)) {
        put_all(w);
        w->error = has_failed(w) ? w->error : esp_sync(w->fd);
        if (w->by->check) {
            w->by->check(w);
        }
        w->by->close(w);
    }
    return NULL;
}

esp_status esp_checkpoint_writer_open(esp_checkpoint_writer **writer, const char *part,
                                      const esp_file_layout *file, const esp_checkpoint *c)
{
    esp_checkpoint_writer *w;

    ESP_NEW(w, 1);
    *w = (esp_checkpoint_writer){ .by = c->io == ESP_IO_MPIO ? &esp_transfer_mpio
                                                             : &esp_transfer_direct,
                                  .params = c->params,
                                  .hints = c->hints,
                                  .path = esp_strdup(part),
                                  .file = *file,
                                  .fd = open(part, O_RDWR | O_CLOEXEC),
                                  .comm = MPI_COMM_NULL,
                                  .direct = -1,
                                  .threaded = !c->waits };
    *writer = w;
    if (w->by->collective) {
        int level;

        ESP_MPI(MPI_Query_thread(&level));
        ESP_MPI(MPI_Comm_dup(c->grid->world, &w->comm));
        w->threaded = w->threaded && level == MPI_THREAD_MULTIPLE;
    }
    if (w->fd < 0) {
        return esp_fail(ESP_EIO, "%s: cannot open: %s", part, strerror(errno));
    }
    w->error = esp_reserve(w->fd, file->n_bytes);
    return w->error ? esp_write_failed(part, file->n_bytes, w->error) : ESP_OK;
}

void esp_checkpoint_writer_start(esp_checkpoint_writer *w)
{
    w->threaded = w->threaded && pthread_create(&w->thread, NULL, write_share, w) == 0;
    if (!w->threaded) {
        write_share(w);
    }
}

void esp_checkpoint_writer_free(esp_checkpoint_writer *w)
{
    if (w->fd >= 0) {
        close(w->fd);
    }
    if (w->comm != MPI_COMM_NULL) {
        ESP_MPI(MPI_Comm_free(&w->comm));
    }
    free(w->failed);
    free(w->path);
    free(w);
}

esp_status esp_checkpoint_writer_join(esp_checkpoint_writer *w, uint64_t *digest)
{
    esp_status st = ESP_OK;
    int closed;

    if (w->threaded) {
        ESP_REQUIRE(pthread_join(w->thread, NULL) == 0);
    }
    closed = esp_close(w->fd); /* some file systems tell late what went wrong */
    w->fd = -1;
    w->error = has_failed(w) ? w->error : closed;
    *digest = w->digest;
    if (w->failed) {
        st = esp_fail(ESP_EIO, "%s: %s", w->path, w->failed);
    } else if (w->error) {
        st = esp_write_failed(w->path, w->n_bytes, w->error);
    }
    esp_checkpoint_writer_free(w);
    return st;
}
