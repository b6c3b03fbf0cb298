/* writer.c - the thread that writes. It touches no other state than its own, errors included. */
#include "writer_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/digest.h"
#include "espalier/h5.h"
#include "espalier/io.h"
#include "espalier/mem.h"

#define CHUNK ((size_t)1 << 20) /* numbers that are digested and then written, while in cache */
#define BLOCK ((size_t)ESP_H5_ALIGNMENT) /* bytes: unit of writing past the page cache */

/* One file, opened twice. What is written past the page cache costs the cores that compute no copy into
 * it, and goes through room that is aligned as such writes want it. */
typedef struct output {
    int cached, direct; /* direct -1: this file system has no such thing */
    char *room;         /* [CHUNK] numbers, owned                        */
} output;

const char *const esp_vector_names[ESP_N_VECTORS] = { "m", "v", "best", "value" };

esp_portion esp_portion_of(const esp_params *p, size_t i, size_t k)
{
    float *const own[ESP_N_VECTORS - 1] = { p->m, p->v, p->best };
    size_t begin, end;

    esp_params_share(&begin, &end, p, k, p->rank);
    return (esp_portion){ .data = i < ESP_N_VECTORS - 1 ? own[i] + p->own[k] : p->value + begin,
                          .begin = begin,
                          .n = end - begin };
}

uint64_t esp_portion_digest(size_t i, esp_portion e)
{
    uint64_t sum = 0;

    for (size_t at = 0; at < e.n; at += ESP_SHARE_BLOCK) {
        size_t n = e.n - at < ESP_SHARE_BLOCK ? e.n - at : ESP_SHARE_BLOCK;

        sum +=
            esp_digest_block(e.data + at, n * sizeof *e.data, (uint64_t)i << 56 | (e.begin + at));
    }
    return sum;
}

/* n bytes, whole blocks of the file of them past the page cache where that can be. */
static int write_part(output *to, const char *bytes, size_t n, uint64_t offset)
{
    size_t head = (BLOCK - offset % BLOCK) % BLOCK, body, done;
    int error;

    head = to->direct < 0 ? n : esp_min(head, n);
    body = (n - head) / BLOCK * BLOCK;
    done = head + body;
    error = esp_write_at(to->cached, bytes, head, offset);
    if (!error && body > 0) {
        memcpy(to->room, bytes + head, body);
        error = esp_write_at(to->direct, to->room, body, offset + head);
    }
    if (error == EINVAL && body > 0) { /* refused only now */
        close(to->direct);
        to->direct = -1;
        error = 0;
        done = head;
    }
    return error ? error : esp_write_at(to->cached, bytes + done, n - done, offset + done);
}

static int write_portion(esp_writer *w, output *to, size_t i, esp_portion e)
{
    int error = 0;

    for (size_t at = 0; at < e.n && !error; at += CHUNK) {
        size_t n = esp_min(e.n - at, CHUNK);
        esp_portion part = { .data = e.data + at, .begin = e.begin + at, .n = n };

        w->digest += esp_portion_digest(i, part);
        w->n_bytes += n * sizeof *part.data;
        error = write_part(to, (const char *)part.data, n * sizeof *part.data,
                           w->offset[i] + part.begin * sizeof *part.data);
    }
    return error;
}

static int open_output(output *to, const char *path)
{
    int error;

    *to = (output){ .cached = open(path, O_WRONLY | O_CLOEXEC), .direct = -1 };
    error = to->cached < 0 ? errno : 0;
    if (!error && posix_memalign((void **)&to->room, BLOCK, CHUNK * sizeof(float)) == 0) {
        to->direct = open(path, O_WRONLY | O_CLOEXEC | O_DIRECT);
    }
    return error;
}

/* error: of what came before. Some file systems tell late what went wrong. */
static int close_output(output *to, int error)
{
    const int open[] = { to->direct, to->cached };

    if (!error) {
        error = esp_sync(to->cached);
    }
    for (size_t i = 0; i < 2; i++) {
        int closed = open[i] >= 0 ? esp_close(open[i]) : 0;

        error = error ? error : closed;
    }
    free(to->room);
    return error;
}

static void *write_share(void *writer)
{
    esp_writer *w = writer;
    output to;

    w->error = open_output(&to, w->path);
    for (size_t i = 0; i < ESP_N_VECTORS; i++) {
        for (size_t k = 0; k < w->params->n_pieces && !w->error; k++) {
            w->error = write_portion(w, &to, i, esp_portion_of(w->params, i, k));
        }
    }
    w->error = close_output(&to, w->error);
    return NULL;
}

esp_writer *esp_writer_start(const char *path, const uint64_t offset[ESP_N_VECTORS],
                             const esp_params *p)
{
    esp_writer *w;

    ESP_NEW(w, 1);
    w->params = p;
    w->path = esp_strdup(path);
    memcpy(w->offset, offset, sizeof w->offset);
    w->threaded = pthread_create(&w->thread, NULL, write_share, w) == 0;
    if (!w->threaded) {
        write_share(w);
    }
    return w;
}

esp_status esp_writer_join(esp_writer *w, uint64_t *digest)
{
    esp_status st = ESP_OK;

    if (w->threaded) {
        ESP_REQUIRE(pthread_join(w->thread, NULL) == 0);
    }
    *digest = w->digest;
    if (w->error) {
        st = w->n_bytes > 0 ? esp_write_failed(w->path, w->n_bytes, w->error)
                            : esp_fail(ESP_EIO, "%s: cannot open: %s", w->path, strerror(w->error));
    }
    free(w->path);
    free(w);
    return st;
}
