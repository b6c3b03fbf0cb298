/* panels.c - per-sample gradients of a weight, tile by tile, summed over samples and ranks. */
#include "panels_impl.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/traffic.h"

/* A tile's G and F stay in the second-level cache while the samples go by. A panel is small beside a model
 * and gives every thread of a node something to do. */
#define TILE_ROWS   ((size_t)128)
#define TILE_COLS   ((size_t)256)
#define TILE        (TILE_ROWS * TILE_COLS)
#define PANEL_TILES ((size_t)32)

/* Tiles whose sums over rows and columns wait to be added in order. */
#define RUN_TILES ((size_t)128)

typedef struct tile {
    size_t row, col, n_rows, n_cols;
} tile;

static size_t min_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t n_tiles(const esp_weight *w)
{
    return ((w->rows + TILE_ROWS - 1) / TILE_ROWS) * ((w->cols + TILE_COLS - 1) / TILE_COLS);
}

static tile tile_at(const esp_weight *w, size_t i)
{
    size_t across = (w->cols + TILE_COLS - 1) / TILE_COLS;
    size_t row = i / across * TILE_ROWS, col = i % across * TILE_COLS;

    return (tile){ row, col, min_of(w->rows - row, TILE_ROWS), min_of(w->cols - col, TILE_COLS) };
}

/* Bytes of G and F of one number of a weight. */
static size_t sum_bytes(const esp_panels *p)
{
    return (size_t)(p->gradient + p->fisher) * sizeof *p->panel;
}

/* A panel, or a tile for each thread. */
static size_t panel_tiles(void)
{
    size_t n_threads = (size_t)omp_get_max_threads();

    return n_threads > PANEL_TILES ? n_threads : PANEL_TILES;
}

/* Numbers of G, and of F, that a panel holds for a tile: less than TILE for a small weight. */
static size_t tile_room(const esp_weight *w)
{
    return min_of(w->rows, TILE_ROWS) * min_of(w->cols, TILE_COLS);
}

static size_t longest_vector(const esp_model *m)
{
    size_t longest = m->dims.hidden;

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
            size_t rows = esp_model_weight(m, l, slot)->rows;

            longest = rows > longest ? rows : longest;
        }
    }
    return longest;
}

void esp_panels_init(esp_panels *p, esp_sums *sums, const esp_model *m, const esp_samples *all,
                     const size_t *start, size_t n_samples, bool fisher_sum, const esp_grid *grid)
{
    size_t longest = longest_vector(m);

    *p = (esp_panels){ .sums = sums, .grid = grid, .n_samples = n_samples };
    for (size_t i = 0; i < sums->criteria.n; i++) {
        p->gradient |= (ESP_NEEDS_GRADIENT & 1u << sums->criteria.at[i]) != 0;
        p->fisher |= (ESP_NEEDS_FISHER & 1u << sums->criteria.at[i]) != 0;
    }
    p->g_scale = all ? 1 / (double)all->n : 0;
    p->f_scale = fisher_sum ? 1 : p->g_scale;
    ESP_NEW(p->row, n_samples + 1);
    for (size_t j = 0; j <= n_samples; j++) {
        p->row[j] = j;
    }
    p->start = n_samples ? start : p->row;
    esp_gather_init(&p->gather, all, grid);
    ESP_NEW(p->counts, (size_t)grid->n_data);
    p->bf16 = esp_bf16_open(m->precision);
    ESP_NEW(p->panel, panel_tiles() * TILE * (sum_bytes(p) / sizeof *p->panel));
    ESP_NEW(p->part, RUN_TILES * sums->criteria.n * (TILE_ROWS + TILE_COLS));
    ESP_NEW(p->scratch, (size_t)omp_get_max_threads() * TILE);
    ESP_NEW(p->vector, 2 * longest);
    ESP_NEW(p->vector_w, longest);
}

void esp_panels_free(esp_panels *p)
{
    esp_gather_free(&p->gather);
    free(p->row);
    free(p->counts);
    free(p->panel);
    free(p->part);
    esp_bf16_close(p->bf16);
    esp_bf16_room_free(&p->dy);
    esp_bf16_room_free(&p->x);
    free(p->scratch);
    free(p->vector);
    free(p->vector_w);
    *p = (esp_panels){ 0 };
}

static float *scratch_of_thread(const esp_panels *p)
{
    return p->scratch + (size_t)omp_get_thread_num() * TILE;
}

