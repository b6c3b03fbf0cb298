/* unit_convert.c - the vector exponential against libm, and 16-bit types there and back. */
#include "espalier/tensor.h"
#include "espalier/rng.h"
#include "tensor/exp_impl.h"
#include "test.h"

static void test_exp(void)
{
    double worst = 0;

    for (double x = -87.3; x <= 88; x += 0.000317) {
        double want = exp((double)(float)x);

        worst = fmax(worst, fabs((double)esp_expf((float)x) - want) / want);
    }
    CU_ASSERT(worst < 2e-7);
    CU_ASSERT(esp_expf(0) == 1);
    CU_ASSERT(esp_expf(-1000) == esp_expf(-87.3f));
    CU_ASSERT(esp_expf(-INFINITY) < 2e-38f);
    CU_ASSERT(isfinite(esp_expf(1000)));
    CU_ASSERT(isnan(esp_expf(NAN)));
}

/* All 65536 patterns, at an odd address, there and back. */
static int round_trip(esp_dtype t)
{
    static unsigned char bytes[2 * 65536 + 1], back[2 * 65536 + 1];
    static float values[65536];

    for (size_t i = 0; i < 65536; i++) {
        uint16_t u = (uint16_t)i;

        memcpy(bytes + 1 + 2 * i, &u, 2);
    }
    esp_to_f32(values, bytes + 1, t, 65536);
    esp_from_f32(back + 1, t, values, 65536);
    return memcmp(bytes + 1, back + 1, 2 * 65536) == 0;
}

static void test_round_trip(void)
{
    float x[3] = { 1, -2.5f, 1e-30f }, y[3];
    unsigned char bytes[13];

    CU_ASSERT(round_trip(ESP_BF16));
    CU_ASSERT(round_trip(ESP_F16));
    esp_from_f32(bytes + 1, ESP_F32, x, 3);
    esp_to_f32(y, bytes + 1, ESP_F32, 3);
    CU_ASSERT(memcmp(x, y, sizeof x) == 0);
    CU_ASSERT(esp_dtype_size(ESP_F32) == 4 && esp_dtype_size(ESP_F16) == 2);
    CU_ASSERT_STRING_EQUAL(esp_dtype_name(ESP_BF16), "BF16");
}

/* Values of a few patterns that IEEE 754 gives. */
static void test_f16_values(void)
{
    uint16_t h[7] = { 0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x7c00, 0x8000 };
    float want[7] = { 1, -2, 65504, 0x1p-24f, 0x1p-14f, INFINITY, -0.0f }, got[7];

    esp_to_f32(got, h, ESP_F16, 7);
    CU_ASSERT(memcmp(got, want, sizeof got) == 0);
}

/* f goes to the nearer of the neighbouring patterns below and above it, on a tie to the even one. */
static int rounds_right(float f, uint16_t got, esp_dtype t)
{
    uint16_t around[3] = { (uint16_t)(got - 1), got, (uint16_t)(got + 1) };
    float value[3];
    double e[3];

    esp_to_f32(value, around, t, 3);
    for (int i = 0; i < 3; i++) {
        e[i] = fabs((double)value[i] - (double)f);
    }
    for (int i = 0; i < 3; i += 2) {
        if (isfinite(value[i]) && (value[i] < 0) == (f < 0) &&
            (e[1] > e[i] || (e[1] == e[i] && (got & 1)))) {
            printf("  %a became %a, but %a is nearer\n", (double)f, (double)value[1],
                   (double)value[i]);
            return 0;
        }
    }
    return 1;
}

static void test_rounding(void)
{
    esp_rng r = { .key = 11 };
    int ok = 1;

    for (int i = 0; i < 100000; i++) {
        float f = (float)ldexp(esp_rng_uniform(&r) + 0.5, (int)esp_rng_below(&r, 40) - 26);
        uint16_t h;

        f = i % 3 == 0 ? (float)(int)(f * 2048) / 2048 : f; /* many ties */
        f = f == 0 || f > 65000 ? 1 : f;
        f = i & 1 ? -f : f;
        esp_from_f32(&h, ESP_BF16, &f, 1);
        ok = ok && rounds_right(f, h, ESP_BF16);
        esp_from_f32(&h, ESP_F16, &f, 1);
        ok = ok && rounds_right(f, h, ESP_F16);
    }
    CU_ASSERT(ok);
}

