/* stage_plan.c - which groups go, in one cut or in several with the importance estimated between them
 * (docs/method.md, eq. 20).
 *
 * Every step ranks the groups of the dense model: the scores come from the model that the step before
 * left, and groups that are gone rank below all others. So a step's plan is a plan for the dense model
 * by the goal up to there, and the last one is the plan of the run. steps/<k>.json is the plan of step
 * k; steps/model the model it leaves, while the next one is made.
 *
 * Where groups are chosen by what projections lose, steps/ has what the walk has chosen and fitted
 * (compensate.h) until prune has taken it.
 */
#include "stages_impl.h"

#include <stdlib.h>

#include "espalier/clients.h"
#include "espalier/compensate.h"
#include "espalier/exporters.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/scores_expand.h"
#include "espalier/settings.h"
#include "espalier/surgery.h"
#include "inputs_impl.h"

static double dense_cost(const esp_model *m, esp_target_kind kind)
{
    esp_cost cost = esp_model_cost(m, ESP_MACS_TOKENS);

    switch (kind) {
    case ESP_TARGET_PARAMETERS:
        return (double)cost.parameters;
    case ESP_TARGET_MACS:
        return (double)cost.macs;
    default:
        return (double)cost.bytes;
    }
}

/* The goal of step k of n: that share of what is to go has gone by then. */
static esp_plan_options step_options(const esp_plan_options *last, const esp_model *m, size_t k,
                                     size_t n)
{
    double share = (double)k / (double)n;
    esp_plan_options o = *last;

    if (k == n) {
        return o;
    }
    o.ratio *= share;
    o.attention_ratio *= share;
    if (o.target_kind != ESP_TARGET_NONE) {
        double dense = dense_cost(m, o.target_kind);
        double target = o.target <= 1 ? o.target * dense : o.target;

        o.target = dense - (dense - target) * share;
    }
    return o;
}

/* ---- steps ------------------------------------------------------------------------------------ */

/* The status, and what could not be removed where that is ESP_OK. Rank 0. */
static esp_status remove_after(const esp_run *run, const char *name, esp_status st)
{
    esp_status removed = esp_run_dir_remove(&run->dir, name);

    return st == ESP_OK ? removed : st;
}

/* Scores of the dense groups from the model that a plan leaves. Collective. */
static esp_status score_left(esp_scores *s, const esp_run *run, const esp_groups *dense,
                             const esp_plan *p)
{
    char *dir = esp_run_path(run, "steps/model");
    esp_model left = { 0 };
    esp_groups groups = { 0 };
    esp_scores scores = { 0 };
    esp_importance_options o;
    esp_status st = esp_surgery(NULL, esp_export_to(dir, "huggingface"), &run->model, dense, p,
                                run->grid->world);

    if (st == ESP_OK) {
        st = esp_run_load_model(&left, run, dir);
    }
    if (st == ESP_OK) {
        esp_groups_find(&groups, &left);
        st = esp_run_score(&scores, &o, run, &left, &groups);
        st = st == ESP_OK ? st : esp_fail_in(st, "plan: the model that the step before leaves");
    }
    if (st == ESP_OK) {
        esp_scores_expand(s, dense, &scores, p);
    }
    esp_scores_free(&scores);
    esp_groups_free(&groups);
    esp_model_free(&left);
    free(dir);
    st = esp_agree(run->grid->world, st); /* nobody has it open any more */
    return run->grid->rank == 0 ? remove_after(run, "steps/model", st) : st;
}

/* Scores of the dense model, from importance.h5; none for criterion random. Rank 0. */
static esp_status score_dense(esp_scores *s, const esp_run *run, const esp_groups *dense)
{
    char *path;
    esp_status st;

    if (!esp_settings_rank(run->config)) {
        return ESP_OK;
    }
    path = esp_run_path(run, "importance.h5");
    st = esp_scores_load(s, dense, path, run->digest);
    free(path);
    return st;
}

