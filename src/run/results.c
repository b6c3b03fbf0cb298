/* results.c - what the stages leave in the run directory: whose it is, and whether it still is that. */
#include "results_impl.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/mem.h"
#include "espalier/settings.h"
#include "inputs_impl.h"
#include "stage_info_impl.h"

/* ---- places ------------------------------------------------------------------------------------ */

static bool is_partial(const esp_stage_info *stage, const char *name)
{
    return stage->partial && strcmp(stage->partial, name) == 0;
}

/* A stage writes where nothing is that this program did not make: it made what a recorded stage left and, of
 * folders, what their marker names. Unfinished work that is continued may have other files beside it. */
static esp_status check_place(const esp_run *run, esp_stage s, const char *name, bool anew)
{
    char *path = esp_run_path(run, name);
    bool folder = strchr(name, '.') == NULL, goes_on = is_partial(&run->stages[s], name) && !anew;
    esp_status st = ESP_OK;

    if (folder) {
        st = goes_on ? esp_folder_check_made(path) : esp_folder_check(path);
        st = st == ESP_OK ? esp_dir_check(path) : st;
    }
    if (st == ESP_OK && esp_run_dir_has(&run->dir, name) &&
        (!(folder ? esp_dir_exists(path) : esp_file_exists(path)) ||
         !esp_run_dir_record(&run->dir, esp_stage_name(s)))) {
        st = esp_fail(ESP_EUSAGE,
                      "%s: is there, and manifest.json does not say that espalier made it: move it "
                      "away, or use another run_dir",
                      path);
    }
    free(path);
    return st;
}

esp_status esp_results_check_places(const esp_run *run, esp_stage s, bool anew)
{
    const esp_stage_info *stage = &run->stages[s];

    for (size_t i = 0; i < ESP_MAX_OUTPUTS && stage->outputs[i]; i++) {
        ESP_TRY(check_place(run, s, stage->outputs[i], anew));
    }
    return ESP_OK;
}

static bool is_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* Whether a path is, or lies in, what a stage makes; *name is that. */
static bool is_in_result(const char **name, const char *path, const char *dir, const esp_run *run)
{
    for (int s = 0; s < ESP_N_STAGES; s++) {
        for (size_t i = 0; i < ESP_MAX_OUTPUTS && run->stages[s].outputs[i]; i++) {
            char *result = esp_path(dir, run->stages[s].outputs[i]);
            bool is = is_in(path, result);

            free(result);
            *name = run->stages[s].outputs[i];
            if (is) {
                return true;
            }
        }
    }
    return false;
}

esp_status esp_results_check_model(const esp_run *run)
{
    char *model = esp_path_real(run->config->model), *dir = esp_path_real(run->config->run_dir);
    const char *name;
    esp_status st = ESP_OK;

    if (is_in(dir, model)) {
        st =
            esp_fail(ESP_EUSAGE,
                     "run_dir: %s is in the model folder %s, where nothing is written: use another "
                     "run_dir",
                     run->config->run_dir, run->config->model);
    } else if (is_in_result(&name, model, dir, run)) {
        st = esp_fail(ESP_EUSAGE,
                      "model: %s is in %s of run_dir %s, a result that this run may replace: use "
                      "another run_dir",
                      run->config->model, name, run->config->run_dir);
    }
    free(model);
    free(dir);
    return st;
}

/* ---- digests ----------------------------------------------------------------------------------- */

/* Adds the digest of a file of the run directory under its name; one that is not there is left out. */
static esp_status add_file(json_t *digests, const esp_run *run, const char *name)
{
    char hex[ESP_DIGEST_SIZE], *path = esp_run_path(run, name);
    esp_map map;
    esp_status st = ESP_OK;

    if (esp_file_exists(path)) {
        st = esp_map_open(&map, path);
        if (st == ESP_OK) {
            esp_digest_bytes(hex, map.data, map.n);
            esp_map_close(&map);
            json_object_set_new(digests, name, json_string(hex));
        }
    }
    free(path);
    return st;
}

static bool is_weights(const char *name)
{
    return fnmatch("*.safetensors", name, 0) == 0;
}

