/* model_digest.c - the identity of a model: its config.json and every byte of its tensors. */
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "model/model_impl.h"

static void digest_tensor(char hex[ESP_DIGEST_SIZE], const esp_model *m, const esp_tensor_ref *t)
{
    const esp_weight *w = t->weight;
    char *name = esp_tensor_ref_name(m, t);
    char *line = esp_format("%s %s %zu [%zu, %zu]", name, esp_dtype_name(w->dtype), t->n_dims,
                            t->shape[0], t->shape[1]);
    esp_digest d;

    esp_digest_init(&d);
    esp_digest_add(&d, line, strlen(line));
    esp_digest_add(&d, t->bias ? w->bias : w->data, t->shape[0] * esp_tensor_ref_row_bytes(t));
    esp_digest_end(&d, hex);
    free(line);
    free(name);
}

/* Digests of all tensors one after another [n * ESP_DIGEST_SIZE], tensor i by rank i mod size. */
static char *digest_tensors(size_t *n, const esp_model *m, MPI_Comm comm)
{
    esp_tensor_ref *refs = esp_model_tensors(n, m);
    int rank, size;
    char *all;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    ESP_MPI(MPI_Comm_size(comm, &size));
    ESP_NEW(all, *n * ESP_DIGEST_SIZE);
    for (size_t i = (size_t)rank; i < *n; i += (size_t)size) {
        digest_tensor(all + i * ESP_DIGEST_SIZE, m, &refs[i]);
    }
    ESP_MPI(
        MPI_Allreduce(MPI_IN_PLACE, all, esp_count(*n * ESP_DIGEST_SIZE), MPI_BYTE, MPI_BOR, comm));
    free(refs);
    return all;
}

void esp_model_digest(char hex[ESP_DIGEST_SIZE], const esp_model *m, MPI_Comm comm)
{
    char *config = json_dumps(m->config, JSON_COMPACT | JSON_SORT_KEYS);
    esp_digest d;

    ESP_REQUIRE(config);
    esp_digest_init(&d);
    esp_digest_add(&d, config, strlen(config));
    if (m->outer[ESP_SLOT_EMBED].data) { /* else shapes only */
        size_t n;
        char *all = digest_tensors(&n, m, comm);

        esp_digest_add(&d, all, n * ESP_DIGEST_SIZE);
        free(all);
    }
    esp_digest_end(&d, hex);
    free(config);
}
