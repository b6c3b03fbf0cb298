/* adapter.h - low-rank adapters (Hu et al. 2021) on linear weights: y += scale * B (A dropout(x)).
 *
 * The arrays belong to whoever trains or loads them (a parameter set); an adapter only points.
 */
#ifndef ESPALIER_ADAPTER_H
#define ESPALIER_ADAPTER_H

#include "espalier/model.h"

typedef struct esp_lora {
    float *a, *b;   /* [r, n_in], [n_out, r]; NULL: this weight has no adapter */
    float *da, *db; /* gradients, accumulated; both NULL when not trained     */
} esp_lora;

typedef struct esp_adapter {
    size_t rank;    /* r                                                     */
    float scale;    /* alpha / r                                             */
    float dropout;  /* probability; 0 outside training                       */
    uint64_t seed;  /* of dropout: seed of the run and step                  */
    size_t n_slots; /* of the architecture                                   */
    esp_lora *lora; /* [n_layers * n_slots] owned; by esp_slot_index            */
} esp_adapter;

/* An adapter without arrays for a model, scale = alpha / rank (rank at least 1). Local. */
void esp_adapter_init(esp_adapter *a, const esp_model *m, size_t rank, float alpha);
size_t esp_adapter_bytes(const esp_model *m); /* that esp_adapter_init allocates. Local. */
void esp_adapter_free(esp_adapter *a);        /* safe twice and on {0} */

/* The adapter of a weight; NULL where a is NULL or there is none. Borrowed. Local. */
esp_lora *esp_adapter_at(const esp_adapter *a, size_t layer, int slot);

/* The matrices of an adapter of m as tensors [n], in file order, A [r, n_in] before B [n_out, r] of each
 * weight; the caller frees the array. Local. */
esp_tensor_ref *esp_adapter_tensors(size_t *n, const esp_adapter *a, const esp_model *m);

/* The numbers of one of them, row-major f32. Borrowed. Local. */
float *esp_adapter_matrix(const esp_adapter *a, const esp_tensor_ref *t);

/* y [in,out] += B u with u = scale * A dropout(x).  x [n_tok, n_in]  y [n_tok, n_out]; n_in and n_out are the
 * columns and rows of w. u [n_tok, r] and dropped [n_tok, n_in], which holds dropout(x), are scratch. Whether
 * a number is dropped follows from (a->seed, layer, slot, sample key, token in the sample, column) alone;
 * what stays is divided by 1 - a->dropout. Where the weight has no adapter nothing happens. Local. */
void esp_lora_forward(float *y, float *u, float *dropped, const esp_adapter *a, size_t layer,
                      int slot, const float *x, const esp_weight *w, const esp_batch *batch);

/* The same backwards, for dy [n_tok, n_out]: dx [n_tok, n_in] += its gradient, and da and db of the adapter
 * += theirs unless they are NULL. u, du [n_tok, r] and dropped [n_tok, n_in] are scratch: u and dropout(x)
 * are computed again. Local. */
void esp_lora_backward(float *dx, float *u, float *du, float *dropped, const esp_adapter *a,
                       size_t layer, int slot, const float *dy, const float *x, const esp_weight *w,
                       const esp_batch *batch);

#endif
