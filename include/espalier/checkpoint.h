/* checkpoint.h - the state of a recovery in one HDF5 file, written by all ranks, read by any number.
 *
 * dir/step-NNNNNN.h5: /value /m /v /best f32 [n], each rank its share; attributes: version, settings,
 * the fields of esp_training, digest of all that. It holds nothing of the number of ranks.
 */
#ifndef ESPALIER_CHECKPOINT_H
#define ESPALIER_CHECKPOINT_H

#include "espalier/par.h"
#include "espalier/params.h"

/* Where a training is: what, beside the vectors, decides how it goes on. */
typedef struct esp_training {
    size_t step;            /* steps done                                              */
    size_t epoch, position; /* of the next sample: epoch, samples of it already used   */
    size_t best_step;
    size_t bad_validations; /* since the best one                                      */
    double train_loss;      /* of the last step                                        */
    double first_loss;      /* validation loss before the first step; < 0: none        */
    double best_loss;       /* best validation loss; < 0: none                         */
} esp_training;

/* Writes dir/step-NNNNNN.h5 (complete or not at all) and removes all but the newest `keep` (at least 1)
 * and what was left half written. settings: what a resuming run must agree with. ESP_EIO.
 * Collective on grid->world. */
esp_status esp_checkpoint_save(const char *dir, const esp_params *p, const esp_training *t,
                               const char *settings, size_t keep, const esp_grid *grid);

/* Loads the newest checkpoint in dir that is whole; damaged ones are named and passed over. *found is
 * false when there is none: p->value is untouched then. p->grad is used as scratch and left zeroed.
 * ESP_EUSAGE when it was made with other settings. Collective on grid->world. */
esp_status esp_checkpoint_load(bool *found, const char *dir, esp_params *p, esp_training *t,
                               const char *settings, const esp_grid *grid);

#endif
