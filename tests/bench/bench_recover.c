/* bench_recover.c - LoRA, a step of 8 samples of 128 tokens: activations computed again, and kept. */
#include "bench_work.h"

enum { BATCH = 8, MICRO_BATCH = 4, LENGTH = 128 };

static void print_speedup(bench_run *kept, const bench_run *again, double peak,
                          const esp_grid *grid)
{
    for (int i = 0; i < BENCH_REPEATS; i++) {
        kept[i].flops_per_second = kept[i].tok_per_second;
        kept[i].sgemm = again[i].tok_per_second;
    }
    bench_print_of("recover LoRA r 8, activations kept", "computed again", kept, BENCH_REPEATS,
                   peak, grid);
}

int main(int argc, char **argv)
{
    bench_run again[BENCH_REPEATS], kept[BENCH_REPEATS];
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
        bench_recover(&again[i], &m, &samples, MICRO_BATCH, 0, &grid);
        peak = i == 0 ? bench_peak(&grid) : peak; /* before the others need memory */
        again[i].sgemm = kept[i].sgemm =
            bench_sgemm(&m, (size_t)MICRO_BATCH * LENGTH, (bench_mix){ 2, 1, 0 }, &grid);
        bench_recover(&kept[i], &m, &samples, MICRO_BATCH, SIZE_MAX, &grid);
    }
    bench_print("recover LoRA r 8", again, BENCH_REPEATS, peak, &grid);
    peak = bench_peak(&grid);
    bench_print("recover LoRA r 8, activations kept", kept, BENCH_REPEATS, peak, &grid);
    print_speedup(kept, again, peak, &grid);
    esp_samples_free(&samples);
    esp_model_free(&m);
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
