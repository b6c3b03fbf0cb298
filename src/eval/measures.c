/* measures.c - the measures of an evaluation, one after another, and the tables of what they found. */
#include "measures_impl.h"

#include <math.h>

/* Each is defined in a file of its own, measure_*.c. */
extern const esp_eval_measure esp_measure_cost, esp_measure_perplexity, esp_measure_tasks;

/* In the order of their columns. */
static const esp_eval_measure *const measures[] = { &esp_measure_cost, &esp_measure_perplexity,
                                                    &esp_measure_tasks };

#define N_MEASURES (sizeof measures / sizeof *measures)

esp_status esp_eval_run(json_t **fields, const esp_eval_input *in)
{
    esp_status st = ESP_OK;

    *fields = json_object();
    for (size_t i = 0; i < N_MEASURES && st == ESP_OK; i++) {
        st = measures[i]->run(*fields, in);
    }
    if (st != ESP_OK) {
        json_decref(*fields);
        *fields = NULL;
    }
    return st;
}

/* ---- tables ----------------------------------------------------------------------------------- */

static bool any_has(const json_t *results, const char *field)
{
    const char *name;
    json_t *fields;
    bool has = false;

    json_object_foreach((json_t *)(uintptr_t)results, name, fields)
    {
        has = has || json_object_get(fields, field);
    }
    return has;
}

/* A line of the table: titles where fields is NULL. */
static void print_line(FILE *to, const char *name, const json_t *fields, const json_t *results)
{
    fprintf(to, "%-10s", name);
    for (size_t i = 0; i < N_MEASURES; i++) {
        for (const esp_eval_column *c = measures[i]->columns;
             c < measures[i]->columns + ESP_MAX_COLUMNS && c->title; c++) {
            const json_t *value = json_object_get(fields, c->field);

            if (!any_has(results, c->field)) {
                continue;
            }
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
    print_line(to, "model", NULL, results);
    for (size_t i = 0; i < n; i++) {
        const json_t *fields = json_object_get(results, names[i]);

        if (fields) {
            print_line(to, names[i], fields, results);
        }
    }
    for (size_t i = 0; i < N_MEASURES; i++) {
        if (measures[i]->print) {
            measures[i]->print(to, results, names, n);
        }
    }
    fflush(to);
}
