/* inputs.c - everything that the stages asked for read from outside, checked before they begin. */
#include "inputs_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/corpus.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/recover.h"
#include "espalier/settings.h"

/* A plan by criterion random needs shapes; everything else needs weights. */
static bool needs_weights(const esp_run *run, unsigned stages)
{
    return stages != 1u << ESP_STAGE_PLAN || esp_settings_rank(run->config) ||
           esp_settings_reconstruct(run->config);
}

esp_status esp_run_load_model(esp_model *m, const esp_run *run, const char *dir)
{
    const esp_config *c = run->config;
    esp_status st;

    ESP_TRY(esp_model_load(m, dir, run->grid->world));
    m->precision = c->precision;
    st = esp_agree(run->grid->world, esp_model_use_ratio(m, c->rope_ratio));
    if (st != ESP_OK) {
        esp_model_free(m);
    }
    return st;
}

/* Every rank asks on its own node. */
static esp_status check_scratch(const esp_config *c)
{
    const char *dir = c->parallel.scratch;

    if (*dir && access(dir, W_OK | X_OK) != 0) {
        return esp_fail(ESP_EUSAGE, "parallel.scratch: %s: %s; it needs to be a folder to write in",
                        dir, strerror(errno));
    }
    return ESP_OK;
}

esp_status esp_run_digest_model(char hex[ESP_DIGEST_SIZE], const esp_model *m, const esp_run *run,
                                unsigned stages)
{
    bool cuts = stages & (1u << ESP_STAGE_PLAN | 1u << ESP_STAGE_PRUNE);
    size_t begin, end;

    esp_share(&begin, &end, m->dims.n_layers, cuts ? 0 : run->grid->i_pipeline,
              cuts ? 1 : run->grid->n_pipeline);
    return esp_model_digest(hex, m, begin, end, run->grid->world);
}

esp_status esp_run_check_unchanged(const esp_run *run, const esp_model *m)
{
    esp_status st = ESP_OK;

    for (size_t f = 0; f < m->n_files && st == ESP_OK; f++) {
        st = esp_map_check(&m->files[f].map);
    }
    return esp_agree(run->grid->world, st);
}

/* The dense model is there already. */
static esp_status open_teacher(esp_run *run)
{
    const esp_config *c = run->config;
    const char *dir = esp_settings_teacher(c);

    if (esp_same_path(dir, c->model)) {
        run->teacher = &run->model;
        memcpy(run->teacher_digest, run->digest, sizeof run->digest);
        return ESP_OK;
    }
    ESP_TRY(esp_run_load_model(&run->other, run, dir));
    run->teacher = &run->other;
    return esp_run_digest_model(run->teacher_digest, &run->other, run, 1u << ESP_STAGE_RECOVER);
}

esp_status esp_run_open_model(esp_run *run, unsigned stages)
{
    const char *dir = run->config->model;
    MPI_Comm world = run->grid->world;

    ESP_TRY(esp_agree(world, check_scratch(run->config)));
    if (needs_weights(run, stages)) {
        ESP_TRY(esp_run_load_model(&run->model, run, dir));
        ESP_TRY(esp_run_digest_model(run->digest, &run->model, run, stages));
    } else {
        ESP_TRY(esp_agree(world, esp_model_shape(&run->model, dir)));
    }
    esp_json_digest(run->shape, run->model.config);
    if (stages >> ESP_STAGE_RECOVER & 1 && esp_settings_teacher(run->config)) {
        return open_teacher(run);
    }
    return ESP_OK;
}

/* ---- samples ---------------------------------------------------------------------------------- */

/* Token files need no tokenizer; where the model has one, it must be that which made them. */
static esp_status open_tokenizer(esp_tokenizer **t, const char *model, const char *corpus)
{
    size_t n = strlen(corpus);
    bool ids = n > 3 && strcmp(corpus + n - 3, ".h5") == 0;
    esp_status st = *t ? ESP_OK : esp_tokenizer_open(t, model);

    if (st != ESP_OK && ids) {
        esp_error_clear();
        *t = NULL;
        return ESP_OK;
    }
    return st;
}

static esp_status read_corpus(esp_samples *s, const esp_run *run, esp_tokenizer **t,
                              const char *corpus, const char *field, esp_sampling how)
{
    const esp_dims *d = &run->model.dims;

    ESP_TRY(open_tokenizer(t, run->config->model, corpus));
    return esp_samples_load(s, corpus, *field ? field : NULL, *t, how, d->max_positions, d->vocab);
}

/* What each text of a mix has given, in the log. */
static void tell_mix(const esp_text_source *t, const size_t *taken)
{
    char *counts = esp_strdup("");

    for (size_t i = 0; i < t->corpora->n; i++) {
        double weight;
        char *name, *more;

        esp_settings_mixed(&name, &weight, &t->corpora->item[i]);
        more = esp_format("%s%s%zu of %s", counts, i ? ", " : "", taken[i], name);
        free(counts);
        free(name);
        counts = more;
    }
    esp_info("%s: samples: %s", t->corpora_setting, counts);
    free(counts);
}

