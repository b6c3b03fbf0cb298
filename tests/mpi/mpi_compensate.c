/* mpi_compensate.c - projections fitted after the cut: what the formulas give, on any number of ranks and
 * pipeline stages, and after an interruption. */
#include "espalier/cholesky.h"
#include "espalier/compensate.h"
#include "espalier/exporters.h"
#include "espalier/pass.h"
#include "espalier/synth.h"
#include "small_model.h"

enum { MOST = 16 }; /* projections */

static const char *const families[] = { "llama", "qwen2",  "phi3",     "baichuan-13b", "opt",
                                        "bloom", "gemma2", "chatglm2", "chatglm" };
enum { N_FAMILIES = sizeof families / sizeof *families };

/* A model, what of it is to go, and text. */
typedef struct subject {
    small m;
    esp_groups groups;
    esp_plan plan;
    esp_samples samples;
} subject;

static esp_samples text(void)
{
    esp_rng r = { .key = esp_rng_key(4, 0, 0) };
    esp_samples s = { 0 };
    int32_t ids[40];

    for (size_t j = 0; j < 26; j++) {
        size_t n = 20 + esp_rng_below(&r, 20);

        for (size_t t = 0; t < n; t++) {
            ids[t] = (int32_t)(6 + esp_rng_below(&r, 290));
        }
        esp_samples_add(&s, ids, NULL, n);
    }
    return s;
}

static void subject_init(subject *s, const char *family, esp_prune_mode mode, double ratio)
{
    bool narrow = strcmp(family, "phi3") == 0 || strcmp(family, "qwen2") == 0;
    esp_synth_options of = { .model_type = family,
                             .layers = 4,
                             .hidden = 32,
                             .heads = 4,
                             .kv_heads = narrow ? 2 : 0,
                             .mlp = strcmp(family, "bloom") == 0 ? 4 * 32 : 60,
                             .vocab = 300,
                             .max_positions = 64,
                             .dtype = ESP_F32,
                             .std = 0.1,
                             .rope_theta = 10000,
                             .seed = 3 };
    esp_plan_options o = { .mode = mode,
                           .criterion = ESP_RANDOM,
                           .ratio = ratio,
                           .round_to = 1,
                           .min_keep = 1,
                           .target_tokens = 64,
                           .seed = 5 };

    CU_ASSERT_EQUAL(esp_synth_shape(&s->m.model, &of), ESP_OK);
    small_weights(&s->m, ESP_F32);
    free(s->m.model.dir);
    s->m.model.dir = esp_test_dir("empty"); /* no small files to be copied */
    CU_ASSERT_EQUAL(esp_mkdirs(s->m.model.dir), ESP_OK);
    esp_groups_find(&s->groups, &s->m.model);
    CU_ASSERT_EQUAL(esp_plan_make(&s->plan, &s->m.model, &s->groups, NULL, &o), ESP_OK);
    s->samples = text();
}

static void subject_free(subject *s)
{
    esp_samples_free(&s->samples);
    esp_plan_free(&s->plan);
    esp_groups_free(&s->groups);
    small_free(&s->m);
}

/* ---- a compensation ------------------------------------------------------------------------------- */

/* What was said, and after how many projections it is to stop; 0: never. */
typedef struct news {
    esp_compensate_news of[MOST];
    size_t n, stop_after;
} news;

static void hear(void *ctx, const esp_compensate_news *n)
{
    news *all = ctx;

    ESP_REQUIRE(all->n < MOST);
    all->of[all->n++] = *n;
}

static bool is_enough(void *ctx)
{
    const news *all = ctx;

    return all->stop_after > 0 && all->n >= all->stop_after;
}

/* A folder for the results, with what it had before or fresh. Collective on grid->world. */
static char *folder(const char *name, const esp_grid *grid, bool fresh)
{
    static const char *const names[] = { ESP_COMPENSATE_NAMES };
    char *dir = esp_test_dir(name);

    if (grid->rank == 0) {
        CU_ASSERT_EQUAL(fresh ? esp_test_remove(dir) : ESP_OK, ESP_OK);
        CU_ASSERT_EQUAL(esp_folder_make(dir, names, 1), ESP_OK);
    }
    MPI_Barrier(grid->world);
    return dir;
}

/* The numbers of all projections [*n], as they are afterwards; NULL where the status is not `want`. The
 * caller frees. */
