/* compare.h - what several runs found, in one table.
 *
 * Flow: run folders -> judged models, each with its values by column -> rows, in which runs that differ by
 * nothing but the seed are one -> text.
 * A column is one test: the same file, by its content, judged in the same way; where the tests of two runs
 * only have the same name they are two columns.
 */
#ifndef ESPALIER_COMPARE_H
#define ESPALIER_COMPARE_H

#include <jansson.h>
#include <stddef.h>

#include "espalier/status.h"

/* In the order of the columns. */
typedef enum esp_column_kind {
    ESP_COLUMN_PARAMETERS,
    ESP_COLUMN_SHARE, /* of the parameters of the dense model */
    ESP_COLUMN_MACS,
    ESP_COLUMN_BYTES,
    ESP_COLUMN_PERPLEXITY,
    ESP_COLUMN_TASK, /* acc, or acc_norm */
    ESP_COLUMN_MEAN  /* of the tasks     */
} esp_column_kind;

typedef struct esp_compare_column {
    esp_column_kind kind;
    char *title; /* owned: "web.perplexity", which "#2" follows for another test of that name */
    char *name;  /* owned: without that                                                       */
    char *test;  /* owned: what was judged, and how; "" of costs                              */
} esp_compare_column;

/* One model of one run. */
typedef struct esp_judged {
    char *run;         /* owned: path of its folder                                             */
    const char *model; /* dense, pruned or recovered                                            */
    char *made;        /* owned: all that shaped it and its values, without seeds, as a digest  */
    char *seeds;       /* owned: of its stages; "" of a dense model                             */
    json_t *values;    /* owned: {title: number, null beyond the range of f64}                  */
    json_t *seen;      /* owned: {title: "calibration", ...}: what of its making read that text */
} esp_judged;

typedef struct esp_comparison {
    esp_compare_column *column; /* [n_columns] owned, in the order in which they are shown */
    size_t n_columns;
    esp_judged
        *judged; /* [n_judged] owned, in the order in which they came; {0} is an empty comparison */
    size_t n_judged;
} esp_comparison;

/* Adds the models that a run has judged; the dense model of several runs once. Warns where the same run is
 * there already, which is left out, and where a text that is judged was read to make the model. Errors of
 * esp_run_results: c is as it was. Local. */
esp_status esp_compare_add(esp_comparison *c, const char *dir);
void esp_compare_free(esp_comparison *c); /* safe twice and on {0} */

typedef enum esp_table_format {
    ESP_TABLE_PLAIN,
    ESP_TABLE_CSV,
    ESP_TABLE_MARKDOWN,
    ESP_N_TABLE_FORMATS
} esp_table_format;

/* table, csv, markdown; NULL beyond. Local. */
const char *esp_table_format_name(unsigned f);

/* The format that the ending of a file asks for: .csv, .md, else plain. Local. */
esp_table_format esp_table_format_of(const char *path);

/* The table: dense models first, the other rows in the order of their first runs, with mean and sample
 * standard deviation where several runs are one row. CSV has numbers with all digits; the others have notes
 * below on what each column judges, and on what was read before. The caller frees. Local. */
char *esp_compare_text(const esp_comparison *c, esp_table_format f);

#endif
