/* small_training.h - trainings of a small model for tests: on any grid, stopped and resumed. */
#ifndef ESPALIER_TEST_SMALL_TRAINING_H
#define ESPALIER_TEST_SMALL_TRAINING_H

#include <signal.h>
#include <sys/resource.h>

#include "espalier/file.h"
#include "espalier/recover.h"
#include "espalier/traffic.h"
#include "small_model.h"

enum { MAX_STEPS = 32 };

static const shape shapes[] = { { .type = "llama",
                                  .layers = 3,
                                  .hidden = 24,
                                  .heads = 4,
                                  .kv_heads = 2,
                                  .head_dim = 6,
                                  .mlp = 32,
                                  .vocab = 26,
                                  .tied = true },
                                { .type = "qwen2",
                                  .layers = 2,
                                  .hidden = 16,
                                  .heads = 2,
                                  .kv_heads = 2,
                                  .head_dim = 8,
                                  .mlp = 20,
                                  .vocab = 26 } };

/* One training and what it reported. */
typedef struct training {
    esp_recover_options options;
    const shape *shape;
    const esp_grid *grid;
    const shape *teacher; /* NULL: none. Its weights are those of small_init */
    float noise;          /* of what is added to the first values */
    size_t piece_limit;   /* numbers of a piece; 0: as it is */
    esp_precision precision;
    size_t odd;        /* sample whose loss is never finite; 0: none. For LoRA of LLaMA's queries */
    size_t n_samples;  /* 0: 47 */
    size_t stop_after; /* the last rank asks to stop in this step; 0: never */
    size_t stop_at_report; /* the same in the step reported as the so many'th */
    size_t full_after;     /* the last rank's disk is full from this step on; 0: never */
    volatile int stop;
    size_t first, last; /* steps reported */
    double loss[MAX_STEPS + 1], validation[MAX_STEPS + 1], rate[MAX_STEPS + 1];
    size_t reports, skipped, rollbacks, back_from, back_to; /* reported */
    esp_recover_result result;
    esp_traffic sent; /* by all ranks */
    float *value;     /* [n] after the training; owned */
    size_t n, n_own;
} training;

/* Files of this process may have so many bytes. */
static inline void limit_files(rlim_t n)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN); /* writing fails instead */
    ESP_REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = n < limit.rlim_max ? n : limit.rlim_max;
    ESP_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static inline void report(void *ctx, const esp_recover_news *news)
{
    training *t = ctx;
    size_t step = news->step;

    CU_ASSERT(step <= news->steps && news->steps <= MAX_STEPS);
    if (news->event == ESP_ROLLED_BACK) {
        t->rollbacks++;
        t->back_to = step;
        t->back_from = news->from;
        CU_ASSERT(step < news->from);
        return;
    }
    CU_ASSERT(step >= 1 && news->rate != 0);
    t->skipped += news->event == ESP_STEP_SKIPPED;
    t->first = t->first ? t->first : step;
    t->last = step;
    t->loss[step] = news->loss;
    t->rate[step] = news->rate;
    t->validation[step] = news->validation_loss;
    t->reports++;
    /* asked for between two steps, so seen in the next */
    t->stop = (step + 1 == t->stop_after || t->reports + 1 == t->stop_at_report) &&
              t->grid->rank == t->grid->size - 1;
    if (step == t->full_after && t->grid->rank == t->grid->size - 1) {
        limit_files(16384); /* less than any checkpoint here */
    }
}

static inline esp_recover_options options(esp_method method, const char *dir)
{
    return (esp_recover_options){ .method = method,
                                  .rank = 4,
                                  .alpha = 8,
                                  .dropout = 0.1,
                                  .targets = UINT64_MAX,
                                  .learning_rate = method == ESP_METHOD_LORA ? 2e-2 : 5e-3,
                                  .warmup = 3,
                                  .beta1 = 0.9,
                                  .beta2 = 0.999,
                                  .epsilon = 1e-8,
                                  .weight_decay = 0.01,
                                  .clip = 1,
                                  .steps = 12,
                                  .batch = 9, /* 43 to train on: the last batch of an epoch has 7 */
                                  .micro_batch = 2,
                                  .validation = 0.1,
                                  .validate_every = 4,
                                  .save_every = 5,
                                  .keep = 2,
                                  .checkpoint_overlap = true,
                                  .seed = 6,
                                  .dir = dir,
                                  .settings = "settings" };
}

static inline void add_noise(esp_params *p, float noise)
{
    esp_rng r = { .key = 2 };

    for (size_t i = 0; i < p->n; i++) {
        p->value[i] += noise * (float)esp_rng_normal(&r);
    }
}

/* Runs it from a fresh model, resuming where its folder says. */
static inline esp_status train(training *t)
{
    size_t odd_token = t->shape->vocab - 1;
    esp_samples samples =
        small_samples(t->n_samples ? t->n_samples : 47, 16, t->shape->vocab - (t->odd > 0));
    esp_traffic then = esp_traffic_now();
    esp_adapter adapter;
    esp_params params;
    esp_status st;
    small s, teacher = { 0 };

    small_init(&s, t->shape, ESP_BF16);
    if (t->teacher) {
        small_init(&teacher, t->teacher, ESP_BF16);
        t->options.teacher = &teacher.model;
    }
    s.model.precision = t->precision;
    if (t->odd) {
        small_plant(&s, 0, odd_token);
        samples.ids[samples.start[t->odd]] = (int32_t)odd_token;
    }
    esp_recover_prepare(&params, &adapter, &s.model, &t->options);
    add_noise(&params, t->noise);
    params.piece_limit = t->piece_limit;
    t->first = t->last = t->reports = t->skipped = t->rollbacks = 0;
    t->stop = 0;
    st = esp_recover(&params, &t->result, &s.model, &adapter, &samples, &t->options, report, t,
                     &t->stop, t->grid);
    t->sent = esp_traffic_since(&then, t->grid->world);
    t->n = params.n;
    t->n_own = params.n_own;
    t->value = params.value;
    params.value = NULL;
    esp_params_free(&params);
    esp_adapter_free(&adapter);
    small_free(&s);
    small_free(&teacher);
    esp_samples_free(&samples);
    return st;
}

/* A folder of this name without files; own: one for each rank. */
static inline char *fresh_dir(const char *name, bool own, const esp_grid *grid)
{
    char *root = esp_test_dir("recover"), *dir;
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    dir = esp_format("%s-%s-%d", root, name, own ? rank : 0);
    ESP_REQUIRE(esp_agree(grid->world, grid->rank == 0 ? esp_test_remove(dir) : ESP_OK) == ESP_OK);
    free(root);
    return dir;
}

static inline void make_training(training *t, esp_method method, const shape *of, const char *dir,
                                 const esp_grid *grid)
{
    *t = (training){ .options = options(method, dir), .shape = of, .grid = grid };
}

static inline void compare_losses(const training *a, const training *b, size_t from, double tol)
{
    for (size_t i = from; i <= a->last; i++) {
        CU_ASSERT(esp_test_close(&a->loss[i], &b->loss[i], 1, b->loss[i], tol));
        CU_ASSERT(
            esp_test_close(&a->validation[i], &b->validation[i], 1, fabs(b->validation[i]), tol));
    }
}

#endif
