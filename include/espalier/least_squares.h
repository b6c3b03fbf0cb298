/* least_squares.h - the matrix W that comes nearest to what a projection should give, damped towards the one
 * it has (docs/method.md, eq. 40 to 42):
 *
 *     W = argmin sum |y - W x|^2 + lambda |W - W0|^2 = W0 + (G - W0 H) (H + lambda I)^-1
 *     lambda = damping mean(diag H)
 *
 * Rows of W do not depend on each other: ranks share them out.
 */
#ifndef ESPALIER_LEAST_SQUARES_H
#define ESPALIER_LEAST_SQUARES_H

#include "espalier/gram.h"

/* What a solve is done in, for any gram of at most that width. */
typedef struct esp_least_squares {
    double *factor;   /* [n, n] owned; of H + lambda I                 */
    double *residual; /* [n_rows, n] owned; G - W0 H                    */
    double *scratch;  /* [n_rows, n] owned                              */
} esp_least_squares;

void esp_least_squares_init(esp_least_squares *s, size_t n, size_t n_rows);
size_t esp_least_squares_bytes(size_t n, size_t n_rows); /* that it takes. Local. */
void esp_least_squares_free(esp_least_squares *s);       /* safe twice and on {0} */

/* FLOP of one solve of n_rows rows, in f64. Local. */
double esp_least_squares_flops(size_t n, size_t n_rows);

/* w [n_rows, n] [out]: rows first .. first + n_rows - 1 of W, w0 [n_rows, n] those of W0. False where H +
 * lambda I is not positive definite to rounding (a damping of 0, or numbers that are not finite): w is not
 * defined then. Local. */
bool esp_least_squares_solve(double *w, const double *w0, const esp_gram *g, double damping,
                             size_t first, size_t n_rows, esp_least_squares *s);

typedef struct esp_damping {
    double value;         /* INFINITY: W0 stays, which no solve betters on held-out tokens */
    double before, after; /* |y - W x| / |y| over held-out tokens, of W0 and of the solve     */
} esp_damping;

/* The damping, of 1e-5 .. 1e1 and half a decade beside the best, whose solve of `fit` has the least error on
 * the tokens of `held`; fixed above 0: that one, with the same errors. Each rank of comm has n_rows rows from
 * `first` on, all together have all, and all get the same. w0, w [n_rows, n]; w is overwritten. Collective on
 * comm. */
esp_damping esp_least_squares_choose(const esp_gram *fit, const esp_gram *held, double fixed,
                                     const double *w0, double *w, size_t first, size_t n_rows,
                                     esp_least_squares *s, MPI_Comm comm);

#endif
