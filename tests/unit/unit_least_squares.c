/* Cholesky and products in f64 against plain ones; sums over tokens against plain sums; least squares by its
 * normal equations and against Gaussian elimination. */
#include <omp.h>

#include "espalier/cholesky.h"
#include "espalier/least_squares.h"
#include "finite_differences.h"

static double *random_doubles(size_t n, uint64_t seed)
{
    float *x = random_floats(n, seed);
    double *y = doubles_of(x, n);

    free(x);
    return y;
}

/* c [m, n] = a [m, k] b [n, k]^T */
static double *plain_product(const double *a, const double *b, size_t m, size_t n, size_t k)
{
    double *c;

    ESP_NEW(c, m * n);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            for (size_t p = 0; p < k; p++) {
                c[i * n + j] += a[i * k + p] * b[j * k + p];
            }
        }
    }
    return c;
}

/* A positive definite matrix [n, n]. */
static double *definite(size_t n)
{
    double *a = random_doubles(n * (n + 5), n + 1), *h = plain_product(a, a, n, n, n + 5);

    for (size_t i = 0; i < n; i++) {
        h[i * n + i] += 0.5;
    }
    free(a);
    return h;
}

/* x [n_rows, n] = b A^-1 by Gaussian elimination with pivots, A symmetric; a and b are spoiled. */
static void eliminate(double *a, double *b, size_t n_rows, size_t n)
{
    for (size_t p = 0; p < n; p++) {
        size_t best = p;

        for (size_t i = p; i < n; i++) {
            best = fabs(a[i * n + p]) > fabs(a[best * n + p]) ? i : best;
        }
        for (size_t j = 0; j < n; j++) {
            double t = a[p * n + j];

            a[p * n + j] = a[best * n + j];
            a[best * n + j] = t;
        }
        for (size_t r = 0; r < n_rows; r++) {
            double t = b[r * n + p];

            b[r * n + p] = b[r * n + best];
            b[r * n + best] = t;
        }
        for (size_t i = 0; i < n; i++) {
            double f = a[i * n + p] / a[p * n + p];

            for (size_t j = p; i != p && j < n; j++) {
                a[i * n + j] -= f * a[p * n + j];
            }
            for (size_t r = 0; i != p && r < n_rows; r++) {
                b[r * n + i] -= f * b[r * n + p];
            }
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t p = 0; p < n; p++) {
            b[r * n + p] /= a[p * n + p];
        }
    }
}

/* ---- products and Cholesky ---------------------------------------------------------------------- */

static void check_product(size_t m, size_t n, size_t k)
{
    double *a = random_doubles(m * k + 1, 1), *b = random_doubles(n * k + 1, 2), *c;
    double *want = plain_product(a, b, m, n, k);

    ESP_NEW(c, m * n);
    esp_subtract_product(c, n, a, k, b, k, m, n, k);
    for (size_t i = 0; i < m * n; i++) {
        c[i] = -c[i];
    }
    CU_ASSERT(esp_test_close(c, want, m * n, largest_of(want, m * n) + 1e-300, 1e-13));
    free(a);
    free(b);
    free(c);
    free(want);
}

static void test_product(void)
{
    static const size_t sizes[] = { 1, 7, 16, 97, 200 };

    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 5; j++) {
            check_product(sizes[i], sizes[j], 3);
            check_product(sizes[i], sizes[j], 300);
        }
    }
}

static void check_factor(size_t n)
{
    double *a = definite(n), *l = definite(n), *again;

    for (size_t i = 0; i < n; i++) { /* only the lower half is read */
        for (size_t j = i + 1; j < n; j++) {
            l[i * n + j] = NAN;
        }
    }
    CU_ASSERT_EQUAL(esp_cholesky(l, n), n);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            CU_ASSERT(l[i * n + j] == l[j * n + i]);
            l[i * n + j] = 0;
        }
    }
    again = plain_product(l, l, n, n, n);
    CU_ASSERT(esp_test_close(again, a, n * n, largest_of(a, n * n), 1e-13));
    free(a);
    free(l);
    free(again);
}