static void test_rounding_ends(void)
{
    float f[6] = { 65519, 65520, -1e30f, 0x1p-25f, 0x1.8p-24f, 3.4e38f };
    uint16_t want[6] = { 0x7bff, 0x7c00, 0xfc00, 0, 2, 0x7c00 }, got[6];
    uint32_t thin = 0x7f800001; /* a NaN that shows in the lowest bit alone */
    float nan;

    esp_from_f32(got, ESP_F16, f, 6);
    CU_ASSERT(memcmp(got, want, sizeof got) == 0);
    esp_from_f32(got, ESP_BF16, f + 5, 1);
    CU_ASSERT(got[0] == 0x7f80);
    memcpy(&nan, &thin, sizeof nan);
    for (int t = ESP_F16; t <= ESP_BF16; t++) {
        float back;

        esp_from_f32(got, (esp_dtype)t, &nan, 1);
        esp_to_f32(&back, got, (esp_dtype)t, 1);
        CU_ASSERT(isnan(back));
    }
}

/* Patterns of each type that are not finite, then the largest and smallest that are. */
static const struct {
    esp_dtype type;
    uint32_t none[4], some[4];
} ends[] = {
    { ESP_F32,
      { 0x7f800000, 0xff800000, 0x7f800001, 0xffffffff },
      { 0x7f7fffff, 0xff7fffff, 0x00000001, 0x80000000 } },
    { ESP_F16, { 0x7c00, 0xfc00, 0x7c01, 0xffff }, { 0x7bff, 0xfbff, 0x0001, 0x8000 } },
    { ESP_BF16, { 0x7f80, 0xff80, 0x7f81, 0xffff }, { 0x7f7f, 0xff7f, 0x0001, 0x8000 } },
};

enum { MOST = 3 * 65536 + 5 }; /* several chunks of the threads and a rest */

static void put(unsigned char *x, size_t size, size_t i, uint32_t pattern)
{
    uint16_t half = (uint16_t)pattern;

    memcpy(x + i * size, size == 4 ? (void *)&pattern : (void *)&half, size);
}

/* A pattern at position `at` of n finite numbers, and another one behind it at times. */
static int is_found(unsigned char *x, int k, size_t n, size_t at)
{
    esp_dtype t = ends[k].type;
    size_t size = esp_dtype_size(t), found;
    int ok = esp_find_nonfinite(x, t, n) == n && esp_find_nonfinite(x, t, at) == at;

    for (int i = 0; i < 4; i++) {
        put(x, size, at, ends[k].none[i]);
        found = esp_find_nonfinite(x, t, n);
        put(x, size, n - 1, ends[k].none[i]); /* also where it is the same place */
        ok = ok && found == at && esp_find_nonfinite(x, t, n) == at;
        put(x, size, n - 1, ends[k].some[i]);
        put(x, size, at, ends[k].some[i]);
    }
    return ok;
}

/* All types, alignments, lengths around those of vectors and blocks, and positions. */
static void test_find_nonfinite(void)
{
    static unsigned char bytes[4 * MOST + 4];
    static const size_t lengths[] = { 1, 2, 15, 33, 1023, 1024, 1025, 2 * 1024 + 7, 65537, MOST };

    for (int k = 0; k < 3; k++) {
        int ok = 1;

        for (size_t shift = 0; shift < 4; shift++) {
            unsigned char *x = bytes + shift;

            for (size_t i = 0; i < MOST; i++) {
                put(x, esp_dtype_size(ends[k].type), i, ends[k].some[i % 4]);
            }
            CU_ASSERT(esp_find_nonfinite(x, ends[k].type, 0) == 0);
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                size_t n = lengths[l], step = n < 100 ? 1 : n < 10000 ? 61 : 65536 / 2 - 1;

                for (size_t at = 0; at < n; at += step) {
                    ok = ok && is_found(x, k, n, at);
                }
                ok = ok && is_found(x, k, n, n - 1);
            }
        }
        CU_ASSERT(ok);
    }
}

ESP_TEST_MAIN("convert", { "exponential", test_exp },
              { "all 16-bit patterns there and back", test_round_trip },
              { "values of f16", test_f16_values }, { "rounding to nearest even", test_rounding },
              { "ends of the range, and NaN", test_rounding_ends },
              { "numbers that are none are found", test_find_nonfinite })
