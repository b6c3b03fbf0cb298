/* stage_eval.c - dense, pruned and recovered side by side: eval.json and the closing table. */
#include "stages_impl.h"

#include <stdlib.h>

#include "espalier/eval.h"
#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "inputs_impl.h"

static const char *const kinds[] = { "dense", "pruned", "recovered" };
#define N_KINDS (sizeof kinds / sizeof *kinds)

/* What there is to keep, on rank 0. */
typedef struct findings {
    json_t *results;           /* {model: {field: number}} */
    esp_byte_string questions; /* lines of JSON            */
} findings;

/* Evaluates one model and adds what it finds (rank 0). */
static esp_status evaluate(findings *f, esp_run *run, const esp_model *m, const char *kind)
{
    bool first = run->grid->rank == 0;
    size_t set = run->config->eval.batch_tokens, fit = run->chunk_tok[ESP_STAGE_EVAL];
    const esp_eval_input in = { .name = kind,
                                .model = m,
                                .texts = &run->evaluation,
                                .max_tok = fit > 0 ? esp_min(fit, set) : set,
                                .grid = run->grid,
                                .questions = first ? &f->questions : NULL };
    json_t *fields;
    esp_status st = esp_eval_run(&fields, &in);

    if (st != ESP_OK) {
        return esp_fail_in(st, "the %s model", kind);
    }
    if (first) {
        json_object_set(f->results, kind, fields);
        esp_run_dir_event(&run->dir, "result", "eval",
                          json_pack("{s:s, s:O}", "model", kind, "numbers", fields));
    }
    json_decref(fields);
    return ESP_OK;
}

/* The model in a folder of the run directory, where there is one. */
static esp_status evaluate_folder(findings *f, esp_run *run, const char *kind)
{
    esp_model m = { 0 };
    char *dir;
    esp_status st;

    if (!esp_run_has(run, kind)) {
        return ESP_OK;
    }
    dir = esp_run_path(run, kind);
    st = esp_run_load_model(&m, run, dir);
    if (st == ESP_OK) {
        st = evaluate(f, run, &m, kind);
    }
    if (st == ESP_OK) {
        st = esp_run_check_unchanged(run, &m);
    }
    esp_model_free(&m);
    free(dir);
    return st;
}

/* The file by which the stage is known to be done comes last. */
static esp_status write_findings(const findings *f, const esp_run *run)
{
    char *path = esp_run_path(run, "eval_questions.jsonl");
    esp_status st =
        f->questions.n > 0 ? esp_file_write(path, f->questions.data, f->questions.n) : ESP_OK;

    free(path);
    return st == ESP_OK ? esp_run_dir_write(&run->dir, "eval.json", f->results) : st;
}

esp_status esp_stage_eval(esp_run *run)
{
    findings f = { .results = json_object() };
    esp_status st = evaluate(&f, run, &run->model, kinds[0]);

    for (size_t i = 1; st == ESP_OK && i < N_KINDS; i++) {
        st = evaluate_folder(&f, run, kinds[i]);
    }
    if (st == ESP_OK && run->grid->rank == 0) {
        st = write_findings(&f, run);
    }
    json_decref(f.results);
    esp_bytes_free(&f.questions);
    return st;
}

void esp_run_print_table(const esp_run *run)
{
    char *path = esp_run_path(run, "eval.json");
    json_t *results = json_load_file(path, 0, NULL);

    esp_eval_print(stdout, results, kinds, N_KINDS);
    json_decref(results);
    free(path);
}
