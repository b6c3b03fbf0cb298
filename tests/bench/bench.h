/* bench.h - layers of a 1.1 G parameter model, what cblas_sgemm gives on their shapes, a row of the table.
 *
 * Letters: D model width, F MLP width, V vocabulary, n_tok rows of a batch.
 */
#ifndef ESPALIER_TEST_BENCH_H
#define ESPALIER_TEST_BENCH_H

#include <cblas.h>
#include <omp.h>
#include <time.h>

#include "espalier/clock.h"
#include "espalier/exporters.h"
#include "espalier/file.h"
#include "espalier/rng.h"
#include "espalier/synth.h"
#include "test.h"

enum { BENCH_REPEATS = 3 };

/* Layers of the bench's model, all alike: BENCH_LAYERS of 22. */
static inline size_t bench_layers(void)
{
    const char *layers = getenv("BENCH_LAYERS");

    return layers ? (size_t)strtoul(layers, NULL, 10) : 2;
}

/* The model, written once in the folder of the bench, with a head that has as small a share in the whole as
 * with 22 layers and 32000 words. Collective on grid->world. */
static inline void bench_model(esp_model *m, const esp_grid *grid)
{
    const esp_synth_options o = { .model_type = "llama",
                                  .hidden = 2048,
                                  .mlp = 5632,
                                  .layers = bench_layers(),
                                  .heads = 32,
                                  .vocab = (32000 * bench_layers() / 22 + 15) / 16 * 16,
                                  .max_positions = 512,
                                  .dtype = ESP_BF16,
                                  .std = 0.02,
                                  .rope_theta = 10000 };
    char *dir = esp_test_dir("model");
    int there = esp_dir_exists(dir);

    ESP_MPI(MPI_Bcast(&there, 1, MPI_INT, 0, grid->world));
    ESP_REQUIRE(there || esp_synth(esp_export_to(dir, "huggingface"), &o, grid->world) == ESP_OK);
    ESP_REQUIRE(esp_model_load(m, dir, grid->world) == ESP_OK);
    free(dir);
}

/* A barrier that leaves the processor to those who still work. Collective on grid->world. */
static inline void bench_meet(const esp_grid *grid)
{
    MPI_Request all_here;
    int done = 0;

    ESP_MPI(MPI_Ibarrier(grid->world, &all_here));
    while (!done) {
        nanosleep(&(struct timespec){ .tv_nsec = 500000 }, NULL);
        ESP_MPI(MPI_Test(&all_here, &done, MPI_STATUS_IGNORE));
    }
}

/* n samples of random ids. */
static inline void bench_samples(esp_samples *s, const esp_model *m, size_t n, size_t length)
{
    esp_rng r = { .key = 1 };
    int32_t *ids;

    ESP_NEW(ids, length);
    for (size_t j = 0; j < n; j++) {
        for (size_t t = 0; t < length; t++) {
            ids[t] = (int32_t)esp_rng_below(&r, m->dims.vocab);
        }
        esp_samples_add(s, ids, NULL, length);
    }
    free(ids);
}

/* How often the three products of a linear weight are executed for a batch. */
typedef struct bench_mix {
    int forward, input, weight; /* x W^T;  dy W;  dy^T x */
} bench_mix;

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static inline double bench_median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_value);
    return values[n / 2];
}

static inline float *bench_numbers(size_t n)
{
    float *x;

    ESP_NEW(x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(i % 16) - 8;
    }
    return x;
}

/* Median seconds of C [m, n] = op(A) op(B), k products an element. */
static inline double time_product(bool turn_a, bool turn_b, size_t m, size_t n, size_t k)
{
    double seconds[BENCH_REPEATS];
    float *a, *b, *c;

    a = bench_numbers(m * k);
    b = bench_numbers(n * k);
    ESP_NEW(c, m * n);
    for (int i = 0; i < BENCH_REPEATS; i++) {
        double began = esp_now();

        cblas_sgemm(CblasRowMajor, turn_a ? CblasTrans : CblasNoTrans,
                    turn_b ? CblasTrans : CblasNoTrans, esp_count(m), esp_count(n), esp_count(k), 1,
                    a, esp_count(turn_a ? m : k), b, esp_count(turn_b ? k : n), 0, c, esp_count(n));
        seconds[i] = esp_now() - began;
    }
    free(a);
    free(b);
    free(c);
    return bench_median(seconds, BENCH_REPEATS);
}

