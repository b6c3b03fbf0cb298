/* tiles.c - per-sample gradients of tiles, added into G and, squared, into F. */
#include "tiles_impl.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/tensor.h"

#define ROWS     ESP_GRADIENT_ROWS
#define COLS     ESP_GRADIENT_COLS
#define TILE     ESP_GRADIENT_TILE
#define PACK_TOK ((size_t)1024)

static size_t pack_tok(bool gradient, size_t longest)
{
    return !gradient ? 0 : longest > PACK_TOK ? longest : PACK_TOK;
}

void esp_tiles_init(esp_tiles *t, const esp_model *m, bool gradient, bool fisher, size_t longest)
{
    size_t n_threads = (size_t)omp_get_max_threads();

    *t = (esp_tiles){ .gradient = gradient, .fisher = fisher };
    t->pack_tok = pack_tok(gradient, longest);
    ESP_NEW(t->packed, n_threads * t->pack_tok * COLS);
    ESP_NEW(t->scratch, n_threads * TILE);
    t->bf16 = esp_bf16_open(m->precision);
}

void esp_tiles_free(esp_tiles *t)
{
    free(t->packed);
    free(t->scratch);
    esp_bf16_close(t->bf16);
    esp_bf16_room_free(&t->dy);
    esp_bf16_room_free(&t->x);
    *t = (esp_tiles){ 0 };
}

size_t esp_tiles_bytes(bool gradient, size_t longest, size_t n_threads)
{
    return n_threads * (pack_tok(gradient, longest) * COLS + TILE) * sizeof(float);
}

/* ---- places ------------------------------------------------------------------------------------ */

/* Tiles of a column. */
static size_t n_down(const esp_weight *w)
{
    return (w->rows + ROWS - 1) / ROWS;
}

size_t esp_tiles_count(const esp_weight *w)
{
    return n_down(w) * ((w->cols + COLS - 1) / COLS);
}

esp_tile_place esp_tiles_at(const esp_weight *w, size_t i)
{
    size_t row = i % n_down(w) * ROWS, col = i / n_down(w) * COLS;

    return (esp_tile_place){ row, col, esp_min(w->rows - row, ROWS), esp_min(w->cols - col, COLS) };
}

/* Numbers of the weight in the tiles before tile i. */
static size_t numbers_before(const esp_weight *w, size_t i)
{
    esp_tile_place at;

    if (i >= esp_tiles_count(w)) {
        return w->rows * w->cols;
    }
    at = esp_tiles_at(w, i);
    return at.col * w->rows + at.row * at.n_cols;
}

size_t esp_tiles_numbers(const esp_tiles *t, const esp_weight *w, size_t first, size_t end)
{
    return (numbers_before(w, end) - numbers_before(w, first)) * (size_t)(t->gradient + t->fisher);
}

esp_tile_sums esp_tiles_sums(const esp_tiles *t, const esp_weight *w, double *sums, size_t first,
                             size_t i)
{
    esp_tile_place at = esp_tiles_at(w, i);
    double *g = sums + esp_tiles_numbers(t, w, first, i);

    return (esp_tile_sums){ t->gradient ? g : NULL, t->fisher ? g + at.n_rows * at.n_cols : NULL };
}

float *esp_tiles_scratch(const esp_tiles *t)
{
    return t->scratch + (size_t)omp_get_thread_num() * TILE;
}

static void load_row(float *to, const esp_tile_place *at, const esp_weight *w, size_t r)
{
    size_t first = (at->row + r) * w->cols + at->col;

    esp_to_f32(to, (const char *)w->data + first * esp_dtype_size(w->dtype), w->dtype, at->n_cols);
}

void esp_tiles_load(float *to, const esp_tile_place *at, const esp_weight *w)
{
    for (size_t r = 0; r < at->n_rows; r++) {
        load_row(to + r * at->n_cols, at, w, r);
    }
}

/* ---- any gradient of a sample ------------------------------------------------------------------ */

esp_gradient esp_tiles_round(esp_tiles *t, const esp_weight *w, const esp_gradient *d, size_t n_tok)
{
    esp_gradient rounded = *d;

    if (t->bf16 && d->dy) {
        rounded.dy16 = esp_bf16_round_turned(&t->dy, d->dy, n_tok, w->rows);
        rounded.n16 = n_tok;
        rounded.x16 = esp_bf16_round_turned(&t->x, d->x, n_tok, w->cols);
    }
    return rounded;
}

/* g -= radial[row] * the row of the weight, for the rows of a tile. */
static void take_radial(float *g, const esp_tile_place *at, const esp_weight *w,
                        const float *radial)
{
    float row[COLS];

    for (size_t r = 0; r < at->n_rows; r++) {
        load_row(row, at, w, r);
        for (size_t k = 0; k < at->n_cols; k++) {
            g[r * at->n_cols + k] -= radial[at->row + r] * row[k];
        }
    }
}

