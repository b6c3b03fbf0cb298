/* criteria_impl.h - the table of criteria, and the saliency of every element of a weight by all of them in
 * one visit. */
#ifndef ESPALIER_CRITERIA_IMPL_H
#define ESPALIER_CRITERIA_IMPL_H

#include "espalier/importance.h"

/* cols [n] += saliency of the elements of a row, w, g, f [n]; returns the sum over the row. g, f: NULL where
 * the criterion does not need them. */
typedef double esp_criterion_row(double *restrict cols, const float *w, const double *g,
                                 const double *f, size_t n);

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
} esp_criterion_info;

extern const esp_criterion_info esp_criteria_table[ESP_N_CRITERIA];

typedef struct esp_criteria {
    size_t n;
    esp_criterion at[ESP_N_CRITERIA]; /* [n] those with a formula of elements, ascending */
} esp_criteria;

esp_criteria esp_criteria_list(unsigned set);

/* A block of a weight with its gradients. */
typedef struct esp_elements {
    size_t n_rows, n_cols;
    const float *w;      /* [n_rows, n_cols]                                */
    const double *g, *f; /* G and F likewise; NULL where no criterion needs it */
} esp_elements;

/* rows [c->n, n_rows] and cols [c->n, n_cols] += sums of the saliency of the elements over each row
 * and each column: G W for ESP_VECTOR, with its sign, else the magnitudes of element1 and so on. Local. */
void esp_criteria_add(double *rows, double *cols, const esp_criteria *c, const esp_elements *e);

#endif
