/* weight_importance.c - per-sample gradients of a weight, tile by tile, summed over samples and ranks. */
#include "weight_importance_impl.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/traffic.h"

/* Tiles of a strip: it is small beside a model and gives every thread of a node something to do. */
#define STRIP_TILES ((size_t)64)

/* Tiles for each thread whose sums over rows and columns wait to be added in order. */
#define RUN_TILES ((size_t)64)

/* Tiles for which there is memory: a strip, and one per thread. */
static size_t strip_tiles(size_t n_threads)
{
    return esp_max(STRIP_TILES, n_threads);
}

static size_t run_tiles(size_t n_threads)
{
    return n_threads * RUN_TILES;
}

/* Bytes of G and F of one number of a weight. */
static size_t sum_bytes(const esp_weight_importance *p)
{
    return (size_t)(p->tiles.gradient + p->tiles.fisher) * sizeof *p->strip;
}

static size_t longest_vector(const esp_model *m)
{
    size_t longest = m->dims.hidden;

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
            size_t rows = esp_model_weight(m, l, slot)->rows;

            longest = esp_max(longest, rows);
        }
    }
    return longest;
}

/* Numbers of what a criterion needs of a tile: G, F or both. */
static size_t numbers_a_tile(unsigned criteria)
{
    return ESP_GRADIENT_TILE * (size_t)(esp_criteria_need(criteria, ESP_NEEDS_GRADIENT) +
                                        esp_criteria_need(criteria, ESP_NEEDS_FISHER));
}

static size_t part_numbers(size_t n_criteria)
{
    return n_criteria * (ESP_GRADIENT_ROWS + ESP_GRADIENT_COLS);
}

static unsigned criteria_of(const esp_criteria *list)
{
    unsigned criteria = 0;

    for (size_t i = 0; i < list->n; i++) {
        criteria |= 1u << list->at[i];
    }
    return criteria;
}

/* Beside what has a constructor of its own. */
static void make_weight_importance(esp_weight_importance *p, const esp_criteria *list,
                                   const esp_model *m, size_t n_samples, const esp_grid *grid,
                                   size_t n_threads, size_t *bytes)
{
    size_t longest = longest_vector(m);

    *p = (esp_weight_importance){ .grid = grid,
                                  .n_samples = n_samples,
                                  .n_tile = numbers_a_tile(criteria_of(list)) };
    ESP_MAKE(p->row, esp_max(n_samples, 1) + 1, bytes);
    ESP_MAKE(p->counts, (size_t)grid->n_data, bytes);
    ESP_MAKE(p->strip, strip_tiles(n_threads) * p->n_tile, bytes);
    ESP_MAKE(p->part, run_tiles(n_threads) * part_numbers(list->n), bytes);
    ESP_MAKE(p->vector, 2 * longest, bytes);
    ESP_MAKE(p->vector_w, longest, bytes);
}

void esp_weight_importance_init(esp_weight_importance *p, esp_saliency_sums *sums,
                                const esp_model *m, const esp_samples *all, const size_t *start,
                                size_t n_samples, bool fisher_sum, const esp_grid *grid)
{
    unsigned criteria = criteria_of(&sums->criteria);

    make_weight_importance(p, &sums->criteria, m, n_samples, grid, (size_t)omp_get_max_threads(),
                           NULL);
    p->sums = sums;
    esp_weight_tiles_init(&p->tiles, m, esp_criteria_need(criteria, ESP_NEEDS_GRADIENT),
                          esp_criteria_need(criteria, ESP_NEEDS_FISHER));
    p->g_scale = all ? 1 / (double)all->n : 0;
    p->f_scale = fisher_sum ? 1 : p->g_scale;
    for (size_t j = 0; j <= esp_max(n_samples, 1); j++) {
        p->row[j] = j;
    }
    p->start = n_samples ? start : p->row;
    esp_sample_gather_init(&p->gather, all, grid);
}

size_t esp_weight_importance_bytes(unsigned criteria, const esp_model *m, size_t n_all,
                                   size_t n_samples, const esp_grid *grid)
{
    esp_criteria list = esp_criteria_list(criteria);
    size_t n_threads = (size_t)grid->n_threads;
    size_t bytes = esp_weight_tiles_bytes(m, n_threads) + esp_sample_gather_bytes(n_all, grid);
    esp_weight_importance p;

    make_weight_importance(&p, &list, m, n_samples, grid, n_threads, &bytes);
    return bytes;
}

void esp_weight_importance_free(esp_weight_importance *p)
{
    esp_sample_gather_free(&p->gather);
    free(p->row);
    free(p->counts);
    free(p->strip);
    free(p->part);
    esp_weight_tiles_free(&p->tiles);
    free(p->vector);
    free(p->vector_w);
    *p = (esp_weight_importance){ 0 };
}

