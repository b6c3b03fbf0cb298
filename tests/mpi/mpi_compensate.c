/* mpi_compensate.c - projections fitted after the cut: what the formulas give, on any number of ranks and
 * pipeline stages, and after an interruption. */
#include "espalier/exporters.h"
#include "compensation.h"

static const char *const families[] = { "llama", "qwen2",  "phi3",     "baichuan-13b", "opt",
                                        "bloom", "gemma2", "chatglm2", "chatglm" };
enum { N_FAMILIES = sizeof families / sizeof *families };

/* ---- what the formulas give ------------------------------------------------------------------------ */

/* Weight and bias as rows of [rows, cols + bias]. */
static double *whole(const esp_weight *w)
{
    size_t n = w->cols + w->has_bias;
    const float *data = w->data, *bias = w->bias;
    double *to;

    ESP_NEW(to, w->rows * n);
    for (size_t r = 0; r < w->rows; r++) {
        for (size_t i = 0; i < n; i++) {
            to[r * n + i] = (double)(i < w->cols ? data[r * w->cols + i] : bias[r]);
        }
    }
    return to;
}

/* A projection of the compensated model `got` solves (W - W0) (H + lambda I) = G - W0 H, its inputs those
 * that it has in that model, its targets those of the dense one. */
static void check_projection(const esp_model *got, const esp_model *cut, const esp_model *dense,
                             const esp_samples *s, size_t layer, int slot, const esp_damping *d)
{
    const esp_weight *w = esp_model_weight(got, layer, slot);
    size_t n = w->cols + w->has_bias;
    column x = { layer, slot, true, w->cols, 0, NULL },
           y = { layer, slot, false, w->rows, 0, NULL };
    double *h, *g, *w1 = whole(w), *w0 = whole(esp_model_weight(cut, layer, slot)), lambda = 0;
    double worst = 0, most = 0;

    record_column(&x, got, s);
    record_column(&y, dense, s);
    h = sums(&x, n, &x, n);
    g = sums(&y, w->rows, &x, n);
    for (size_t i = 0; i < n; i++) {
        lambda += d->value * h[i * n + i] / (double)n;
    }
    for (size_t r = 0; r < w->rows; r++) {
        for (size_t i = 0; i < n; i++) {
            double left = lambda * (w1[r * n + i] - w0[r * n + i]), right = g[r * n + i];

            for (size_t k = 0; k < n; k++) {
                left += w1[r * n + k] * h[k * n + i];
            }
            worst = fmax(worst, fabs(left - right));
            most = fmax(most, fabs(right));
        }
    }
    CU_ASSERT(worst <= 1e-5 * most);
    free(x.rows);
    free(y.rows);
    free(h);
    free(g);
    free(w0);
    free(w1);
}

/* The model that a compensation leaves, and that which surgery alone leaves. */
static void load_both(esp_model *got, esp_model *cut, const subject *s, esp_remnant *r)
{
    char *root = esp_test_fresh_dir("both"), *dir[2];

    for (int i = 0; i < 2; i++) {
        dir[i] = esp_format("%s/%d", root, i);
    }
    CU_ASSERT_EQUAL(esp_remnant_save(NULL, esp_export_to(dir[0], "huggingface"), r, MPI_COMM_SELF),
                    ESP_OK);
    CU_ASSERT_EQUAL(esp_surgery(NULL, esp_export_to(dir[1], "huggingface"), &s->m.model, &s->groups,
                                &s->plan, MPI_COMM_SELF),
                    ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(got, dir[0], MPI_COMM_SELF), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(cut, dir[1], MPI_COMM_SELF), ESP_OK);
    for (int i = 0; i < 2; i++) {
        free(dir[i]);
    }
    free(root);
}

/* All projections of a family, alone on a rank. */
static void check_family(const char *family)
{
    const esp_compensate_options o = { .holdout = 5 };
    esp_model got, cut;
    esp_compensated done;
    esp_remnant r;
    esp_grid alone;
    subject s;
    news said = { .n = 0 };
    const esp_compensate_calls calls = { &said, hear, NULL };
    char *dir;

    esp_grid_init(&alone, 1, MPI_COMM_SELF);
    subject_init(&s, family, ESP_PRUNE_BLOCK, 0.5);
    dir = folder("formulas", &alone, true);
    esp_remnant_init(&r, &s.m.model, &s.groups, &s.plan);
    CU_ASSERT_EQUAL(esp_compensate(&done, &r, &s.samples, &o, dir, &calls, &alone), ESP_OK);
    load_both(&got, &cut, &s, &r);
    CU_ASSERT_EQUAL(said.n, 2 * got.dims.n_layers);
    for (size_t i = 0; i < said.n; i++) {
        CU_ASSERT(said.of[i].damping.after < said.of[i].damping.before);
        CU_ASSERT(isfinite(said.of[i].damping.value));
        check_projection(&got, &cut, &s.m.model, &s.samples, said.of[i].layer,
                         esp_arch_slot(got.arch, said.of[i].projection), &said.of[i].damping);
    }
    esp_model_free(&got);
    esp_model_free(&cut);
    esp_remnant_free(&r);
    esp_compensated_free(&done);
    esp_grid_free(&alone);
    subject_free(&s);
    free(dir);
}

