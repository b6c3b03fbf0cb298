/* stages.c - which stages are to be done, and what is recorded about them. */
#include "stages_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/clock.h"
#include "espalier/estimate.h"
#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/reshape.h"
#include "espalier/settings.h"
#include "espalier/traffic.h"
#include "check_early_impl.h"
#include "inputs_impl.h"
#include "records_impl.h"
#include "results_impl.h"
#include "stage_info_impl.h"

static bool digest_of(uint64_t words[ESP_DIGEST_WORDS], const esp_samples *s)
{
    esp_samples_digest(words, s);
    return s->n > 0;
}

static bool calibration(uint64_t words[ESP_DIGEST_WORDS], const esp_run *run)
{
    return digest_of(words, &run->calibration);
}

/* Of a plan that estimates the importance again between its steps, or that walks as a compensation does. */
static bool planning(uint64_t words[ESP_DIGEST_WORDS], const esp_run *run)
{
    return esp_settings_reconstruct(run->config)
               ? digest_of(words, &run->compensation)
               : run->config->prune_steps > 1 && digest_of(words, &run->calibration);
}

static bool compensation(uint64_t words[ESP_DIGEST_WORDS], const esp_run *run)
{
    return digest_of(words, &run->compensation);
}

static bool training(uint64_t words[ESP_DIGEST_WORDS], const esp_run *run)
{
    return digest_of(words, &run->training);
}

static bool evaluation(uint64_t words[ESP_DIGEST_WORDS], const esp_run *run)
{
    esp_eval_texts_digest(words, &run->evaluation);
    return true;
}

static const esp_stage_info stages[ESP_N_STAGES] = {
    [ESP_STAGE_SCORE] = { .work = esp_stage_score,
                          .check = esp_stage_score_check,
                          .outputs = { "importance.h5" },
                          .files = { "calibration.corpus", "calibration.corpora",
                                     "calibration.tokens" },
                          .texts = calibration,
                          .reads = ESP_READS_MODEL },
    [ESP_STAGE_PLAN] = { .work = esp_stage_plan,
                         .outputs = { "plan.json", "steps" },
                         .partial = "steps",
                         .texts = planning,
                         .reads = ESP_READS_SCORED },
    [ESP_STAGE_PRUNE] = { .work = esp_stage_prune,
                          .outputs = { "pruned", "compensate" },
                          .partial = "compensate",
                          .model = "pruned",
                          .files = { "compensate.corpus", "compensate.corpora" },
                          .texts = compensation,
                          .reads = ESP_READS_MODEL | ESP_READS_PLAN },
    [ESP_STAGE_RECOVER] = { .work = esp_stage_recover,
                            .outputs = { "recovered", "adapter", "recover" },
                            .partial = "recover",
                            .model = "recovered",
                            .files = { "recover.corpus", "recover.corpora" },
                            .texts = training,
                            .reads = ESP_READS_MODEL | ESP_READS_PRUNED | ESP_READS_TEACHER },
    [ESP_STAGE_EVAL] = { .work = esp_stage_eval,
                         .outputs = { "eval.json", "eval_questions.jsonl" },
                         .files = { "eval.corpus", "eval.corpora", "eval.tasks", "eval.examples" },
                         .texts = evaluation,
                         .reads = ESP_READS_MODEL | ESP_READS_PRUNED | ESP_READS_RECOVERED,
                         .follows = true },
};

/* ---- doing ------------------------------------------------------------------------------------ */

/* Whether there is something of the stage that other settings would spoil. */
static bool worth_keeping(const esp_run *run, esp_stage s, const json_t *then)
{
    const char *partial = run->stages[s].partial;

    return json_object_get(then, "finished") ||
           (then && partial && esp_run_dir_has(&run->dir, partial));
}

/* Marks the record of a stage as one of results that are being removed. */
static esp_status mark(esp_run *run, const char *stage)
{
    json_t *record = esp_run_dir_record(&run->dir, stage);

    return record ? esp_run_dir_set_record(&run->dir, stage, json_pack("{s:b}", "forgotten", 1))
                  : ESP_OK;
}

/* Forgets a stage and all later ones. Nothing goes where something else stands among their results. Records
 * say whose results are, so they go last; who is interrupted goes on at the next call. */