/* From the plan of the step before ({0}: none) to the next one, on all ranks. Collective. */
static esp_status next_plan(esp_plan *p, const esp_run *run, const esp_groups *dense,
                            const esp_plan_options *o)
{
    MPI_Comm world = run->grid->world;
    bool first = run->grid->rank == 0;
    esp_scores scores = { 0 };
    esp_status st = p->n_layers ? score_left(&scores, run, dense, p)
                                : (first ? score_dense(&scores, run, dense) : ESP_OK);

    st = esp_agree(world, st);
    esp_plan_free(p);
    if (st == ESP_OK && first) {
        st = esp_plan_make(p, &run->model, dense, scores.groups ? &scores : NULL, o);
    }
    esp_scores_free(&scores);
    ESP_TRY(esp_agree(world, st));
    return esp_plan_share(p, world);
}

/* The last plan alone, as models of the steps before it are not loaded elsewhere. Where it is refused the
 * steps are removed, which would bind the run directory to these settings. Collective. */
static esp_status check_clients(const esp_run *run, const esp_plan *p, const esp_groups *dense,
                                const esp_plan_options *o)
{
    esp_status st = ESP_OK;

    if (run->grid->rank == 0 &&
        !esp_clients_sizes_known(&run->model, o)) { /* else it was checked before */
        st = esp_clients_check(p, &run->model, dense, o, run->config->prune_clients);
        st = st == ESP_OK ? st : remove_after(run, "steps", st);
    }
    return esp_agree(run->grid->world, st);
}

/* chosen: NULL where groups were ranked. Collective. */
static esp_status save(const esp_run *run, const esp_plan *p, const esp_plan_options *o,
                       const esp_choices *chosen, const char *name)
{
    char *path = esp_run_path(run, name);
    esp_status st = run->grid->rank == 0 ? esp_plan_save(p, o, chosen, path) : ESP_OK;

    free(path);
    return esp_agree(run->grid->world, st);
}

esp_status esp_run_load_plan(esp_plan *p, const esp_run *run, const char *name)
{
    char *path = esp_run_path(run, name);
    esp_status st = run->grid->rank == 0 ? esp_plan_load(p, &run->model, path) : ESP_OK;

    free(path);
    ESP_TRY(esp_agree(run->grid->world, st));
    return esp_plan_share(p, run->grid->world);
}

/* Step k of n, read where an earlier call got that far. Collective. */
static esp_status intermediate_step(esp_plan *p, const esp_run *run, const esp_groups *dense,
                                    const esp_plan_options *o, size_t k, size_t n)
{
    esp_plan_options part = step_options(o, &run->model, k, n);
    char *name = esp_format("steps/%zu.json", k);
    esp_status st;

    if (esp_run_has(run, name)) {
        esp_plan_free(p);
        st = esp_run_load_plan(p, run, name);
    } else {
        st = next_plan(p, run, dense, &part);
        if (st == ESP_OK) {
            esp_info("plan: step %zu of %zu leaves %llu parameters", k, n,
                     (unsigned long long)p->pruned.parameters);
            st = save(run, p, &part, NULL, name);
        }
    }
    free(name);
    return st == ESP_OK ? esp_run_check_stop(run, "the next step of the plan") : st;
}

static esp_status make_folder(const esp_run *run)
{
    static const char *const names[] = { "[0-9].json", "[0-9][0-9].json", "[0-9][0-9][0-9].json",
                                         ESP_COMPENSATE_NAMES };
    char *path = esp_run_path(run, "steps");
    esp_status st =
        run->grid->rank == 0 ? esp_folder_make(path, names, sizeof names / sizeof *names) : ESP_OK;

    free(path);
    return esp_agree(run->grid->world, st);
}

static esp_status rank_groups(esp_plan *p, const esp_run *run, const esp_groups *dense,
                              const esp_plan_options *o)
{
    size_t n = o->criterion == ESP_RANDOM ? 1 : run->config->prune_steps; /* nothing to estimate */

    if (n > 1) {
        ESP_TRY(make_folder(run));
    }
    for (size_t k = 1; k < n; k++) {
        ESP_TRY(intermediate_step(p, run, dense, o, k, n));
    }
    ESP_TRY(next_plan(p, run, dense, o));
    ESP_TRY(check_clients(run, p, dense, o));
    return save(run, p, o, NULL, "plan.json");
}

