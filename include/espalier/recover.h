/* recover.h - the training loop that gives a pruned model its quality back: LoRA or all parameters.
 *
 * Flow: esp_recover_prepare -> esp_recover -> esp_peft_save, esp_merge. Data parallel: sample i of a
 * step's batch belongs to data index i mod n_data, gradients are summed block by block with
 * non-blocking collectives while the backward goes on. Each rank keeps the moments of AdamW and the best
 * values for its share of each block only, updates that share, and gets the others' values from them.
 */
#ifndef ESPALIER_RECOVER_H
#define ESPALIER_RECOVER_H

#include "espalier/mpi_io.h"
#include "espalier/params.h"
#include "espalier/pass.h"

typedef enum esp_method { ESP_METHOD_LORA, ESP_METHOD_FULL } esp_method;

typedef struct esp_recover_options {
    esp_method method;
    size_t rank; /* r */
    double alpha, dropout;
    uint64_t targets;                        /* bit set of slots                     */
    double learning_rate, min_learning_rate; /* linear decay ends at the latter      */
    double warmup;                           /* steps; < 1: fraction of all steps    */
    double beta1, beta2, epsilon, weight_decay;
    double clip; /* largest norm of the gradient; 0: no clipping                  */
    const esp_model
        *teacher;    /* borrowed; NULL: none. Of the same tokens, its vocabulary as large */
    double kd_ratio; /* share of following it in the loss, see esp_distillation_rule      */
    double kd_temperature;
    double epochs;
    size_t steps;        /* > 0: instead of epochs                                        */
    size_t batch;        /* samples of a step over all ranks; fewer at the end of an epoch */
    size_t micro_batch;  /* samples of one forward and backward of a rank                 */
    size_t kept_layers;  /* of a pipeline stage whose activations are kept, see esp_pass_options */
    const char *scratch; /* borrowed; folder for activations and the teacher's states, see
                            esp_spill_buffer_init                                                  */
    double validation;   /* samples held out; < 1: fraction; 0: none                      */
    size_t validate_every; /* steps; 0: once an epoch                                       */
    size_t patience;       /* validations without improvement before stopping; 0: never     */
    size_t save_every;     /* steps; 0: at the end only                                     */
    size_t keep;           /* checkpoints that stay                                         */
    size_t max_skipped;    /* steps in a row without a finite loss and gradient before the training
                              goes back; at least 1                                         */
    size_t max_rollbacks;  /* times it goes back before it fails                            */
    uint64_t seed;
    const char *dir;      /* borrowed; folder of the checkpoints, step-NNNNNN.h5           */
    const char *settings; /* borrowed; digest that a checkpoint must have to be resumed    */
    esp_file_io checkpoint_io;
    const char *mpi_io_hints; /* borrowed; see mpi_io.h; NULL: none                            */
    bool checkpoint_overlap;  /* a checkpoint is written while the next step computes          */
} esp_recover_options;

typedef struct esp_recover_result {
    size_t steps;                 /* done altogether, those before a resume included */
    double train_loss;            /* of the last step that was not skipped           */
    double first_validation_loss; /* before the first step; < 0: none     */
    double validation_loss;       /* best; < 0: none                      */
    size_t best_step;
    size_t skipped, rollbacks; /* of these steps those skipped; times it went back         */
    double seconds;            /* in training steps of this call: no validation, no files   */
    double tok_per_second;     /* of these steps, all ranks together                        */
    double flops;              /* linear products of these steps, all ranks together        */
    double
        wait_share; /* of the time of these steps in MPI, waiting or driving messages: mean of the ranks */
    double save_seconds; /* spent on checkpoints beside these steps                    */
} esp_recover_result;

typedef enum esp_recover_event {
    ESP_STEP_TAKEN,
    ESP_STEP_SKIPPED,
    ESP_ROLLED_BACK
} esp_recover_event;

/* A line of the training log, with global numbers. */
typedef struct esp_recover_news {
    esp_recover_event event;
    size_t step, steps; /* done, planned; ESP_ROLLED_BACK: step it is at again, 0: the start    */
    double loss, grad_norm; /* of the step; one or both not finite where it was skipped         */
    double rate;            /* learning rate of the step                                        */
    double validation_loss; /* < 0: none; may not be finite                                     */
    size_t in_a_row;        /* steps skipped up to this one                                     */
    size_t from, rollbacks; /* ESP_ROLLED_BACK: step it came from; times so far                 */
} esp_recover_news;

