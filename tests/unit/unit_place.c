/* unit_place.c - what is no model folder is told by what it is. */
#include "espalier/file.h"
#include "espalier/model.h"
#include "espalier/place.h"
#include "test.h"

#define MOST 3

/* Files of a folder, each with its content, and what is said of one of them or (name NULL) of the folder. */
static const struct {
    const char *files[MOST][2];
    const char *name;
    const char *says;
} cases[] = {
    { { { "consolidated.00.pth", "PK" }, { "params.json", "{}" } },
      NULL,
      "Meta's format, consolidated.00" },
    { { { "m-q4.gguf", "GGUF\3" } }, NULL, "GGUF file, m-q4.gguf" },
    { { { "m-q4.gguf", "GGUF\3" } }, "m-q4.gguf", "is a GGUF file" },
    { { { "renamed", "GGUF\3" } }, "renamed", "is a GGUF file" },
    { { { "model.pth", "PK" } }, "model.pth", "PyTorch checkpoint: convert" },
    { { { "model.safetensors", "x" } }, "model.safetensors", "name the folder" },
    { { { "config.json", "{}" } }, "config.json", "name the folder" },
    { { { "notes.txt", "x" } }, "notes.txt", "is a file; models are folders" },
    { { { "notes.txt", "x" } }, NULL, "has no config.json" },
    { { { "adapter_config.json", "{}" } }, NULL, "adapter of PEFT" },
    { { { "snapshots/3f/config.json", "{}" } }, NULL, "snapshots/3f" },
    { { { "pruned/config.json", "{}" } }, NULL, "/pruned has: name that folder" },
};

/* A fresh folder with these files; the caller frees. */
static char *make_folder(const char *const files[MOST][2])
{
    static int n = 0;
    char *name = esp_format("place-%d", n++), *dir = esp_test_dir(name);

    free(name);
    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    for (size_t i = 0; i < MOST && files[i][0]; i++) {
        char *path = esp_path(dir, files[i][0]), *end = strrchr(path, '/');

        *end = '\0';
        CU_ASSERT_EQUAL(esp_mkdirs(path), ESP_OK);
        *end = '/';
        CU_ASSERT_EQUAL(esp_file_write(path, files[i][1], strlen(files[i][1])), ESP_OK);
        free(path);
    }
    return dir;
}

static void says(const char *part)
{
    if (!strstr(esp_error_message(), part)) {
        printf("  \"%s\" is not in \"%s\"\n", part, esp_error_message());
        CU_FAIL("message");
    }
    esp_error_clear();
}

static void test_other_places(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *dir = make_folder(cases[i].files);
        char *path = cases[i].name ? esp_path(dir, cases[i].name) : esp_strdup(dir);
        esp_model m;

        CU_ASSERT_EQUAL(esp_model_shape(&m, path), ESP_EUSAGE);
        says(cases[i].says);
        free(path);
        free(dir);
    }
}

static void test_weights(void)
{
    static const struct {
        const char *files[MOST][2];
        const char *says;
    } of[] = {
        { { { "pytorch_model.bin", "x" } }, "PyTorch's format, pytorch_model.bin: convert" },
        { { { "pytorch_model-00001-of-00002.bin", "x" } }, "PyTorch's format" },
        { { { "consolidated.00.pth", "x" } }, "Meta's format" },
        { { { "model-00001-of-00002.safetensors", "x" } }, "no model.safetensors.index.json" },
        { { { "weights.safetensors", "x" } }, "name them model.safetensors" },
        { { { "tokenizer.json", "x" } }, "the weights are missing" },
    };

    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        char *dir = make_folder(of[i].files);

        CU_ASSERT_EQUAL(esp_place_no_weights(dir), ESP_EUSAGE);
        says(of[i].says);
        free(dir);
    }
}

static void test_hub(void)
{
    static const char *const names[][2] = {
        { "meta-llama/Llama-2-7b-hf", "hf download meta-llama/Llama-2-7b-hf --local-dir DIR" },
        { "gpt2", "hf download gpt2 " },
        { "https://huggingface.co/Qwen/Qwen2.5-0.5B", "hf download Qwen/Qwen2.5-0.5B " },
    };
    static const char *const paths[] = { "./a/b",    "/nowhere/model", "a/b/c",
                                         "../model", "a b/c",          "models/" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CU_ASSERT_EQUAL(esp_place_check(names[i][0]), ESP_EUSAGE);
        says(names[i][1]);
    }
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        CU_ASSERT_EQUAL(esp_place_check(paths[i]), ESP_EUSAGE);
        CU_ASSERT_PTR_NULL(strstr(esp_error_message(), "hf download"));
        says("there is no such folder");
    }
    CU_ASSERT_EQUAL(esp_place_check("."), ESP_OK);
}

ESP_TEST_MAIN("places", { "other places", test_other_places }, { "weights", test_weights },
              { "the hub", test_hub })
