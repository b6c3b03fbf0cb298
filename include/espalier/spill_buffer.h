/* spill_buffer.h - arrays that may be larger than memory (activations of many tokens): pages of a
 * nameless file, written and read in order.
 */
#ifndef ESPALIER_SPILL_BUFFER_H
#define ESPALIER_SPILL_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct esp_spill_buffer {
    float *at; /* [n] owned */
    size_t n;
    bool mapped; /* pages of a file, else memory */
} esp_spill_buffer;

/* r [out, owned]: n zeros, aligned to 64 bytes at least. With dir (neither NULL nor "") they are pages of a
 * nameless file in that folder, which the system writes out when it needs the memory, and which is gone when
 * the process ends; else they are in memory. Ends the job with one line when there is no room. Local. */
void esp_spill_buffer_init(esp_spill_buffer *r, size_t n, const char *dir);

/* r [in,out, owned]: where it has fewer than n numbers, n zeros in their place; or where bytes [in,out] is
 * not NULL only counts them in r->n and adds the bytes of memory they take beyond those of before. Local. */
void esp_spill_buffer_fit(esp_spill_buffer *r, size_t n, const char *dir, size_t *bytes);

/* Bytes of memory that n numbers take: 0 in a file. Local. */
size_t esp_spill_buffer_bytes(size_t n, const char *dir);
void esp_spill_buffer_free(esp_spill_buffer *r); /* safe twice and on {0} */

#endif
