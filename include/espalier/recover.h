/* recover.h - the training loop that gives a pruned model its quality back: LoRA or all parameters. */
#ifndef ESPALIER_RECOVER_H
#define ESPALIER_RECOVER_H

#include "espalier/params.h"

typedef enum esp_method { ESP_METHOD_LORA, ESP_METHOD_FULL } esp_method;

typedef struct esp_recover_options {
    esp_method method;
    size_t rank; /* r                                                          */
    double alpha, dropout;
    uint64_t targets; /* bit set of slots                                           */
    double learning_rate, min_learning_rate; /* linear decay ends at the latter          */
    double warmup; /* steps; < 1: fraction of all steps                          */
    double beta1, beta2, epsilon, weight_decay, clip; /* clip 0: none                    */
    double epochs;
    size_t steps;          /* > 0: instead of epochs                                     */
    size_t batch;          /* samples of a step over all ranks                           */
    size_t micro_batch;    /* samples of one forward and backward of a rank              */
    double validation;     /* samples held out; < 1: fraction                            */
    size_t validate_every; /* steps; 0: once an epoch                                   */
    size_t patience;       /* validations without improvement before stopping; 0: never  */
    size_t save_every;     /* steps; 0: at the end only                                  */
    size_t keep;           /* checkpoints that stay                                      */
    uint64_t seed;
    const char *dir;      /* folder of the checkpoints, step-NNNNNN.h5                  */
    const char *settings; /* digest of what a checkpoint must agree with to be resumed  */
} esp_recover_options;

typedef struct esp_recover_result {
    size_t steps;
    double train_loss;            /* of the last step */
    double validation_loss;       /* best             */
    double dense_validation_loss; /* before the first step */
    size_t best_step;
    double seconds, tok_per_second, flops;
} esp_recover_result;

/* One line of the training log; called on every rank after each step and validation. */
typedef void (*esp_recover_report)(void *ctx, size_t step, size_t steps, double loss, double lr,
                                   double grad_norm, double validation_loss /* < 0: none */);

/* Trains, resuming from the newest good checkpoint in o->dir where there is one. Afterwards params hold
 * the best values. stop is polled once a step (agreed over ranks): a checkpoint is written and
 * ESP_ESTOPPED returned. Collective on grid->world. */
esp_status esp_recover(esp_params *params, esp_recover_result *result, esp_model *m,
                       esp_adapter *adapter, const esp_samples *samples,
                       const esp_recover_options *o, esp_recover_report report, void *ctx,
                       const volatile int *stop, const esp_grid *grid);

#endif
