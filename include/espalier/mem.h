/* mem.h - memory that is there or the job ends, and strings. */
#ifndef ESPALIER_MEM_H
#define ESPALIER_MEM_H

#include <stddef.h>
#include <stdint.h>

/* n zeroed elements of size bytes, aligned to 64 bytes; aborts the job when there is no memory or
 * n * size overflows. n = 0 gives a valid pointer. Freed with free(). Local. */
void *esp_calloc(size_t n, size_t size);

/* Bytes that esp_calloc takes for them. Local. */
size_t esp_calloc_bytes(size_t n, size_t size);

/* Grow an array got from esp_calloc/esp_grow to n elements; the new part is not set. Local. */
void *esp_grow(void *p, size_t n, size_t size);

/* n zeroed elements of the type that p points to. */
#define ESP_NEW(p, n) ((p) = esp_calloc((n), sizeof *(p)))

/* The same, or where bytes is not NULL only adds what it would take: so the list of arrays that x_init
 * makes is the one that x_bytes, right below it, adds up (as LAPACK's routines tell their workspace). */
#define ESP_MAKE(p, n, bytes) \
    ((bytes) ? (void)(*(bytes) += esp_calloc_bytes((n), sizeof *(p))) : (void)ESP_NEW(p, n))

/* printf into a fresh string; the caller frees. Local. */
char *esp_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Copy of a string; the caller frees. NULL gives NULL. Local. */
char *esp_strdup(const char *s);

/* A size as the int that MPI and BLAS take; aborts where it does not fit. Local. */
int esp_count(size_t n);

/* Has large arrays mapped each by itself from now on, so that one that is freed is no memory of this process
 * any more. Local. */
void esp_mem_init(void);

/* Largest resident set of this process so far, and the anonymous part now, in bytes. Local. */
size_t esp_peak_resident(void);
size_t esp_anonymous_resident(void);

/* The largest anonymous part since the last restart, of the moments when somebody looked, at most once in a
 * millisecond: large allocations and esp_progress do. A restart gives back what was freed before. Local. */
void esp_anonymous_look(void);
void esp_anonymous_restart(void);
size_t esp_anonymous_peak(void);

static inline size_t esp_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t esp_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
