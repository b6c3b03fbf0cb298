/* map.c - mapped files, and the end of the job when one of them becomes shorter. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/mem.h"

/* ---- what is mapped ---- */

/* The handler below walks this list: entries are added in front and never freed, but used again. */
typedef struct mapped {
    _Atomic uintptr_t begin; /* 0: unused; set last, cleared first */
    size_t n;
    char *path;       /* owned                                 */
    struct stat then; /* of the file, when it was mapped       */
    struct mapped *next;
} mapped;

static _Atomic(mapped *) all_mapped;
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

void esp_map_note(const void *begin, size_t n, const char *path)
{
    mapped *e;

    pthread_mutex_lock(&changing);
    e = all_mapped;
    while (e && e->begin) {
        e = e->next;
    }
    if (!e) {
        ESP_NEW(e, 1);
        e->next = all_mapped;
        all_mapped = e;
    }
    e->n = n;
    e->path = esp_strdup(path);
    if (stat(path, &e->then) != 0) {
        e->then = (struct stat){ 0 }; /* a name, or gone already */
    }
    e->begin = (uintptr_t)begin;
    pthread_mutex_unlock(&changing);
}

void esp_map_forget(const void *begin)
{
    pthread_mutex_lock(&changing);
    for (mapped *e = all_mapped; e; e = e->next) {
        if (e->begin == (uintptr_t)begin) {
            e->begin = 0;
            free(e->path);
            break;
        }
    }
    pthread_mutex_unlock(&changing);
}

/* ---- SIGBUS ---- */

static size_t append(char *line, size_t n, size_t room, const char *text)
{
    for (; *text && n < room; text++) {
        line[n++] = *text;
    }
    return n;
}

static void say(const char *path)
{
    char line[4096];
    size_t n = append(line, 0, sizeof line, "espalier: error: ");
    ssize_t put;

    n = append(line, n, sizeof line - 200, path);
    n = append(
        line, n, sizeof line,
        ": its bytes cannot be had any more: it became shorter while it was read, or its disk "
        "is full or failed; see that nothing changes it, and run again\n");
    put = write(STDERR_FILENO, line, n);
    (void)put;
}

/* Async-signal-safe but for its last step, esp_end_job, which has a limit of time. */
static void bus_error(int signal_number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;

    (void)context;
    for (mapped *e = all_mapped; e; e = e->next) {
        if (e->begin && at >= e->begin && at - e->begin < e->n) {
            say(e->path);
            esp_end_job();
        }
    }
    signal(signal_number,
           SIG_DFL); /* of something else: the instruction is tried again, and dies */
}

void esp_map_watch(void)
{
    struct sigaction action = { .sa_sigaction = bus_error, .sa_flags = SA_SIGINFO };

    sigaction(SIGBUS, &action, NULL);
}

/* ---- files ---- */

static uint64_t identity(int fd)
{
    struct stat s;

    return fstat(fd, &s) == 0 ? (uint64_t)s.st_dev << 48 ^ (uint64_t)s.st_ino : 0;
}

esp_status esp_map_open(esp_map *m, const char *path)
{
    int fd;
    void *p;

    *m = (esp_map){ 0 };
    ESP_TRY(esp_file_open(&fd, &m->n, path));
    m->id = identity(fd);
    if (m->n == 0) { /* nothing to map, and no error by itself */
        close(fd);
        return ESP_OK;
    }
    p = mmap(NULL, m->n, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) {
        esp_fail(ESP_EIO, "%s: cannot map %zu bytes: %s", path, m->n, strerror(errno));
        *m = (esp_map){ 0 };
        return ESP_EIO;
    }
    m->data = p;
    esp_map_note(p, m->n, path);
    return ESP_OK;
}

void esp_map_close(esp_map *m)
{
    if (m->data) {
        esp_map_forget(m->data);
        munmap((void *)(uintptr_t)m->data, m->n);
    }
    *m = (esp_map){ 0 };
}

esp_status esp_map_check(const esp_map *m)
{
    esp_status st = ESP_OK;
    struct stat now;

    pthread_mutex_lock(&changing);
    for (mapped *e = all_mapped; e && m->data; e = e->next) {
        const struct stat *then = &e->then;

        if (e->begin == (uintptr_t)m->data &&
            (stat(e->path, &now) != 0 || now.st_ino != then->st_ino || now.st_dev != then->st_dev ||
             now.st_size != then->st_size || now.st_mtim.tv_sec != then->st_mtim.tv_sec ||
             now.st_mtim.tv_nsec != then->st_mtim.tv_nsec)) {
            st = esp_fail(
                ESP_EFAILED,
                "%s: was changed while it was in use: what was made of it is not kept; see "
                "that nothing changes it, and run again",
                e->path);
        }
    }
    pthread_mutex_unlock(&changing);
    return st;
}
