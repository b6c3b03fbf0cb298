/* digest.c - XXH3 of 128 bits as hex. */
#include "espalier/digest.h"

#include <stdint.h>
#include <stdio.h>

#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include <xxhash.h>
#pragma GCC diagnostic pop

#include "espalier/status.h"

static void to_hex(char hex[ESP_DIGEST_SIZE], XXH128_hash_t h)
{
    snprintf(hex, ESP_DIGEST_SIZE, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
}

static void to_words(uint64_t words[ESP_DIGEST_WORDS], XXH128_hash_t h)
{
    words[0] = h.low64;
    words[1] = h.high64;
}

void esp_digest_bytes(char hex[ESP_DIGEST_SIZE], const void *data, size_t n)
{
    to_hex(hex, XXH3_128bits(data, n));
}

void esp_digest_words(uint64_t words[ESP_DIGEST_WORDS], const void *data, size_t n)
{
    to_words(words, XXH3_128bits(data, n));
}

uint64_t esp_digest_block(const void *data, size_t n, uint64_t at)
{
    return XXH3_64bits_withSeed(data, n, at);
}

void esp_digest_init(esp_digest *d)
{
    d->state = XXH3_createState();
    ESP_REQUIRE(d->state);
    XXH3_128bits_reset(d->state);
}

void esp_digest_add(esp_digest *d, const void *data, size_t n)
{
    XXH3_128bits_update(d->state, data, n);
}

void esp_digest_end(esp_digest *d, char hex[ESP_DIGEST_SIZE])
{
    to_hex(hex, XXH3_128bits_digest(d->state));
    XXH3_freeState(d->state);
    d->state = NULL;
}

void esp_digest_end_words(esp_digest *d, uint64_t words[ESP_DIGEST_WORDS])
{
    to_words(words, XXH3_128bits_digest(d->state));
    XXH3_freeState(d->state);
    d->state = NULL;
}
