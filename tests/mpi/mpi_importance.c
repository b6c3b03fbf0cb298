/* Scores do not depend on how many ranks share the samples and the layers, nor on threads and chunks. */
#include "espalier/file.h"
#include "espalier/plan.h"
#include "golden_groups.h"
#include "small_model.h"

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
    size_t kept_layers;
    bool model_labels; /* no layout: which labels are meant */
} layout;

static esp_scores estimate(const fixture *t, const esp_samples *samples, layout how, MPI_Comm comm)
{
    int before = omp_get_max_threads();
    esp_importance_options o = everything;
    esp_scores s;
    esp_grid grid;

    o.chunk_tok = how.chunk_tok;
    o.kept_layers = how.kept_layers;
    o.model_labels = how.model_labels;
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
        size_t n_channels = unit->n_groups * unit->channels_per_group;

        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            bool scored = esp_criterion_units(c) >> unit->kind & 1;

            check_close(esp_scores_structure(a, unit, c), esp_scores_structure(b, unit, c),
                        esp_criterion_structures(c, unit) * n_channels);
            for (esp_aggregation k = 0; scored && k < ESP_N_AGGREGATIONS; k++) {
                check_close(esp_scores_group(a, unit, c, k), esp_scores_group(b, unit, c, k),
                            unit->n_groups);
            }
        }
    }
}

enum { N_KINDS = ESP_N_CRITERIA * ESP_N_AGGREGATIONS, N_PLANS = 4 * N_KINDS };

/* The plan of each criterion and aggregation, by layer and for the whole model, of key/value heads and of
 * query heads. As in a run one rank makes it; here each makes some. */
static void make_plans(char digest[N_PLANS][ESP_DIGEST_SIZE], const fixture *t, const esp_scores *s)
{
    int rank, size;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int i = rank; i < N_PLANS; i += size) {
        esp_plan_options o = { .criterion = (esp_criterion)(i % ESP_N_CRITERIA),
                               .aggregation = i / ESP_N_CRITERIA % ESP_N_AGGREGATIONS,
                               .global = i / N_KINDS % 2,
                               .attention = i / N_KINDS / 2 && fixture_shares_keys(t)
                                                ? ESP_ATTENTION_QUERIES
                                                : ESP_ATTENTION_GROUPS,
                               .ratio = 0.5 };
        esp_plan p;

        CU_ASSERT_EQUAL(esp_plan_make(&p, &t->golden.model, &t->groups, s, &o), ESP_OK);
        memcpy(digest[i], p.digest, ESP_DIGEST_SIZE);
        esp_plan_free(&p);
    }
}

/* What this process alone has. */
typedef struct reference {
    esp_scores scores;
    char plan[N_PLANS][ESP_DIGEST_SIZE]; /* digests of this rank's */
} reference;

/* Plans are the same to the last index. */
static void check_plans(const fixture *t, const esp_scores *s, const reference *alone)
{
    char digest[N_PLANS][ESP_DIGEST_SIZE] = { 0 };

    make_plans(digest, t, s);
    CU_ASSERT_EQUAL(memcmp(digest, alone->plan, sizeof digest), 0);
}

static void check_layout(const fixture *t, const esp_samples *samples, layout how,
                         const reference *alone)
{
    esp_scores shared = estimate(t, samples, how, MPI_COMM_WORLD);

    check_scores(t, &shared, &alone->scores);
    check_plans(t, &shared, alone);
    if (how.kept_layers > 0) {
        CU_ASSERT(shared.flops < alone->scores.flops);
    } else {
        CU_ASSERT_DOUBLE_EQUAL(shared.flops, alone->scores.flops, 1e-12 * alone->scores.flops);
    }
    esp_scores_free(&shared);
}

/* All grids of the ranks, and chunks of one sample or two, against this process alone with one chunk; with
 * all samples or the first few. */
