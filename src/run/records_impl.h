/* records_impl.h - records of stages in manifest.json.
 *
 * A record is {"settings": {path: text}, "inputs": {name: digest}, "finished": time, ...}. For rank 0.
 */
#ifndef ESPALIER_RECORDS_IMPL_H
#define ESPALIER_RECORDS_IMPL_H

#include "run_impl.h"

/* The settings that shape the result of a stage. New reference. */
json_t *esp_record_settings(const esp_run *run, esp_stage s);

/* The settings of a record that were not given: {path: recipe}. New reference. */
json_t *esp_record_recipes(const esp_run *run, const json_t *record);

/* Digests of the files whose text the stage reads to make a model, in a list. New reference in any case. */
esp_status esp_record_texts(json_t **digests, const esp_run *run, esp_stage s);

/* What a stage would be recorded as if it was done now. *record is a new reference in any case. */
esp_status esp_record_make(json_t **record, const esp_run *run, esp_stage s);

/* The first key of a part of two records whose values differ, NULL when there is none; their texts [out].
 * Borrowed from the records. */
const char *esp_record_difference(const char **now_text, const char **then_text, const char *part,
                                  json_t *now, json_t *then);

/* ESP_EUSAGE, naming the first difference, when that part of a record of the stage is not what it would
 * be now. part: "settings" or "inputs". */
esp_status esp_record_compare(const esp_run *run, esp_stage s, const char *part, json_t *now,
                              json_t *then);

/* ESP_EUSAGE where an earlier result, from which stage s is made through others or directly, was itself
 * made of another model, importance, plan or pruned model than is there now. */
esp_status esp_record_check_chain(const esp_run *run, esp_stage s);

#endif
