/* unit_bf16.c - products of bf16 matrices against f64, their bits, and what they do to a model. */
#include <omp.h>

#include "espalier/bf16.h"
#include "espalier/eval.h"
#include "espalier/rng.h"
#include "espalier/plan.h"
#include "golden_groups.h"

#define GRADIENT_CRITERIA                                                         \
    (1u << ESP_VECTOR | 1u << ESP_ELEMENT1 | 1u << ESP_ELEMENT2 | 1u << ESP_MIX | \
     1u << ESP_GATE1 | 1u << ESP_GATE2 | 1u << ESP_KFAC | 1u << ESP_WANDA_SP | 1u << ESP_FLAP)

static float *random_numbers(size_t n, uint64_t key)
{
    esp_rng r = { .key = key };
    float *x;

    ESP_NEW(x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(esp_rng_uniform(&r) - 0.4);
    }
    return x;
}

/* A matrix of random numbers, and the same rounded to bf16. */
typedef struct matrix {
    float *x;
    esp_bf16_buffer room;
    const uint16_t *bf16;
    float *rounded;
    size_t rows, cols;
} matrix;

static matrix make_matrix(size_t rows, size_t cols, uint64_t key)
{
    matrix m = { .x = random_numbers(rows * cols, key), .rows = rows, .cols = cols };

    m.bf16 = esp_bf16_round(&m.room, m.x, rows, cols);
    ESP_NEW(m.rounded, rows * cols);
    esp_to_f32(m.rounded, m.bf16, ESP_BF16, rows * cols);
    return m;
}

static void free_matrix(matrix *m)
{
    free(m->x);
    free(m->rounded);
    esp_bf16_buffer_free(&m->room);
}

/* |c - sum over k of a b + add| within the rounding of an f32 sum of K terms, for all of [M, N]. The strides
 * are those of m and k, of k and n. */
static bool is_product(const float *c, size_t M, size_t N, size_t K, const float *a, size_t am,
                       size_t ak, const float *b, size_t bk, size_t bn, const float *bias,
                       double start)
{
    double worst = 0;

    for (size_t i = 0; i < M * N; i++) {
        double sum = bias ? (double)bias[i % N] : start, size = fabs(sum);

        for (size_t k = 0; k < K; k++) {
            double term = (double)a[i / N * am + k * ak] * (double)b[k * bk + i % N * bn];

            sum += term;
            size += fabs(term);
        }
        worst = fmax(worst, fabs(sum - (double)c[i]) / size);
    }
    if (worst > 1e-6) {
        printf("  [%zu, %zu] over %zu: error %.3g of the terms\n", M, N, K, worst);
    }
    return worst <= 1e-6;
}

/* All rows as one sample. */
static const uint16_t *turned_of(esp_bf16_buffer *room, esp_factor which, const matrix *m)
{
    size_t begin = 0, end = m->rows;
    const esp_spans all = { 1, &begin, &end };
    const uint16_t *turned;
    float *packed;

    ESP_NEW(packed, m->rows * esp_packed_width(which, m->cols));
    esp_packed_fill(packed, which, m->x, m->cols, 0, m->rows, &all);
    turned = esp_bf16_round_packed(room, which, packed, m->cols, m->rows, &all);
    free(packed);
    return turned;
}

typedef struct shape {
    size_t n_tok, n_in, n_out;
} shape;

static const shape shapes[] = { { 1, 64, 3 },   { 2, 33, 257 },   { 5, 1, 7 },
                                { 641, 40, 9 }, { 70, 300, 600 }, { 300, 129, 258 } };

#define N_SHAPES (sizeof shapes / sizeof *shapes)

