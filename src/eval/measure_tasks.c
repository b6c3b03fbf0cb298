/* measure_tasks.c - zero-shot and few-shot tasks: accuracy over questions with choices. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "measures_impl.h"

/* As the harness calls them. */
static const char *const metrics[ESP_N_NORMS] = {
    [ESP_NORM_NONE] = "acc", [ESP_NORM_CHARACTERS] = "acc_norm", [ESP_NORM_BYTES] = "acc_bytes"
};

/* ---- fields --------------------------------------------------------------------------------------- */

static json_t *grades_of(const double *logprob, const esp_questions *q)
{
    json_t *fields = json_pack("{s:s, s:I}", "kind", q->kind->name, "questions", (json_int_t)q->n);

    for (esp_norm_by by = ESP_NORM_NONE; by < ESP_N_NORMS; by++) {
        esp_grade g = esp_grade_of(logprob, q, by);
        char *name = esp_format("%s_stderr", metrics[by]);

        json_object_set_new(fields, metrics[by], json_real(g.accuracy));
        json_object_set_new(fields, name,
                            isfinite(g.stderror) ? json_real(g.stderror) : json_null());
        free(name);
    }
    return fields;
}

/* A line {"model", "task", "question", "gold", "logprob": [...], "acc": choice, ...} per question. */
static void append_lines(esp_byte_string *to, const char *model, const double *logprob,
                         const esp_questions *q)
{
    for (size_t j = 0; j < q->n; j++) {
        json_t *numbers = json_array(), *line;
        char *text;

        for (size_t c = q->first[j]; c < q->first[j + 1]; c++) {
            json_array_append_new(numbers, json_real(logprob[c]));
        }
        line = json_pack("{s:s, s:s, s:I, s:I, s:o}", "model", model, "task", q->name, "question",
                         (json_int_t)j, "gold", (json_int_t)q->gold[j], "logprob", numbers);
        for (esp_norm_by by = ESP_NORM_NONE; by < ESP_N_NORMS; by++) {
            json_object_set_new(line, metrics[by],
                                json_integer((json_int_t)esp_choose(logprob, q, j, by)));
        }
        text = json_dumps(line, JSON_COMPACT);
        esp_bytes_add(to, text, strlen(text));
        esp_bytes_add(to, "\n", 1);
        free(text);
        json_decref(line);
    }
}

static esp_status ask(json_t *tasks, const esp_eval_input *in, const esp_questions *q)
{
    double *logprob;
    esp_status st;

    ESP_NEW(logprob, q->samples.n);
    st = esp_answer(logprob, in->model, q, in->max_tok, in->grid);
    if (st == ESP_OK) {
        json_t *fields = grades_of(logprob, q);

        esp_info("eval: %s: %s: acc %.4f, acc_norm %.4f over %zu questions", in->name, q->name,
                 json_real_value(json_object_get(fields, "acc")),
                 json_real_value(json_object_get(fields, "acc_norm")), q->n);
        json_object_set_new(tasks, q->name, fields);
        if (in->questions) {
            append_lines(in->questions, in->name, logprob, q);
        }
    }
    free(logprob);
    return st;
}

static esp_status run(json_t *fields, const esp_eval_input *in)
{
    json_t *tasks = json_object();
    esp_status st = ESP_OK;

    for (size_t i = 0; i < in->texts->n_tasks && st == ESP_OK; i++) {
        st = ask(tasks, in, &in->texts->task[i]);
    }
    if (st == ESP_OK && in->texts->n_tasks > 0) {
        json_object_set(fields, "tasks", tasks);
    }
    json_decref(tasks);
    return st;
}

/* ---- table ---------------------------------------------------------------------------------------- */

static const json_t *task_of(const json_t *results, const char *model, const char *task)
{
    return json_object_get(json_object_get(json_object_get(results, model), "tasks"), task);
}

/* A metric of a task, a column for each model. */
static void print_row(FILE *to, const char *task, esp_norm_by by, const json_t *results,
                      const char *const *names, size_t n)
{
    char *stderr_name = esp_format("%s_stderr", metrics[by]);

    fprintf(to, "%-16s %-9s %9.0f", task, metrics[by],
            json_number_value(json_object_get(task_of(results, names[0], task), "questions")));
    for (size_t i = 0; i < n; i++) {
        const json_t *fields = task_of(results, names[i], task);

        if (fields) {
            fprintf(to, "  %.4f +- %.4f", json_number_value(json_object_get(fields, metrics[by])),
                    json_number_value(json_object_get(fields, stderr_name)));
        }
    }
    fputc('\n', to);
    free(stderr_name);
}

static void print(FILE *to, const json_t *results, const char *const *names, size_t n)
{
    json_t *tasks = json_object_get(json_object_get(results, names[0]), "tasks"), *fields;
    const char *task;

    if (!tasks) {
        return;
    }
    esp_print_titles(to, "task", "questions", results, names, n);
    json_object_foreach(tasks, task, fields)
    {
        const char *kind = json_string_value(json_object_get(fields, "kind"));
        const esp_question_kind *k = esp_question_kind_find(kind ? kind : "");

        print_row(to, task, ESP_NORM_NONE, results, names, n);
        if (k && k->normalized) {
            print_row(to, task, ESP_NORM_CHARACTERS, results, names, n);
        }
    }
}

const esp_eval_measure esp_measure_tasks = { .run = run, .print = print };