static inline double time_weight(size_t rows, size_t cols, size_t n_tok, bench_mix mix)
{
    double seconds = mix.forward * time_product(false, true, n_tok, rows, cols) +
                     mix.input * time_product(false, false, n_tok, cols, rows);

    return mix.weight ? seconds + mix.weight * time_product(true, false, rows, cols, n_tok)
                      : seconds;
}

/* FLOP/s of cblas_sgemm with the rank's threads, of all ranks until the last one is done, as its threads wait
 * for each other too: the linear weights of a block, each as often as in the model, and the head. Collective
 * on grid->world. */
static inline double bench_sgemm(const esp_model *m, size_t n_tok, bench_mix mix,
                                 const esp_grid *grid)
{
    double D = (double)m->dims.hidden, F = (double)m->dims.layer[0].mlp, V = (double)m->dims.vocab;
    double layers = (double)m->dims.n_layers, seconds;
    size_t d = m->dims.hidden, f = m->dims.layer[0].mlp;

    openblas_set_num_threads(grid->n_threads);
    ESP_MPI(MPI_Barrier(grid->world));
    seconds = layers * (4 * time_weight(d, d, n_tok, mix) + 2 * time_weight(f, d, n_tok, mix) +
                        time_weight(d, f, n_tok, mix)) +
              time_weight(m->dims.vocab, d, n_tok, mix);
    openblas_set_num_threads(1);
    omp_set_num_threads(grid->n_threads);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, grid->world));
    return grid->size * 2.0 * (double)n_tok * (layers * (4 * D * D + 3 * D * F) + D * V) *
           (mix.forward + mix.input + mix.weight) / seconds;
}

/* Largest over ranks, bytes. Collective on grid->world. */
static inline double bench_peak(const esp_grid *grid)
{
    double peak = (double)esp_peak_resident();

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &peak, 1, MPI_DOUBLE, MPI_MAX, grid->world));
    return peak;
}

typedef struct bench_run {
    double tok_per_second, flops_per_second, sgemm; /* sgemm: FLOP/s of the reference */
} bench_run;

/* One row of the table, as bench.sh reads it: a value, and its ratio to something of the same run, of which
 * more is better (NAN: none). peak in bytes, 0: none. Rank 0 prints. */
static inline void bench_row(const char *what, double value, const char *unit, double ratio,
                             const char *of, double peak, const esp_grid *grid)
{
    char to_ratio[32] = "-", to_peak[32] = "-";

    if (isfinite(ratio)) {
        snprintf(to_ratio, sizeof to_ratio, "%.3f", ratio);
    }
    if (peak > 0) {
        snprintf(to_peak, sizeof to_peak, "%.0f", peak / 1e6);
    }
    if (grid->rank == 0) {
        printf("%s\t%d\t%d\t%.4g\t%s\t%s\t%s\t%s\n", what, grid->size, grid->n_threads, value, unit,
               to_ratio, of, to_peak);
        fflush(stdout);
    }
}

/* Speed and FLOP/s as a fraction of those of a reference: medians over the runs. */
static inline void bench_print_of(const char *what, const char *of, const bench_run *runs, size_t n,
                                  double peak, const esp_grid *grid)
{
    double tok[2 * BENCH_REPEATS], share[2 * BENCH_REPEATS];

    for (size_t i = 0; i < n; i++) {
        tok[i] = runs[i].tok_per_second;
        share[i] = runs[i].flops_per_second / runs[i].sgemm;
    }
    bench_row(what, bench_median(tok, n), "tokens/s", bench_median(share, n), of, peak, grid);
}

static inline void bench_print(const char *what, const bench_run *runs, size_t n, double peak,
                               const esp_grid *grid)
{
    bench_print_of(what, "sgemm", runs, n, peak, grid);
}

#endif
