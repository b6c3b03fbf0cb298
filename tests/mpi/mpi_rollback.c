/* mpi_rollback.c - losses and gradients that are not finite: steps skipped, ways back, and their ends; the
 * same whatever the ranks, and whenever a training was stopped. */
#include "small_training.h"

enum { ODD = 11, FIRST_BAD = 4, NEXT_BAD = 6 }; /* a sample, and the steps that it is in */

/* LoRA of queries, on samples of which one breaks every step it is in. */
static void make_odd(training *t, const char *dir, const esp_grid *grid)
{
    make_training(t, ESP_METHOD_LORA, &shapes[0], dir, grid);
    t->odd = ODD;
    t->options.targets = UINT64_C(1) << ESP_SLOT_BLOCK << 1;
    t->options.save_every = 2;
    t->options.max_skipped = 3;
    t->options.max_rollbacks = 2;
}

/* At rates so high that values overflow, again and again, until they are low enough. */
static void make_wild(training *t, esp_method method, const char *dir, const esp_grid *grid)
{
    make_training(t, method, &shapes[0], dir, grid);
    t->options.learning_rate = method == ESP_METHOD_LORA ? 1e6 : 1e8;
    t->options.weight_decay = 0;
    t->options.save_every = 3;
    t->options.keep = 1;
    t->options.max_skipped = 2;
    t->options.max_rollbacks = 64;
}

static bool all_finite(const training *t)
{
    return esp_find_nonfinite(t->value, ESP_F32, t->n) == t->n;
}

/* ---- skipped ------------------------------------------------------------------------------------ */

