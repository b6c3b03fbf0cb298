/* stage_eval.c - dense, pruned and recovered side by side: eval.json and the closing table. */
#include "stages_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/eval.h"
#include "espalier/file.h"
#include "espalier/log.h"
#include "inputs_impl.h"

static const char *const kinds[] = { "dense", "pruned", "recovered" };
#define N_KINDS (sizeof kinds / sizeof *kinds)

static json_t *eval_json(const esp_eval *e)
{
    return json_pack("{s:f, s:o, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:I}", "loss", e->loss,
                     "perplexity", esp_json_real(e->perplexity), "accuracy", e->accuracy, "tokens",
                     (json_int_t)e->tokens, "parameters", (json_int_t)e->cost.parameters, "macs",
                     (json_int_t)e->cost.macs, "bytes", (json_int_t)e->cost.bytes, "seconds",
                     e->seconds, "tokens_per_second", e->tok_per_second, "peak_resident",
                     (json_int_t)e->peak_resident);
}

/* Evaluates one model and adds it to results (rank 0). */
static esp_status evaluate(json_t *results, esp_run *run, const esp_model *m, const char *kind)
{
    size_t set = run->config->eval.batch_tokens, fit = run->chunk_tok[ESP_STAGE_EVAL];
    esp_eval e;
    esp_status st = esp_evaluate(&e, m, NULL, &run->evaluation, fit > 0 && fit < set ? fit : set,
                                 ESP_MACS_TOKENS, run->grid);

    if (st != ESP_OK) {
        return esp_fail_in(st, "the %s model", kind);
    }
    esp_info("eval: %s: perplexity %.4f over %" PRId64 " tokens", kind, e.perplexity, e.tokens);
    if (run->grid->rank == 0) {
        json_object_set_new(results, kind, eval_json(&e));
        esp_run_dir_event(&run->dir, "result", "eval",
                          json_pack("{s:s, s:o}", "model", kind, "numbers", eval_json(&e)));
    }
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

/* ---- table ------------------------------------------------------------------------------------ */

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

void esp_run_print_table(const esp_run *run)
{
    char *path = esp_run_path(run, "eval.json");
    json_t *results = json_load_file(path, 0, NULL);

    printf("%-10s %15s %18s %12s %9s %9s\n", "model", "parameters", "MACs (64 tokens)",
           "perplexity", "accuracy", "seconds");
    for (size_t i = 0; i < N_KINDS; i++) {
        const json_t *o = json_object_get(results, kinds[i]);

        if (o) {
            printf("%-10s %15.0f %18.0f %12.4f %9.4f %9.2f\n", kinds[i], number(o, "parameters"),
                   number(o, "macs"), exp(number(o, "loss")), number(o, "accuracy"),
                   number(o, "seconds"));
        }
    }
    fflush(stdout);
    json_decref(results);
    free(path);
}
