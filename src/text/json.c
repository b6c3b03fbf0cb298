/* json.c - reading JSON files and refusing values by name. */
#include "json_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "espalier/text.h"

esp_status esp_json_read(json_t **root, const char *path)
{
    char *text;
    size_t n;
    json_error_t error;

    ESP_TRY(esp_text_read(&text, &n, path));
    *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
    free(text);
    return *root ? ESP_OK : esp_fail(ESP_EFORMAT, "%s:%d: %s", path, error.line, error.text);
}

esp_status esp_json_read_optional(json_t **root, const char *path)
{
    *root = NULL;
    return esp_file_exists(path) ? esp_json_read(root, path) : ESP_OK;
}

esp_status esp_json_refuse(const char *path, const char *field, const json_t *value,
                           const char *what)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

    esp_fail(ESP_EFORMAT, "%s: %s: %.80s: %s", path, field, text ? text : "missing", what);
    free(text);
    return ESP_EFORMAT;
}

esp_status esp_json_known(const json_t *object, const char *keys, const char *path,
                          const char *where)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t n = strlen(key);
        const char *at = keys;

        while (*at && !(strncmp(at, key, n) == 0 && at[n] == ' ')) {
            at += strcspn(at, " ") + 1;
        }
        if (!*at && strcmp(key, "type") != 0 && !json_is_null(value)) {
            char *field = esp_format("%s.%s", where, key);

            esp_json_refuse(path, field, value, "not a key that this program knows");
            free(field);
            return ESP_EFORMAT;
        }
    }
    return ESP_OK;
}

bool esp_json_bool(const json_t *object, const char *field, bool fallback)
{
    const json_t *value = json_object_get(object, field);

    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

const char *esp_json_string(const json_t *object, const char *field, const char *fallback)
{
    const char *value = json_string_value(json_object_get(object, field));

    return value ? value : fallback;
}

int32_t esp_json_id(const json_t *value)
{
    double x = json_is_number(value) ? json_number_value(value) : -1;

    return x >= 0 && x <= INT32_MAX && x == (int32_t)x ? (int32_t)x : -1;
}
