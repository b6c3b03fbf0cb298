/* bench_score.c - importance from 10 samples of 64 tokens. */
#include "bench_work.h"

enum { SAMPLES = 10, LENGTH = 64 };

/* What a rank's share of the samples is as one batch. */
static size_t local_tokens(const esp_grid *grid)
{
    return (size_t)(SAMPLES / grid->n_data) * LENGTH;
}

/* Runs take turns, so that G alone and G with F meet the same machine; the first warms up. */
static void score(const esp_model *m, const esp_groups *g, const esp_samples *samples,
                  const esp_grid *grid)
{
    const unsigned first_order = 1u << ESP_ELEMENT1, both = first_order | 1u << ESP_MIX;
    bench_run one[BENCH_REPEATS], two[BENCH_REPEATS], price[BENCH_REPEATS];
    double peak, peak_both;

    bench_score(&one[0], first_order, m, g, samples, grid);
    peak = bench_peak(grid); /* before the reference needs memory */
    bench_score(&two[0], both, m, g, samples, grid);
    peak_both = bench_peak(grid);
    for (int i = 0; i < BENCH_REPEATS; i++) {
        bench_score(&one[i], first_order, m, g, samples, grid);
        bench_score(&two[i], both, m, g, samples, grid);
        one[i].sgemm = two[i].sgemm =
            bench_sgemm(m, local_tokens(grid), (bench_mix){ 2, 1, 1 }, grid);
        price[i] = two[i];
        price[i].sgemm = one[i].flops_per_second;
    }
    bench_print("score element1", one, BENCH_REPEATS, peak, grid);
    bench_print("score element1+mix", two, BENCH_REPEATS, peak_both, grid);
    bench_print_of("score element1+mix", "score element1", price, BENCH_REPEATS, 0, grid);
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
