/* calibration_impl.h - one pass of a model over calibration samples. */
#ifndef ESPALIER_CALIBRATION_IMPL_H
#define ESPALIER_CALIBRATION_IMPL_H

#include "gate_sums_impl.h"
#include "saliency_sums_impl.h"
#include "value_sums_impl.h"

/* What is summed over samples. */
typedef struct esp_sample_sums {
    esp_saliency_sums elements; /* where a criterion needs gradients of weights */
    esp_gate_sums gates;
    esp_value_sums values;
} esp_sample_sums;

/* Sums over the samples, n at least 1, added to sums that are zero, and loss [samples->n], the mean
 * cross-entropy of each: the same on all ranks afterwards. Where no criterion needs a backward there is none,
 * and no loss: NAN. flops: of all ranks. ESP_EFORMAT for a loss that is not finite, naming the first such
 * sample and the layer; sums are of no use then. Collective on grid->world. */
esp_status esp_calibrate(esp_sample_sums *sums, double *loss, double *flops, const esp_model *m,
                         const esp_samples *samples, const esp_importance_options *o,
                         const esp_grid *grid);

/* Adds to w what that takes for these sizes of all samples and of the rank's own, at least one. sums may be
 * of sizes alone. Local. */
void esp_calibrate_sizes(esp_importance_work *w, esp_saliency_sums *sums, const esp_model *m,
                         esp_text_size all, esp_text_size own, const esp_importance_options *o,
                         const esp_grid *grid);

#endif
