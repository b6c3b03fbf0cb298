/* masks.h - importance as what a short training makes of gates on heads and neurons (docs/method.md,
 * eq. 50-53).
 *
 * Flow: for each step: gates from a number per group and the budget -> forward and backward of a few samples
 * -> gradients of the gates, summed over the ranks -> the numbers move. They are the scores of criterion
 * masks. All ranks hold the same numbers, bit for bit, on any grid: gradients of samples are rounded so that
 * their sums are exact.
 */
#ifndef ESPALIER_MASKS_H
#define ESPALIER_MASKS_H

#include "espalier/plan.h"

typedef struct esp_mask_options {
    size_t steps;         /* of training                           */
    size_t batch;         /* samples of a step, over all ranks      */
    double learning_rate; /* of a gate whose gradient is that of the unit in the root mean square */
} esp_mask_options;

/* Fills the scores of criterion ESP_MASKS in s: those of groups that the plan options may cut, trained with
 * their budget; other units have none afterwards. Samples are taken in their order, again and again.
 * ESP_EUSAGE where one predicts nothing; ESP_EFORMAT for a loss or gradient that is not finite, with its
 * step. Collective on grid->world. */
esp_status esp_masks_train(esp_scores *s, const esp_model *m, const esp_groups *g,
                           const esp_samples *samples, const esp_plan_options *plan,
                           const esp_mask_options *o, const esp_grid *grid);

/* What esp_masks_train takes on a rank of a grid, which needs no communicators, for sizes of samples: bytes
 * of memory at most, work of a step, and bytes that all ranks send each other in all steps. Local. */
typedef struct esp_mask_work {
    size_t bytes;
    esp_work step;
    double sums, activations;
} esp_mask_work;

void esp_mask_work_of(esp_mask_work *w, const esp_model *m, const esp_groups *g, esp_text_size all,
                      const esp_plan_options *plan, const esp_mask_options *o,
                      const esp_grid *grid);

#endif
