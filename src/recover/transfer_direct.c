/* transfer_direct.c - portions with plain writes. What goes past the page cache costs the cores that compute
 * no copy into it, and goes through a buffer that is aligned as such writes want it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/h5.h"
#include "espalier/io.h"
#include "espalier/mem.h"
#include "writer_impl.h"

#define BLOCK ((size_t)ESP_H5_ALIGNMENT) /* bytes: unit of writing past the page cache */

/* n bytes, whole blocks of the file of them past the page cache where that can be. */
static int write_part(esp_checkpoint_writer *w, const char *bytes, size_t n, uint64_t offset)
{
    size_t head = (BLOCK - offset % BLOCK) % BLOCK, body, done;
    int error;

    head = w->direct < 0 ? n : esp_min(head, n);
    body = (n - head) / BLOCK * BLOCK;
    done = head + body;
    error = esp_write_at(w->fd, bytes, head, offset);
    if (!error && body > 0) {
        memcpy(w->buffer, bytes + head, body);
        error = esp_write_at(w->direct, w->buffer, body, offset + head);
    }
    if (error == EINVAL && body > 0) { /* refused only now */
        close(w->direct);
        w->direct = -1;
        error = 0;
        done = head;
    }
    return error ? error : esp_write_at(w->fd, bytes + done, n - done, offset + done);
}

static void put(esp_checkpoint_writer *w, size_t i, esp_portion e)
{
    for (size_t at = 0; at < e.n && !w->error; at += ESP_WRITE_CHUNK) {
        size_t n = esp_min(e.n - at, ESP_WRITE_CHUNK);
        esp_portion part = { .data = e.data + at, .begin = e.begin + at, .n = n };

        w->digest += esp_portion_digest(i, part);
        w->n_bytes += n * sizeof *part.data;
        w->error = write_part(w, (const char *)part.data, n * sizeof *part.data,
                              w->file.offset[i] + part.begin * sizeof *part.data);
    }
}

static void open_again(esp_checkpoint_writer *w)
{
    if (posix_memalign((void **)&w->buffer, BLOCK, ESP_WRITE_CHUNK * sizeof(float)) == 0) {
        w->direct = open(w->path, O_WRONLY | O_CLOEXEC | O_DIRECT);
    }
}

static void close_again(esp_checkpoint_writer *w)
{
    int closed = w->direct >= 0 ? esp_close(w->direct) : 0;

    w->error = w->error ? w->error : closed;
    free(w->buffer);
}

const esp_transfer esp_transfer_direct = { .open = open_again, .put = put, .close = close_again };