static void check_samples(const fixture *t, size_t n_samples, bool model_labels)
{
    esp_samples some = t->golden.samples;
    reference alone = { 0 };
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    some.n = n_samples < some.n ? n_samples : some.n;
    alone.scores =
        estimate(t, &some, (layout){ 1, 1, SIZE_MAX, false, 0, model_labels }, MPI_COMM_SELF);
    make_plans(alone.plan, t, &alone.scores);
    for (size_t stages = 1; stages <= (size_t)size; stages++) {
        if ((size_t)size % stages == 0) {
            check_layout(t, &some, (layout){ 1, stages, 0, false, 0, model_labels }, &alone);
            check_layout(
                t, &some,
                (layout){ 1, stages, 2 * esp_samples_longest(&some), true, 1, model_labels },
                &alone);
        }
    }
    esp_scores_free(&alone.scores);
}

static void check_all_samples(const fixture *t)
{
    check_samples(t, SIZE_MAX, false);
}

static void check_model_labels(const fixture *t)
{
    check_samples(t, SIZE_MAX, true);
    check_samples(t, 2, true);
}

static void check_fewer_samples_than_ranks(const fixture *t)
{
    check_samples(t, 2, false);
    check_samples(t, 1, false);
}

static void test_own(void)
{
    fixture_each(false, check_all_samples);
}

static void test_shared(void)
{
    fixture_each(true, check_all_samples);
}

static void test_model_labels(void)
{
    fixture_each(false, check_model_labels);
}

static void test_few(void)
{
    fixture_each(false, check_fewer_samples_than_ranks);
}

static void test_threads(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    esp_scores one =
        estimate(t, &t->golden.samples, (layout){ 1, 1, 0, false, 0, false }, MPI_COMM_WORLD);
    esp_scores two =
        estimate(t, &t->golden.samples, (layout){ 2, 1, 0, false, 0, false }, MPI_COMM_WORLD);

    CU_ASSERT_EQUAL(one.loss, two.loss);
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const esp_unit *unit = &t->groups.units[u];

        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            const double *score = esp_scores_group(&one, unit, c, ESP_SUM);

            CU_ASSERT(!score || memcmp(score, esp_scores_group(&two, unit, c, ESP_SUM),
                                       unit->n_groups * sizeof(double)) == 0);
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

/* ---- numbers that are none ---------------------------------------------------------------------- */

enum { SAMPLES = 9, ODD = 20 /* a token that no sample has */ };

static esp_samples ordinary_samples(void)
{
    return small_samples(SAMPLES, 6, ODD);
}

/* The samples are refused in the same words by all grids of the ranks, in one chunk and in several. */
static void expect_refused(const small *s, const esp_samples *samples, esp_importance_options o,
                           const char *words)
{
    esp_groups g;
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    esp_groups_find(&g, &s->model);
    for (int i = 0; i < 2 * size; i++) {
        esp_scores scores = { 0 };
        esp_grid grid;

        o.chunk_tok = i % 2 ? 2 * esp_samples_longest(samples) : 0;
        esp_grid_init(&grid, 1, MPI_COMM_WORLD);
        if (esp_grid_shape(&grid, (size_t)i / 2 + 1) == ESP_OK) {
            CU_ASSERT_EQUAL(esp_importance_estimate(&scores, &s->model, &g, samples, &o, &grid),
                            ESP_EFORMAT);
            CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), words));
            CU_ASSERT_PTR_NULL(scores.group);
        }
        esp_error_clear();
        esp_grid_free(&grid);
    }
    esp_groups_free(&g);
}

/* By each criterion alone that takes gradients, with one kind of unit or another, and by all. */
static void expect_all_refused(const small *s, const esp_samples *samples, const char *words)
{
    static const esp_criterion criteria[] = { ESP_VECTOR, ESP_ELEMENT1, ESP_ELEMENT2,
                                              ESP_MIX,    ESP_GATE1,    ESP_KFAC };

    for (int i = 0; i < 6; i++) {
        esp_importance_options o = { .criteria = 1u << criteria[i],
                                     .units = 1u << (i < 3 ? i : (int)ESP_UNIT_MLP),
                                     .aggregations = 1u << ESP_MAX };

        expect_refused(s, samples, o, words);
    }
    expect_refused(s, samples, everything, words);
}