/* Called on every rank after each step and each rollback, with the same news, which is valid during the
 * call. */
typedef void (*esp_recover_report)(void *ctx, const esp_recover_news *news);

/* steps [out]: optimiser steps of a training on these samples by o's steps, epochs, batch and validation.
 * ESP_EUSAGE, and 0 steps, when the validation leaves no sample to train on. Local. */
esp_status esp_recover_check_early(size_t *steps, const esp_samples *samples,
                                   const esp_recover_options *o);

/* Makes what is to be trained, by o->method. LoRA: p [out, owned] has the matrices, adapter [out, owned]
 * points at them. All weights: p has f32 copies, and the weights of m [in,out] point at these; adapter is
 * {0}. The caller frees p and adapter, after the last use of m. Local. */
void esp_recover_prepare(esp_params *p, esp_adapter *adapter, esp_model *m,
                         const esp_recover_options *o);

/* Samples held out for validation, of n that have a target: `validation` of them; below 1 that fraction of n,
 * rounded down but at least 1; 0: none. The result may be above n. Local. */
size_t esp_recover_held_out(double validation, size_t n);

/* Bytes that p and adapter of esp_recover_prepare hold until they are freed, training state included. m: the
 * model before esp_recover_prepare; grid needs no communicators. Local. */
size_t esp_recover_left(const esp_model *m, const esp_recover_options *o, const esp_grid *grid);

/* Bytes of memory that esp_recover_prepare and esp_recover take on a rank together, for samples of sizes t;
 * what lies in o->scratch is not counted. m and grid as above. Local. */
size_t esp_recover_bytes(const esp_model *m, const esp_recover_options *o, esp_text_size t,
                         const esp_grid *grid);

/* The work of esp_recover for samples of sizes t, where nothing stops it early: `step` and `validation` are
 * those of a rank, bytes those of all ranks together. m and grid as above. Local. */
typedef struct esp_recover_work {
    size_t n_numbers;          /* trained                                            */
    size_t n_train, n_valid;   /* samples that it trains on, and that are held out   */
    double steps, validations; /* of the whole training                              */
    esp_work step, validation; /* of one; chunks of a step are its micro-batches     */
    esp_work teacher;          /* of its states, before the first step               */
    double gradients, values;  /* bytes sent of what is trained                      */
    double activations;        /* sent between pipeline stages                       */
    double states;             /* of the teacher, sent to who needs them in a step   */
    double checkpoints;        /* bytes written                                      */
} esp_recover_work;

void esp_recover_work_of(esp_recover_work *w, const esp_model *m, const esp_recover_options *o,
                         esp_text_size t, const esp_grid *grid);

/* With a teacher the loss of a step is that of esp_distillation, validation losses are of the text alone. The
 * teacher's final hidden states are computed before the first step, on every call, as they are not saved.
 *
 * Trains params [in,out] and adapter (of esp_recover_prepare), resuming from the newest whole checkpoint in
 * o->dir. Afterwards params hold the values of the best validation (without validation: the last), the same
 * on all ranks, and *result [out] is set; after a failure both are unspecified. stop (NULL: none) is read
 * once a step; where it is not 0 on any rank a checkpoint is written and ESP_ESTOPPED returned. report may be
 * NULL; ctx is passed to it.
 *
 * A step whose loss or gradient is not finite is skipped: it counts, its samples are used up, values and
 * moments stay. After o->max_skipped in a row, or a validation loss that is not finite, the training goes
 * back to the newest regular checkpoint (of a multiple of save_every) that a good step followed, or, where
 * there is none, to the first values, and on with half the learning rate; o->max_rollbacks times at most.
 * Checkpoints hold what decides that, and one written because of a stop is never gone back to: a training
 * that was stopped or killed ends with the same values as one that was not.
 *
 * ESP_EUSAGE when no sample is left to train on, a checkpoint has other settings, or o->dir is a folder that
 * this program did not make; ESP_EIO for a checkpoint that cannot be written; ESP_EFAILED when the loss
 * before the first step is not finite, or after o->max_rollbacks. The same status on all ranks. Collective on
 * grid->world. */
esp_status esp_recover(esp_params *params, esp_recover_result *result, const esp_model *m,
                       esp_adapter *adapter, const esp_samples *samples,
                       const esp_recover_options *o, esp_recover_report report, void *ctx,
                       const volatile int *stop, const esp_grid *grid);

#endif