/* The files that a folder's marker names; the weights of a model have its digest instead. */
static esp_status add_folder(json_t *digests, const esp_run *run, const char *name, bool model)
{
    char *path = esp_run_path(run, name), **files = NULL;
    size_t n = 0;
    esp_status st = esp_dir_exists(path) ? esp_folder_names(&files, &n, path) : ESP_OK;

    for (size_t i = 0; i < n; i++) {
        if (st == ESP_OK && !(model && is_weights(files[i]))) {
            char *file = esp_path(name, files[i]);

            st = add_file(digests, run, file);
            free(file);
        }
        free(files[i]);
    }
    free(files);
    free(path);
    return st;
}

static bool is_model(const esp_stage_info *stage, const char *name)
{
    return stage->model && strcmp(stage->model, name) == 0;
}

esp_status esp_results_record(json_t *record, const esp_run *run, esp_stage s)
{
    const esp_stage_info *stage = &run->stages[s];
    json_t *digests = json_object();

    json_object_set_new(record, "outputs", digests);
    if (stage->model) {
        json_object_set_new(digests, stage->model, json_string(run->made));
    }
    for (size_t i = 0; i < ESP_MAX_OUTPUTS && stage->outputs[i]; i++) {
        const char *name = stage->outputs[i];

        if (!is_partial(stage, name)) {
            ESP_TRY(strchr(name, '.') ? add_file(digests, run, name)
                                      : add_folder(digests, run, name, is_model(stage, name)));
        }
    }
    return ESP_OK;
}

const char *esp_results_digest(const esp_run *run, esp_stage s, const char *name)
{
    const json_t *record = esp_run_dir_record(&run->dir, esp_stage_name(s));

    return json_object_get(record, "finished")
               ? json_string_value(json_object_get(json_object_get(record, "outputs"), name))
               : NULL;
}

/* ---- verification ------------------------------------------------------------------------------ */

static esp_status differs(const esp_run *run, esp_stage s, const char *name, const char *recorded,
                          const char *there)
{
    const char *stage = esp_stage_name(s);

    return esp_fail(ESP_EUSAGE,
                    "%s/%s: is not what %s left there (digest %s was recorded, now it is %s): put "
                    "that back, or espalier %s -f to make it and all that follows anew",
                    run->dir.path, name, stage, recorded, there ? there : "missing", stage);
}

/* Rank 0: that the weights are there which the marker of a model folder names; their bytes are compared when
 * they are read. */
static esp_status verify_weights(const esp_run *run, esp_stage s, const char *result)
{
    char *dir = esp_run_path(run, result), *marker = esp_path(dir, ESP_MARKER), **names = NULL;
    size_t n = 0;
    esp_status st = esp_file_exists(marker) ? esp_folder_names(&names, &n, dir) : ESP_OK;

    for (size_t i = 0; i < n; i++) {
        char *file = esp_path(result, names[i]);

        if (st == ESP_OK && is_weights(names[i]) && !esp_run_dir_has(&run->dir, file)) {
            st = differs(run, s, file, esp_results_digest(run, s, result), NULL);
        }
        free(file);
        free(names[i]);
    }
    free(names);
    free(marker);
    free(dir);
    return st;
}

/* Rank 0: the files of a result. */
static esp_status verify_files(const esp_run *run, esp_stage s, const char *result)
{
    json_t *record = esp_run_dir_record(&run->dir, esp_stage_name(s)), *value;
    json_t *now = json_object();
    const char *name;
    esp_status st = ESP_OK;

    json_object_foreach(json_object_get(record, "outputs"), name, value)
    {
        const char *recorded = json_string_value(value), *there;

        if (st != ESP_OK || !is_in(name, result)) {
            continue;
        }
        if (is_model(&run->stages[s], name)) {
            st = verify_weights(run, s, name);
            continue;
        }
        st = add_file(now, run, name);
        there = json_string_value(json_object_get(now, name));
        if (st == ESP_OK && !(there && strcmp(there, recorded) == 0)) {
            st = differs(run, s, name, recorded, there);
        }
    }
    json_decref(now);
    return st;
}

esp_status esp_results_verify_files(const esp_run *run, esp_stage s)
{
    const esp_stage_info *stage = &run->stages[s];

    for (size_t i = 0; i < ESP_MAX_OUTPUTS && stage->outputs[i]; i++) {
        ESP_TRY(verify_files(run, s, stage->outputs[i]));
    }
    return ESP_OK;
}

