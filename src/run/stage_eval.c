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

/* Evaluates one model and adds it to results (rank 0). */
static esp_status evaluate(json_t *results, esp_run *run, const esp_model *m, const char *kind)
{
    size_t set = run->config->eval.batch_tokens, fit = run->chunk_tok[ESP_STAGE_EVAL];
    const esp_eval_input in = { .name = kind,
                                .model = m,
                                .samples = &run->evaluation,
                                .max_tok = fit > 0 ? esp_min(fit, set) : set,
                                .grid = run->grid };
    json_t *fields;
    esp_status st = esp_eval_run(&fields, &in);

    if (st != ESP_OK) {
        return esp_fail_in(st, "the %s model", kind);
    }
    if (run->grid->rank == 0) {
        json_object_set(results, kind, fields);
        esp_run_dir_event(&run->dir, "result", "eval",
                          json_pack("{s:s, s:O}", "model", kind, "numbers", fields));
    }
    json_decref(fields);
    return ESP_OK;
}

/* The model in a folder of the run directory, where there is one. */
static esp_status evaluate_folder(json_t *results, esp_run *run, const char *kind)
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
        st = evaluate(results, run, &m, kind);
    }
    if (st == ESP_OK) {
        st = esp_run_check_unchanged(run, &m);
    }
    esp_model_free(&m);
    free(dir);
    return st;
}

esp_status esp_stage_eval(esp_run *run)
{
    json_t *results = json_object();
    esp_status st = evaluate(results, run, &run->model, kinds[0]);

    for (size_t i = 1; st == ESP_OK && i < N_KINDS; i++) {
        st = evaluate_folder(results, run, kinds[i]);
    }
    if (st == ESP_OK && run->grid->rank == 0) {
        st = esp_run_dir_write(&run->dir, "eval.json", results);
    }
    json_decref(results);
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
