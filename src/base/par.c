/* par.c - communicators of the grid. */
#include "espalier/par.h"

#include <stdbool.h>
#include <omp.h>
#include <string.h>

#include "espalier/mem.h"

/* Communicators of rows and columns of the world as n_pipeline x n_data ranks. */
static void make_communicators(esp_grid *g)
{
    const int dims[2] = { g->n_pipeline, g->n_data }, periods[2] = { 0, 0 };
    const int along_data[2] = { 0, 1 }, along_pipeline[2] = { 1, 0 };
    MPI_Comm cart;

    ESP_MPI(MPI_Cart_create(g->world, 2, dims, periods, 0, &cart));
    ESP_MPI(MPI_Cart_sub(cart, along_data, &g->data));
    ESP_MPI(MPI_Cart_sub(cart, along_pipeline, &g->pipeline));
    ESP_MPI(MPI_Comm_rank(g->data, &g->i_data));
    ESP_MPI(MPI_Comm_rank(g->pipeline, &g->i_pipeline));
    ESP_MPI(MPI_Comm_free(&cart));
}

static void free_communicators(esp_grid *g)
{
    ESP_MPI(MPI_Comm_free(&g->data));
    ESP_MPI(MPI_Comm_free(&g->pipeline));
}

esp_status esp_grid_shape(esp_grid *g, size_t n_pipeline)
{
    size_t size = (size_t)g->size;

    if (n_pipeline == 0 || n_pipeline > size || size % n_pipeline != 0) {
        return esp_fail(
            ESP_EUSAGE,
            "parallel.pipeline = %zu: %d ranks cannot be shared out to so many pipeline stages; "
            "take a divisor of the number of ranks",
            n_pipeline, g->size);
    }
    free_communicators(g);
    g->n_pipeline = (int)n_pipeline;
    g->n_data = g->size / g->n_pipeline;
    make_communicators(g);
    return ESP_OK;
}

void esp_grid_init(esp_grid *g, int n_threads, MPI_Comm comm)
{
    ESP_MPI(MPI_Comm_dup(comm, &g->world));
    ESP_MPI(MPI_Comm_rank(g->world, &g->rank));
    ESP_MPI(MPI_Comm_size(g->world, &g->size));
    g->n_pipeline = 1;
    g->n_data = g->size;
    make_communicators(g);
    g->n_threads = n_threads > 0 ? n_threads : omp_get_max_threads();
    omp_set_num_threads(g->n_threads);
}

void esp_grid_free(esp_grid *g)
{
    free_communicators(g);
    ESP_MPI(MPI_Comm_free(&g->world));
}

void esp_share(size_t *begin, size_t *end, size_t n, int i, int n_parts)
{
    size_t part = (size_t)i, parts = (size_t)n_parts;
    size_t base = n / parts, more = n % parts;

    *begin = part * base + esp_min(part, more);
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

/* The lowest rank of which `is` holds, and its host; there is one. Collective. */
static int first_rank(char host[MPI_MAX_PROCESSOR_NAME], bool is, MPI_Comm comm)
{
    int rank, size, first, n;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    ESP_MPI(MPI_Comm_size(comm, &size));
    first = is ? rank : size;
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, comm));
    ESP_REQUIRE(first < size);
    ESP_MPI(MPI_Get_processor_name(host, &n));
    ESP_MPI(MPI_Bcast(host, MPI_MAX_PROCESSOR_NAME, MPI_CHAR, first, comm));
    return first;
}

esp_status esp_agree_same(const uint64_t words[ESP_DIGEST_WORDS], const char *what, MPI_Comm comm)
{
    char host_a[MPI_MAX_PROCESSOR_NAME], host_b[MPI_MAX_PROCESSOR_NAME];
    uint64_t
        least[2 *
              ESP_DIGEST_WORDS]; /* of words and of their complements: the least, and ~ the most */
    size_t w = 0;
    int a, b;

    for (size_t i = 0; i < ESP_DIGEST_WORDS; i++) {
        least[i] = words ? words[i] : UINT64_MAX;
        least[ESP_DIGEST_WORDS + i] = words ? ~words[i] : UINT64_MAX;
    }
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, least, 2 * ESP_DIGEST_WORDS, MPI_UINT64_T, MPI_MIN, comm));
    while (w < ESP_DIGEST_WORDS && least[w] == ~least[ESP_DIGEST_WORDS + w]) {
        w++;
    }
    if (w == ESP_DIGEST_WORDS) {
        return ESP_OK;
    }
    a = first_rank(host_a, words && words[w] == least[w], comm);
    b = first_rank(host_b, words && words[w] != least[w], comm);
    return esp_agree(comm,
                     esp_fail(ESP_EUSAGE,
                              "%s has one content on rank %d (host %s) and another on rank %d "
                              "(host %s): give all ranks the same files",
                              what, a, host_a, b, host_b));
}