/* Of each text of a mix its samples, as many as its weight asks for where their number is given. */
static esp_status read_parts(esp_samples *part, double *weight, size_t *taken, const esp_run *run,
                             esp_tokenizer **t, const esp_text_source *text, esp_sampling how)
{
    size_t n = text->corpora->n, count = how.count;

    for (size_t i = 0; i < n; i++) {
        char *name;

        esp_settings_mixed(&name, &weight[i], &text->corpora->item[i]);
        free(name);
    }
    esp_mix_counts(taken, weight, n, count);
    for (size_t i = 0; i < n; i++) {
        how.count = taken[i];
        if (count == 0 || taken[i] > 0) {
            ESP_TRY(read_corpus(&part[i], run, t, text->corpora->item[i].path, text->field, how));
        }
    }
    return ESP_OK;
}

static esp_status read_mix(esp_samples *s, esp_run *run, esp_tokenizer **t,
                           const esp_text_source *text, esp_stage stage, esp_sampling how)
{
    size_t n = text->corpora->n, *taken;
    esp_samples *part;
    double *weight;
    esp_status st;

    ESP_NEW(part, n);
    ESP_NEW(weight, n);
    ESP_NEW(taken, n);
    run->mixed[stage] = taken;
    st = read_parts(part, weight, taken, run, t, text, how);
    if (st == ESP_OK) {
        esp_samples_mix(s, taken, part, weight, n, how.count, how.seed);
        tell_mix(text, taken);
    }
    for (size_t i = 0; i < n; i++) {
        esp_samples_free(&part[i]);
    }
    free(part);
    free(weight);
    return st;
}

/* The samples of a stage, from the text or texts that are for it. */
static esp_status read_text(esp_samples *s, esp_run *run, esp_tokenizer **t, esp_stage stage,
                            esp_sampling how)
{
    esp_text_source text = esp_settings_text(run->config, stage);

    return text.corpora->n > 0 ? read_mix(s, run, t, &text, stage, how)
                               : read_corpus(s, run, t, text.corpus, text.field, how);
}

static esp_status read_calibration(esp_run *run, esp_tokenizer **t)
{
    const esp_config *c = run->config;
    const esp_dims *d = &run->model.dims;
    esp_sampling how = {
        .cut = ESP_CUT_RANDOM,
        .length = c->calibration.sequence,
        .count = c->calibration.samples,
        .seed = c->seed,
    };

    if (*c->calibration.tokens) {
        return esp_samples_read_ids(&run->calibration, c->calibration.tokens, d->max_positions,
                                    d->vocab);
    }
    if (!*c->calibration.corpus && c->calibration.corpora.n == 0) {
        return esp_fail(ESP_EUSAGE,
                        "calibration: none of calibration.corpus, calibration.corpora and "
                        "calibration.tokens is set, and the criteria need samples");
    }
    return read_text(&run->calibration, run, t, ESP_STAGE_SCORE, how);
}

static esp_status read_compensation(esp_run *run, esp_tokenizer **t)
{
    const esp_config *c = run->config;
    esp_sampling how = {
        .cut = ESP_CUT_RANDOM,
        .length = c->compensate_sequence,
        .count = c->compensate_samples,
        .seed = c->seed,
    };

    return read_text(&run->compensation, run, t, ESP_STAGE_PRUNE, how);
}

static esp_status read_training(esp_run *run, esp_tokenizer **t)
{
    const esp_config *c = run->config;
    esp_sampling how = {
        .cut = c->recover_cut ? ESP_CUT_WINDOWS : ESP_CUT_DOCUMENTS,
        .length = c->recover_cutoff,
        .seed = c->seed,
        .answer_only = c->recover_answer_only,
    };

    if (c->recover_corpora.n == 0) {
        ESP_TRY(esp_config_need(c, "recover.corpus"));
    }
    return read_text(&run->training, run, t, ESP_STAGE_RECOVER, how);
}

static esp_status read_task(esp_questions *q, const esp_run *run, esp_tokenizer **t,
                            const esp_named_file *entry)
{
    const esp_config *c = run->config;
    const esp_dims *d = &run->model.dims;
    char *name;
    const esp_question_kind *kind = esp_settings_task(&name, entry);
    esp_asking how = { .path = entry->path,
                       .examples = esp_settings_examples(c, name),
                       .shots = c->eval.shots,
                       .limit = c->eval.limit };
    esp_status st = open_tokenizer(t, c->model, entry->path);

    st =
        st == ESP_OK ? esp_questions_load(q, name, kind, &how, *t, d->max_positions, d->vocab) : st;
    free(name);
    return st;
}

