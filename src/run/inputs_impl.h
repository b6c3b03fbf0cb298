/* inputs_impl.h - what the stages asked for read from outside. */
#ifndef ESPALIER_INPUTS_IMPL_H
#define ESPALIER_INPUTS_IMPL_H

#include "run_impl.h"

/* ESP_EUSAGE where these stages multiply in a precision that a rank cannot. Collective. */
esp_status esp_run_check_precision(const esp_run *run, unsigned stages);

/* A model folder, with precision and rope_ratio of the settings; *m is {0} after a failure. Collective. */
esp_status esp_run_load_model(esp_model *m, const esp_run *run, const char *dir);

/* esp_model_digest for these stages: those that cut copy any layer on any rank, the others use the layers
 * of the rank's stage of the grid. Collective. */
esp_status esp_run_digest_model(char hex[ESP_DIGEST_SIZE], const esp_model *m, const esp_run *run,
                                unsigned stages);

/* ESP_EFAILED where a file of weights has changed since it was opened: before what was made of it is kept.
 * Collective. */
esp_status esp_run_check_unchanged(const esp_run *run, const esp_model *m);

/* Opens the model, then reads the samples of these stages. Collective. */
esp_status esp_run_open_model(esp_run *run, unsigned stages);
esp_status esp_run_read_samples(esp_run *run, unsigned stages);
void esp_run_free_inputs(esp_run *run);

#endif
