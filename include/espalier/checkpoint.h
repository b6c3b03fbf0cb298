/* checkpoint.h - the state of a recovery in one HDF5 file, written by all ranks, read by any number.
 *
 * dir/step-NNNNNN.h5: /value /m /v /best f32 [n]; attributes: version, settings, the fields of
 * esp_training, digest of all that. It holds nothing of the number of ranks.
 *
 * Rank 0 lays the file out and reserves its space; then all ranks bring their shares of the vectors to their
 * places, by collective transfers of parallel HDF5, or each with plain writes of its own. A thread does that,
 * where MPI allows it. Nothing is copied: what is written does not change in the forward and backward of the
 * next step, and its optimiser waits for the writing to end. HDF5 is not called elsewhere meanwhile.
 */
#ifndef ESPALIER_CHECKPOINT_H
#define ESPALIER_CHECKPOINT_H

#include "espalier/h5.h"
#include "espalier/mpi_io.h"
#include "espalier/par.h"
#include "espalier/params.h"

/* Where a training is: what, beside the vectors, decides how it goes on. */
typedef struct esp_training {
    size_t step;            /* steps done                                              */
    size_t epoch, position; /* of the next sample: epoch, samples of it already used   */
    size_t best_step;
    size_t bad_validations; /* since the best one                                      */
    size_t skipped;         /* of these steps: loss or gradient was not finite         */
    size_t in_a_row;        /* of these: the last steps                                */
    size_t rollbacks;       /* times the training has gone back                        */
    size_t saved;           /* step of the newest regular checkpoint; 0: none          */
    size_t good;            /* of the newest one that a step has proved good; 0: none  */
    double train_loss;      /* of the last step that was not skipped                   */
    double first_loss;      /* validation loss before the first step; < 0: none        */
    double best_loss;       /* best validation loss; < 0: none                         */
} esp_training;

typedef struct esp_checkpoint {
    const char *dir;      /* borrowed                                                   */
    const char *settings; /* borrowed; what a run that resumes must agree with          */
    size_t keep;          /* newest files that stay, at least 1, beside that of at.good */
    esp_params *params;   /* borrowed; after esp_params_train for the ranks of the grid */
    const esp_grid *grid; /* borrowed                                                   */
    esp_file_io io;
    const char *hints; /* borrowed; of MPI-IO (mpi_io.h); NULL: none                 */
    bool waits;        /* esp_checkpoint_begin ends with the writing: no thread for it */
    esp_training at;   /* of the file under way                       */
    esp_h5 file;       /* it, on rank 0                               */
    struct esp_checkpoint_writer *writer; /* owned; NULL: no file is under way           */
} esp_checkpoint;

/* Starts to write dir/step-NNNNNN.h5 of step t->step; c->writer must be NULL. m, v, best and value of
 * c->params are not to be changed until esp_checkpoint_finish. ESP_EUSAGE when dir is a folder that this
 * program did not make, ESP_EIO; no file is under way then. The same status on all ranks. Collective on
 * grid->world. */
esp_status esp_checkpoint_begin(esp_checkpoint *c, const esp_training *t);

/* Waits for the file under way and makes it the newest, complete or not at all; then removes all but the
 * newest `keep` and that of step at.good, and what was left half written. No file under way: does nothing.
 * ESP_EIO: it could not be written, and the files from before are as they were; or an older one could not be
 * removed. The same status on all ranks. Collective on grid->world. */
esp_status esp_checkpoint_finish(esp_checkpoint *c);

/* Loads the newest checkpoint in dir that is whole, of step `newest` or before, into c->params, with values
 * on all ranks, and *t [out]. Damaged files are passed over, each with a warning; another warning says that
 * none was whole. *found [out] is false when there is none: t and params->value are untouched then, m, v and
 * best are zeros. params->grad is used as scratch and left zeroed. ESP_EUSAGE when it was made with other
 * settings, or a folder has the name of a checkpoint, *found false. The same result on all ranks. Collective
 * on grid->world. */
esp_status esp_checkpoint_load(bool *found, esp_training *t, const esp_checkpoint *c,
                               size_t newest);

#endif
