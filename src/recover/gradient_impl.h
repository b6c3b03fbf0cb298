/* gradient_impl.h - gradients of the trained numbers: taken from the backward, summed over ranks while
 * the backward goes on, to each rank its share.
 *
 * Flow of a step: esp_gradient_begin -> for each micro-batch esp_gradient_take, then forward, loss and
 * backward with g->sink -> esp_gradient_finish. A rank without samples calls begin and finish alone.
 */
#ifndef ESPALIER_GRADIENT_IMPL_H
#define ESPALIER_GRADIENT_IMPL_H

#include "espalier/pass.h"
#include "exchange_impl.h"

typedef struct esp_gradient {
    esp_params *params;     /* borrowed                                       */
    const esp_model *model; /* borrowed                                       */
    const esp_batch *batch; /* borrowed; under way                            */
    bool last;              /* no micro-batch after it: finished sums may go  */
    size_t started;         /* pieces whose sum over the ranks is under way   */
    esp_exchange *exchange; /* borrowed                                       */
    esp_sink sink;          /* for the pass                                   */
} esp_gradient;

/* full: gradients of all weights are taken from the sink; else the pass itself writes those of the
 * adapter. Nothing is to be freed. Local. */
void esp_gradient_init(esp_gradient *g, esp_exchange *x, const esp_model *m, bool full);

void esp_gradient_begin(esp_gradient *g);                                   /* Local. */
void esp_gradient_take(esp_gradient *g, const esp_batch *batch, bool last); /* Local. */

/* Afterwards the gradients are summed over all ranks: of each piece this rank's share.
 * Collective on the comm of the exchange. */
void esp_gradient_finish(esp_gradient *g);

#endif
