/* rng.c - sequential use of counter-based streams. */
#include "espalier/rng.h"

#include <math.h>

uint64_t esp_rng_key(uint64_t seed, uint64_t a, uint64_t b)
{
    return esp_rng_at(esp_rng_at(esp_rng_at(0, seed), a), b);
}

uint64_t esp_rng_next(esp_rng *r)
{
    return esp_rng_at(r->key, r->at++);
}

double esp_rng_uniform(esp_rng *r)
{
    return (double)(esp_rng_next(r) >> 11) * 0x1p-53;
}

size_t esp_rng_below(esp_rng *r, size_t n)
{
    return (size_t)(esp_rng_uniform(r) * (double)n);
}

double esp_rng_normal(esp_rng *r) /* Box and Muller 1958, one of the pair */
{
    double u = 1.0 - esp_rng_uniform(r), v = esp_rng_uniform(r);

    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

void esp_rng_shuffle(esp_rng *r, size_t *index, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = esp_rng_below(r, i), t = index[i - 1];

        index[i - 1] = index[j];
        index[j] = t;
    }
}
