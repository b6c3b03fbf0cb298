/* bits_impl.h - a float and its bits. */
#ifndef ESPALIER_BITS_IMPL_H
#define ESPALIER_BITS_IMPL_H

#include <stdint.h>
#include <string.h>

static inline uint32_t esp_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float esp_float(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

#endif