/* Sums the strip, tiles first .. last - 1, over the data ranks: this one is left with tiles *begin ..
 * *end, which move to the front of the strip. */
static void reduce_strip(esp_weight_importance *p, size_t *begin, size_t *end, const esp_weight *w,
                         size_t first, size_t last)
{
    const esp_grid *grid = p->grid;

    for (int i = 0; i < grid->n_data; i++) {
        size_t from, to;

        esp_share(&from, &to, last - first, i, grid->n_data);
        p->counts[i] = esp_count(esp_weight_tiles_numbers(&p->tiles, w, first + from, first + to));
    }
    esp_share(begin, end, last - first, grid->i_data, grid->n_data);
    *begin += first;
    *end += first;
    if (!p->tiles.gradient || grid->n_data == 1) {
        return;
    }
    esp_sent(ESP_SENT_WEIGHT_GRADIENTS, ESP_COST_REDUCE_SCATTER,
             esp_weight_tiles_numbers(&p->tiles, w, first, last) * sizeof *p->strip, grid->data);
    ESP_MPI(MPI_Reduce_scatter(MPI_IN_PLACE, p->strip, p->counts, MPI_DOUBLE, MPI_SUM, grid->data));
}

/* ---- saliency of a tile --------------------------------------------------------------------------- */

static void scale(double *v, double by, size_t n)
{
    for (size_t k = 0; v && k < n; k++) {
        v[k] *= by;
    }
}

static double *part_of(const esp_weight_importance *p, size_t k)
{
    return p->part + k * part_numbers(p->sums->criteria.n);
}

/* Sums over the rows, then over the columns, of tile i of the weight, into part `to`; its gradients are in
 * sums, which begin with tile `first`. */
