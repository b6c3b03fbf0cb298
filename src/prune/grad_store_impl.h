/* grad_store_impl.h - factors of the gradients of a layer's weights (dy and x of each token), stored until
 * all chunks of the batch have passed.
 *
 * Flow: the sink of a pass calls esp_grad_store_linear and esp_grad_store_norm for each chunk ->
 * esp_grad_store_flush, when a layer is complete, passes its weights to esp_weight_importance in the order of
 * their slots. A weight without any sum that was asked for is not stored; an input that several weights
 * share is stored once.
 *
 * With an importance of sizes alone the store is of sizes alone, too: it is called in the same order, without
 * data, and adds to the work of the importance what rows would take.
 */
#ifndef ESPALIER_GRAD_STORE_IMPL_H
#define ESPALIER_GRAD_STORE_IMPL_H

#include "weight_importance_impl.h"

typedef struct esp_grad_batch { /* rows of the batch: one per token, or one per sample */
    size_t n;
    const size_t *start; /* [n_samples + 1] borrowed: first row of each sample */
} esp_grad_batch;

typedef struct esp_grad_rows {
    esp_spill_buffer rows; /* packed (packed.h), all rows of the batch */
    size_t n;              /* rows stored so far                       */
} esp_grad_rows;

typedef struct esp_grad_factors { /* of one weight */
    esp_grad_rows dy; /* of a norm dw, one row per sample                                */
    esp_grad_rows x;  /* of the head x; of a norm db, packed as dy                       */
    int input;        /* value of the block whose rows are x; -1: those of x above       */
} esp_grad_factors;

typedef struct esp_grad_store {
    const esp_model *model;
    esp_weight_importance *importance; /* borrowed */
    esp_pipeline_stage stage;
    const char *scratch; /* borrowed; see esp_spill_buffer_init                           */
    size_t n_samples;    /* of the batch                                                  */
    esp_grad_batch tokens, samples;
    esp_grad_factors *outside; /* [n_slots] owned: of weights outside the blocks                */
    esp_grad_factors *block;   /* [stage.at_once, n_slots] owned: of the layers under way       */
    esp_grad_rows *value;      /* [stage.at_once, n_values] owned: inputs that weights multiply */
} esp_grad_store;

/* For the batch of a pass. Borrows all that it is given. Local. */
void esp_grad_store_init(esp_grad_store *s, esp_weight_importance *importance, const esp_pass *pass,
                         const esp_batch *batch);

/* Bytes that init allocates; rows come on top as they are stored. Local. */
size_t esp_grad_store_bytes(const esp_model *m, const esp_pipeline_stage *stage);
void esp_grad_store_free(esp_grad_store *s); /* safe twice and on {0} */

/* Stores what a sink gets (esp_sink in pass.h). Local. */
void esp_grad_store_linear(esp_grad_store *s, size_t layer, int slot, int input, const float *dy,
                           const float *x, size_t n_tok);
void esp_grad_store_norm(esp_grad_store *s, size_t layer, int slot, const float *dw,
                         const float *db, size_t n_samples);

/* The product of a weight that was stored whole; none where it was not. Borrowed. Local. */
esp_weight_gradient esp_grad_store_gradient(const esp_grad_store *s, size_t layer, int slot);

/* Adds a weight outside the blocks, or all weights of a layer in the order of their slots, to the importance
 * and discards what was stored of them; buffers of a layer stay for the next one. Collective on the grid's
 * data. */
void esp_grad_store_flush(esp_grad_store *s, int slot);
void esp_grad_store_flush_layer(esp_grad_store *s, size_t layer);

/* Discards what was stored of a weight outside the blocks, with its memory. Local. */
void esp_grad_store_discard(esp_grad_store *s, int slot);

#endif
