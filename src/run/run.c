/* run.c - what every stage asks of the run. */
#include "run_impl.h"

#include "espalier/file.h"

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

esp_status esp_run_check_stop(const esp_run *run, const char *at)
{
    int stop = run->stop && *run->stop;

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &stop, 1, MPI_INT, MPI_MAX, run->grid->world));
    return stop ? esp_fail(ESP_ESTOPPED, "stopped on request before %s; the same command goes on",
                           at)
                : ESP_OK;
}
