/* reconstruction.c - groups go one after another, each time the one without which the error rises least.
 *
 * What is removed is a row and column of P and of M = W^T W, by an update of rank 1; M stands for W, as the
 * score of a group needs no more of W than its products. Updates are gathered: until as many are together as
 * make a product worth while, the columns that are asked for are corrected one by one.
 */
#include "espalier/reconstruction.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/cholesky.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"
#include "candidates_impl.h"

#define PENDING ((size_t)64)  /* updates that are made together */
#define PANEL   ((size_t)192) /* columns that are updated at a time */

/* ---- memory ------------------------------------------------------------------------------------- */

static void make(esp_reconstruction *s, size_t n, size_t n_rows, const esp_input_groups *g,
                 size_t *bytes)
{
    *s = (esp_reconstruction){ .n = n };
    ESP_MAKE(s->w, n_rows * n, bytes);
    ESP_MAKE(s->inverse, n * n, bytes);
    ESP_MAKE(s->p, n, bytes);
    ESP_MAKE(s->m, n, bytes);
    ESP_MAKE(s->column[0], n, bytes);
    ESP_MAKE(s->column[1], n, bytes);
    ESP_MAKE(s->right, n * PENDING, bytes);
    ESP_MAKE(s->left, n * PENDING, bytes);
    ESP_MAKE(s->block, 2 * g->width * g->width, bytes);
    ESP_MAKE(s->scores, g->n, bytes);
    ESP_MAKE(s->gone, g->n, bytes);
}

void esp_reconstruction_init(esp_reconstruction *s, size_t n, size_t n_rows,
                             const esp_input_groups *g)
{
    make(s, n, n_rows, g, NULL);
    esp_least_squares_init(&s->solver, n, n_rows);
}

size_t esp_reconstruction_bytes(size_t n, size_t n_rows, const esp_input_groups *g)
{
    esp_reconstruction s;
    size_t bytes = esp_least_squares_bytes(n, n_rows);

    make(&s, n, n_rows, g, &bytes);
    return bytes;
}

void esp_reconstruction_free(esp_reconstruction *s)
{
    esp_least_squares_free(&s->solver);
    free(s->w);
    free(s->inverse);
    free(s->p);
    free(s->m);
    free(s->column[0]);
    free(s->column[1]);
    free(s->right);
    free(s->left);
    free(s->block);
    free(s->scores);
    free(s->gone);
    *s = (esp_reconstruction){ 0 };
}

double esp_reconstruction_flops(size_t n, size_t n_rows, size_t n_inputs_gone)
{
    double wide = (double)n, rows = (double)n_rows, gone = (double)n_inputs_gone;

    return esp_least_squares_flops(n, n_rows) + 4 * wide * wide * rows + 2 * wide * wide * wide +
           3 * gone * wide * wide;
}

/* ---- P and W^T W of all inputs ------------------------------------------------------------------- */

/* P = (H + lambda I)^-1, of the factor that the solve has left. */
static void invert(esp_reconstruction *s)
{
    size_t n = s->n;

    memset(s->inverse, 0, n * n * sizeof *s->inverse);
    for (size_t i = 0; i < n; i++) {
        s->inverse[i * n + i] = 1;
    }
    esp_cholesky_solve(s->inverse, s->solver.factor, n, n);
}

/* In the place of the factor, of the rows of all ranks. Collective. */
static void multiply(esp_reconstruction *s, size_t n_rows, MPI_Comm comm)
{
    size_t n = s->n;
    double *m = s->solver.factor, *turned = s->solver.scratch;

    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < n; i++) {
            turned[i * n_rows + r] = s->w[r * n + i];
        }
    }
    memset(m, 0, n * n * sizeof *m);
    esp_subtract_product(m, n, turned, n_rows, turned, n_rows, n, n, n_rows);
    for (size_t i = 0; i < n * n; i++) {
        m[i] = -m[i];
    }
    esp_sent(ESP_SENT_SUMS, ESP_COST_ALLREDUCE, n * n * sizeof *m, comm);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, m, esp_count(n * n), MPI_DOUBLE, MPI_SUM, comm));
}

