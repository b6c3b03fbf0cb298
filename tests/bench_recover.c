/* bench_recover.c - LoRA, a step of 8 samples of 128 tokens. */
#include "bench.h"
#include "espalier/recover.h"

enum { STEPS = 1, BATCH = 8, MICRO_BATCH = 4, LENGTH = 128 };

/* Steps of one call, from the start each time. */
static void recover(bench_run *run, esp_model *m, const esp_samples *samples, const esp_grid *grid)
{
    char *dir = esp_test_dir("recover");
    uint64_t projections = 0;
    esp_recover_result result;
    esp_adapter adapter;
    esp_params params;
    esp_recover_options o = { .method = ESP_METHOD_LORA,
                              .rank = 8,
                              .alpha = 16,
                              .dropout = 0.05,
                              .learning_rate = 1e-4,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .epsilon = 1e-8,
                              .clip = 1,
                              .steps = STEPS,
                              .batch = BATCH,
                              .micro_batch = MICRO_BATCH,
                              .keep = 1,
                              .dir = dir,
                              .settings = "bench" };

    for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
        projections |= m->arch->slots[slot].cols == ESP_W_ONE ? 0 : UINT64_C(1) << slot;
    }
    o.targets = projections;
    ESP_REQUIRE(grid->rank != 0 || esp_remove(dir) == ESP_OK);
    ESP_MPI(MPI_Barrier(grid->world));
    esp_recover_prepare(&params, &adapter, m, &o);
    ESP_REQUIRE(esp_recover(&params, &result, m, &adapter, samples, &o, NULL, NULL, NULL, grid) ==
                ESP_OK);
    run->tok_per_second = result.tok_per_second;
    run->flops_per_second = result.flops / result.seconds;
    esp_adapter_free(&adapter);
    esp_params_free(&params);
    free(dir);
}

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
    bench_samples(&samples, &m, STEPS * BATCH, LENGTH);
    for (int i = 0; i < BENCH_REPEATS; i++) {
        recover(&runs[i], &m, &samples, &grid);
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
