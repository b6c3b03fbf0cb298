/* stage_recover.c - training of the pruned model, or of the model itself where nothing was pruned:
 * adapter/ (LoRA) and recovered/. */
#include "stages_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/exporters.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/merge.h"
#include "espalier/recover.h"
#include "espalier/settings.h"
#include "inputs_impl.h"

static void report_step(esp_run *run, const esp_recover_news *n)
{
    bool skipped = n->event == ESP_STEP_SKIPPED;
    json_t *fields = json_pack("{s:I, s:I, s:o, s:f, s:o}", "step", (json_int_t)n->step, "steps",
                               (json_int_t)n->steps, "loss", esp_json_real(n->loss), "lr", n->rate,
                               "grad_norm", esp_json_real(n->grad_norm));

    if (skipped) {
        esp_info("recover: step %zu of %zu is skipped, loss %.4g, gradient norm %.4g: %zu in a row",
                 n->step, n->steps, fabs(n->loss), fabs(n->grad_norm), n->in_a_row);
        json_object_set_new(fields, "in_a_row", json_integer((json_int_t)n->in_a_row));
    }
    esp_run_dir_event(&run->dir, skipped ? "skipped" : "step", "recover", fields);
    if (!(n->validation_loss < 0)) {
        esp_info("recover: step %zu of %zu, loss %.4f, validation %.4f", n->step, n->steps,
                 fabs(n->loss), fabs(n->validation_loss));
        esp_run_dir_event(&run->dir, "validation", "recover",
                          json_pack("{s:I, s:o}", "step", (json_int_t)n->step, "loss",
                                    esp_json_real(n->validation_loss)));
    }
}

static void report_rollback(esp_run *run, const esp_recover_news *n)
{
    double factor = ldexp(1, -(int)n->rollbacks);

    esp_info("recover: back from step %zu to %s %zu, with %g of the learning rate that is set",
             n->from, n->step > 0 ? "the checkpoint of step" : "the start, step", n->step, factor);
    esp_run_dir_event(&run->dir, "rollback", "recover",
                      json_pack("{s:I, s:I, s:I, s:f}", "from", (json_int_t)n->from, "to",
                                (json_int_t)n->step, "rollbacks", (json_int_t)n->rollbacks,
                                "rate_factor", factor));
}

/* One line an event; the first validation comes before the first step. Called on every rank. */
static void report(void *ctx, const esp_recover_news *n)
{
    esp_run *run = ctx;

    esp_progress("recover", n->step, n->steps);
    if (run->grid->rank != 0) {
        return;
    }
    if (n->event == ESP_ROLLED_BACK) {
        report_rollback(run, n);
    } else {
        report_step(run, n);
    }
}

/* Samples of a micro-batch: as set, or fewer that fit memory_limit. */
static size_t micro_batch(const esp_run *run)
{
    size_t set = run->config->recover.micro_batch, chunk = run->chunk_tok[ESP_STAGE_RECOVER];
    size_t fit = chunk / esp_samples_longest(&run->training);

    return chunk > 0 ? esp_min(fit, set) : set;
}

/* A validation loss; null where there is none. */
static json_t *measured(double loss)
{
    return loss < 0 ? json_null() : esp_json_real(loss);
}

static void tell(esp_run *run, const esp_recover_result *r)
{
    if (r->validation_loss < 0) {
        esp_info("recover: %zu steps, training loss %.4f, nothing held out for validation",
                 r->steps, r->train_loss);
    } else {
        esp_info("recover: %zu steps, best validation %.4f at step %zu, was %.4f", r->steps,
                 r->validation_loss, r->best_step, r->first_validation_loss);
    }
    if (r->skipped + r->rollbacks > 0) {
        esp_info("recover: %zu of these steps skipped, gone back %zu times", r->skipped,
                 r->rollbacks);
    }
    esp_info(
        "recover: %.0f tokens/s, %.1f %% of the time waiting in MPI, %.2f s for checkpoints beside",
        r->tok_per_second, 100 * r->wait_share, r->save_seconds);
    if (run->grid->rank == 0) {
        esp_run_dir_event(
            &run->dir, "trained", "recover",
            json_pack("{s:I, s:I, s:I, s:f, s:o, s:o, s:I, s:f, s:f, s:f}", "steps",
                      (json_int_t)r->steps, "skipped", (json_int_t)r->skipped, "rollbacks",
                      (json_int_t)r->rollbacks, "train_loss", r->train_loss,
                      "first_validation_loss", measured(r->first_validation_loss),
                      "validation_loss", measured(r->validation_loss), "best_step",
                      (json_int_t)r->best_step, "tokens_per_second", r->tok_per_second,
                      "wait_share", r->wait_share, "save_seconds", r->save_seconds));
    }
}

/* What the training gave: the model, first, as its types may not hold the numbers; the adapter by itself. */
static esp_status write_results(esp_run *run, const esp_model *m, const esp_params *p,
                                const esp_adapter *a)
{
    bool lora = run->config->recover.method == ESP_METHOD_LORA;
    char *adapter = esp_run_path(run, "adapter"), *recovered = esp_run_path(run, "recovered");
    esp_status st = esp_merge(run->made, esp_export_to(recovered, "huggingface"), m,
                              lora ? NULL : p, a, run->grid->world);

    if (st == ESP_OK && lora) {
        st = esp_adapter_save(esp_export_to(adapter, "peft"), a, m, run->config->recover.dropout,
                              run->grid->world);
    }
    free(adapter);
    free(recovered);
    return st;
}

static esp_status train(esp_run *run, esp_model *m, const esp_recover_options *o)
{
    esp_params params = { 0 };
    esp_adapter adapter = { 0 };
    esp_recover_result result;
    esp_status st;

    esp_recover_prepare(&params, &adapter, m, o);
    st = esp_recover(&params, &result, m, &adapter, &run->training, o, report, run, run->stop,
                     run->grid);
    if (st == ESP_OK) {
        tell(run, &result);
        st = esp_run_check_unchanged(run, m);
    }
    if (st == ESP_OK && run->teacher) {
        st = esp_run_check_unchanged(run, run->teacher);
    }
    if (st == ESP_OK) {
        st = write_results(run, m, &params, &adapter);
    }
    esp_adapter_free(&adapter);
    esp_model_free(m); /* its weights may point into params */
    esp_params_free(&params);
    return st;
}

esp_status esp_stage_recover(esp_run *run)
{
    bool pruned = esp_run_has(run, "pruned");
    char *base = pruned ? esp_run_path(run, "pruned") : esp_strdup(run->config->model);
    char *checkpoints = esp_run_path(run, "recover");
    esp_recover_options o = run->config->recover;
    esp_model m = { 0 };
    esp_status st;

    o.teacher = run->teacher;
    o.targets = run->targets;
    o.micro_batch = micro_batch(run);
    o.kept_layers = run->kept_layers[ESP_STAGE_RECOVER];
    o.dir = checkpoints;
    o.settings = run->settings;
    if (!pruned) {
        esp_info("recover: nothing was pruned in %s, the model itself is trained",
                 run->config->run_dir);
    }
    st = esp_run_load_model(&m, run, base);
    if (st == ESP_OK) {
        esp_run_tell_kept(run, ESP_STAGE_RECOVER, &m);
    }
    if (st == ESP_OK) {
        st = train(run, &m, &o);
    }
    free(checkpoints);
    free(base);
    return st;
}
