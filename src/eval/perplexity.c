/* perplexity.c - loss, accuracy and speed of a model over samples (docs/method.md, eq. 28). */
#include "espalier/eval.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "losses_impl.h"

/* Sums over samples in their order. */
static esp_status summarize(esp_eval *e, const esp_loss *loss, size_t n_samples)
{
    esp_loss total = { 0 };

    for (size_t j = 0; j < n_samples; j++) {
        if (!isfinite(loss[j].sum)) {
            return esp_fail(ESP_EFAILED,
                            "evaluation: sample %zu of %zu: the loss is %g: weights are too large "
                            "for f32 or broken; get the model anew, or leave that text out",
                            j, n_samples, fabs(loss[j].sum)); /* a NaN may have a sign */
        }
        total.sum += loss[j].sum;
        total.count += loss[j].count;
        total.hits += loss[j].hits;
    }
    if (total.count == 0) {
        return esp_fail(ESP_EUSAGE,
                        "evaluation: %zu samples give no token to predict; "
                        "samples need two tokens at least",
                        n_samples);
    }
    e->loss = total.sum / (double)total.count;
    e->perplexity = exp(e->loss);
    e->accuracy = (double)total.hits / (double)total.count;
    e->tokens = total.count;
    return ESP_OK;
}

esp_status esp_evaluate(esp_eval *e, const esp_model *m, const esp_adapter *adapter,
                        const esp_samples *samples, size_t max_tok, const esp_grid *grid)
{
    const esp_units u = { samples, NULL, samples->n };
    esp_losses_cost cost;
    esp_loss *loss;
    esp_status st;

    *e = (esp_eval){ 0 };
    ESP_NEW(loss, samples->n);
    esp_losses(loss, &cost, m, adapter, &u, max_tok, "eval", grid);
    e->seconds = cost.seconds;
    e->tok_per_second = (double)cost.n_tok / e->seconds;
    e->peak_resident = cost.peak_resident;
    st = summarize(e, loss, samples->n);
    free(loss);
    return st;
}
