/* kept_impl.h - what the gradients of a layer's weights are made of, kept until all chunks went by.
 *
 * Flow: the sink functions of a pass hand chunks over -> esp_kept_linear, esp_kept_norm -> esp_kept_flush,
 * when a layer is complete, gives its weights to the panels in the order of their slots. A weight whose
 * sums nobody asked for is not kept; an input that several weights share is kept once.
 */
#ifndef ESPALIER_KEPT_IMPL_H
#define ESPALIER_KEPT_IMPL_H

#include "panels_impl.h"

typedef struct esp_keep { /* of one weight */
    esp_room dy, x;       /* packed; of a norm dw, db, a row a sample, both packed as dy       */
    size_t n;             /* rows of dy taken so far                                           */
    const float *seen;    /* where the first chunk's input lay                                 */
    int same;             /* slot that keeps the input of both; -1: this one                   */
} esp_keep;

typedef struct esp_kept {
    const esp_model *model;
    esp_panels *panels; /* borrowed */
    esp_stage_layers stage;
    const char *scratch; /* borrowed; see esp_room_init                                      */
    size_t n_samples;    /* of the batch                                                     */
    const size_t *start; /* [n_samples + 1] borrowed: first token of each                    */
    esp_keep *outer;     /* [n_slots] owned: of weights outside the blocks                   */
    esp_keep *layer;     /* [stage.at_once, n_slots] owned: of the layers under way          */
} esp_kept;

/* For the batch of a pass. Borrows what it is given. Local. */
void esp_kept_init(esp_kept *k, esp_panels *panels, const esp_pass *pass, const esp_batch *batch);
size_t esp_kept_bytes(const esp_model *m, const esp_stage_layers *stage); /* rooms left out */
void esp_kept_free(esp_kept *k); /* safe twice and on {0} */

/* Numbers of room for n_rows rows of a weight. Local. */
size_t esp_kept_numbers(esp_factor which, size_t n_rows, size_t width);

/* Takes what a sink gets. Local. */
void esp_kept_linear(esp_kept *k, size_t layer, int slot, const float *dy, const float *x,
                     size_t n_tok);
void esp_kept_norm(esp_kept *k, size_t layer, int slot, const float *dw, const float *db,
                   size_t n_samples);

/* dy and x of a weight that was taken whole, NULL where it was not. Borrowed. Local. */
esp_gradient esp_kept_gradient(const esp_kept *k, size_t layer, int slot);

/* Gives a weight to the panels and forgets it. Collective on the grid's data. */
void esp_kept_flush(esp_kept *k, size_t layer, int slot);

/* Forgets it; of a layer the room stays for the next one. Local. */
void esp_kept_forget(esp_kept *k, size_t layer, int slot);

#endif
