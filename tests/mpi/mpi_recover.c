/* mpi_recover.c - the same training on any number of ranks, stopped and resumed or not. */
#include "small_training.h"

/* ---- tests ------------------------------------------------------------------------------------- */

static void check_ranks(const training *alone, size_t stages)
{
    training together;
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    ESP_REQUIRE(esp_grid_shape(&all, stages) == ESP_OK);
    dir = fresh_dir("together", false, &all);
    make_training(&together, alone->options.method, alone->shape, dir, &all);
    CU_ASSERT_EQUAL(train(&together), ESP_OK);
    CU_ASSERT_EQUAL(together.last, 12);
    compare_losses(&together, alone, 1, 1e-5);
    CU_ASSERT_EQUAL(together.result.best_step, alone->result.best_step);
    CU_ASSERT(together.result.tok_per_second > 0 && together.result.flops > 0);
    free(together.value);
    free(dir);
    esp_grid_free(&all);
}

/* All grids of the ranks against this process alone. */
static void check_grids(esp_method method, const shape *of)
{
    training alone;
    esp_grid self;
    char *dir;
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    esp_grid_init(&self, 1, MPI_COMM_SELF);
    dir = fresh_dir("alone", true, &self);
    make_training(&alone, method, of, dir, &self);
    CU_ASSERT_EQUAL(train(&alone), ESP_OK);
    CU_ASSERT(alone.validation[12] < 0.9 * alone.result.first_validation_loss); /* it learns */
    CU_ASSERT(alone.validation[4] > 0 && alone.validation[5] < 0);
    for (int stages = 1; stages <= size; stages++) {
        if (size % stages == 0) {
            check_ranks(&alone, (size_t)stages);
        }
    }
    free(alone.value);
    free(dir);
    esp_grid_free(&self);
}

static void test_ranks(void)
{
    for (int i = 0; i < 2; i++) {
        check_grids(ESP_METHOD_LORA, &shapes[i]);
        check_grids(ESP_METHOD_FULL, &shapes[i]);
    }
}

/* ---- a teacher --------------------------------------------------------------------------------- */

static void teach(training *t, const shape *teacher, double ratio)
{
    t->teacher = teacher;
    t->options.kd_ratio = ratio;
    t->options.kd_temperature = 2;
}

/* One step by this process alone with that share of the teacher; its loss. */
static double first_loss(esp_method method, const shape *teacher, double ratio)
{
    training t;
    esp_grid self;
    char *dir;

    esp_grid_init(&self, 1, MPI_COMM_SELF);
    dir = fresh_dir("first", true, &self);
    make_training(&t, method, &shapes[0], dir, &self);
    teach(&t, teacher, ratio);
    t.options.steps = 1;
    t.options.dropout = 0;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    free(t.value);
    free(dir);
    esp_grid_free(&self);
    return t.loss[1];
}

/* Who is what its teacher is has nothing to learn from it but what rounding its states to bf16 adds. The
 * parts of the loss are weighed as they are to be. */
static void test_teacher_itself(void)
{
    for (int m = 0; m < 2; m++) {
        esp_method method = m ? ESP_METHOD_FULL : ESP_METHOD_LORA;
        double text = first_loss(method, NULL, 0), both = first_loss(method, &shapes[0], 0.25);
        double itself = first_loss(method, &shapes[0], 1),
               other = first_loss(method, &shapes[1], 1);

        CU_ASSERT(itself >= 0 && itself < 1e-4);
        CU_ASSERT(fabs(both - 0.75 * text) < 1e-4);
        CU_ASSERT(other > 0.01);
        CU_ASSERT_DOUBLE_EQUAL(first_loss(method, &shapes[1], 0.25), 0.75 * text + 0.25 * other,
                               1e-6 * (text + other));
    }
}

