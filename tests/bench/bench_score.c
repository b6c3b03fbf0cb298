/* bench_score.c - importance from 10 samples of 64 tokens. */
#include "bench_work.h"

enum { SAMPLES = 10, LENGTH = 64, N_RUNS = 5 };

/* The products of a rank's share of the samples as one batch. */
static double reference(const esp_model *m, const esp_grid *grid)
{
    return bench_sgemm(m, (size_t)(SAMPLES / grid->n_data) * LENGTH, (bench_mix){ 2, 1, 1 }, grid);
}

/* Sets of criteria: G alone, F beside it, both; gates, without gradients of weights. */
enum { FIRST, SECOND, BOTH, GATES, N_SETS };

/* Runs take turns, so that all sets meet the same machine, each between two of the reference; the first of
 * each warms up. */
static void score(const esp_model *m, const esp_groups *g, const esp_samples *samples,
                  const esp_grid *grid)
{
    const unsigned sets[N_SETS] = { 1u << ESP_ELEMENT1, 1u << ESP_ELEMENT2,
                                    1u << ESP_ELEMENT1 | 1u << ESP_MIX,
                                    1u << ESP_GATE1 | 1u << ESP_GATE2 };
    const char *const names[N_SETS] = { "score element1", "score element2", "score element1+mix",
                                        "score gate1+gate2" };
    bench_run run[N_SETS][N_RUNS];
    double peak[N_SETS], before;

    for (int k = 0; k < N_SETS; k++) {
        bench_score(&run[k][0], sets[k], m, g, samples, 0, grid);
        peak[k] = bench_peak(grid); /* before the reference needs memory */
    }
    before = reference(m, grid);
    for (int i = 0; i < N_RUNS; i++) {
        for (int k = 0; k < N_SETS; k++) {
            double after;

            bench_score(&run[k][i], sets[k], m, g, samples, 0, grid);
            after = reference(m, grid);
            run[k][i].sgemm = (before + after) / 2;
            before = after;
        }
    }
    for (int k = 0; k < N_SETS; k++) {
        bench_print(names[k], run[k], N_RUNS, peak[k], grid);
    }
    for (int k = SECOND; k < N_SETS; k++) {
        for (int i = 0; i < N_RUNS; i++) {
            run[k][i].sgemm = run[FIRST][i].flops_per_second;
            if (k == GATES) { /* they have fewer operations: samples count */
                run[k][i].sgemm = run[FIRST][i].tok_per_second;
                run[k][i].flops_per_second = run[k][i].tok_per_second;
            }
        }
        bench_print_of(names[k], names[FIRST], run[k], N_RUNS, 0, grid);
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
