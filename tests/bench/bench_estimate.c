/* bench_estimate.c - the times that estimate predicts from a short measurement of the machine against those
 * of score and recovery in the same run. The value is predicted over measured, the ratio that
 * or its inverse, whichever is less than 1. */
#include "bench_work.h"
#include "espalier/estimate.h"

enum { SAMPLES = 10, LENGTH = 64, BATCH = 8, CUT = 128, MICRO_BATCH = 4 };

static char *settings[] = { "importance.units=attention,mlp",
                            "importance.criteria=element1,mix",
                            "calibration.samples=10",
                            "calibration.sequence=64",
                            "recover.steps=1",
                            "recover.batch=8",
                            "recover.micro_batch=4",
                            "recover.cutoff=128",
                            "recover.validation=0",
                            "prune.ratio=0",
                            "estimate.documents=8",
                            "cluster.write_bandwidth=1e6" };

/* What one rank measures with all cores, while the others wait. */
static esp_cluster measure(const esp_config *c, const esp_grid *grid)
{
    esp_cluster cluster = esp_cluster_of(c);

    if (grid->rank == 0) {
        esp_cluster_measure(&cluster);
    }
    bench_meet(grid);
    ESP_MPI(MPI_Bcast(&cluster, sizeof cluster, MPI_BYTE, 0, grid->world));
    return cluster;
}

static void compare(const char *what, const double *measured, const double *predicted,
                    const esp_grid *grid)
{
    double times[BENCH_REPEATS], middle;

    for (int i = 0; i < BENCH_REPEATS; i++) {
        times[i] = predicted[i] / measured[i];
    }
    middle = bench_median(times, BENCH_REPEATS);
    bench_row(what, middle, "x measured", fmin(middle, 1 / middle), "measured, or inverse", 0,
              grid);
}

static void bench(esp_model *m, const esp_config *c, const esp_grid *grid)
{
    double score[BENCH_REPEATS], recovery[BENCH_REPEATS], p_score[BENCH_REPEATS],
        p_recovery[BENCH_REPEATS];
    const esp_layout layout = { 1, (size_t)grid->size, (size_t)grid->n_threads, 1 };
    esp_samples samples = { 0 }, training = { 0 };
    esp_groups groups;
    bench_run run;
    esp_job job;

    bench_samples(&samples, m, SAMPLES, LENGTH);
    bench_samples(&training, m, BATCH, CUT);
    esp_groups_find(&groups, m);
    esp_job_init(&job, m, c);
    for (int i = 0; i < BENCH_REPEATS; i++) {
        esp_cluster cluster = measure(c, grid);
        esp_prediction p = esp_predict(&job, ESP_STAGE_SCORE, &layout, &cluster, 0);

        bench_score(&run, c->importance.criteria, m, &groups, &samples, p.kept_layers, grid);
        score[i] = SAMPLES * LENGTH / run.tok_per_second;
        p_score[i] = p.seconds;
        p = esp_predict(&job, ESP_STAGE_RECOVER, &layout, &cluster, 0);
        bench_recover(&run, m, &training, MICRO_BATCH, p.kept_layers, grid);
        recovery[i] = BATCH * CUT / run.tok_per_second;
        p_recovery[i] = p.seconds;
    }
    compare("estimate: time of score", score, p_score, grid);
    compare("estimate: time of a step", recovery, p_recovery, grid);
    esp_job_free(&job);
    esp_groups_free(&groups);
    esp_samples_free(&samples);
    esp_samples_free(&training);
}

int main(int argc, char **argv)
{
    esp_config c;
    esp_model m;
    esp_grid grid;
    int provided;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    esp_grid_init(&grid, 0, MPI_COMM_WORLD);
    ESP_REQUIRE(esp_config_load(&c, NULL, settings, sizeof settings / sizeof *settings) == ESP_OK);
    bench_model(&m, &grid);
    bench(&m, &c, &grid);
    esp_model_free(&m);
    esp_config_free(&c);
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