static void check_shape(const esp_bf16 *p, const shape *s)
{
    matrix x = make_matrix(s->n_tok, s->n_in, 1), w = make_matrix(s->n_out, s->n_in, 2);
    matrix dy = make_matrix(s->n_tok, s->n_out, 3);
    float *y, *dx, *g, *b = random_numbers(s->n_out, 4);
    esp_bf16_buffer turned[2] = { 0 };

    ESP_NEW(y, s->n_tok * s->n_out);
    ESP_NEW(dx, s->n_tok * s->n_in);
    ESP_NEW(g, s->n_out * s->n_in);
    esp_bf16_forward(p, y, x.bf16, w.bf16, b, s->n_tok, s->n_in, s->n_out);
    CU_ASSERT(is_product(y, s->n_tok, s->n_out, s->n_in, x.rounded, s->n_in, 1, w.rounded, 1,
                         s->n_in, b, 0));
    esp_bf16_forward(p, y, x.bf16, w.bf16, NULL, s->n_tok, s->n_in, s->n_out);
    CU_ASSERT(is_product(y, s->n_tok, s->n_out, s->n_in, x.rounded, s->n_in, 1, w.rounded, 1,
                         s->n_in, NULL, 0));
    for (size_t i = 0; i < s->n_tok * s->n_in; i++) {
        dx[i] = 1;
    }
    esp_bf16_backward_input(p, dx, dy.bf16, w.bf16, s->n_tok, s->n_in, s->n_out);
    CU_ASSERT(is_product(dx, s->n_tok, s->n_in, s->n_out, dy.rounded, s->n_out, 1, w.rounded,
                         s->n_in, 1, NULL, 1));
    esp_bf16_gradient_tile(p, g, s->n_out, s->n_in, turned_of(&turned[0], ESP_FACTOR_DY, &dy),
                           turned_of(&turned[1], ESP_FACTOR_X, &x), s->n_tok, s->n_tok);
    CU_ASSERT(is_product(g, s->n_out, s->n_in, s->n_tok, dy.rounded, 1, s->n_out, x.rounded,
                         s->n_in, 1, NULL, 0));
    free_matrix(&x);
    free_matrix(&w);
    free_matrix(&dy);
    esp_bf16_buffer_free(&turned[0]);
    esp_bf16_buffer_free(&turned[1]);
    free(y);
    free(dx);
    free(g);
    free(b);
}

static void test_products(void)
{
    esp_bf16 *p;

    if (!esp_test_bf16()) {
        return;
    }
    p = esp_bf16_open(ESP_PRECISION_BF16);
    for (size_t i = 0; i < N_SHAPES; i++) {
        check_shape(p, &shapes[i]);
    }
    esp_bf16_close(p);
}

/* ---- bits ------------------------------------------------------------------------------------- */

/* Rows first .. first + n of x by themselves, against the same of the products of all rows. */
static bool alone_as_together(const esp_bf16 *p, const matrix *x, const matrix *w, const float *y,
                              const float *dx, size_t first, size_t n)
{
    size_t n_in = w->cols, n_out = w->rows;
    esp_bf16_buffer room = { 0 };
    float *part;
    bool same;

    ESP_NEW(part, n * (n_in + n_out));
    esp_bf16_forward(p, part, esp_bf16_round(&room, x->x + first * n_in, n, n_in), w->bf16, NULL, n,
                     n_in, n_out);
    esp_bf16_backward_input(p, part + n * n_out, esp_bf16_round(&room, y + first * n_out, n, n_out),
                            w->bf16, n, n_in, n_out);
    same = memcmp(part, y + first * n_out, n * n_out * sizeof *y) == 0 &&
           memcmp(part + n * n_out, dx + first * n_in, n * n_in * sizeof *y) == 0;
    if (!same) {
        printf("  rows %zu .. %zu of %zu, [%zu, %zu]\n", first, first + n, x->rows, n_out, n_in);
    }
    free(part);
    esp_bf16_buffer_free(&room);
    return same;
}

