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

/* ---- questions ------------------------------------------------------------------------------------ */

/* Questions whose choices begin alike, for as long as there are positions, and one whose do not; the
 * first target is that of the last token that they have alike, or an earlier one. */
static void make_questions(esp_questions *q, const golden *g)
{
    enum { QUESTIONS = 5 };
    const int32_t *ids = g->samples.ids;
    size_t longest = esp_min(esp_samples_longest(&g->samples), g->model.dims.max_positions);

    *q = (esp_questions){ .n = QUESTIONS };
    ESP_NEW(q->first, QUESTIONS + 1);
    ESP_NEW(q->gold, QUESTIONS);
    for (size_t j = 0; j < QUESTIONS; j++) {
        size_t context = 1 + j * (longest - 4) / QUESTIONS;

        for (size_t c = 0; c < 2 + j % 2; c++) {
            int32_t own[1024];
            size_t n = esp_min(context + 1 + 2 * c, longest);

            CU_ASSERT_FATAL(n < 1024);
            memcpy(own, ids, (n + 1) * sizeof *own);
            own[j == 4 ? 0 : context] = ids[c];
            own[n] = ids[2 + c];
            esp_samples_add_continuation(&q->samples, own, n, context - 1);
        }
        q->first[j + 1] = q->samples.n;
    }
}

static void free_questions(esp_questions *q)
{
    esp_samples_free(&q->samples);
    free(q->first);
    free(q->gold);
}

/* The loss of a sample as a whole. */
static double loss_of(const esp_model *m, const esp_samples *s, size_t j)
{
    size_t n = s->start[j + 1] - s->start[j];
    esp_loss loss;
    esp_batch batch;
    esp_pass pass;

    esp_pass_init(&pass, m, (esp_pass_options){ .max_samples = 1, .max_tok = n });
    esp_model_batch_init(&batch, m, 1, n);
    esp_batch_fill(&batch, s, &j, 1);
    esp_pass_forward(&pass, NULL, &batch);
    esp_pass_loss(&pass, &loss, NULL, NULL, &batch);
    esp_batch_free(&batch);
    esp_pass_free(&pass);
    return loss.sum;
}

/* wanted: loss of each choice as a whole. */
static void check_answers(const golden *g, const esp_questions *q, const double *wanted,
                          size_t stages, size_t max_tok)
{
    double *logprob;
    esp_grid grid;

    ESP_NEW(logprob, q->samples.n);
    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    if (esp_grid_shape(&grid, stages) == ESP_OK) {
        CU_ASSERT_EQUAL(esp_answer(logprob, &g->model, q, max_tok, &grid), ESP_OK);
        for (size_t c = 0; c < q->samples.n; c++) {
            size_t n = q->samples.start[c + 1] - q->samples.start[c];

            CU_ASSERT(n == 1 || logprob[c] == -wanted[c]); /* a row alone has another product */
        }
    }
    esp_error_clear();
    esp_grid_free(&grid);
    free(logprob);
}

/* Of all choices; the ranks share out the work. */
static void compute_losses(double *loss, const golden *g, const esp_samples *s)
{
    int rank, size;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (size_t c = (size_t)rank; c < s->n; c += (size_t)size) {
        loss[c] = loss_of(&g->model, s, c);
    }
    MPI_Allreduce(MPI_IN_PLACE, loss, (int)s->n, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
}

/* Choices share what they begin with, and get the bits that they have as whole samples: on any grid,
 * whatever the chunks. */
static void test_answers(void)
{
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        esp_questions q;
        double *wanted;
        golden g;

        if (golden_open(&g, golden_models[i])) {
            make_questions(&q, &g);
            ESP_NEW(wanted, q.samples.n);
            compute_losses(wanted, &g, &q.samples);
            for (size_t stages = 1; stages <= (size_t)size; stages++) {
                check_answers(&g, &q, wanted, stages, 1);
                check_answers(&g, &q, wanted, stages, 100000);
            }
            free(wanted);
            free_questions(&q);
            golden_close(&g);
        }
    }
}

ESP_TEST_MAIN("eval, ranks together", { "the same bits on all ranks", test_ranks },
              { "all ranks refuse", test_all_ranks_refuse },
              { "a loss that is none", test_broken_loss }, { "answers", test_answers })
