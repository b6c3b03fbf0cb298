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

/* Whether the plan chooses groups by what projections lose; whether it ranks them by importance.h5. */
bool esp_settings_reconstruct(const esp_config *c);
bool esp_settings_rank(const esp_config *c);

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

/* Whether these stages read the text of compensation: prune, where it is to compensate, and a plan that
 * chooses groups by what projections lose. */
bool esp_settings_compensate(const esp_config *c, unsigned stages);

/* The text that a stage takes its samples from: one corpus, or a mix of several. All is borrowed. */
typedef struct esp_text_source {
    const char *corpus; /* "" where it is not set */
    const char *field;
    const esp_named_files *corpora; /* by NAME or NAME:WEIGHT */
    const char *corpora_setting;    /* what they are set by   */
} esp_text_source;

/* That of score, prune (where it compensates: its own, else that of score) or recover. */
esp_text_source esp_settings_text(const esp_config *c, esp_stage s);

/* Whether there is any. */
bool esp_settings_has_text(const esp_text_source *t);

/* Whether an entry of a list of texts to mix is one. name [out]: what it is called in results; the caller
 * frees. weight [out]: 1 where there is none. */
bool esp_settings_mixed(char **name, double *weight, const esp_named_file *entry);

/* The stages of `espalier run`, bits of esp_stage: without score where it ranks nothing, without recover and
 * eval where they lack their text. */
unsigned esp_settings_stages(const esp_config *c);

/* Name of a stage and of its command. Borrowed. */
const char *esp_stage_name(esp_stage s);

#endif
