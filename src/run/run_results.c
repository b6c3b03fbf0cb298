/* run_results.c - what a run has found, for who looks at it from outside. */
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/run.h"
#include "run_dir_impl.h"

static const char *text_at(const json_t *record, const char *part, const char *name)
{
    const char *text = json_string_value(json_object_get(json_object_get(record, part), name));

    return text ? text : "nothing";
}

/* ESP_EUSAGE unless the stage is done; of a model that is there now. */
static esp_status check_record(const esp_run_dir *d)
{
    static const char *const made[][2] = { { "prune", "pruned" }, { "recover", "recovered" } };
    const json_t *eval = esp_run_dir_record(d, "eval");

    if (!json_object_get(eval, "finished")) {
        return esp_fail(ESP_EUSAGE, "%s: has no results yet: espalier eval makes them", d->path);
    }
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        const json_t *stage = esp_run_dir_record(d, made[i][0]);

        if (json_object_get(stage, "finished") &&
            strcmp(text_at(stage, "outputs", made[i][1]), text_at(eval, "inputs", made[i][1])) !=
                0) {
            return esp_fail(ESP_EUSAGE,
                            "%s/eval.json: is not of the %s model that is there now: espalier eval "
                            "makes it anew",
                            d->path, made[i][1]);
        }
    }
    return ESP_OK;
}

/* The results of a text [n], which is what eval left. */
static esp_status parse(json_t **results, const esp_run_dir *d, const char *text, size_t n)
{
    const char *recorded = text_at(esp_run_dir_record(d, "eval"), "outputs", "eval.json");
    char now[ESP_DIGEST_SIZE];
    json_error_t error;

    esp_digest_bytes(now, text, n);
    if (strcmp(now, recorded) != 0) {
        return esp_fail(ESP_EFORMAT,
                        "%s/eval.json: is not what eval left there (digest %s was recorded, now it "
                        "is %s): put that back, or espalier eval -f makes it anew",
                        d->path, recorded, now);
    }
    *results = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    return json_is_object(*results)
               ? ESP_OK
               : esp_fail(ESP_EFORMAT, "%s/eval.json: is no object of results", d->path);
}

static esp_status read_results(json_t **results, const esp_run_dir *d)
{
    char *path = esp_path(d->path, "eval.json"), *text;
    size_t n;
    esp_status st = esp_file_read(&text, &n, path);

    if (st == ESP_OK) {
        st = parse(results, d, text, n);
        free(text);
    }
    free(path);
    return st;
}

esp_status esp_run_results(json_t **stages, json_t **results, const char *dir)
{
    esp_run_dir d = { .lock = { .fd = -1 }, .events = -1 };
    esp_status st = ESP_OK;

    *stages = *results = NULL;
    if (!esp_dir_exists(dir)) {
        return esp_fail(ESP_EUSAGE, "%s: there is no such folder", dir);
    }
    st = esp_run_dir_look(&d, dir);
    if (st == ESP_OK && !esp_run_dir_has(&d, "manifest.json")) {
        st = esp_fail(ESP_EUSAGE, "%s: is no folder of a run: it has no manifest.json", dir);
    }
    st = st == ESP_OK ? check_record(&d) : st;
    st = st == ESP_OK ? read_results(results, &d) : st;
    if (st == ESP_OK) {
        *stages = json_incref(json_object_get(d.manifest, "stages"));
    } else {
        json_decref(*results);
        *results = NULL;
    }
    esp_run_dir_close(&d);
    return st;
}
