/* spill_buffer.c - large arrays, in memory or in a file. */
#include "espalier/spill_buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "espalier/status.h"

#define MOST_TRIES 100

/* A descriptor of a new file without a name, -1 with errno. File systems without O_TMPFILE get one that is
 * unlinked at once. */
static int open_nameless(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
    char *path;

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) {
        return fd;
    }
    path = esp_format("%s/espalier-XXXXXX", dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        unlink(path);
    }
    free(path);
    return fd;
}

/* posix_fallocate with an end to interruptions; 0 or errno. */
static int reserve(int fd, size_t bytes)
{
    int error = EINTR;

    for (int i = 0; i < MOST_TRIES && error == EINTR; i++) {
        error = posix_fallocate(fd, 0, (off_t)bytes);
    }
    return error;
}

static void *map_new(size_t bytes, const char *dir)
{
    int fd = open_nameless(dir), error = fd < 0 ? errno : reserve(fd, bytes);
    void *at = MAP_FAILED;

    if (error == 0) {
        at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        error = errno;
    }
    if (at == MAP_FAILED) {
        fprintf(stderr,
                "espalier: error: %s: no room for %zu bytes of activations: %s; make room, or name "
                "another folder in parallel.scratch\n",
                dir, bytes, strerror(error));
        esp_end_job();
    }
    close(fd);
    esp_map_note(at, bytes, dir);
    return at;
}

void esp_spill_buffer_init(esp_spill_buffer *r, size_t n, const char *dir)
{
    *r = (esp_spill_buffer){ .n = n, .mapped = dir && *dir && n > 0 };
    if (r->mapped) {
        r->at = map_new(n * sizeof *r->at, dir);
    } else {
        ESP_NEW(r->at, n);
    }
}

size_t esp_spill_buffer_bytes(size_t n, const char *dir)
{
    return n == 0 || (dir && *dir) ? 0 : esp_calloc_bytes(n, sizeof(float));
}

void esp_spill_buffer_fit(esp_spill_buffer *r, size_t n, const char *dir, size_t *bytes)
{
    if (n <= r->n) {
        return;
    }
    if (bytes) {
        *bytes += esp_spill_buffer_bytes(n, dir) - esp_spill_buffer_bytes(r->n, dir);
        r->n = n;
    } else {
        esp_spill_buffer_free(r);
        esp_spill_buffer_init(r, n, dir);
    }
}

void esp_spill_buffer_free(esp_spill_buffer *r)
{
    if (r->mapped) {
        esp_map_forget(r->at);
        munmap(r->at, r->n * sizeof *r->at);
    } else {
        free(r->at);
    }
    *r = (esp_spill_buffer){ 0 };
}
