/* convert.c - the types of weights on disk: F32, F16 and BF16, at any alignment. */
#include <string.h>

#include "espalier/tensor.h"
#include "tensor/bits_impl.h"
#include "tensor/lanes_impl.h"
#include "tensor/tile_impl.h"

/* Elements that one thread converts at a time. */
#define CHUNK ((size_t)1 << 16)

/* Elements whose largest is asked for at a time. */
#define BLOCK ((size_t)1024)

static inline void store16(unsigned char *p, uint32_t bits)
{
    uint16_t u = (uint16_t)bits;

    memcpy(p, &u, sizeof u);
}

/* Ties go to even: half of the last kept place, less one where that place is even. A NaN whose kept bits
 * are zero gets the quiet bit, so that it does not become infinity. */
static inline uint32_t to_bf16(float f)
{
    uint32_t u = esp_bits(f), kept = u >> 16;
    uint32_t rounded = (u + 0x7fff + (kept & 1)) >> 16;
    uint32_t nan = kept | ((kept & 0x7f) ? 0 : 0x40);

    return (u & 0x7fffffff) > 0x7f800000 ? nan : rounded;
}

/* Under 2^-14 the result is subnormal, a multiple of 2^-24: adding 0.5, whose last place is that, rounds.
 * From 65520 on the rounding of normal numbers carries into the pattern of infinity. */
static inline uint32_t to_f16(float f)
{
    uint32_t u = esp_bits(f), a = u & 0x7fffffff, mantissa = (a >> 13) & 0x3ff;
    uint32_t subnormal = esp_bits(esp_float(a < 0x38800000 ? a : 0) + 0.5f) - esp_bits(0.5f);
    uint32_t normal = (a + 0xfff + (mantissa & 1) - (112u << 23)) >> 13;
    uint32_t nan = 0x7c00 | mantissa | (mantissa ? 0 : 0x200);
    uint32_t h = a < 0x38800000 ? subnormal : normal;

    h = a >= 0x47800000 ? 0x7c00 : h;
    h = a > 0x7f800000 ? nan : h;
    return h | (u >> 16 & 0x8000);
}

static void chunk_to_f32(float *dst, const unsigned char *src, esp_dtype t, size_t n)
{
    switch (t) { /* a loop of its own for each */
    case ESP_BF16:
        esp_widen_run(dst, src, ESP_BF16, n);
        break;
    case ESP_F16:
        esp_widen_run(dst, src, ESP_F16, n);
        break;
    default:
        memcpy(dst, src, n * sizeof *dst);
    }
}

static void chunk_from_f32(unsigned char *dst, esp_dtype t, const float *src, size_t n)
{
    if (t == ESP_F32) {
        memcpy(dst, src, n * sizeof *src);
    } else if (t == ESP_BF16) {
        for (size_t i = 0; i < n; i++) {
            store16(dst + 2 * i, to_bf16(src[i]));
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            store16(dst + 2 * i, to_f16(src[i]));
        }
    }
}

void esp_to_f32(float *dst, const void *src, esp_dtype t, size_t n)
{
    const unsigned char *from = src;

    if (n <=
        CHUNK) { /* also from inside a parallel loop, where a region of its own would cost more */
        chunk_to_f32(dst, from, t, n);
        return;
    }
#pragma omp parallel for
    for (size_t i = 0; i < n; i += CHUNK) {
        chunk_to_f32(dst + i, from + i * esp_dtype_size(t), t, esp_tile(i, n, CHUNK));
    }
}

void esp_from_f32(void *dst, esp_dtype t, const float *src, size_t n)
{
    unsigned char *to = dst;

    if (n <= CHUNK) {
        chunk_from_f32(to, t, src, n);
        return;
    }
#pragma omp parallel for
    for (size_t i = 0; i < n; i += CHUNK) {
        chunk_from_f32(to + i * esp_dtype_size(t), t, src + i, esp_tile(i, n, CHUNK));
    }
}

/* ---- NaN and infinity: an exponent of all ones, so no finite number is larger without its sign ---- */

static inline uint32_t magnitude32(const unsigned char *x, size_t i)
{
    uint32_t u;

    memcpy(&u, x + i * sizeof u, sizeof u);
    return u & 0x7fffffff;
}

static inline uint16_t magnitude16(const unsigned char *x, size_t i)
{
    uint16_t u;

    memcpy(&u, x + i * sizeof u, sizeof u);
    return u & 0x7fff;
}

/* Largest magnitude of n numbers: loops that become vector code. */
static uint32_t largest32(const unsigned char *x, size_t n)
{
    uint32_t most = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t u = magnitude32(x, i);

        most = u > most ? u : most;
    }
    return most;
}

static uint16_t largest16(const unsigned char *x, size_t n)
{
    uint16_t most = 0;

    for (size_t i = 0; i < n; i++) {
        uint16_t u = magnitude16(x, i);

        most = u > most ? u : most;
    }
    return most;
}

static size_t find_in_chunk(const unsigned char *x, esp_dtype t, size_t n)
{
    bool whole = t == ESP_F32;
    uint32_t infinity = whole ? 0x7f800000 : t == ESP_F16 ? 0x7c00 : 0x7f80;
    size_t i = 0;

    for (size_t size = esp_dtype_size(t); i < n; i += esp_tile(i, n, BLOCK)) {
        const unsigned char *at = x + i * size;
        size_t length = esp_tile(i, n, BLOCK);

        if ((whole ? largest32(at, length) : largest16(at, length)) >= infinity) {
            break;
        }
    }
    while (i < n && (whole ? magnitude32(x, i) : magnitude16(x, i)) < infinity) {
        i++;
    }
    return i;
}

size_t esp_find_nonfinite(const void *x, esp_dtype t, size_t n)
{
    const unsigned char *from = x;
    size_t first = n;

    if (n <= CHUNK) {
        return find_in_chunk(from, t, n);
    }
#pragma omp parallel for reduction(min : first)
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t length = esp_tile(i, n, CHUNK);
        size_t at = find_in_chunk(from + i * esp_dtype_size(t), t, length);

        first = at < length && i + at < first ? i + at : first;
    }
    return first;
}
