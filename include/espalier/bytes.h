/* bytes.h - arrays and byte strings that grow. Nothing in here fails but for lack of memory, which ends the
 * job (mem.h). All functions are Local.
 */
#ifndef ESPALIER_BYTES_H
#define ESPALIER_BYTES_H

#include <stddef.h>

/* p with a capacity of at least n elements of `size` bytes each. *capacity [in, out] at least doubles when it
 * grows, so that adding one element costs O(1). p may be NULL with *capacity 0; the caller owns what is
 * returned and frees it. */
void *esp_grow_array(void *p, size_t *capacity, size_t n, size_t size);

typedef struct esp_byte_string {
    char *data; /* [n] owned, not 0-terminated; NULL while empty */
    size_t n, capacity;
} esp_byte_string;

void esp_bytes_add(esp_byte_string *b, const char *s, size_t n); /* appends s [n] */
void esp_bytes_free(esp_byte_string *b);                         /* safe twice and on {0} */

#endif
