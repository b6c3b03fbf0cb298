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

/* Bytes moved per number of a matrix whose saliency is made of its sums. */
#define WEIGHED 24

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

/* What does not depend on data. */
static void make_weight_importance(esp_weight_importance *p, esp_saliency_sums *sums,
                                   const esp_model *m, esp_text_size all, esp_text_size own,
                                   const esp_grid *grid, size_t n_threads, size_t *bytes)
{
    unsigned criteria = criteria_of(&sums->criteria);
    size_t longest = longest_vector(m);

    *p = (esp_weight_importance){ .sums = sums,
                                  .grid = grid,
                                  .n_samples = own.samples,
                                  .n_tok = own.tokens,
                                  .n_tile = numbers_a_tile(criteria) };
    ESP_MAKE(p->row, esp_max(own.samples, 1) + 1, bytes);
    ESP_MAKE(p->counts, (size_t)grid->n_data, bytes);
    ESP_MAKE(p->strip, strip_tiles(n_threads) * p->n_tile, bytes);
    ESP_MAKE(p->part, run_tiles(n_threads) * part_numbers(sums->criteria.n), bytes);
    ESP_MAKE(p->vector, 2 * longest, bytes);
    ESP_MAKE(p->vector_w, longest, bytes);
    esp_sample_gather_make(&p->gather, all, grid, bytes);
    esp_weight_tiles_make(&p->tiles, m, esp_criteria_need(criteria, ESP_NEEDS_GRADIENT),
                          esp_criteria_need(criteria, ESP_NEEDS_FISHER), n_threads, bytes);
}

void esp_weight_importance_init(esp_weight_importance *p, esp_saliency_sums *sums,
                                const esp_model *m, const esp_samples *all, const size_t *start,
                                size_t n_samples, bool fisher_sum, const esp_grid *grid)
{
    esp_text_size none = { 0 }, own = { n_samples, n_samples ? start[n_samples] : 0, 0 };

    make_weight_importance(p, sums, m, all ? esp_samples_size(all) : none, own, grid,
                           (size_t)omp_get_max_threads(), NULL);
    p->g_scale = all ? 1 / (double)all->n : 0;
    p->f_scale = fisher_sum ? 1 : p->g_scale;
    for (size_t j = 0; j <= esp_max(n_samples, 1); j++) {
        p->row[j] = j;
    }
    p->start = n_samples ? start : p->row;
    if (all) {
        esp_sample_gather_place(&p->gather, all);
    }
}

void esp_weight_importance_init_sizes(esp_weight_importance *p, esp_importance_work *work,
                                      esp_saliency_sums *sums, const esp_model *m,
                                      esp_text_size all, esp_text_size own, const esp_grid *grid)
{
    make_weight_importance(p, sums, m, all, own, grid, (size_t)grid->n_threads, &work->held);
    p->work = work;
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

/* Bytes that would be gathered or reduced over the data ranks. */
static void add_sent(const esp_weight_importance *p, size_t bytes)
{
    p->work->weight_gradients +=
        esp_moved_bytes(ESP_COST_REDUCE_SCATTER, (double)bytes, p->grid->n_data);
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

/* From a row and a column on. */
static esp_moments moments_from(const esp_moments *f, size_t row, size_t col)
{
    return (esp_moments){ .x = f->x ? f->x + col : NULL,
                          .x2 = f->x2 ? f->x2 + col : NULL,
                          .dy2 = f->dy2 ? f->dy2 + row : NULL };
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
    esp_elements e = { t.n_rows, t.n_cols, esp_weight_tiles_scratch(&p->tiles),
                       s.g,      s.f,      moments_from(&p->moments, t.row, t.col) };

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
    size_t bytes = 2 * n * sizeof *p->vector;
    double cols[ESP_N_CRITERIA] = { 0 };
    const double one = 1; /* what a bias is multiplied by */
    esp_elements e = { n,
                       1,
                       p->vector_w,
                       p->vector,
                       p->vector + n,
                       { .x = &one, .x2 = &one, .dy2 = p->moments.dy2 } };

    if (p->work) {
        add_sent(p, bytes);
        return;
    }
    if (p->tiles.gradient) {
        fill_vector(p, dy, n, start);
        esp_sent(ESP_SENT_WEIGHT_GRADIENTS, ESP_COST_REDUCE_SCATTER, bytes, grid->data);
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
    esp_weight_gradient rounded = esp_weight_tiles_round(&p->tiles, w, own, &samples, p->n_tok);
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

/* What either of them takes: its share of a matrix's work, buffers and messages. */
static void add_matrix_sizes(esp_weight_importance *p, const esp_weight *w,
                             const esp_gradient_source *from, bool gathers)
{
    esp_importance_work *work = p->work;
    double n = (double)w->rows * (double)w->cols, share = n / p->grid->n_data;
    size_t n_tok = gathers ? p->gather.n_tok : p->n_tok;

    if (from->product) {
        double numbers = gathers ? share : n;
        size_t n_samples = gathers ? p->gather.rows.n : p->n_samples;

        work->work.products += 2 * numbers * (double)n_tok;
        *(p->tiles.fisher ? &work->work.gf : &work->work.g) += numbers * (double)n_samples;
    }
    work->numbers += n;
    work->work.moved += share * WEIGHED;
    esp_weight_tiles_round_sizes(&p->tiles, w, from, n_tok, &work->held);
    add_sent(p, gathers ? esp_sample_gather_all_sizes(&p->gather, w, from, &work->held)
                        : w->rows * w->cols * sum_bytes(p));
}

void esp_weight_importance_add(esp_weight_importance *p, size_t layer, int slot,
                               const esp_weight *w, const esp_weight_gradient *gradient)
{
    unsigned sides = esp_saliency_sums_sides(p->sums, layer, slot);
    double *rows = esp_saliency_sums_at(p->sums, layer, slot, ESP_ROWS);
    double *cols = esp_saliency_sums_at(p->sums, layer, slot, ESP_COLS);
    bool gathers =
        p->tiles.gradient && esp_sample_gather_pays(&p->gather, w, &gradient->from, sum_bytes(p));

    if (!sides) {
        return;
    }
    if (p->work) {
        add_matrix_sizes(p, w, &gradient->from, gathers);
    } else if (gathers) {
        add_own_tiles(p, rows, cols, w, gradient);
    } else {
        add_own_samples(p, rows, cols, w, gradient);
    }
    if (sides >> ESP_ROWS & 1 && w->has_bias) {
        add_vector(p, rows, w->bias, w->dtype, gradient->dy, w->rows, p->start);
    }
}

void esp_weight_importance_add_norm(esp_weight_importance *p, size_t layer, int slot,
                                    const esp_weight *w, const float *dw, const float *db)
{
    double *rows = esp_saliency_sums_at(p->sums, layer, slot, ESP_ROWS);

    if (!(esp_saliency_sums_sides(p->sums, layer, slot) >> ESP_ROWS & 1)) {
        return;
    }
    add_vector(p, rows, w->data, w->dtype, dw, w->rows, p->row);
    if (w->has_bias) {
        add_vector(p, rows, w->bias, w->dtype, db, w->rows, p->row);
    }
}