/* The product of all rows with one thread and with three, and of some rows by themselves. */
static void check_bits(const esp_bf16 *p, size_t n_in, size_t n_out)
{
    static const size_t some[][2] = { { 0, 1 },  { 1280, 1 },  { 7, 2 },   { 100, 3 },  { 31, 17 },
                                      { 3, 64 }, { 200, 130 }, { 1, 641 }, { 640, 511 } };
    matrix x = make_matrix(1281, n_in, 5), w = make_matrix(n_out, n_in, 6);
    int threads = omp_get_max_threads();
    esp_bf16_buffer room = { 0 };
    float *y[2], *dx[2];

    for (int i = 0; i < 2; i++) {
        ESP_NEW(y[i], x.rows * n_out);
        ESP_NEW(dx[i], x.rows * n_in);
        omp_set_num_threads(i ? 3 : 1);
        esp_bf16_forward(p, y[i], x.bf16, w.bf16, NULL, x.rows, n_in, n_out);
        esp_bf16_backward_input(p, dx[i], esp_bf16_round(&room, y[i], x.rows, n_out), w.bf16,
                                x.rows, n_in, n_out);
    }
    CU_ASSERT(memcmp(y[0], y[1], x.rows * n_out * sizeof **y) == 0);
    CU_ASSERT(memcmp(dx[0], dx[1], x.rows * n_in * sizeof **dx) == 0);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        CU_ASSERT(alone_as_together(p, &x, &w, y[0], dx[0], some[i][0], some[i][1]));
    }
    omp_set_num_threads(threads);
    for (int i = 0; i < 2; i++) {
        free(y[i]);
        free(dx[i]);
    }
    esp_bf16_buffer_free(&room);
    free_matrix(&x);
    free_matrix(&w);
}

static void test_bits(void)
{
    esp_bf16 *p;

    if (!esp_test_bf16()) {
        return;
    }
    p = esp_bf16_open(ESP_PRECISION_BF16);
    check_bits(p, 64, 193); /* a last tile of one column, both ways */
    check_bits(p, 193, 33);
    check_bits(p, 1000, 192);
    check_bits(p, 5632, 100);
    check_bits(p, 96, 2048);
    esp_bf16_close(p);
}

/* ---- models ----------------------------------------------------------------------------------- */

static double perplexity(golden *g, esp_precision precision)
{
    esp_grid grid;
    esp_eval e;

    esp_grid_init(&grid, 0, MPI_COMM_SELF);
    g->model.precision = precision;
    CU_ASSERT_EQUAL(esp_evaluate(&e, &g->model, NULL, &g->samples, 512, &grid), ESP_OK);
    esp_grid_free(&grid);
    return e.perplexity;
}

/* Issue 4, point 3: perplexity within 0.5 % of that in f32. */
static void test_perplexity(void)
{
    for (size_t i = 0; esp_test_bf16() && i < GOLDEN_MODELS; i++) {
        golden g;

        if (golden_open(&g, golden_models[i])) {
            double f32 = perplexity(&g, ESP_PRECISION_F32);
            double bf16 = perplexity(&g, ESP_PRECISION_BF16);

            CU_ASSERT(bf16 != f32); /* it does something */
            CU_ASSERT_DOUBLE_EQUAL(bf16, f32, 0.005 * f32);
            printf("  %s: %.5f, bf16 %.5f\n", golden_models[i], f32, bf16);
            golden_close(&g);
        }
    }
}

/* ---- plans ------------------------------------------------------------------------------------ */

typedef struct counts {
    size_t groups, near, differ, missed;
} counts;

static esp_scores score(fixture *t, esp_precision precision)
{
    const esp_importance_options o = { .criteria = GRADIENT_CRITERIA,
                                       .aggregations = 1u << ESP_SUM | 1u << ESP_MAX,
                                       .units = (1u << ESP_N_UNITS) - 1 };
    esp_scores s;
    esp_grid grid;

    t->golden.model.precision = precision;
    esp_grid_init(&grid, 0, MPI_COMM_SELF);
    CU_ASSERT_EQUAL(
        esp_importance_estimate(&s, &t->golden.model, &t->groups, &t->golden.samples, &o, &grid),
        ESP_OK);
    esp_grid_free(&grid);
    return s;
}

static bool keeps(const esp_kept_groups *k, size_t index)
{
    for (size_t i = 0; i < k->n; i++) {
        if (k->index[i] == (int32_t)index) {
            return true;
        }
    }
    return false;
}

static bool is_near(const esp_plan *p, esp_unit_kind unit, size_t layer, size_t group, bool stays)
{
    for (size_t i = 0; i < p->n_near; i++) {
        const esp_near_tie *t = &p->near[i];

        if (t->unit == unit && t->layer == layer && t->group == group) {
            return t->stays == stays;
        }
    }
    return false;
}

static void compare_group(counts *c, const esp_plan *p, esp_unit_kind unit, size_t layer,
                          size_t group, bool in_f32, bool in_bf16)
{
    c->groups++;
    c->differ += in_f32 != in_bf16;
    c->missed += in_f32 != in_bf16 && !is_near(p, unit, layer, group, in_bf16);
}

