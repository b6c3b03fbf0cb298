/* gram.h - what least squares needs to know of a projection's inputs x and of what it should give, y: sums
 * over tokens (docs/method.md, eq. 39).
 *
 * Flow: esp_gram_init -> esp_gram_add, sample by sample -> esp_gram_reduce -> least_squares.h
 */
#ifndef ESPALIER_GRAM_H
#define ESPALIER_GRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/status.h"

typedef struct esp_gram {
    size_t n_in, n_out; /* widths of x and y                                                   */
    size_t n;           /* n_in, and with a bias one more: the last number of x is then 1       */
    double *h;          /* [n, n] owned; sum x x^T. Above the diagonal only after a reduce      */
    double *g;          /* [n_out, n] owned; sum y x^T                                          */
    double y2;          /* sum |y|^2                                                            */
    double tokens;
} esp_gram;

void esp_gram_init(esp_gram *g, size_t n_in, size_t n_out, bool bias);
size_t esp_gram_bytes(size_t n_in, size_t n_out, bool bias); /* that it takes. Local. */
void esp_gram_free(esp_gram *g);                             /* safe twice and on {0} */

/* Sets all sums to zero. Local. */
void esp_gram_clear(esp_gram *g);

/* Adds the tokens of a sample: products in f32, sums over samples in f64. x [n_tok, n_in]  y [n_tok, n_out];
 * scratch [esp_gram_scratch], overwritten. Local. */
void esp_gram_add(esp_gram *g, const float *x, const float *y, size_t n_tok, float *scratch);
size_t esp_gram_scratch(size_t n_in, size_t n_out); /* numbers */

/* Adds the sums of another of the same widths. Local. */
void esp_gram_merge(esp_gram *to, const esp_gram *from);

/* Leaves the sums of the inputs kept [n_kept], ascending, after a reduce; the one at the end stays. Local. */
void esp_gram_keep(esp_gram *g, const int32_t *kept, size_t n_kept);

/* The sums of all ranks, on all of them. Collective on comm. */
void esp_gram_reduce(esp_gram *g, MPI_Comm comm);

/* |y|^2, summed over tokens, of what W gives less y: tr(W H W^T) - 2 tr(W G^T), without sum |y|^2, of rows
 * first .. first + n_rows - 1. w, scratch [n_rows, n]. After a reduce. Local. */
double esp_gram_error(const esp_gram *g, const double *w, size_t first, size_t n_rows,
                      double *scratch);

#endif