/* The same losses on all grids, of steps that use states which other ranks keep, in memory and in files. */
static void check_taught_grids(esp_method method, size_t n_steps)
{
    training alone, together;
    esp_grid self, all;
    char *dir;
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    esp_grid_init(&self, 1, MPI_COMM_SELF);
    dir = fresh_dir("alone", true, &self);
    make_training(&alone, method, &shapes[0], dir, &self);
    teach(&alone, &shapes[1], 0.6);
    alone.options.steps = n_steps;
    CU_ASSERT_EQUAL(train(&alone), ESP_OK);
    for (int stages = 1; stages <= size; stages++) {
        char *there;
        bool sent;

        if (size % stages != 0) {
            continue;
        }
        esp_grid_init(&all, 1, MPI_COMM_WORLD);
        ESP_REQUIRE(esp_grid_shape(&all, (size_t)stages) == ESP_OK);
        there = fresh_dir("together", false, &all);
        make_training(&together, method, &shapes[0], there, &all);
        teach(&together, &shapes[1], 0.6);
        together.options.steps = n_steps;
        together.options.scratch = stages % 2 ? "/tmp" : NULL;
        CU_ASSERT_EQUAL(train(&together), ESP_OK);
        compare_losses(&together, &alone, 1, 1e-5);
        sent = together.sent.bytes[ESP_SENT_TEACHER] > 0;
        CU_ASSERT(all.n_data == 1 ? !sent : sent || n_steps < 5 /* of an epoch */);
        free(together.value);
        free(there);
        esp_grid_free(&all);
    }
    free(alone.value);
    free(dir);
    esp_grid_free(&self);
}

static void test_taught_grids(void)
{
    check_taught_grids(ESP_METHOD_LORA, 12);
    check_taught_grids(ESP_METHOD_FULL, 3); /* not all of an epoch: fewer states */
}

/* States are not saved; who goes on makes the same ones. */
static void test_taught_resume(void)
{
    training whole, parts;
    esp_grid all;
    char *a, *b;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    a = fresh_dir("taught", false, &all);
    b = fresh_dir("taught-stopped", false, &all);
    make_training(&whole, ESP_METHOD_FULL, &shapes[0], a, &all);
    make_training(&parts, ESP_METHOD_FULL, &shapes[0], b, &all);
    teach(&whole, &shapes[1], 0.5);
    teach(&parts, &shapes[1], 0.5);
    CU_ASSERT_EQUAL(train(&whole), ESP_OK);
    parts.stop_after = 7;
    CU_ASSERT_EQUAL(train(&parts), ESP_ESTOPPED);
    free(parts.value);
    parts.stop_after = 0;
    CU_ASSERT_EQUAL(train(&parts), ESP_OK);
    CU_ASSERT_EQUAL(parts.first, 8);
    CU_ASSERT(memcmp(parts.value, whole.value, whole.n * sizeof(float)) == 0);
    free(parts.value);
    free(whole.value);
    free(a);
    free(b);
    esp_grid_free(&all);
}

/* ---- what is kept and sent ----------------------------------------------------------------------- */

/* Layers whose activations are kept, or computed again: the same bits. */
static void check_kept(esp_method method, size_t stages, esp_precision precision)
{
    training again, keeps;
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    ESP_REQUIRE(esp_grid_shape(&all, stages) == ESP_OK);
    dir = fresh_dir("again", false, &all);
    make_training(&again, method, &shapes[0], dir, &all);
    again.precision = precision;
    CU_ASSERT_EQUAL(train(&again), ESP_OK);
    for (size_t kept = 1; kept <= 4; kept += 3) { /* of 3 layers */
        free(dir);
        dir = fresh_dir("kept", false, &all);
        make_training(&keeps, method, &shapes[0], dir, &all);
        keeps.precision = precision;
        keeps.options.kept_layers = kept;
        CU_ASSERT_EQUAL(train(&keeps), ESP_OK);
        compare_losses(&keeps, &again, 1, 0);
        CU_ASSERT(memcmp(keeps.value, again.value, again.n * sizeof(float)) == 0);
        CU_ASSERT(keeps.result.flops < again.result.flops);
        free(keeps.value);
    }
    free(again.value);
    free(dir);
    esp_grid_free(&all);
}

static void test_kept(void)
{
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int stages = 1; stages <= size && stages <= 3; stages++) {
        if (size % stages == 0) {
            check_kept(ESP_METHOD_LORA, (size_t)stages, ESP_PRECISION_F32);
            check_kept(ESP_METHOD_FULL, (size_t)stages, ESP_PRECISION_F32);
            if (esp_test_bf16()) {
                check_kept(ESP_METHOD_LORA, (size_t)stages, ESP_PRECISION_BF16);
            }
        }
    }
}