static esp_status forget_from(esp_run *run, esp_stage first)
{
    for (esp_stage s = first; s < ESP_N_STAGES; s++) {
        ESP_TRY(esp_results_check_places(run, s, true));
    }
    for (esp_stage s = first; s < ESP_N_STAGES; s++) {
        ESP_TRY(mark(run, esp_stage_name(s)));
    }
    for (esp_stage s = first; s < ESP_N_STAGES; s++) {
        for (size_t i = 0; i < ESP_MAX_OUTPUTS && run->stages[s].outputs[i]; i++) {
            ESP_TRY(esp_run_dir_remove(&run->dir, run->stages[s].outputs[i]));
        }
        if (esp_run_dir_record(&run->dir, esp_stage_name(s))) {
            ESP_TRY(esp_run_dir_set_record(&run->dir, esp_stage_name(s), NULL));
        }
    }
    return ESP_OK;
}

static esp_status finish_forgetting(esp_run *run)
{
    for (esp_stage s = 0; s < ESP_N_STAGES; s++) {
        if (json_object_get(esp_run_dir_record(&run->dir, esp_stage_name(s)), "forgotten")) {
            return forget_from(run, s);
        }
    }
    return ESP_OK;
}

/* Settings of what is recorded, up to the last stage asked for, before anything is done. */
static esp_status check_settings(const esp_run *run, unsigned wanted)
{
    for (esp_stage s = 0; s < ESP_N_STAGES && wanted >> s; s++) {
        json_t *then = esp_run_dir_record(&run->dir, esp_stage_name(s));
        json_t *now = json_pack("{s:o}", "settings", esp_record_settings(run, s));
        esp_status st = ESP_OK;

        if (worth_keeping(run, s, then) && !(run->force && wanted >> s & 1)) {
            st = esp_record_compare(run, s, "settings", now, then);
        }
        json_decref(now);
        ESP_TRY(st);
    }
    return ESP_OK;
}

/* Whether a stage is done already; what was done differently is refused, or forgotten when that is
 * wanted. */
static esp_status decide(bool *done, esp_run *run, esp_stage s, json_t *now)
{
    json_t *then = esp_run_dir_record(&run->dir, esp_stage_name(s));
    esp_status inputs, settings;

    *done = false;
    if (!worth_keeping(run, s, then)) {
        return ESP_OK;
    }
    inputs = esp_record_compare(run, s, "inputs", now, then);
    settings = esp_record_compare(run, s, "settings", now, then); /* its message goes first */
    if (settings == ESP_OK && inputs == ESP_OK) {
        *done = json_object_get(then, "finished") && esp_results_are_there(run, s);
        return ESP_OK;
    }
    if (run->force) {
        esp_error_clear();
        return forget_from(run, s);
    }
    if (settings == ESP_OK && run->stages[s].follows) {
        esp_error_clear();
        ESP_TRY(esp_results_verify_files(run, s));
        return forget_from(run, s);
    }
    return settings != ESP_OK ? settings : inputs;
}

/* Whether it is done, as decide and what it left say; damaged results are forgotten when that is wanted.
 * Collective. */
static esp_status is_done(bool *done, esp_run *run, esp_stage s, json_t *now)
{
    MPI_Comm world = run->grid->world;
    bool first = run->grid->rank == 0;
    esp_status st;

    *done = false;
    ESP_TRY(esp_agree(world, first ? decide(done, run, s, now) : ESP_OK));
    ESP_MPI(MPI_Bcast(done, 1, MPI_C_BOOL, 0, world));
    if (!*done) {
        return ESP_OK;
    }
    st = esp_results_verify(run, s);
    if (st != ESP_OK && run->force) {
        *done = false;
        st = esp_agree(world, first ? forget_from(run, s) : ESP_OK);
    }
    return st;
}

/* For who judges the model later by the same text. */
static esp_status add_texts(json_t *record, const esp_run *run, esp_stage s)
{
    json_t *digests;
    esp_status st = esp_record_texts(&digests, run, s);

    json_object_set_new(record, "texts", digests);
    return st;
}

/* Rank 0: records that the stage has begun. */
static esp_status begin(esp_run *run, esp_stage s, json_t *record)
{
    ESP_TRY(esp_results_check_places(run, s, false));
    ESP_TRY(esp_run_dir_make(&run->dir, run->config));
    esp_json_digest(run->settings, record);
    json_object_set_new(record, "recipes", esp_record_recipes(run, record)); /* whoever gave them */
    ESP_TRY(add_texts(record, run, s));
    esp_run_dir_event(&run->dir, "start", esp_stage_name(s), NULL);
    return esp_run_dir_set_record(&run->dir, esp_stage_name(s), json_incref(record));
}

