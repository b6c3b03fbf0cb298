/* mpi_memory.c - memory that is predicted from shapes is what is allocated, byte by byte. */
#include "espalier/model_save.h"
#include "espalier/synth.h"
#include "test.h"

/* All families, with heads that share keys where the family has that. */
static const char *const families[] = {
    "llama",        "mistral",       "qwen2", "qwen3", "phi3",   "baichuan-7b", "baichuan2-7b",
    "baichuan-13b", "baichuan2-13b", "opt",   "bloom", "gemma2", "chatglm2",    "chatglm"
};
enum { N_FAMILIES = sizeof families / sizeof *families };

static esp_synth_options sizes_of(const char *family)
{
    bool narrow = strcmp(family, "phi3") == 0 || strcmp(family, "qwen2") == 0;
    bool bloom = strcmp(family, "bloom") == 0;

    return (esp_synth_options){ .model_type = family,
                                .layers = 3,
                                .hidden = 48,
                                .heads = 4,
                                .kv_heads = narrow ? 2 : 0,
                                .mlp = bloom ? 4 * 48 : 80,
                                .vocab = 300,
                                .max_positions = 64,
                                .dtype = ESP_BF16,
                                .std = 0.1,
                                .rope_theta = 10000,
                                .seed = 3 };
}

/* What a model of other shapes has of its own; all else it takes over. */
static void forget_own(esp_model *m)
{
    m->dims.layer = NULL;
    m->inv_freq = NULL;
    m->slopes = NULL;
    m->outer = m->block = NULL;
    m->config = NULL;
    m->dir = NULL;
}

static void test_reshape(void)
{
    for (size_t i = 0; i < N_FAMILIES; i++) {
        esp_synth_options o = sizes_of(families[i]);
        esp_model m, same, seen[2];

        CU_ASSERT_EQUAL(esp_synth_shape(&m, &o), ESP_OK);
        m.precision = ESP_PRECISION_BF16;
        m.bare = true;
        esp_model_reshape(&same, &m, &m.dims);
        seen[0] = m;
        seen[1] = same;
        forget_own(&seen[0]);
        forget_own(&seen[1]);
        CU_ASSERT_EQUAL(memcmp(&seen[0], &seen[1], sizeof *seen), 0);
        esp_model_free(&same);
        esp_model_free(&m);
    }
}

ESP_TEST_MAIN("memory", { "a reshaped model keeps its properties", test_reshape })
