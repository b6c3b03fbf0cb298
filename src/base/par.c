/* par.c - communicators of the grid. */
#include "espalier/par.h"

#include <cblas.h>
#include <omp.h>
#include <string.h>

#include "espalier/mem.h"

void esp_grid_init(esp_grid *g, int n_threads, MPI_Comm comm)
{
    ESP_MPI(MPI_Comm_dup(comm, &g->world));
    ESP_MPI(MPI_Comm_dup(comm, &g->data));
    ESP_MPI(MPI_Comm_rank(g->world, &g->rank));
    ESP_MPI(MPI_Comm_size(g->world, &g->size));
    g->i_data = g->rank;
    g->n_data = g->size;
    g->n_threads = n_threads > 0 ? n_threads : omp_get_max_threads();
    openblas_set_num_threads(1); /* the openmp flavour sets OpenMP's number too: this call first */
    omp_set_num_threads(g->n_threads);
}

void esp_grid_free(esp_grid *g)
{
    ESP_MPI(MPI_Comm_free(&g->data));
    ESP_MPI(MPI_Comm_free(&g->world));
}

void esp_share(size_t *begin, size_t *end, size_t n, int i, int n_parts)
{
    size_t part = (size_t)i, parts = (size_t)n_parts;
    size_t base = n / parts, more = n % parts;

    *begin = part * base + (part < more ? part : more);
    *end = *begin + base + (part < more);
}

void esp_bcast_string(char **s, MPI_Comm comm)
{
    int rank;
    uint64_t n = 0;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    if (rank == 0) {
        n = strlen(*s) + 1;
    }
    ESP_MPI(MPI_Bcast(&n, 1, MPI_UINT64_T, 0, comm));
    if (rank != 0) {
        *s = esp_calloc(n, 1);
    }
    ESP_MPI(MPI_Bcast(*s, esp_count(n), MPI_CHAR, 0, comm));
}
