/* moments.c - sums over samples of their products, and of the squares of these. */
#include <stdbool.h>

#include "espalier/packed.h"
#include "tensor/kernel_impl.h"
#include "tensor/tile_impl.h"

/* Samples whose products wait in the first-level cache until their sums are read and written once for all
 * of them. */
#define MOST_SAMPLES ((size_t)8)

/* ---- runs of inner indices ---------------------------------------------------------------------- */

/* Whole samples together, or a piece of a long one. */
typedef struct run {
    size_t first, n;    /* samples                                                  */
    size_t skip, depth; /* tokens of the first that earlier runs had; tokens of all */
    bool ends;          /* the samples end here                                     */
} run;

static size_t length_of(const esp_spans *s, size_t j)
{
    return s->end[j] - s->begin[j];
}

/* The run after this one, {0, 0, 0, 0, true} the one before all; false when there is none. */
static bool next(run *r, const esp_spans *s)
{
    size_t first = r->ends ? r->first + r->n : r->first, skip = r->ends ? 0 : r->skip + r->depth;

    if (first >= s->n) {
        return false;
    }
    *r = (run){ first, 1, skip, esp_tile(skip, length_of(s, first), ESP_INNER), true };
    r->ends = skip + r->depth == length_of(s, first);
    while (r->ends && skip == 0 && r->n < MOST_SAMPLES && first + r->n < s->n &&
           r->depth + length_of(s, first + r->n) <= ESP_INNER) {
        r->depth += length_of(s, first + r->n++);
    }
    return true;
}

/* ---- moments of a tile -------------------------------------------------------------------------- */

enum { TILE = ESP_TILE_ROWS * ESP_TILE_COLS };

/* Sums over numbers c of products, rows `width` apart: sum += c, squares += c^2 (may be NULL). */
typedef struct moments {
    double *sum, *squares;
    size_t width;
} moments;

static inline moments moments_at(moments to, size_t i, size_t j)
{
    size_t at = i * to.width + j;

    return (moments){ to.sum + at, to.squares ? to.squares + at : NULL, to.width };
}

/* Sums [rows, cols] over n tiles, or these added to what they are. Inlined with constants, so that each case
 * has a loop of its own. */
static inline __attribute__((always_inline)) void
add_some(moments to, bool add, bool squares, const float *tile, size_t n, size_t rows, size_t cols)
{
    for (size_t i = 0; i < rows; i++) {
        double *restrict sum = to.sum + i * to.width;
        double *restrict square = squares ? to.squares + i * to.width : NULL;
        const float *restrict from = tile + i * ESP_TILE_COLS;

#pragma omp simd
        for (size_t j = 0; j < cols; j++) {
            double a = add ? sum[j] : 0, b = add && squares ? square[j] : 0;

#pragma GCC unroll 4
            for (size_t s = 0; s < n; s++) {
                double v = (double)from[s * TILE + j];

                a += v;
                b += v * v;
            }
            sum[j] = a;
            if (squares) {
                square[j] = b;
            }
        }
    }
}

static inline __attribute__((always_inline)) void add_whole(moments to, bool add, const float *tile,
                                                            size_t n)
{
    if (to.squares && add) {
        add_some(to, true, true, tile, n, ESP_TILE_ROWS, ESP_TILE_COLS);
    } else if (to.squares) {
        add_some(to, false, true, tile, n, ESP_TILE_ROWS, ESP_TILE_COLS);
    } else if (add) {
        add_some(to, true, false, tile, n, ESP_TILE_ROWS, ESP_TILE_COLS);
    } else {
        add_some(to, false, false, tile, n, ESP_TILE_ROWS, ESP_TILE_COLS);
    }
}

/* The same of n tiles, one after another, of which rows and columns are wanted. */
static void add_tiles(moments to, bool add, const float *tile, size_t n, size_t rows, size_t cols)
{
    bool whole = rows == ESP_TILE_ROWS && cols == ESP_TILE_COLS;

    for (size_t step; n > 0; n -= step, tile += step * TILE, add = true) {
        if (whole && n >= 4) {
            step = 4;
            add_whole(to, add, tile, 4);
        } else if (whole && n >= 2) {
            step = 2;
            add_whole(to, add, tile, 2);
        } else {
            step = 1;
            add_some(to, add, to.squares != NULL, tile, 1, rows, cols);
        }
    }
}

