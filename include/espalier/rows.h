/* rows.h - rows of a data set: lines of JSON, elements of a JSON array, records of CSV. */
#ifndef ESPALIER_ROWS_H
#define ESPALIER_ROWS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "espalier/status.h"

typedef struct esp_row {
    const json_t *value; /* borrowed; of CSV an array of strings */
    const char *path;    /* of the file                          */
    const char *kind;    /* "line" or "element", and its number: for messages */
    size_t number;
} esp_row;

/* Called with every row, in order, until it fails. */
typedef esp_status esp_take_row(void *ctx, const esp_row *row);

/* Whether a file of that name has JSON (*.json, *.jsonl, *.ndjson). Local. */
bool esp_rows_are_json(const char *path);

/* Rows of n bytes of JSON: the elements of an array where the name ends in .json, else a value per line,
 * empty lines left out. ESP_EFORMAT with file and line for what is no JSON. Local. */
esp_status esp_rows_json(const char *s, size_t n, const char *path, esp_take_row *take, void *ctx);

/* Rows of a file: JSON by its name, or *.csv (RFC 4180; no line of it is taken for a header). ESP_EFORMAT
 * for any other name, and as above. Local. */
esp_status esp_rows_read(const char *path, esp_take_row *take, void *ctx);

/* ESP_EFORMAT "path: line 3: field: value: what". value NULL: missing. Local. */
esp_status esp_row_refuse(const esp_row *row, const char *field, const json_t *value,
                          const char *what);

#endif
