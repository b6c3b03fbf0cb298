/* bench_score.c - importance from 10 samples of 64 tokens. */
#include "bench_work.h"

enum { SAMPLES = 10, LENGTH = 64 };

/* What a rank's share of the samples is as one batch. */
static size_t local_tokens(const esp_grid *grid)
{
    return (size_t)(SAMPLES / grid->n_data) * LENGTH;
}

/* Sets of criteria: G alone, F beside it, both. */
enum { FIRST, SECOND, BOTH, N_SETS };

/* Runs take turns, so that all sets meet the same machine; the first of each warms up. */
static void score(const esp_model *m, const esp_groups *g, const esp_samples *samples,
                  const esp_grid *grid)
{
    const unsigned sets[N_SETS] = { 1u << ESP_ELEMENT1, 1u << ESP_ELEMENT2,
                                    1u << ESP_ELEMENT1 | 1u << ESP_MIX };
    const char *const names[N_SETS] = { "score element1", "score element2", "score element1+mix" };
    bench_run run[N_SETS][BENCH_REPEATS];
    double peak[N_SETS];

    for (int k = 0; k < N_SETS; k++) {
        bench_score(&run[k][0], sets[k], m, g, samples, grid);
        peak[k] = bench_peak(grid); /* before the reference needs memory */
    }
    for (int i = 0; i < BENCH_REPEATS; i++) {
        double sgemm;

        for (int k = 0; k < N_SETS; k++) {
            bench_score(&run[k][i], sets[k], m, g, samples, grid);
        }
        sgemm = bench_sgemm(m, local_tokens(grid), (bench_mix){ 2, 1, 1 }, grid);
        for (int k = 0; k < N_SETS; k++) {
            run[k][i].sgemm = sgemm;
        }
    }
    for (int k = 0; k < N_SETS; k++) {
        bench_print(names[k], run[k], BENCH_REPEATS, peak[k], grid);
    }
    for (int k = SECOND; k < N_SETS; k++) {
        for (int i = 0; i < BENCH_REPEATS; i++) {
            run[k][i].sgemm = run[FIRST][i].flops_per_second;
        }
        bench_print_of(names[k], names[FIRST], run[k], BENCH_REPEATS, 0, grid);
    }
}

int main(int argc, char **argv)
{
    esp_samples samples = { 0 };
    esp_groups groups;
    esp_model m;
    esp_grid grid;
    int provided;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    esp_grid_init(&grid, 0, MPI_COMM_WORLD);
    bench_model(&m, &grid);
    bench_samples(&samples, &m, SAMPLES, LENGTH);
    esp_groups_find(&groups, &m);
    score(&m, &groups, &samples, &grid);
    esp_groups_free(&groups);
    esp_samples_free(&samples);
    esp_model_free(&m);
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
