/* records.c - what is recorded about a stage, and what differs between two records of it. */
#include "records_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "espalier/settings.h"
#include "results_impl.h"
#include "stage_info_impl.h"

/* Files that stages read are known by their content, wherever they lie. */
static bool is_file(const esp_run *run, const char *setting)
{
    for (int s = 0; s < ESP_N_STAGES; s++) {
        for (size_t i = 0; i < ESP_MAX_FILES && run->stages[s].files[i]; i++) {
            if (strcmp(run->stages[s].files[i], setting) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Bits of the stages whose settings shape the result of a stage: its own, and of a plan that walks as a
 * compensation does also those of prune. */
static unsigned shaped_by(const esp_run *run, esp_stage s)
{
    bool walks = s == ESP_STAGE_PLAN && esp_settings_reconstruct(run->config);

    return 1u << s | (walks ? 1u << ESP_STAGE_PRUNE : 0);
}

json_t *esp_record_settings(const esp_run *run, esp_stage s)
{
    unsigned stages = shaped_by(run, s);
    json_t *settings = json_object();

    for (size_t i = 0; i < esp_n_options; i++) {
        const esp_option *o = &esp_options[i];

        if (o->stages & stages && !is_file(run, o->path)) {
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

/* The files that a setting names, those with names of their own by these. */
static esp_status add_named_files(json_t *inputs, const esp_run *run, const char *setting)
{
    esp_named_files files;
    esp_status st = ESP_OK;

    esp_option_files(&files, run->config, esp_option_find(setting));
    for (size_t i = 0; i < files.n && st == ESP_OK; i++) {
        st = add_file(inputs, files.item[i].name, files.item[i].path);
    }
    esp_named_files_free(&files);
    return st;
}

/* A result of an earlier stage, by the digest recorded of it. */
static void add_result(json_t *inputs, const esp_run *run, esp_stage s, const char *name)
{
    const char *digest = esp_results_digest(run, s, name);

    if (digest) {
        json_object_set_new(inputs, name, json_string(digest));
    }
}

/* The files that make the tokenizer of the model, as far as there are any. */
static esp_status add_tokenizer(json_t *inputs, const esp_run *run)
{
    static const char *const names[] = { "tokenizer.json",
                                         "tokenizer.model",
                                         "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "ice_text.model" };
    json_t *files = json_object();
    char hex[ESP_DIGEST_SIZE];
    esp_status st = ESP_OK;

    for (size_t i = 0; i < sizeof names / sizeof *names && st == ESP_OK; i++) {
        char *path = esp_path(run->config->model, names[i]);

        st = esp_file_exists(path) ? add_file(files, names[i], path) : ESP_OK;
        free(path);
    }
    if (st == ESP_OK && json_object_size(files) > 0) {
        esp_json_digest(hex, files);
        json_object_set_new(inputs, "tokenizer", json_string(hex));
    }
    json_decref(files);
    return st;
}

static void add_texts(json_t *inputs, const esp_run *run, esp_stage s)
{
    uint64_t words[ESP_DIGEST_WORDS];
    char hex[ESP_DIGEST_SIZE];

    if (run->stages[s].texts && run->stages[s].texts(words, run)) {
        esp_digest_bytes(hex, words, sizeof words);
        json_object_set_new(inputs, "samples", json_string(hex));
    }
}

/* The model and what earlier stages made of it. */
static esp_status add_chain(json_t *inputs, const esp_run *run, esp_stage s)
{
    const esp_stage_info *stage = &run->stages[s];
    bool scored = esp_settings_rank(run->config);
    bool weights = scored || esp_settings_reconstruct(run->config);

    if (stage->reads & ESP_READS_MODEL || (stage->reads & ESP_READS_SCORED && weights)) {
        json_object_set_new(inputs, "model", json_string(run->digest));
    }
    if (stage->reads & ESP_READS_TEACHER && run->teacher) {
        json_object_set_new(inputs, "teacher", json_string(run->teacher_digest));
    }
    if (stage->reads & ESP_READS_SCORED && scored) {
        add_result(inputs, run, ESP_STAGE_SCORE, "importance.h5");
    } else if (stage->reads & ESP_READS_SCORED && !weights) {
        json_object_set_new(inputs, "model", json_string(run->shape));
    }
    if (stage->reads & ESP_READS_PLAN) {
        add_result(inputs, run, ESP_STAGE_PLAN, "plan.json");
    }
    if (stage->reads & ESP_READS_PRUNED && esp_run_dir_has(&run->dir, "pruned")) {
        add_result(inputs, run, ESP_STAGE_PRUNE, "pruned");
    }
    if (stage->reads & ESP_READS_RECOVERED && esp_run_dir_has(&run->dir, "recovered")) {
        add_result(inputs, run, ESP_STAGE_RECOVER, "recovered");
    }
    return stage->reads & ESP_READS_MODEL ? add_tokenizer(inputs, run) : ESP_OK;
}

static esp_status add_inputs(json_t *inputs, const esp_run *run, esp_stage s)
{
    const esp_stage_info *stage = &run->stages[s];

    ESP_TRY(add_chain(inputs, run, s));
    for (size_t i = 0; i < ESP_MAX_FILES && stage->files[i]; i++) {
        ESP_TRY(add_named_files(inputs, run, stage->files[i]));
    }
    add_texts(inputs, run, s); /* last: a text that has changed is named as such */
    return ESP_OK;
}

/* {name of a text: samples of it} where the stage mixes several. */
static void add_mix(json_t *record, const esp_run *run, esp_stage s)
{
    const esp_named_files *corpora = esp_settings_text(run->config, s).corpora;
    json_t *mix = json_object();

    for (size_t i = 0; run->mixed[s] && i < corpora->n; i++) {
        double weight;
        char *name;

        esp_settings_mixed(&name, &weight, &corpora->item[i]);
        json_object_set_new(mix, name, json_integer((json_int_t)run->mixed[s][i]));
        free(name);
    }
    if (run->mixed[s]) {
        json_object_set(record, "mix", mix);
    }
    json_decref(mix);
}

esp_status esp_record_make(json_t **record, const esp_run *run, esp_stage s)
{
    *record = json_pack("{s:o, s:{}}", "settings", esp_record_settings(run, s), "inputs");
    ESP_REQUIRE(*record);
    add_mix(*record, run, s);
    return add_inputs(json_object_get(*record, "inputs"), run, s);
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

static esp_status refuse(const esp_run *run, esp_stage s, const char *part, const char *key,
                         const json_t *now, const json_t *then)
{
    bool setting = strcmp(part, "settings") == 0;
    const char *name = esp_stage_name(s);

    return esp_fail(
        ESP_EUSAGE,
        "%s: %s was done with %s%s = %s, now it is %s: use another run_dir, or espalier %s "
        "-f to do it and all that follows anew",
        run->dir.path, name, setting ? "" : "another content of ", key, text_of(then, key),
        text_of(now, key), name);
}

const char *esp_record_difference(const char **now_text, const char **then_text, const char *part,
                                  json_t *now, json_t *then)
{
    const char *key;

    now = json_object_get(now, part);
    then = json_object_get(then, part);
    key = difference(now, then);
    *now_text = text_of(now, key);
    *then_text = text_of(then, key);
    return key;
}

/* ESP_EUSAGE when that part of the record of a stage is not what it would be now. */
esp_status esp_record_compare(const esp_run *run, esp_stage s, const char *part, json_t *now,
                              json_t *then)
{
    const char *key;

    now = json_object_get(now, part);
    then = json_object_get(then, part);
    key = difference(now, then);
    return key ? refuse(run, s, part, key, now, then) : ESP_OK;
}

/* Whether a stage's result is made from that of an earlier one. Some plans take no scores. */
static bool follows_from(const esp_run *run, esp_stage s, esp_stage before)
{
    return s > before && !(before == ESP_STAGE_SCORE && !esp_settings_rank(run->config));
}

esp_status esp_record_check_chain(const esp_run *run, esp_stage s)
{
    for (esp_stage b = 0; b < s; b++) {
        json_t *then = esp_run_dir_record(&run->dir, esp_stage_name(b)), *now = json_object();
        json_t *made_of = json_object_get(then, "inputs"), *value;
        const char *key;
        esp_status st = ESP_OK;

        if (json_object_get(then, "finished") && follows_from(run, s, b)) {
            st = add_chain(now, run, b);
        }
        json_object_foreach(now, key, value)
        {
            if (st == ESP_OK && json_object_get(made_of, key) &&
                !json_equal(value, json_object_get(made_of, key))) {
                st = refuse(run, b, "inputs", key, now, made_of);
            }
        }
        json_decref(now);
        ESP_TRY(st);
    }
    return ESP_OK;
}

json_t *esp_record_recipes(const esp_run *run, const json_t *record)
{
    json_t *settings = json_object_get(record, "settings"), *recipes = json_object();

    for (size_t i = 0; i < esp_n_options; i++) {
        const char *recipe = esp_recipe_of(run->config, &esp_options[i]);

        if (recipe && json_object_get(settings, esp_options[i].path)) {
            json_object_set_new(recipes, esp_options[i].path, json_string(recipe));
        }
    }
    return recipes;
}

static esp_status append_digest(json_t *digests, const char *path)
{
    json_t *file = json_object();
    esp_status st = *path ? add_file(file, "text", path) : ESP_OK;

    if (json_object_get(file, "text")) {
        json_array_append(digests, json_object_get(file, "text"));
    }
    json_decref(file);
    return st;
}

esp_status esp_record_texts(json_t **digests, const esp_run *run, esp_stage s)
{
    const esp_config *c = run->config;
    bool walks = s == ESP_STAGE_PLAN && esp_settings_reconstruct(c),
         tokens = *c->calibration.tokens;
    esp_text_source t = esp_settings_text(c, walks ? ESP_STAGE_PRUNE : s);
    uint64_t words[ESP_DIGEST_WORDS];

    *digests = json_array();
    if (s == ESP_STAGE_EVAL || !run->stages[s].texts || !run->stages[s].texts(words, run)) {
        return ESP_OK;
    }
    if (tokens && !walks && s <= ESP_STAGE_PLAN) {
        return append_digest(*digests, c->calibration.tokens);
    }
    ESP_TRY(append_digest(*digests, t.corpus));
    for (size_t i = 0; i < t.corpora->n; i++) {
        ESP_TRY(append_digest(*digests, t.corpora->item[i].path));
    }
    return ESP_OK;
}
