/* run_dir.c - manifest and events of a run directory. */
#include "run_dir_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/clock.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/io.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/run.h"
#include "espalier/version.h"

/* ---- manifest --------------------------------------------------------------------------------- */

#define PRECISION JSON_REAL_PRECISION(12) /* of numbers: what is read back is written as it was */

static void digest_json(char hex[ESP_DIGEST_SIZE], const json_t *json, size_t precision)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | precision);

    ESP_REQUIRE(text);
    esp_digest_bytes(hex, text, strlen(text));
    free(text);
}

void esp_json_digest(char hex[ESP_DIGEST_SIZE], const json_t *json)
{
    digest_json(hex, json, 0);
}

json_t *esp_json_real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* Of all but the digest itself. */
static void digest_of(char hex[ESP_DIGEST_SIZE], const json_t *manifest)
{
    json_t *rest = json_copy((json_t *)(uintptr_t)manifest);

    json_object_del(rest, "digest");
    digest_json(hex, rest, PRECISION);
    json_decref(rest);
}

static esp_status check_manifest(const json_t *manifest, const char *path)
{
    const char *digest = json_string_value(json_object_get(manifest, "digest"));
    char now[ESP_DIGEST_SIZE];

    if (!json_is_object(json_object_get(manifest, "stages"))) {
        return esp_fail(ESP_EFORMAT, "%s: is no manifest of a run: it has no object \"stages\"",
                        path);
    }
    digest_of(now, manifest);
    if (!digest || strcmp(digest, now) != 0) {
        return esp_fail(
            ESP_EFORMAT,
            "%s: was changed or damaged since espalier wrote it (digest %s in it, %s of "
            "it): restore it, or use another run_dir",
            path, digest ? digest : "none", now);
    }
    return ESP_OK;
}

/* Without a manifest these two are somebody else's. */
static esp_status check_fresh(const esp_run_dir *d)
{
    static const char *const names[] = { "config.used", "events.jsonl" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (esp_run_dir_has(d, names[i])) {
            return esp_fail(
                ESP_EUSAGE,
                "%s/%s: is there, but no manifest.json that says espalier made it: move "
                "it away, or use another run_dir",
                d->path, names[i]);
        }
    }
    return ESP_OK;
}

static esp_status read_manifest(esp_run_dir *d)
{
    char *path = esp_path(d->path, "manifest.json"), *text;
    size_t n;
    json_error_t error;
    esp_status st;

    if (!esp_run_dir_has(d, "manifest.json")) {
        d->manifest = json_pack("{s:s, s:{}}", "espalier", esp_version(), "stages");
        free(path);
        return check_fresh(d);
    }
    st = esp_file_read(&text, &n, path);
    if (st == ESP_OK) {
        d->manifest = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
        free(text);
        st = d->manifest ? check_manifest(d->manifest, path)
                         : esp_fail(ESP_EFORMAT, "%s:%d: is no manifest of a run: %s", path,
                                    error.line, error.text);
    }
    free(path);
    return st;
}

