/* run_dir.c - manifest and events of a run directory. */
#include "run_dir_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/version.h"

/* ---- manifest --------------------------------------------------------------------------------- */

static esp_status read_manifest(esp_run_dir *d)
{
    char *path = esp_path(d->path, "manifest.json"), *text;
    size_t n;
    json_error_t error;
    esp_status st = ESP_OK;

    if (esp_file_exists(path)) {
        st = esp_file_read(&text, &n, path);
        if (st == ESP_OK) {
            d->manifest = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
            free(text);
            if (!json_is_object(json_object_get(d->manifest, "stages"))) {
                st = esp_fail(ESP_EFORMAT, "%s:%d: is no manifest of a run: %s", path, error.line,
                              d->manifest ? "it has no object \"stages\"" : error.text);
            }
        }
    } else {
        d->manifest = json_pack("{s:s, s:{}}", "espalier", esp_version(), "stages");
    }
    free(path);
    return st;
}

esp_status esp_run_dir_write(const esp_run_dir *d, const char *name, const json_t *json)
{
    char *path = esp_path(d->path, name);
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    esp_status st;

    ESP_REQUIRE(text);
    st = esp_file_write(path, text, strlen(text));
    free(text);
    free(path);
    return st;
}

json_t *esp_run_dir_record(const esp_run_dir *d, const char *stage)
{
    return json_object_get(json_object_get(d->manifest, "stages"), stage);
}

esp_status esp_run_dir_set_record(esp_run_dir *d, const char *stage, json_t *record)
{
    json_t *stages = json_object_get(d->manifest, "stages");

    if (record) {
        ESP_REQUIRE(json_object_set_new(stages, stage, record) == 0);
    } else {
        json_object_del(stages, stage);
    }
    json_object_set_new(d->manifest, "espalier", json_string(esp_version()));
    return esp_run_dir_write(d, "manifest.json", d->manifest);
}

/* ---- the folder ------------------------------------------------------------------------------- */

esp_status esp_run_dir_open(esp_run_dir *d, const char *path)
{
    *d = (esp_run_dir){ .path = esp_strdup(path), .lock = { .fd = -1 }, .began = esp_now() };
    if (esp_dir_exists(path)) {
        ESP_TRY(esp_lock_take(&d->lock, path));
    }
    return read_manifest(d);
}

static esp_status write_settings(const esp_run_dir *d, const esp_config *c)
{
    char *path = esp_path(d->path, "config.used");
    char *text = esp_config_text(c);
    esp_status st = esp_file_write(path, text, strlen(text));

    free(text);
    free(path);
    return st;
}

static esp_status open_events(esp_run_dir *d)
{
    char *path = esp_path(d->path, "events.jsonl");
    esp_status st = ESP_OK;

    d->events = fopen(path, "a");
    if (!d->events) {
        st = esp_fail(ESP_EIO, "%s: cannot open: %s", path, strerror(errno));
    }
    free(path);
    return st;
}

esp_status esp_run_dir_make(esp_run_dir *d, const esp_config *c)
{
    if (d->lock.fd < 0) {
        ESP_TRY(esp_mkdirs(d->path));
        ESP_TRY(esp_lock_take(&d->lock, d->path));
    }
    ESP_TRY(write_settings(d, c));
    return open_events(d);
}

void esp_run_dir_close(esp_run_dir *d)
{
    if (d->events) {
        fclose(d->events);
    }
    if (d->path) {
        esp_lock_release(&d->lock);
    }
    json_decref(d->manifest);
    free(d->path);
    *d = (esp_run_dir){ .lock = { .fd = -1 } };
}

bool esp_run_dir_has(const esp_run_dir *d, const char *name)
{
    char *path = esp_path(d->path, name);
    bool has = access(path, F_OK) == 0;

    free(path);
    return has;
}

esp_status esp_run_dir_remove(const esp_run_dir *d, const char *name)
{
    char *path = esp_path(d->path, name);
    esp_status st = esp_run_dir_has(d, name) ? esp_remove(path) : ESP_OK;

    free(path);
    return st;
}

/* ---- events ----------------------------------------------------------------------------------- */

void esp_time_text(char text[ESP_TIME_SIZE])
{
    time_t t = time(NULL);
    struct tm utc;

    gmtime_r(&t, &utc);
    strftime(text, ESP_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

void esp_run_dir_event(esp_run_dir *d, const char *event, const char *stage, json_t *fields)
{
    char now[ESP_TIME_SIZE];
    json_t *line;

    esp_time_text(now);
    line = json_pack("{s:s, s:f, s:s, s:s}", "time", now, "seconds", esp_now() - d->began, "event",
                     event, "stage", stage);
    ESP_REQUIRE(line);
    json_object_update(line, fields);
    json_decref(fields);
    json_dumpf(line, d->events, JSON_COMPACT | JSON_REAL_PRECISION(10));
    fputc('\n', d->events);
    fflush(d->events);
    json_decref(line);
}
