/* check_early.c - what settings, config.json and the sizes of texts tell, before anything is written. */
#include "check_early_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/clients.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/log.h"
#include "espalier/settings.h"
#include "espalier/tokenizer.h"
#include "stage_info_impl.h"

/* ---- shapes ----------------------------------------------------------------------------------------- */

static esp_status check_plan(const esp_config *c, const esp_model *m)
{
    esp_groups g;
    esp_status st;

    esp_groups_find(&g, m);
    st = esp_plan_check_early(m, &g, &c->prune);
    st = st == ESP_OK ? esp_clients_check_early(m, &g, &c->prune, c->prune_clients) : st;
    esp_groups_free(&g);
    return st;
}

static esp_status check_length(const char *setting, size_t n, const esp_model *m)
{
    return n <= m->dims.max_positions
               ? ESP_OK
               : esp_fail(ESP_EUSAGE, "%s = %zu: the model has %zu positions: set that or less",
                          setting, n, m->dims.max_positions);
}

static esp_status check_compensation(const esp_config *c, const esp_model *m)
{
    size_t samples = c->compensate_samples, length = c->compensate_sequence;

    ESP_TRY(check_length("compensate.sequence", length, m));
    return esp_compensate_check(m, &c->compensate, c->prune.mode == ESP_PRUNE_CHANNEL,
                                (esp_text_size){ samples, samples * length, length });
}

/* Both make the same ids of a text; folders without a tokenizer have token files read as they are. */
static esp_status check_tokenizers(const char *model, const char *teacher)
{
    esp_tokenizer *own = NULL, *other = NULL;
    bool both =
        esp_tokenizer_open(&own, model) == ESP_OK && esp_tokenizer_open(&other, teacher) == ESP_OK;
    bool same = !both || strcmp(esp_tokenizer_digest(own), esp_tokenizer_digest(other)) == 0;

    esp_error_clear();
    esp_tokenizer_free(own);
    esp_tokenizer_free(other);
    return same ? ESP_OK
                : esp_fail(ESP_EUSAGE,
                           "recover.teacher: %s has another tokenizer than the model %s: a teacher "
                           "needs the same one",
                           teacher, model);
}

static esp_status check_teacher_shape(const esp_config *c, const esp_model *teacher,
                                      const esp_model *m)
{
    const char *dir = c->recover_teacher;

    if (teacher->dims.vocab != m->dims.vocab) {
        return esp_fail(ESP_EUSAGE,
                        "recover.teacher: %s has %zu tokens in its vocabulary, the model %s has "
                        "%zu: a teacher needs the same ones",
                        dir, teacher->dims.vocab, c->model, m->dims.vocab);
    }
    if (c->recover_cutoff > teacher->dims.max_positions) {
        return esp_fail(ESP_EUSAGE,
                        "recover.cutoff = %zu: recover.teacher %s has %zu positions: set that or "
                        "less",
                        c->recover_cutoff, dir, teacher->dims.max_positions);
    }
    if (c->parallel.pipeline > teacher->dims.n_layers) {
        return esp_fail(ESP_EUSAGE, "parallel.pipeline = %zu: recover.teacher %s has %zu layers",
                        c->parallel.pipeline, dir, teacher->dims.n_layers);
    }
    return ESP_OK;
}

static esp_status check_teacher(const esp_config *c, const esp_model *m)
{
    const char *dir = esp_settings_teacher(c);
    esp_model teacher;
    esp_status st;

    if (!dir || (*c->model && esp_same_path(dir, c->model))) {
        return ESP_OK;
    }
    st = esp_model_shape(&teacher, dir);
    if (st != ESP_OK) {
        return esp_fail_in(st, "recover.teacher");
    }
    st = check_teacher_shape(c, &teacher, m);
    esp_model_free(&teacher);
    return st == ESP_OK && *c->model ? check_tokenizers(c->model, dir) : st;
}

static esp_status check_recovery(const esp_config *c, const esp_model *m)
{
    uint64_t targets;

    ESP_TRY(check_length("recover.cutoff", c->recover_cutoff, m));
    ESP_TRY(check_teacher(c, m));
    return esp_settings_targets(&targets, c, m->arch);
}

static esp_status check_evaluation(const esp_config *c, const esp_model *m)
{
    if (*c->eval.corpus) {
        ESP_TRY(check_length("eval.window", c->eval.window, m));
    }
    for (size_t i = 0; i < c->eval.corpora.n; i++) {
        char *name;
        size_t window;

        esp_settings_corpus(&name, &window, c, &c->eval.corpora.item[i]);
        free(name);
        ESP_TRY(check_length("eval.corpora: a window", window, m));
    }
    return ESP_OK;
}