/* Whether this rank sees the run directory, too. */
static esp_status check_shared(const esp_run *run)
{
    char *path = esp_run_path(run, "manifest.json");
    esp_status st = ESP_OK;

    if (!esp_file_exists(path)) {
        st = esp_fail(
            ESP_EUSAGE,
            "run_dir: %s is not there as rank 0 has made it: give a path that leads all ranks to "
            "the same folder",
            run->config->run_dir);
    }
    free(path);
    return st;
}

/* Whether the stage is done; else what it reads has been checked, and its beginning is recorded.
 * Collective. */
static esp_status prepare(bool *done, esp_run *run, esp_stage s)
{
    MPI_Comm world = run->grid->world;
    bool first = run->grid->rank == 0;
    json_t *record = NULL;
    esp_status st = esp_agree(world, first ? esp_record_check_chain(run, s) : ESP_OK);

    if (st == ESP_OK) {
        st = esp_agree(world, first ? esp_record_make(&record, run, s) : ESP_OK);
    }
    if (st == ESP_OK) {
        st = esp_results_verify_read(run, s);
    }
    if (st == ESP_OK) {
        st = is_done(done, run, s, record);
    }
    if (st == ESP_OK && !*done && run->stages[s].check) {
        st = esp_agree(world, first ? run->stages[s].check(run, record) : ESP_OK);
    }
    if (st == ESP_OK && !*done) {
        run->verified &= ~(1u << s);
        st = esp_agree(world, first ? begin(run, s, record) : ESP_OK);
        st = st == ESP_OK ? esp_agree(world, check_shared(run)) : st;
    }
    json_decref(record);
    return st;
}

/* What the ranks sent in a stage, in the log and as {kind: {"bytes", "calls"}}, all ranks together. */
static json_t *tell_traffic(const esp_traffic *t, const char *stage)
{
    json_t *sent = json_object();

    for (esp_traffic_kind k = 0; k < ESP_N_SENT; k++) {
        if (t->calls[k] > 0) {
            esp_info("%s: %s: %.3f MB sent in %.0f calls", stage, esp_traffic_name(k),
                     t->bytes[k] / 1e6, t->calls[k]);
            json_object_set_new(sent, esp_traffic_name(k),
                                json_pack("{s:I, s:I}", "bytes", (json_int_t)llround(t->bytes[k]),
                                          "calls", (json_int_t)llround(t->calls[k])));
        }
    }
    return sent;
}

/* How much a stage took. */
typedef struct usage {
    double seconds;
    double anonymous; /* bytes, the rank that had the most */
    esp_traffic sent;
} usage;

static void usage_begin(usage *u)
{
    *u = (usage){ .seconds = esp_now(), .sent = esp_traffic_now() };
    esp_anonymous_restart();
}

/* Collective. */
static void usage_end(usage *u, MPI_Comm world)
{
    esp_anonymous_look();
    u->seconds = esp_now() - u->seconds;
    u->anonymous = (double)esp_anonymous_peak();
    u->sent = esp_traffic_since(&u->sent, world);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &u->anonymous, 1, MPI_DOUBLE, MPI_MAX, world));
}

