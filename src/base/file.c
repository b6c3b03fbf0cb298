/* file.c - paths, whole files, and the commit of results by rename. */
#include "espalier/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/io.h"
#include "espalier/limit.h"
#include "espalier/mem.h"

char *esp_path(const char *dir, const char *name)
{
    return esp_format("%s/%s", dir, name);
}

char *esp_part_path(const char *path)
{
    return esp_format("%s%s", path, ESP_PART);
}

char *esp_path_real(const char *path)
{
    char *known = path[0] == '/' ? esp_strdup(path) : esp_format("./%s", path), *real, *full;
    size_t n = strlen(known); /* of what is there */

    for (; !(real = realpath(known, NULL)) && n > 1; known[n] = '\0') {
        n = (size_t)(strrchr(known, '/') - known);
        n = n > 0 ? n : 1;
    }
    free(known);
    known = path[0] == '/' ? esp_strdup(path) : esp_format("./%s", path);
    full =
        esp_format("%s%s%s", real ? real : ".", known[n] && known[n] != '/' ? "/" : "", known + n);
    n = strlen(full);
    while (n > 1 && full[n - 1] == '/') {
        full[--n] = '\0';
    }
    free(real);
    free(known);
    return full;
}

bool esp_same_path(const char *a, const char *b)
{
    char *real = esp_path_real(a), *other = esp_path_real(b);
    bool same = strcmp(real, other) == 0;

    free(real);
    free(other);
    return same;
}

