/* run.h - the stages of a run over one run directory: score, plan, prune, recover, eval.
 *
 * Each stage reads the model, its corpus and what earlier stages left, writes its result as
 * NAME.espalier-part and renames it, and is then recorded in manifest.json: the settings that shape its
 * result and digests of what it read. A recorded stage is not done again. With other settings it is refused,
 * unless it is forced: then it and all later ones are done anew. A job that died is simply run again.
 */
#ifndef ESPALIER_RUN_H
#define ESPALIER_RUN_H

#include <jansson.h>

#include "espalier/config.h"
#include "espalier/model.h"
#include "espalier/par.h"

/* Does those stages (bits of esp_stage) that are not done yet, in order; c is the same on all ranks. All
 * inputs are read and checked before anything is written. stop (NULL: none): read between stages and between
 * steps of a recovery. ESP_EUSAGE for an input or setting refused, a stage that must come first, memory that
 * does not suffice, or a run directory in use or not made by this program; ESP_EFORMAT for an input file,
 * ESP_EIO; ESP_EFAILED for numbers that are not finite, or an input that changed meanwhile; ESP_ESTOPPED when
 * stop was set on any rank: the same call goes on from there. The same status on all ranks. Collective on
 * grid->world. */
esp_status esp_run_stages(const esp_config *c, unsigned stages, bool force,
                          const volatile int *stop, const esp_grid *grid);

/* What settings and the shapes of m say of these stages, without a look at any file. ESP_EUSAGE naming the
 * setting: the plan cannot be met, would cut nothing, or an inference engine of prune.clients could not load
 * the result; samples longer than the model has positions; more pipeline stages than layers. Warnings as
 * esp_plan_check_early's. Local. */
esp_status esp_run_check_shape(const esp_config *c, const esp_model *m, unsigned stages);

/* stages, results [out, owned]: the records of a run's manifest.json, and its eval.json, as eval left it and
 * of the models that are there now; NULL after a failure: ESP_EUSAGE where there is no run, or eval is not
 * done; ESP_EFORMAT where a file is damaged; ESP_EIO. Locks and writes nothing. Local. */
esp_status esp_run_results(json_t **stages, json_t **results, const char *dir);

/* ESP_EUSAGE where there is something at path that is in the folder of a run, whose results only its stages
 * replace. Local. */
esp_status esp_run_check_apart(const char *path);

#endif