/* ---- gradients of a tile -------------------------------------------------------------------------- */

static void load_row(float *to, const tile *t, const esp_weight *w, size_t r)
{
    size_t at = (t->row + r) * w->cols + t->col;

    esp_to_f32(to, (const char *)w->data + at * esp_dtype_size(w->dtype), w->dtype, t->n_cols);
}

/* g -= radial[row] * the row of the weight, for the rows of a tile. */
static void take_radial(float *g, const tile *t, const esp_weight *w, const float *radial)
{
    float row[TILE_COLS];

    for (size_t r = 0; r < t->n_rows; r++) {
        load_row(row, t, w, r);
        for (size_t k = 0; k < t->n_cols; k++) {
            g[r * t->n_cols + k] -= radial[t->row + r] * row[k];
        }
    }
}

/* Gradient of sample j. False when it is zero; g is not set then. */
static bool sample_gradient(float *g, const esp_panels *p, const tile *t, const esp_weight *w,
                            const esp_gradient *d, const esp_rows *rows, size_t j)
{
    size_t begin = rows->begin[j], end = rows->end[j];
    bool any = d->dy != NULL;

    if (d->dy16) {
        esp_bf16_gradient_tile(p->bf16, g, t->n_rows, t->n_cols, d->dy16 + t->row * d->n16 + begin,
                               d->x16 + t->col * d->n16 + begin, end - begin, d->n16);
    } else if (d->dy) {
        esp_linear_gradient_tile(g, t->n_rows, t->n_cols, d->dy + begin * w->rows + t->row,
                                 d->x + begin * w->cols + t->col, end - begin, w->cols, w->rows);
    }
    if (d->radial) {
        take_radial(g, t, w, d->radial + rows->sample[j] * w->rows);
    }
    for (size_t i = begin; d->ids && i < end; i++) {
        size_t row = (size_t)d->ids[i] - t->row; /* wraps where the row lies before the tile */

        if (row >= t->n_rows) {
            continue;
        }
        if (!any) {
            memset(g, 0, t->n_rows * t->n_cols * sizeof *g);
            any = true;
        }
        for (size_t k = 0; k < t->n_cols; k++) {
            g[row * t->n_cols + k] += d->dx[i * w->cols + t->col + k];
        }
    }
    return any;
}

/* G and F of tile number k in the panel, of w; NULL where they are not asked for. */
static double *g_of(const esp_panels *p, const esp_weight *w, size_t k)
{
    return p->gradient ? p->panel + k * tile_room(w) * (p->fisher ? 2 : 1) : NULL;
}

static double *f_of(const esp_panels *p, const esp_weight *w, size_t k)
{
    return p->fisher ? g_of(p, w, k) + tile_room(w) : NULL;
}

/* The gradient with the operands of its product in the precision of the model. */
static esp_gradient round_operands(esp_panels *p, const esp_weight *w, const esp_gradient *d,
                                   size_t n_tok)
{
    esp_gradient rounded = *d;

    if (p->bf16 && d->dy) {
        rounded.dy16 = esp_bf16_round_turned(&p->dy, d->dy, n_tok, w->rows);
        rounded.n16 = n_tok;
        rounded.x16 = esp_bf16_round_turned(&p->x, d->x, n_tok, w->cols);
    }
    return rounded;
}

/* Sums over the samples whose rows are given for tile i of w, in place k of the panel. */
static void fill_tile(esp_panels *p, const esp_weight *w, const esp_gradient *d,
                      const esp_rows *rows, size_t i, size_t k)
{
    bool product_only = d->dy && !d->dy16 && !d->radial && !d->ids;
    double *G = g_of(p, w, k), *F = f_of(p, w, k);
    float *g = scratch_of_thread(p);
    tile t = tile_at(w, i);

    memset(G, 0, tile_room(w) * sum_bytes(p));
    for (size_t j = 0; j < rows->n; j++) {
        size_t begin = rows->begin[j];

        if (product_only) {
            esp_linear_gradient_add(G, F, g, t.n_rows, t.n_cols, d->dy + begin * w->rows + t.row,
                                    d->x + begin * w->cols + t.col, rows->end[j] - begin, w->cols,
                                    w->rows);
        } else if (sample_gradient(g, p, &t, w, d, rows, j)) {
            esp_gradient_add(G, F, g, t.n_rows * t.n_cols);
        }
    }
}

/* Sums the panel over the data ranks: this one is left with tiles *begin .. *end, which move to the
 * front of the panel. */
