/* digest.h - 128-bit digests (XXH3) of data and settings, as 32 hex digits. Identity, not security. */
#ifndef ESPALIER_DIGEST_H
#define ESPALIER_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define ESP_DIGEST_SIZE 33 /* 32 hex digits and the end of the string */

#define ESP_DIGEST_WORDS 2 /* the same as numbers */

/* Digest of data [n bytes], as hex or as numbers, the same digest. Local. */
void esp_digest_bytes(char hex[ESP_DIGEST_SIZE], const void *data, size_t n);
void esp_digest_words(uint64_t words[ESP_DIGEST_WORDS], const void *data, size_t n);

/* Digest of 64 bits of a block, n bytes at place `at` of a whole. The sum over all blocks is a digest of the
 * whole, whatever the order in which, and the ranks by which, they are added. Local. */
uint64_t esp_digest_block(const void *data, size_t n, uint64_t at);

/* Digest of several parts one after another, that of their bytes joined: init, add ..., and one of the two
 * end, which frees the state. Local. */
typedef struct esp_digest {
    void *state; /* owned */
} esp_digest;

void esp_digest_init(esp_digest *d);
void esp_digest_add(esp_digest *d, const void *data, size_t n);
void esp_digest_end(esp_digest *d, char hex[ESP_DIGEST_SIZE]);
void esp_digest_end_words(esp_digest *d, uint64_t words[ESP_DIGEST_WORDS]);

#endif
