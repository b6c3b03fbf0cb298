/* gemm.c - packing, the micro-kernel, and the threads' shares of a product. */
#include "tensor/gemm_impl.h"

#include <omp.h>
#include <string.h>

#include "tensor/kernel_impl.h"
#include "tensor/tile_impl.h"

/* Rows of A and columns of B of a part of a product: a thread packs all these columns at a time, and rows
 * in blocks, which stay in the second-level cache while the panels of B go by, each of which stays in the
 * first-level one for all of them. */
#define MOST_ROWS ((size_t)1024)
#define MOST_COLS ((size_t)1024)
#define ROW_BLOCK ((size_t)144)

/* Inner indices from one panel to the next where ESP_INNER are packed: panels a power of two apart would
 * meet in the same sets of the cache. */
#define LENGTH (ESP_INNER + 8)

typedef esp_lanes vector;
typedef int order __attribute__((vector_size(ESP_LANES * sizeof(int))));

/* ---- packing ---------------------------------------------------------------------------------- */

/* What is packed: index i runs over the rows or columns of a panel, p is the inner index. */
typedef struct source {
    const void *at;
    size_t step_i, step_p, n, k;
    size_t length; /* inner indices from one panel to the next */
    esp_dtype type;
} source;

static const void *source_at(const source *s, size_t i, size_t p)
{
    return (const char *)s->at + (i * s->step_i + p * s->step_p) * esp_dtype_size(s->type);
}

/* Of pairs of vectors d apart: the first becomes the numbers of both that `low` names, the second those
 * `step` places on. */
static inline __attribute__((always_inline)) void exchange(vector *m, size_t d, order low, int step)
{
#pragma GCC unroll 16
    for (size_t pair = 0; pair < ESP_LANES / 2; pair++) {
        size_t i = pair + (pair & ~(d - 1)); /* those numbers that have not the bit d */
        vector a = m[i], b = m[i + d];

        m[i] = __builtin_shuffle(a, b, low);
        m[i + d] = __builtin_shuffle(a, b, low + step);
    }
}

/* Rows become columns; column c is then at m[place_of(c)]. Each round puts a bit of the row's index in the
 * place of one of the column's, by permutations that processors have: of one or two numbers within quarters
 * of a vector of 16, and of these quarters. */
static inline __attribute__((always_inline)) void transpose(vector *m)
{
#if defined __AVX512F__
    const order at = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
#elif defined __AVX__
    const order at = { 0, 1, 2, 3, 4, 5, 6, 7 };
#else
    const order at = { 0, 1, 2, 3 };
#endif
    const int n = (int)ESP_LANES;
    const order four = at & ~3, half = at & (n / 2 - 1) & ~3;

    exchange(m, 1, four + ((at & 2) >> 1) + (at & 1) * n, 2);
    exchange(m, 2, four + (at & 1) + ((at & 2) >> 1) * n, 2);
#pragma GCC unroll 2
    for (size_t d = 4; d < ESP_LANES; d *= 2) {
        exchange(m, d, 2 * half + (at & 3) + (at & n / 2) * 2, 4);
    }
}

static inline size_t place_of(size_t c)
{
    return (c & ~(size_t)3) | (c & 1) << 1 | (c & 2) >> 1;
}

/* One inner index of LANES rows: into a part of a wide panel, or into the first n_panels that the vector
 * holds whole of narrow ones, `length` inner indices apart. */
static inline __attribute__((always_inline)) void
put_column(float *to, size_t width, size_t n_panels, vector column, size_t length)
{
    float number[ESP_LANES];

    if (width >= ESP_LANES) {
        esp_lanes_store(to, column);
        return;
    }
    esp_lanes_store(number, column);
    for (size_t h = 0; h < ESP_LANES / width && h < n_panels; h++) {
        for (size_t i = 0; i < width; i++) {
            to[h * width * length + i] = number[h * width + i];
        }
    }
}

