/* text_impl.h - what the files of this folder share: a dictionary, UTF-8, the byte alphabet.
 *
 * Nothing in here fails but for lack of memory. All functions are Local.
 */
#ifndef ESPALIER_TEXT_IMPL_H
#define ESPALIER_TEXT_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/bytes.h"

/* From keys of bytes to numbers >= 0. The keys stay the caller's and must outlive the dictionary. */
typedef struct esp_dict {
    struct esp_dict_entry {
        const char *key; /* NULL: free */
        uint32_t n;
        int32_t value;
    } * entry; /* [room] owned, room a power of two, at most half full */
    size_t n, capacity;
} esp_dict;
void esp_dict_put(esp_dict *d, const void *key, size_t n, int32_t value); /* replaces */
int32_t esp_dict_get(const esp_dict *d, const void *key, size_t n);       /* -1: absent */
void esp_dict_free(esp_dict *d); /* safe twice and on {0} */

/* Bytes of the character at s (n > 0 bytes left), 0 when no well-formed UTF-8 begins there. */
size_t esp_utf8_length(const char *s, size_t n);

/* Bytes from s on that are well-formed UTF-8. */
size_t esp_utf8_run(const char *s, size_t n);

/* Bytes at s (n > 0), where no character begins, that could have begun one: at least 1. */
size_t esp_utf8_begun(const char *s, size_t n);

/* Bytes of the white space character (Unicode's) at s, and of the one that ends n bytes of s; 0: none. */
size_t esp_space_length(const char *s, size_t n);
size_t esp_space_before(const char *s, size_t n);

/* The alphabet of byte-level BPE (GPT-2): each byte is written as one printable character. Writes the
 * 1 or 2 bytes of that character and returns how many. */
size_t esp_alphabet_put(char out[2], uint8_t byte);

/* Bytes that the characters of s stand for, appended to b; s itself where one is not of the alphabet. */
void esp_alphabet_back(esp_byte_string *b, const char *s, size_t n);

/* Byte named by a piece "<0x4A>", -1 for any other piece. */
int esp_byte_piece(const char *s, size_t n);

#endif
