/* mem.c - checked allocation, strings and the resident set. */
#include "espalier/mem.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "espalier/status.h"

#define ALIGNMENT ((size_t)64)

void *esp_calloc(size_t n, size_t size)
{
    size_t bytes;
    void *p;

    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT) {
        esp_bug(__FILE__, __LINE__, "%zu elements of %zu bytes", n, size);
    }
    bytes = (bytes / ALIGNMENT + 1) * ALIGNMENT;
    p = aligned_alloc(ALIGNMENT, bytes);
    if (!p) {
        esp_bug(__FILE__, __LINE__, "no memory for %zu bytes", bytes);
    }
    return memset(p, 0, bytes);
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

size_t esp_peak_resident(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (size_t)u.ru_maxrss * 1024;
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
