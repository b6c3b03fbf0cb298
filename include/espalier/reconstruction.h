/* reconstruction.h - which groups of a projection's inputs it can do without at the least error, by Optimal
 * Brain Surgeon in groups (docs/method.md, eq. 55 to 57).
 *
 * With all inputs the best matrix is W of least_squares.h. A group that goes raises the least error that
 * the other inputs can reach, by what follows from P = (H + lambda I)^-1 alone: groups go one after another,
 * each time the one that costs least, and P and W are those of the inputs that are left.
 */
#ifndef ESPALIER_RECONSTRUCTION_H
#define ESPALIER_RECONSTRUCTION_H

#include "espalier/least_squares.h"

/* Groups of inputs, all of the same number of them; an input may be in none, which never goes. */
typedef struct esp_input_groups {
    size_t n, width; /* groups, inputs of each                                */
    size_t lanes;    /* stretches of n / lanes groups, of each of which as many go */
    size_t *input;   /* [n, width] owned; numbers of the inputs of each group */
} esp_input_groups;

/* What a choice is made in, for a gram of that width. */
typedef struct esp_reconstruction {
    esp_least_squares solver; /* its factor becomes W^T W, its scratch W^T                     */
    size_t n;
    double *w;            /* [n_rows, n] owned; W                                        */
    double *inverse;      /* [n, n] owned; P, on and below the diagonal                   */
    double *p, *m;        /* [n] owned each; diagonals of P and of W^T W                  */
    double *column[2];    /* [n] owned each; a column of P and of W^T W                    */
    double *right, *left; /* [n, *] owned each; updates of P and W^T W still to be made */
    size_t n_pending;     /* of them                                                      */
    double *block;        /* [2 * width, width] owned; of P and W^T W of a group          */
    double *scores;       /* [groups] owned                                              */
    bool *gone;           /* [groups] owned                                              */
} esp_reconstruction;

void esp_reconstruction_init(esp_reconstruction *s, size_t n, size_t n_rows,
                             const esp_input_groups *g);
size_t esp_reconstruction_bytes(size_t n, size_t n_rows, const esp_input_groups *g); /* Local. */
void esp_reconstruction_free(esp_reconstruction *s); /* safe twice and on {0} */

/* FLOP in f64 of a choice of which n_rows rows are this rank's. Local. */
double esp_reconstruction_flops(size_t n, size_t n_rows, size_t n_inputs_gone);

/* order [n_gone] [out]: groups in the order in which they go, n_gone / lanes of each lane. error
 * [n_gone + 1] [out]: the least value of sum |y - W x|^2 + lambda |W - W0|^2 with all inputs, then without
 * the first group, without the first two, and so on, W0 as it is. Each rank of comm has n_rows rows of w0
 * [n_rows, n] from `first` on, all together have all, and all get the same. False, on all ranks, where H +
 * lambda I is not positive definite. Collective on comm. */
bool esp_reconstruction_order(int32_t *order, double *error, size_t n_gone,
                              const esp_input_groups *groups, const double *w0, const esp_gram *g,
                              double damping, size_t first, size_t n_rows, esp_reconstruction *s,
                              MPI_Comm comm);

#endif
