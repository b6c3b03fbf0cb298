/* unit_reconstruction.c - the groups that go and the error that is left, against direct solves without each
 * of the groups. */
#include "espalier/reconstruction.h"

#include <math.h>

#include "espalier/mem.h"
#include "espalier/rng.h"
#include "test.h"

enum { OUT = 5, TOKENS = 256, SAMPLE = 32 };

/* ---- a subject ------------------------------------------------------------------------------------ */

/* Sums of inputs that are correlated, some of them large; w0 is near what made the targets. */
typedef struct subject {
    esp_gram g;
    esp_input_groups groups;
    double *w0; /* [OUT, g.n] */
} subject;

static float number(esp_rng *r)
{
    return (float)(esp_rng_uniform(r) - 0.5);
}

static void add_sample(subject *s, esp_rng *r, float *scratch)
{
    size_t n = s->g.n_in;
    float *x, y[SAMPLE * OUT];

    ESP_NEW(x, SAMPLE * n);
    for (size_t t = 0; t < SAMPLE; t++) {
        float mix[3] = { number(r), number(r), number(r) };

        for (size_t i = 0; i < n; i++) {
            x[t * n + i] = (float)(i % 5 + 1) * (number(r) + 2 * mix[i % 3]);
        }
        for (size_t k = 0; k < OUT; k++) {
            double sum = (double)number(r);

            for (size_t i = 0; i < n; i++) {
                sum += s->w0[k * s->g.n + i] * (double)x[t * n + i];
            }
            y[t * OUT + k] = (float)sum;
        }
    }
    esp_gram_add(&s->g, x, y, SAMPLE, scratch);
    free(x);
}

/* Inputs of a group lie n_groups apart, the last `loose` are in none. */
static void subject_init(subject *s, size_t n_groups, size_t width, size_t loose, bool bias)
{
    size_t n = n_groups * width + loose;
    esp_rng r = { .key = esp_rng_key(n, width, 1) };
    float *scratch;

    *s = (subject){ .groups = { .n = n_groups, .width = width, .lanes = 1 } };
    ESP_NEW(s->groups.input, n_groups * width);
    for (size_t i = 0; i < n_groups * width; i++) {
        s->groups.input[i] = i % width * n_groups + i / width;
    }
    esp_gram_init(&s->g, n, OUT, bias);
    ESP_NEW(s->w0, OUT * s->g.n);
    ESP_NEW(scratch, esp_gram_scratch(n, OUT));
    for (size_t i = 0; i < OUT * s->g.n; i++) {
        s->w0[i] = (double)number(&r);
    }
    for (size_t t = 0; t < TOKENS; t += SAMPLE) {
        add_sample(s, &r, scratch);
    }
    free(scratch);
    esp_gram_reduce(&s->g, MPI_COMM_SELF);
    for (size_t i = 0; i < OUT * s->g.n; i++) {
        s->w0[i] += 0.1 * (double)number(&r);
    }
}

static void subject_free(subject *s)
{
    esp_gram_free(&s->g);
    free(s->groups.input);
    free(s->w0);
}

/* ---- by direct solves ----------------------------------------------------------------------------- */

static double lambda_of(const subject *s, double damping)
{
    double sum = 0;

    for (size_t i = 0; i < s->g.n; i++) {
        sum += s->g.h[i * (s->g.n + 1)];
    }
    return damping * sum / (double)s->g.n;
}

/* a [n, n + OUT] becomes what is left of A | B by elimination, whose last columns are A^-1 B. */
static void eliminate(double *a, size_t n)
{
    size_t step = n + OUT;

    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < step; j++) {
            a[i * step + j] /= a[i * step + i];
        }
        for (size_t r = 0; r < n; r++) {
            for (size_t j = i + 1; r != i && j < step; j++) {
                a[r * step + j] -= a[r * step + i] * a[i * step + j];
            }
        }
    }
}

