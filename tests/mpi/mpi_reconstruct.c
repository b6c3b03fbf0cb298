/* mpi_reconstruct.c - groups chosen by what projections lose: the best ones, the same on any number of ranks
 * and pipeline stages and after an interruption, with weights that a compensation takes as they are. */
#include "compensation.h"

/* ---- a choice of the groups that go --------------------------------------------------------------- */

/* The plan that a choice makes, of query heads in a qwen2 that is fitted, and its curves as numbers [*n]:
 * errors, then groups; NULL where the status is not `want`. */
static double *choose(news *said, esp_plan *plan, const subject *s, const esp_compensate_options *o,
                      const char *name, bool fresh, esp_status want, size_t *n,
                      const esp_grid *grid)
{
    const esp_compensate_calls calls = { said, hear, is_enough };
    bool queries = strcmp(s->m.model.arch->model_type, "qwen2") == 0;
    esp_plan_options random = { .criterion = ESP_RANDOM,
                                .attention = queries && !o->choose_only ? ESP_ATTENTION_QUERIES
                                                                        : ESP_ATTENTION_GROUPS,
                                .ratio = 0.5,
                                .target_tokens = 64 };
    char *dir = folder(name, grid, fresh);
    esp_choices done;
    double *numbers = NULL;
    esp_status st;

    CU_ASSERT_EQUAL(esp_plan_make(plan, &s->m.model, &s->groups, NULL, &random), ESP_OK);
    st = esp_reconstruct(&done, plan, &s->m.model, &s->groups, &s->samples, o, dir, &calls, grid);
    CU_ASSERT_EQUAL(st, want);
    if (st != want) {
        printf("  %s: status %d: %s\n", s->m.model.arch->model_type, st, esp_error_message());
    }
    *n = 0;
    for (size_t i = 0; i < done.n; i++) {
        const esp_curve *c = &done.curve[i];

        numbers = esp_grow(numbers, *n + 2 * c->n_gone + 1, sizeof *numbers);
        for (size_t k = 0; k <= c->n_gone; k++) {
            numbers[(*n)++] = c->error[k] / c->squares;
        }
        for (size_t k = 0; k < c->n_gone; k++) {
            numbers[(*n)++] = c->order[k];
        }
    }
    esp_error_clear();
    esp_choices_free(&done);
    free(dir);
    return numbers;
}

/* What is fitted in one folder, of the subject's plan. */
static double *fitted(news *said, const subject *s, const esp_plan *plan,
                      const esp_compensate_options *o, const char *name, size_t *n,
                      const esp_grid *grid)
{
    subject of = *s;

    of.plan = *plan;
    return compensate(said, &of, o, name, false, ESP_OK, n, grid);
}

/* On each grid: the same plan, curves and weights; the weights are those of a compensation by the plan. */
static void check_choice(const char *family, const esp_compensate_options *o)
{
    subject s;
    esp_grid alone;
    esp_plan plan, again;
    double *want, *got, *weights, *other;
    size_t n, n_got, n_weights, n_other;
    news said = { .n = 0 }, taken = { .n = 0 }, anew = { .n = 0 };
    char *own;
    int rank, size;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    own = esp_format("chosen-%d", rank);
    subject_init(&s, family, ESP_PRUNE_BLOCK, 0.5);
    esp_grid_init(&alone, 1, MPI_COMM_SELF);
    want = choose(&said, &plan, &s, o, own, true, ESP_OK, &n, &alone);
    CU_ASSERT(said.n > 0 && said.of[0].n_gone > 0);
    weights = fitted(&taken, &s, &plan, o, own, &n_weights, &alone);
    free(own);
    own = esp_format("anew-%d", rank);
    free(folder(own, &alone, true));
    other = fitted(&anew, &s, &plan, o, own, &n_other, &alone);
    CU_ASSERT(weights && other && n_weights == n_other &&
              esp_test_close(weights, other, n_weights, 1, 1e-6));
    free(other);
    for (int stages = 1; stages <= size; stages++) {
        news heard = { .n = 0 };
        esp_grid grid;

        esp_grid_init(&grid, 1, MPI_COMM_WORLD);
        if (esp_grid_shape(&grid, (size_t)stages) == ESP_OK) {
            got = choose(&heard, &again, &s, o, "choice", true, ESP_OK, &n_got, &grid);
            CU_ASSERT_EQUAL(n_got, n);
            CU_ASSERT(want && got && esp_test_close(got, want, n, 1, 1e-6));
            CU_ASSERT_STRING_EQUAL(again.digest, plan.digest);
            CU_ASSERT(rank != 0 || heard.n == said.n);
            free(got);
            heard.n = 0;
            got = fitted(&heard, &s, &again, o, "choice", &n_got, &grid);
            CU_ASSERT(n_got == n_weights && esp_test_close(got, weights, n_got, 1, 1e-6));
            free(got);
            esp_plan_free(&again);
        }
        esp_error_clear();
        esp_grid_free(&grid);
    }
    esp_grid_free(&alone);
    esp_plan_free(&plan);
    subject_free(&s);
    free(want);
    free(weights);
    free(own);
}