/* The plan p of bf16 against that of f32: what is other in it, and not among its near ties. */
static void compare_plans(counts *c, const esp_groups *g, unsigned units, const esp_plan *f32,
                          const esp_plan *p)
{
    c->near += p->n_near;
    for (size_t l = 0; l < p->n_layers; l++) {
        compare_group(c, p, ESP_UNIT_LAYER, ESP_NO_LAYER, l, f32->layers[l].kept,
                      p->layers[l].kept);
    }
    for (size_t u = 0; u < g->n_units; u++) {
        const esp_unit *unit = &g->units[u];
        bool whole = unit->layer != ESP_NO_LAYER &&
                     (!f32->layers[unit->layer].kept || !p->layers[unit->layer].kept);
        bool asked = units >> unit->kind & 1 && !whole;

        for (size_t i = 0; asked && i < unit->n_groups; i++) {
            compare_group(c, p, unit->kind, unit->layer, i, keeps(esp_plan_kept(f32, unit), i),
                          keeps(esp_plan_kept(p, unit), i));
        }
    }
}

static void check_plan(counts *c, const fixture *t, const esp_scores *s, esp_plan_options o)
{
    esp_plan p[2];

    for (int i = 0; i < 2; i++) {
        o.precision = i ? ESP_PRECISION_BF16 : ESP_PRECISION_F32;
        CU_ASSERT_EQUAL_FATAL(esp_plan_make(&p[i], &t->golden.model, &t->groups, &s[i], &o),
                              ESP_OK);
    }
    CU_ASSERT_EQUAL(p[0].n_near, 0);
    compare_plans(c, &t->groups, esp_plan_units(&o), &p[0], &p[1]);
    esp_plan_free(&p[0]);
    esp_plan_free(&p[1]);
}

static void check_plans(counts *c, const fixture *t, const esp_scores *s, esp_criterion criterion)
{
    static const esp_plan_options options[] = {
        { .ratio = 0.25 },
        { .ratio = 0.5, .aggregation = ESP_MAX },
        { .ratio = 0.3, .round_to = 4 },
        { .ratio = 0.3, .global = true },
        { .ratio = 0.3, .global = true, .round_to = 4, .min_keep = 2 },
        { .target_kind = ESP_TARGET_PARAMETERS, .target = 0.8, .global = true },
        { .ratio = 0.5, .attention = ESP_ATTENTION_QUERIES },
        { .ratio = 0.3, .attention = ESP_ATTENTION_QUERIES, .global = true },
        { .ratio = 0.2, .mode = ESP_PRUNE_CHANNEL },
        { .ratio = 0.5, .mode = ESP_PRUNE_LAYER, .global = true },
    };

    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        esp_plan_options o = options[i];
        unsigned units = esp_plan_units(&o);

        o.criterion = criterion;
        if (units >> ESP_UNIT_QUERY & 1 && !fixture_shares_keys(t)) {
            continue;
        }
        if ((esp_criterion_units(criterion) & units) == units) {
            check_plan(c, t, s, o);
        }
    }
}

/* Where scores in bf16 lead to another choice than in f32, the plan has told so. */
static void test_plans(void)
{
    for (size_t i = 0; esp_test_bf16() && i < GOLDEN_MODELS; i++) {
        fixture *t = fixture_of(golden_models[i]);
        esp_scores s[2];

        if (!t) {
            continue;
        }
        s[0] = score(t, ESP_PRECISION_F32);
        s[1] = score(t, ESP_PRECISION_BF16);
        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            counts n = { 0 };

            if (GRADIENT_CRITERIA & 1u << c) {
                check_plans(&n, t, s, c);
                printf("  %s, %s: of %zu groups %zu near, %zu other than in f32, %zu of them not "
                       "told\n",
                       golden_models[i], esp_criterion_name(c), n.groups, n.near, n.differ,
                       n.missed);
                CU_ASSERT_EQUAL(n.missed, 0);
            }
        }
        esp_scores_free(&s[0]);
        esp_scores_free(&s[1]);
        fixture_free(t);
    }
}

ESP_TEST_MAIN("bf16", { "products", test_products }, { "bits", test_bits },
              { "perplexity", test_perplexity }, { "plans", test_plans })
