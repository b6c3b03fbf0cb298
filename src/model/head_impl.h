/* head_impl.h - the weights outside the blocks, and the loss where few positions have a target. */
#ifndef ESPALIER_HEAD_IMPL_H
#define ESPALIER_HEAD_IMPL_H

#include "block_impl.h"

/* Weights outside the blocks, and scratch of the loss. */
typedef struct esp_head_and_norm {
    esp_f32 norm, head;
    float *inverse;        /* [V] one over the lengths of the rows of a head that is normalised */
    float *logits;         /* [run, V] */
    float *norm_head_grad; /* [run, V] see esp_sink; backward of a head that is normalised   */
    double *losses;        /* [max_tok] cross-entropy of each position */
    uint8_t *hits;         /* [max_tok] */
    float *scale;          /* [max_tok] */
    double *uniform;       /* [max_tok] draws of labels; NULL: those of the batch */
    size_t run;            /* rows of logits there is memory for */
    float *picked;    /* [run, D] hidden states of positions with a target, where these are few */
    size_t *row;      /* [run] which they are, */
    int32_t *targets; /* [run] and what the loss knows of them */
    float *picked_scale;   /* [run] */
    double *picked_losses; /* [run] */
    uint8_t *picked_hits;  /* [run] */
} esp_head_and_norm;

/* Whether most positions of a batch have no target. Local. */
bool esp_is_sparse(const esp_batch *batch);

/* Sets losses and hits of the positions with a target, from copies of their rows of hidden states: no
 * other position costs logits; and, unless it is NULL, their rows of d_hidden [n_tok, D] to the gradient of
 * the objective. Each row gives the bits that it gives among all rows. The head and scale are loaded.
 * Local. */
void esp_sparse_losses(float *d_hidden, esp_pass *p, const esp_weight *head,
                       const esp_batch *batch);

#endif