static void test_choices(void)
{
    const esp_compensate_options dense = { .holdout = 4 },
                                 own = { .holdout = 4, .target = ESP_BRANCH_OWN, .cut_only = true },
                                 all = { .holdout = 4, .target = ESP_BRANCH_OWN };

    check_choice("llama", &own);
    check_choice("opt", &dense);
    check_choice("phi3", &all);
    check_choice("bloom", &own);
    check_choice("qwen2", &own); /* its query heads */
}

/* Of the samples that are not held out; inputs of the dense model. */
static void fit_samples(column *x, const subject *s, size_t holdout)
{
    esp_samples fit = { 0 };

    for (size_t j = 0; j < s->samples.n; j++) {
        if (j % holdout != holdout - 1) {
            size_t first = s->samples.start[j];

            esp_samples_add(&fit, s->samples.ids + first, NULL, s->samples.start[j + 1] - first);
        }
    }
    record_column(x, &s->m.model, &fit);
    esp_samples_free(&fit);
}

/* sum |W x - V x|^2 + lambda |W - V|^2 of the best V without the inputs of group g of K: with A = H + lambda
 * I, W_g (A_gg - A_gk A_kk^-1 A_kg) W_g^T. */
static double error_without(const double *h, const esp_weight *w, size_t g, size_t K)
{
    size_t n = w->cols, width = n / K, first = g * width, rest = n - width;
    const float *at = w->data;
    double *a, *l, *b, lambda = 0, error = 0;

    ESP_NEW(a, width * width);
    ESP_NEW(l, rest * rest);
    ESP_NEW(b, width * rest);
    for (size_t i = 0; i < n; i++) {
        lambda += 0.1 * h[i * n + i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            bool in_i = i / width == g, in_j = j / width == g;
            size_t i_rest = i < first ? i : i - width, j_rest = j < first ? j : j - width;
            double x = h[i * n + j] + (i == j ? lambda : 0);

            if (in_i && in_j) {
                a[(i - first) * width + j - first] = x;
            } else if (in_i) {
                b[(i - first) * rest + j_rest] = x;
            } else if (!in_j) {
                l[i_rest * rest + j_rest] = x;
            }
        }
    }
    {
        double *solved;

        ESP_NEW(solved, width * rest);
        memcpy(solved, b, width * rest * sizeof *b);
        CU_ASSERT_EQUAL(esp_cholesky(l, rest), rest);
        esp_cholesky_solve(solved, l, width, rest);
        esp_subtract_product(a, width, solved, rest, b, rest, width, width, rest);
        free(solved);
    }
    for (size_t r = 0; r < w->rows; r++) {
        const float *row = at + r * n + first;

        for (size_t i = 0; i < width; i++) {
            for (size_t j = 0; j < width; j++) {
                error += (double)row[i] * a[i * width + j] * (double)row[j];
            }
        }
    }
    free(a);
    free(l);
    free(b);
    return error;
}