static void check_skipped(size_t stages, const training *alone)
{
    training t;
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    ESP_REQUIRE(esp_grid_shape(&all, stages) == ESP_OK);
    dir = fresh_dir("skipped", false, &all);
    make_odd(&t, dir, &all);
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(t.last, 12);
    CU_ASSERT_EQUAL(t.rollbacks, 0);
    CU_ASSERT_EQUAL(t.result.skipped, 2);
    CU_ASSERT(all_finite(&t));
    for (size_t i = 1; i <= 12; i++) {
        bool bad = i == FIRST_BAD || i == NEXT_BAD;

        CU_ASSERT_EQUAL(isfinite(t.loss[i]) != 0, !bad);
        CU_ASSERT(bad || esp_test_close(&t.loss[i], &alone->loss[i], 1, alone->loss[i], 1e-5));
    }
    CU_ASSERT_DOUBLE_EQUAL(t.result.train_loss, alone->result.train_loss, 1e-4);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

/* A sample costs the steps it is in and nothing else, on all grids. */
static void test_skipped(void)
{
    training alone;
    esp_grid self;
    char *dir;
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    esp_grid_init(&self, 1, MPI_COMM_SELF);
    dir = fresh_dir("alone", true, &self);
    make_odd(&alone, dir, &self);
    CU_ASSERT_EQUAL(train(&alone), ESP_OK);
    for (int stages = 1; stages <= size; stages++) {
        if (size % stages == 0) {
            check_skipped((size_t)stages, &alone);
        }
    }
    free(alone.value);
    free(dir);
    esp_grid_free(&self);
}

/* The moments of AdamW count the updates there were: with the first step skipped the second one is the first.
 * Its size is that of the rate then, not of the rate times sqrt(1 - beta2^2) / (1 - beta1^2). */
static void test_first_step_skipped(void)
{
    double most = 0;
    esp_params first;
    esp_adapter adapter;
    esp_grid all;
    training t;
    small s;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("first", false, &all);
    make_odd(&t, dir, &all);
    t.options.batch =
        26; /* the odd sample is in the first of two steps of an epoch or in the second */
    t.options.steps = 2;
    t.options.warmup = t.options.weight_decay = t.options.validation = t.options.dropout = 0;
    t.options.learning_rate = t.options.min_learning_rate = 1e-3;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(t.result.skipped, 1);
    small_init(&s, t.shape, ESP_BF16);
    esp_recover_prepare(&first, &adapter, &s.model, &t.options);
    for (size_t i = 0; i < t.n; i++) {
        most = fmax(most, fabs((double)t.value[i] - (double)first.value[i]));
    }
    CU_ASSERT_DOUBLE_EQUAL(most, 1e-3, 2e-5);
    esp_adapter_free(&adapter);
    esp_params_free(&first);
    small_free(&s);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

/* ---- back ------------------------------------------------------------------------------------------ */

/* Back to step 2 from step 4, twice, each time with half the rate; then it fails. With a batch of all samples
 * there is no good step, and two steps are too few for three in a row: those two count. */
static void test_ways_back(void)
{
    training t;
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("back", false, &all);
    make_odd(&t, dir, &all);
    t.options.max_skipped = 1;
    t.options.learning_rate = t.options.min_learning_rate = 1e-2;
    t.options.warmup = 0;
    CU_ASSERT_EQUAL(train(&t), ESP_EFAILED);
    CU_ASSERT(t.rollbacks == 2 && t.skipped == 3 && t.reports == 4 + 2 + 2);
    CU_ASSERT(t.back_from == FIRST_BAD && t.back_to == 2);
    CU_ASSERT(t.rate[2] == 1e-2 && t.rate[3] == 1e-2 / 4 && t.rate[4] == 1e-2 / 4);
    free(t.value);
    CU_ASSERT_EQUAL(train(&t), ESP_EFAILED); /* from what is on disk: nothing left to try ... */
    CU_ASSERT_EQUAL(t.reports, 0);
    free(t.value);
    t.options.max_rollbacks = 3;
    CU_ASSERT_EQUAL(train(&t), ESP_EFAILED); /* ... but for what is allowed now */
    CU_ASSERT(t.rollbacks == 1 && t.back_to == 2 && t.rate[3] == 1e-2 / 8);
    free(t.value);
    free(dir);

    dir = fresh_dir("all", false, &all);
    make_odd(&t, dir, &all);
    t.options.batch = 100;
    t.options.steps = 2;
    t.options.validation = 0;
    CU_ASSERT_EQUAL(train(&t), ESP_EFAILED);
    CU_ASSERT(t.rollbacks == 2 && t.skipped == 6 && t.back_to == 0);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

/* The first values are made again: the first step has the loss it had, to the last bit. */
static void check_start(esp_method method)
{
    training t, calm;
    esp_grid all;
    char *dir, *other;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("start", false, &all);
    other = fresh_dir("calm", false, &all);
    make_wild(&t, method, dir, &all);
    make_wild(&calm, method, other, &all);
    t.options.save_every = calm.options.save_every = 0;
    calm.options.learning_rate = 1e-3;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(train(&calm), ESP_OK);
    CU_ASSERT(t.rollbacks > 2 && t.back_to == 0 && calm.rollbacks == 0);
    CU_ASSERT_EQUAL(t.loss[1], calm.loss[1]);
    CU_ASSERT_EQUAL(t.result.first_validation_loss, calm.result.first_validation_loss);
    CU_ASSERT_EQUAL(t.result.rollbacks, t.rollbacks);
    CU_ASSERT(all_finite(&t));
    free(t.value);
    free(calm.value);
    free(dir);
    free(other);
    esp_grid_free(&all);
}

static void test_start(void)
{
    check_start(ESP_METHOD_LORA);
    check_start(ESP_METHOD_FULL);
}

/* ---- stopped on the way ------------------------------------------------------------------------------ */

/* Stopped in the step that is reported as number `at`, resumed by the same ranks: the same bits. */
static void check_stopped(esp_method method, size_t at, const training *whole, const esp_grid *all)
{
    char *dir = fresh_dir("stopped", false, all);
    training t;
    esp_status st;

    make_wild(&t, method, dir, all);
    t.stop_at_report = at;
    st = train(&t);
    CU_ASSERT(st == ESP_ESTOPPED || at >= whole->reports);
    free(t.value);
    t.stop_at_report = 0;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(t.result.rollbacks, whole->result.rollbacks);
    CU_ASSERT_EQUAL(t.result.skipped, whole->result.skipped);
    CU_ASSERT_EQUAL(t.result.best_step, whole->result.best_step);
    CU_ASSERT_EQUAL(t.result.train_loss, whole->result.train_loss);
    CU_ASSERT_EQUAL(t.result.validation_loss, whole->result.validation_loss);
    CU_ASSERT(memcmp(t.value, whole->value, whole->n * sizeof(float)) == 0);
    free(t.value);
    free(dir);
}

static void test_stopped(void)
{
    const esp_method methods[] = { ESP_METHOD_LORA, ESP_METHOD_FULL };
    esp_grid all;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    for (int i = 0; i < 2; i++) {
        char *dir = fresh_dir("whole", false, &all);
        training whole;

        make_wild(&whole, methods[i], dir, &all);
        CU_ASSERT_EQUAL(train(&whole), ESP_OK);
        CU_ASSERT(whole.rollbacks > 2 && whole.skipped > 4);
        for (size_t at = 2; at < whole.reports; at += 5) {
            check_stopped(methods[i], at, &whole, &all);
        }
        free(whole.value);
        free(dir);
    }
    esp_grid_free(&all);
}

/* Stopped after the first way back on all ranks, goes on the same on fewer. */
static void test_stopped_on_fewer(void)
{
    training t;
    esp_grid all, some;
    MPI_Comm fewer;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("fewer", false, &all);
    make_odd(&t, dir, &all);
    t.options.max_skipped = 1;
    t.options.learning_rate = t.options.min_learning_rate = 1e-2;
    t.options.warmup = 0;
    t.stop_at_report = 5; /* steps 1 2 3 4, back to 2, 3 */
    CU_ASSERT_EQUAL(train(&t), ESP_ESTOPPED);
    CU_ASSERT(t.last == 3 && t.rollbacks == 1);
    free(t.value);
    MPI_Comm_split(MPI_COMM_WORLD, all.rank < 2 ? 0 : MPI_UNDEFINED, 0, &fewer);
    if (fewer != MPI_COMM_NULL) {
        esp_grid_init(&some, 1, fewer);
        t.grid = &some;
        t.stop_at_report = 0;
        CU_ASSERT_EQUAL(train(&t), ESP_EFAILED);
        CU_ASSERT(t.first == FIRST_BAD && t.rollbacks == 1 && t.back_to == 2);
        CU_ASSERT(t.rate[3] == 1e-2 / 4 && t.rate[4] == 1e-2 / 4);
        free(t.value);
        esp_grid_free(&some);
        MPI_Comm_free(&fewer);
    }
    free(dir);
    esp_grid_free(&all);
}

/* The checkpoint to go back to stays, also where only the newest one is to be kept; where it is damaged, an
 * older one or the start takes its place. */
static void test_good_checkpoint(void)
{
    char *dir, *good, *newest;
    training t;
    esp_grid all;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("good", false, &all);
    good = esp_path(dir, "step-000002.h5");
    newest = esp_path(dir, "step-000003.h5");
    make_odd(&t, dir, &all);
    t.options.max_skipped = 1;
    t.options.keep = 1;
    t.stop_after = 3;
    CU_ASSERT_EQUAL(train(&t), ESP_ESTOPPED);
    CU_ASSERT(esp_file_exists(good) && esp_file_exists(newest));
    free(t.value);
    MPI_Barrier(MPI_COMM_WORLD);
    ESP_REQUIRE(all.rank != 0 || esp_file_write(good, "damaged", 7) == ESP_OK);
    MPI_Barrier(MPI_COMM_WORLD);
    t.stop_after = 0;
    CU_ASSERT_EQUAL(train(&t), ESP_EFAILED);
    CU_ASSERT(t.first == FIRST_BAD && t.rollbacks == 2);
    CU_ASSERT(t.back_to == 2); /* written again after the first way back, to the start */
    free(t.value);
    free(newest);
    free(good);
    free(dir);
    esp_grid_free(&all);
}

/* ---- values ------------------------------------------------------------------------------------------ */

/* Values that one step has broken are found by the next validation, or, where nothing is held out, after the
 * last step. */
static void check_values(double validation, size_t steps)
{
    training t;
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("values", false, &all);
    make_training(&t, ESP_METHOD_FULL, &shapes[1], dir, &all);
    t.options.learning_rate = 1e30;
    t.options.warmup = 0;
    t.options.steps = steps;
    t.options.validation = validation;
    t.options.validate_every = 1;
    t.options.max_skipped = 100;
    t.options.max_rollbacks = 2;
    CU_ASSERT_EQUAL(train(&t), ESP_EFAILED);
    CU_ASSERT(t.rollbacks == 2 && t.back_from == 1 && t.skipped == 0);
    CU_ASSERT(!isfinite(t.validation[1]));
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

static void test_values(void)
{
    check_values(0.1, 5);
    check_values(0, 1);
}

/* Losses that shoot up but are numbers are nothing to skip. */
static void test_finite_spike(void)
{
    training t;
    esp_grid all;
    char *dir;
    double most = 0;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("spike", false, &all);
    make_wild(&t, ESP_METHOD_FULL, dir, &all);
    t.options.learning_rate = 1e4;
    t.options.max_skipped = 1;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    for (size_t i = 1; i <= t.last; i++) {
        most = fmax(most, t.loss[i]);
    }
    CU_ASSERT(t.last == 12 && t.skipped == 0 && t.rollbacks == 0 && most > 1e6);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

ESP_TEST_MAIN("steps that are none", { "skipped", test_skipped },
              { "the first step skipped", test_first_step_skipped },
              { "ways back and their end", test_ways_back }, { "back to the start", test_start },
              { "stopped and resumed", test_stopped },
              { "resumed on fewer ranks", test_stopped_on_fewer },
              { "the good checkpoint", test_good_checkpoint }, { "broken values", test_values },
              { "a finite spike", test_finite_spike })
