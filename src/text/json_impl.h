/* json_impl.h - JSON files and the refusal of what they hold. All Local. */
#ifndef ESPALIER_JSON_IMPL_H
#define ESPALIER_JSON_IMPL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "espalier/status.h"

/* Whole file; the caller releases *root with json_decref. Numbers are reals: files name lengths that
 * no integer holds. ESP_EFORMAT with file and line. */
esp_status esp_json_read(json_t **root, const char *path);
esp_status esp_json_read_optional(json_t **root,
                                  const char *path); /* NULL where there is no file */

/* ESP_EFORMAT: "path: field: value: what", the value as JSON, cut where it is long; NULL is "missing". */
esp_status esp_json_refuse(const char *path, const char *field, const json_t *value,
                           const char *what);

/* ESP_EFORMAT, naming it, for a key with a value that is neither "type" nor in keys, which has a space
 * after each. */
esp_status esp_json_known(const json_t *object, const char *keys, const char *path,
                          const char *where);

/* The field's value, or fallback where it is absent or null; a value of another type is absent. */
bool esp_json_bool(const json_t *object, const char *field, bool fallback);
const char *esp_json_string(const json_t *object, const char *field, const char *fallback);

/* A token id; -1 where the value is no whole number from 0 to INT32_MAX. */
int32_t esp_json_id(const json_t *value);

#endif
