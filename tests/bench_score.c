/* bench_score.c - importance from 10 samples of 64 tokens. */
#include "bench.h"
#include "espalier/importance.h"

enum { SAMPLES = 10, LENGTH = 64 };

/* What a rank's share of the samples is as one batch. */
static size_t local_tokens(const esp_grid *grid)
{
    return (size_t)(SAMPLES / grid->n_data) * LENGTH;
}

static void score(const char *what, unsigned criteria, const esp_model *m, const esp_groups *g,
                  const esp_samples *samples, const esp_grid *grid)
{
    const esp_importance_options o = { .criteria = criteria,
                                       .aggregations = 1u << ESP_SUM,
                                       .units = 1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_MLP };
    bench_run runs[BENCH_REPEATS];
    double peak = 0;

    for (int i = 0; i < BENCH_REPEATS; i++) {
        esp_scores s;
        double began, seconds;

        ESP_MPI(MPI_Barrier(grid->world));
        began = esp_now();
        ESP_REQUIRE(esp_importance_estimate(&s, m, g, samples, &o, grid) == ESP_OK);
        seconds = esp_now() - began;
        peak = i == 0 ? bench_peak(grid) : peak; /* before the reference needs memory */
        runs[i].tok_per_second = (double)s.n_tok / seconds;
        runs[i].flops_per_second = s.flops / seconds;
        esp_scores_free(&s);
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
