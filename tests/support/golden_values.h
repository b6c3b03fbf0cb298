/* golden_values.h - a model, its samples, and the values that the float64 oracle gives for them. */
#ifndef ESPALIER_TEST_GOLDEN_VALUES_H
#define ESPALIER_TEST_GOLDEN_VALUES_H

#include "espalier/batch.h"
#include "espalier/file.h"
#include "espalier/h5.h"
#include "espalier/model.h"
#include "test.h"

/* The repository's own (tests/golden), then the shared ones. */
static const char *const golden_models[] = { "tests/golden/qwen2",
                                             "tests/golden/qwen3",
                                             "tests/golden/phi3",
                                             "tests/golden/phi4",
                                             "tests/golden/dynamic",
                                             "tests/golden/baichuan-7b",
                                             "tests/golden/baichuan-13b",
                                             "tests/golden/baichuan2",
                                             "tests/golden/baichuan2-13b",
                                             "tests/golden/opt",
                                             "tests/golden/bloom",
                                             "tests/golden/gemma2",
                                             "tests/golden/gemma2-defaults",
                                             "tests/golden/mistral-window",
                                             "tests/golden/chatglm2",
                                             "tests/golden/chatglm",
                                             "models/stories260K",
                                             "models/tinystories656k-bf16",
                                             "models/tiny-gqa-bf16",
                                             "models/tiny-mha-f16",
                                             "models/tiny-qwen2-f32" };
enum { GOLDEN_MODELS = sizeof golden_models / sizeof *golden_models };

typedef struct golden {
    esp_model model;
    esp_samples samples;
    esp_h5 file;
} golden;

static inline void golden_samples(golden *g)
{
    size_t dims[ESP_H5_MAX_DIMS], n_dims, n = esp_h5_size(&g->file, "/tokens", dims, &n_dims);
    int32_t *ids;

    CU_ASSERT_EQUAL_FATAL(n_dims, 2);
    ESP_NEW(ids, n);
    CU_ASSERT_EQUAL(esp_h5_read(&g->file, "/tokens", H5T_NATIVE_INT32, 0, n, ids), ESP_OK);
    for (size_t j = 0; j < dims[0]; j++) {
        esp_samples_add(&g->samples, ids + j * dims[1], NULL, dims[1]);
    }
    free(ids);
}

/* esp_h5_open, for files of other programs. */
static inline void golden_open_h5(esp_h5 *f, const char *path)
{
    *f = (esp_h5){ .file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), .path = esp_strdup(path) };
    CU_ASSERT_FATAL(f->file >= 0);
}

/* False, after a message, when the model is not here. Collective on MPI_COMM_WORLD. */
static inline bool golden_open(golden *g, const char *name)
{
    bool own = strncmp(name, "tests/", 6) == 0;
    char *below = esp_path(name, "golden.h5");
    char *path = own ? esp_strdup(below) : esp_test_shared(below);
    char *dir = esp_strdup(path);

    free(below);
    if (!path) {
        return false;
    }
    *g = (golden){ 0 };
    *strrchr(dir, '/') = '\0';
    CU_ASSERT_EQUAL_FATAL(esp_model_load(&g->model, dir, MPI_COMM_WORLD), ESP_OK);
    golden_open_h5(&g->file, path);
    golden_samples(g);
    free(dir);
    free(path);
    return true;
}

static inline void golden_close(golden *g)
{
    esp_model_free(&g->model);
    esp_samples_free(&g->samples);
    CU_ASSERT_EQUAL(esp_h5_close(&g->file, ESP_OK), ESP_OK);
}

/* A whole dataset of *n numbers; the caller frees. */
static inline double *golden_read(size_t *n, const golden *g, const char *name)
{
    size_t dims[ESP_H5_MAX_DIMS], n_dims;
    double *values;

    *n = esp_h5_size(&g->file, name, dims, &n_dims);
    ESP_NEW(values, *n);
    CU_ASSERT(*n > 0);
    CU_ASSERT_EQUAL(esp_h5_read(&g->file, name, H5T_NATIVE_DOUBLE, 0, *n, values), ESP_OK);
    return values;
}

static inline double golden_largest(const double *values, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        most = fabs(values[i]) > most ? fabs(values[i]) : most;
    }
    return most;
}

#endif
