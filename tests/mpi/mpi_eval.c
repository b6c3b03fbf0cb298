/* mpi_eval.c - the same bits from one rank and from all of them, also where some have no sample. */
#include "espalier/eval.h"
#include "golden_values.h"
#include "small_model.h"

static void evaluate(esp_eval *e, const golden *g, const esp_samples *s, size_t stages,
                     MPI_Comm comm)
{
    esp_grid grid;

    esp_grid_init(&grid, 1, comm);
    CU_ASSERT_EQUAL(esp_grid_shape(&grid, stages), ESP_OK);
    CU_ASSERT_EQUAL(esp_evaluate(e, &g->model, NULL, s, 200, &grid), ESP_OK);
    esp_grid_free(&grid);
}

static void check_grid(const golden *g, const esp_samples *s, size_t stages, const esp_eval *alone)
{
    esp_eval together;
    double seconds[2];

    evaluate(&together, g, s, stages, MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(together.loss, alone->loss);
    CU_ASSERT_EQUAL(together.perplexity, alone->perplexity);
    CU_ASSERT_EQUAL(together.accuracy, alone->accuracy);
    CU_ASSERT_EQUAL(together.tokens, alone->tokens);

    seconds[0] = together.seconds; /* also the figures of speed and memory are one for all ranks */
    seconds[1] = -together.seconds;
    MPI_Allreduce(MPI_IN_PLACE, seconds, 2, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(seconds[0], -seconds[1]);
    CU_ASSERT(together.peak_resident >= alone->peak_resident);
}

/* The first n samples, and a short one. */
static void check_samples(const golden *g, size_t n)
{
    esp_samples s = { 0 };
    esp_eval alone;
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (size_t j = 0; j < n; j++) {
        size_t from = g->samples.start[j];

        esp_samples_add(&s, g->samples.ids + from, NULL, g->samples.start[j + 1] - from);
    }
    esp_samples_add(&s, g->samples.ids, NULL, 5);
    evaluate(&alone, g, &s, 1, MPI_COMM_SELF);
    for (size_t stages = 1; stages <= (size_t)size; stages++) {
        if ((size_t)size % stages == 0) {
            check_grid(g, &s, stages, &alone);
        }
    }
    esp_samples_free(&s);
}

static void test_ranks(void)
{
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        golden g;

        if (golden_open(&g, golden_models[i])) {
            check_samples(&g, g.samples.n);
            check_samples(&g, 1); /* two samples: fewer than ranks */
            golden_close(&g);
        }
    }
}

static void test_all_ranks_refuse(void)
{
    esp_samples none = { 0 };
    esp_grid grid;
    esp_eval e;
    golden g;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(esp_evaluate(&e, &g.model, NULL, &none, 200, &grid), ESP_EUSAGE);
    esp_error_clear();
    esp_grid_free(&grid);
    golden_close(&g);
}

/* Samples 3 and 5 have a token that no loss is finite after: the first is named, on all grids. */
static void test_broken_loss(void)
{
    esp_samples samples = small_samples(7, 6, 20);
    esp_generate_options o = { .tokens = 3 };
    esp_ids ids = { 0 };
    small s;
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    small_init(&s, &three_llama, ESP_BF16);
    small_plant(&s, 1, 20);
    samples.ids[samples.start[3] + 1] = samples.ids[samples.start[5]] = 20;
    for (int stages = 1; stages <= size; stages++) {
        esp_grid grid;
        esp_eval e;

        esp_grid_init(&grid, 1, MPI_COMM_WORLD);
        if (esp_grid_shape(&grid, (size_t)stages) == ESP_OK) {
            CU_ASSERT_EQUAL(esp_evaluate(&e, &s.model, NULL, &samples, 20, &grid), ESP_EFAILED);
            CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "sample 3 of 7: the loss is nan"));
        }
        esp_error_clear();
        esp_grid_free(&grid);
    }
    esp_ids_add(&ids, 3);
    CU_ASSERT_EQUAL(esp_generate(&ids, &s.model, &o, NULL, NULL), ESP_OK);
    esp_ids_add(&ids, 20);
    CU_ASSERT_EQUAL(esp_generate(&ids, &s.model, &o, NULL, NULL), ESP_EFAILED);
    esp_error_clear();
    esp_ids_free(&ids);
    small_free(&s);
    esp_samples_free(&samples);
}

ESP_TEST_MAIN("eval, ranks together", { "the same bits on all ranks", test_ranks },
              { "all ranks refuse", test_all_ranks_refuse },
              { "a loss that is none", test_broken_loss })
