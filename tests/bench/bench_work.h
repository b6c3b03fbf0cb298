/* bench_work.h - one score and one recovery, timed: what several benches do. */
#ifndef ESPALIER_TEST_BENCH_WORK_H
#define ESPALIER_TEST_BENCH_WORK_H

#include <unistd.h>

#include "bench.h"
#include "espalier/clock.h"
#include "espalier/importance.h"
#include "espalier/recover.h"
#include "espalier/folder.h"

/* Importance of heads and neurons from all samples, the activations of so many layers kept; sets the speed
 * of run. Collective on grid->world. */
static inline void bench_score(bench_run *run, unsigned criteria, const esp_model *m,
                               const esp_groups *g, const esp_samples *samples, size_t kept_layers,
                               const esp_grid *grid)
{
    const esp_importance_options o = { .criteria = criteria,
                                       .aggregations = 1u << ESP_SUM,
                                       .kept_layers = kept_layers,
                                       .units = 1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_MLP };
    double began, seconds;
    esp_scores s;

    ESP_MPI(MPI_Barrier(grid->world));
    began = esp_now();
    ESP_REQUIRE(esp_importance_estimate(&s, m, g, samples, &o, grid) == ESP_OK);
    seconds = esp_now() - began;
    run->tok_per_second = (double)s.n_tok / seconds;
    run->flops_per_second = s.flops / seconds;
    esp_scores_free(&s);
}

/* One step of LoRA r 8 on all projections over the samples, from the start, likewise; sets the speed of run.
 * Collective on grid->world. */
static inline void bench_recover(bench_run *run, esp_model *m, const esp_samples *samples,
                                 size_t micro_batch, size_t kept_layers, const esp_grid *grid)
{
    int owner = (int)getpid(); /* of the grid's folder: grids may run beside each other */
    uint64_t projections = 0;
    char *name, *dir;
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
                              .steps = 1,
                              .batch = samples->n,
                              .micro_batch = micro_batch,
                              .kept_layers = kept_layers,
                              .keep = 1,
                              .settings = "bench" };

    ESP_MPI(MPI_Bcast(&owner, 1, MPI_INT, 0, grid->world));
    name = esp_format("recover-%d", owner);
    o.dir = dir = esp_test_dir(name);
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
    free(name);
    free(dir);
}

#endif
