/* gemm.c - packing, the micro-kernel, and the threads' shares of a product. */
#include "tensor/gemm_impl.h"

#include <omp.h>
#include <string.h>

#include "espalier/mem.h"
#include "tensor/moments_impl.h"
#include "tensor/tile_impl.h"

/* What a thread packs at a time: its columns of B stay in the second-level cache while the rows of A go
 * by, block by block. */
#define MOST_ROWS ((size_t)1024)
#define RUN       ((size_t)480) /* numbers converted at once: whole panels of either kind */
#define ROW_BLOCK ((size_t)144)

typedef float vector __attribute__((vector_size(ESP_LANES * sizeof(float))));
typedef float loose_vector __attribute__((vector_size(ESP_LANES * sizeof(float)), aligned(4)));
typedef int lanes __attribute__((vector_size(ESP_LANES * sizeof(int))));

static vector load(const float *x)
{
    return *(const loose_vector *)x;
}

static void store(float *x, vector v)
{
    *(loose_vector *)x = v;
}

/* ---- packing ---------------------------------------------------------------------------------- */

/* What is packed: index i runs over the rows or columns of a panel, p is the inner index. */
typedef struct source {
    const void *at;
    size_t step_i, step_p, n, k;
    esp_dtype type;
} source;

static const void *source_at(const source *s, size_t i, size_t p)
{
    return (const char *)s->at + (i * s->step_i + p * s->step_p) * esp_dtype_size(s->type);
}

/* n numbers that follow each other, in f32: in place, or converted into room. */
static const float *in_f32(float *room, const source *s, size_t i, size_t p, size_t n)
{
    if (s->type == ESP_F32) {
        return source_at(s, i, p);
    }
    esp_to_f32(room, source_at(s, i, p), s->type, n);
    return room;
}

/* Rows become columns. One round sends the halves of a row's index bits a place on: after log2(LANES)
 * of them rows and columns have changed places. */
static inline void transpose(vector *m)
{
#if defined __AVX512F__
    const lanes low = { 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23 };
#elif defined __AVX__
    const lanes low = { 0, 8, 1, 9, 2, 10, 3, 11 };
#else
    const lanes low = { 0, 4, 1, 5 };
#endif
    const lanes high = low + (int)ESP_LANES / 2;

    for (size_t round = 1; round < ESP_LANES; round *= 2) {
        vector next[ESP_LANES];

#pragma GCC unroll 16
        for (size_t i = 0; i < ESP_LANES / 2; i++) {
            next[2 * i] = __builtin_shuffle(m[i], m[i + ESP_LANES / 2], low);
            next[2 * i + 1] = __builtin_shuffle(m[i], m[i + ESP_LANES / 2], high);
        }
#pragma GCC unroll 16
        for (size_t i = 0; i < ESP_LANES; i++) {
            m[i] = next[i];
        }
    }
}

/* LANES rows (zero where NULL) of n inner indices from p on, into panels of `width`, k long. */
static inline __attribute__((always_inline)) void
pack_square(float *to, size_t width, const float *const *row, size_t p, size_t n, size_t k)
{
    vector m[ESP_LANES];

#pragma GCC unroll 16
    for (size_t i = 0; i < ESP_LANES; i++) {
        m[i] = (vector){ 0 };
        if (row[i] && n == ESP_LANES) {
            m[i] = load(row[i] + p);
        } else if (row[i]) {
            memcpy(&m[i], row[i] + p, n * sizeof(float));
        }
    }
    transpose(m);
    for (size_t q = 0; q < n; q++) {
        if (width >= ESP_LANES) {
            store(to + (p + q) * width, m[q]);
            continue;
        }
        for (size_t h = 0; h < ESP_LANES / width; h++) {
            memcpy(to + h * width * k + (p + q) * width, (const float *)&m[q] + h * width,
                   width * sizeof(float));
        }
    }
}

/* Inner indices that follow each other in memory: squares are transposed. */
static inline __attribute__((always_inline)) void pack_across(float *to, size_t width,
                                                              const source *s)
{
    float room[ESP_LANES][ESP_INNER];
    size_t n_panels = (s->n + width - 1) / width * width;
    size_t step = width < ESP_LANES ? ESP_LANES / width * width : ESP_LANES; /* whole panels */

    for (size_t i = 0; i < n_panels; i += step) {
        const float *row[ESP_LANES];

        for (size_t r = 0; r < ESP_LANES; r++) {
            row[r] = r < step && i + r < s->n ? in_f32(room[r], s, i + r, 0, s->k) : NULL;
        }
        for (size_t p = 0; p < s->k; p += ESP_LANES) {
            pack_square(to + i / width * width * s->k + i % width, width, row, p,
                        esp_tile(p, s->k, ESP_LANES), s->k);
        }
    }
}