static void check_solve(size_t n)
{
    enum { ROWS = 11 };
    double *l = definite(n), *a = definite(n), *x = random_doubles(ROWS * n, 3);
    double *want = random_doubles(ROWS * n, 3), *two = random_doubles(ROWS * n, 3);

    CU_ASSERT_EQUAL(esp_cholesky(l, n), n);
    esp_cholesky_solve(x, l, ROWS, n);
    esp_cholesky_solve(two + 5 * n, l, 2, n); /* a row does not depend on the others */
    CU_ASSERT(memcmp(two + 5 * n, x + 5 * n, 2 * n * sizeof *x) == 0);
    eliminate(a, want, ROWS, n);
    CU_ASSERT(esp_test_close(x, want, ROWS * n, largest_of(want, ROWS * n), 1e-10));
    free(l);
    free(a);
    free(x);
    free(want);
    free(two);
}

static void test_cholesky(void)
{
    static const size_t sizes[] = { 1, 2, 63, 64, 65, 128, 201 };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_factor(sizes[i]);
        check_solve(sizes[i]);
    }
}

static void test_threads(void)
{
    enum { N = 150 };
    double *one = definite(N), *two = definite(N);
    int threads = omp_get_max_threads();

    omp_set_num_threads(1);
    CU_ASSERT_EQUAL(esp_cholesky(one, N), N);
    omp_set_num_threads(3);
    CU_ASSERT_EQUAL(esp_cholesky(two, N), N);
    omp_set_num_threads(threads);
    CU_ASSERT(memcmp(one, two, N * N * sizeof *one) == 0);
    free(one);
    free(two);
}

static void test_indefinite(void)
{
    enum { N = 130 };
    double *a = definite(N);

    a[100 * N + 100] = -1;
    CU_ASSERT_EQUAL(esp_cholesky(a, N), 100);
    free(a);
    a = definite(N);
    a[70 * N + 3] = NAN;
    CU_ASSERT_EQUAL(esp_cholesky(a, N), 70);
    free(a);
}

/* ---- sums over tokens --------------------------------------------------------------------------- */

enum { IN = 70, OUT = 9, TOKENS = 240, SAMPLE = 48 };

/* Inputs of which some are large and all of them correlated, as those of trained models; y is what a matrix
 * makes of them, and noise. The last column of w is the bias. */
typedef struct subject {
    float *x, *y;
    double *w; /* [OUT, IN + 1] */
} subject;

static void subject_init(subject *s, size_t n_tok, double noise)
{
    float *mix = random_floats(n_tok * 4, 8);

    s->x = random_floats(n_tok * IN, 5);
    s->y = random_floats(n_tok * OUT, 6);
    s->w = random_doubles(OUT * (IN + 1), 7);
    for (size_t t = 0; t < n_tok; t++) {
        float *x = s->x + t * IN, *y = s->y + t * OUT;

        for (size_t i = 0; i < IN; i++) {
            x[i] = (i == 3 ? 30 : 1) * (0.3f * x[i] + mix[t * 4 + i % 4]);
        }
        for (size_t r = 0; r < OUT; r++) {
            double sum = s->w[r * (IN + 1) + IN] + noise * (double)y[r];

            for (size_t i = 0; i < IN; i++) {
                sum += s->w[r * (IN + 1) + i] * (double)x[i];
            }
            y[r] = (float)sum;
        }
    }
    free(mix);
}

static void subject_free(subject *s)
{
    free(s->x);
    free(s->y);
    free(s->w);
}

static void gram_of(esp_gram *g, const subject *s, size_t first, size_t n_tok, bool bias)
{
    float *scratch;

    ESP_NEW(scratch, esp_gram_scratch(IN, OUT));
    esp_gram_init(g, IN, OUT, bias);
    for (size_t t = first; t < first + n_tok; t += SAMPLE) {
        esp_gram_add(g, s->x + t * IN, s->y + t * OUT, SAMPLE, scratch);
    }
    free(scratch);
    esp_gram_reduce(g, MPI_COMM_SELF);
}

/* x [n_tok, IN + 1] with ones at the end */
static double *with_ones(const float *x, size_t n_tok)
{
    double *to;

    ESP_NEW(to, n_tok * (IN + 1));
    for (size_t t = 0; t < n_tok; t++) {
        for (size_t i = 0; i < IN; i++) {
            to[t * (IN + 1) + i] = (double)x[t * IN + i];
        }
        to[t * (IN + 1) + IN] = 1;
    }
    return to;
}

static double plain_error(const double *w, const subject *s, size_t first, size_t n_tok)
{
    double *x = with_ones(s->x + first * IN, n_tok), *got, error = 0;

    got = plain_product(x, w, n_tok, OUT, IN + 1);
    for (size_t i = 0; i < n_tok * OUT; i++) {
        double e = got[i] - (double)s->y[first * OUT + i];

        error += e * e;
    }
    free(x);
    free(got);
    return error;
}

