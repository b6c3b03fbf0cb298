/* mem.c - checked allocation, strings and the resident set, whose peak is a piece of global state. */
#include "espalier/mem.h"

#include <limits.h>
#include <math.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "espalier/clock.h"
#include "espalier/status.h"

#define ALIGNMENT ((size_t)64)
#define LARGE     ((size_t)1 << 20) /* bytes that are worth a look at the resident set */

size_t esp_calloc_bytes(size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT) {
        esp_bug(__FILE__, __LINE__, "%zu elements of %zu bytes", n, size);
    }
    return (bytes / ALIGNMENT + 1) * ALIGNMENT;
}

void *esp_calloc(size_t n, size_t size)
{
    size_t bytes = esp_calloc_bytes(n, size);
    void *p = aligned_alloc(ALIGNMENT, bytes);

    if (!p) {
        esp_bug(__FILE__, __LINE__, "no memory for %zu bytes", bytes);
    }
    memset(p, 0, bytes);
    if (bytes >= LARGE) {
        esp_anonymous_look();
    }
    return p;
}

void *esp_grow(void *p, size_t n, size_t size)
{
    void *q = reallocarray(p, n ? n : 1, size);

    if (!q) {
        esp_bug(__FILE__, __LINE__, "no memory for %zu elements of %zu bytes", n, size);
    }
    return q;
}

char *esp_format(const char *fmt, ...)
{
    char *s = NULL;
    va_list args;

    va_start(args, fmt);
    if (vasprintf(&s, fmt, args) < 0) {
        esp_bug(__FILE__, __LINE__, "no memory for a string");
    }
    va_end(args);
    return s;
}

char *esp_bytes_text(double bytes)
{
    double mib = bytes / 1048576, gib = mib / 1024;

    return gib < 1 ? esp_format("%.0f MiB", ceil(mib))
                   : esp_format("%.12g GiB", ceil(10 * gib) / 10);
}

char *esp_strdup(const char *s)
{
    return s ? esp_format("%s", s) : NULL;
}

int esp_count(size_t n)
{
    if (n > INT_MAX) {
        esp_bug(__FILE__, __LINE__, "%zu does not fit an int", n);
    }
    return (int)n;
}

void esp_mem_init(void)
{
#ifdef __GLIBC__ /* which else keeps what it has been given back once, up to 64 MB */
    mallopt(M_MMAP_THRESHOLD, (int)LARGE);
    mallopt(M_TRIM_THRESHOLD, (int)LARGE);
#endif
}

size_t esp_peak_resident(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (size_t)u.ru_maxrss * 1024;
}

static struct {
    size_t peak;
    double looked; /* esp_now() */
} watch;

void esp_anonymous_look(void)
{
    size_t n;

    if (esp_now() - watch.looked < 1e-3) {
        return;
    }
    n = esp_anonymous_resident();
    watch.peak = esp_max(watch.peak, n);
    watch.looked = esp_now();
}

void esp_anonymous_restart(void)
{
#ifdef __GLIBC__
    malloc_trim(0); /* what has been freed goes back to the system */
#endif
    watch.peak = 0;
    watch.looked = 0;
    esp_anonymous_look();
}

size_t esp_anonymous_peak(void)
{
    return watch.peak;
}

size_t esp_anonymous_resident(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    size_t kb = 0;

    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "RssAnon: %zu", &kb) == 1) {
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return kb * 1024;
}
