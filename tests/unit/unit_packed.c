/* unit_packed.c - packed rows and the room they take, gradients from them against f64, and sums over samples
 * bit for bit. */
#include "finite_differences.h"

#include "espalier/bf16.h"
#include "espalier/packed.h"
#include "tensor/gemm_impl.h"

/* More rows and columns than a tile; lengths below and above the runs that products are cut into. */
enum { ROWS = 79, COLS = 70, N_SAMPLES = 18 };
static const size_t lengths[N_SAMPLES] = { 64, 64, 64, 64, 64, 1,   0,   300, 17,
                                           2,  3,  4,  5,  6,  700, 256, 257, 40 };

typedef struct fixture {
    size_t start[N_SAMPLES + 1];
    esp_spans samples;
    float *dy, *x;               /* [n_tok, ROWS], [n_tok, COLS] owned */
    float *packed_dy, *packed_x; /* owned */
    esp_factors factors;
} fixture;

static size_t n_tok(const fixture *f)
{
    return f->start[N_SAMPLES];
}

/* All rows in batches of at most `step`, which cut samples. */
static float *pack(const fixture *f, esp_factor which, const float *rows, size_t width, size_t step)
{
    size_t n = n_tok(f) * esp_packed_width(which, width);
    float *packed;

    ESP_NEW(packed, n);
    for (size_t i = 0; i < n; i++) {
        packed[i] = NAN;
    }
    for (size_t t = 0; t < n_tok(f); t += step) {
        esp_packed_fill(packed, which, rows + t * width, width, t, esp_min(n_tok(f) - t, step),
                        &f->samples);
    }
    return packed;
}

static void fixture_make(fixture *f)
{
    f->start[0] = 0;
    for (size_t j = 0; j < N_SAMPLES; j++) {
        f->start[j + 1] = f->start[j] + lengths[j];
    }
    f->samples = (esp_spans){ N_SAMPLES, f->start, f->start + 1 };
    f->dy = random_floats(n_tok(f) * ROWS, 1);
    f->x = random_floats(n_tok(f) * COLS, 2);
    f->packed_dy = pack(f, ESP_FACTOR_DY, f->dy, ROWS, n_tok(f));
    f->packed_x = pack(f, ESP_FACTOR_X, f->x, COLS, n_tok(f));
    f->factors = (esp_factors){ f->packed_dy, f->packed_x, ROWS, COLS };
}

static void fixture_free(fixture *f)
{
    free(f->dy);
    free(f->x);
    free(f->packed_dy);
    free(f->packed_x);
}

/* Column c of token t of sample j, as the header has it. */
static float number_at(const fixture *f, esp_factor which, const float *packed, size_t width,
                       size_t j, size_t t, size_t c)
{
    size_t panel = esp_packed_width(which, 1), n = f->start[j + 1] - f->start[j];

    return packed[f->start[j] * esp_packed_width(which, width) + c / panel * panel * n + t * panel +
                  c % panel];
}