/* The least value with all inputs, after the solve: that at W0, less (W - W0) (G - W0 H)^T. Collective. */
static double least_error(esp_reconstruction *s, const double *w0, const esp_gram *g, size_t first,
                          size_t n_rows, MPI_Comm comm)
{
    double error = esp_gram_error(g, w0, first, n_rows, s->solver.scratch);

    for (size_t i = 0; i < n_rows * s->n; i++) {
        error -= (s->w[i] - w0[i]) * s->solver.residual[i];
    }
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &error, 1, MPI_DOUBLE, MPI_SUM, comm));
    return error + g->y2;
}

/* Collective. */
static bool begin(esp_reconstruction *s, double *error, const double *w0, const esp_gram *g,
                  double damping, size_t first, size_t n_rows, MPI_Comm comm)
{
    size_t n = s->n;

    if (!esp_least_squares_solve(s->w, w0, g, damping, first, n_rows, &s->solver)) {
        return false;
    }
    *error = least_error(s, w0, g, first, n_rows, comm);
    invert(s);
    multiply(s, n_rows, comm);
    for (size_t i = 0; i < n; i++) {
        s->p[i] = s->inverse[i * n + i];
        s->m[i] = s->solver.factor[i * n + i];
    }
    s->n_pending = 0;
    return true;
}

/* ---- updates ------------------------------------------------------------------------------------- */

/* a -= left right^T, on and below the diagonal. */
static void subtract(double *a, const double *left, const double *right, size_t n)
{
    for (size_t j = 0; j < n; j += PANEL) {
        esp_subtract_product(a + j * n + j, n, left + j * PENDING, PENDING, right + j * PENDING,
                             PENDING, n - j, esp_min(PANEL, n - j), PENDING);
    }
}

/* Makes what is pending. */
static void flush(esp_reconstruction *s)
{
    size_t n = s->n;

    if (s->n_pending > 0) {
        subtract(s->inverse, s->right, s->right, n);
        subtract(s->solver.factor, s->left, s->right, n);
        subtract(s->solver.factor, s->right, s->left, n);
        memset(s->left, 0, n * PENDING * sizeof *s->left);
        memset(s->right, 0, n * PENDING * sizeof *s->right);
        s->n_pending = 0;
    }
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;

    for (size_t k = 0; k < n; k++) {
        sum += a[k] * b[k];
    }
    return sum;
}

/* Columns j of P and W^T W as they are after all updates. */
static void take_columns(esp_reconstruction *s, size_t j)
{
    size_t n = s->n, k = s->n_pending;
    const double *right = s->right + j * PENDING, *left = s->left + j * PENDING;

#pragma omp parallel for
    for (size_t i = 0; i < n; i++) {
        size_t at = i < j ? j * n + i : i * n + j;
        const double *own_right = s->right + i * PENDING, *own_left = s->left + i * PENDING;

        s->column[0][i] = s->inverse[at] - dot(own_right, right, k);
        s->column[1][i] = s->solver.factor[at] - dot(own_left, right, k) - dot(own_right, left, k);
    }
}

/* Input j goes: with u = P_j / sqrt(P_jj), z = W_j / sqrt(P_jj), W loses z u^T, and P loses u u^T. */
static bool remove_input(esp_reconstruction *s, size_t j)
{
    size_t k = s->n_pending;
    double pivot, root, half;

    take_columns(s, j);
    pivot = s->column[0][j];
    if (!(pivot > 0) || !isfinite(pivot)) {
        return false;
    }
    root = sqrt(pivot);
    half = s->column[1][j] / pivot / 2;
    for (size_t i = 0; i < s->n; i++) {
        double u = s->column[0][i] / root, v = s->column[1][i] / root - half * u;

        s->right[i * PENDING + k] = u;
        s->left[i * PENDING + k] = v;
        s->p[i] -= u * u;
        s->m[i] -= 2 * u * v;
    }
    if (++s->n_pending == PENDING) {
        flush(s);
    }
    return true;
}

/* ---- groups -------------------------------------------------------------------------------------- */

