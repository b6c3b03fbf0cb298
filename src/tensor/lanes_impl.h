/* lanes_impl.h - vectors of the processor, and numbers of any type on their way into them. */
#ifndef ESPALIER_LANES_IMPL_H
#define ESPALIER_LANES_IMPL_H

#include <stdint.h>
#include <string.h>

#include "espalier/tensor.h"

/* Numbers in a vector of the processor. */
#if defined __AVX512F__
#define ESP_LANES ((size_t)16)
#elif defined __AVX__
#define ESP_LANES ((size_t)8)
#else
#define ESP_LANES ((size_t)4)
#endif

typedef float esp_lanes __attribute__((vector_size(ESP_LANES * sizeof(float))));
typedef float esp_loose_lanes
    __attribute__((vector_size(ESP_LANES * sizeof(float)), aligned(1), may_alias));
typedef uint32_t esp_words __attribute__((vector_size(ESP_LANES * sizeof(uint32_t))));
typedef uint16_t esp_loose_halves
    __attribute__((vector_size(ESP_LANES * sizeof(uint16_t)), aligned(1), may_alias));

static inline esp_lanes esp_lanes_load(const void *x)
{
    return *(const esp_loose_lanes *)x;
}

static inline void esp_lanes_store(float *x, esp_lanes v)
{
    *(esp_loose_lanes *)x = v;
}

/* LANES numbers, at any alignment, in f32. F16: moving the fields into place leaves the exponent 112 too
 * small, which the product mends, also for subnormal numbers; infinity and NaN (then at 65536 and above) get
 * the exponent of all ones. */
static inline __attribute__((always_inline)) esp_lanes esp_lanes_widen(const void *at, esp_dtype t)
{
    esp_words h, u;

    if (t == ESP_F32) {
        return esp_lanes_load(at);
    }
    h = __builtin_convertvector(*(const esp_loose_halves *)at, esp_words);
    if (t == ESP_BF16) {
        return (esp_lanes)(h << 16);
    }
    u = (esp_words)((esp_lanes)((h & 0x7fff) << 13) * 0x1p112f);
    u |= (esp_words)(u >= 0x47800000) & 0x7f800000;
    return (esp_lanes)(u | (h & 0x8000) << 16);
}

/* Bytes of n numbers. */
static inline size_t esp_lane_bytes(esp_dtype t, size_t n)
{
    return n * (t == ESP_F32 ? sizeof(float) : sizeof(uint16_t));
}

/* The same of n numbers, n < LANES; zeros follow. */
static inline __attribute__((always_inline)) esp_lanes esp_lanes_some(const void *at, esp_dtype t,
                                                                      size_t n)
{
    char room[ESP_LANES * sizeof(float)] = { 0 };

    memcpy(room, at, esp_lane_bytes(t, n));
    return esp_lanes_widen(room, t);
}

/* to [n] = n numbers in f32. */
static inline __attribute__((always_inline)) void esp_widen_run(float *to, const void *from,
                                                                esp_dtype t, size_t n)
{
    const char *at = from;
    size_t i = 0;

    for (; i + ESP_LANES <= n; i += ESP_LANES) {
        esp_lanes_store(to + i, esp_lanes_widen(at + esp_lane_bytes(t, i), t));
    }
    if (i < n && t == ESP_F32) {
        memcpy(to + i, at + esp_lane_bytes(t, i), (n - i) * sizeof *to);
    } else if (i < n) {
        esp_lanes rest = esp_lanes_some(at + esp_lane_bytes(t, i), t, n - i);

        memcpy(to + i, &rest, (n - i) * sizeof *to);
    }
}

#endif