static bool is_packed(const fixture *f, esp_factor which, const float *packed, const float *rows,
                      size_t width)
{
    for (size_t j = 0; j < N_SAMPLES; j++) {
        for (size_t t = 0; t < lengths[j]; t++) {
            for (size_t c = 0; c < esp_packed_width(which, width); c++) {
                float is = number_at(f, which, packed, width, j, t, c);

                if (is != (c < width ? rows[(f->start[j] + t) * width + c] : 0)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static void test_fill(void)
{
    static const size_t steps[] = { 1, 7, 64, 500, 100000 };
    fixture f;

    fixture_make(&f);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        float *dy = pack(&f, ESP_FACTOR_DY, f.dy, ROWS, steps[i]);
        float *x = pack(&f, ESP_FACTOR_X, f.x, COLS, steps[i]);

        CU_ASSERT(is_packed(&f, ESP_FACTOR_DY, dy, f.dy, ROWS));
        CU_ASSERT(is_packed(&f, ESP_FACTOR_X, x, f.x, COLS));
        free(dy);
        free(x);
    }
    fixture_free(&f);
}

/* ---- room -------------------------------------------------------------------------------------- */

/* Widths and inner indices around vectors and panels; numbers around those that are packed. */
enum { MOST = ESP_WIDEST_PANEL + 10, GAP = 3, GUARD = 2 * ESP_WIDEST_PANEL * (MOST + GAP) };

/* n rows or columns of k inner indices: those of a row follow each other in memory, or those of an index. */
typedef struct layout {
    esp_factor which;
    esp_dtype type;
    bool across;      /* inner indices follow each other */
    size_t n, k, gap; /* numbers that are not packed, behind each run of these, and of each panel */
} layout;

static size_t step_of(const layout *l)
{
    return (l->across ? l->k : l->n) + l->gap;
}

static void pack_numbers(float *to, size_t length, const layout *l, const void *numbers)
{
    esp_operand as_rows = l->across ? (esp_operand){ numbers, step_of(l), 1, l->type }
                                    : (esp_operand){ numbers, 1, step_of(l), l->type };

    if (l->which == ESP_FACTOR_DY) {
        esp_pack_rows(to, length, as_rows, l->n, l->k);
    } else {
        esp_pack_cols(to, length, esp_transposed(as_rows), l->k, l->n);
    }
}

/* Number i at inner index p; zero where a panel has more. */
static float expected(const layout *l, const float *numbers, size_t i, size_t p)
{
    size_t step = step_of(l);

    return i < l->n ? numbers[l->across ? i * step + p : p * step + i] : 0;
}

/* Panels `length` apart hold the numbers, and nothing else is written: not between them, nor behind. */
static bool stays_within(const layout *l, const void *numbers, const float *plain)
{
    static float room[3 * GUARD];
    size_t panel = esp_packed_width(l->which, 1), width = esp_packed_width(l->which, l->n);
    size_t length = l->k + l->gap, end = width * length;

    for (size_t i = 0; i < end + GUARD; i++) {
        room[i] = NAN;
    }
    pack_numbers(room, length, l, numbers);
    for (size_t i = 0; i < end + GUARD; i++) {
        size_t at = i / panel % length, c = i / (panel * length) * panel + i % panel;

        if (i < end && at < l->k ? room[i] != expected(l, plain, c, at) : !isnan(room[i])) {
            return false;
        }
    }
    return true;
}

static void check_layouts(esp_dtype type, const void *numbers, const float *plain)
{
    for (size_t n = 1; n < MOST; n++) {
        for (size_t k = 1; k < MOST; k++) {
            for (unsigned i = 0; i < 8; i++) {
                layout l = {
                    i & 1 ? ESP_FACTOR_DY : ESP_FACTOR_X, type, i & 2, n, k, i & 4 ? GAP : 0
                };

                if (!stays_within(&l, numbers, plain)) {
                    CU_FAIL("room");
                    printf("type %d, %s, %zu of %zu, gap %zu\n", (int)type,
                           i & 1 ? "rows" : "columns", n, k, l.gap);
                    return;
                }
            }
        }
    }
}

static void test_room(void)
{
    static const esp_dtype types[] = { ESP_F32, ESP_BF16, ESP_F16 };
    size_t n = MOST * (MOST + GAP);

    for (size_t t = 0; t < 3; t++) {
        size_t bytes = n * esp_dtype_size(types[t]);
        float *random = random_floats(n, 3), *plain;
        char *numbers;

        ESP_NEW(numbers, bytes);
        ESP_NEW(plain, n);
        esp_from_f32(numbers, types[t], random, n);
        esp_to_f32(plain, numbers, types[t], n);
        check_layouts(types[t], numbers, plain);
        free(random);
        free(numbers);
        free(plain);
    }
}

/* ---- sums -------------------------------------------------------------------------------------- */

static void test_sums(void)
{
    fixture f;

    fixture_make(&f);
    for (size_t j = 0; j < N_SAMPLES; j++) {
        for (size_t col = 0; col < ROWS; col += 72) {
            size_t n = esp_min(ROWS - col, 72);
            double sum[72];

            esp_packed_sums(sum, f.packed_dy, ROWS, col, n, f.start[j], f.start[j + 1]);
            for (size_t c = 0; c < n; c++) {
                double plain = 0;

                for (size_t t = f.start[j]; t < f.start[j + 1]; t++) {
                    plain += (double)f.dy[t * ROWS + col + c];
                }
                CU_ASSERT(sum[c] == plain);
            }
        }
    }
    fixture_free(&f);
}

/* All of the weight, tiles that end with it and one inside it. */
static const esp_weight_tile places[] = {
    { 0, 0, ROWS, COLS }, { 72, 64, ROWS - 72, COLS - 64 }, { 24, 32, 48, 32 }, { 0, 0, 1, 1 }
};

#define N_PLACES (sizeof places / sizeof *places)

/* |g - dy^T x| within the rounding of a sum over the tokens of sample j. */
static bool is_gradient(const float *g, const fixture *f, const esp_weight_tile *at, size_t j)
{
    for (size_t i = 0; i < at->n_rows * at->n_cols; i++) {
        double sum = 0, size = 0;

        for (size_t t = f->start[j]; t < f->start[j + 1]; t++) {
            double term = (double)f->dy[t * ROWS + at->row + i / at->n_cols] *
                          (double)f->x[t * COLS + at->col + i % at->n_cols];

            sum += term;
            size += fabs(term);
        }
        if (fabs(sum - (double)g[i]) > 1e-6 * size) {
            return false;
        }
    }
    return true;
}

static void test_gradient(void)
{
    float g[ROWS * COLS];
    fixture f;

    fixture_make(&f);
    for (size_t p = 0; p < N_PLACES; p++) {
        for (size_t j = 0; j < N_SAMPLES; j++) {
            esp_packed_gradient(g, &places[p], &f.factors, f.start[j], f.start[j + 1]);
            CU_ASSERT(is_gradient(g, &f, &places[p], j));
        }
    }
    fixture_free(&f);
}

/* G and F over samples `from` on are those of one sample after another. */
static bool are_moments(const fixture *f, const esp_weight_tile *at, size_t from, bool fisher)
{
    static double G[ROWS * COLS], F[ROWS * COLS], g_of_each[ROWS * COLS], f_of_each[ROWS * COLS];
    const esp_spans s = { N_SAMPLES - from, f->start + from, f->start + from + 1 };
    size_t n = at->n_rows * at->n_cols, bytes = n * sizeof *G;
    float g[ROWS * COLS];

    memset(G, 0xff, sizeof G); /* NaN */
    memset(F, 0xff, sizeof F);
    memset(g_of_each, 0, bytes);
    memset(f_of_each, 0, bytes);
    esp_packed_moments(G, fisher ? F : NULL, g, at, &f->factors, &s);
    for (size_t j = from; j < N_SAMPLES; j++) {
        esp_packed_gradient(g, at, &f->factors, f->start[j], f->start[j + 1]);
        esp_moments_add(g_of_each, f_of_each, g, n);
    }
    return memcmp(G, g_of_each, bytes) == 0 && (!fisher || memcmp(F, f_of_each, bytes) == 0) &&
           (fisher || isnan(F[0]));
}

static void test_moments(void)
{
    fixture f;

    fixture_make(&f);
    for (size_t p = 0; p < N_PLACES; p++) {
        for (size_t from = 0; from <= N_SAMPLES; from++) { /* at last none */
            CU_ASSERT(are_moments(&f, &places[p], from, true));
            CU_ASSERT(are_moments(&f, &places[p], from, false));
        }
    }
    fixture_free(&f);
}

/* Row c of the result is column c of the rows. */
static void test_bf16(void)
{
    const uint16_t *turned, *plain;
    esp_bf16_buffer rooms[2] = { 0 };
    bool same = true;
    fixture f;

    fixture_make(&f);
    turned =
        esp_bf16_round_packed(&rooms[0], ESP_FACTOR_X, f.packed_x, COLS, n_tok(&f), &f.samples);
    plain = esp_bf16_round(&rooms[1], f.x, n_tok(&f), COLS);
    for (size_t i = 0; i < n_tok(&f) * COLS; i++) {
        same = same && turned[i % COLS * n_tok(&f) + i / COLS] == plain[i];
    }
    CU_ASSERT(same);
    esp_bf16_buffer_free(&rooms[0]);
    esp_bf16_buffer_free(&rooms[1]);
    fixture_free(&f);
}

ESP_TEST_MAIN("packed", { "rows in any batches", test_fill }, { "room of panels", test_room },
              { "sums over tokens", test_sums }, { "gradients of samples", test_gradient },
              { "sums over samples", test_moments }, { "rows in bf16", test_bf16 })