static void share_panel(esp_panels *p, size_t *begin, size_t *end, const esp_weight *w, size_t n)
{
    const esp_grid *grid = p->grid;

    esp_share(begin, end, n, grid->i_data, grid->n_data);
    if (!p->gradient || grid->n_data == 1) {
        return;
    }
    for (int i = 0; i < grid->n_data; i++) {
        size_t from, to;

        esp_share(&from, &to, n, i, grid->n_data);
        p->counts[i] = esp_count((to - from) * tile_room(w) * sum_bytes(p) / sizeof *p->panel);
    }
    esp_sent(ESP_SENT_PANELS, ESP_MOVES_ONCE, n * tile_room(w) * sum_bytes(p), grid->data);
    ESP_MPI(MPI_Reduce_scatter(MPI_IN_PLACE, p->panel, p->counts, MPI_DOUBLE, MPI_SUM, grid->data));
}

/* ---- salience of a tile --------------------------------------------------------------------------- */

static void scale(double *v, double by, size_t n)
{
    for (size_t k = 0; v && k < n; k++) {
        v[k] *= by;
    }
}

static void load_tile(float *to, const tile *t, const esp_weight *w)
{
    for (size_t r = 0; r < t->n_rows; r++) {
        load_row(to + r * t->n_cols, t, w, r);
    }
}

static double *part_of(const esp_panels *p, size_t k)
{
    return p->part + k * p->sums->criteria.n * (TILE_ROWS + TILE_COLS);
}

/* Sums over the rows, then over the columns, of tile i of the weight, whose gradients are in place k of the
 * panel, into part `to`. */
static void weigh_tile(esp_panels *p, const esp_weight *w, size_t i, size_t k, size_t to)
{
    const esp_criteria *c = &p->sums->criteria;
    tile t = tile_at(w, i);
    double *rows = part_of(p, to), *cols = rows + c->n * t.n_rows;
    esp_elements e = { t.n_rows, t.n_cols, scratch_of_thread(p), g_of(p, w, k), f_of(p, w, k) };

    load_tile(scratch_of_thread(p), &t, w);
    scale(g_of(p, w, k), p->g_scale, t.n_rows * t.n_cols);
    scale(f_of(p, w, k), p->f_scale, t.n_rows * t.n_cols);
    memset(rows, 0, c->n * (t.n_rows + t.n_cols) * sizeof *rows);
    esp_salience_add(rows, cols, c, &e);
}

/* to [n_criteria, length] from `at` on += part [n_criteria, n] */
static void add_part(double *to, const double *part, size_t n_criteria, size_t length, size_t at,
                     size_t n)
{
    for (size_t c = 0; to && c < n_criteria; c++) {
        for (size_t k = 0; k < n; k++) {
            to[c * length + at + k] += part[c * n + k];
        }
    }
}

/* The parts of tiles begin .. end, in the order of the tiles, whatever thread made them. */
static void add_parts(const esp_panels *p, double *rows, double *cols, const esp_weight *w,
                      size_t begin, size_t end)
{
    size_t n = p->sums->criteria.n;

    for (size_t i = begin; i < end; i++) {
        tile t = tile_at(w, i);
        const double *part = part_of(p, i - begin);

        add_part(rows, part, n, w->rows, t.row, t.n_rows);
        add_part(cols, part + n * t.n_rows, n, w->cols, t.col, t.n_cols);
    }
}

/* ---- biases and norms ----------------------------------------------------------------------------- */

/* G and F of a vector from dy [start[n_samples], n], whose sums over a sample's rows are its gradients. */
static void fill_vector(esp_panels *p, const float *dy, size_t n, const size_t *start)
{
    double *G = p->vector, *F = p->vector + n;

    memset(p->vector, 0, 2 * n * sizeof *p->vector);
#pragma omp parallel for
    for (size_t at = 0; at < n; at += TILE_COLS) {
        size_t width = min_of(n - at, TILE_COLS);

        for (size_t j = 0; j < p->n_samples; j++) {
            double v[TILE_COLS] = { 0 };

            for (size_t t = start[j]; t < start[j + 1]; t++) {
                for (size_t k = 0; k < width; k++) {
                    v[k] += (double)dy[t * n + at + k];
                }
            }
            for (size_t k = 0; k < width; k++) {
                G[at + k] += v[k];
                F[at + k] += v[k] * v[k];
            }
        }
    }
}

