/* stage_score.c - importance of all groups of the dense model: importance.h5. */
#include "stages_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/settings.h"

esp_status esp_run_score(esp_scores *s, esp_importance_options *o, const esp_run *run,
                         const esp_model *m, const esp_groups *g)
{
    *o = run->config->importance;
    o->chunk_tok = run->chunk_tok[ESP_STAGE_SCORE];
    o->kept_layers = esp_min(run->kept_layers[ESP_STAGE_SCORE], run->kept_layers[ESP_STAGE_PLAN]);
    return esp_importance_estimate(s, m, g, run->calibration.n ? &run->calibration : NULL, o,
                                   run->grid);
}

esp_status esp_stage_score(esp_run *run)
{
    char *path = esp_run_path(run, "importance.h5");
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
    free(path);
    return st;
}
