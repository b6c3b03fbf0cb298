/* params.h - the trained numbers of a recovery as one flat vector: the LoRA matrices, or all weights.
 *
 * Everything after the backward (sum over ranks, clipping, AdamW, checkpoint) works on flat arrays and
 * knows no names; the table of entries says which part is which. The numbers lie in the order in which
 * the backward finishes their gradients, so that the sum of a block over the ranks starts while the
 * blocks below it are still computed.
 *
 * All ranks hold all values and gradients; of what the optimiser keeps each rank holds its share. Shares are
 * cut piece by piece: a piece is (a part of) what a stage of the backward completes, and rank r of P owns
 * the r-th part of each. What is kept of the shares lies without gaps, piece after piece.
 */
#ifndef ESPALIER_PARAMS_H
#define ESPALIER_PARAMS_H

#include "espalier/adapter.h"

#define ESP_PIECE          ((size_t)1 << 23) /* numbers of a piece at most                        */
#define ESP_PIECES_AT_ONCE ((size_t)4)       /* that are summed over the ranks at a time          */
#define ESP_SHARE_BLOCK    ((size_t)1024) /* shares of a piece begin at multiples of this in it */

typedef struct esp_entry {
    size_t layer; /* ESP_NO_LAYER outside the blocks                                   */
    int slot;
    esp_part part;
    size_t begin, n;    /* numbers begin .. begin + n of the vectors: [rows, cols], or [rows] */
    bool decays;        /* weight decay applies: matrices                                     */
    esp_dtype original; /* type of the weight before it was trained; ESP_F32 for LoRA         */
    const void *from;   /* borrowed from the model: its numbers before it was trained; LoRA: NULL */
} esp_entry;

typedef struct esp_params {
    esp_entry *entries; /* [n_entries] owned, in order of begin */
    size_t n_entries;
    size_t n;        /* numbers altogether                                               */
    float *value;    /* [n] owned                                                        */
    float *grad;     /* [n] owned; this and the next three are NULL until esp_params_train */
    float *m, *v;    /* [n_own] owned; moments of AdamW                                  */
    float *best;     /* [n_own] owned; values of the best validation                     */
    size_t *stage;   /* [n_stages + 1] owned; stage s of the backward completes the gradients of
                        numbers stage[s] .. stage[s + 1] - 1. Stages: final norm and untied head,
                        the layers from the last to the first, embedding */
    size_t n_stages; /* n_layers + 2 */
    size_t
        piece_limit; /* numbers of a piece at most; 0: ESP_PIECE. The rest is of esp_params_train */
    size_t *piece;   /* [n_pieces + 1] owned; piece k has numbers piece[k] .. piece[k + 1] - 1 */
    size_t n_pieces;
    size_t *own; /* [n_pieces + 1] owned; in m, v, best the share of piece k begins at own[k] */
    size_t n_own;
    int rank, size; /* whose share, of how many */
    size_t lora_rank;
    uint64_t seed; /* of first values of LoRA */
} esp_params;

/* LoRA as PEFT initialises it (Kaiming uniform with a = sqrt 5: A uniform in +-1/sqrt(n_in), B zero), from
 * the seed, layer and slot, the same on every rank. p [out, owned]; adapter [in,out] (of esp_adapter_init)
 * points into p->value afterwards. targets: bit set of slots, those that are no matrix of a block do not
 * count. Local. */
void esp_params_lora(esp_params *p, esp_adapter *adapter, const esp_model *m, uint64_t targets,
                     uint64_t seed);

/* All weights of m in f32, a tied head once. p [out, owned]; the weights of m [in,out] point into p->value
 * afterwards, and p borrows their numbers from before: each must outlive the use of the other. Local. */
void esp_params_full(esp_params *p, esp_model *m);

/* Sets p->value to what it was before any training, from the seed or from the model's files. Local. */
void esp_params_restart(esp_params *p);

/* Gives the weights of a shape the type that esp_params_full gives them, f32. Local. */
void esp_params_set_types(esp_model *shape);

/* Gives the weights of a shape (from esp_model_reshape) the types they had before p trained them. Local. */
void esp_params_restore_types(esp_model *shape, const esp_params *p);

/* Cuts the pieces, and allocates gradients and the share of rank (of size ranks) in moments and best values,
 * zeroed; adapter (NULL: none) points into p->grad afterwards. Once for a p. Local. */
void esp_params_train(esp_params *p, esp_adapter *adapter, int rank, int size);

/* begin, end [out]: numbers begin .. end - 1 of the vectors are the share of a rank in piece k, none where
 * they are equal. Local. */
void esp_params_share(size_t *begin, size_t *end, const esp_params *p, size_t k, int rank);

void esp_params_free(esp_params *p); /* safe twice and on {0} */

/* p [out, owned]: entries, pieces and shares of what would be trained, without the numbers: of adapters of
 * rank r, or of all weights (r = 0). Local. */
void esp_params_plan(esp_params *p, const esp_model *m, uint64_t targets, size_t r, int rank,
                     int size);

/* Bytes that a plan takes once it has its numbers, those of esp_params_train included. Local. */
size_t esp_params_bytes(const esp_params *plan);

/* The entry of a part of a weight, NULL when it is not trained. Borrowed. Local. */
const esp_entry *esp_params_find(const esp_params *p, size_t layer, int slot, esp_part part);

#endif