static double *numbers_of(const esp_remnant *r, const esp_groups *g, size_t *n)
{
    double *all = NULL;

    *n = 0;
    for (size_t l = 0; l < r->left.dims.n_layers; l++) {
        for (esp_unit_kind k = ESP_UNIT_ATTENTION; k <= ESP_UNIT_MLP; k++) {
            const esp_unit *u = esp_groups_unit(g, k, r->layer[l]);
            int slot = u->structures[u->n_structures - 1].slot;
            const esp_weight *w = esp_model_weight(&r->left, l, slot);
            esp_tensor_ref t = {
                .layer = l, .slot = slot, .weight = w, .n_dims = 2, .shape = { w->rows, w->cols }
            };
            float *rows;

            ESP_NEW(rows, w->rows * w->cols);
            esp_remnant_rows(rows, r, &t, 0, w->rows);
            all = esp_grow(all, *n + w->rows * w->cols, sizeof *all);
            for (size_t i = 0; i < w->rows * w->cols; i++) {
                all[(*n)++] = (double)rows[i];
            }
            free(rows);
        }
    }
    return all;
}

static double *compensate(news *said, const subject *s, const esp_compensate_options *o,
                          const char *name, bool fresh, esp_status want, size_t *n,
                          const esp_grid *grid)
{
    const esp_compensate_calls calls = { said, hear, is_enough };
    char *dir = folder(name, grid, fresh);
    esp_compensated done;
    esp_remnant r;
    double *numbers = NULL;
    esp_status st;

    esp_remnant_init(&r, &s->m.model, &s->groups, &s->plan);
    st = esp_compensate(&done, &r, &s->samples, o, dir, &calls, grid);
    CU_ASSERT_EQUAL(st, want);
    if (st != want) {
        printf("  %s: status %d: %s\n", s->m.model.arch->model_type, st, esp_error_message());
    }
    if (st == ESP_OK) {
        numbers = numbers_of(&r, &s->groups, n);
    }
    esp_error_clear();
    esp_remnant_free(&r);
    esp_compensated_free(&done);
    free(dir);
    return numbers;
}

/* ---- what the formulas give ------------------------------------------------------------------------ */

/* Inputs or outputs of a projection of all samples, one behind the other; of one layer and slot. */
typedef struct column {
    size_t layer;
    int slot;
    bool input;
    size_t width, n_tok;
    double *rows; /* [n_tok, width] owned */
} column;

static void record(void *ctx, size_t layer, int slot, const float *x, const float *y,
                   const esp_batch *chunk)
{
    column *c = ctx;
    const float *from = c->input ? x : y;

    if (layer == c->layer && slot == c->slot) {
        c->rows = esp_grow(c->rows, (c->n_tok + chunk->n_tok) * c->width, sizeof *c->rows);
        for (size_t i = 0; i < chunk->n_tok * c->width; i++) {
            c->rows[c->n_tok * c->width + i] = (double)from[i];
        }
        c->n_tok += chunk->n_tok;
    }
}

static void record_column(column *c, const esp_model *m, const esp_samples *s)
{
    const esp_tap tap = { c, record, -1 };
    size_t n = s->n, *pick;
    esp_pass_options o = { .max_samples = n, .max_tok = s->start[n], .layers_only = true };
    esp_batch batch;
    esp_pass p;

    ESP_NEW(pick, n);
    for (size_t j = 0; j < n; j++) {
        pick[j] = j;
    }
    esp_model_batch_init(&batch, m, n, s->start[n]);
    esp_batch_fill(&batch, s, pick, n);
    esp_pass_init(&p, m, o);
    esp_pass_begin(&p, &batch);
    for (size_t l = 0; l <= c->layer; l++) {
        esp_pass_layer(&p, l, 0, &tap, &batch);
    }
    esp_pass_free(&p);
    esp_batch_free(&batch);
    free(pick);
}

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

/* sum over tokens of row i of a times row j of b, [n_a, n_b]; a one at the end of the rows of b. */
static double *sums(const column *a, size_t n_a, const column *b, size_t n_b)
{
    double *to;

    ESP_NEW(to, n_a * n_b);
    for (size_t t = 0; t < a->n_tok; t++) {
        for (size_t i = 0; i < n_a; i++) {
            double x = i < a->width ? a->rows[t * a->width + i] : 1;

            for (size_t j = 0; j < n_b; j++) {
                to[i * n_b + j] += x * (j < b->width ? b->rows[t * b->width + j] : 1);
            }
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

/* Makes one byte of the first result another. Rank 0. */
static void damage(const char *name, const char *projection)
{
    char *dir = esp_test_dir(name), *path = esp_path(dir, projection);
    FILE *f = fopen(path, "r+b");
    int byte;

    CU_ASSERT_PTR_NOT_NULL(f);
    if (f) {
        fseek(f, 100, SEEK_SET);
        byte = fgetc(f);
        fseek(f, 100, SEEK_SET);
        fputc(byte ^ 1, f);
        fclose(f);
    }
    free(path);
    free(dir);
}

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
