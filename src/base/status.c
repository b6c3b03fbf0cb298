/* status.c - the error slot and agreement between ranks. */
#include "espalier/status.h"

#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int exit_codes[ESP_N_STATUS] = {
    [ESP_OK] = 0,  [ESP_EUSAGE] = 2,  [ESP_EFORMAT] = 2,
    [ESP_EIO] = 1, [ESP_EFAILED] = 1, [ESP_ESTOPPED] = 75,
};

static char slot[2048];

int esp_exit_code(esp_status st)
{
    return exit_codes[st];
}

esp_status esp_fail(esp_status st, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(slot, sizeof slot, fmt, args);
    va_end(args);
    return st;
}

esp_status esp_fail_in(esp_status st, const char *fmt, ...)
{
    char inner[sizeof slot];
    va_list args;
    int n;

    memcpy(inner, slot, sizeof slot);
    va_start(args, fmt);
    n = vsnprintf(slot, sizeof slot, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof slot) { /* cut where both are too long */
        snprintf(slot + n, sizeof slot - (size_t)n, ": %.*s", (int)sizeof slot - n, inner);
    }
    return st;
}

const char *esp_error_message(void)
{
    return slot;
}

void esp_error_clear(void)
{
    slot[0] = '\0';
}

/* What only other ranks than the first have met may be a matter of their host. */
static void tell(int status, int rank)
{
    char host[MPI_MAX_PROCESSOR_NAME];
    int n;

    fprintf(stderr, "espalier: %s", status == ESP_ESTOPPED ? "" : "error: ");
    if (rank > 0) {
        ESP_MPI(MPI_Get_processor_name(host, &n));
        fprintf(stderr, "rank %d (host %s): ", rank, host);
    }
    fprintf(stderr, "%s\n", slot);
    fflush(stderr);
}

esp_status esp_agree(MPI_Comm comm, esp_status st)
{
    int rank, size, first, agreed = (int)st;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    ESP_MPI(MPI_Comm_size(comm, &size));
    first = st == ESP_OK ? size : rank;
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, comm));
    if (first == size) {
        return ESP_OK;
    }
    ESP_MPI(MPI_Bcast(&agreed, 1, MPI_INT, first, comm));
    if (rank == first && slot[0]) {
        tell(agreed, rank);
    }
    esp_error_clear(); /* told once, or another rank's to tell */
    return (esp_status)agreed;
}

static void give_up(int signal_number)
{
    (void)signal_number;
    _exit(1);
}

void esp_end_job(void)
{
    int running = 0, over = 0, size = 1;

    signal(SIGALRM, give_up); /* where MPI itself is stuck */
    alarm(10);
    MPI_Initialized(&running);
    MPI_Finalized(&over);
    if (running && !over) {
        MPI_Comm_size(MPI_COMM_WORLD, &size);
    }
    if (size > 1) {
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    _exit(1);
}

void esp_bug(const char *file, int line, const char *fmt, ...)
{
    int rank = -1, running = 0, over = 0;
    va_list args;

    MPI_Initialized(&running);
    MPI_Finalized(&over);
    running = running && !over;
    if (running) {
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    }
    fprintf(stderr, "espalier: rank %d: %s:%d: ", rank, file, line);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(stderr);
    if (running) {
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    abort();
}