bool esp_results_are_there(const esp_run *run, esp_stage s)
{
    json_t *record = esp_run_dir_record(&run->dir, esp_stage_name(s)), *value;
    const char *file;
    bool all = esp_run_dir_has(&run->dir, run->stages[s].outputs[0]);

    for (size_t i = 1; i < ESP_MAX_OUTPUTS && run->stages[s].outputs[i]; i++) {
        const char *name = run->stages[s].outputs[i];

        json_object_foreach(json_object_get(record, "outputs"), file, value)
        {
            all = all && (!is_in(file, name) || esp_run_dir_has(&run->dir, name));
        }
    }
    return all;
}

/* The bytes of a model on all nodes; its other files have been compared. Collective. */
static esp_status verify_model(const esp_run *run, esp_stage s)
{
    const char *name = run->stages[s].model, *recorded;
    char hex[ESP_DIGEST_SIZE], *path = esp_run_path(run, name);
    char *weights = esp_path(name, "model*.safetensors");
    esp_model m = { 0 };
    esp_status st = esp_run_load_model(&m, run, path);

    if (st == ESP_OK) {
        st = esp_run_digest_model(hex, &m, run, 1u << s);
    }
    if (st == ESP_OK && run->grid->rank == 0) {
        recorded = esp_results_digest(run, s, name);
        st = strcmp(hex, recorded) == 0 ? ESP_OK : differs(run, s, weights, recorded, hex);
    }
    esp_model_free(&m);
    free(weights);
    free(path);
    return esp_agree(run->grid->world, st);
}

/* Rank 0: whether there is something to compare with. */
static esp_status need_digest(const esp_run *run, esp_stage s, const char *result)
{
    const char *name = esp_stage_name(s);

    if (esp_results_digest(run, s, result)) {
        return ESP_OK;
    }
    return esp_fail(ESP_EUSAGE,
                    "%s/%s: manifest.json has no digest of it, so nobody knows whether %s made it: "
                    "espalier %s makes it%s",
                    run->dir.path, result, name, name,
                    esp_run_dir_record(&run->dir, name) ? " anew with -f" : ", once it is away");
}

static esp_status verify(esp_run *run, esp_stage s, const char *result)
{
    MPI_Comm world = run->grid->world;
    const esp_stage_info *stage = &run->stages[s];
    bool model = is_model(stage, result), optional = strcmp(result, stage->outputs[0]) != 0;
    esp_status st = ESP_OK;

    if (run->verified >> s & 1) {
        return ESP_OK;
    }
    if (run->grid->rank == 0) {
        bool wanted = strchr(result, '.') && (!optional || esp_run_dir_has(&run->dir, result));

        st = wanted || model ? need_digest(run, s, result) : ESP_OK;
        st = st == ESP_OK ? verify_files(run, s, result) : st;
    }
    ESP_TRY(esp_agree(world, st));
    return model ? verify_model(run, s) : ESP_OK;
}

esp_status esp_results_verify(esp_run *run, esp_stage s)
{
    const esp_stage_info *stage = &run->stages[s];

    for (size_t i = 0; i < ESP_MAX_OUTPUTS && stage->outputs[i]; i++) {
        if (!is_partial(stage, stage->outputs[i])) {
            ESP_TRY(verify(run, s, stage->outputs[i]));
        }
    }
    run->verified |= 1u << s;
    return ESP_OK;
}

esp_status esp_results_verify_read(esp_run *run, esp_stage s)
{
    unsigned reads = run->stages[s].reads;

    if (reads & ESP_READS_SCORED && esp_settings_rank(run->config)) {
        ESP_TRY(verify(run, ESP_STAGE_SCORE, "importance.h5"));
    }
    if (reads & ESP_READS_PLAN) {
        ESP_TRY(verify(run, ESP_STAGE_PLAN, "plan.json"));
    }
    if (reads & ESP_READS_PRUNED && esp_run_has(run, "pruned")) {
        ESP_TRY(verify(run, ESP_STAGE_PRUNE, "pruned"));
    }
    if (reads & ESP_READS_RECOVERED && esp_run_has(run, "recovered")) {
        ESP_TRY(verify(run, ESP_STAGE_RECOVER, "recovered"));
    }
    return ESP_OK;
}
