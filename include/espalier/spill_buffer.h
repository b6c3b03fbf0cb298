/* spill_buffer.h - arrays that may be larger than memory (activations of many tokens): pages of a
 * nameless file, written and read in order. */
#ifndef ESPALIER_SPILL_BUFFER_H
#define ESPALIER_SPILL_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct esp_spill_buffer {
    float *at;
    size_t n; /* numbers */
    bool mapped;
} esp_spill_buffer;

/* n zeros, aligned to 64 bytes at least. With dir (neither NULL nor "") they are pages of a file without a
 * name in that folder, which the system writes out when it needs the memory, and which goes with the
 * process; else they are in memory. Ends the job with a line that says why when there is no room. *r is {0}
 * or was freed before. Local. */
void esp_spill_buffer_init(esp_spill_buffer *r, size_t n, const char *dir);

/* The same, or where bytes is not NULL only adds what it takes of memory. Local. */
void esp_spill_buffer_make(esp_spill_buffer *r, size_t n, const char *dir, size_t *bytes);
void esp_spill_buffer_free(esp_spill_buffer *r); /* safe twice and on {0} */

#endif
