/* weight_tiles.c - per-sample gradients of tiles, added into G and, squared, into F
 * (docs/method.md, eq. 2-3). */
#include "weight_tiles_impl.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/packed.h"
#include "espalier/tensor.h"

#define ROWS ESP_GRADIENT_ROWS
#define COLS ESP_GRADIENT_COLS
#define TILE ESP_GRADIENT_TILE

void esp_weight_tiles_make(esp_weight_tiles *t, const esp_model *m, bool gradient, bool fisher,
                           size_t n_threads, size_t *bytes)
{
    *t = (esp_weight_tiles){ .gradient = gradient, .fisher = fisher, .precision = m->precision };
    ESP_MAKE(t->scratch, n_threads * TILE, bytes);
    if (bytes) {
        *bytes += esp_bf16_bytes(m->precision);
    } else {
        t->bf16 = esp_bf16_open(m->precision);
    }
}

void esp_weight_tiles_free(esp_weight_tiles *t)
{
    free(t->scratch);
    esp_bf16_close(t->bf16);
    esp_bf16_buffer_free(&t->dy);
    esp_bf16_buffer_free(&t->x);
    *t = (esp_weight_tiles){ 0 };
}

/* ---- places ------------------------------------------------------------------------------------ */

/* Tiles of a column. */
static size_t n_down(const esp_weight *w)
{
    return (w->rows + ROWS - 1) / ROWS;
}

size_t esp_weight_tiles_count(const esp_weight *w)
{
    return n_down(w) * ((w->cols + COLS - 1) / COLS);
}

esp_weight_tile esp_weight_tiles_at(const esp_weight *w, size_t i)
{
    size_t row = i % n_down(w) * ROWS, col = i / n_down(w) * COLS;

    return (esp_weight_tile){ row, col, esp_min(w->rows - row, ROWS),
                              esp_min(w->cols - col, COLS) };
}

/* Numbers of the weight in the tiles before tile i. */
static size_t numbers_before(const esp_weight *w, size_t i)
{
    esp_weight_tile at;

    if (i >= esp_weight_tiles_count(w)) {
        return w->rows * w->cols;
    }
    at = esp_weight_tiles_at(w, i);
    return at.col * w->rows + at.row * at.n_cols;
}

size_t esp_weight_tiles_numbers(const esp_weight_tiles *t, const esp_weight *w, size_t first,
                                size_t end)
{
    return (numbers_before(w, end) - numbers_before(w, first)) * (size_t)(t->gradient + t->fisher);
}

esp_weight_tile_sums esp_weight_tiles_sums(const esp_weight_tiles *t, const esp_weight *w,
                                           double *sums, size_t first, size_t i)
{
    esp_weight_tile at = esp_weight_tiles_at(w, i);
    double *g = sums + esp_weight_tiles_numbers(t, w, first, i);

    return (esp_weight_tile_sums){ t->gradient ? g : NULL,
                                   t->fisher ? g + at.n_rows * at.n_cols : NULL };
}

float *esp_weight_tiles_scratch(const esp_weight_tiles *t)
{
    return t->scratch + (size_t)omp_get_thread_num() * TILE;
}

static void load_row(float *to, const esp_weight_tile *at, const esp_weight *w, size_t r)
{
    size_t first = (at->row + r) * w->cols + at->col;

    esp_to_f32(to, (const char *)w->data + first * esp_dtype_size(w->dtype), w->dtype, at->n_cols);
}

void esp_weight_tiles_load(float *to, const esp_weight_tile *at, const esp_weight *w)
{
    for (size_t r = 0; r < at->n_rows; r++) {
        load_row(to + r * at->n_cols, at, w, r);
    }
}

/* ---- gradients of a sample --------------------------------------------------------------------- */

static esp_spans spans_of(const esp_rows *rows)
{
    return (esp_spans){ rows->n, rows->begin, rows->end };
}

esp_weight_gradient esp_weight_tiles_round(esp_weight_tiles *t, const esp_weight *w,
                                           const esp_weight_gradient *d, const esp_rows *rows,
                                           size_t n_tok)
{
    const esp_spans s = spans_of(rows);
    esp_weight_gradient rounded = *d;

    if (t->bf16 && d->from.product) {
        rounded.dy16 = esp_bf16_round_packed(&t->dy, ESP_FACTOR_DY, d->dy, w->rows, n_tok, &s);
        rounded.x16 = esp_bf16_round_packed(&t->x, ESP_FACTOR_X, d->x, w->cols, n_tok, &s);
        rounded.n16 = n_tok;
    }
    return rounded;
}

