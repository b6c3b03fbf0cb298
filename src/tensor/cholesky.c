/* cholesky.c - A = L L^T by blocks of columns, and the two triangular solves; most of the work of each is in
 * one product, whose tiles of C lie in vector registers as those of the products in f32 do (gemm.c).
 */
#include "espalier/cholesky.h"

#include <math.h>
#include <omp.h>

#include "tensor/gemm_impl.h"
#include "tensor/tile_impl.h"

#define MOST_ROWS ((size_t)192) /* of C that a thread makes at a time: many for each panel of B */
#define MOST_COLS ((size_t)192)
#define BLOCK     ((size_t)32) /* columns of L that are found at a time */

/* A tile of C: two vectors wide. */
#define LANES     (ESP_LANES / 2)
#define TILE_COLS (2 * LANES)

typedef double vector __attribute__((vector_size(LANES * sizeof(double))));
typedef double loose_vector
    __attribute__((vector_size(LANES * sizeof(double)), aligned(8), may_alias));

/* ---- C -= A B^T ------------------------------------------------------------------------------- */

/* Panels of TILE_COLS rows of b [n, k], one behind the other: number r of inner index p of a panel is
 * to[p * TILE_COLS + r]. Missing rows are zero. */
static void pack(double *to, const double *b, size_t step, size_t n, size_t k)
{
    for (size_t i = 0; i < n; i += TILE_COLS, to += TILE_COLS * k) {
        size_t width = esp_tile(i, n, TILE_COLS);

        for (size_t p = 0; p < k; p++) {
            for (size_t r = 0; r < TILE_COLS; r++) {
                to[p * TILE_COLS + r] = r < width ? b[(i + r) * step + p] : 0;
            }
        }
    }
}

/* sum [ESP_TILE_ROWS, TILE_COLS] = A B^T of rows of A and a panel of B. */
static void multiply_rows(double *sum, const double *const *row, const double *b, size_t k)
{
    vector tile[ESP_TILE_ROWS][2];

#pragma GCC unroll 8
    for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
        tile[r][0] = tile[r][1] = (vector){ 0 };
    }
    for (size_t p = 0; p < k; p++) {
        vector b0 = *(const loose_vector *)(b + p * TILE_COLS);
        vector b1 = *(const loose_vector *)(b + p * TILE_COLS + LANES);

#pragma GCC unroll 8
        for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
            vector each = row[r][p] - (vector){ 0 };

            tile[r][0] += each * b0;
            tile[r][1] += each * b1;
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
        *(loose_vector *)(sum + r * TILE_COLS) = tile[r][0];
        *(loose_vector *)(sum + r * TILE_COLS + LANES) = tile[r][1];
    }
}

static void subtract_tile(double *c, size_t step, const double *sum, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            c[i * step + j] -= sum[i * TILE_COLS + j];
        }
    }
}

/* A strip of C as wide as a panel of B; rows of A that are not there are copies of the last. */
static void subtract_strip(double *c, size_t c_step, const double *a, size_t a_step,
                           const double *panel, size_t m, size_t n, size_t k)
{
    double sum[ESP_TILE_ROWS * TILE_COLS] __attribute__((aligned(64)));

    for (size_t i = 0; i < m; i += ESP_TILE_ROWS) {
        size_t n_rows = esp_tile(i, m, ESP_TILE_ROWS);
        const double *row[ESP_TILE_ROWS];

        for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
            row[r] = a + (i + (r < n_rows ? r : n_rows - 1)) * a_step;
        }
        multiply_rows(sum, row, panel, k);
        subtract_tile(c + i * c_step, c_step, sum, n_rows, n);
    }
}

/* By the calling thread; n up to MOST_COLS. */
static void subtract_part(double *c, size_t c_step, const double *a, size_t a_step, const double *b,
                          size_t b_step, size_t m, size_t n, size_t k)
{
    double packed[MOST_COLS * ESP_INNER] __attribute__((aligned(64)));

    for (size_t p = 0; p < k; p += ESP_INNER) {
        size_t depth = esp_tile(p, k, ESP_INNER);

        pack(packed, b + p, b_step, n, depth);
        for (size_t j = 0; j < n; j += TILE_COLS) {
            subtract_strip(c + j, c_step, a + p, a_step, packed + j * depth, m,
                           esp_tile(j, n, TILE_COLS), depth);
        }
    }
}

