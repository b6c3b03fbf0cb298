/* compare_impl.h - rows of a comparison. */
#ifndef ESPALIER_COMPARE_IMPL_H
#define ESPALIER_COMPARE_IMPL_H

#include "espalier/compare.h"

/* Judged models that differ by nothing but the seed. */
typedef struct esp_compare_row {
    char *run;                 /* owned: a name for their runs; "-" of the only dense model */
    const esp_judged **member; /* [n] owned, each borrowed                                  */
    size_t n;
} esp_compare_row;

typedef struct esp_compare_rows {
    esp_compare_row *row; /* [n] owned */
    size_t n;
} esp_compare_rows;

/* rows [out, owned]. Local. */
void esp_compare_join(esp_compare_rows *rows, const esp_comparison *c);
void esp_compare_rows_free(esp_compare_rows *rows);

/* Mean, and sample standard deviation (0 of one), of the members' values of a column; n of them have one,
 * which may be infinite. */
typedef struct esp_compare_cell {
    size_t n;
    double mean, deviation;
} esp_compare_cell;

esp_compare_cell esp_compare_cell_of(const esp_compare_row *row, const char *title);

/* What was read of the text of a column to make the members; NULL: nothing. Borrowed. */
const char *esp_compare_seen(const esp_compare_row *row, const char *title);

#endif
