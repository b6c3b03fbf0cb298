/* bench_checkpoint.c - checkpoints against dd of the same size, and what they cost a step of training.
 *
 * Each way to write one: by parallel HDF5 in a thread beside the step, the same before the step goes on, as
 * without MPI_THREAD_MULTIPLE, and by plain writes of each rank. The rate over that of dd with fsync just
 * before and after; the time of a step that writes none, over that of a step that writes one; the share of
 * the time of steps that ranks do not spend in MPI.
 */
#include "bench.h"
#include "espalier/exporters.h"
#include "espalier/checkpoint.h"
#include "espalier/clock.h"
#include "espalier/recover.h"
#include "espalier/folder.h"

enum { WRITES = 6, PAIRS = 3, STEPS = 3, BATCH = 4, LENGTH = 128 };

#define NUMBERS ((size_t)48 << 20) /* of a vector: the file has 4 of them, 805 MB */

/* ---- rate of writing --------------------------------------------------------------------------- */

/* Seconds of rank 0's dd; the same on all ranks. */
static double time_dd(const char *dir, size_t bytes, const esp_grid *grid)
{
    char *file = esp_format("%s/dd", dir);
    char *command = esp_format("dd if=/dev/zero of=%s bs=8M count=%zu conv=fsync 2> /dev/null",
                               file, bytes >> 23);
    double began, seconds = 0;

    if (grid->rank == 0) {
        ESP_REQUIRE(esp_mkdirs(dir) == ESP_OK);
        began = esp_now();
        ESP_REQUIRE(system(command) == 0);
        seconds = esp_now() - began;
        ESP_REQUIRE(esp_remove(file) == ESP_OK);
    }
    bench_meet(grid);
    ESP_MPI(MPI_Bcast(&seconds, 1, MPI_DOUBLE, 0, grid->world));
    free(command);
    free(file);
    return seconds;
}

static double time_checkpoint(esp_checkpoint *c, size_t step)
{
    double began;

    ESP_MPI(MPI_Barrier(c->grid->world));
    began = esp_now();
    ESP_REQUIRE(esp_checkpoint_begin(c, &(esp_training){ .step = step }) == ESP_OK);
    bench_meet(c->grid); /* as a training computes on meanwhile */
    ESP_REQUIRE(esp_checkpoint_finish(c) == ESP_OK);
    return esp_now() - began;
}

static void make_params(esp_params *p, const esp_grid *grid)
{
    *p = (esp_params){ .n = NUMBERS, .n_stages = 1 };
    ESP_NEW(p->stage, 2);
    p->stage[1] = NUMBERS;
    ESP_NEW(p->value, NUMBERS);
    esp_params_train(p, NULL, grid->rank, grid->size);
    for (size_t i = 0; i < NUMBERS; i++) {
        p->value[i] = (float)i;
    }
    for (size_t i = 0; i < p->n_own; i++) {
        p->m[i] = p->v[i] = p->best[i] = (float)i;
    }
}

typedef struct way {
    const char *name;
    esp_file_io io;
    bool waits;
} way;

static const way ways[] = { { "parallel HDF5", ESP_IO_MPIO, false },
                            { "parallel HDF5, waits", ESP_IO_MPIO, true },
                            { "direct", ESP_IO_DIRECT, false } };

enum { N_WAYS = sizeof ways / sizeof *ways };

static void row(const char *what, const way *w, double value, const char *unit, double ratio,
                const char *of, const esp_grid *grid)
{
    char *name = esp_format("%s, %s", what, w->name);

    bench_row(name, value, unit, ratio, of, 0, grid);
    free(name);
}

/* The ways in turn, each between two readings of dd. */
static void bench_writing(const esp_grid *grid)
{
    double rate[N_WAYS][WRITES], of_dd[N_WAYS][WRITES], bytes = 16.0 * NUMBERS;
    char *dir = esp_test_dir("checkpoints");
    size_t step = 1;
    esp_checkpoint c;
    esp_params p;

    make_params(&p, grid);
    c = (esp_checkpoint){ .dir = dir, .settings = "bench", .keep = 1, .params = &p, .grid = grid };
    time_dd(dir, (size_t)bytes, grid); /* the first of all is slower */
    time_checkpoint(&c, step);
    for (size_t i = 0; i < WRITES; i++) {
        for (size_t k = 0; k < N_WAYS; k++) {
            double before = time_dd(dir, (size_t)bytes, grid), ours, dd;

            c.io = ways[k].io;
            c.waits = ways[k].waits;
            ours = time_checkpoint(&c, ++step);
            dd = (before + time_dd(dir, (size_t)bytes, grid)) / 2;
            rate[k][i] = bytes / 1e6 / ours;
            of_dd[k][i] = dd / ours;
        }
    }
    for (size_t k = 0; k < N_WAYS; k++) {
        row("checkpoint of 805 MB", &ways[k], bench_median(rate[k], WRITES), "MB/s",
            bench_median(of_dd[k], WRITES), "dd with fsync", grid);
    }
    ESP_REQUIRE(grid->rank != 0 || esp_remove(dir) == ESP_OK);
    esp_params_free(&p);
    free(dir);
}

