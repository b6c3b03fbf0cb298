/* criteria_impl.h - the table of criteria, and the saliency of every element of a weight by all of them in
 * one visit. */
#ifndef ESPALIER_CRITERIA_IMPL_H
#define ESPALIER_CRITERIA_IMPL_H

#include "espalier/importance.h"

/* Moments over the tokens of what a matrix takes, x, and of the gradient of what it gives, dy; borrowed, NULL
 * where no criterion needs them. */
typedef struct esp_moments {
    const double *x, *x2; /* [cols] means of x and x^2                                 */
    const double *dy2;    /* [rows] sums over the tokens of a sample of dy^2, as F is  */
} esp_moments;

/* cols [n] += saliency of the elements of a row, w, g, f, x and x2 [n], dy2 [1]; returns the sum
 * over the row. NULL where the criterion does not need them. */
typedef double esp_criterion_row(double *restrict cols, const float *w, const double *g,
                                 const double *f, const esp_moments *of, size_t n);

/* How far the score of a group may be off where products were in bf16 (docs/method.md, eq. 21). A power of
 * two with which near_ties has every group whose place in f32 differs, see tests/unit/unit_bf16.c. */
typedef struct esp_score_error {
    double relative; /* to the score; 0: no products in it                             */
    bool of_mean;    /* relative to the mean score of the unit instead: the terms cancel */
} esp_score_error;

typedef struct esp_criterion_info {
    const char *name;           /* in settings, importance.h5 and plan.json */
    unsigned needs;             /* bit set of esp_need                                  */
    unsigned units;             /* bit set of 1u << esp_unit_kind: what it scores       */
    esp_criterion_row *add_row; /* its formula; NULL: it is none of elements of weights */
    esp_score_error bf16_error;
    bool columns_alone; /* a unit has one structure: the columns of the matrix behind it */
} esp_criterion_info;

extern const esp_criterion_info esp_criteria_table[ESP_N_CRITERIA];

typedef struct esp_criteria {
    size_t n;
    esp_criterion at[ESP_N_CRITERIA]; /* [n] those with a formula of elements, ascending */
} esp_criteria;

esp_criteria esp_criteria_list(unsigned set);

/* Those of a set whose formula is of weights and moments: they are known when all samples have been seen. */
unsigned esp_criteria_of_moments(unsigned set);

/* Whether a criterion has a formula of elements for structures on a side of weights in units of a kind. */
bool esp_criterion_reads(esp_criterion c, esp_unit_kind kind, esp_side side);

/* A block of a weight with its gradients. */
typedef struct esp_elements {
    size_t n_rows, n_cols;
    const float *w;      /* [n_rows, n_cols]                                */
    const double *g, *f; /* G and F likewise; NULL where no criterion needs it */
    esp_moments moments; /* of these columns and rows                          */
} esp_elements;

/* rows [c->n, n_rows] and cols [c->n, n_cols] += sums of the saliency of the elements over each row
 * and each column: G W for ESP_VECTOR, with its sign, else the magnitudes of element1 and so on. Local. */
void esp_criteria_add(double *rows, double *cols, const esp_criteria *c, const esp_elements *e);

#endif