static esp_status read_tasks(esp_run *run, esp_tokenizer **t)
{
    const esp_named_files *tasks = &run->config->eval.tasks;
    esp_eval_texts *e = &run->evaluation;

    ESP_NEW(e->task, tasks->n);
    for (; e->n_tasks < tasks->n; e->n_tasks++) {
        ESP_TRY(read_task(&e->task[e->n_tasks], run, t, &tasks->item[e->n_tasks]));
    }
    return ESP_OK;
}

static esp_status read_windows(esp_samples *s, const esp_run *run, esp_tokenizer **t,
                               const char *path, size_t window)
{
    const esp_config *c = run->config;
    esp_sampling how = {
        .cut = ESP_CUT_WINDOWS,
        .length = window,
        .count = c->eval.samples,
        .stride = c->eval.stride,
    };

    return read_corpus(s, run, t, path, c->eval.field, how);
}

static esp_status read_corpora(esp_run *run, esp_tokenizer **t)
{
    const esp_named_files *corpora = &run->config->eval.corpora;
    esp_eval_texts *e = &run->evaluation;

    ESP_NEW(e->corpus, corpora->n);
    for (size_t i = 0; i < corpora->n; i++) {
        size_t window;

        esp_settings_corpus(&e->corpus[i].name, &window, run->config, &corpora->item[i]);
        e->n_corpora++;
        ESP_TRY(read_windows(&e->corpus[i].samples, run, t, corpora->item[i].path, window));
    }
    return ESP_OK;
}

static esp_status read_evaluation(esp_run *run, esp_tokenizer **t)
{
    const esp_config *c = run->config;

    if (!(esp_settings_stages(c) & 1u << ESP_STAGE_EVAL)) {
        return esp_fail(ESP_EUSAGE,
                        "eval: none of eval.corpus, eval.corpora and eval.tasks is set: give a "
                        "text, or questions");
    }
    if (*c->eval.corpus) {
        ESP_TRY(read_windows(&run->evaluation.samples, run, t, c->eval.corpus, c->eval.window));
    }
    ESP_TRY(read_corpora(run, t));
    return read_tasks(run, t);
}

esp_status esp_run_check_precision(const esp_run *run, unsigned stages)
{
    const esp_config *c = run->config;
    bool multiplies = esp_settings_need_calibration(c, stages) ||
                      esp_settings_compensate(c, stages) ||
                      stages & (1u << ESP_STAGE_RECOVER | 1u << ESP_STAGE_EVAL);

    return esp_agree(run->grid->world, multiplies ? esp_precision_check(c->precision) : ESP_OK);
}

static esp_status read_samples(esp_run *run, esp_tokenizer **t, unsigned stages)
{
    if (esp_settings_need_calibration(run->config, stages)) {
        ESP_TRY(read_calibration(run, t));
    }
    if (esp_settings_compensate(run->config, stages)) {
        ESP_TRY(read_compensation(run, t));
    }
    if (stages & 1u << ESP_STAGE_RECOVER) {
        ESP_TRY(read_training(run, t));
        ESP_TRY(esp_settings_targets(&run->targets, run->config, run->model.arch));
    }
    if (stages & 1u << ESP_STAGE_EVAL) {
        ESP_TRY(read_evaluation(run, t));
    }
    return ESP_OK;
}

/* Ranks read texts and tokenizer each for itself. */
static esp_status agree_texts(const uint64_t words[ESP_DIGEST_WORDS], const char *name,
                              const esp_run *run)
{
    char *what = esp_format("%s: what is read of its text, or the tokenizer of the model,", name);
    esp_status st = esp_agree_same(words, what, run->grid->world);

    free(what);
    return st;
}

static esp_status agree_samples(const esp_samples *s, const char *name, const esp_run *run)
{
    uint64_t words[ESP_DIGEST_WORDS];

    esp_samples_digest(words, s);
    return agree_texts(words, name, run);
}

esp_status esp_run_read_samples(esp_run *run, unsigned stages)
{
    uint64_t words[ESP_DIGEST_WORDS];
    esp_tokenizer *t = NULL;
    esp_status st;

    st = read_samples(run, &t, stages);
    esp_tokenizer_free(t);
    ESP_TRY(esp_agree(run->grid->world, st));
    ESP_TRY(agree_samples(&run->calibration, "calibration", run));
    ESP_TRY(agree_samples(&run->compensation, "compensate", run));
    ESP_TRY(agree_samples(&run->training, "recover.corpus", run));
    esp_eval_texts_digest(words, &run->evaluation);
    return agree_texts(words, "eval", run);
}

void esp_run_free_inputs(esp_run *run)
{
    esp_samples_free(&run->calibration);
    esp_samples_free(&run->compensation);
    esp_samples_free(&run->training);
    esp_eval_texts_free(&run->evaluation);
    for (size_t s = 0; s < ESP_N_STAGES; s++) {
        free(run->mixed[s]);
    }
    esp_model_free(&run->model);
    esp_model_free(&run->other);
}