/* tile += what earlier pieces of the inner index gave. */
static void add_piece(float *tile, const float *c, size_t width, size_t rows, size_t cols)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            tile[i * ESP_TILE_COLS + j] += c[i * width + j];
        }
    }
}

void esp_moments_add(double *G, double *F, const float *g, size_t n)
{
    add_some((moments){ G, F, n }, true, F != NULL, g, 1, 1, n);
}

/* ---- tiles from runs ---------------------------------------------------------------------------- */

/* Panels of a tile's rows of dy and columns of x, of one sample, `length` inner indices apart; `depth` of
 * these are multiplied. */
typedef struct panels {
    const float *a, *b;
    size_t length, depth;
} panels;

/* A whole sample, or the piece of it from the inner index `skip` on. */
static panels panels_of(const esp_factors *f, const esp_weight_tile *at, size_t begin, size_t end,
                        size_t skip)
{
    size_t n = end - begin, dy = begin * esp_packed_width(ESP_FACTOR_DY, f->rows) + at->row * n;
    size_t x = begin * esp_packed_width(ESP_FACTOR_X, f->cols) + at->col * n;

    return (panels){ f->dy + dy + skip * ESP_TILE_ROWS, f->x + x + skip * ESP_TILE_COLS, n,
                     esp_tile(skip, n, ESP_INNER) };
}

/* A function of its own, as it takes all registers. */
static __attribute__((noinline)) void multiply(float *c, const float *a, const float *b, size_t k)
{
    esp_multiply_panels(c, ESP_TILE_COLS, false, a, b, k);
}

/* Adds products of a run that ends; c holds what earlier runs gave to the first, if any. */
static void add_run(moments to, const float *c, const esp_weight_tile *at, const esp_factors *f,
                    const esp_spans *s, const run *r)
{
    float tile[MOST_SAMPLES * TILE] __attribute__((aligned(64)));
    panels of[MOST_SAMPLES];

    for (size_t k = 0; k < r->n; k++) {
        of[k] = panels_of(f, at, s->begin[r->first + k], s->end[r->first + k], r->skip);
    }
    for (size_t j = 0; j < at->n_cols; j += ESP_TILE_COLS) {
        for (size_t i = 0; i < at->n_rows; i += ESP_TILE_ROWS) {
            size_t n_rows = esp_tile(i, at->n_rows, ESP_TILE_ROWS);
            size_t n_cols = esp_tile(j, at->n_cols, ESP_TILE_COLS);
            moments part = moments_at(to, i, j);

            for (size_t k = 0; k < r->n; k++) {
                multiply(tile + k * TILE, of[k].a + i * of[k].length, of[k].b + j * of[k].length,
                         of[k].depth);
            }
            if (r->skip > 0) {
                add_piece(tile, c + i * to.width + j, to.width, n_rows, n_cols);
            }
            add_tiles(part, r->first > 0, tile, r->n, n_rows, n_cols);
        }
    }
}

/* c = or += the product of a piece of a sample. */
static void multiply_piece(float *c, const esp_weight_tile *at, const esp_factors *f, size_t begin,
                           size_t end, size_t skip)
{
    panels p = panels_of(f, at, begin, end, skip);

    esp_multiply((esp_target){ c, at->n_cols, 1 }, skip > 0, p.a, p.b, p.length, at->n_rows,
                 at->n_cols, p.depth);
}

void esp_packed_gradient(float *g, const esp_weight_tile *at, const esp_factors *f, size_t begin,
                         size_t end)
{
    for (size_t skip = 0; skip == 0 || skip < end - begin; skip += ESP_INNER) {
        multiply_piece(g, at, f, begin, end, skip);
    }
}

void esp_packed_moments(double *G, double *F, float *scratch, const esp_weight_tile *at,
                        const esp_factors *f, const esp_spans *s)
{
    moments to = { G, F, at->n_cols };

    for (size_t i = 0; s->n == 0 && i < at->n_rows * at->n_cols; i++) {
        G[i] = 0;
        if (F) {
            F[i] = 0;
        }
    }
    for (run r = { .ends = true }; next(&r, s);) {
        if (r.ends) {
            add_run(to, scratch, at, f, s, &r);
        } else {
            multiply_piece(scratch, at, f, s->begin[r.first], s->end[r.first], r.skip);
        }
    }
}
