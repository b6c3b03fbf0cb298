/* io.c - whole transfers, or the reason why not. */
#include "espalier/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MOST_TRIES 1000 /* in a row that move nothing */

/* Whether to try again what moved nothing; else *error says why not. */
static bool again(int *tries, int *error, ssize_t moved)
{
    *error = moved == 0 ? EIO : errno;
    return (moved == 0 || *error == EINTR) && ++*tries < MOST_TRIES;
}

int esp_write_at(int fd, const void *data, size_t n, uint64_t offset)
{
    size_t at = 0;
    int tries = 0, error = 0;

    while (at < n) {
        ssize_t put = pwrite(fd, (const char *)data + at, n - at, (off_t)(offset + at));

        if (put > 0) {
            at += (size_t)put;
            tries = 0;
        } else if (!again(&tries, &error, put)) {
            return error;
        }
    }
    return 0;
}

int esp_read_at(int fd, void *data, size_t n, uint64_t offset)
{
    size_t at = 0;
    int tries = 0, error = 0;

    while (at < n) {
        ssize_t got = pread(fd, (char *)data + at, n - at, (off_t)(offset + at));

        if (got > 0) {
            at += (size_t)got;
            tries = 0;
        } else if (got == 0) {
            return ESP_IO_SHORT;
        } else if (!again(&tries, &error, got)) {
            return error;
        }
    }
    return 0;
}

/* ulimit -f, which the kernel holds only what makes a file longer against. */
static bool is_too_long(uint64_t n)
{
    struct rlimit most;

    return getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur != RLIM_INFINITY &&
           n > most.rlim_cur;
}

int esp_reserve(int fd, uint64_t n)
{
    int tries = 0, error = 0;

    if (is_too_long(n)) {
        return EFBIG;
    }
    while (fallocate(fd, 0, 0, (off_t)n) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS) {
            return ftruncate(fd, (off_t)n) == 0 ? 0 : errno;
        }
        if (!again(&tries, &error, -1)) {
            return error;
        }
    }
    return 0;
}

int esp_sync(int fd)
{
    int tries = 0, error = 0;

    while (fsync(fd) != 0) {
        if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) {
            return 0;
        }
        if (!again(&tries, &error, -1)) {
            return error;
        }
    }
    return 0;
}

/* An interrupted close has closed: to try again could close somebody else's file. */
int esp_close(int fd)
{
    return close(fd) != 0 && errno != EINTR ? errno : 0;
}

static const char *remedy(int error)
{
    switch (error) {
    case ENOSPC:
        return "; make room on that file system";
    case EDQUOT:
        return "; your quota there is used up: make room";
    case EFBIG:
        return "; files may not become that large here (ulimit -f, or the file system)";
    default:
        return "";
    }
}

esp_status esp_write_failed(const char *path, uint64_t n_bytes, int error)
{
    return esp_fail(ESP_EIO, "%s: cannot write %llu bytes: %s%s", path, (unsigned long long)n_bytes,
                    strerror(error), remedy(error));
}
