/* unit_finite.c - numbers of a model that are none: where they are said to be. */
#include <math.h>

#include "espalier/exporters.h"
#include "espalier/model.h"
#include "stderr_capture.h"
#include "tiny_model.h"

/* Overwrites an element of a tensor of F32 in the file. */
static void put_number(const char *dir, const char *tensor, size_t element, float value)
{
    char *path = esp_path(dir, "model.safetensors");
    esp_safetensors f;
    const char *data;
    FILE *out = fopen(path, "r+b");

    CU_ASSERT_EQUAL_FATAL(esp_safetensors_open(&f, path), ESP_OK);
    data = (const char *)esp_safetensors_find(&f, tensor)->data + element * sizeof value;
    fseek(out, data - (const char *)f.map.data, SEEK_SET);
    fwrite(&value, sizeof value, 1, out);
    fclose(out);
    esp_safetensors_close(&f);
    free(path);
}

static void check_place(const char *tensor, size_t element, const char *told)
{
    char hex[ESP_DIGEST_SIZE], *dir = esp_test_dir("finite");
    esp_model m;
    int kept;

    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_synth(esp_export_to(dir, "huggingface"), &tiny, MPI_COMM_WORLD),
                          ESP_OK);
    put_number(dir, tensor, element, NAN);
    CU_ASSERT_EQUAL_FATAL(esp_model_load(&m, dir, MPI_COMM_WORLD), ESP_OK);
    kept = listen_begin();
    CU_ASSERT_EQUAL(esp_model_digest(hex, &m, 0, m.dims.n_layers, MPI_COMM_WORLD), ESP_EFORMAT);
    listen_end(kept);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, told));
    esp_model_free(&m);
    free(dir);
}

/* As many indices as the tensor has. */
static void test_places_of_numbers_that_are_none(void)
{
    check_place("model.norm.weight", 7, "model.norm.weight: element 7 is nan");
    check_place("model.layers.1.self_attn.k_proj.bias", 3, "k_proj.bias: element 3 is nan");
    check_place("model.layers.1.self_attn.q_proj.weight", 35,
                "q_proj.weight: element [1, 3] is nan");
    free(said);
    said = NULL;
}

ESP_TEST_MAIN("numbers that are none", { "places", test_places_of_numbers_that_are_none })
