/* faulty.c - for LD_PRELOAD: disks that are full, have no locks, or take files away. No test by itself.
 *
 *   FAULTY_DIR    where: files below this folder (as their links in /proc say)
 *   FAULTY_ROOM   bytes that may still be written there by this process; then calls fail with FAULTY_ERROR
 *   FAULTY_ERROR  ENOSPC (without it), EDQUOT or EIO
 *   FAULTY_BREAKS bytes that may be written there into space reserved by fallocate; then writes into it fail
 *   FAULTY_LIES   is set: they do not fail then, but nothing is written
 *   FAULTY_FALLOCATE EOPNOTSUPP: fallocate fails with it there
 *   FAULTY_FLOCK  ENOSYS, ENOLCK or EOPNOTSUPP: flock fails with it, everywhere
 *   FAULTY_SHRINK a file that is cut to 8192 bytes when a run writes its config.used
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const struct {
    const char *name;
    int error;
} errors[] = { { "ENOSPC", ENOSPC }, { "EDQUOT", EDQUOT }, { "EIO", EIO },
               { "ENOSYS", ENOSYS }, { "ENOLCK", ENOLCK }, { "EOPNOTSUPP", EOPNOTSUPP } };

static int error_of(const char *variable, int otherwise)
{
    const char *name = getenv(variable);

    for (size_t i = 0; name && i < sizeof errors / sizeof *errors; i++) {
        if (strcmp(name, errors[i].name) == 0) {
            return errors[i].error;
        }
    }
    return otherwise;
}

static int path_of(char *path, size_t room, int fd)
{
    char link[64];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, room - 1);
    path[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static int is_below_dir(int fd)
{
    const char *dir = getenv("FAULTY_DIR");
    char path[4096];

    return dir && path_of(path, sizeof path, fd) && strncmp(path, dir, strlen(dir)) == 0;
}

static size_t number(const char *variable, size_t otherwise)
{
    const char *text = getenv(variable);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

/* ---- space that is reserved: taken already ------------------------------------------------------- */

static struct {
    dev_t device;
    ino_t file;
    size_t n; /* bytes from its begin on */
} reserved[64];

static size_t n_reserved;

/* The entry of a file, a new one where there is none. A file that became shorter, or another one by the same
 * number, has no more than it is long. */
static size_t *reserved_of(int fd)
{
    struct stat s;
    size_t i = 0;

    fstat(fd, &s);
    while (i < n_reserved && (reserved[i].device != s.st_dev || reserved[i].file != s.st_ino)) {
        i++;
    }
    i = i % (sizeof reserved / sizeof *reserved);
    if (i == n_reserved) {
        n_reserved++;
        reserved[i].n = 0;
    }
    reserved[i].device = s.st_dev;
    reserved[i].file = s.st_ino;
    if (reserved[i].n > (size_t)s.st_size) {
        reserved[i].n = (size_t)s.st_size;
    }
    return &reserved[i].n;
}

/* ---- room ---------------------------------------------------------------------------------------- */

/* Bytes of n that may be written: counts them. */
static size_t take(size_t *used, size_t most, size_t n)
{
    size_t room = *used < most ? most - *used : 0;

    n = n < room ? n : room;
    *used += n;
    return n;
}

/* Bytes of n, at this place of a file, that find room. */
static size_t take_room(int fd, size_t n, size_t at)
{
    static size_t used, broken;
    size_t inside;

    if (!is_below_dir(fd)) {
        return n;
    }
    inside = *reserved_of(fd);
    if (at < inside) {
        inside = inside - at < n ? inside - at : n;
        return take(&broken, number("FAULTY_BREAKS", SIZE_MAX), inside);
    }
    return take(&used, number("FAULTY_ROOM", SIZE_MAX), n);
}

static ssize_t full(void)
{
    errno = error_of("FAULTY_ERROR", ENOSPC);
    return -1;
}

ssize_t write(int fd, const void *data, size_t n)
{
    size_t fits = n > 0 ? take_room(fd, n, SIZE_MAX) : 0;

    return n > 0 && fits == 0 ? full() : syscall(SYS_write, fd, data, n > 0 ? fits : 0);
}

/* When rank 0 writes config.used, all ranks have mapped what they read. */
static void shrink(int fd)
{
    const char *file = getenv("FAULTY_SHRINK");
    char path[4096];

    if (file && path_of(path, sizeof path, fd) && strstr(path, "config.used")) {
        truncate(file, 8192);
    }
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    size_t fits = n > 0 ? take_room(fd, n, at) : 0;

    shrink(fd);
    if (n > 0 && fits == 0 && getenv("FAULTY_LIES") && at < (off_t)*reserved_of(fd)) {
        return (ssize_t)n;
    }
    return n > 0 && fits == 0 ? full() : syscall(SYS_pwrite64, fd, data, n > 0 ? fits : 0, at);
}

/* One piece at a time is less than asked for, which is allowed. */
ssize_t pwritev(int fd, const struct iovec *piece, int n, off_t at)
{
    ssize_t done = 0, put = 0;

    for (int i = 0; i < n && (i == 0 || put == (ssize_t)piece[i - 1].iov_len); i++) {
        put = pwrite(fd, piece[i].iov_base, piece[i].iov_len, at + done);
        done += put > 0 ? put : 0;
    }
    return put < 0 && done == 0 ? put : done;
}

/* Takes room for what is not reserved yet. */
static int reserve(int fd, size_t end)
{
    size_t *inside, more;

    if (!is_below_dir(fd)) {
        return 0;
    }
    inside = reserved_of(fd);
    more = end > *inside ? end - *inside : 0;
    if (take_room(fd, more, SIZE_MAX) < more) {
        return error_of("FAULTY_ERROR", ENOSPC);
    }
    *inside = end > *inside ? end : *inside;
    return 0;
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
    int error = is_below_dir(fd) ? error_of("FAULTY_FALLOCATE", 0) : 0;

    error = error ? error : reserve(fd, (size_t)(at + n));
    if (error) {
        errno = error;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, at, n);
}

int posix_fallocate(int fd, off_t at, off_t n)
{
    int error = reserve(fd, (size_t)(at + n));

    return error ? error : (int)syscall(SYS_ftruncate, fd, at + n);
}

int flock(int fd, int operation)
{
    int error = error_of("FAULTY_FLOCK", 0);

    if (error) {
        errno = error;
        return -1;
    }
    return (int)syscall(SYS_flock, fd, operation);
}