/* What ranks keep and send is as stated, with pieces of any size. */
static void check_shares(esp_method method, size_t piece_limit, const esp_grid *all)
{
    char *dir = fresh_dir("shares", false, all);
    double moved, own[2];
    training t;

    make_training(&t, method, &shapes[0], dir, all);
    t.piece_limit = piece_limit;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    moved = 4.0 * (double)t.n * (all->size - 1);
    CU_ASSERT_DOUBLE_EQUAL(t.sent.bytes[ESP_SENT_GRADIENTS], 12 * moved, 1);
    CU_ASSERT_DOUBLE_EQUAL(t.sent.bytes[ESP_SENT_VALUES], 13 * moved, 1); /* and the best ones */
    CU_ASSERT(t.result.wait_share >= 0 && t.result.wait_share <= 1);
    own[0] = own[1] = (double)t.n_own;
    MPI_Allreduce(MPI_IN_PLACE, &own[0], 1, MPI_DOUBLE, MPI_SUM, all->world);
    MPI_Allreduce(MPI_IN_PLACE, &own[1], 1, MPI_DOUBLE, MPI_MAX, all->world);
    CU_ASSERT_EQUAL(own[0], t.n);
    CU_ASSERT(piece_limit ||
              own[1] <= (double)t.n / all->size + 5.0 * ESP_SHARE_BLOCK); /* 5 stages */
    free(t.value);
    free(dir);
}

static void test_shares(void)
{
    esp_grid all;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    check_shares(ESP_METHOD_LORA, 0, &all);
    check_shares(ESP_METHOD_FULL, 0, &all);
    check_shares(ESP_METHOD_FULL, 1500, &all);
    esp_grid_free(&all);
}

/* The cut into pieces does not change what is computed; only the norm is summed in another order. */
static void test_pieces(void)
{
    training whole, pieces;
    esp_grid all;
    char *a, *b;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    a = fresh_dir("whole-stages", false, &all);
    b = fresh_dir("pieces", false, &all);
    make_training(&whole, ESP_METHOD_FULL, &shapes[0], a, &all);
    make_training(&pieces, ESP_METHOD_FULL, &shapes[0], b, &all);
    pieces.piece_limit = 700;
    CU_ASSERT_EQUAL(train(&whole), ESP_OK);
    CU_ASSERT_EQUAL(train(&pieces), ESP_OK);
    compare_losses(&pieces, &whole, 1, 1e-5);
    free(whole.value);
    free(pieces.value);
    free(a);
    free(b);
    esp_grid_free(&all);
}

static void remove_steps(const char *dir, size_t first, size_t last, const esp_grid *all)
{
    for (size_t step = first; all->rank == 0 && step <= last; step++) {
        char *path = esp_format("%s/step-%06zu.h5", dir, step);

        CU_ASSERT(esp_file_exists(path));
        CU_ASSERT_EQUAL(esp_test_remove(path), ESP_OK);
        free(path);
    }
    MPI_Barrier(all->world);
}

/* Files written while the next step is computed hold the step that they are named after. */
static void check_saving(esp_method method, const esp_grid *all)
{
    char *a = fresh_dir("seldom", false, all), *b = fresh_dir("often", false, all);
    training seldom, often, resumed;

    make_training(&seldom, method, &shapes[0], a, all);
    make_training(&often, method, &shapes[0], b, all);
    seldom.options.save_every = 0;
    often.options.save_every = 1;
    often.options.keep = 12;
    resumed = often;
    CU_ASSERT_EQUAL(train(&seldom), ESP_OK);
    CU_ASSERT_EQUAL(train(&often), ESP_OK);
    CU_ASSERT(often.result.save_seconds > 0);
    CU_ASSERT(memcmp(often.value, seldom.value, seldom.n * sizeof(float)) == 0);
    remove_steps(b, 6, 12, all);
    CU_ASSERT_EQUAL(train(&resumed), ESP_OK);
    CU_ASSERT_EQUAL(resumed.first, 6);
    CU_ASSERT(memcmp(resumed.value, seldom.value, seldom.n * sizeof(float)) == 0);
    free(seldom.value);
    free(often.value);
    free(resumed.value);
    free(a);
    free(b);
}

static void test_saving(void)
{
    esp_grid all;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    check_saving(ESP_METHOD_LORA, &all);
    check_saving(ESP_METHOD_FULL, &all);
    esp_grid_free(&all);
}

/* No room on the disk of one rank: the training ends, and goes on from the file before. */
static void test_full_disk(void)
{
    training t, whole;
    esp_grid all;
    char *dir, *other;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("disk", false, &all);
    other = fresh_dir("no-disk", false, &all);
    make_training(&t, ESP_METHOD_FULL, &shapes[0], dir, &all);
    make_training(&whole, ESP_METHOD_FULL, &shapes[0], other, &all);
    t.options.save_every = 2;
    t.full_after = 6;
    CU_ASSERT_EQUAL(train(&t), ESP_EIO);
    limit_files(RLIM_INFINITY);
    CU_ASSERT(t.last <= 8); /* the file of step 6 was under way in step 7 */
    free(t.value);
    t.full_after = 0;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(t.first, 5);
    CU_ASSERT_EQUAL(train(&whole), ESP_OK);
    CU_ASSERT(memcmp(t.value, whole.value, whole.n * sizeof(float)) == 0);
    free(t.value);
    free(whole.value);
    free(dir);
    free(other);
    esp_grid_free(&all);
}