/* Rows or columns that follow each other in memory: runs of a panel's width are copied. */
static inline __attribute__((always_inline)) void pack_along(float *to, size_t width,
                                                             const source *s)
{
    float room[RUN];

    for (size_t p = 0; p < s->k; p++) {
        for (size_t first = 0; first < s->n; first += RUN) {
            size_t n = esp_tile(first, s->n, RUN), i = 0;
            const float *from = in_f32(room, s, first, p, n);
            float *at = to + first * s->k + p * width;

            for (; i + width <= n; i += width) {
                memcpy(at + i * s->k, from + i, width * sizeof *from);
            }
            if (i < n) {
                memset(at + i * s->k, 0, width * sizeof *from);
                memcpy(at + i * s->k, from + i, (n - i) * sizeof *from);
            }
        }
    }
}

static inline __attribute__((always_inline)) void pack(float *to, size_t width, const source *s)
{
    if (s->step_p == 1) {
        pack_across(to, width, s);
    } else {
        pack_along(to, width, s);
    }
}

void esp_pack_rows(float *to, esp_operand a, size_t m, size_t k)
{
    source s = { a.at, a.row, a.col, m, k, a.type };

    pack(to, ESP_TILE_ROWS, &s);
}

void esp_pack_cols(float *to, esp_operand b, size_t k, size_t n)
{
    source s = { b.at, b.col, b.row, n, k, b.type };

    pack(to, ESP_TILE_COLS, &s);
}

/* ---- micro-kernel ----------------------------------------------------------------------------- */

/* A tile of C, rows `width` apart: C = A B or C += A B. Number p of row r of A is row[r][p * step], row p of B
 * begins at b + p * b_step. */
static inline __attribute__((always_inline)) void multiply_tile(float *c, size_t width, bool add,
                                                                const float *const *row,
                                                                size_t step, const float *b,
                                                                size_t b_step, size_t k)
{
    vector sum[ESP_TILE_ROWS][2];

#pragma GCC unroll 8
    for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
        sum[r][0] = sum[r][1] = (vector){ 0 };
    }
    for (size_t p = 0; p < k; p++) {
        vector b0 = load(b + p * b_step), b1 = load(b + p * b_step + ESP_LANES);

#pragma GCC unroll 8
        for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
            vector each = row[r][p * step] - (vector){ 0 };

            sum[r][0] += each * b0;
            sum[r][1] += each * b1;
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
        float *to = c + r * width;

        store(to, add ? load(to) + sum[r][0] : sum[r][0]);
        store(to + ESP_LANES, add ? load(to + ESP_LANES) + sum[r][1] : sum[r][1]);
    }
}

/* The same of a panel of A and one of B. */
static void multiply_panels(float *c, size_t width, bool add, const float *a, const float *b,
                            size_t k)
{
    const float *row[ESP_TILE_ROWS];

    for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
        row[r] = a + r;
    }
    multiply_tile(c, width, add, row, ESP_TILE_ROWS, b, ESP_TILE_COLS, k);
}