static void test_gram(void)
{
    subject s;
    esp_gram g, part[2];
    double *x, scratch[OUT * (IN + 1)];

    subject_init(&s, TOKENS, 0.5);
    gram_of(&g, &s, 0, TOKENS, true);
    x = with_ones(s.x, TOKENS);
    for (size_t i = 0; i <= IN; i++) {
        for (size_t j = 0; j <= IN; j++) {
            double sum = 0, scale = sqrt(g.h[i * (IN + 1) + i] * g.h[j * (IN + 1) + j]);

            for (size_t t = 0; t < TOKENS; t++) {
                sum += x[t * (IN + 1) + i] * x[t * (IN + 1) + j];
            }
            CU_ASSERT(fabs(g.h[i * (IN + 1) + j] - sum) < 1e-6 * scale);
        }
    }
    CU_ASSERT_EQUAL(g.tokens, TOKENS);
    CU_ASSERT_EQUAL(g.h[(IN + 1) * (IN + 1) - 1], TOKENS);
    CU_ASSERT(fabs(esp_gram_error(&g, s.w, 0, OUT, scratch) + g.y2 -
                   plain_error(s.w, &s, 0, TOKENS)) < 1e-6 * g.y2);
    gram_of(&part[0], &s, 0, 96, true);
    gram_of(&part[1], &s, 96, TOKENS - 96, true);
    esp_gram_merge(&part[0], &part[1]);
    CU_ASSERT(esp_test_close(part[0].h, g.h, (IN + 1) * (IN + 1), g.h[3 * (IN + 1) + 3], 1e-15));
    CU_ASSERT(esp_test_close(part[0].g, g.g, OUT * (IN + 1), sqrt(g.y2), 1e-12));
    free(x);
    subject_free(&s);
    esp_gram_free(&g);
    esp_gram_free(&part[0]);
    esp_gram_free(&part[1]);
}

/* ---- least squares ------------------------------------------------------------------------------ */

/* (W - W0) (H + lambda I) = G - W0 H, and the same W by elimination. */
static void check_equations(const double *w, const double *w0, const esp_gram *g, double damping)
{
    size_t n = g->n;
    double lambda = 0, *h, *left, *right, *delta;

    ESP_NEW(h, n * n);
    ESP_NEW(delta, OUT * n);
    for (size_t i = 0; i < n; i++) {
        lambda += damping * g->h[i * n + i] / (double)n;
    }
    for (size_t i = 0; i < n * n; i++) {
        h[i] = g->h[i] + (i % (n + 1) ? 0 : lambda);
    }
    for (size_t i = 0; i < OUT * n; i++) {
        delta[i] = w[i] - w0[i];
    }
    left = plain_product(delta, h, OUT, n, n);
    right = plain_product(w0, g->h, OUT, n, n);
    for (size_t i = 0; i < OUT * n; i++) {
        right[i] = g->g[i] - right[i];
    }
    CU_ASSERT(esp_test_close(left, right, OUT * n, largest_of(right, OUT * n), 1e-10));
    eliminate(h, right, OUT, n);
    CU_ASSERT(esp_test_close(delta, right, OUT * n, largest_of(right, OUT * n), 1e-9));
    free(h);
    free(left);
    free(right);
    free(delta);
}

/* Fewer tokens than inputs leave H singular: the damping alone makes it definite. */
static void check_least_squares(size_t n_tok, bool bias, double damping)
{
    subject s;
    esp_gram g;
    esp_least_squares solver;
    double *w0, *w;

    subject_init(&s, TOKENS, 0.5);
    gram_of(&g, &s, 0, n_tok, bias);
    w0 = random_doubles(OUT * g.n, 9);
    ESP_NEW(w, OUT * g.n);
    esp_least_squares_init(&solver, g.n, OUT);
    CU_ASSERT(esp_least_squares_solve(w, w0, &g, damping, 0, OUT, &solver));
    check_equations(w, w0, &g, damping);
    esp_least_squares_free(&solver);
    esp_gram_free(&g);
    subject_free(&s);
    free(w0);
    free(w);
}

static void test_least_squares(void)
{
    check_least_squares(TOKENS, false, 1e-4);
    check_least_squares(TOKENS, true, 1e-4);
    check_least_squares(TOKENS, true, 0);
    check_least_squares(SAMPLE, false, 1e-2);
    check_least_squares(SAMPLE, true, 1e-2);
}

