/* bench_recover.c - LoRA, a step of 8 samples of 128 tokens. */
#include "bench_work.h"

enum { BATCH = 8, MICRO_BATCH = 4, LENGTH = 128 };

int main(int argc, char **argv)
{
    bench_run runs[BENCH_REPEATS];
    esp_samples samples = { 0 };
    double peak = 0;
    esp_model m;
    esp_grid grid;
    int provided;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    esp_grid_init(&grid, 0, MPI_COMM_WORLD);
    bench_model(&m, &grid);
    bench_samples(&samples, &m, BATCH, LENGTH);
    for (int i = 0; i < BENCH_REPEATS; i++) {
        bench_recover(&runs[i], &m, &samples, MICRO_BATCH, &grid);
        peak = i == 0 ? bench_peak(&grid) : peak; /* before the reference needs memory */
        runs[i].sgemm =
            bench_sgemm(&m, (size_t)MICRO_BATCH * LENGTH, (bench_mix){ 2, 1, 0 }, &grid);
    }
    bench_print("recover LoRA r 8", runs, BENCH_REPEATS, peak, &grid);
    esp_samples_free(&samples);
    esp_model_free(&m);
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
