/* losses_impl.h - the loss of every sample, on all ranks alike. */
#ifndef ESPALIER_LOSSES_IMPL_H
#define ESPALIER_LOSSES_IMPL_H

#include "espalier/eval.h"

/* What went by while losses were computed. */
typedef struct esp_losses_cost {
    double seconds;       /* the rank that took longest                       */
    int64_t n_tok;        /* processed, all ranks together                    */
    size_t peak_resident; /* bytes of the rank that had the most of them      */
} esp_losses_cost;

/* Samples first[i] .. first[i + 1] - 1 are unit i, which one rank computes at a time; first NULL: each
 * sample is one. All borrowed. */
typedef struct esp_units {
    const esp_samples *samples;
    const size_t *first; /* [n + 1] */
    size_t n;
} esp_units;

/* loss [samples]: of every sample, finite or not, the same bits on any number of ranks. Unit i belongs to
 * data rank i mod n. Chunks have max_tok tokens at most, but one unit at least. adapter may be NULL; what:
 * for progress. Collective on grid->world. */
void esp_losses(esp_loss *loss, esp_losses_cost *cost, const esp_model *m,
                const esp_adapter *adapter, const esp_units *u, size_t max_tok, const char *what,
                const esp_grid *grid);

#endif
