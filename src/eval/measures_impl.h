/* measures_impl.h - a measure of the evaluation: what each of them defines in its file. */
#ifndef ESPALIER_MEASURES_IMPL_H
#define ESPALIER_MEASURES_IMPL_H

#include "espalier/eval.h"

/* A field as a column of the table that closes a run; left out where no model has it. */
typedef struct esp_eval_column {
    const char *title, *field; /* a field that is null has no finite value: inf */
    int width, decimals;
} esp_eval_column;

#define ESP_MAX_COLUMNS 3

typedef struct esp_eval_measure {
    /* Adds the fields of the measure, the same on all ranks. Collective on in->grid->world. */
    esp_status (*run)(json_t *fields, const esp_eval_input *in);
    esp_eval_column columns[ESP_MAX_COLUMNS]; /* up to the first without a title */
    /* Prints a table of its own behind that of the columns; NULL: none. Local. */
    void (*print)(FILE *to, const json_t *results, const char *const *names, size_t n);
} esp_eval_measure;

/* Titles of a table of its own after an empty line: what its rows are (26 wide), what they count (9), and
 * each of names [n] that results has (16). Local. */
void esp_print_titles(FILE *to, const char *rows, const char *count, const json_t *results,
                      const char *const *names, size_t n);

#endif
