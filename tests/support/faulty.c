/* faulty.c - for LD_PRELOAD: disks that are full, have no locks, or take files away. No test by itself.
 *
 *   FAULTY_DIR    where: files below this folder (as their links in /proc say)
 *   FAULTY_ROOM   bytes that may still be written there by this process; then calls fail with FAULTY_ERROR
 *   FAULTY_ERROR  ENOSPC (without it), EDQUOT or EIO
 *   FAULTY_FLOCK  ENOSYS, ENOLCK or EOPNOTSUPP: flock fails with it, everywhere
 *   FAULTY_SHRINK a file that is cut to 8192 bytes when a run writes its config.used
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
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

/* Bytes of n that find room; counts them. */
static size_t take_room(int fd, size_t n)
{
    static size_t used;
    const char *dir = getenv("FAULTY_DIR"), *most = getenv("FAULTY_ROOM");
    char path[4096];
    size_t room;

    if (!dir || !most || !path_of(path, sizeof path, fd) || strncmp(path, dir, strlen(dir)) != 0) {
        return n;
    }
    room = strtoul(most, NULL, 10);
    room = used < room ? room - used : 0;
    n = n < room ? n : room;
    used += n;
    return n;
}

static ssize_t full(void)
{
    errno = error_of("FAULTY_ERROR", ENOSPC);
    return -1;
}

ssize_t write(int fd, const void *data, size_t n)
{
    size_t fits = n > 0 ? take_room(fd, n) : 0;

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
    size_t fits = n > 0 ? take_room(fd, n) : 0;

    shrink(fd);
    return n > 0 && fits == 0 ? full() : syscall(SYS_pwrite64, fd, data, n > 0 ? fits : 0, at);
}

int posix_fallocate(int fd, off_t at, off_t n)
{
    if (take_room(fd, (size_t)n) < (size_t)n) {
        return error_of("FAULTY_ERROR", ENOSPC);
    }
    return (int)syscall(SYS_ftruncate, fd, at + n);
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
