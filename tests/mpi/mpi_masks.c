/* mpi_masks.c - scores of criterion masks: a step, the budget, and the same bits on any grid. */
#include "espalier/masks.h"
#include "golden_groups.h"
#include "small_model.h"

#include <omp.h>

#define SHARPEST 0.01 /* width of the border at the end, docs/method.md, eq. 50 */

static esp_scores train(const esp_model *m, const esp_groups *g, const esp_samples *samples,
                        const esp_plan_options *plan, esp_mask_options o, int threads,
                        size_t stages, MPI_Comm comm)
{
    const esp_importance_options random = { .criteria = 1u << ESP_RANDOM | 1u << ESP_MASKS,
                                            .aggregations = 1u << ESP_SUM | 1u << ESP_MAX,
                                            .units = (1u << ESP_N_UNITS) - 1 };
    int before = omp_get_max_threads();
    esp_scores s;
    esp_grid grid;

    esp_grid_init(&grid, threads, comm);
    CU_ASSERT_EQUAL(esp_grid_shape(&grid, stages), ESP_OK);
    CU_ASSERT_EQUAL(esp_importance_estimate(&s, m, g, NULL, &random, &grid), ESP_OK);
    CU_ASSERT_EQUAL(esp_masks_train(&s, m, g, samples, plan, &o, &grid), ESP_OK);
    esp_grid_free(&grid);
    omp_set_num_threads(before);
    return s;
}

/* ---- grids --------------------------------------------------------------------------------------- */

static bool same_scores(const esp_scores *a, const esp_scores *b, const esp_groups *g)
{
    bool same = true;

    for (size_t u = 0; u < g->n_units; u++) {
        const double *x = esp_scores_group(a, &g->units[u], ESP_MASKS, ESP_SUM);
        const double *y = esp_scores_group(b, &g->units[u], ESP_MASKS, ESP_SUM);
        const double *max = esp_scores_group(b, &g->units[u], ESP_MASKS, ESP_MAX);
        size_t bytes = g->units[u].n_groups * sizeof *x;

        same = same && !x == !y && (!x || (!memcmp(x, y, bytes) && !memcmp(x, max, bytes)));
    }
    return same;
}

/* All grids of the ranks, against this process alone. */
static void check_plan(const fixture *t, const esp_plan_options *plan)
{
    const esp_model *m = &t->golden.model;
    esp_mask_options o = { .steps = 6, .batch = 3, .learning_rate = 0.1 };
    esp_scores alone = train(m, &t->groups, &t->golden.samples, plan, o, 1, 1, MPI_COMM_SELF);
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (size_t stages = 1; stages <= (size_t)size && stages <= m->dims.n_layers; stages++) {
        if ((size_t)size % stages == 0) {
            esp_scores s =
                train(m, &t->groups, &t->golden.samples, plan, o, 2, stages, MPI_COMM_WORLD);

            CU_ASSERT(same_scores(&s, &alone, &t->groups));
            esp_scores_free(&s);
        }
    }
    esp_scores_free(&alone);
}

static void check_model(const fixture *t)
{
    check_plan(t, &(esp_plan_options){ .ratio = 0.5 });
    check_plan(t, &(esp_plan_options){ .target_kind = ESP_TARGET_PARAMETERS,
                                       .target = 0.8,
                                       .target_tokens = 64,
                                       .global = true });
}

static void test_own(void)
{
    fixture_each(false, check_model);
}

static void test_shared(void)
{
    fixture_each(true, check_model);
}

/* ---- one step ------------------------------------------------------------------------------------ */

/* What gates keep with scores exp(x - border): all but the share that is to go. */
static void check_budget(const double *score, size_t n, double ratio)
{
    double kept = 0;

    for (size_t i = 0; i < n; i++) {
        kept += fmin(fmax(log(score[i]) / SHARPEST, 0), 1);
    }
    CU_ASSERT_DOUBLE_EQUAL(kept, (1 - ratio) * (double)n, 1e-6);
}

/* Numbers begin at 1, as that of a neuron without a gradient stays, and move by the rate times the gradient
 * by its root mean square: its magnitude is the score of gate1. */
static void check_step(const double *score, const double *gate1, size_t n, double rate)
{
    double square = 0;

    for (size_t i = 0; i < n; i++) {
        square += gate1[i] * gate1[i] / (double)n;
    }
    CU_ASSERT(square > 0 && gate1[0] == 0);
    for (size_t i = 0; i < n; i++) {
        double moved = fabs(log(score[i]) - log(score[0]));

        CU_ASSERT_DOUBLE_EQUAL(moved, rate * gate1[i] / sqrt(square), 1e-6 * rate);
    }
}

static void test_step(void)
{
    const esp_importance_options of_gates = { .criteria = 1u << ESP_GATE1,
                                              .aggregations = 1u << ESP_SUM,
                                              .units = 1u << ESP_UNIT_MLP };
    esp_mask_options o = { .steps = 1, .batch = 8, .learning_rate = 0.3 };
    esp_plan_options plan = { .ratio = 0.25 };
    esp_layer_range layer = { 1, 1 };
    esp_samples samples;
    const esp_unit *mlp;
    esp_scores masks, gates;
    esp_groups g;
    esp_grid grid;
    small s;

    small_init(&s, &three_llama, ESP_F32);
    samples = small_samples(o.batch, 9, s.model.dims.vocab);
    for (size_t row = 0; row < s.model.dims.hidden; row++) {
        small_set(&s, 1, "down_proj", row * s.model.dims.layer[1].mlp, 0);
    }
    esp_groups_find(&g, &s.model);
    mlp = esp_groups_unit(&g, ESP_UNIT_MLP, 1);
    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    plan.mlp_layers = plan.attention_layers = (esp_layer_ranges){ &layer, 1 };
    masks = train(&s.model, &g, &samples, &plan, o, 1, 1, MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(esp_importance_estimate(&gates, &s.model, &g, &samples, &of_gates, &grid),
                    ESP_OK);
    check_budget(esp_scores_group(&masks, mlp, ESP_MASKS, ESP_SUM), mlp->n_groups, plan.ratio);
    check_step(esp_scores_group(&masks, mlp, ESP_MASKS, ESP_SUM),
               esp_scores_group(&gates, mlp, ESP_GATE1, ESP_SUM), mlp->n_groups, o.learning_rate);
    CU_ASSERT_PTR_NULL(
        esp_scores_group(&masks, esp_groups_unit(&g, ESP_UNIT_MLP, 0), ESP_MASKS, ESP_SUM));
    esp_scores_free(&masks);
    esp_scores_free(&gates);
    esp_grid_free(&grid);
    esp_groups_free(&g);
    esp_samples_free(&samples);
    small_free(&s);
}

ESP_TEST_MAIN("masks", { "a step and the budget", test_step }, { "repository's model", test_own },
              { "other models", test_shared })
