/* recover.h - the training loop that gives a pruned model its quality back: LoRA or all parameters.
 *
 * Flow: esp_recover_prepare -> esp_recover -> esp_peft_save, esp_merge. Data parallel: sample i of a
 * step's batch belongs to data index i mod n_data, gradients are summed block by block with
 * non-blocking collectives while the backward goes on. Each rank keeps the moments of AdamW and the best
 * values for its share of each block only, updates that share, and gets the others' values from them.
 */
#ifndef ESPALIER_RECOVER_H
#define ESPALIER_RECOVER_H

#include "espalier/params.h"

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
    double epochs;
    size_t steps;          /* > 0: instead of epochs                                        */
    size_t batch;          /* samples of a step over all ranks; fewer at the end of an epoch */
    size_t micro_batch;    /* samples of one forward and backward of a rank                 */
    const char *scratch;   /* borrowed; folder for activations, see esp_room_init           */
    double validation;     /* samples held out; < 1: fraction; 0: none                      */
    size_t validate_every; /* steps; 0: once an epoch                                       */
    size_t patience;       /* validations without improvement before stopping; 0: never     */
    size_t save_every;     /* steps; 0: at the end only                                     */
    size_t keep;           /* checkpoints that stay                                         */
    uint64_t seed;
    const char *dir;      /* folder of the checkpoints, step-NNNNNN.h5                     */
    const char *settings; /* digest of what a checkpoint must agree with to be resumed     */
} esp_recover_options;

typedef struct esp_recover_result {
    size_t steps;                 /* done altogether, those before a resume included */
    double train_loss;            /* of the last step                                */
    double first_validation_loss; /* before the first step; < 0: none     */
    double validation_loss;       /* best; < 0: none                      */
    size_t best_step;
    double seconds;        /* in training steps of this call: no validation, no files   */
    double tok_per_second; /* of these steps, all ranks together                        */
    double flops;          /* linear products of these steps, all ranks together        */
    double
        wait_share; /* of the time of these steps in MPI, waiting or driving messages: mean of the ranks */
    double save_seconds; /* spent on checkpoints beside these steps                    */
} esp_recover_result;

/* A line of the training log; called on every rank after each step, with global numbers. */
typedef void (*esp_recover_report)(void *ctx, size_t step, size_t steps, double loss, double lr,
                                   double grad_norm, double validation_loss /* < 0: none */);

/* What is to be trained, by o->method: LoRA matrices, adapter made and pointing at them; or all weights,
 * m pointing at them (adapter stays empty). Free p and adapter after m's last use. Local. */
void esp_recover_prepare(esp_params *p, esp_adapter *adapter, esp_model *m,
                         const esp_recover_options *o);

/* Trains, resuming from the newest good checkpoint in o->dir where there is one. Afterwards params hold
 * the values of the best validation (without validation: the last). stop (NULL: none) is polled once a
 * step, agreed over ranks: a checkpoint is written and ESP_ESTOPPED returned. ESP_EUSAGE when no sample
 * is left to train on or a checkpoint has other settings, ESP_EFAILED when the loss is not finite.
 * report may be NULL. Collective on grid->world. */
esp_status esp_recover(esp_params *params, esp_recover_result *result, const esp_model *m,
                       esp_adapter *adapter, const esp_samples *samples,
                       const esp_recover_options *o, esp_recover_report report, void *ctx,
                       const volatile int *stop, const esp_grid *grid);

#endif
