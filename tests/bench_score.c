/* bench_score.c - importance from 10 samples of 64 tokens. */
#include "bench_work.h"

enum { SAMPLES = 10, LENGTH = 64 };

/* What a rank's share of the samples is as one batch. */
static size_t local_tokens(const esp_grid *grid)
{
    return (size_t)(SAMPLES / grid->n_data) * LENGTH;
}

static void score(const char *what, unsigned criteria, const esp_model *m, const esp_groups *g,
                  const esp_samples *samples, const esp_grid *grid)
{
    bench_run runs[BENCH_REPEATS];
    double peak = 0;

    for (int i = 0; i < BENCH_REPEATS; i++) {
        bench_score(&runs[i], criteria, m, g, samples, grid);
        peak = i == 0 ? bench_peak(grid) : peak; /* before the reference needs memory */
        runs[i].sgemm = bench_sgemm(m, local_tokens(grid), (bench_mix){ 2, 1, 1 }, grid);
    }
    bench_print(what, runs, BENCH_REPEATS, peak, grid);
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
    score("score element1", 1u << ESP_ELEMENT1, &m, &groups, &samples, &grid);
    score("score element1+mix", 1u << ESP_ELEMENT1 | 1u << ESP_MIX, &m, &groups, &samples, &grid);
    esp_groups_free(&groups);
    esp_samples_free(&samples);
    esp_model_free(&m);
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