/* Rank 0: records how the stage ended. */
static esp_status end(esp_run *run, esp_stage s, esp_status st, const usage *u)
{
    const char *name = esp_stage_name(s);
    double seconds = nearbyint(u->seconds * 1e3) / 1e3; /* the same when it is read back */
    double waited = u->seconds > 0 ? u->sent.waited / u->seconds / run->grid->size : 0;
    char now[ESP_TIME_SIZE];
    json_t *record = json_deep_copy(esp_run_dir_record(&run->dir, name)), *fields;

    st = st == ESP_OK ? esp_results_record(record, run, s) : st;
    if (st != ESP_OK) {
        esp_run_dir_event(&run->dir, st == ESP_ESTOPPED ? "stopped" : "failed", name, NULL);
        json_decref(record);
        return st;
    }
    esp_time_text(now);
    json_object_set_new(record, "finished", json_string(now));
    json_object_set_new(record, "duration", json_real(seconds));
    json_object_set_new(record, "anonymous", json_integer((json_int_t)u->anonymous));
    waited = nearbyint(waited * 1e4) / 1e4;
    json_object_set_new(record, "wait_share", json_real(waited));
    json_object_set_new(record, "sent", tell_traffic(&u->sent, name));
    esp_info("%s: %.3f s, %.1f MB of anonymous memory per rank", name, seconds, u->anonymous / 1e6);
    fields = json_pack("{s:f, s:I, s:f, s:O}", "duration", seconds, "anonymous",
                       (json_int_t)u->anonymous, "wait_share", waited, "sent",
                       json_object_get(record, "sent"));
    st = esp_run_dir_set_record(&run->dir, name, record);
    if (st != ESP_OK) {
        json_decref(fields);
        return st;
    }
    esp_run_dir_event(&run->dir, "end", name, fields);
    return esp_run_dir_events_whole(&run->dir);
}

static esp_status do_stage(esp_run *run, esp_stage s)
{
    MPI_Comm world = run->grid->world;
    bool first = run->grid->rank == 0, done = false;
    usage used;
    esp_status st;

    usage_begin(&used);
    ESP_TRY(esp_agree(world, esp_run_check_stop(run, esp_stage_name(s))));
    ESP_TRY(prepare(&done, run, s));
    ESP_MPI(MPI_Bcast(run->settings, sizeof run->settings, MPI_CHAR, 0, world));
    if (done) {
        esp_info("%s: done before, nothing has changed", esp_stage_name(s));
        return ESP_OK;
    }
    esp_info("%s", esp_stage_name(s));
    st = esp_agree(world, run->stages[s].work(run));
    st = st == ESP_OK ? esp_run_check_unchanged(run, &run->model) : st;
    usage_end(&used, world);
    return esp_agree(world, first ? end(run, s, st, &used) : st);
}

static bool is_finished(const esp_run *run, esp_stage s)
{
    return json_object_get(esp_run_dir_record(&run->dir, esp_stage_name(s)), "finished");
}

/* ESP_EUSAGE when a stage needs the result of one that is neither done nor asked for. */
static esp_status check_before(const esp_run *run, unsigned wanted, esp_stage s, esp_stage before)
{
    const char *output = run->stages[before].outputs[0];

    if (!(wanted >> s & 1) || wanted >> before & 1 ||
        (is_finished(run, before) && esp_run_dir_has(&run->dir, output))) {
        return ESP_OK;
    }
    return esp_fail(ESP_EUSAGE, "%s: %s needs %s, which is not there: espalier %s makes it",
                    run->dir.path, esp_stage_name(s), output, esp_stage_name(before));
}

/* Rank 0: the run directory and what is recorded in it, before any work. */
static esp_status open_dir(esp_run *run, unsigned wanted)
{
    ESP_TRY(esp_results_check_model(run));
    ESP_TRY(esp_run_dir_open(&run->dir, run->config->run_dir));
    ESP_TRY(finish_forgetting(run));
    ESP_TRY(check_settings(run, wanted));
    for (esp_stage s = 0; s < ESP_N_STAGES; s++) {
        if (wanted >> s & 1 && !is_finished(run, s)) {
            ESP_TRY(esp_results_check_places(run, s, false));
        }
    }
    if (esp_settings_rank(run->config)) {
        ESP_TRY(check_before(run, wanted, ESP_STAGE_PLAN, ESP_STAGE_SCORE));
    }
    ESP_TRY(check_before(run, wanted, ESP_STAGE_PRUNE, ESP_STAGE_PLAN));
    if (is_finished(run, ESP_STAGE_PLAN)) { /* else the model itself is trained */
        ESP_TRY(check_before(run, wanted, ESP_STAGE_RECOVER, ESP_STAGE_PRUNE));
    }
    for (esp_stage s = ESP_STAGE_PRUNE; s <= ESP_STAGE_RECOVER; s++) {
        if (is_finished(run, s)) {
            ESP_TRY(check_before(run, wanted, ESP_STAGE_EVAL, s));
        }
    }
    return ESP_OK;
}