/* Gradient of sample j. False when it is zero; g is not set then. */
static bool sample_gradient(float *g, const esp_tiles *t, const esp_tile_place *at,
                            const esp_weight *w, const esp_gradient *d, const esp_rows *rows,
                            size_t j)
{
    size_t begin = rows->begin[j], end = rows->end[j];
    bool any = d->dy != NULL;

    if (d->dy16) {
        esp_bf16_gradient_tile(t->bf16, g, at->n_rows, at->n_cols,
                               d->dy16 + at->row * d->n16 + begin,
                               d->x16 + at->col * d->n16 + begin, end - begin, d->n16);
    } else if (d->dy) {
        esp_linear_gradient_tile(g, at->n_rows, at->n_cols, d->dy + begin * w->rows + at->row,
                                 d->x + begin * w->cols + at->col, end - begin, w->cols, w->rows);
    }
    if (d->radial) {
        take_radial(g, at, w, d->radial + rows->sample[j] * w->rows);
    }
    for (size_t i = begin; d->ids && i < end; i++) {
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

static void add_samples(const esp_tiles *t, double *sums, const esp_weight *w,
                        const esp_gradient *d, const esp_rows *rows, size_t first, size_t n)
{
    float *g = esp_tiles_scratch(t);

    for (size_t k = first; k < first + n; k++) {
        esp_tile_place at = esp_tiles_at(w, k);
        esp_tile_sums to = esp_tiles_sums(t, w, sums, first, k);

        for (size_t j = 0; j < rows->n; j++) {
            if (sample_gradient(g, t, &at, w, d, rows, j)) {
                esp_gradient_add(to.g, to.f, g, at.n_rows * at.n_cols);
            }
        }
    }
}

/* ---- a product and no more --------------------------------------------------------------------- */

/* Packs the columns `at` has of samples from j on, as many as there is room for; returns the one after. */
static size_t pack_samples(float *packed, const esp_tiles *t, const esp_tile_place *at,
                           const esp_weight *w, const esp_gradient *d, const esp_rows *rows,
                           size_t j)
{
    size_t n_tok = 0;

    for (; j < rows->n && n_tok + rows->end[j] - rows->begin[j] <= t->pack_tok; j++) {
        size_t begin = rows->begin[j], n = rows->end[j] - begin;

        esp_linear_gradient_pack(packed + n_tok * COLS, d->x + begin * w->cols + at->col, n,
                                 at->n_cols, w->cols);
        n_tok += n;
    }
    return j;
}

/* Adds the samples j .. end - 1, whose columns of x are packed, to a tile. */
static void add_packed(const esp_tiles *t, esp_tile_sums to, const esp_tile_place *at,
                       const float *packed, const esp_weight *w, const esp_gradient *d,
                       const esp_rows *rows, size_t j, size_t end)
{
    for (; j < end; j++) {
        size_t begin = rows->begin[j], n_tok = rows->end[j] - begin;

        esp_linear_gradient_add(to.g, to.f, esp_tiles_scratch(t), at->n_rows, at->n_cols,
                                d->dy + begin * w->rows + at->row, packed, n_tok, w->rows);
        packed += n_tok * COLS;
    }
}

/* Tiles of one column, as many samples at a time as are packed at once. */
static void add_products(const esp_tiles *t, double *sums, const esp_weight *w,
                         const esp_gradient *d, const esp_rows *rows, size_t first, size_t n)
{
    float *packed = t->packed + (size_t)omp_get_thread_num() * t->pack_tok * COLS;
    esp_tile_place top = esp_tiles_at(w, first);

    for (size_t j = 0, end; j < rows->n; j = end) {
        end = pack_samples(packed, t, &top, w, d, rows, j);
        ESP_REQUIRE(end > j);
        for (size_t k = first; k < first + n; k++) {
            esp_tile_place at = esp_tiles_at(w, k);

            add_packed(t, esp_tiles_sums(t, w, sums, first, k), &at, packed, w, d, rows, j, end);
        }
    }
}

void esp_tiles_fill(const esp_tiles *t, double *sums, const esp_weight *w, const esp_gradient *d,
                    const esp_rows *rows, size_t first, size_t n)
{
    bool product_only = d->dy && !d->dy16 && !d->radial && !d->ids;
    size_t down = n_down(w), end = first + n;

    memset(sums, 0, esp_tiles_numbers(t, w, first, end) * sizeof *sums);
    if (!product_only) {
        add_samples(t, sums, w, d, rows, first, n);
        return;
    }
    for (size_t i = first, part; i < end; i += part) {
        part = esp_min(end - i, down - i % down);
        add_products(t, sums + esp_tiles_numbers(t, w, first, i), w, d, rows, i, part);
    }
}
