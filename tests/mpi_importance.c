/* Scores do not depend on how many ranks share the samples and the layers, nor on threads and chunks. */
#include "espalier/file.h"
#include "espalier/plan.h"
#include "fixture.h"

#include <omp.h>

#define ALL(n) ((1u << (n)) - 1)

static const esp_importance_options everything = { .criteria = ALL(ESP_N_CRITERIA),
                                                   .aggregations = ALL(ESP_N_AGGREGATIONS),
                                                   .units = ALL(ESP_N_UNITS),
                                                   .seed = 1 };

typedef struct layout { /* of the work over ranks and time */
    int threads;
    size_t stages, chunk_tok;
    bool scratch;
} layout;

static esp_scores estimate(const fixture *t, const esp_samples *samples, layout how, MPI_Comm comm)
{
    int before = omp_get_max_threads();
    esp_importance_options o = everything;
    esp_scores s;
    esp_grid grid;

    o.chunk_tok = how.chunk_tok;
    if (how.scratch) {
        o.scratch = esp_test_dir("scratch");
        CU_ASSERT_EQUAL(esp_mkdirs(o.scratch), ESP_OK);
    }
    esp_grid_init(&grid, how.threads, comm);
    CU_ASSERT_EQUAL(esp_grid_shape(&grid, how.stages), ESP_OK);
    CU_ASSERT_EQUAL(esp_importance_estimate(&s, &t->golden.model, &t->groups, samples, &o, &grid),
                    ESP_OK);
    esp_grid_free(&grid);
    free((char *)o.scratch);
    omp_set_num_threads(before);
    return s;
}

/* Within 1e-12 of the largest, and the same when rounded to f32, as plans rank them. */
static void check_close(const double *a, const double *b, size_t n)
{
    size_t differ = 0;

    for (size_t i = 0; i < n; i++) {
        differ += (float)a[i] != (float)b[i];
    }
    CU_ASSERT_EQUAL(differ, 0);
    CU_ASSERT(esp_test_close(a, b, n, golden_largest(b, n), 1e-12));
}

static void check_scores(const fixture *t, const esp_scores *a, const esp_scores *b)
{
    CU_ASSERT_EQUAL(a->loss, b->loss);
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const esp_unit *unit = &t->groups.units[u];
        size_t n = unit->n_structures * unit->n_groups * unit->channels_per_group;

        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            if (c != ESP_RANDOM) {
                check_close(esp_scores_structure(a, unit, c), esp_scores_structure(b, unit, c), n);
            }
            for (esp_aggregation k = 0; k < ESP_N_AGGREGATIONS; k++) {
                check_close(esp_scores_group(a, unit, c, k), esp_scores_group(b, unit, c, k),
                            unit->n_groups);
            }
        }
    }
}

/* The plans of all criteria and aggregations are the same to the last index. */
static void check_plans(const fixture *t, const esp_scores *a, const esp_scores *b)
{
    for (int i = 0; i < ESP_N_CRITERIA * ESP_N_AGGREGATIONS * 2; i++) {
        esp_plan_options o = { .criterion = (esp_criterion)(i % ESP_N_CRITERIA),
                               .aggregation = i / ESP_N_CRITERIA % ESP_N_AGGREGATIONS,
                               .global = i >= ESP_N_CRITERIA * ESP_N_AGGREGATIONS,
                               .ratio = 0.3 };
        esp_plan p, q;

        CU_ASSERT_EQUAL(esp_plan_make(&p, &t->golden.model, &t->groups, a, &o), ESP_OK);
        CU_ASSERT_EQUAL(esp_plan_make(&q, &t->golden.model, &t->groups, b, &o), ESP_OK);
        CU_ASSERT_STRING_EQUAL(p.digest, q.digest);
        esp_plan_free(&p);
        esp_plan_free(&q);
    }
}

static void check_layout(const fixture *t, const esp_samples *samples, layout how,
                         const esp_scores *alone)
{
    esp_scores shared = estimate(t, samples, how, MPI_COMM_WORLD);

    check_scores(t, &shared, alone);
    check_plans(t, &shared, alone);
    CU_ASSERT_DOUBLE_EQUAL(shared.flops, alone->flops, 1e-12 * alone->flops);
    esp_scores_free(&shared);
}

/* All grids of the ranks, and chunks of one sample or two, against this process alone with one chunk; with
 * all samples or the first few. */
static void check_samples(const fixture *t, size_t n_samples)
{
    esp_samples some = t->golden.samples;
    esp_scores alone;
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    some.n = n_samples < some.n ? n_samples : some.n;
    alone = estimate(t, &some, (layout){ 1, 1, SIZE_MAX, false }, MPI_COMM_SELF);
    for (size_t stages = 1; stages <= (size_t)size; stages++) {
        if ((size_t)size % stages == 0) {
            check_layout(t, &some, (layout){ 1, stages, 0, false }, &alone);
            check_layout(t, &some, (layout){ 1, stages, 2 * esp_samples_longest(&some), true },
                         &alone);
        }
    }
    esp_scores_free(&alone);
}

static void check_all_samples(const fixture *t)
{
    check_samples(t, SIZE_MAX);
}

static void check_fewer_samples_than_ranks(const fixture *t)
{
    check_samples(t, 2);
    check_samples(t, 1);
}

static void test_own(void)
{
    fixture_each(false, check_all_samples);
}

static void test_shared(void)
{
    fixture_each(true, check_all_samples);
}

static void test_few(void)
{
    fixture_each(false, check_fewer_samples_than_ranks);
}

static void test_threads(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    esp_scores one = estimate(t, &t->golden.samples, (layout){ 1, 1, 0, false }, MPI_COMM_WORLD);
    esp_scores two = estimate(t, &t->golden.samples, (layout){ 2, 1, 0, false }, MPI_COMM_WORLD);

    CU_ASSERT_EQUAL(one.loss, two.loss);
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const esp_unit *unit = &t->groups.units[u];

        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            CU_ASSERT_EQUAL(memcmp(esp_scores_group(&one, unit, c, ESP_SUM),
                                   esp_scores_group(&two, unit, c, ESP_SUM),
                                   unit->n_groups * sizeof(double)),
                            0);
        }
    }
    esp_scores_free(&one);
    esp_scores_free(&two);
    fixture_free(t);
}

/* As in f32, on the models of the repository: several families, sizes that no tile divides. */
static void test_bf16(void)
{
    for (size_t i = 0; esp_test_bf16() && i < GOLDEN_MODELS; i++) {
        fixture *t =
            strncmp(golden_models[i], "tests/", 6) == 0 ? fixture_of(golden_models[i]) : NULL;

        if (t) {
            t->golden.model.precision = ESP_PRECISION_BF16;
            check_all_samples(t);
            fixture_free(t);
        }
    }
}

/* All ranks leave with the same status. */
static void test_refused(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    esp_importance_options o = everything;
    esp_samples none = { 0 };
    esp_scores s;
    esp_grid grid;

    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(esp_importance_estimate(&s, &t->golden.model, &t->groups, &none, &o, &grid),
                    ESP_EUSAGE);
    esp_grid_free(&grid);
    fixture_free(t);
}

ESP_TEST_MAIN("importance on ranks", { "repository's model", test_own },
              { "shared models", test_shared }, { "fewer samples than ranks", test_few },
              { "threads", test_threads }, { "bf16", test_bf16 },
              { "refused on all ranks", test_refused })