/* Stopped in step 7 on all ranks, resumed on the first `size` of them. */
static void check_resume(esp_method method, int size, const esp_grid *all, const training *whole)
{
    char *dir = fresh_dir("stopped", false, all);
    training stopped, resumed;
    esp_grid some;
    MPI_Comm fewer;

    make_training(&stopped, method, &shapes[0], dir, all);
    stopped.stop_after = 7;
    CU_ASSERT_EQUAL(train(&stopped), ESP_ESTOPPED);
    CU_ASSERT_EQUAL(stopped.last, 7);
    free(stopped.value);
    MPI_Comm_split(MPI_COMM_WORLD, all->rank < size ? 0 : MPI_UNDEFINED, 0, &fewer);
    if (fewer != MPI_COMM_NULL) {
        esp_grid_init(&some, 1, fewer);
        make_training(&resumed, method, &shapes[0], dir, &some);
        CU_ASSERT_EQUAL(train(&resumed), ESP_OK);
        CU_ASSERT_EQUAL(resumed.first, 8);
        CU_ASSERT_EQUAL(resumed.last, 12);
        compare_losses(&resumed, whole, 8, size == all->size ? 0 : 1e-5);
        CU_ASSERT_EQUAL(resumed.result.best_step, whole->result.best_step);
        if (size == all->size) {
            CU_ASSERT(memcmp(resumed.value, whole->value, whole->n * sizeof(float)) == 0);
        }
        free(resumed.value);
        esp_grid_free(&some);
        MPI_Comm_free(&fewer);
    }
    free(dir);
}

static void test_resume(void)
{
    const esp_method methods[] = { ESP_METHOD_LORA, ESP_METHOD_FULL };
    esp_grid all;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    for (int i = 0; i < 2; i++) {
        char *dir = fresh_dir("whole", false, &all);
        training whole;

        make_training(&whole, methods[i], &shapes[0], dir, &all);
        CU_ASSERT_EQUAL(train(&whole), ESP_OK);
        check_resume(methods[i], all.size, &all, &whole);
        check_resume(methods[i], all.size > 1 ? all.size - 1 : 1, &all, &whole);
        free(whole.value);
        free(dir);
    }
    esp_grid_free(&all);
}

/* A finished training has nothing to do but says the same. */
static void test_finished(void)
{
    training first, again;
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("finished", false, &all);
    make_training(&first, ESP_METHOD_LORA, &shapes[0], dir, &all);
    make_training(&again, ESP_METHOD_LORA, &shapes[0], dir, &all);
    CU_ASSERT_EQUAL(train(&first), ESP_OK);
    CU_ASSERT_EQUAL(train(&again), ESP_OK);
    CU_ASSERT_EQUAL(again.last, 0);
    CU_ASSERT_EQUAL(again.result.steps, 12);
    CU_ASSERT_EQUAL(again.result.train_loss, first.result.train_loss);
    CU_ASSERT_EQUAL(again.result.validation_loss, first.result.validation_loss);
    CU_ASSERT(memcmp(again.value, first.value, first.n * sizeof(float)) == 0);
    again.options.settings = "others";
    free(again.value);
    CU_ASSERT_EQUAL(train(&again), ESP_EUSAGE);
    free(first.value);
    free(again.value);
    free(dir);
    esp_grid_free(&all);
}

