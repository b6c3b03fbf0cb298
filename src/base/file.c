/* file.c - paths, mapped files, and the commit of results by rename. */
#include "espalier/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/mem.h"

char *esp_path(const char *dir, const char *name)
{
    return esp_format("%s/%s", dir, name);
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

esp_status esp_mkdirs(const char *path)
{
    char *p = esp_strdup(path);
    esp_status st = ESP_OK;

    for (char *at = p + 1; st == ESP_OK; at++) {
        char c = *at;

        if (c == '/' || c == '\0') {
            *at = '\0';
            if (mkdir(p, 0777) != 0 && errno != EEXIST) {
                st = esp_fail(ESP_EIO, "%s: cannot create the folder: %s", p, strerror(errno));
            }
            *at = c;
        }
        if (c == '\0') {
            break;
        }
    }
    if (st == ESP_OK && !esp_dir_exists(path)) {
        st = esp_fail(ESP_EIO, "%s: is there but is not a folder", path);
    }
    free(p);
    return st;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s;
    (void)kind;
    (void)f;
    return remove(path);
}

esp_status esp_remove(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return esp_fail(ESP_EIO, "%s: cannot remove: %s", path, strerror(errno));
    }
    return ESP_OK;
}

/* A missing or unreadable input is the user's path, anything else the system's. */
static esp_status open_failed(const char *path)
{
    esp_status st = errno == ENOENT || errno == EACCES || errno == ENOTDIR ? ESP_EUSAGE : ESP_EIO;

    return esp_fail(st, "%s: cannot open: %s", path, strerror(errno));
}

static esp_status not_regular(const char *path, mode_t mode)
{
    return esp_fail(ESP_EUSAGE, "%s: %s", path,
                    S_ISDIR(mode)    ? "is a folder, a file is needed"
                    : S_ISFIFO(mode) ? "is a pipe: write it to a file first, every rank reads it"
                                     : "is not a regular file");
}

static esp_status open_input(int *fd, size_t *n, const char *path)
{
    struct stat s;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for a writer */
    if (*fd < 0) {
        return open_failed(path);
    }
    if (fstat(*fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        close(*fd);
        return not_regular(path, s.st_mode);
    }
    *n = (size_t)s.st_size;
    return ESP_OK;
}

esp_status esp_file_read(char **text, size_t *n, const char *path)
{
    int fd;
    size_t at = 0;

    ESP_TRY(open_input(&fd, n, path));
    *text = esp_calloc(*n + 1, 1);
    while (at < *n) {
        ssize_t got = read(fd, *text + at, *n - at);

        if (got <= 0) {
            esp_status st = esp_fail(ESP_EIO, "%s: read %zu of %zu bytes: %s", path, at, *n,
                                     got < 0 ? strerror(errno) : "the file became shorter");
            close(fd);
            free(*text);
            *text = NULL;
            return st;
        }
        at += (size_t)got;
    }
    close(fd);
    return ESP_OK;
}

static esp_status write_all(int fd, const char *path, const char *data, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t put = write(fd, data + at, n - at);

        if (put < 0) {
            return esp_fail(ESP_EIO, "%s: cannot write: %s", path, strerror(errno));
        }
        at += (size_t)put;
    }
    return ESP_OK;
}

esp_status esp_file_write(const char *path, const void *data, size_t n)
{
    char *part = esp_format("%s.part", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    esp_status st = fd < 0 ? esp_fail(ESP_EIO, "%s: cannot create: %s", part, strerror(errno))
                           : write_all(fd, part, data, n);

    if (fd >= 0) {
        close(fd);
    }
    free(part);
    return st == ESP_OK ? esp_commit(path) : st;
}

esp_status esp_file_copy(const char *to, const char *from)
{
    esp_map m;
    esp_status st;

    ESP_TRY(esp_map_open(&m, from));
    st = esp_file_write(to, m.data, m.n);
    esp_map_close(&m);
    return st;
}

static esp_status sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    esp_status st = ESP_OK;

    if (fd < 0 || fsync(fd) != 0) {
        st = esp_fail(ESP_EIO, "%s: cannot sync: %s", path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

static esp_status sync_parent(const char *path)
{
    char *copy = esp_strdup(path);
    esp_status st = sync_path(dirname(copy));

    free(copy);
    return st;
}

static esp_status replace(const char *path, const char *part)
{
    char *old = esp_format("%s.old", path);
    esp_status st = ESP_OK;

    if (esp_dir_exists(path)) { /* rename does not replace a folder with files in it */
        st = esp_remove(old);
        if (st == ESP_OK && rename(path, old) != 0) {
            st = esp_fail(ESP_EIO, "%s: cannot rename: %s", path, strerror(errno));
        }
    }
    if (st == ESP_OK && rename(part, path) != 0) {
        st = esp_fail(ESP_EIO, "%s: cannot rename to %s: %s", part, path, strerror(errno));
    }
    if (st == ESP_OK) {
        st = esp_remove(old);
    }
    free(old);
    return st;
}

esp_status esp_commit(const char *path)
{
    char *part = esp_format("%s.part", path);
    esp_status st = sync_path(part);

    if (st == ESP_OK) {
        st = replace(path, part);
    }
    free(part);
    return st == ESP_OK ? sync_parent(path) : st;
}

esp_status esp_map_open(esp_map *m, const char *path)
{
    int fd;
    void *p;

    *m = (esp_map){ 0 };
    ESP_TRY(open_input(&fd, &m->n, path));
    if (m->n == 0) { /* nothing to map, and no error by itself */
        close(fd);
        return ESP_OK;
    }
    p = mmap(NULL, m->n, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) {
        return esp_fail(ESP_EIO, "%s: cannot map %zu bytes: %s", path, m->n, strerror(errno));
    }
    m->data = p;
    return ESP_OK;
}

void esp_map_close(esp_map *m)
{
    if (m->data) {
        munmap((void *)(uintptr_t)m->data, m->n);
    }
    *m = (esp_map){ 0 };
}
