/* fixture.h - a model folder with golden values: what tests of pruning begin with. */
#ifndef ESPALIER_TESTS_FIXTURE_H
#define ESPALIER_TESTS_FIXTURE_H

#include "espalier/groups.h"
#include "espalier/h5.h"
#include "test.h"

#define GOLDEN "tests/golden"

typedef struct fixture {
    esp_model model;
    esp_groups groups;
    esp_samples samples; /* the tokens of golden.h5 */
    esp_h5 golden;
} fixture;

static inline void fixture_read_samples(esp_samples *s, const esp_h5 *f)
{
    size_t dims[ESP_H5_MAX_DIMS], n_dims, n = esp_h5_size(f, "/tokens", dims, &n_dims);
    int32_t *ids;

    CU_ASSERT_EQUAL(n_dims, 2);
    ESP_NEW(ids, n);
    CU_ASSERT_EQUAL(esp_h5_read(f, "/tokens", H5T_NATIVE_INT32, 0, n, ids), ESP_OK);
    for (size_t j = 0; j < dims[0]; j++) {
        esp_samples_add(s, ids + j * dims[1], NULL, dims[1]);
    }
    free(ids);
}

static inline fixture *fixture_of(const char *dir)
{
    char *golden = esp_path(dir, "golden.h5");
    fixture *t;

    ESP_NEW(t, 1);
    CU_ASSERT_EQUAL(esp_h5_open(&t->golden, golden), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&t->model, dir, MPI_COMM_SELF), ESP_OK);
    fixture_read_samples(&t->samples, &t->golden);
    esp_groups_find(&t->groups, &t->model);
    free(golden);
    return t;
}

static inline void fixture_free(fixture *t)
{
    esp_samples_free(&t->samples);
    esp_groups_free(&t->groups);
    esp_model_free(&t->model);
    esp_h5_close(&t->golden, ESP_OK);
    free(t);
}

/* Runs a check on every shared model; those that are not there are skipped with a message. */
static inline void fixture_each_shared(void (*check)(const char *dir))
{
    static const char *const names[] = { "stories260K", "tinystories656k-bf16", "tiny-gqa-bf16",
                                         "tiny-mha-f16", "tiny-qwen2-f32" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *below = esp_format("models/%s", names[i]), *dir = esp_test_shared(below);

        if (dir) {
            check(dir);
        }
        free(dir);
        free(below);
    }
}

#endif
