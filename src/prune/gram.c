/* gram.c - sums over tokens of x x^T, y x^T and |y|^2.
 *
 * The products of a sample are f32: their rounding, of some hundred terms, is far below the least damping. A
 * sample is the same whatever rank has it, and so are its products; only the order of f64 sums depends on the
 * number of ranks.
 */
#include "espalier/gram.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/cholesky.h"
#include "espalier/mem.h"
#include "espalier/tensor.h"
#include "espalier/traffic.h"

static void make_gram(esp_gram *g, size_t n_in, size_t n_out, bool bias, size_t *bytes)
{
    *g = (esp_gram){ .n_in = n_in, .n_out = n_out, .n = n_in + bias };
    ESP_MAKE(g->h, g->n * g->n, bytes);
    ESP_MAKE(g->g, n_out * g->n, bytes);
}

void esp_gram_init(esp_gram *g, size_t n_in, size_t n_out, bool bias)
{
    make_gram(g, n_in, n_out, bias, NULL);
}

size_t esp_gram_bytes(size_t n_in, size_t n_out, bool bias)
{
    esp_gram g;
    size_t bytes = 0;

    make_gram(&g, n_in, n_out, bias, &bytes);
    return bytes;
}

void esp_gram_free(esp_gram *g)
{
    free(g->h);
    free(g->g);
    *g = (esp_gram){ 0 };
}

void esp_gram_clear(esp_gram *g)
{
    memset(g->h, 0, g->n * g->n * sizeof *g->h);
    memset(g->g, 0, g->n_out * g->n * sizeof *g->g);
    g->y2 = g->tokens = 0;
}

size_t esp_gram_scratch(size_t n_in, size_t n_out)
{
    return esp_max(n_in, n_out) * n_in;
}

/* ---- a sample --------------------------------------------------------------------------------- */

/* to [n_rows, step] += from [n_rows, n]; half: on and below the diagonal alone. */
static void add_rows(double *to, size_t step, const float *from, size_t n_rows, size_t n, bool half)
{
#pragma omp parallel for schedule(static, 8)
    for (size_t i = 0; i < n_rows; i++) {
        size_t end = half ? i + 1 : n;

        for (size_t j = 0; j < end; j++) {
            to[i * step + j] += (double)from[i * n + j];
        }
    }
}

/* to[i * step] += sum of column i of x [n_tok, n] */
static void add_columns(double *to, size_t step, const float *x, size_t n_tok, size_t n)
{
#pragma omp parallel for schedule(static, 8)
    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t t = 0; t < n_tok; t++) {
            sum += (double)x[t * n + i];
        }
        to[i * step] += sum;
    }
}

static double squares(const float *y, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)y[i] * (double)y[i];
    }
    return sum;
}

/* Where the last number of x is 1: the last row of H, and the last column of G. */
static void add_ones(esp_gram *g, const float *x, const float *y, size_t n_tok)
{
    double *last = g->h + g->n_in * g->n;

    add_columns(last, 1, x, n_tok, g->n_in);
    last[g->n_in] += (double)n_tok;
    add_columns(g->g + g->n_in, g->n, y, n_tok, g->n_out);
}

void esp_gram_add(esp_gram *g, const float *x, const float *y, size_t n_tok, float *scratch)
{
    memset(scratch, 0, g->n_in * g->n_in * sizeof *scratch);
    esp_syrk(scratch, x, n_tok, g->n_in);
    add_rows(g->h, g->n, scratch, g->n_in, g->n_in, true);
    memset(scratch, 0, g->n_out * g->n_in * sizeof *scratch);
    esp_linear_backward_weight(scratch, NULL, y, x, n_tok, g->n_in, g->n_out);
    add_rows(g->g, g->n, scratch, g->n_out, g->n_in, false);
    if (g->n > g->n_in) {
        add_ones(g, x, y, n_tok);
    }
    g->y2 += squares(y, n_tok * g->n_out);
    g->tokens += (double)n_tok;
}

/* ---- sums ------------------------------------------------------------------------------------- */

static void mirror(esp_gram *g)
{
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < g->n; i++) {
        for (size_t j = i + 1; j < g->n; j++) {
            g->h[i * g->n + j] = g->h[j * g->n + i];
        }
    }
}

static void add_numbers(double *to, const double *from, size_t n)
{
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) {
        to[i] += from[i];
    }
}

void esp_gram_merge(esp_gram *to, const esp_gram *from)
{
    ESP_REQUIRE(to->n == from->n && to->n_out == from->n_out);
    add_numbers(to->h, from->h, to->n * to->n);
    add_numbers(to->g, from->g, to->n_out * to->n);
    to->y2 += from->y2;
    to->tokens += from->tokens;
}

static void sum(double *x, size_t n, MPI_Comm comm)
{
    esp_sent(ESP_SENT_SUMS, ESP_COST_ALLREDUCE, n * sizeof *x, comm);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, x, esp_count(n), MPI_DOUBLE, MPI_SUM, comm));
}

void esp_gram_reduce(esp_gram *g, MPI_Comm comm)
{
    double rest[2] = { g->y2, g->tokens };

    sum(g->h, g->n * g->n, comm);
    sum(g->g, g->n_out * g->n, comm);
    sum(rest, 2, comm);
    g->y2 = rest[0];
    g->tokens = rest[1];
    mirror(g);
}

/* Columns of rows [n_rows, n] of which some stay; a column behind the inputs is kept, too. */
static void keep_columns(double *to, const double *from, size_t n_rows, size_t n_in, size_t n,
                         const int32_t *kept, size_t n_kept)
{
    for (size_t i = 0; i < n_rows; i++, from += n) {
        for (size_t j = 0; j < n_kept; j++) {
            *to++ = from[kept[j]];
        }
        for (size_t j = n_in; j < n; j++) {
            *to++ = from[j];
        }
    }
}

void esp_gram_keep(esp_gram *g, const int32_t *kept, size_t n_kept)
{
    size_t n = g->n;

    for (size_t i = 0; i < n_kept; i++) { /* rows move up */
        memmove(g->h + i * n, g->h + (size_t)kept[i] * n, n * sizeof *g->h);
    }
    if (n > g->n_in) {
        memmove(g->h + n_kept * n, g->h + g->n_in * n, n * sizeof *g->h);
    }
    keep_columns(g->h, g->h, n_kept + n - g->n_in, g->n_in, n, kept, n_kept);
    keep_columns(g->g, g->g, g->n_out, g->n_in, n, kept, n_kept);
    g->n = n_kept + n - g->n_in;
    g->n_in = n_kept;
}

double esp_gram_error(const esp_gram *g, const double *w, size_t first, size_t n_rows,
                      double *scratch)
{
    const double *target = g->g + first * g->n;
    double error = 0;

    memset(scratch, 0, n_rows * g->n * sizeof *scratch);
    esp_subtract_product(scratch, g->n, w, g->n, g->h, g->n, n_rows, g->n, g->n);
    for (size_t i = 0; i < n_rows * g->n; i++) {
        error -= w[i] * (scratch[i] + 2 * target[i]);
    }
    return error;
}