/* In the middle of samples 3 and 7 the layer before the last gives what is infinite. */
static void test_broken_loss(void)
{
    esp_importance_options forward = everything;
    esp_samples samples = ordinary_samples();
    small s;

    small_init(&s, &three_llama, ESP_F32);
    small_plant(&s, 1, ODD);
    samples.ids[samples.start[3] + 1] = ODD;
    samples.ids[samples.start[7]] = ODD;
    expect_all_refused(&s, &samples, "sample 3 of 9: the loss is nan, as what layer 1 gives");
    if (esp_test_bf16()) {
        s.model.precision = ESP_PRECISION_BF16;
        expect_refused(&s, &samples, everything, "sample 3 of 9: the loss is nan");
        s.model.precision = ESP_PRECISION_F32;
    }
    forward.criteria = 1u << ESP_FLAP;
    expect_refused(&s, &samples, forward, "sample 3 of 9: the input of ");
    samples.ids[samples.start[3] + 1] = 0;
    expect_all_refused(&s, &samples, "sample 7 of 9: the loss is");
    small_free(&s);
    esp_samples_free(&samples);
}

/* At the end of samples 4 and 8, where nothing is predicted, in the last layer: the losses are finite,
 * gradients are not. */
static void test_broken_gradient(void)
{
    esp_samples samples = ordinary_samples();
    small s;

    small_init(&s, &three_llama, ESP_F32);
    small_plant(&s, 2, ODD);
    samples.ids[samples.start[5] - 1] = ODD;
    samples.ids[samples.start[9] - 1] = ODD;
    expect_all_refused(&s, &samples, "sample 4 of 9: the gradient of ");
    samples.ids[samples.start[5] - 1] = 0;
    expect_all_refused(&s, &samples, "sample 8 of 9: the gradient of ");
    small_free(&s);
    esp_samples_free(&samples);
}

/* Channel 0 is 0 in every token, so that the forward never sees two large weights; the backward does, below
 * the MLP of layer 1. */
static void test_overflow_in_backward(void)
{
    esp_importance_options mlp = { .criteria = 1u << ESP_VECTOR,
                                   .units = 1u << ESP_UNIT_MLP,
                                   .aggregations = 1u << ESP_SUM };
    esp_samples samples = ordinary_samples();
    small s;

    small_init(&s, &three_llama, ESP_F32);
    small_plant(&s, 1, ODD);
    small_set(&s, 1, "post_attention_layernorm", 0, 1e25f);
    expect_refused(&s, &samples, mlp,
                   "sample 0 of 9: the gradient of model.layers.0.mlp.down_proj");
    small_free(&s);
    esp_samples_free(&samples);
}

/* Sums of squares of large weights are numbers, the product over all structures is not. */
static void test_broken_scores(void)
{
    esp_importance_options o = { .criteria = 1u << ESP_L2,
                                 .units = 1u << ESP_UNIT_HIDDEN,
                                 .aggregations = 1u << ESP_SUM | 1u << ESP_PROD };
    esp_samples none = { 0 };
    small s;

    small_init(&s, &three_llama, ESP_F32);
    for (size_t i = 0; i < s.n / sizeof(float); i++) {
        ((float *)(uintptr_t)s.bytes)[i] *= 1e30f;
    }
    expect_refused(&s, &none, o, "hidden group 0 by criterion l2, aggregation prod is inf");
    ((float *)(uintptr_t)s.bytes)[0] = NAN;
    expect_refused(&s, &none, o, "importance of model.embed_tokens is not finite");
    small_free(&s);
}

ESP_TEST_MAIN("importance on ranks", { "repository's model", test_own },
              { "shared models", test_shared }, { "labels of the model", test_model_labels },
              { "fewer samples than ranks", test_few }, { "threads", test_threads },
              { "bf16", test_bf16 }, { "refused on all ranks", test_refused },
              { "a loss that is none", test_broken_loss },
              { "a gradient that is none", test_broken_gradient },
              { "a gradient that overflows", test_overflow_in_backward },
              { "scores that are none", test_broken_scores })
