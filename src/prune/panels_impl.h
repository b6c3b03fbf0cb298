/* panels_impl.h - from the gradients of outputs to sums of salience, a panel of a weight at a time.
 *
 * A weight is cut into tiles of fixed size, a panel is a run of tiles. Flow for each panel: per-sample
 * gradients of its tiles, added into G and squared into F -> sum over the data ranks, each of which gets
 * some of the tiles -> salience -> sums over rows and columns. Nothing of this depends on the number of
 * threads; on the number of ranks only the order of f64 sums does.
 */
#ifndef ESPALIER_PANELS_IMPL_H
#define ESPALIER_PANELS_IMPL_H

#include "sums_impl.h"

typedef struct esp_panels {
    esp_sums *sums;          /* borrowed */
    const esp_grid *grid;    /* borrowed */
    bool gradient, fisher;   /* a criterion needs G, F                                       */
    double g_scale, f_scale; /* what the sums over samples are multiplied by                 */
    size_t n_samples;        /* of this rank; may be 0                                       */
    const size_t *start;     /* [n_samples + 1] borrowed: first token of each                */
    size_t *row;             /* [n_samples + 1] owned: where a sample has one row: 0, 1, ... */
    int *counts;             /* [n_data] owned: numbers of a panel that a rank is left with  */
    double *panel;           /* owned: G, and F where asked for, tile after tile             */
    double *part;            /* owned: sums over the rows and columns of each tile           */
    float *scratch;          /* owned: a tile for each thread                                */
    double *vector;          /* owned: G and F of a bias or norm                             */
    float *vector_w;         /* owned: the bias or norm itself                               */
} esp_panels;

/* This rank has n_samples of all; the tokens of its sample j are start[j] .. start[j + 1]. Borrows what
 * it is given. Local. */
void esp_panels_init(esp_panels *p, esp_sums *sums, const esp_model *m, const size_t *start,
                     size_t n_samples, size_t all, bool fisher_sum, const esp_grid *grid);
void esp_panels_free(esp_panels *p); /* safe twice and on {0} */

/* Where the gradient of a weight comes from: a product with it, rows of it that were looked up, or
 * both (a tied embedding). */
typedef struct esp_gradient {
    const float *dy, *x; /* [n_tok, rows], [n_tok, cols]: dy^T x; NULL: no product    */
    const float *radial; /* [n_samples, rows] takes off, times the weight's row; or NULL */
    const int32_t *ids;  /* [n_tok] row that a token looked up; NULL: no look-up       */
    const float *dx;     /* [n_tok, cols] gradient of what it found                    */
} esp_gradient;

/* Adds a matrix and its bias. The gradient is not read where no criterion needs it or this rank has no
 * samples; all ranks call it for the same weights in the same order. Collective on grid->data. */
void esp_panels_add(esp_panels *p, size_t layer, int slot, const esp_weight *w,
                    const esp_gradient *gradient);

/* Adds the weight of a norm and its bias. dw, db [n_samples, rows]: their gradients, a row a sample,
 * read as above. Collective on grid->data. */
void esp_panels_add_norm(esp_panels *p, size_t layer, int slot, const esp_weight *w,
                         const float *dw, const float *db);

#endif
