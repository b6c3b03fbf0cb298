/* rng.h - random numbers from (seed, stream), never from a rank or a call order elsewhere.
 *
 * Counter based: number i of a stream is a hash of (key, i), so any part of a stream can be made
 * anywhere (splitmix64, Steele, Lea and Flood 2014, applied to a counter).
 */
#ifndef ESPALIER_RNG_H
#define ESPALIER_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct esp_rng {
    uint64_t key;
    uint64_t at; /* numbers drawn so far */
} esp_rng;

/* Key of the stream named by three numbers, e.g. (seed, sample, layer). Local. */
uint64_t esp_rng_key(uint64_t seed, uint64_t a, uint64_t b);

/* Number i of the stream of key: 64 random bits. Local. */
static inline uint64_t esp_rng_at(uint64_t key, uint64_t i)
{
    uint64_t z = key + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Sequential use of a stream, r [in,out]. Local. */
uint64_t esp_rng_next(esp_rng *r);  /* 64 random bits                                        */
double esp_rng_uniform(esp_rng *r); /* uniform in [0, 1), a multiple of 2^-53                */
size_t esp_rng_below(esp_rng *r,
                     size_t n);    /* uniform in 0 .. n - 1, n in 1 .. 2^53                 */
double esp_rng_normal(esp_rng *r); /* standard normal, from two numbers (Box, Muller 1958)  */

/* Fisher-Yates shuffle of index [n], in place. Local. */
void esp_rng_shuffle(esp_rng *r, size_t *index, size_t n);

#endif
