/* stage_prune.c - the cut that plan.json says, and what is left fitted to text: pruned/.
 *
 * compensate/ has the projections that are fitted, while they are; a repeated call takes what is there. Where
 * the plan has fitted them on its way, steps/ has them all.
 */
#include "stages_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/compensate.h"
#include "espalier/exporters.h"
#include "espalier/folder.h"
#include "espalier/log.h"
#include "espalier/settings.h"
#include "espalier/surgery.h"

/* Collective. */
static const char *folder_of(const esp_run *run)
{
    return esp_settings_reconstruct(run->config) && esp_run_has(run, "steps") ? "steps"
                                                                              : "compensate";
}

/* ---- compensation ------------------------------------------------------------------------------ */

/* One line a projection. Called on every rank. */
static void report(void *ctx, const esp_compensate_news *n)
{
    esp_run *run = ctx;
    const esp_damping *d = &n->damping;

    esp_progress("compensate", n->done, n->total);
    if (run->grid->rank != 0) {
        return;
    }
    if (isfinite(d->value)) {
        esp_info(
            "compensate: layer %zu, %s: error on held-out tokens %.4f, then %.4f; damping %.3g",
            n->layer, n->projection, d->before, d->after, d->value);
    } else {
        esp_info("compensate: layer %zu, %s: error on held-out tokens %.4f: nothing betters it",
                 n->layer, n->projection, d->before);
    }
    esp_run_dir_event(&run->dir, "compensated", "prune",
                      json_pack("{s:I, s:s, s:o, s:o, s:o}", "layer", (json_int_t)n->layer,
                                "projection", n->projection, "damping", esp_json_real(d->value),
                                "before", esp_json_real(d->before), "after",
                                esp_json_real(d->after)));
}

static esp_status make_folder(const esp_run *run, const char *path)
{
    static const char *const names[] = { ESP_COMPENSATE_NAMES };

    return esp_agree(run->grid->world,
                     run->grid->rank == 0 ? esp_folder_make(path, names, 1) : ESP_OK);
}

static esp_status compensate(esp_compensated *done, esp_remnant *remnant, const char *folder,
                             esp_run *run)
{
    const esp_compensate_calls calls = { run, report, esp_run_is_stopped };
    esp_compensate_options o = run->config->compensate;
    char *path = esp_run_path(run, folder);
    esp_status st = make_folder(run, path);

    o.chunk_tok = run->chunk_tok[ESP_STAGE_PRUNE];
    if (st == ESP_OK) {
        st = esp_compensate(done, remnant, &run->compensation, &o, path, &calls, run->grid);
    }
    free(path);
    return st;
}

/* ---- the whole --------------------------------------------------------------------------------- */

static esp_status write_pruned(esp_run *run, const esp_groups *g, const esp_plan *p)
{
    char *dir = esp_run_path(run, "pruned");
    bool fits = run->config->prune_compensate != ESP_COMPENSATE_NONE;
    const char *folder = folder_of(run);
    esp_compensated done = { 0 };
    esp_remnant remnant;
    esp_status st;

    esp_remnant_init(&remnant, &run->model, g, p);
    st = fits ? compensate(&done, &remnant, folder, run) : ESP_OK;
    if (st == ESP_OK) {
        st = esp_remnant_save(run->made, esp_export_to(dir, "huggingface"), &remnant,
                              run->grid->world);
    }
    esp_remnant_free(&remnant);
    esp_compensated_free(&done);
    free(dir);
    if (st == ESP_OK && fits) {
        st = run->grid->rank == 0 ? esp_run_dir_remove(&run->dir, folder) : ESP_OK;
        st = esp_agree(run->grid->world, st);
    }
    return st;
}

esp_status esp_stage_prune(esp_run *run)
{
    esp_plan plan = { 0 };
    esp_groups groups;
    esp_status st;

    esp_groups_find(&groups, &run->model);
    st = esp_run_load_plan(&plan, run, "plan.json");
    if (st == ESP_OK) {
        st = write_pruned(run, &groups, &plan);
    }
    esp_plan_free(&plan);
    esp_groups_free(&groups);
    return st;
}