esp_status esp_run_check_shape(const esp_config *c, const esp_model *m, unsigned stages)
{
    bool calibrates = esp_settings_need_calibration(c, stages) && !*c->calibration.tokens;

    if (c->parallel.pipeline > m->dims.n_layers) {
        return esp_fail(ESP_EUSAGE, "parallel.pipeline = %zu: the model has %zu layers",
                        c->parallel.pipeline, m->dims.n_layers);
    }
    if (stages & (1u << ESP_STAGE_SCORE | 1u << ESP_STAGE_PLAN)) {
        ESP_TRY(esp_plan_check_layers(m, &c->prune));
    }
    if (stages >> ESP_STAGE_PLAN & 1) {
        ESP_TRY(check_plan(c, m));
    }
    if (calibrates) {
        ESP_TRY(check_length("calibration.sequence", c->calibration.sequence, m));
    }
    if (esp_settings_compensate(c, stages)) {
        ESP_TRY(check_compensation(c, m));
    }
    if (stages >> ESP_STAGE_RECOVER & 1) {
        ESP_TRY(check_recovery(c, m));
    }
    return stages >> ESP_STAGE_EVAL & 1 ? check_evaluation(c, m) : ESP_OK;
}

/* ---- files ------------------------------------------------------------------------------------------ */

/* Files that the settings of a stage name can be opened. */
static esp_status check_files(const esp_run *run, esp_stage s)
{
    for (size_t i = 0; i < ESP_MAX_FILES && run->stages[s].files[i]; i++) {
        esp_named_files files;
        esp_status st = ESP_OK;

        esp_option_files(&files, run->config, esp_option_find(run->stages[s].files[i]));
        for (size_t k = 0; k < files.n && st == ESP_OK; k++) {
            st = esp_file_check(files.item[k].path);
            if (st != ESP_OK) {
                esp_fail_in(st, "%s", files.item[k].name);
            }
        }
        esp_named_files_free(&files);
        ESP_TRY(st);
    }
    return ESP_OK;
}

static esp_status check_compensation_text(const esp_run *run)
{
    const esp_config *c = run->config;
    esp_text_source text = esp_settings_text(c, ESP_STAGE_PRUNE);
    bool chooses = esp_settings_reconstruct(c);

    if (!esp_settings_has_text(&text)) {
        return esp_fail(ESP_EUSAGE,
                        "%s = %s: neither compensate.corpus nor calibration.corpus, "
                        "nor corpora of either, is set, and it needs text",
                        chooses ? "prune.select" : "prune.compensate",
                        chooses ? esp_select_by_name(c->prune.select)
                                : esp_compensation_name(c->prune_compensate));
    }
    return check_files(run, ESP_STAGE_PRUNE);
}

static esp_status check_texts(const esp_run *run, unsigned stages)
{
    if (esp_settings_need_calibration(run->config, stages)) {
        ESP_TRY(check_files(run, ESP_STAGE_SCORE));
    }
    if (esp_settings_compensate(run->config, stages)) {
        ESP_TRY(check_compensation_text(run));
    }
    if (stages >> ESP_STAGE_RECOVER & 1) {
        ESP_TRY(check_files(run, ESP_STAGE_RECOVER));
    }
    return stages >> ESP_STAGE_EVAL & 1 ? check_files(run, ESP_STAGE_EVAL) : ESP_OK;
}

/* ---- the whole -------------------------------------------------------------------------------------- */

/* The folder of a run is in no other that the program made, which would not be its own from then on; the
 * model's is told of elsewhere. */
static esp_status check_place(const esp_config *c)
{
    esp_status st = esp_dir_check(c->run_dir);
    char *at = esp_path_real(c->run_dir), *model = esp_path_real(c->model), *slash;

    for (; st == ESP_OK && (slash = strrchr(at, '/')); *slash = '\0') {
        char *marker = esp_path(at, ESP_MARKER);

        if (esp_file_exists(marker) && strcmp(at, model) != 0) {
            st = esp_fail(ESP_EUSAGE,
                          "%s: is in %s, a result that espalier made: use another run_dir",
                          c->run_dir, at);
        }
        free(marker);
    }
    free(at);
    free(model);
    return st;
}

esp_status esp_run_check_early(const esp_run *run, unsigned stages)
{
    esp_model m;
    esp_status st = check_place(run->config);

    if (st != ESP_OK) {
        return esp_fail_in(st, "run_dir");
    }
    ESP_TRY(esp_model_shape(&m, run->config->model));
    st = check_texts(run, stages);
    st = st == ESP_OK ? esp_run_check_shape(run->config, &m, stages) : st;
    esp_model_free(&m);
    return st;
}

/* ---- once the texts are read ------------------------------------------------------------------------ */

static esp_status check_training(const esp_run *run)
{
    const esp_recover_options *o = &run->config->recover;
    size_t steps;

    ESP_TRY(esp_recover_check_early(&steps, &run->training, o));
    if (o->warmup >= 1 && o->warmup >= (double)steps) {
        esp_warn("recover.warmup = %g is as long as the training of %zu steps, or longer: the rate "
                 "rises to "
                 "its end; below 1 it is a fraction of all steps",
                 o->warmup, steps);
    }
    return ESP_OK;
}

esp_status esp_run_check_samples(const esp_run *run, unsigned stages)
{
    const esp_config *c = run->config;
    size_t longest = esp_samples_longest(&run->evaluation.samples);

    if (stages >> ESP_STAGE_EVAL & 1 && *c->eval.corpus && longest < c->eval.window) {
        esp_warn("eval.window = %zu: %s has %zu tokens, all in one window", c->eval.window,
                 c->eval.corpus, longest);
    }
    return stages >> ESP_STAGE_RECOVER & 1 ? check_training(run) : ESP_OK;
}
