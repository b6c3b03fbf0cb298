/* settings.h - what settings say of a model, and of the stages of a run. All functions are Local. */
#ifndef ESPALIER_SETTINGS_H
#define ESPALIER_SETTINGS_H

#include "espalier/config.h"
#include "espalier/importance.h"
#include "espalier/model.h"
#include "espalier/plan.h"
#include "espalier/recover.h"

/* targets [out]: recover.targets as a bit set of slots of arch; without any, all projections of a block.
 * ESP_EUSAGE for a name that is no projection, and the bits of those before it. */
esp_status esp_settings_targets(uint64_t *targets, const esp_config *c, const esp_arch *arch);

/* Whether these stages (bits of esp_stage) use calibration samples, which score does, and a plan of several
 * steps, where the criteria need gradients. */
bool esp_settings_need_calibration(const esp_config *c, unsigned stages);

/* The kind of the questions of an entry of eval.tasks, NULL where there is none of that name. Borrowed. name
 * [out]: what the task is called in results; the caller frees. */
const esp_question_kind *esp_settings_task(char **name, const esp_named_file *entry);

/* Whether an entry of eval.corpora names a text. name [out]: what it is called in results; the caller
 * frees. window [out]: tokens of its windows. */
bool esp_settings_corpus(char **name, size_t *window, const esp_config *c,
                         const esp_named_file *entry);

/* Folder of the model that recover follows, NULL where it follows none. Borrowed. */
const char *esp_settings_teacher(const esp_config *c);

/* Path of the file of examples of a task, NULL where there is none. Borrowed. */
const char *esp_settings_examples(const esp_config *c, const char *task);

/* Whether these stages fit projections to text: prune, where it is to compensate. */
bool esp_settings_compensate(const esp_config *c, unsigned stages);

/* The text that is for it, and its field. Borrowed. */
const char *esp_settings_compensate_corpus(const char **field, const esp_config *c);

/* The stages of `espalier run`, bits of esp_stage: without score for criterion random, without recover and
 * eval where they lack their text. */
unsigned esp_settings_stages(const esp_config *c);

/* Name of a stage and of its command. Borrowed. */
const char *esp_stage_name(esp_stage s);

#endif
