/* results_impl.h - what the stages leave in the run directory.
 *
 * A record has "outputs": {name: digest}, names as in the run directory.
 */
#ifndef ESPALIER_RESULTS_IMPL_H
#define ESPALIER_RESULTS_IMPL_H

#include "run_impl.h"

/* ESP_EUSAGE where the model is a result of this run directory, or the run directory lies in the model.
 * Local. */
esp_status esp_results_check_model(const esp_run *run);

/* ESP_EUSAGE where something that this program did not make stands in the place of an output; anew: which
 * are all to be removed. Rank 0. */
esp_status esp_results_check_places(const esp_run *run, esp_stage s, bool anew);

/* Adds the digests of what a stage has left to its record. Rank 0. */
esp_status esp_results_record(json_t *record, const esp_run *run, esp_stage s);

/* The digest recorded of a result of a finished stage, NULL where there is none. Borrowed. Rank 0. */
const char *esp_results_digest(const esp_run *run, esp_stage s, const char *name);

/* Whether all is there that a finished stage is recorded to have left; whether its files are what they
 * were, as esp_results_verify has it. Rank 0. */
bool esp_results_are_there(const esp_run *run, esp_stage s);
esp_status esp_results_verify_files(const esp_run *run, esp_stage s);

/* ESP_EUSAGE where what a finished stage left, or what a stage is about to read of earlier ones, is not
 * what was recorded: file, both digests, remedy. Collective. */
esp_status esp_results_verify(esp_run *run, esp_stage s);
esp_status esp_results_verify_read(esp_run *run, esp_stage s);

#endif
