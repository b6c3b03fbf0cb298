/* criteria_impl.h - what every element of a weight counts for, by all criteria in one visit. */
#ifndef ESPALIER_CRITERIA_IMPL_H
#define ESPALIER_CRITERIA_IMPL_H

#include "espalier/importance.h"

/* Bit sets of criteria: those that need F, those that need G (or both), those that need W. */
#define ESP_NEEDS_FISHER   (1u << ESP_ELEMENT2 | 1u << ESP_MIX)
#define ESP_NEEDS_GRADIENT (1u << ESP_VECTOR | 1u << ESP_ELEMENT1 | ESP_NEEDS_FISHER)
#define ESP_NEEDS_WEIGHTS  (ESP_NEEDS_GRADIENT | 1u << ESP_L1 | 1u << ESP_L2)

typedef struct esp_criteria {
    size_t n;
    esp_criterion at[ESP_N_CRITERIA]; /* [n] those that need W, ascending */
} esp_criteria;

esp_criteria esp_criteria_list(unsigned set);

/* A block of a weight with its gradients. */
typedef struct esp_elements {
    size_t n_rows, n_cols;
    const float *w;      /* [n_rows, n_cols]                                */
    const double *g, *f; /* G and F likewise; NULL where no criterion needs it */
} esp_elements;

/* rows [c->n, n_rows] and cols [c->n, n_cols] += sums of the salience of the elements over each row
 * and each column: G W for ESP_VECTOR, with its sign, else the magnitudes of element1 and so on. Local. */
void esp_criteria_add(double *rows, double *cols, const esp_criteria *c, const esp_elements *e);

#endif
