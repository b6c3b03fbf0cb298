/* run.c - what every stage asks of the run. */
#include "run_impl.h"

#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/pass.h"
#include "espalier/settings.h"

char *esp_run_path(const esp_run *run, const char *name)
{
    return esp_path(run->config->run_dir, name);
}

bool esp_run_has(const esp_run *run, const char *name)
{
    int has = run->grid->rank == 0 && esp_run_dir_has(&run->dir, name);

    ESP_MPI(MPI_Bcast(&has, 1, MPI_INT, 0, run->grid->world));
    return has;
}

void esp_run_tell_kept(const esp_run *run, esp_stage s, const esp_model *m)
{
    esp_pipeline_stage stage = esp_pipeline_stage_of(m, run->grid);
    size_t n = stage.end - stage.begin;

    esp_info("%s: activations of %zu of the %zu layers of a rank stay for the backward",
             esp_stage_name(s), esp_min(run->kept_layers[s], n), n);
}

bool esp_run_is_stopped(void *ctx)
{
    const esp_run *run = ctx;

    return run->stop && *run->stop;
}

esp_status esp_run_check_stop(const esp_run *run, const char *at)
{
    int stop = run->stop && *run->stop;

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &stop, 1, MPI_INT, MPI_MAX, run->grid->world));
    return stop ? esp_fail(ESP_ESTOPPED, "stopped on request before %s; the same command goes on",
                           at)
                : ESP_OK;
}
