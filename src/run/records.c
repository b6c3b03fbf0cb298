/* records.c - what is recorded about a stage, and what differs between two records of it. */
#include "run_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"

void esp_record_digest(char hex[ESP_DIGEST_SIZE], const json_t *record)
{
    char *text = json_dumps(record, JSON_COMPACT | JSON_SORT_KEYS);

    ESP_REQUIRE(text);
    esp_digest_bytes(hex, text, strlen(text));
    free(text);
}

json_t *esp_record_settings(const esp_run *run, esp_stage s)
{
    json_t *settings = json_object();

    for (size_t i = 0; i < esp_n_options; i++) {
        const esp_option *o = &esp_options[i];

        if (o->stages & 1u << s) {
            char *text = esp_option_text(run->config, o);

            json_object_set_new(settings, o->path, json_string(text));
            free(text);
        }
    }
    return settings;
}

static esp_status add_file(json_t *inputs, const char *name, const char *path)
{
    char hex[ESP_DIGEST_SIZE];
    esp_map map;

    ESP_TRY(esp_map_open(&map, path));
    esp_digest_bytes(hex, map.data, map.n);
    esp_map_close(&map);
    json_object_set_new(inputs, name, json_string(hex));
    return ESP_OK;
}

/* The file that a setting names, where it names one. */
static esp_status add_named_file(json_t *inputs, const esp_run *run, const char *setting)
{
    char *path = esp_option_text(run->config, esp_option_find(setting));
    esp_status st = *path ? add_file(inputs, setting, path) : ESP_OK;

    free(path);
    return st;
}

/* The plan, or the pruned model that it made, where there is that in the run directory. */
static esp_status add_plan(json_t *inputs, const esp_run *run, const char *name, const char *there)
{
    char *path = esp_run_path(run, "plan.json");
    esp_status st = esp_run_dir_has(&run->dir, there) ? add_file(inputs, name, path) : ESP_OK;

    free(path);
    return st;
}

/* The recovered model is known by the record of the stage that made it. */
static void add_recovered(json_t *inputs, const esp_run *run)
{
    json_t *record = esp_run_dir_record(&run->dir, "recover");
    char hex[ESP_DIGEST_SIZE];

    if (json_object_get(record, "finished")) {
        esp_record_digest(hex, record);
        json_object_set_new(inputs, "recovered", json_string(hex));
    }
}

static esp_status add_inputs(json_t *inputs, const esp_run *run, const esp_stage_info *stage)
{
    if (stage->reads & ESP_READS_MODEL) {
        json_object_set_new(inputs, "model", json_string(run->digest));
    }
    if (stage->reads & ESP_READS_SCORED) {
        bool scored = run->config->prune.criterion != ESP_RANDOM;

        json_object_set_new(inputs, "model", json_string(scored ? run->digest : run->shape));
    }
    if (stage->reads & ESP_READS_PLAN) {
        ESP_TRY(add_plan(inputs, run, "plan", "plan.json"));
    }
    if (stage->reads & ESP_READS_PRUNED) {
        ESP_TRY(add_plan(inputs, run, "pruned", "pruned"));
    }
    if (stage->reads & ESP_READS_RECOVERED) {
        add_recovered(inputs, run);
    }
    for (size_t i = 0; i < ESP_MAX_FILES && stage->files[i]; i++) {
        ESP_TRY(add_named_file(inputs, run, stage->files[i]));
    }
    return ESP_OK;
}

esp_status esp_record_make(json_t **record, const esp_run *run, esp_stage s)
{
    *record = json_pack("{s:o, s:{}}", "settings", esp_record_settings(run, s), "inputs");
    ESP_REQUIRE(*record);
    return add_inputs(json_object_get(*record, "inputs"), run, &esp_stages[s]);
}

/* ---- what differs ----------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text && *text ? text : "nothing";
}

/* The first key whose values differ, NULL when there is none. Borrowed from now. */
static const char *difference(json_t *now, json_t *then)
{
    const char *key;
    json_t *value;

    json_object_foreach(now, key, value)
    {
        if (!json_equal(value, json_object_get(then, key))) {
            return key;
        }
    }
    json_object_foreach(then, key, value)
    {
        if (!json_object_get(now, key)) {
            return key;
        }
    }
    return NULL;
}

static esp_status refuse(const esp_run *run, const esp_stage_info *stage, const char *part,
                         const char *key, const json_t *now, const json_t *then)
{
    bool setting = strcmp(part, "settings") == 0;

    return esp_fail(
        ESP_EUSAGE,
        "%s: %s was done with %s%s = %s, now it is %s: use another run_dir, or espalier %s "
        "-f to do it and all that follows anew",
        run->dir.path, stage->name, setting ? "" : "another content of ", key, text_of(then, key),
        text_of(now, key), stage->name);
}

/* ESP_EUSAGE when that part of the record of a stage is not what it would be now. */
esp_status esp_record_compare(const esp_run *run, const esp_stage_info *stage, const char *part,
                              json_t *now, json_t *then)
{
    const char *key;

    now = json_object_get(now, part);
    then = json_object_get(then, part);
    key = difference(now, then);
    return key ? refuse(run, stage, part, key, now, then) : ESP_OK;
}