/* The same of rows of A where they are. */
static void multiply_rows(float *c, size_t width, bool add, const float *const *row, size_t step,
                          const float *b, size_t b_step, size_t k)
{
    multiply_tile(c, width, add, row, step, b, b_step, k);
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

void esp_multiply(esp_target c, bool add, const float *a, const float *b, size_t m, size_t n,
                  size_t k)
{
    float tile[ESP_TILE_ROWS * ESP_TILE_COLS] __attribute__((aligned(64)));

    for (size_t j = 0; j < n; j += ESP_TILE_COLS) {
        for (size_t i = 0; i < m; i += ESP_TILE_ROWS) {
            esp_target at = { c.at + i * c.row + j * c.col, c.row, c.col };
            size_t n_rows = esp_tile(i, m, ESP_TILE_ROWS), n_cols = esp_tile(j, n, ESP_TILE_COLS);

            prefetch(at, n_rows);
            if (is_whole(at, n_rows, n_cols)) {
                multiply_panels(at.at, at.row, add, a + i * k, b + j * k, k);
            } else {
                multiply_panels(tile, ESP_TILE_COLS, false, a + i * k, b + j * k, k);
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

/* Sums over products C [m, n], rows `width` apart: sum += c, squares += c^2 (may be NULL). */
typedef struct moments {
    double *sum, *squares;
    size_t width;
} moments;

static void add_tile(moments to, const float *tile, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++) {
        const float *from = tile + i * ESP_TILE_COLS;
        double *sum = to.sum + i * to.width;

        if (to.squares) {
            esp_add_moments(sum, to.squares + i * to.width, from, n);
        } else {
            esp_add_moments(sum, NULL, from, n);
        }
    }
}

/* The same as esp_multiply for the last piece of the inner index; earlier ones, if any, are in c. */
static void multiply_moments(moments to, const float *c, const float *a, const float *b, size_t m,
                             size_t n, size_t k)
{
    float tile[ESP_TILE_ROWS * ESP_TILE_COLS] __attribute__((aligned(64)));

    for (size_t i = 0; i < m; i += ESP_TILE_ROWS) {
        size_t n_rows = esp_tile(i, m, ESP_TILE_ROWS);

        for (size_t j = 0; j < n; j += ESP_TILE_COLS) {
            size_t n_cols = esp_tile(j, n, ESP_TILE_COLS), at = i * to.width + j;
            moments part = { to.sum + at, to.squares ? to.squares + at : NULL, to.width };

            multiply_panels(tile, ESP_TILE_COLS, false, a + i * k, b + j * k, k);
            for (size_t r = 0; c && r < n_rows; r++) {
                for (size_t e = 0; e < n_cols; e++) {
                    tile[r * ESP_TILE_COLS + e] =
                        c[at + r * to.width + e] + tile[r * ESP_TILE_COLS + e];
                }
            }
            add_tile(part, tile, n_rows, n_cols);
        }
    }
}

/* ---- shares of the threads -------------------------------------------------------------------- */

static esp_operand part_of(esp_operand m, size_t i, size_t j)
{
    m.at = (const char *)m.at + (i * m.row + j * m.col) * esp_dtype_size(m.type);
    return m;
}

void esp_gemm_here(esp_target c, bool add, esp_operand a, esp_operand b, size_t m, size_t n,
                   size_t k)
{
    float packed_a[ROW_BLOCK * ESP_INNER] __attribute__((aligned(64)));
    float packed_b[ESP_MOST_COLS * ESP_INNER] __attribute__((aligned(64)));

    for (size_t p = 0; p < k; p += ESP_INNER) {
        size_t depth = esp_tile(p, k, ESP_INNER);

        esp_pack_cols(packed_b, part_of(b, p, 0), depth, n);
        for (size_t i = 0; i < m; i += ROW_BLOCK) {
            size_t n_rows = esp_tile(i, m, ROW_BLOCK);
            esp_target at = { c.at + i * c.row, c.row, c.col };

            esp_pack_rows(packed_a, part_of(a, i, p), n_rows, depth);
            esp_multiply(at, add || p > 0, packed_a, packed_b, n_rows, n, depth);
        }
    }
}

void esp_gemm_moments(double *sum, double *squares, float *c, esp_operand a, esp_operand b,
                      size_t m, size_t n, size_t k)
{
    size_t done = k ? (k - 1) / ESP_INNER * ESP_INNER : 0;
    float packed_a[ROW_BLOCK * ESP_INNER] __attribute__((aligned(64)));
    float packed_b[ESP_MOST_COLS * ESP_INNER] __attribute__((aligned(64)));

    if (done) {
        esp_gemm_here((esp_target){ c, n, 1 }, false, a, b, m, n, done);
    }
    esp_pack_cols(packed_b, part_of(b, done, 0), k - done, n);
    for (size_t i = 0; i < m; i += ROW_BLOCK) {
        size_t n_rows = esp_tile(i, m, ROW_BLOCK), at = i * n;
        moments to = { sum + at, squares ? squares + at : NULL, n };

        esp_pack_rows(packed_a, part_of(a, i, done), n_rows, k - done);
        multiply_moments(to, done ? c + at : NULL, packed_a, packed_b, n_rows, n, k - done);
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
    size_t down = ceil_div(m, MOST_ROWS), across = ceil_div(n, ESP_MOST_COLS);

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

            esp_gemm_here(at, add, part_of(a, i, 0), part_of(b, 0, j), esp_tile(i, m, rows),
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
    const source s = { b.at, k, 1, n, k, b.type };

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        float sum = add ? y[i] : 0, room[ESP_INNER];

        for (size_t p = 0; p < k; p += ESP_INNER) {
            size_t depth = esp_tile(p, k, ESP_INNER);

            sum += dot(in_f32(room, &s, i, p, depth), x + p, depth);
        }
        y[i] = sum;
    }
}