static void weigh_tile(esp_weight_importance *p, const esp_weight *w, double *sums, size_t first,
                       size_t i, size_t to)
{
    const esp_criteria *c = &p->sums->criteria;
    esp_weight_tile t = esp_weight_tiles_at(w, i);
    esp_weight_tile_sums s = esp_weight_tiles_sums(&p->tiles, w, sums, first, i);
    double *rows = part_of(p, to), *cols = rows + c->n * t.n_rows;
    esp_elements e = { t.n_rows, t.n_cols, esp_weight_tiles_scratch(&p->tiles), s.g, s.f };

    esp_weight_tiles_load(esp_weight_tiles_scratch(&p->tiles), &t, w);
    scale(s.g, p->g_scale, t.n_rows * t.n_cols);
    scale(s.f, p->f_scale, t.n_rows * t.n_cols);
    memset(rows, 0, c->n * (t.n_rows + t.n_cols) * sizeof *rows);
    esp_criteria_add(rows, cols, c, &e);
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
static void add_parts(const esp_weight_importance *p, double *rows, double *cols,
                      const esp_weight *w, size_t begin, size_t end)
{
    size_t n = p->sums->criteria.n;

    for (size_t i = begin; i < end; i++) {
        esp_weight_tile t = esp_weight_tiles_at(w, i);
        const double *part = part_of(p, i - begin);

        add_part(rows, part, n, w->rows, t.row, t.n_rows);
        add_part(cols, part + n * t.n_rows, n, w->cols, t.col, t.n_cols);
    }
}

/* ---- biases and norms ----------------------------------------------------------------------------- */

/* G and F of a vector from dy, packed: sums over a sample's rows are its gradients. */
static void fill_vector(esp_weight_importance *p, const float *dy, size_t n, const size_t *start)
{
    double *G = p->vector, *F = p->vector + n;

    memset(p->vector, 0, 2 * n * sizeof *p->vector);
#pragma omp parallel for
    for (size_t at = 0; at < n; at += ESP_GRADIENT_ROWS) {
        size_t width = esp_min(n - at, ESP_GRADIENT_ROWS);

        for (size_t j = 0; j < p->n_samples; j++) {
            double v[ESP_GRADIENT_ROWS];

            esp_packed_sums(v, dy, n, at, width, start[j], start[j + 1]);
            for (size_t k = 0; k < width; k++) {
                G[at + k] += v[k];
                F[at + k] += v[k] * v[k];
            }
        }
    }
}

/* Adds a vector to the sums over rows, as one more column; the first data rank does it for all. */
static void add_vector(esp_weight_importance *p, double *rows, const void *data, esp_dtype dtype,
                       const float *dy, size_t n, const size_t *start)
{
    const esp_grid *grid = p->grid;
    double cols[ESP_N_CRITERIA] = { 0 };
    esp_elements e = { n, 1, p->vector_w, p->vector, p->vector + n };

    if (p->tiles.gradient) {
        fill_vector(p, dy, n, start);
        esp_sent(ESP_SENT_WEIGHT_GRADIENTS, ESP_COST_REDUCE_SCATTER, 2 * n * sizeof *p->vector,
                 grid->data);
        ESP_MPI(MPI_Reduce(grid->i_data ? p->vector : MPI_IN_PLACE, grid->i_data ? NULL : p->vector,
                           esp_count(2 * n), MPI_DOUBLE, MPI_SUM, 0, grid->data));
    }
    if (grid->i_data == 0) {
        esp_to_f32(p->vector_w, data, dtype, n);
        scale(p->vector, p->g_scale, n);
        scale(p->vector + n, p->f_scale, n);
        esp_criteria_add(rows, cols, &p->sums->criteria, &e);
    }
}

/* ---- a weight ------------------------------------------------------------------------------------- */

/* This rank's tiles from all samples. */
static void add_own_tiles(esp_weight_importance *p, double *rows, double *cols, const esp_weight *w,
                          const esp_weight_gradient *own)
{
    esp_weight_gradient all = esp_sample_gather_all(&p->gather, w, own);
    size_t most = run_tiles((size_t)omp_get_max_threads()), begin, end;

    all = esp_weight_tiles_round(&p->tiles, w, &all, &p->gather.rows, p->gather.n_tok);
    esp_share(&begin, &end, esp_weight_tiles_count(w), p->grid->i_data, p->grid->n_data);
    for (size_t first = begin; first < end; first += most) {
        size_t last = esp_min(first + most, end);

#pragma omp parallel for schedule(dynamic)
        for (size_t i = first; i < last; i++) {
            double *sums = p->strip + (size_t)omp_get_thread_num() * p->n_tile;

            esp_weight_tiles_fill(&p->tiles, sums, w, &all, &p->gather.rows, i);
            weigh_tile(p, w, sums, i, i, i - first);
        }
        add_parts(p, rows, cols, w, first, last);
    }
}

/* All tiles from this rank's samples, or from none where no criterion needs gradients. */
static void add_own_samples(esp_weight_importance *p, double *rows, double *cols,
                            const esp_weight *w, const esp_weight_gradient *own)
{
    const esp_rows samples = { p->n_samples, p->start, p->start + 1, p->row };
    esp_weight_gradient rounded =
        esp_weight_tiles_round(&p->tiles, w, own, &samples, p->start[p->n_samples]);
    size_t all = esp_weight_tiles_count(w);

    for (size_t first = 0; first < all; first += STRIP_TILES) {
        size_t last = esp_min(all, first + STRIP_TILES), begin, end;

#pragma omp parallel for schedule(dynamic) if (p->tiles.gradient)
        for (size_t i = first; i < (p->tiles.gradient ? last : 0); i++) {
            esp_weight_tiles_fill(&p->tiles,
                                  p->strip + esp_weight_tiles_numbers(&p->tiles, w, first, i), w,
                                  &rounded, &samples, i);
        }
        reduce_strip(p, &begin, &end, w, first, last);
#pragma omp parallel for schedule(dynamic)
        for (size_t i = begin; i < end; i++) {
            weigh_tile(p, w, p->strip, begin, i, i - begin);
        }
        add_parts(p, rows, cols, w, begin, end);
    }
}

void esp_weight_importance_add(esp_weight_importance *p, size_t layer, int slot,
                               const esp_weight *w, const esp_weight_gradient *gradient)
{
    double *rows = esp_saliency_sums_at(p->sums, layer, slot, ESP_ROWS);
    double *cols = esp_saliency_sums_at(p->sums, layer, slot, ESP_COLS);

    if (!rows && !cols) {
        return;
    }
    if (p->tiles.gradient && esp_sample_gather_pays(&p->gather, w, gradient->dy != NULL,
                                                    gradient->ids != NULL, sum_bytes(p))) {
        add_own_tiles(p, rows, cols, w, gradient);
    } else {
        add_own_samples(p, rows, cols, w, gradient);
    }
    if (rows && w->has_bias) {
        add_vector(p, rows, w->bias, w->dtype, gradient->dy, w->rows, p->start);
    }
}

void esp_weight_importance_add_norm(esp_weight_importance *p, size_t layer, int slot,
                                    const esp_weight *w, const float *dw, const float *db)
{
    double *rows = esp_saliency_sums_at(p->sums, layer, slot, ESP_ROWS);

    if (rows) {
        add_vector(p, rows, w->data, w->dtype, dw, w->rows, p->row);
    }
    if (rows && w->has_bias) {
        add_vector(p, rows, w->bias, w->dtype, db, w->rows, p->row);
    }
}