bool esp_file_exists(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

bool esp_dir_exists(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

/* What errno says of a path: the user's is none that will do, or the system fails. */
static esp_status path_failed(const char *path, const char *what)
{
    bool is_path = errno == EACCES || errno == EPERM || errno == ENOTDIR || errno == EROFS ||
                   errno == ENAMETOOLONG || errno == ELOOP || errno == ENOENT || errno == ENXIO;

    return esp_fail(is_path ? ESP_EUSAGE : ESP_EIO, "%s: %s: %s", path, what, strerror(errno));
}

esp_status esp_dir_check(const char *path)
{
    char *copy = esp_strdup(path), *there = copy; /* the nearest folder above that is there */
    struct stat s;
    esp_status st = ESP_OK;
    int found;

    while ((found = stat(there, &s)) != 0 && (errno == ENOENT || errno == ENOTDIR) &&
           strcmp(there, ".") != 0) {
        there = dirname(there);
    }
    if (found != 0) {
        st = path_failed(path, "cannot create the folder");
    } else if (!S_ISDIR(s.st_mode)) {
        st = esp_fail(ESP_EUSAGE, "%s: cannot create the folder: %s is a file", path, there);
    } else if (access(there, W_OK | X_OK) != 0) {
        st = esp_fail(ESP_EUSAGE, "%s: cannot write in %s: %s", path, there, strerror(errno));
    }
    free(copy);
    return st;
}

esp_status esp_output_check(const char *path, const char *made, bool replace)
{
    char *copy = esp_strdup(path);
    const char *dir = dirname(copy);
    esp_status st = ESP_OK;

    if (esp_dir_exists(path)) {
        st = esp_fail(ESP_EUSAGE, "%s: is a folder, and a file is to be written", path);
    } else if (access(dir, W_OK | X_OK) != 0) {
        st = esp_fail(ESP_EUSAGE, "%s: cannot write in %s: %s", path, dir, strerror(errno));
    } else if (access(path, F_OK) == 0 && !(replace && esp_file_exists(path))) {
        st = esp_fail(ESP_EUSAGE,
                      "%s: is there already: take another name; -f replaces nothing but %s", path,
                      made);
    }
    free(copy);
    return st;
}

esp_status esp_mkdirs(const char *path)
{
    char *p = esp_strdup(path);
    esp_status st = ESP_OK;

    for (char *at = p + 1; st == ESP_OK; at++) {
        char c = *at;

        if (c == '/' || c == '\0') {
            *at = '\0';
            if (mkdir(p, 0777) != 0 && errno != EEXIST) {
                st = path_failed(p, "cannot create the folder");
            }
            *at = c;
        }
        if (c == '\0') {
            break;
        }
    }
    if (st == ESP_OK && !esp_dir_exists(path)) {
        st = esp_fail(ESP_EUSAGE, "%s: is there but is not a folder", path);
    }
    free(p);
    return st;
}

static esp_status not_regular(const char *path, mode_t mode)
{
    return esp_fail(ESP_EUSAGE, "%s: %s", path,
                    S_ISDIR(mode)    ? "is a folder, a file is needed"
                    : S_ISFIFO(mode) ? "is a pipe: write it to a file first, every rank reads it"
                                     : "is not a regular file");
}

esp_status esp_file_open(int *fd, size_t *n, const char *path)
{
    struct stat s;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for a writer */
    if (*fd < 0) {
        return path_failed(path, "cannot open");
    }
    if (fstat(*fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        close(*fd);
        return not_regular(path, s.st_mode);
    }
    *n = (size_t)s.st_size;
    return ESP_OK;
}

esp_status esp_file_check(const char *path)
{
    int fd;
    size_t n;

    ESP_TRY(esp_file_open(&fd, &n, path));
    close(fd);
    return ESP_OK;
}

esp_status esp_file_read(char **text, size_t *n, const char *path)
{
    int fd, error;
    esp_status st;

    *text = NULL;
    ESP_TRY(esp_file_open(&fd, n, path));
    st = esp_limit_check(*n, path);
    if (st != ESP_OK) {
        close(fd);
        return st;
    }
    *text = esp_calloc(*n + 1, 1);
    error = esp_read_at(fd, *text, *n, 0);
    close(fd);
    if (error) {
        free(*text);
        *text = NULL;
        return esp_fail(ESP_EIO, "%s: cannot read its %zu bytes: %s", path, *n,
                        error == ESP_IO_SHORT ? "it became shorter" : strerror(error));
    }
    return ESP_OK;
}

/* The file at path, new or emptied, with these bytes. */
static esp_status write_whole(const char *path, const void *data, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), error, closed;

    if (fd < 0) {
        return esp_fail(ESP_EIO, "%s: cannot create: %s", path, strerror(errno));
    }
    error = esp_write_at(fd, data, n, 0);
    closed = esp_close(fd);
    error = error ? error : closed;
    return error ? esp_write_failed(path, n, error) : ESP_OK;
}

esp_status esp_sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = fd < 0 ? errno : esp_sync(fd);

    if (fd >= 0) {
        close(fd);
    }
    return error ? esp_fail(ESP_EIO, "%s: cannot sync: %s", path, strerror(error)) : ESP_OK;
}

esp_status esp_sync_parent(const char *path)
{
    char *copy = esp_strdup(path);
    esp_status st = esp_sync_path(dirname(copy));

    free(copy);
    return st;
}

/* Rename would put a file in the place of a device, as /dev/full, or of a pipe that somebody reads. */
static esp_status check_place(const char *path)
{
    struct stat s;

    return lstat(path, &s) != 0 || S_ISREG(s.st_mode) || S_ISDIR(s.st_mode) || S_ISLNK(s.st_mode)
               ? ESP_OK
               : esp_fail(ESP_EUSAGE, "%s: is a device, pipe or socket and stays: name a file",
                          path);
}

esp_status esp_file_commit(const char *path)
{
    char *part = esp_part_path(path);
    esp_status st = esp_sync_path(part);

    st = st == ESP_OK ? check_place(path) : st;
    if (st == ESP_OK && rename(part, path) != 0) {
        st = esp_fail(ESP_EIO, "%s: cannot rename to %s: %s", part, path, strerror(errno));
    }
    free(part);
    return st == ESP_OK ? esp_sync_parent(path) : st;
}

esp_status esp_file_write(const char *path, const void *data, size_t n)
{
    char *part = esp_part_path(path);
    esp_status st = write_whole(part, data, n);

    if (st == ESP_OK) {
        st = esp_file_commit(path);
    }
    if (st != ESP_OK) {
        unlink(part); /* what failed is told already */
    }
    free(part);
    return st;
}

esp_status esp_file_copy(const char *to, const char *from)
{
    char *bytes;
    size_t n;
    esp_status st;

    ESP_TRY(esp_file_read(&bytes, &n, from));
    st = esp_file_write(to, bytes, n);
    free(bytes);
    return st;
}