/* LANES rows (zero where NULL) of n inner indices from p on, into panels of `width`, `length` apart: where
 * several of these fit into a vector, the first n_panels of it. */
static inline __attribute__((always_inline)) void pack_square(float *to, size_t width,
                                                              size_t n_panels,
                                                              const char *const *row, esp_dtype t,
                                                              size_t p, size_t n, size_t length)
{
    vector m[ESP_LANES];

#pragma GCC unroll 16
    for (size_t i = 0; i < ESP_LANES; i++) {
        m[i] = (vector){ 0 };
        if (row[i]) {
            m[i] = n == ESP_LANES ? esp_lanes_widen(row[i] + esp_lane_bytes(t, p), t)
                                  : esp_lanes_some(row[i] + esp_lane_bytes(t, p), t, n);
        }
    }
    transpose(m);
#pragma GCC unroll 16
    for (size_t q = 0; q < ESP_LANES; q++) {
        if (q < n) {
            put_column(to + (p + q) * width, width, n_panels, m[place_of(q)], length);
        }
    }
}

/* Inner indices that follow each other in memory: squares are transposed. */
static inline __attribute__((always_inline)) void pack_across(float *to, size_t width, source s,
                                                              esp_dtype t)
{
    size_t n =
        (s.n + width - 1) / width * width; /* whole panels, and so are steps over narrow ones */
    size_t step = width < ESP_LANES ? ESP_LANES / width * width : ESP_LANES;

    for (size_t i = 0; i < n; i += step) {
        float *at = to + i / width * width * s.length + i % width;
        const char *row[ESP_LANES];
        size_t p = 0, n_panels = (n - i) / width;

        for (size_t r = 0; r < ESP_LANES; r++) {
            row[r] = r < step && i + r < s.n ? source_at(&s, i + r, 0) : NULL;
        }
        for (; p + ESP_LANES <= s.k; p += ESP_LANES) {
            pack_square(at, width, n_panels, row, t, p, ESP_LANES, s.length);
        }
        if (p < s.k) {
            pack_square(at, width, n_panels, row, t, p, s.k - p, s.length);
        }
    }
}

/* Rows or columns that follow each other in memory: runs of a panel's width are copied. */
static inline __attribute__((always_inline)) void pack_along(float *to, size_t width, source s,
                                                             esp_dtype t)
{
    for (size_t p = 0; p < s.k; p++) {
        const char *from = (const char *)s.at + esp_lane_bytes(t, p * s.step_p);
        float *at = to + p * width;
        size_t left = s.n;

        for (; left >= width; left -= width) {
            esp_widen_run(at, from, t, width);
            at += width * s.length;
            from += esp_lane_bytes(t, width);
        }
        if (left > 0) {
            memset(at, 0, width * sizeof *at);
            esp_widen_run(at, from, t, left);
        }
    }
}

static inline __attribute__((always_inline)) void pack_typed(float *to, size_t width, source s,
                                                             esp_dtype t)
{
    if (s.step_p == 1) {
        pack_across(to, width, s, t);
    } else {
        pack_along(to, width, s, t);
    }
}

static inline __attribute__((always_inline)) void pack(float *to, size_t width, source s)
{
    switch (s.type) { /* loops of its own for each */
    case ESP_BF16:
        pack_typed(to, width, s, ESP_BF16);
        break;
    case ESP_F16:
        pack_typed(to, width, s, ESP_F16);
        break;
    default:
        pack_typed(to, width, s, ESP_F32);
    }
}

void esp_pack_rows(float *to, size_t length, esp_operand a, size_t m, size_t k)
{
    source s = { a.at, a.row, a.col, m, k, length, a.type };

    pack(to, ESP_TILE_ROWS, s);
}

void esp_pack_cols(float *to, size_t length, esp_operand b, size_t k, size_t n)
{
    source s = { b.at, b.col, b.row, n, k, length, b.type };

    pack(to, ESP_TILE_COLS, s);
}

