/* weight_importance_impl.h - from the output gradients of a weight to saliency summed over rows and columns.
 *
 * A weight is visited a strip at a time, which is a run of its tiles (weight_tiles_impl.h): G and F of the
 * tiles -> criteria -> sums over rows and columns. The data ranks share the work in one of two ways
 * (sample_gather_impl.h): each computes some of the tiles from all samples; or each computes all tiles of a
 * strip from its own samples, and a reduce-scatter leaves each rank with some of the tiles. Nothing of this
 * depends on the number of threads; the number of ranks changes only the order of f64 sums.
 *
 * An importance of sizes alone goes through the same weights in the same order, and says what that would
 * take: it allocates no buffers, reads no data and sends nothing.
 */
#ifndef ESPALIER_WEIGHT_IMPORTANCE_IMPL_H
#define ESPALIER_WEIGHT_IMPORTANCE_IMPL_H

#include "espalier/mem.h"
#include "sample_gather_impl.h"
#include "saliency_sums_impl.h"
#include "weight_tiles_impl.h"

typedef struct esp_weight_importance {
    esp_saliency_sums *sums; /* borrowed */
    const esp_grid *grid;    /* borrowed */
    double g_scale, f_scale; /* what the sums over samples are multiplied by                 */
    size_t n_samples, n_tok; /* of this rank; may be 0                                       */
    const size_t *start;     /* [n_samples + 1] borrowed: first token of each                */
    size_t *row; /* [n_samples + 1, 2 at least] owned: where each has a row: 0, 1, ... */
    esp_sample_gather gather;  /* of the samples of all ranks                                  */
    int *counts;               /* [n_data] owned: numbers of a strip that a rank is left with  */
    esp_weight_tiles tiles;    /* G and F are asked for where a criterion needs them           */
    size_t n_tile;             /* numbers of G and F of a tile, at most                        */
    double *strip;             /* owned: G, and F where asked for, tile after tile             */
    double *part;              /* owned: sums over the rows and columns of each tile           */
    double *vector;            /* owned: G and F of a bias or norm                             */
    float *vector_w;           /* owned: the bias or norm itself                               */
    esp_moments moments;       /* of the weight that is added next, for criteria that read them */
    esp_importance_work *work; /* borrowed: what sizes alone would take is added; NULL: data  */
} esp_weight_importance;

/* This rank has n_samples of all (NULL: there are none); the tokens of its sample j are start[j] ..
 * start[j + 1]. Borrows what it is given. Local. */
void esp_weight_importance_init(esp_weight_importance *p, esp_saliency_sums *sums,
                                const esp_model *m, const esp_samples *all, const size_t *start,
                                size_t n_samples, bool fisher_sum, const esp_grid *grid);
void esp_weight_importance_free(esp_weight_importance *p); /* safe twice and on {0} */

/* Of sizes alone: the samples of all ranks and of this one, {0} where no criterion needs them. Sums may be of
 * sizes alone. Local. */
void esp_weight_importance_init_sizes(esp_weight_importance *p, esp_importance_work *work,
                                      esp_saliency_sums *sums, const esp_model *m,
                                      esp_text_size all, esp_text_size own, const esp_grid *grid);

/* Takes bytes away that w->held has, with which it may have been the most. Local. */
static inline void esp_importance_release(esp_importance_work *w, size_t bytes)
{
    w->bytes = esp_max(w->bytes, w->held);
    w->held -= bytes;
}

/* Bytes that are there for a while. Local. */
static inline void esp_importance_pass_by(esp_importance_work *w, size_t bytes)
{
    w->held += bytes;
    esp_importance_release(w, bytes);
}

/* Adds a matrix and its bias. The gradient is not read where no criterion needs it or this rank has no
 * samples; all ranks call it for the same weights in the same order. Collective on grid->data. */
void esp_weight_importance_add(esp_weight_importance *p, size_t layer, int slot,
                               const esp_weight *w, const esp_weight_gradient *gradient);

/* Adds the weight of a norm and its bias. dw, db: their gradients, one row per sample, packed as dy and read
 * as above. Collective on grid->data. */
void esp_weight_importance_add_norm(esp_weight_importance *p, size_t layer, int slot,
                                    const esp_weight *w, const float *dw, const float *db);

#endif
