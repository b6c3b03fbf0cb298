/* tasks.c - the tasks of an evaluation, one after another, and the table of what they found. */
#include "tasks_impl.h"

#include <math.h>

/* Each is defined in a file of its own, task_*.c. */
extern const esp_eval_task esp_task_cost, esp_task_perplexity;

/* In the order of their columns. */
static const esp_eval_task *const tasks[] = { &esp_task_cost, &esp_task_perplexity };

#define N_TASKS (sizeof tasks / sizeof *tasks)

esp_status esp_eval_run(json_t **fields, const esp_eval_input *in)
{
    esp_status st = ESP_OK;

    *fields = json_object();
    for (size_t i = 0; i < N_TASKS && st == ESP_OK; i++) {
        st = tasks[i]->run(*fields, in);
    }
    if (st != ESP_OK) {
        json_decref(*fields);
        *fields = NULL;
    }
    return st;
}

/* ---- table ------------------------------------------------------------------------------------ */

/* A line of the table: titles where fields is NULL. */
static void print_line(FILE *to, const char *name, const json_t *fields)
{
    fprintf(to, "%-10s", name);
    for (size_t i = 0; i < N_TASKS; i++) {
        for (const esp_eval_column *c = tasks[i]->columns;
             c < tasks[i]->columns + ESP_MAX_COLUMNS && c->title; c++) {
            const json_t *value = json_object_get(fields, c->field);

            if (!fields) {
                fprintf(to, " %*s", c->width, c->title);
            } else {
                fprintf(to, " %*.*f", c->width, c->decimals,
                        json_is_null(value) ? INFINITY : json_number_value(value));
            }
        }
    }
    fputc('\n', to);
}

void esp_eval_print(FILE *to, const json_t *results, const char *const *names, size_t n)
{
    print_line(to, "model", NULL);
    for (size_t i = 0; i < n; i++) {
        const json_t *fields = json_object_get(results, names[i]);

        if (fields) {
            print_line(to, names[i], fields);
        }
    }
    fflush(to);
}