/* ---- micro-kernel ----------------------------------------------------------------------------- */

/* Functions of their own, as each takes all registers: of panels, and of rows of A where they are. */
static void multiply_panels(float *c, size_t width, bool add, const float *a, const float *b,
                            size_t k)
{
    esp_multiply_panels(c, width, add, a, b, k);
}

static void multiply_rows(float *c, size_t width, bool add, const float *const *row, size_t step,
                          const float *b, size_t b_step, size_t k)
{
    esp_multiply_tile(c, width, add, row, step, b, b_step, k);
}

/* The micro-kernel takes longer than a line of C needs to arrive. */
static inline void prefetch(esp_target c, size_t m)
{
    for (size_t i = 0; i < m; i++) {
        __builtin_prefetch(c.at + i * c.row, 1);
        __builtin_prefetch(c.at + i * c.row + ESP_LANES, 1);
    }
}

/* Whether a tile of m rows and n columns can be written where it belongs. */
static inline bool is_whole(esp_target c, size_t m, size_t n)
{
    return c.col == 1 && m == ESP_TILE_ROWS && n == ESP_TILE_COLS;
}

/* c = tile or c += tile for m rows and n columns of it */
static void put_tile(esp_target c, bool add, const float *tile, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            float *to = c.at + i * c.row + j * c.col, from = tile[i * ESP_TILE_COLS + j];

            *to = add ? *to + from : from;
        }
    }
}

void esp_multiply(esp_target c, bool add, const float *a, const float *b, size_t length, size_t m,
                  size_t n, size_t k)
{
    float tile[ESP_TILE_ROWS * ESP_TILE_COLS] __attribute__((aligned(64)));

    for (size_t j = 0; j < n; j += ESP_TILE_COLS) {
        for (size_t i = 0; i < m; i += ESP_TILE_ROWS) {
            esp_target at = { c.at + i * c.row + j * c.col, c.row, c.col };
            size_t n_rows = esp_tile(i, m, ESP_TILE_ROWS), n_cols = esp_tile(j, n, ESP_TILE_COLS);

            prefetch(at, n_rows);
            if (is_whole(at, n_rows, n_cols)) {
                multiply_panels(at.at, at.row, add, a + i * length, b + j * length, k);
            } else {
                multiply_panels(tile, ESP_TILE_COLS, false, a + i * length, b + j * length, k);
                put_tile(at, add, tile, n_rows, n_cols);
            }
        }
    }
}

void esp_multiply_in_place(esp_target c, bool add, esp_operand a, esp_columns b, size_t m, size_t n,
                           size_t k)
{
    float tile[ESP_TILE_ROWS * ESP_TILE_COLS] __attribute__((aligned(64)));
    const float *rows = a.at;

    for (size_t i = 0; i < m; i += ESP_TILE_ROWS) {
        size_t n_rows = esp_tile(i, m, ESP_TILE_ROWS);
        const float *row[ESP_TILE_ROWS];

        for (size_t r = 0; r < ESP_TILE_ROWS;
             r++) { /* rows that are not there: copies of the last */
            row[r] = rows + (i + (r < n_rows ? r : n_rows - 1)) * a.row;
        }
        for (size_t j = 0; j < n; j += ESP_TILE_COLS) {
            esp_target at = { c.at + i * c.row + j * c.col, c.row, c.col };
            const float *cols = b.at + j / ESP_TILE_COLS * b.panel;
            size_t n_cols = esp_tile(j, n, ESP_TILE_COLS);

            if (is_whole(at, n_rows, n_cols)) {
                multiply_rows(at.at, at.row, add, row, a.col, cols, b.row, k);
            } else {
                multiply_rows(tile, ESP_TILE_COLS, false, row, a.col, cols, b.row, k);
                put_tile(at, add, tile, n_rows, n_cols);
            }
        }
    }
}

