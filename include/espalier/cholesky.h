/* cholesky.h - products and solves in f64, for systems whose matrix is a sum over tokens.
 *
 * Row-major. An element depends on its rows of the operands alone, bit for bit: not on how many other rows
 * there are, nor on the threads, so that ranks may share out the rows of a solve. All functions are Local,
 * use the OpenMP threads of the process, and are not called from inside a parallel region.
 */
#ifndef ESPALIER_CHOLESKY_H
#define ESPALIER_CHOLESKY_H

#include <stddef.h>

/* C -= A B^T.  c [m, n]  a [m, k]  b [n, k], rows c_step, a_step, b_step numbers apart. */
void esp_subtract_product(double *c, size_t c_step, const double *a, size_t a_step, const double *b,
                          size_t b_step, size_t m, size_t n, size_t k);

/* a [n, n] [in,out]: symmetric, only its lower half is read; becomes L with A = L L^T, and L^T above the
 * diagonal. Returns n; or, where A is not positive definite, the index of the pivot that is not positive: a
 * is spoiled then. */
size_t esp_cholesky(double *a, size_t n);

/* X becomes X A^-1.  x [n_rows, n]  l [n, n] of esp_cholesky. */
void esp_cholesky_solve(double *x, const double *l, size_t n_rows, size_t n);

#endif