/* Adds a vector to the sums over rows, as one more column; the first data rank does it for all. */
static void add_vector(esp_panels *p, double *rows, const void *data, esp_dtype dtype,
                       const float *dy, size_t n, const size_t *start)
{
    const esp_grid *grid = p->grid;
    double cols[ESP_N_CRITERIA] = { 0 };
    esp_elements e = { n, 1, p->vector_w, p->vector, p->vector + n };

    if (p->gradient) {
        fill_vector(p, dy, n, start);
        esp_sent(ESP_SENT_PANELS, ESP_MOVES_ONCE, 2 * n * sizeof *p->vector, grid->data);
        ESP_MPI(MPI_Reduce(grid->i_data ? p->vector : MPI_IN_PLACE, grid->i_data ? NULL : p->vector,
                           esp_count(2 * n), MPI_DOUBLE, MPI_SUM, 0, grid->data));
    }
    if (grid->i_data == 0) {
        esp_to_f32(p->vector_w, data, dtype, n);
        scale(p->vector, p->g_scale, n);
        scale(p->vector + n, p->f_scale, n);
        esp_salience_add(rows, cols, &p->sums->criteria, &e);
    }
}

/* ---- a weight ------------------------------------------------------------------------------------- */

/* This rank's tiles from all samples. */
static void add_own_tiles(esp_panels *p, double *rows, double *cols, const esp_weight *w,
                          const esp_gradient *own)
{
    esp_gradient all = esp_gather_all(&p->gather, w, own);
    size_t begin, end;

    all = round_operands(p, w, &all, p->gather.n_tok);
    esp_share(&begin, &end, n_tiles(w), p->grid->i_data, p->grid->n_data);
    for (size_t first = begin; first < end; first += RUN_TILES) {
        size_t n = min_of(end - first, RUN_TILES);

#pragma omp parallel for schedule(dynamic)
        for (size_t i = first; i < first + n; i++) {
            size_t k = (size_t)omp_get_thread_num();

            fill_tile(p, w, &all, &p->gather.rows, i, k);
            weigh_tile(p, w, i, k, i - first);
        }
        add_parts(p, rows, cols, w, first, first + n);
    }
}

/* All tiles from this rank's samples, or from none where no criterion needs gradients. */
static void add_own_samples(esp_panels *p, double *rows, double *cols, const esp_weight *w,
                            const esp_gradient *own)
{
    const esp_rows samples = { p->n_samples, p->start, p->start + 1, p->row };
    esp_gradient rounded = round_operands(p, w, own, p->start[p->n_samples]);
    size_t all = n_tiles(w);

    for (size_t first = 0; first < all; first += PANEL_TILES) {
        size_t n = min_of(all - first, PANEL_TILES), begin, end;

#pragma omp parallel for schedule(dynamic) if (p->gradient)
        for (size_t k = 0; k < (p->gradient ? n : 0); k++) {
            fill_tile(p, w, &rounded, &samples, first + k, k);
        }
        share_panel(p, &begin, &end, w, n);
#pragma omp parallel for schedule(dynamic)
        for (size_t k = begin; k < end; k++) {
            weigh_tile(p, w, first + k, k - begin, k - begin);
        }
        add_parts(p, rows, cols, w, first + begin, first + end);
    }
}

void esp_panels_add(esp_panels *p, size_t layer, int slot, const esp_weight *w,
                    const esp_gradient *gradient)
{
    double *rows = esp_sums_at(p->sums, layer, slot, ESP_ROWS);
    double *cols = esp_sums_at(p->sums, layer, slot, ESP_COLS);

    if (!rows && !cols) {
        return;
    }
    if (p->gradient && esp_gather_pays(&p->gather, w, gradient, sum_bytes(p))) {
        add_own_tiles(p, rows, cols, w, gradient);
    } else {
        add_own_samples(p, rows, cols, w, gradient);
    }
    if (rows && w->has_bias) {
        add_vector(p, rows, w->bias, w->dtype, gradient->dy, w->rows, p->start);
    }
}

void esp_panels_add_norm(esp_panels *p, size_t layer, int slot, const esp_weight *w,
                         const float *dw, const float *db)
{
    double *rows = esp_sums_at(p->sums, layer, slot, ESP_ROWS);

    if (rows) {
        add_vector(p, rows, w->data, w->dtype, dw, w->rows, p->row);
    }
    if (rows && w->has_bias) {
        add_vector(p, rows, w->bias, w->dtype, db, w->rows, p->row);
    }
}
