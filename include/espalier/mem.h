/* mem.h - memory that is there or the job ends, and strings. */
#ifndef ESPALIER_MEM_H
#define ESPALIER_MEM_H

#include <stddef.h>
#include <stdint.h>

/* n zeroed elements of `size` bytes, aligned to 64 bytes; ends the job when there is no memory or n * size
 * overflows. n = 0 gives a valid pointer. The caller frees with free(). Local. */
void *esp_calloc(size_t n, size_t size);

/* Bytes that esp_calloc takes for them. Local. */
size_t esp_calloc_bytes(size_t n, size_t size);

/* An array of esp_calloc or esp_grow (NULL: a new one) moved to room for n elements of `size` bytes, with
 * what fits of its content; the new part is not set, nor aligned to more than malloc gives. Ends the job when
 * there is no memory. The caller frees. Local. */
void *esp_grow(void *p, size_t n, size_t size);

/* n zeroed elements of the type that p points to. */
#define ESP_NEW(p, n) ((p) = esp_calloc((n), sizeof *(p)))

/* The same, or where bytes is not NULL only adds what it would take: so the list of arrays that x_init
 * makes is the one that x_bytes, right below it, adds up (as LAPACK's routines tell their workspace). */
#define ESP_MAKE(p, n, bytes) \
    ((bytes) ? (void)(*(bytes) += esp_calloc_bytes((n), sizeof *(p))) : (void)ESP_NEW(p, n))

/* printf into a new string; the caller frees. Local. */
char *esp_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "205 MiB", or "1.5 GiB" from one on, rounded up; the caller frees. Local. */
char *esp_bytes_text(double bytes);

/* Copy of a string; the caller frees. NULL gives NULL. Local. */
char *esp_strdup(const char *s);

/* A size as the int that MPI takes; ends the job where it does not fit. Local. */
int esp_count(size_t n);

/* From now on each large array is mapped by itself, so that its memory goes back to the system when it is
 * freed. Once, by the program. Local. */
void esp_mem_init(void);

size_t esp_peak_resident(void); /* bytes: largest resident set of this process so far. Local. */
size_t
esp_anonymous_resident(void); /* bytes: the anonymous part of it now (RssAnon). Local.      */

/* The largest anonymous part in bytes since the last restart, sampled at large allocations and by
 * esp_progress, at most once in a millisecond. A restart first gives memory that was freed back to the
 * system. Local. */
void esp_anonymous_look(void); /* takes a sample */
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