static void test_formulas(void)
{
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (size_t i = 0; rank == 0 && i < N_FAMILIES; i++) {
        check_family(families[i]);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

/* ---- ranks ----------------------------------------------------------------------------------------- */

static void check_grids(const char *family, esp_prune_mode mode, const esp_compensate_options *o)
{
    subject s;
    esp_grid alone;
    double *want, *got;
    size_t n, n_got;
    news said = { .n = 0 };
    char *own;
    int rank, size;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    own = esp_format("alone-%d", rank);
    subject_init(&s, family, mode, 0.5);
    esp_grid_init(&alone, 1, MPI_COMM_SELF);
    want = compensate(&said, &s, o, own, true, ESP_OK, &n, &alone);
    for (int stages = 1; stages <= size; stages++) {
        news again = { .n = 0 };
        esp_grid grid;

        esp_grid_init(&grid, 1, MPI_COMM_WORLD);
        if (esp_grid_shape(&grid, (size_t)stages) == ESP_OK) {
            got = compensate(&again, &s, o, "together", true, ESP_OK, &n_got, &grid);
            CU_ASSERT_EQUAL(n_got, n);
            CU_ASSERT(want && got && esp_test_close(got, want, n, 1, 1e-6));
            CU_ASSERT(rank != 0 || again.n == said.n); /* rank 0 tells of all */
            free(got);
        }
        esp_error_clear();
        esp_grid_free(&grid);
    }
    esp_grid_free(&alone);
    subject_free(&s);
    free(want);
    free(own);
}

static void test_grids(void)
{
    const esp_compensate_options dense = { .holdout = 4 },
                                 own = { .holdout = 4, .target = ESP_BRANCH_OWN, .cut_only = true };
    const esp_compensate_options set = { .holdout = 4, .damping = 0.01, .chunk_tok = 100 };

    check_grids("llama", ESP_PRUNE_BLOCK, &dense);
    check_grids("opt", ESP_PRUNE_BLOCK, &set);
    check_grids("phi3", ESP_PRUNE_BLOCK, &own);
    check_grids("gemma2", ESP_PRUNE_CHANNEL, &dense);
    check_grids("chatglm", ESP_PRUNE_LAYER, &dense);
}

/* ---- interruptions --------------------------------------------------------------------------------- */

static void test_resumed(void)
{
    const esp_compensate_options o = { .holdout = 4 };
    news said = { .n = 0 }, first = { .n = 0, .stop_after = 3 }, second = { .n = 0 };
    double *want, *got;
    size_t n, n_got;
    esp_grid grid;
    subject s;

    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    subject_init(&s, "llama", ESP_PRUNE_BLOCK, 0.5);
    want = compensate(&said, &s, &o, "whole", true, ESP_OK, &n, &grid);
    compensate(&first, &s, &o, "part", true, ESP_ESTOPPED, &n_got, &grid);
    CU_ASSERT_EQUAL(first.n, 3);
    if (grid.rank == 0) {
        damage("part", "1.o_proj.projection");
    }
    MPI_Barrier(MPI_COMM_WORLD);
    got = compensate(&second, &s, &o, "part", false, ESP_OK, &n_got, &grid);
    CU_ASSERT_EQUAL(n_got, n);
    CU_ASSERT(want && got && memcmp(got, want, n * sizeof *got) == 0);
    free(got);
    second.n = 0; /* now all is there */
    got = compensate(&second, &s, &o, "part", false, ESP_OK, &n_got, &grid);
    CU_ASSERT(want && got && memcmp(got, want, n * sizeof *got) == 0);
    CU_ASSERT(grid.rank != 0 || second.n == said.n);
    free(got);
    free(want);
    subject_free(&s);
    esp_grid_free(&grid);
}

/* ---- nothing to do, and nothing that can be done ------------------------------------------------------- */

static void test_nothing_cut(void)
{
    const esp_compensate_options o = { .holdout = 4 };
    news said = { .n = 0 };
    esp_grid grid;
    subject s;
    size_t n;

    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    subject_init(&s, "llama", ESP_PRUNE_BLOCK, 0.01);
    free(compensate(&said, &s, &o, "nothing", true, ESP_OK, &n, &grid));
    CU_ASSERT_EQUAL(said.n, 0);
    subject_free(&s);
    esp_grid_free(&grid);
}

static void test_refused(void)
{
    const esp_compensate_options o = { .holdout = 4 };
    esp_compensate_options own = { .holdout = 4, .target = ESP_BRANCH_OWN };
    esp_text_size few = { 3, 30, 10 }, many = { 100, 1000, 10 };
    news said = { .n = 0 };
    esp_grid grid;
    subject s;
    size_t n;

    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    subject_init(&s, "llama", ESP_PRUNE_BLOCK, 0.5);
    CU_ASSERT_EQUAL(esp_compensate_check(&s.m.model, &o, false, few), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "compensate.holdout = 4"));
    CU_ASSERT_EQUAL(esp_compensate_check(&s.m.model, &own, true, many), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_compensate_check(&s.m.model, &own, false, many), ESP_OK);
    esp_error_clear();
    small_set(&s.m, 1, "gate_proj", 0, 1e30f);
    small_set(&s.m, 1, "up_proj", 0, 1e30f);
    CU_ASSERT_PTR_NULL(compensate(&said, &s, &o, "broken", true, ESP_EFORMAT, &n, &grid));
    subject_free(&s);
    esp_grid_free(&grid);
}

ESP_TEST_MAIN("compensation", { "normal equations in the model", test_formulas },
              { "the same on all grids", test_grids }, { "interrupted", test_resumed },
              { "nothing cut", test_nothing_cut }, { "refused", test_refused })
