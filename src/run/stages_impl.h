/* stages_impl.h - the stages, each in its file. All functions are collective, unless they say otherwise. */
#ifndef ESPALIER_STAGES_IMPL_H
#define ESPALIER_STAGES_IMPL_H

#include "espalier/importance.h"
#include "espalier/plan.h"
#include "run_impl.h"

esp_status esp_stage_score(esp_run *run);
esp_status esp_stage_score_check(const esp_run *run, json_t *record); /* Local. */
esp_status esp_stage_plan(esp_run *run);
esp_status esp_stage_prune(esp_run *run);
esp_status esp_stage_recover(esp_run *run);
esp_status esp_stage_eval(esp_run *run);

/* Scores of a model by the settings. */
esp_status esp_run_score(esp_scores *s, esp_importance_options *o, const esp_run *run,
                         const esp_model *m, const esp_groups *g);

/* A plan in the run directory, on all ranks; *p is {0} before. */
esp_status esp_run_load_plan(esp_plan *p, const esp_run *run, const char *name);

/* eval.json as a table on stdout. Rank 0. */
void esp_run_print_table(const esp_run *run);

#endif