/* Shapes of the model that is trained where this run prunes none: what is there, else the model itself. */
static esp_status set_pruned(esp_job *j, const esp_run *run, unsigned wanted)
{
    char *dir = esp_run_path(run, "pruned");
    esp_status st = ESP_OK;
    esp_model m = { 0 };

    if (!(wanted >> ESP_STAGE_PRUNE & 1)) {
        if (esp_run_dir_has(&run->dir, "pruned")) {
            st = esp_results_verify_files(run, ESP_STAGE_PRUNE);
            st = st == ESP_OK ? esp_model_shape(&m, dir) : st;
        } else {
            esp_model_reshape(&m, j->dense, &j->dense->dims);
        }
        m.precision = j->dense->precision;
        esp_model_free(&j->pruned);
        j->pruned = m;
    }
    free(dir);
    return st;
}

/* Rank 0: whether the stages asked for, of those that are wanted, fit the limit, in chunks of what size. */
static esp_status fit_memory(esp_run *run, unsigned asked, unsigned wanted)
{
    const esp_layout layout = { .nodes = 1,
                                .ranks = (size_t)run->grid->size,
                                .threads = (size_t)run->grid->n_threads,
                                .pipeline = (size_t)run->grid->n_pipeline };
    esp_job job;
    esp_status st;

    esp_job_init(&job, &run->model, run->config);
    job.limit = run->limit;
    st = set_pruned(&job, run, wanted);
    if (st != ESP_OK) {
        esp_job_free(&job);
        return st;
    }
    esp_job_set_texts(&job, &run->calibration, &run->compensation, &run->training,
                      &run->evaluation);
    st = esp_check_memory(&job, asked, &layout);
    for (esp_stage s = 0; st == ESP_OK && s < ESP_N_STAGES; s++) {
        run->chunk_tok[s] = esp_predict_chunk(&job, s, &layout);
        run->kept_layers[s] = esp_predict_kept(&job, s, &layout, NULL, run->chunk_tok[s]);
    }
    esp_job_free(&job);
    return st;
}

/* Stages whose texts have a size by the settings alone. */
static unsigned known_unread(const esp_run *run, unsigned wanted)
{
    return *run->config->calibration.tokens ? 0 : wanted & 1u << ESP_STAGE_SCORE;
}

static esp_status work(esp_run *run, unsigned wanted)
{
    MPI_Comm world = run->grid->world;
    bool first = run->grid->rank == 0;

    esp_limit_begin(&run->limit, run->config, run->grid->world);
    ESP_TRY(esp_run_check_precision(run, wanted));
    ESP_TRY(esp_agree(world, first ? esp_run_check_early(run, wanted) : ESP_OK));
    ESP_TRY(esp_agree(world, first ? open_dir(run, wanted) : ESP_OK));
    ESP_TRY(esp_run_open_model(run, wanted));
    ESP_TRY(esp_agree(world, first ? fit_memory(run, known_unread(run, wanted), wanted) : ESP_OK));
    ESP_TRY(esp_run_read_samples(run, wanted));
    ESP_TRY(esp_agree(world, first ? esp_run_check_samples(run, wanted) : ESP_OK));
    ESP_TRY(esp_agree(world, first ? fit_memory(run, wanted, wanted) : ESP_OK));
    ESP_MPI(MPI_Bcast(run->chunk_tok, sizeof run->chunk_tok, MPI_BYTE, 0, world));
    ESP_MPI(MPI_Bcast(run->kept_layers, sizeof run->kept_layers, MPI_BYTE, 0, world));
    for (int s = 0; s < ESP_N_STAGES; s++) {
        if (wanted >> s & 1) {
            ESP_TRY(do_stage(run, (esp_stage)s));
        }
    }
    if (first && wanted >> ESP_STAGE_EVAL & 1) {
        esp_run_print_table(run);
    }
    return ESP_OK;
}

esp_status esp_run_stages(const esp_config *c, unsigned wanted, bool force,
                          const volatile int *stop, const esp_grid *grid)
{
    esp_run run = { .config = c, .grid = grid, .stop = stop, .stages = stages, .force = force };
    esp_status st;

    ESP_TRY(esp_agree(grid->world, esp_config_need(c, "model")));
    ESP_TRY(esp_agree(grid->world, esp_config_need(c, "run_dir")));
    st = work(&run, wanted);
    esp_limit_hold(NULL);
    esp_run_free_inputs(&run);
    esp_run_dir_close(&run.dir);
    return st;
}
