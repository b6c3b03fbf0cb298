/* kind.h - what a file is by its first bytes, where the program cannot read it as it is. */
#ifndef ESPALIER_KIND_H
#define ESPALIER_KIND_H

#include <stddef.h>

#include "espalier/status.h"

typedef struct esp_kind {
    const char *name;   /* "a gzip file"       */
    const char *remedy; /* what to do about it */
} esp_kind;

/* The kind of a file of n bytes, or of its first ones: packed, of tables, arrays, pictures or weights, a Git
 * LFS pointer, or text in UTF-16 or UTF-32 (by its byte-order mark, else by its 0 bytes). NULL for anything
 * else. Static. Local. */
const esp_kind *esp_kind_of(const void *data, size_t n);

/* ESP_EFORMAT "path: is NAME: REMEDY" for a file of a kind above. Local. */
esp_status esp_kind_refuse(const void *data, size_t n, const char *path);

#endif
