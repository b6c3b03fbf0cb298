/* stage_score.c - importance of all groups of the dense model: importance.h5. */
#include "stages_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/settings.h"
#include "records_impl.h"

esp_status esp_run_score(esp_scores *s, esp_importance_options *o, const esp_run *run,
                         const esp_model *m, const esp_groups *g)
{
    *o = run->config->importance;
    o->chunk_tok = run->chunk_tok[ESP_STAGE_SCORE];
    o->kept_layers = esp_min(run->kept_layers[ESP_STAGE_SCORE], run->kept_layers[ESP_STAGE_PLAN]);
    ESP_TRY(esp_importance_estimate(s, m, g, run->calibration.n ? &run->calibration : NULL, o,
                                    run->grid));
    return o->criteria >> ESP_MASKS & 1
               ? esp_masks_train(s, m, g, &run->calibration, &run->config->prune,
                                 &run->config->masks, run->grid)
               : ESP_OK;
}

/* ---- from another run ------------------------------------------------------------------------- */

static esp_status compare_part(const char *part, json_t *now, json_t *then)
{
    const char *here, *there, *key = esp_record_difference(&here, &there, part, now, then);
    bool setting = strcmp(part, "settings") == 0;

    return key ? esp_fail(ESP_EUSAGE,
                          "its importance.h5 was made with %s%s = %s, here it is %s: name a run "
                          "with the same, or leave importance.from empty and score computes it",
                          setting ? "" : "another content of ", key, there, here)
               : ESP_OK;
}

/* That the file of the other run is what its score left. */
static esp_status compare_file(const char *path, const json_t *then)
{
    const char *recorded =
        json_string_value(json_object_get(json_object_get(then, "outputs"), "importance.h5"));
    char now[ESP_DIGEST_SIZE];
    esp_map map;

    ESP_TRY(esp_map_open(&map, path));
    esp_digest_bytes(now, map.data, map.n);
    esp_map_close(&map);
    return recorded && strcmp(now, recorded) == 0
               ? ESP_OK
               : esp_fail(ESP_EUSAGE,
                          "its importance.h5 is not what score left there (digest %s was "
                          "recorded, now it is %s)",
                          recorded ? recorded : "none", now);
}

static esp_status compare_run(json_t *now, const esp_run_dir *other)
{
    json_t *then = esp_run_dir_record(other, "score");
    char *path = esp_path(other->path, "importance.h5");
    esp_status st = ESP_OK;

    if (!json_object_get(then, "finished")) {
        st = esp_fail(ESP_EUSAGE, "has no importance.h5: espalier score makes it there");
    }
    st = st == ESP_OK ? compare_part("settings", now, then) : st;
    st = st == ESP_OK ? compare_part("inputs", now, then) : st;
    st = st == ESP_OK ? compare_file(path, then) : st;
    free(path);
    return st;
}

esp_status esp_stage_score_check(const esp_run *run, json_t *record)
{
    const char *from = run->config->importance_from;
    esp_run_dir other = { 0 };
    esp_status st;

    if (!*from) {
        return ESP_OK;
    }
    st = esp_run_dir_look(&other, from);
    st = st == ESP_OK ? compare_run(record, &other) : st;
    esp_run_dir_close(&other);
    return st == ESP_OK ? ESP_OK : esp_fail_in(st, "importance.from: %s", from);
}

/* Rank 0: the file that was checked. */
static esp_status take_from(const esp_run *run, const char *to)
{
    char *path = esp_path(run->config->importance_from, "importance.h5");
    esp_status st = esp_file_copy(to, path);

    if (st == ESP_OK) {
        esp_info("score: %s, which was made with the same settings", path);
    }
    free(path);
    return st;
}

/* ---- computed --------------------------------------------------------------------------------- */

static esp_status compute(const esp_run *run, const char *path)
{
    esp_importance_options o;
    esp_groups groups;
    esp_scores scores = { 0 };
    esp_status st;

    esp_groups_find(&groups, &run->model);
    if (esp_criteria_need(run->config->importance.criteria, ESP_NEEDS_BACKWARD)) {
        esp_run_tell_kept(run, ESP_STAGE_SCORE, &run->model);
    }
    st = esp_run_score(&scores, &o, run, &run->model, &groups);
    if (st == ESP_OK && isfinite(scores.loss)) {
        esp_info("score: loss %.4f over %zu samples, %zu tokens", scores.loss, scores.n_samples,
                 scores.n_tok);
    }
    if (st == ESP_OK && run->grid->rank == 0) {
        st = esp_scores_save(&scores, path, run->digest, &o);
    }
    esp_scores_free(&scores);
    esp_groups_free(&groups);
    return st;
}

esp_status esp_stage_score(esp_run *run)
{
    char *path = esp_run_path(run, "importance.h5");
    esp_status st = ESP_OK;

    if (!*run->config->importance_from) {
        st = compute(run, path);
    } else if (run->grid->rank == 0) {
        st = take_from(run, path);
    }
    free(path);
    return st;
}
