/* unit_published.c - configurations as models are published: each has its number of parameters, or is refused
 * with its reason.
 *
 * tests/golden/published.jsonl has a model a line: the keys that count, and "parameters" as transformers and
 * the publishers have them, or "refused", words of the message.
 */
#include "espalier/file.h"
#include "espalier/model.h"
#include "test.h"

static void check_refused(const char *name, const char *dir, const char *says)
{
    esp_model m;

    CU_ASSERT_EQUAL(esp_model_shape(&m, dir), ESP_EFORMAT);
    if (!strstr(esp_error_message(), says)) {
        printf("  %s: %s\n", name, esp_error_message());
        CU_FAIL("another reason");
    }
    esp_model_free(&m);
}

static void check_parameters(const char *name, const char *dir, json_int_t wanted)
{
    esp_model m;
    json_int_t found;

    if (esp_model_shape(&m, dir) != ESP_OK) {
        printf("  %s: %s\n", name, esp_error_message());
        CU_FAIL("a published configuration is refused");
        return;
    }
    found = (json_int_t)esp_model_cost(&m, 1).parameters;
    if (found != wanted) {
        printf("  %s: %lld parameters, not %lld\n", name, (long long)found, (long long)wanted);
        CU_FAIL("another number of parameters");
    }
    esp_model_free(&m);
}

static void check_line(const json_t *line)
{
    char *dir = esp_test_dir("published"), *path = esp_path(dir, "config.json");
    char *text = json_dumps(json_object_get(line, "config"), 0);
    const char *name = json_string_value(json_object_get(line, "model"));
    const char *says = json_string_value(json_object_get(line, "refused"));

    CU_ASSERT_PTR_NOT_NULL_FATAL(name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    esp_error_clear();
    if (says) {
        check_refused(name, dir, says);
    } else {
        check_parameters(name, dir, json_integer_value(json_object_get(line, "parameters")));
    }
    free(text);
    free(path);
    free(dir);
}

static void test_published(void)
{
    char *text, *next;
    size_t n, lines = 0;

    CU_ASSERT_EQUAL_FATAL(esp_file_read(&text, &n, "tests/golden/published.jsonl"), ESP_OK);
    for (char *at = text; *at; at = next, lines++) {
        json_t *line;

        next = strchr(at, '\n') + 1;
        line = json_loadb(at, (size_t)(next - at), 0, NULL);
        CU_ASSERT_PTR_NOT_NULL_FATAL(line);
        check_line(line);
        json_decref(line);
    }
    CU_ASSERT_EQUAL(lines, 75);
    free(text);
}

ESP_TEST_MAIN("published", { "published configurations", test_published })