esp_status esp_run_dir_write(const esp_run_dir *d, const char *name, const json_t *json)
{
    char *path = esp_path(d->path, name);
    char *text = json_dumps(json, JSON_INDENT(2) | PRECISION);
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

static esp_status write_manifest(esp_run_dir *d)
{
    char digest[ESP_DIGEST_SIZE];

    json_object_set_new(d->manifest, "espalier", json_string(esp_version()));
    digest_of(digest, d->manifest);
    json_object_set_new(d->manifest, "digest", json_string(digest));
    return esp_run_dir_write(d, "manifest.json", d->manifest);
}

esp_status esp_run_dir_set_record(esp_run_dir *d, const char *stage, json_t *record)
{
    json_t *stages = json_object_get(d->manifest, "stages");

    if (record) {
        ESP_REQUIRE(json_object_set_new(stages, stage, record) == 0);
    } else {
        json_object_del(stages, stage);
    }
    return write_manifest(d);
}

/* ---- the folder ------------------------------------------------------------------------------- */

static void init(esp_run_dir *d, const char *path)
{
    *d = (esp_run_dir){
        .path = esp_strdup(path), .lock = { .fd = -1 }, .events = -1, .began = esp_now()
    };
}

esp_status esp_run_dir_open(esp_run_dir *d, const char *path)
{
    init(d, path);
    if (esp_dir_exists(path)) {
        ESP_TRY(esp_lock_take(&d->lock, path));
    }
    return read_manifest(d);
}

esp_status esp_run_dir_look(esp_run_dir *d, const char *path)
{
    init(d, path);
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

    d->events = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (d->events < 0) {
        st = esp_fail(ESP_EIO, "%s: cannot open: %s", path, strerror(errno));
    }
    free(path);
    return st;
}

esp_status esp_run_dir_make(esp_run_dir *d, const esp_config *c)
{
    if (d->events >= 0) { /* made already */
        return ESP_OK;
    }
    if (d->lock.fd < 0) {
        ESP_TRY(esp_mkdirs(d->path));
        ESP_TRY(esp_lock_take(&d->lock, d->path));
    }
    if (!esp_run_dir_has(d, "manifest.json")) { /* the first file: it says whose the others are */
        ESP_TRY(write_manifest(d));
    }
    ESP_TRY(write_settings(d, c));
    return open_events(d);
}

void esp_run_dir_close(esp_run_dir *d)
{
    if (d->path) {
        if (d->events >= 0) {
            close(d->events);
        }
        esp_lock_release(&d->lock);
    }
    json_decref(d->manifest);
    free(d->path);
    *d = (esp_run_dir){ .lock = { .fd = -1 }, .events = -1 };
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
    bool folder = strchr(name, '.') == NULL;
    esp_status st =
        folder ? esp_folder_remove(path) : esp_remove(path); /* or what is left of one */

    free(path);
    return st;
}

/* Whether a manifest makes the folder one of a run. */
static bool is_run_dir(const char *dir)
{
    char *path = esp_path(dir, "manifest.json");
    json_t *manifest = json_load_file(path, 0, NULL);
    bool is = json_is_object(json_object_get(manifest, "stages"));

    json_decref(manifest);
    free(path);
    return is;
}

esp_status esp_run_check_apart(const char *path)
{
    char *at = esp_path_real(path), *slash;
    esp_status st = ESP_OK;

    if (access(path, F_OK) != 0) {
        free(at);
        return ESP_OK;
    }
    for (; st == ESP_OK && (slash = strrchr(at, '/')); *slash = '\0') {
        st = is_run_dir(at) ? esp_fail(ESP_EUSAGE,
                                       "%s: is of the run in %s, which alone replaces it: take "
                                       "another name",
                                       path, at)
                            : ESP_OK;
    }
    free(at);
    return st;
}

/* ---- events ----------------------------------------------------------------------------------- */

/* A whole line, or nothing of it; 0 or errno. */
static int append_line(int fd, const char *line)
{
    off_t end = lseek(fd, 0, SEEK_END);
    int error = end < 0 ? errno : esp_write_at(fd, line, strlen(line), (uint64_t)end);

    if (error && end >= 0 && ftruncate(fd, end) != 0) {
        error = errno;
    }
    return error;
}

void esp_run_dir_event(esp_run_dir *d, const char *event, const char *stage, json_t *fields)
{
    char now[ESP_TIME_SIZE], *text, *line;
    json_t *object;
    int error;

    esp_time_text(now);
    object = json_pack("{s:s, s:f, s:s, s:s}", "time", now, "seconds", esp_now() - d->began,
                       "event", event, "stage", stage);
    ESP_REQUIRE(object);
    json_object_update(object, fields);
    json_decref(fields);
    text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(10));
    ESP_REQUIRE(text);
    line = esp_format("%s\n", text);
    error = append_line(d->events, line);
    if (error && !d->lost) {
        esp_warn("%s/events.jsonl: cannot write: %s; lines are missing from here on", d->path,
                 strerror(error));
    }
    d->lost = d->lost ? d->lost : error;
    free(line);
    free(text);
    json_decref(object);
}

esp_status esp_run_dir_events_whole(const esp_run_dir *d)
{
    return d->lost
               ? esp_fail(ESP_EIO,
                          "%s/events.jsonl: lacks lines: %s; the results are whole, run again to "
                          "go on",
                          d->path, strerror(d->lost))
               : ESP_OK;
}