/* The groups that go from the first projection that is cut cost as little as no others: of its sums, found
 * by other means. */
static void check_best(void)
{
    const esp_compensate_options o = { .holdout = 4,
                                       .target = ESP_BRANCH_OWN,
                                       .choose_only = true };
    const esp_weight *w;
    news said = { .n = 0 };
    column x;
    double *numbers, *h, least = INFINITY;
    size_t n, K, best = 0;
    esp_plan plan;
    esp_grid alone;
    subject s;

    esp_grid_init(&alone, 1, MPI_COMM_SELF);
    subject_init(&s, "qwen2", ESP_PRUNE_BLOCK, 0.5);
    numbers = choose(&said, &plan, &s, &o, "best", true, ESP_OK, &n, &alone);
    K = s.m.model.dims.layer[0].kv_heads;
    w = esp_model_weight(&s.m.model, 0, esp_arch_slot(s.m.model.arch, "o_proj"));
    CU_ASSERT(K == 2 && numbers[1] > numbers[0]);
    x = (column){ 0, esp_arch_slot(s.m.model.arch, "o_proj"), true, w->cols, 0, NULL };
    fit_samples(&x, &s, 4);
    h = sums(&x, w->cols, &x, w->cols);
    for (size_t g = 0; g < K; g++) {
        double error = error_without(h, w, g, K);

        best = error < least ? g : best;
        least = fmin(least, error);
    }
    CU_ASSERT_EQUAL(numbers[2], (double)best);
    free(x.rows);
    free(h);
    free(numbers);
    esp_plan_free(&plan);
    subject_free(&s);
    esp_grid_free(&alone);
}

static void test_choice_is_best(void)
{
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0) {
        check_best();
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void test_choice_resumed(void)
{
    const esp_compensate_options o = { .holdout = 4, .target = ESP_BRANCH_OWN };
    news said = { .n = 0 }, first = { .n = 0, .stop_after = 4 }, second = { .n = 0 };
    news none = { .n = 0 };
    esp_plan plan[4];
    double *want, *got, *weights, *other;
    size_t n, n_got;
    esp_grid grid;
    subject s;

    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    subject_init(&s, "llama", ESP_PRUNE_BLOCK, 0.5);
    want = choose(&said, &plan[0], &s, &o, "all", true, ESP_OK, &n, &grid);
    CU_ASSERT_PTR_NULL(choose(&first, &plan[1], &s, &o, "some", true, ESP_ESTOPPED, &n_got, &grid));
    CU_ASSERT_EQUAL(first.n, 4);
    if (grid.rank == 0) {
        damage("some", "0.down_proj.choice");
        damage("some", "1.o_proj.projection");
    }
    MPI_Barrier(MPI_COMM_WORLD);
    got = choose(&second, &plan[2], &s, &o, "some", false, ESP_OK, &n_got, &grid);
    CU_ASSERT(n_got == n && want && got && memcmp(got, want, n * sizeof *got) == 0);
    free(got);
    weights = fitted(&none, &s, &plan[0], &o, "all", &n, &grid);
    other = fitted(&none, &s, &plan[2], &o, "some", &n_got, &grid);
    CU_ASSERT(n_got == n && memcmp(weights, other, n * sizeof *weights) == 0);
    got = choose(&none, &plan[3], &s, &o, "some", false, ESP_OK, &n_got, &grid); /* all is there */
    CU_ASSERT(got && memcmp(got, want, n_got * sizeof *got) == 0);
    for (size_t i = 0; i < 4; i++) {
        esp_plan_free(&plan[i]);
    }
    free(got);
    free(want);
    free(weights);
    free(other);
    subject_free(&s);
    esp_grid_free(&grid);
}

ESP_TEST_MAIN("reconstruction on ranks", { "the same on all grids", test_choices },
              { "the best choice", test_choice_is_best }, { "interrupted", test_choice_resumed })