/* Dropout is for training: as long as the values stay, validation says the same. */
static void test_validation(void)
{
    esp_grid all;
    training t;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("validation", false, &all);
    make_training(&t, ESP_METHOD_LORA, &shapes[0], dir, &all);
    t.noise = 0.1f; /* with B = 0 dropout would do nothing */
    t.options.learning_rate = 1e-30;
    t.options.dropout = 0.5;
    t.options.steps = 1;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(t.validation[1], t.result.first_validation_loss);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

/* With an epsilon far above the gradients AdamW's first step is the clipped gradient times the rate
 * (over epsilon). Without validation the last values stay. */
static void test_clip(void)
{
    double sum = 0;
    esp_params first;
    esp_grid all;
    training t;
    small s;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("clip", false, &all);
    make_training(&t, ESP_METHOD_FULL, &shapes[1], dir, &all);
    t.options.learning_rate = t.options.epsilon = 100;
    t.options.warmup = t.options.weight_decay = t.options.validation = 0;
    t.options.clip = 0.5;
    t.options.steps = 1;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT(t.result.validation_loss < 0);
    small_init(&s, t.shape, ESP_BF16);
    esp_params_full(&first, &s.model);
    for (size_t i = 0; i < t.n; i++) {
        sum += pow((double)t.value[i] - (double)first.value[i], 2);
    }
    CU_ASSERT_DOUBLE_EQUAL(sqrt(sum), 0.5, 0.005);
    esp_params_free(&first);
    small_free(&s);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

/* The step after which a training with these validations ends; *resets: how often a better one came
 * after worse ones. */
static size_t early_end(size_t *resets, const training *t)
{
    double best = t->result.first_validation_loss;
    size_t bad = 0;

    *resets = 0;
    for (size_t i = 1; i <= t->last; i++) {
        *resets += bad > 0 && t->validation[i] < best;
        bad = t->validation[i] < best ? 0 : bad + 1;
        best = fmin(best, t->validation[i]);
        if (bad == t->options.patience) {
            return i;
        }
    }
    return t->options.steps;
}

/* A rate at which losses go up and down. */
static void test_patience(void)
{
    size_t resets;
    esp_grid all;
    training t;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("patience", false, &all);
    make_training(&t, ESP_METHOD_FULL, &shapes[1], dir, &all);
    t.options.learning_rate = 0.1;
    t.options.validate_every = 1;
    t.options.patience = 3;
    t.options.steps = MAX_STEPS;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(early_end(&resets, &t), t.last);
    CU_ASSERT(resets > 0);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

/* Uphill: the values from before the first step are the best, and it ends early. */
static void test_early_stop(void)
{
    esp_params first;
    esp_grid all;
    training t;
    small s;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("early", false, &all);
    make_training(&t, ESP_METHOD_FULL, &shapes[1], dir, &all);
    t.options.learning_rate = -1e-3;
    t.options.validate_every = 1;
    t.options.patience = 3;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(t.last, 3);
    CU_ASSERT_EQUAL(t.result.best_step, 0);
    CU_ASSERT_EQUAL(t.result.validation_loss, t.result.first_validation_loss);
    small_init(&s, t.shape, ESP_BF16);
    esp_params_full(&first, &s.model);
    CU_ASSERT(memcmp(t.value, first.value, first.n * sizeof(float)) == 0);
    esp_params_free(&first);
    small_free(&s);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

static void test_epochs(void)
{
    esp_grid all;
    training t;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("epochs", false, &all);
    make_training(&t, ESP_METHOD_LORA, &shapes[1], dir, &all);
    t.options.steps = 0;
    t.options.epochs = 2;
    t.options.batch = 16; /* 43 samples: 3 steps an epoch */
    t.options.validate_every = 0;
    CU_ASSERT_EQUAL(train(&t), ESP_OK);
    CU_ASSERT_EQUAL(t.last, 6);
    CU_ASSERT(t.validation[2] < 0 && t.validation[3] > 0 && t.validation[6] > 0);
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

static void check_refused(esp_status want, double learning_rate, double validation)
{
    esp_grid all;
    training t;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("refused", false, &all);
    make_training(&t, ESP_METHOD_FULL, &shapes[1], dir, &all);
    t.options.learning_rate = learning_rate;
    t.options.validation = validation;
    CU_ASSERT_EQUAL(train(&t), want);
    CU_ASSERT(!esp_dir_exists(dir));
    free(t.value);
    free(dir);
    esp_grid_free(&all);
}

static void test_refused(void)
{
    check_refused(ESP_EFAILED, 1e30, 0.1);
    check_refused(ESP_EUSAGE, 1e-3, 47);
}

ESP_TEST_MAIN("recovery on ranks", { "losses on one rank and on all", test_ranks },
              { "a teacher that is the student", test_teacher_itself },
              { "a teacher on all grids", test_taught_grids },
              { "a teacher, stopped and resumed", test_taught_resume },
              { "shares of ranks and what they send", test_shares },
              { "shares of ranks and what they send", test_shares }, { "kept layers", test_kept },
              { "stages in pieces", test_pieces }, { "saved while it goes on", test_saving },
              { "no room for a checkpoint", test_full_disk },
              { "stopped and resumed", test_resume }, { "finished already", test_finished },
              { "validation without dropout", test_validation }, { "clipping", test_clip },
              { "early stop keeps the best", test_early_stop }, { "patience", test_patience },
              { "epochs", test_epochs }, { "refused", test_refused })
