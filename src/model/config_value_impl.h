/* config_value_impl.h - values of config.json by key, under the names that a family has for it. All Local. */
#ifndef ESPALIER_CONFIG_VALUE_IMPL_H
#define ESPALIER_CONFIG_VALUE_IMPL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "espalier/arch.h"
#include "espalier/status.h"

/* A part of config.json, for reading values out of it. */
typedef struct esp_config_part {
    const char *where; /* "DIR/config.json" or "DIR/config.json: rope_scaling", for messages */
    const json_t *json;
    const esp_arch *arch; /* whose synonyms its keys may have; NULL: none */
} esp_config_part;

/* The value of a key or of a synonym of it, NULL when it is missing or null. Borrowed. */
const json_t *esp_config_get(const esp_config_part *c, const char *key);

/* "WHERE: KEY is VALUE, must be WHAT"; ESP_EFORMAT. */
esp_status esp_config_refuse(const esp_config_part *c, const char *key, const char *must_be);

/* A count of at least 1; missing or null: fallback, refused where that is 0. key NULL: fallback. */
esp_status esp_config_size(size_t *size, const esp_config_part *c, const char *key, size_t max,
                           size_t fallback);

/* true or false; missing or null: missing. */
esp_status esp_config_bool(bool *flag, const esp_config_part *c, const char *key, bool missing);

/* A positive finite number; missing: fallback, refused where that is 0. */
esp_status esp_config_real(double *v, const esp_config_part *c, const char *key, double fallback);

/* The name that the file has for a key: the key itself or a synonym of it. Borrowed. */
const char *esp_config_name(const esp_config_part *c, const char *key);

/* Whether a value is a whole number from 1 to max. */
bool esp_config_is_size(const json_t *v, size_t max);

/* Replaces a size under all the names that config has for it, else adds it under the key itself. */
void esp_config_put_size(json_t *config, const esp_arch *arch, const char *key, size_t v);

#endif
