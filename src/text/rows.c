/* rows.c - rows of a data set: lines of JSON, elements of a JSON array, records of CSV. */
#include "espalier/rows.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/bytes.h"
#include "espalier/limit.h"
#include "espalier/mem.h"
#include "espalier/text.h"
#include "json_impl.h"

static bool has_ending(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);

    return n >= m && strcasecmp(path + n - m, ending) == 0;
}

bool esp_rows_are_json(const char *path)
{
    return has_ending(path, ".jsonl") || has_ending(path, ".ndjson") || has_ending(path, ".json");
}

esp_status esp_row_refuse(const esp_row *row, const char *field, const json_t *value,
                          const char *what)
{
    char *where = esp_format("%s %zu: %s", row->kind, row->number, field);

    esp_json_refuse(row->path, where, value, what);
    free(where);
    return ESP_EFORMAT;
}

/* ---- JSON ------------------------------------------------------------------------------------------ */

static esp_status read_lines(const char *s, size_t n, const char *path, esp_take_row *take,
                             void *ctx)
{
    esp_row row = { .path = path, .kind = "line" };

    for (size_t at = 0; at < n;) {
        const char *newline = memchr(s + at, '\n', n - at);
        size_t end = newline ? (size_t)(newline - s) : n, first = at;
        json_error_t error;
        json_t *value;
        esp_status st;

        row.number++;
        at = end + 1;
        while (first < end && isspace((unsigned char)s[first])) {
            first++;
        }
        if (first == end) {
            continue;
        }
        row.value = value = json_loadb(s + first, end - first, JSON_ALLOW_NUL, &error);
        st = value ? take(ctx, &row)
                   : esp_fail(ESP_EFORMAT, "%s: line %zu: %s", path, row.number, error.text);
        json_decref(value);
        ESP_TRY(st);
        ESP_TRY(esp_limit_check(0, path));
    }
    return ESP_OK;
}

static esp_status read_array(const char *s, size_t n, const char *path, esp_take_row *take,
                             void *ctx)
{
    esp_row row = { .path = path, .kind = "element" };
    json_error_t error;
    json_t *root;
    esp_status st = ESP_OK;

    ESP_TRY(esp_limit_check(n, path)); /* its strings alone are that long */
    root = json_loadb(s, n, JSON_ALLOW_NUL, &error);
    if (!root) {
        return esp_fail(ESP_EFORMAT, "%s: line %d: %s", path, error.line, error.text);
    }
    for (; row.number < json_array_size(root) && st == ESP_OK; row.number++) {
        row.value = json_array_get(root, row.number);
        st = take(ctx, &row);
    }
    json_decref(root);
    return st;
}

esp_status esp_rows_json(const char *s, size_t n, const char *path, esp_take_row *take, void *ctx)
{
    bool array = has_ending(path, ".json") && s[strspn(s, " \t\r\n")] == '[';

    return (array ? read_array : read_lines)(s, n, path, take, ctx);
}

/* ---- CSV ------------------------------------------------------------------------------------------- */

/* A field from *at to past it; a quoted one may hold commas, line ends, and quotes that are doubled. False
 * where its closing quote is missing. */
static bool read_field(esp_byte_string *field, const char *s, size_t n, size_t *at)
{
    bool quoted = *at < n && s[*at] == '"';

    field->n = 0;
    for (*at += quoted; *at < n; (*at)++) {
        if (quoted && s[*at] == '"') {
            if (*at + 1 < n && s[*at + 1] == '"') {
                (*at)++;
            } else {
                quoted = false;
                continue;
            }
        } else if (!quoted && (s[*at] == ',' || s[*at] == '\n')) {
            break;
        }
        esp_bytes_add(field, s + *at, 1);
    }
    if (field->n > 0 && field->data[field->n - 1] == '\r' && (*at == n || s[*at] == '\n')) {
        field->n--;
    }
    return !quoted;
}

/* The record from *at on, to past its line end. NULL where a quote is missing. */
static json_t *read_record(esp_byte_string *field, const char *s, size_t n, size_t *at)
{
    json_t *record = json_array();

    for (;;) {
        if (!read_field(field, s, n, at)) {
            json_decref(record);
            return NULL;
        }
        json_array_append_new(record, json_stringn(field->n ? field->data : "", field->n));
        if (*at >= n || s[(*at)++] == '\n') {
            return record;
        }
    }
}

static size_t lines_in(const char *s, size_t n)
{
    size_t lines = 0;

    for (size_t i = 0; i < n; i++) {
        lines += s[i] == '\n';
    }
    return lines;
}

static esp_status read_csv(const char *s, size_t n, const char *path, esp_take_row *take, void *ctx)
{
    esp_row row = { .path = path, .kind = "line", .number = 1 };
    esp_byte_string field = { 0 };
    esp_status st = ESP_OK;

    for (size_t at = 0; at < n && st == ESP_OK;) {
        size_t from = at;
        json_t *record = read_record(&field, s, n, &at);

        row.value = record;
        st = record ? take(ctx, &row)
                    : esp_fail(ESP_EFORMAT, "%s: line %zu: a quote that is not closed", path,
                               row.number);
        json_decref(record);
        st = st == ESP_OK ? esp_limit_check(0, path) : st;
        row.number += lines_in(s + from, at - from);
    }
    esp_bytes_free(&field);
    return st;
}

/* ---- the file -------------------------------------------------------------------------------------- */

esp_status esp_rows_read(const char *path, esp_take_row *take, void *ctx)
{
    bool csv = has_ending(path, ".csv");
    char *text;
    size_t n;
    esp_status st;

    ESP_TRY(esp_text_read(&text, &n, path));
    if (!csv && !esp_rows_are_json(path)) {
        st = esp_fail(ESP_EFORMAT, "%s: is to be a file *.jsonl, *.json or *.csv", path);
    } else {
        st = (csv ? read_csv : esp_rows_json)(text, n, path, take, ctx);
    }
    free(text);
    return st;
}