void esp_weight_tiles_round_sizes(esp_weight_tiles *t, const esp_weight *w,
                                  const esp_gradient_source *from, size_t n_tok, size_t *bytes)
{
    if (t->precision == ESP_PRECISION_BF16 && from->product) {
        esp_bf16_buffer_fit(&t->dy, n_tok * w->rows, bytes);
        esp_bf16_buffer_fit(&t->x, n_tok * w->cols, bytes);
    }
}

/* g -= norm_head_grad[row] * the row of the weight, for the rows of a tile. */
static void subtract_norm_head_grad(float *g, const esp_weight_tile *at, const esp_weight *w,
                                    const float *norm_head_grad)
{
    float row[COLS];

    for (size_t r = 0; r < at->n_rows; r++) {
        load_row(row, at, w, r);
        for (size_t k = 0; k < at->n_cols; k++) {
            g[r * at->n_cols + k] -= norm_head_grad[at->row + r] * row[k];
        }
    }
}

/* Gradient of sample j. False when it is zero; g is not set then. */
static bool sample_gradient(float *g, const esp_weight_tiles *t, const esp_weight_tile *at,
                            const esp_weight *w, const esp_weight_gradient *d, const esp_rows *rows,
                            size_t j)
{
    size_t begin = rows->begin[j], end = rows->end[j];
    bool any = d->from.product;

    if (d->dy16) {
        esp_bf16_gradient_tile(t->bf16, g, at->n_rows, at->n_cols,
                               d->dy16 + at->row * d->n16 + begin,
                               d->x16 + at->col * d->n16 + begin, end - begin, d->n16);
    } else if (d->from.product) {
        esp_packed_gradient(g, at, &(esp_factors){ d->dy, d->x, w->rows, w->cols }, begin, end);
    }
    if (d->from.normalized) {
        subtract_norm_head_grad(g, at, w, d->norm_head_grad + rows->sample[j] * w->rows);
    }
    for (size_t i = begin; d->from.looked_up && i < end; i++) {
        size_t row = (size_t)d->ids[i] - at->row; /* wraps where the row lies before the tile */

        if (row >= at->n_rows) {
            continue;
        }
        if (!any) {
            memset(g, 0, at->n_rows * at->n_cols * sizeof *g);
            any = true;
        }
        for (size_t k = 0; k < at->n_cols; k++) {
            g[row * at->n_cols + k] += d->dx[i * w->cols + at->col + k];
        }
    }
    return any;
}

static void add_samples(const esp_weight_tiles *t, esp_weight_tile_sums to,
                        const esp_weight_tile *at, const esp_weight *w,
                        const esp_weight_gradient *d, const esp_rows *rows)
{
    float *g = esp_weight_tiles_scratch(t);

    for (size_t j = 0; j < rows->n; j++) {
        if (sample_gradient(g, t, at, w, d, rows, j)) {
            esp_moments_add(to.g, to.f, g, at->n_rows * at->n_cols);
        }
    }
}

void esp_weight_tiles_fill(const esp_weight_tiles *t, double *sums, const esp_weight *w,
                           const esp_weight_gradient *d, const esp_rows *rows, size_t i)
{
    bool product_only = d->from.product && !d->dy16 && !d->from.normalized && !d->from.looked_up;
    esp_weight_tile at = esp_weight_tiles_at(w, i);
    esp_weight_tile_sums to = esp_weight_tiles_sums(t, w, sums, i, i);

    if (product_only) {
        const esp_factors factors = { d->dy, d->x, w->rows, w->cols };
        const esp_spans s = spans_of(rows);

        esp_packed_moments(to.g, to.f, esp_weight_tiles_scratch(t), &at, &factors, &s);
    } else {
        memset(sums, 0, esp_weight_tiles_numbers(t, w, i, i + 1) * sizeof *sums);
        add_samples(t, to, &at, w, d, rows);
    }
}
