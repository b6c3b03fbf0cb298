/* run.h - the stages of a run over one run directory: score, plan, prune, recover, eval.
 *
 * Each stage reads the model, its corpus and what earlier stages left, writes its result as NAME.espalier-
 * part and renames it, and is then recorded in manifest.json: the settings that shape its result and
 * digests of what it read. A recorded stage is not done again. Called with other settings it is refused,
 * unless it is forced: then it and all later ones are done anew. A job that dies is simply run again. */
#ifndef ESPALIER_RUN_H
#define ESPALIER_RUN_H

#include "espalier/config.h"
#include "espalier/model.h"
#include "espalier/par.h"

/* Does those stages (bits of esp_stage) that are not done yet, in order. All inputs are read and checked
 * before anything is written. stop: polled between stages and between steps of a recovery.
 * ESP_EUSAGE for an input or setting refused, a stage that must come first, a run directory in use;
 * ESP_ESTOPPED when stop was set: the same call goes on from there. Collective on grid->world. */
esp_status esp_run_stages(const esp_config *c, unsigned stages, bool force,
                          const volatile int *stop, const esp_grid *grid);

/* What settings and shapes tell of the plan: ESP_EUSAGE where it cannot be met, would cut nothing, or a
 * client of prune.clients will not take it; warnings as esp_plan_check_early's. Local. */
esp_status esp_run_check_plan_early(const esp_config *c, const esp_model *m);

#endif
