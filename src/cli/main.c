/* main.c - from the command line to a command, and from its status to the exit code. */
#include <errno.h>
#include <omp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "command_impl.h"
#include "espalier/estimate.h"
#include "espalier/file.h"
#include "espalier/h5.h"
#include "espalier/isa.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/version.h"

static volatile sig_atomic_t stop_requested;

static void request_stop(int signal_number)
{
    (void)signal_number;
    stop_requested = 1;
}

/* What concerns the whole process. A batch system announces the end of the job's time with one of
 * the first two signals, which stages look for; others end at once, and leave partial files at most. A file
 * that may not become larger is an error of the write, as a full disk is. */
static void prepare_process(const esp_command *command)
{
    struct sigaction action = { .sa_handler = request_stop, .sa_flags = SA_RESTART };

    esp_mem_init();
    if (command && command->stages) {
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGUSR1, &action, NULL);
    }
    signal(SIGXFSZ, SIG_IGN);
    esp_map_watch();
    esp_h5_no_locks();
}

static esp_log_level log_level(const esp_arguments *a)
{
    return a->quiet ? ESP_LOG_QUIET : a->verbose ? ESP_LOG_DEBUG : ESP_LOG_NORMAL;
}

/* What needs no MPI, so that it works on a login node; false when MPI is needed. */
static bool answer_at_once(esp_status *st, const esp_arguments *a)
{
    const esp_local_command *local = a->command ? esp_local_command_find(a->command) : NULL;

    esp_log_init(log_level(a), true);
    if (a->help) {
        esp_print_help(a->command);
    } else if (a->version) {
        printf("espalier %s (kernels: %s)\n", esp_version(), esp_isa_name());
    } else if (local) {
        *st = local->run(a);
    } else {
        return false;
    }
    if (*st != ESP_OK) {
        fprintf(stderr, "espalier: error: %s\n", esp_error_message());
    }
    return true;
}

/* Layers that are counted from the end, of the model that a command prunes. */
static esp_status place_layers(esp_config *c, const esp_command *command)
{
    bool estimates = command->run == cmd_estimate;
    size_t n_layers = c->synth.layers;
    esp_model m = { 0 };

    if (!esp_config_counts_from_end(c) || !(estimates || (command->stages && *c->model))) {
        return ESP_OK;
    }
    if (*c->model) {
        ESP_TRY(esp_model_shape(&m, c->model));
        n_layers = m.dims.n_layers;
        esp_model_free(&m);
    }
    return esp_config_place_layers(c, n_layers);
}

/* Rank 0 reads the settings, all ranks get them. */
static esp_status share_settings(esp_config *c, const esp_arguments *a, MPI_Comm comm)
{
    int rank;
    esp_status st = ESP_OK;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    if (rank == 0) {
        st = esp_config_load(c, a->file, a->sets, a->n_sets);
        st = st == ESP_OK ? place_layers(c, esp_command_find(a->command)) : st;
        if (st != ESP_OK) {
            esp_config_free(c);
        }
    }
    ESP_TRY(esp_agree(comm, st));
    esp_config_share(c, comm);
    return ESP_OK;
}

/* More threads than processors that this process may use take turns on them. */
static void tell_threads(const esp_config *c)
{
    size_t processors = (size_t)omp_get_num_procs();

    if (c->parallel.threads > processors) {
        esp_warn("parallel.threads = %zu: rank 0 may use %zu processors, on which its threads take "
                 "turns",
                 c->parallel.threads, processors);
    }
}

static esp_status run_command(const esp_arguments *a, MPI_Comm comm)
{
    const esp_command *command = esp_command_find(a->command);
    esp_config config = { 0 };
    esp_grid grid;
    esp_status st;

    ESP_TRY(share_settings(&config, a, comm));
    esp_grid_init(&grid, (int)config.parallel.threads, comm);
    st = command->stages ? esp_choose_grid(&grid, &config) : ESP_OK;
    if (command->stages) { /* estimate is for another machine */
        tell_threads(&config);
    }
    if (st == ESP_OK) {
        st = command->run(&(esp_invocation){ .config = &config,
                                             .grid = &grid,
                                             .stop = &stop_requested,
                                             .stages = command->stages,
                                             .force = a->force });
    }
    st = esp_agree(grid.world, st);
    esp_grid_free(&grid);
    esp_config_free(&config);
    return st;
}

/* What was printed is a result too: st, or the failure of a full disk behind a redirection. */
static int finish(esp_status st)
{
    if ((fflush(stdout) != 0 || ferror(stdout)) && st == ESP_OK) {
        fprintf(stderr, "espalier: error: standard output: cannot write: %s\n", strerror(errno));
        st = ESP_EIO;
    }
    return esp_exit_code(st);
}

int main(int argc, char **argv)
{
    esp_arguments a;
    esp_status st = esp_arguments_read(&a, argc, argv);
    int provided, rank;

    st = st == ESP_OK ? esp_isa_choose(getenv("ESPALIER_ISA")) : st;
    if (st != ESP_OK || !answer_at_once(&st, &a)) {
        prepare_process(a.command ? esp_command_find(a.command) : NULL);
        ESP_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided));
        ESP_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
        esp_log_init(log_level(&a), rank == 0);
        st = esp_agree(MPI_COMM_WORLD, st); /* a wrong command line is told once */
        if (st == ESP_OK) {
            esp_isa_agree(MPI_COMM_WORLD);
            st = run_command(&a, MPI_COMM_WORLD);
        }
        MPI_Finalize();
    }
    esp_arguments_free(&a);
    return finish(st);
}