/* The square block [n, n] of a at the inputs of a group. */
static void take_block(double *to, const double *a, size_t step, const size_t *input, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            size_t row = esp_max(input[i], input[j]), column = esp_min(input[i], input[j]);

            to[i * n + j] = a[row * step + column];
        }
    }
}

/* By how much the error rises without a group: tr(P_gg^-1 (W^T W)_gg); NAN where P_gg has no inverse. What is
 * pending has been made. */
static double score_of(esp_reconstruction *s, const esp_input_groups *g, size_t group)
{
    const size_t *input = g->input + group * g->width;
    size_t n = g->width;
    double *p = s->block, *m = s->block + n * n, sum = 0;

    take_block(p, s->inverse, s->n, input, n);
    take_block(m, s->solver.factor, s->n, input, n);
    if (esp_cholesky(p, n) < n) {
        return NAN;
    }
    esp_cholesky_solve(m, p, n, n);
    for (size_t i = 0; i < n; i++) {
        sum += m[i * n + i];
    }
    return sum;
}

static void score_all(esp_reconstruction *s, const esp_input_groups *g)
{
    if (g->width > 1) {
        flush(s);
    }
    for (size_t i = 0; i < g->n; i++) {
        size_t input = g->input[i * g->width];

        if (!s->gone[i]) {
            s->scores[i] = g->width == 1 ? s->m[input] / s->p[input] : score_of(s, g, i);
        }
    }
}

/* Whether as many groups have gone from the lane of one as are to. */
static bool is_full(const esp_reconstruction *s, const esp_input_groups *g, size_t group,
                    size_t n_gone)
{
    size_t n = g->n / g->lanes, first = group / n * n, gone = 0;

    for (size_t i = first; g->lanes > 1 && i < first + n; i++) {
        gone += s->gone[i];
    }
    return g->lanes > 1 && gone >= n_gone / g->lanes;
}

/* The group that costs least by 24 bits of its score, the first of equal ones; g->n: a score is no number. */
static size_t least(const esp_reconstruction *s, const esp_input_groups *g, size_t n_gone)
{
    double best = INFINITY;
    size_t found = g->n;

    for (size_t i = 0; i < g->n; i++) {
        if (!s->gone[i] && !isfinite(s->scores[i])) {
            return g->n;
        }
        if (!s->gone[i] && esp_round_score(s->scores[i]) < best && !is_full(s, g, i, n_gone)) {
            best = esp_round_score(s->scores[i]);
            found = i;
        }
    }
    return found;
}

static bool remove_group(esp_reconstruction *s, const esp_input_groups *g, size_t group)
{
    bool done = true;

    for (size_t i = 0; done && i < g->width; i++) {
        done = remove_input(s, g->input[group * g->width + i]);
    }
    return done;
}

/* After begin, on every rank alike. */
static bool remove_groups(int32_t *order, double *error, size_t n_gone, const esp_input_groups *g,
                          esp_reconstruction *s)
{
    bool done = true;

    memset(s->gone, 0, g->n * sizeof *s->gone);
    for (size_t k = 0; done && k < n_gone; k++) {
        size_t next;

        score_all(s, g);
        next = least(s, g, n_gone);
        done = next < g->n && remove_group(s, g, next);
        if (done) {
            s->gone[next] = true;
            order[k] = (int32_t)next;
            error[k + 1] = error[k] + s->scores[next];
        }
    }
    return done;
}

bool esp_reconstruction_order(int32_t *order, double *error, size_t n_gone,
                              const esp_input_groups *groups, const double *w0, const esp_gram *g,
                              double damping, size_t first, size_t n_rows, esp_reconstruction *s,
                              MPI_Comm comm)
{
    int done = begin(s, &error[0], w0, g, damping, first, n_rows, comm) &&
               remove_groups(order, error, n_gone, groups, s);

    ESP_MPI(MPI_Bcast(&done, 1, MPI_INT, 0, comm));
    ESP_MPI(MPI_Bcast(order, esp_count(n_gone), MPI_INT32_T, 0, comm));
    ESP_MPI(MPI_Bcast(error, esp_count(n_gone + 1), MPI_DOUBLE, 0, comm));
    return done;
}