/* What made y is found again, its bias too. */
static void test_exact(void)
{
    subject s;
    esp_gram g;
    esp_least_squares solver;
    double w0[OUT * (IN + 1)] = { 0 }, w[OUT * (IN + 1)];

    subject_init(&s, TOKENS, 0);
    gram_of(&g, &s, 0, TOKENS, true);
    esp_least_squares_init(&solver, IN + 1, OUT);
    CU_ASSERT(esp_least_squares_solve(w, w0, &g, 1e-12, 0, OUT, &solver));
    CU_ASSERT(esp_test_close(w, s.w, OUT * (IN + 1), 1, 1e-3));
    g.h[0] = NAN;
    CU_ASSERT(!esp_least_squares_solve(w, w0, &g, 1e-12, 0, OUT, &solver));
    esp_least_squares_free(&solver);
    esp_gram_free(&g);
    subject_free(&s);
}

/* ---- the damping -------------------------------------------------------------------------------- */

static esp_damping choose(const subject *s, const double *w0, double fixed, size_t n_fit, double *w)
{
    esp_gram fit, held;
    esp_least_squares solver;
    esp_damping d;

    gram_of(&fit, s, 0, n_fit, true);
    gram_of(&held, s, TOKENS - SAMPLE, SAMPLE, true);
    esp_least_squares_init(&solver, IN + 1, OUT);
    d = esp_least_squares_choose(&fit, &held, fixed, w0, w, 0, OUT, &solver, MPI_COMM_SELF);
    if (isfinite(
            d.value)) { /* its error is what the tokens themselves say, and no decade betters it */
        CU_ASSERT(esp_least_squares_solve(w, w0, &fit, d.value, 0, OUT, &solver));
        CU_ASSERT(fabs(d.after - sqrt(plain_error(w, s, TOKENS - SAMPLE, SAMPLE) / held.y2)) <
                  1e-5);
        for (int e = -5; e <= 1 && fixed == 0; e++) {
            CU_ASSERT(esp_least_squares_solve(w, w0, &fit, pow(10, e), 0, OUT, &solver));
            CU_ASSERT(plain_error(w, s, TOKENS - SAMPLE, SAMPLE) >=
                      (d.after * d.after - 1e-6) * held.y2);
        }
    }
    CU_ASSERT(fabs(d.before - sqrt(plain_error(w0, s, TOKENS - SAMPLE, SAMPLE) / held.y2)) < 1e-5);
    esp_least_squares_free(&solver);
    esp_gram_free(&fit);
    esp_gram_free(&held);
    return d;
}

static void test_damping(void)
{
    subject s;
    esp_damping few, many;
    double *w0, w[OUT * (IN + 1)];

    subject_init(&s, TOKENS, 3);
    w0 = random_doubles(OUT * (IN + 1), 7); /* near what made y */
    for (size_t i = 0; i < OUT * (IN + 1); i++) {
        w0[i] += i % 3 ? 0.1 : -0.2;
    }
    few = choose(&s, w0, 0, SAMPLE, w);
    many = choose(&s, w0, 0, TOKENS - SAMPLE, w);
    CU_ASSERT(many.after < many.before);
    CU_ASSERT(many.after <= few.after);
    CU_ASSERT(many.value <= few.value); /* fewer tokens need more */
    CU_ASSERT_EQUAL(choose(&s, w0, 0.7, SAMPLE, w).value, 0.7);
    subject_free(&s);
    free(w0);
}

/* Where W0 is what made y, a fit to noise is worse than none. */
static void test_nothing_better(void)
{
    subject s;
    double w[OUT * (IN + 1)];
    esp_damping d;

    subject_init(&s, TOKENS, 30);
    d = choose(&s, s.w, 0, SAMPLE, w);
    CU_ASSERT(d.after <= d.before);
    CU_ASSERT(d.value >= 1);
    subject_free(&s);
}

ESP_TEST_MAIN("least squares", { "product in f64", test_product }, { "Cholesky", test_cholesky },
              { "any number of threads", test_threads },
              { "not positive definite", test_indefinite }, { "sums over tokens", test_gram },
              { "normal equations", test_least_squares }, { "what made y", test_exact },
              { "damping by held-out tokens", test_damping },
              { "nothing to gain", test_nothing_better })
