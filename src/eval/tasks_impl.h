/* tasks_impl.h - a task of the evaluation: what each of them defines in its file. */
#ifndef ESPALIER_TASKS_IMPL_H
#define ESPALIER_TASKS_IMPL_H

#include "espalier/eval.h"

/* A field as a column of the table that closes a run. */
typedef struct esp_eval_column {
    const char *title, *field; /* a field that is null has no finite value: inf */
    int width, decimals;
} esp_eval_column;

#define ESP_MAX_COLUMNS 3

typedef struct esp_eval_task {
    /* Adds the fields of the task, the same on all ranks. Collective on in->grid->world. */
    esp_status (*run)(json_t *fields, const esp_eval_input *in);
    esp_eval_column columns[ESP_MAX_COLUMNS]; /* up to the first without a title */
} esp_eval_task;

#endif