/* ---- shares of the threads -------------------------------------------------------------------- */

static esp_operand part_of(esp_operand m, size_t i, size_t j)
{
    m.at = (const char *)m.at + (i * m.row + j * m.col) * esp_dtype_size(m.type);
    return m;
}

/* C = A B or C += A B by the calling thread; n up to MOST_COLS. */
static void multiply_part(esp_target c, bool add, esp_operand a, esp_operand b, size_t m, size_t n,
                          size_t k)
{
    float packed_a[ROW_BLOCK * LENGTH] __attribute__((aligned(64)));
    float packed_b[MOST_COLS * LENGTH] __attribute__((aligned(64)));

    for (size_t p = 0; p < k; p += ESP_INNER) {
        size_t depth = esp_tile(p, k, ESP_INNER);

        esp_pack_cols(packed_b, LENGTH, part_of(b, p, 0), depth, n);
        for (size_t i = 0; i < m; i += ROW_BLOCK) {
            size_t n_rows = esp_tile(i, m, ROW_BLOCK);
            esp_target at = { c.at + i * c.row, c.row, c.col };

            esp_pack_rows(packed_a, LENGTH, part_of(a, i, p), n_rows, depth);
            esp_multiply(at, add || p > 0, packed_a, packed_b, LENGTH, n_rows, n, depth);
        }
    }
}

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* Lengths of the parts of a product: columns first, as many parts as share out evenly. */
static void choose_parts(size_t *rows, size_t *cols, size_t m, size_t n)
{
    size_t n_threads = (size_t)omp_get_max_threads();
    size_t down = ceil_div(m, MOST_ROWS), across = ceil_div(n, MOST_COLS);

    across = ceil_div(across, n_threads) * n_threads;
    *cols = ceil_div(ceil_div(n, across), ESP_TILE_COLS) * ESP_TILE_COLS;
    across = ceil_div(n, *cols);
    if (across * down < n_threads) {
        down = ceil_div(n_threads, across);
    }
    *rows = ceil_div(ceil_div(m, down), ESP_TILE_ROWS) * ESP_TILE_ROWS;
}

static void share_out(esp_target c, bool add, esp_operand a, esp_operand b, size_t m, size_t n,
                      size_t k)
{
    size_t rows, cols;

    choose_parts(&rows, &cols, m, n);
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (size_t i = 0; i < m; i += rows) {
        for (size_t j = 0; j < n; j += cols) {
            esp_target at = { c.at + i * c.row + j * c.col, c.row, c.col };

            multiply_part(at, add, part_of(a, i, 0), part_of(b, 0, j), esp_tile(i, m, rows),
                          esp_tile(j, n, cols), k);
        }
    }
}

void esp_gemm(float *c, size_t width, bool add, esp_operand a, esp_operand b, size_t m, size_t n,
              size_t k)
{
    esp_target to = { c, width, 1 };

    if (n < ESP_TILE_COLS &&
        n < m) { /* a narrow product fills the panels better the other way round */
        share_out((esp_target){ c, 1, width }, add, esp_transposed(b), esp_transposed(a), n, m, k);
    } else {
        share_out(to, add, a, b, m, n, k);
    }
}

/* ---- one row ---------------------------------------------------------------------------------- */

static float dot(const float *a, const float *b, size_t n)
{
    float sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

void esp_gemv(float *y, const float *x, esp_array b, bool add, size_t n, size_t k)
{
    const source s = { b.at, k, 1, n, k, k, b.type };

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        float sum = add ? y[i] : 0, room[ESP_INNER];

        for (size_t p = 0; p < k; p += ESP_INNER) {
            size_t depth = esp_tile(p, k, ESP_INNER);

            esp_to_f32(room, source_at(&s, i, p), s.type, depth);
            sum += dot(room, x + p, depth);
        }
        y[i] = sum;
    }
}