/* ---- by reconstruction ------------------------------------------------------------------------ */

/* One line a projection. Called on every rank. */
static void report(void *ctx, const esp_compensate_news *n)
{
    esp_run *run = ctx;

    esp_progress("plan", n->done, n->total);
    if (run->grid->rank == 0 && n->n_gone > 0) {
        esp_info("plan: layer %zu, %s: %zu groups go", n->layer, n->projection, n->n_gone);
        esp_run_dir_event(&run->dir, "chosen", "plan",
                          json_pack("{s:I, s:s, s:I}", "layer", (json_int_t)n->layer, "projection",
                                    n->projection, "groups", (json_int_t)n->n_gone));
    }
}

/* From the number of groups that stay to which they are. Collective. */
static esp_status choose(esp_choices *chosen, esp_plan *p, esp_run *run, const esp_groups *dense)
{
    const esp_compensate_calls calls = { run, report, esp_run_is_stopped };
    esp_compensate_options o = run->config->compensate;
    char *path = esp_run_path(run, "steps");
    esp_status st = make_folder(run);

    o.chunk_tok = run->chunk_tok[ESP_STAGE_PLAN];
    o.choose_only = run->config->prune_compensate == ESP_COMPENSATE_NONE;
    if (st == ESP_OK) {
        st = esp_reconstruct(chosen, p, &run->model, dense, &run->compensation, &o, path, &calls,
                             run->grid);
    }
    free(path);
    return st;
}

/* Random groups say how many go of each unit. Collective. */
static esp_status reconstruct(esp_plan *p, esp_run *run, const esp_groups *dense,
                              const esp_plan_options *o)
{
    bool first = run->grid->rank == 0;
    esp_plan_options any = *o;
    esp_choices chosen = { 0 };
    esp_status st;

    any.criterion = ESP_RANDOM;
    any.precision = ESP_PRECISION_F32; /* no scores, no near ties */
    ESP_TRY(esp_agree(run->grid->world, esp_plan_make(p, &run->model, dense, NULL, &any)));
    st = choose(&chosen, p, run, dense);
    if (!first) {
        esp_plan_free(p);
    }
    st = st == ESP_OK ? esp_plan_share(p, run->grid->world) : st;
    st = st == ESP_OK ? check_clients(run, p, dense, o) : st;
    st = st == ESP_OK ? save(run, p, o, &chosen, "plan.json") : st;
    esp_choices_free(&chosen);
    if (st == ESP_OK && run->config->prune_compensate == ESP_COMPENSATE_NONE) {
        st = esp_agree(run->grid->world, first ? remove_after(run, "steps", ESP_OK) : ESP_OK);
    }
    return st;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static void tell(const esp_plan *p)
{
    if (p->n_near > 0) {
        esp_info("plan: %zu groups lie so near the cut that scores in f32 might choose otherwise; "
                 "see near_ties in plan.json",
                 p->n_near);
    }
    esp_info("plan: %llu of %llu parameters stay (%.2f %%), digest %s",
             (unsigned long long)p->pruned.parameters, (unsigned long long)p->dense.parameters,
             100.0 * (double)p->pruned.parameters / (double)p->dense.parameters, p->digest);
}

esp_status esp_stage_plan(esp_run *run)
{
    esp_plan_options o = run->config->prune;
    esp_plan plan = { 0 };
    esp_groups dense;
    esp_status st;

    esp_groups_find(&dense, &run->model);
    st = esp_settings_reconstruct(run->config) ? reconstruct(&plan, run, &dense, &o)
                                               : rank_groups(&plan, run, &dense, &o);
    if (st == ESP_OK) {
        tell(&plan);
    }
    esp_plan_free(&plan);
    esp_groups_free(&dense);
    return st;
}
