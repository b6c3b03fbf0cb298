/* panels_impl.h - from the gradients of outputs to sums of salience, a panel of a weight at a time.
 *
 * A panel is a run of tiles of a weight (tiles_impl.h). Flow for each panel: G and F of its tiles ->
 * salience -> sums over rows and columns. The data ranks share the work in one of two ways
 * (gather_impl.h): each makes some of the tiles from all samples; or each makes all tiles of a panel from
 * its own samples, and a sum over the ranks leaves each with some of the tiles. Nothing of this depends on
 * the number of threads; on the number of ranks only the order of f64 sums does.
 */
#ifndef ESPALIER_PANELS_IMPL_H
#define ESPALIER_PANELS_IMPL_H

#include "gather_impl.h"
#include "sums_impl.h"
#include "tiles_impl.h"

typedef struct esp_panels {
    esp_sums *sums;          /* borrowed */
    const esp_grid *grid;    /* borrowed */
    double g_scale, f_scale; /* what the sums over samples are multiplied by                 */
    size_t n_samples;        /* of this rank; may be 0                                       */
    const size_t *start;     /* [n_samples + 1] borrowed: first token of each                */
    size_t *row;       /* [n_samples + 1, 2 at least] owned: where each has a row: 0, 1, ... */
    esp_gather gather; /* of the samples of all ranks                                  */
    int *counts;       /* [n_data] owned: numbers of a panel that a rank is left with  */
    esp_tiles tiles;   /* G and F are asked for where a criterion needs them           */
    size_t n_tile;     /* numbers of G and F of a tile, at most                        */
    double *panel;     /* owned: G, and F where asked for, tile after tile             */
    double *part;      /* owned: sums over the rows and columns of each tile           */
    double *vector;    /* owned: G and F of a bias or norm                             */
    float *vector_w;   /* owned: the bias or norm itself                               */
} esp_panels;

/* This rank has n_samples of all (NULL: there are none); the tokens of its sample j are start[j] ..
 * start[j + 1]. Borrows what it is given. Local. */
void esp_panels_init(esp_panels *p, esp_sums *sums, const esp_model *m, const esp_samples *all,
                     const size_t *start, size_t n_samples, bool fisher_sum, const esp_grid *grid);
void esp_panels_free(esp_panels *p); /* safe twice and on {0} */

/* Bytes that it takes for n_all samples, n_samples of them on this rank, rooms that grow left out. Local. */
size_t esp_panels_bytes(unsigned criteria, const esp_model *m, size_t n_all, size_t n_samples,
                        const esp_grid *grid);

/* Adds a matrix and its bias. The gradient is not read where no criterion needs it or this rank has no
 * samples; all ranks call it for the same weights in the same order. Collective on grid->data. */
void esp_panels_add(esp_panels *p, size_t layer, int slot, const esp_weight *w,
                    const esp_gradient *gradient);

/* Adds the weight of a norm and its bias. dw, db: their gradients, a row a sample, packed as dy and read as
 * above. Collective on grid->data. */
void esp_panels_add_norm(esp_panels *p, size_t layer, int slot, const esp_weight *w,
                         const float *dw, const float *db);

#endif
