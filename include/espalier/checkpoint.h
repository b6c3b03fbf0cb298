/* checkpoint.h - the state of a recovery in one HDF5 file, written by all ranks, read by any number.
 *
 * /value /m /v /best f32 [n], each rank its share; attributes: version, settings, step, epoch, position
 * (samples of this epoch used), best_loss, best_step, bad_validations, digest of the values.
 */
#ifndef ESPALIER_CHECKPOINT_H
#define ESPALIER_CHECKPOINT_H

#include "espalier/params.h"
#include "espalier/par.h"

typedef struct esp_progress_state {
    size_t step,
        samples_seen; /* samples drawn since the start; epoch and position follow from it */
    double best_loss;
    size_t best_step, bad_validations;
    double first_loss; /* validation loss before the first step */
} esp_progress_state;

/* Writes dir/step-NNNNNN.h5 and removes all but the newest keep. Collective on grid->world. */
esp_status esp_checkpoint_save(const char *dir, const esp_params *p, const esp_progress_state *s,
                               const char *settings, size_t keep, const esp_grid *grid);

/* Loads the newest checkpoint in dir that is whole; *found is false when there is none. One that was made
 * with other settings is refused (ESP_EUSAGE). Collective on grid->world. */
esp_status esp_checkpoint_load(bool *found, const char *dir, esp_params *p, esp_progress_state *s,
                               const char *settings, const esp_grid *grid);

#endif