/* Rows of a part: fewer where there would be fewer parts than threads. */
static size_t rows_of_part(size_t m, size_t n)
{
    size_t across = (n + MOST_COLS - 1) / MOST_COLS, threads = (size_t)omp_get_max_threads();
    size_t rows = m * across / threads + 1;

    rows = (rows + ESP_TILE_ROWS - 1) / ESP_TILE_ROWS * ESP_TILE_ROWS;
    return rows < MOST_ROWS ? rows : MOST_ROWS;
}

void esp_subtract_product(double *c, size_t c_step, const double *a, size_t a_step, const double *b,
                          size_t b_step, size_t m, size_t n, size_t k)
{
    size_t rows = rows_of_part(m, n);

#pragma omp parallel for collapse(2) schedule(dynamic)
    for (size_t j = 0; j < n; j += MOST_COLS) {
        for (size_t i = 0; i < m; i += rows) {
            subtract_part(c + i * c_step + j, c_step, a + i * a_step, a_step, b + j * b_step,
                          b_step, esp_tile(i, m, rows), esp_tile(j, n, MOST_COLS), k);
        }
    }
}

/* ---- within a block of columns ------------------------------------------------------------------ */

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* x [n] becomes the solution z of z L^T = x, and of z L = x where u has L^T in its upper half; rows of l and
 * u are step apart. */
static void solve_forward(double *x, const double *l, size_t step, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = (x[i] - dot(x, l + i * step, i)) / l[i * step + i];
    }
}

static void solve_backward(double *x, const double *u, size_t step, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        const double *row = u + i * step;

        x[i] = (x[i] - dot(x + i + 1, row + i + 1, n - i - 1)) / row[i];
    }
}

/* The block on the diagonal; returns n, or the index of a pivot that is not positive. */
static size_t factor_block(double *a, size_t step, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double *row = a + i * step, pivot;

        solve_forward(row, a, step, i);
        pivot = row[i] - dot(row, row, i);
        if (!(pivot > 0) || !isfinite(pivot)) {
            return i;
        }
        row[i] = sqrt(pivot);
    }
    return n;
}

/* ---- the whole ---------------------------------------------------------------------------------- */

static void mirror(double *a, size_t n)
{
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            a[i * n + j] = a[j * n + i];
        }
    }
}

size_t esp_cholesky(double *a, size_t n)
{
    for (size_t j = 0; j < n; j += BLOCK) {
        size_t width = esp_tile(j, n, BLOCK), done;
        double *block = a + j * n + j;

        esp_subtract_product(block, n, a + j * n, n, a + j * n, n, n - j, width, j);
        done = factor_block(block, n, width);
        if (done < width) {
            return j + done;
        }
#pragma omp parallel for
        for (size_t i = width; i < n - j; i++) {
            solve_forward(block + i * n, block, n, width);
        }
    }
    mirror(a, n);
    return n;
}

void esp_cholesky_solve(double *x, const double *l, size_t n_rows, size_t n)
{
    for (size_t j = 0; j < n; j += BLOCK) {
        size_t width = esp_tile(j, n, BLOCK);

        esp_subtract_product(x + j, n, x, n, l + j * n, n, n_rows, width, j);
#pragma omp parallel for
        for (size_t r = 0; r < n_rows; r++) {
            solve_forward(x + r * n + j, l + j * n + j, n, width);
        }
    }
    for (size_t end = n, width; end > 0; end -= width) {
        size_t j = (end - 1) / BLOCK * BLOCK;

        width = end - j;
        esp_subtract_product(x + j, n, x + end, n, l + j * n + end, n, n_rows, width, n - end);
#pragma omp parallel for
        for (size_t r = 0; r < n_rows; r++) {
            solve_backward(x + r * n + j, l + j * n + j, n, width);
        }
    }
}