/* The least sum |y - W x|^2 + lambda |W - W0|^2 of a W that is zero at the inputs that are gone. */
static double least_without(const subject *s, double lambda, const bool *gone)
{
    size_t n_all = s->g.n, n = 0, *at, step;
    double *a, error = s->g.y2;

    ESP_NEW(at, n_all);
    for (size_t i = 0; i < n_all; i++) {
        if (!gone[i]) {
            at[n++] = i;
        }
    }
    step = n + OUT;
    ESP_NEW(a, n * step);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            a[i * step + j] = s->g.h[at[i] * n_all + at[j]] + (i == j ? lambda : 0);
        }
        for (size_t k = 0; k < OUT; k++) {
            a[i * step + n + k] = s->g.g[k * n_all + at[i]] + lambda * s->w0[k * n_all + at[i]];
        }
    }
    eliminate(a, n);
    for (size_t k = 0; k < OUT; k++) {
        for (size_t i = 0; i < n_all; i++) {
            error += lambda * s->w0[k * n_all + i] * s->w0[k * n_all + i];
        }
        for (size_t i = 0; i < n; i++) {
            error -= a[i * step + n + k] *
                     (s->g.g[k * n_all + at[i]] + lambda * s->w0[k * n_all + at[i]]);
        }
    }
    free(a);
    free(at);
    return error;
}

static void mark(bool *gone, const esp_input_groups *g, size_t group, bool goes)
{
    for (size_t i = 0; i < g->width; i++) {
        gone[g->input[group * g->width + i]] = goes;
    }
}

/* Whether n groups have gone from the lane of one. */
static bool is_full(const esp_input_groups *g, size_t group, size_t n, const bool *gone)
{
    size_t of_lane = g->n / g->lanes, n_gone = 0;

    for (size_t i = 0; i < g->n; i++) {
        n_gone += i / of_lane == group / of_lane && gone[g->input[i * g->width]];
    }
    return n_gone >= n;
}

/* The group without which the least is left, n_lane going at most of each lane. */
static size_t best_by_solves(double *error, const subject *s, double lambda, size_t n_lane,
                             bool *gone)
{
    const esp_input_groups *g = &s->groups;
    size_t best = g->n;

    *error = INFINITY;
    for (size_t i = 0; i < g->n; i++) {
        if (!gone[g->input[i * g->width]] && !is_full(g, i, n_lane, gone)) {
            double e;

            mark(gone, g, i, true);
            e = least_without(s, lambda, gone);
            mark(gone, g, i, false);
            best = e < *error ? i : best;
            *error = fmin(e, *error);
        }
    }
    return best;
}

/* ---- tests ---------------------------------------------------------------------------------------- */

static bool order_of(int32_t *order, double *error, size_t n_gone, const subject *s, double damping)
{
    esp_reconstruction r;
    bool done;

    esp_reconstruction_init(&r, s->g.n, OUT, &s->groups);
    done = esp_reconstruction_order(order, error, n_gone, &s->groups, s->w0, &s->g, damping, 0, OUT,
                                    &r, MPI_COMM_SELF);
    esp_reconstruction_free(&r);
    return done;
}

/* Every group that goes is the best of all that are left, and the error is that of a solve without it. */
static void check_greedy(size_t n_groups, size_t width, size_t loose, bool bias, size_t n_gone,
                         double damping, size_t lanes)
{
    subject s;
    int32_t *order;
    double *error, lambda;
    bool *gone;

    subject_init(&s, n_groups, width, loose, bias);
    s.groups.lanes = lanes;
    ESP_NEW(order, n_gone);
    ESP_NEW(error, n_gone + 1);
    ESP_NEW(gone, s.g.n);
    lambda = lambda_of(&s, damping);
    CU_ASSERT(order_of(order, error, n_gone, &s, damping));
    CU_ASSERT(fabs(error[0] - least_without(&s, lambda, gone)) < 1e-9 * s.g.y2);
    for (size_t k = 0; k < n_gone; k++) {
        double want;
        size_t best = best_by_solves(&want, &s, lambda, n_gone / lanes, gone);

        CU_ASSERT_EQUAL(order[k], best);
        CU_ASSERT(fabs(error[k + 1] - want) < 1e-9 * s.g.y2);
        CU_ASSERT(error[k + 1] > error[k]);
        mark(gone, &s.groups, (size_t)order[k], true);
    }
    free(order);
    free(error);
    free(gone);
    subject_free(&s);
}

