/* grad_store_impl.h - factors of the gradients of a layer's weights (dy and x of each token), stored until
 * all chunks of the batch have passed.
 *
 * Flow: the sink of a pass calls esp_grad_store_linear and esp_grad_store_norm for each chunk ->
 * esp_grad_store_flush, when a layer is complete, passes its weights to esp_weight_importance in the order of
 * their slots. A weight without any sum that was asked for is not stored; an input that several weights
 * share is stored once.
 */
#ifndef ESPALIER_GRAD_STORE_IMPL_H
#define ESPALIER_GRAD_STORE_IMPL_H

#include "weight_importance_impl.h"

typedef struct esp_grad_buffer { /* of one weight */
    esp_spill_buffer dy, x; /* packed; of a norm dw, db, a row a sample, both packed as dy       */
    size_t n;               /* rows of dy taken so far                                           */
    const float *seen;      /* where the first chunk's input lay                                 */
    int same;               /* slot that keeps the input of both; -1: this one                   */
} esp_grad_buffer;

typedef struct esp_grad_store {
    const esp_model *model;
    esp_weight_importance *panels; /* borrowed */
    esp_pipeline_stage stage;
    const char
        *scratch;     /* borrowed; see esp_spill_buffer_init                                      */
    size_t n_samples; /* of the batch                                                     */
    const size_t *start; /* [n_samples + 1] borrowed: first token of each                    */
    esp_grad_buffer
        *head_and_norm;     /* [n_slots] owned: of weights outside the blocks                   */
    esp_grad_buffer *layer; /* [stage.at_once, n_slots] owned: of the layers under way          */
} esp_grad_store;

/* For the batch of a pass. Borrows what it is given. Local. */
void esp_grad_store_init(esp_grad_store *k, esp_weight_importance *panels, const esp_pass *pass,
                         const esp_batch *batch);
size_t esp_grad_store_bytes(const esp_model *m,
                            const esp_pipeline_stage *stage); /* rooms left out */
void esp_grad_store_free(esp_grad_store *k);                  /* safe twice and on {0} */

/* Numbers of room for n_rows rows of a weight. Local. */
size_t esp_grad_store_numbers(esp_factor which, size_t n_rows, size_t width);

/* Takes what a sink gets. Local. */
void esp_grad_store_linear(esp_grad_store *k, size_t layer, int slot, const float *dy,
                           const float *x, size_t n_tok);
void esp_grad_store_norm(esp_grad_store *k, size_t layer, int slot, const float *dw,
                         const float *db, size_t n_samples);

/* dy and x of a weight that was taken whole, NULL where it was not. Borrowed. Local. */
esp_weight_gradient esp_grad_store_gradient(const esp_grad_store *k, size_t layer, int slot);

/* Gives a weight to the panels and forgets it. Collective on the grid's data. */
void esp_grad_store_flush(esp_grad_store *k, size_t layer, int slot);

/* Forgets it; of a layer the room stays for the next one. Local. */
void esp_grad_store_forget(esp_grad_store *k, size_t layer, int slot);

#endif
