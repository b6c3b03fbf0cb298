/* config_patch.h - a small configuration, with other values for some of its keys. */
#ifndef ESPALIER_TEST_CONFIG_PATCH_H
#define ESPALIER_TEST_CONFIG_PATCH_H

#include "espalier/file.h"
#include "espalier/model.h"

#include "test.h"

static const char *const base =
    "{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 96,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
    " \"vocab_size\": 100, \"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-05,"
    " \"rope_theta\": 500000.0, \"tie_word_embeddings\": true, \"hidden_act\": \"silu\","
    " \"bos_token_id\": 1, \"eos_token_id\": 2, \"torch_dtype\": \"bfloat16\"}";

/* Writes the base configuration with the keys of patch in it ("-" deletes) to a folder of its own. */
static inline char *put(const char *patch)
{
    json_t *config = json_loads(base, 0, NULL), *changes = json_loads(patch, 0, NULL), *value;
    char *dir = esp_test_dir("config"), *path = esp_path(dir, "config.json"), *text;
    const char *key;

    CU_ASSERT_PTR_NOT_NULL_FATAL(changes);
    json_object_foreach(changes, key, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), "-") == 0) {
            json_object_del(config, key);
        } else {
            json_object_set(config, key, value);
        }
    }
    text = json_dumps(config, 0);
    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    free(text);
    free(path);
    json_decref(config);
    json_decref(changes);
    return dir;
}

static inline esp_model shape_of(const char *patch)
{
    char *dir = put(patch);
    esp_model m;

    esp_error_clear();
    CU_ASSERT_EQUAL_FATAL(esp_model_shape(&m, dir), ESP_OK);
    free(dir);
    return m;
}

static inline void check_refused(const char *patch, const char *says)
{
    char *dir = put(patch);
    esp_model m;

    esp_error_clear();
    CU_ASSERT_EQUAL(esp_model_shape(&m, dir), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "/config.json: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), says));
    if (!strstr(esp_error_message(), says)) {
        printf("  said: %s\n  not:  %s\n", esp_error_message(), says);
    }
    CU_ASSERT_PTR_NULL(m.dir);
    esp_model_free(&m);
    free(dir);
}

static inline size_t positions(const char *patch)
{
    esp_model m = shape_of(patch);
    size_t n = m.dims.max_positions;

    esp_model_free(&m);
    return n;
}

#endif