/* ---- cost to a step ---------------------------------------------------------------------------- */

typedef struct steps {
    double at[STEPS + 1]; /* when step i was done */
} steps;

static void note_step(void *ctx, const esp_recover_news *news)
{
    ((steps *)ctx)->at[news->step] = esp_now();
}

/* 42 M parameters in enough layers to hide sums behind: a checkpoint of 680 MB. */
static void load_model(esp_model *m, const esp_grid *grid)
{
    const esp_synth_options o = { .model_type = "llama",
                                  .hidden = 512,
                                  .mlp = 1408,
                                  .layers = 12,
                                  .heads = 8,
                                  .vocab = 4000,
                                  .max_positions = LENGTH,
                                  .dtype = ESP_BF16,
                                  .std = 0.02,
                                  .rope_theta = 10000 };
    char *dir = esp_test_dir("deep-model");

    ESP_REQUIRE(esp_synth(esp_export_to(dir, "huggingface"), &o, grid->world) == ESP_OK);
    ESP_REQUIRE(esp_model_load(m, dir, grid->world) == ESP_OK);
    free(dir);
}

/* Seconds of a step of a training of all weights, the first one aside. *waits: share of time in MPI. */
static double time_step(double *waits, size_t save_every, const way *by, const esp_grid *grid)
{
    char *dir = esp_test_dir("training");
    esp_samples samples = { 0 };
    esp_recover_result result;
    esp_adapter adapter;
    esp_params params;
    esp_model m;
    steps s;
    esp_recover_options o = { .method = ESP_METHOD_FULL,
                              .learning_rate = 1e-4,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .epsilon = 1e-8,
                              .clip = 1,
                              .steps = STEPS,
                              .batch = BATCH,
                              .micro_batch = BATCH,
                              .save_every = save_every,
                              .keep = 1,
                              .dir = dir,
                              .settings = "bench",
                              .checkpoint_io = by->io,
                              .checkpoint_overlap = !by->waits };

    ESP_REQUIRE(grid->rank != 0 || esp_remove(dir) == ESP_OK);
    load_model(&m, grid);
    bench_samples(&samples, &m, BATCH, LENGTH);
    esp_recover_prepare(&params, &adapter, &m, &o);
    ESP_REQUIRE(esp_recover(&params, &result, &m, &adapter, &samples, &o, note_step, &s, NULL,
                            grid) == ESP_OK);
    *waits = result.wait_share;
    esp_adapter_free(&adapter);
    esp_params_free(&params);
    esp_model_free(&m);
    esp_samples_free(&samples);
    ESP_REQUIRE(grid->rank != 0 || esp_remove(dir) == ESP_OK);
    free(dir);
    return (s.at[STEPS] - s.at[1]) / (STEPS - 1);
}

static void bench_steps(const esp_grid *grid)
{
    double plain[PAIRS + 1], saving[N_WAYS][PAIRS], ratio[N_WAYS][PAIRS], waits[PAIRS + 1], unused;

    plain[0] = time_step(&waits[0], 0, ways, grid);
    for (int i = 0; i < PAIRS; i++) {
        for (size_t k = 0; k < N_WAYS; k++) {
            saving[k][i] = time_step(&unused, 1, &ways[k], grid);
        }
        plain[i + 1] = time_step(&waits[i + 1], 0, ways, grid);
        for (size_t k = 0; k < N_WAYS; k++) {
            ratio[k][i] = (plain[i] + plain[i + 1]) / 2 / saving[k][i];
        }
    }
    for (size_t k = 0; k < N_WAYS; k++) {
        row("a step with checkpoint", &ways[k], bench_median(saving[k], PAIRS), "s",
            bench_median(ratio[k], PAIRS), "a step without", grid);
    }
    bench_row("full training, outside MPI", bench_median(plain, PAIRS), "s a step",
              1 - bench_median(waits, PAIRS), "the step", 0, grid);
}

int main(int argc, char **argv)
{
    esp_grid grid;
    int provided;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    esp_grid_init(&grid, 0, MPI_COMM_WORLD);
    bench_writing(&grid);
    bench_steps(&grid);
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