static void test_single_inputs(void)
{
    check_greedy(30, 1, 0, false, 29, 1e-2, 1);
    check_greedy(30, 1, 2, true, 20, 1e-4, 1);
    check_greedy(110, 1, 0, true, 80, 1e-2, 1); /* more than are updated at a time */
}

static void test_groups(void)
{
    check_greedy(8, 3, 0, false, 7, 1e-2, 1);
    check_greedy(10, 4, 3, true, 9, 1e-3, 1);
    check_greedy(3, 80, 0, false, 2, 1e-2, 1); /* more inputs than are updated at a time */
}

static void test_lanes(void)
{
    check_greedy(12, 3, 0, true, 8, 1e-2, 4);
    check_greedy(9, 2, 1, false, 6, 1e-3, 3);
}

/* The first to go has the least of the scores, which are what each single group costs. */
static void test_each_alone(void)
{
    subject s;
    double lambda, error[2], before;
    bool gone[40] = { false };

    subject_init(&s, 9, 3, 0, true);
    lambda = lambda_of(&s, 1e-2);
    before = least_without(&s, lambda, gone);
    for (size_t i = 0; i < s.groups.n; i++) { /* made the only one */
        esp_input_groups one = { 1, 3, 1, s.groups.input + 3 * i };
        subject of = { s.g, one, s.w0 };
        int32_t order;

        CU_ASSERT(order_of(&order, error, 1, &of, 1e-2));
        mark(gone, &s.groups, i, true);
        CU_ASSERT(fabs(error[1] - error[0] - (least_without(&s, lambda, gone) - before)) <
                  1e-9 * s.g.y2);
        mark(gone, &s.groups, i, false);
    }
    subject_free(&s);
}

/* Of inputs that are alike the first goes; of equal ones a damping is needed. */
static void test_equal(void)
{
    subject s;
    int32_t order[2];
    double error[3];
    size_t n;

    subject_init(&s, 12, 1, 0, false);
    n = s.g.n;
    for (size_t i = 0; i < n; i++) { /* input 7 is input 3 */
        s.g.h[7 * n + i] = s.g.h[3 * n + i];
    }
    for (size_t i = 0; i < n; i++) {
        s.g.h[i * n + 7] = s.g.h[i * n + 3];
    }
    for (size_t k = 0; k < OUT; k++) {
        s.g.g[k * n + 7] = s.g.g[k * n + 3];
        s.w0[k * n + 7] = s.w0[k * n + 3];
    }
    CU_ASSERT(order_of(order, error, 1, &s, 1e-5));
    CU_ASSERT_EQUAL(order[0], 3);
    CU_ASSERT(error[1] - error[0] < 1e-3 * error[0]);
    s.g.h[0] = NAN;
    CU_ASSERT(!order_of(order, error, 1, &s, 1e-5));
    subject_free(&s);
}

/* Sums of which inputs are left out are the sums over the others. */
static void check_keep(bool bias)
{
    static const int32_t kept[] = { 0, 2, 3, 7, 9 };
    enum { KEPT = sizeof kept / sizeof *kept };
    subject s;
    esp_gram all;
    size_t n = KEPT + bias;

    subject_init(&s, 10, 1, 0, bias);
    esp_gram_init(&all, 10, OUT, bias);
    esp_gram_merge(&all, &s.g);
    esp_gram_keep(&s.g, kept, KEPT);
    CU_ASSERT(s.g.n == n && s.g.n_in == KEPT);
    for (size_t i = 0; i < n + OUT; i++) {
        for (size_t j = 0; j < n; j++) {
            size_t column = j < KEPT ? (size_t)kept[j] : 10, row = i < KEPT ? (size_t)kept[i] : 10;
            double got = i < n ? s.g.h[i * n + j] : s.g.g[(i - n) * n + j];
            double want = i < n ? all.h[row * all.n + column] : all.g[(i - n) * all.n + column];

            CU_ASSERT(got == want);
        }
    }
    esp_gram_free(&all);
    subject_free(&s);
}

static void test_keep(void)
{
    check_keep(false);
    check_keep(true);
}

ESP_TEST_MAIN("reconstruction", { "single inputs", test_single_inputs }, { "groups", test_groups },
              { "lanes", test_lanes }, { "each alone", test_each_alone },
              { "equal inputs", test_equal }, { "sums of what is kept", test_keep })
