/* bytes.c - arrays and byte strings that grow. */
#include "espalier/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

void *esp_grow_array(void *p, size_t *capacity, size_t n, size_t size)
{
    if (n <= *capacity) {
        return p;
    }
    *capacity = n > 2 * *capacity ? n : 2 * *capacity;
    return esp_grow(p, *capacity, size);
}

void esp_bytes_add(esp_byte_string *b, const char *s, size_t n)
{
    b->data = esp_grow_array(b->data, &b->capacity, b->n + n, 1);
    if (n > 0) {
        memcpy(b->data + b->n, s, n);
        b->n += n;
    }
}

void esp_bytes_free(esp_byte_string *b)
{
    free(b->data);
    *b = (esp_byte_string){ 0 };
}
