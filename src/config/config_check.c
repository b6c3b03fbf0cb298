/* config_check.c - settings checked against each other: what excludes what, and what has no effect. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/log.h"
#include "espalier/mpi_io.h"
#include "espalier/mem.h"
#include "espalier/recover.h"
#include "espalier/settings.h"
#include "config_impl.h"

/* ---- refused ------------------------------------------------------------------------------------------ */

static const char *place_of(const esp_config *c, const char *path)
{
    return path ? c->places[esp_option_find(path) - esp_options] : NULL;
}

/* Puts before the message where these settings (second may be NULL) were given. ESP_EUSAGE. */
static esp_status refuse_at(const esp_config *c, const char *first, const char *second)
{
    const char *a = place_of(c, first), *b = place_of(c, second);

    if (a && b && strcmp(a, b) != 0) {
        return esp_fail_in(ESP_EUSAGE, "%s, %s", a, b);
    }
    return a || b ? esp_fail_in(ESP_EUSAGE, "%s", a ? a : b) : ESP_EUSAGE;
}

/* What is scored always holds what prune ranks by. */
static void include_what_prune_needs(esp_config *c)
{
    c->importance.criteria |= 1u << c->prune.criterion;
    c->importance.aggregations |= 1u << c->prune.aggregation;
    c->importance.units |= esp_plan_units(&c->prune);
}

static const char *const target_paths[ESP_N_TARGETS] = {
    [ESP_TARGET_PARAMETERS] = "prune.target.parameters",
    [ESP_TARGET_MACS] = "prune.target.macs",
    [ESP_TARGET_BYTES] = "prune.target.bytes",
};

/* ratio and target exclude each other; a ratio that is not given gives way to a target. */
static esp_status resolve_target(esp_config *c)
{
    const char *target = NULL;

    for (esp_target_kind k = ESP_TARGET_NONE; k < ESP_N_TARGETS; k++) {
        if (c->prune_targets[k] > 0 && target) {
            esp_fail(ESP_EUSAGE, "prune.target: only one of parameters, macs and bytes can be set");
            return refuse_at(c, target, target_paths[k]);
        }
        target = c->prune_targets[k] > 0 ? target_paths[k] : target;
    }
    if (isnan(c->prune.ratio)) { /* not set */
        const char *value = esp_recipe_value(c, esp_option_find("prune.ratio"));

        c->prune.ratio = target ? 0 : strtod(value, NULL);
    }
    if (target && c->prune.ratio > 0) {
        esp_fail(ESP_EUSAGE,
                 "prune.ratio = %g and prune.target are both set: drop one of them, with "
                 "-s prune.ratio=0 or -s prune.target...=0 where a file sets it",
                 c->prune.ratio);
        return refuse_at(c, "prune.ratio", target);
    }
    if (c->prune.ratio >= 1) {
        esp_fail(ESP_EUSAGE, "prune.ratio = 1 leaves nothing: must be below 1");
        return refuse_at(c, "prune.ratio", NULL);
    }
    return ESP_OK;
}

/* Whether one of the first i files has the same name, up to its colon. */
static bool is_again(const esp_named_files *files, size_t i, const char *name)
{
    bool again = false;

    for (size_t k = 0; k < i && !again; k++) {
        double weight;
        char *earlier;

        esp_settings_mixed(&earlier, &weight, &files->item[k]);
        again = strcmp(earlier, name) == 0;
        free(earlier);
    }
    return again;
}

static esp_status check_mixed(const char *setting, const esp_named_files *files, size_t i)
{
    const esp_named_file *entry = &files->item[i];
    esp_status st = ESP_OK;
    double weight;
    char *name;

    if (!esp_settings_mixed(&name, &weight, entry)) {
        st = esp_fail(ESP_EUSAGE,
                      "%s: %s: must be NAME=FILE or NAME:WEIGHT=FILE, WEIGHT a number above 0",
                      setting, entry->name);
    } else if (is_again(files, i, name)) {
        st = esp_fail(ESP_EUSAGE, "%s: two texts are called %s", setting, name);
    }
    free(name);
    return st;
}

/* A text, or texts to mix. */
static esp_status check_mix(const esp_config *c, const char *corpus, const char *corpora)
{
    char *one = esp_option_text(c, esp_option_find(corpus));
    const esp_option *o = esp_option_find(corpora);
    const esp_named_files *files = (const void *)((const char *)c + o->offset);
    bool both = *one && files->n > 0;
    esp_status st = ESP_OK;

    free(one);
    if (both) {
        esp_fail(ESP_EUSAGE, "%s and %s are both set: drop one of them", corpus, corpora);
        return refuse_at(c, corpus, corpora);
    }
    for (size_t i = 0; i < files->n && st == ESP_OK; i++) {
        st = check_mixed(corpora, files, i);
    }
    return st == ESP_OK ? ESP_OK : refuse_at(c, corpora, NULL);
}

static esp_status check_mixes(const esp_config *c)
{
    ESP_TRY(check_mix(c, "calibration.corpus", "calibration.corpora"));
    ESP_TRY(check_mix(c, "calibration.tokens", "calibration.corpora"));
    ESP_TRY(check_mix(c, "compensate.corpus", "compensate.corpora"));
    return check_mix(c, "recover.corpus", "recover.corpora");
}

/* Corpus i of eval.corpora: its window, its name among the earlier ones. */
static esp_status check_corpus(const esp_config *c, size_t i)
{
    const esp_named_file *entry = &c->eval.corpora.item[i];
    char *name;
    size_t window;
    bool good = esp_settings_corpus(&name, &window, c, entry);
    esp_status st = ESP_OK;

    if (!good) {
        st = esp_fail(ESP_EUSAGE,
                      "eval.corpora: %s: must be NAME=FILE or NAME:WINDOW=FILE, WINDOW a whole "
                      "number of at least 2",
                      entry->name);
    } else if (is_again(&c->eval.corpora, i, name)) {
        st = esp_fail(ESP_EUSAGE, "eval.corpora: two texts are called %s", name);
    } else if (c->eval.stride > window) {
        st = esp_fail(ESP_EUSAGE,
                      "eval.stride = %zu is longer than the windows of eval.corpora: %s: text "
                      "between windows would not be counted",
                      c->eval.stride, entry->name);
    }
    free(name);
    return st;
}

static esp_status check_corpora(const esp_config *c)
{
    for (size_t i = 0; i < c->eval.corpora.n; i++) {
        ESP_TRY(check_corpus(c, i));
    }
    return ESP_OK;
}

/* All kinds with blanks between; the caller frees. */
static char *kinds_text(void)
{
    char *s = esp_strdup("");

    for (size_t i = 0; esp_question_kind_at(i); i++) {
        char *more = esp_format("%s%s%s", s, *s ? " " : "", esp_question_kind_at(i)->name);

        free(s);
        s = more;
    }
    return s;
}

/* Task i of eval.tasks: its kind, its name among the earlier ones, its examples. */
static esp_status check_task(const esp_config *c, size_t i)
{
    const esp_named_file *entry = &c->eval.tasks.item[i];
    char *name, *kinds = kinds_text();
    bool known = esp_settings_task(&name, entry) && *name, again = false;
    esp_status st = ESP_OK;

    for (size_t k = 0; k < i; k++) {
        char *earlier;

        esp_settings_task(&earlier, &c->eval.tasks.item[k]);
        again = again || strcmp(earlier, name) == 0;
        free(earlier);
    }
    if (!known) {
        st = esp_fail(ESP_EUSAGE,
                      "eval.tasks: %s: must be KIND=FILE or TASK:KIND=FILE, KIND one of %s",
                      entry->name, kinds);
    } else if (again) {
        st = esp_fail(ESP_EUSAGE, "eval.tasks: two tasks are called %s: write NAME:%s=%s", name,
                      name, entry->path);
    } else if (c->eval.shots > 0 && !esp_settings_examples(c, name)) {
        st = esp_fail(ESP_EUSAGE, "eval.shots = %zu: eval.examples names no file for %s",
                      c->eval.shots, name);
    }
    free(name);
    free(kinds);
    return st;
}

static esp_status check_tasks(const esp_config *c)
{
    for (size_t i = 0; i < c->eval.tasks.n; i++) {
        if (check_task(c, i) != ESP_OK) {
            return refuse_at(c, "eval.tasks", NULL);
        }
    }
    for (size_t i = 0; i < c->eval.examples.n; i++) {
        const char *wanted = c->eval.examples.item[i].name;
        bool there = false;

        for (size_t k = 0; k < c->eval.tasks.n; k++) {
            char *name;

            esp_settings_task(&name, &c->eval.tasks.item[k]);
            there = there || strcmp(name, wanted) == 0;
            free(name);
        }
        if (!there) {
            esp_fail(ESP_EUSAGE, "eval.examples: eval.tasks has no task that is called %s", wanted);
            return refuse_at(c, "eval.examples", "eval.tasks");
        }
    }
    return ESP_OK;
}

/* Gates are trained for one cut, of heads and neurons, in one go. */
static esp_status check_masks(const esp_config *c)
{
    if (c->prune.mode != ESP_PRUNE_BLOCK) {
        return esp_fail(ESP_EUSAGE,
                        "criterion masks trains gates of heads and neurons for prune.mode = block, "
                        "not %s: take another criterion, such as element1",
                        esp_prune_mode_name(c->prune.mode));
    }
    return c->prune_steps > 1
               ? esp_fail(ESP_EUSAGE,
                          "prune.steps = %zu: criterion masks trains gates for one cut: set 1",
                          c->prune_steps)
               : ESP_OK;
}

/* Criteria of gates, say, know no channel of the residual stream. */
static esp_status check_criterion(const esp_config *c)
{
    unsigned units = esp_plan_units(&c->prune);

    if ((esp_criterion_units(c->prune.criterion) & units) != units) {
        return esp_fail(ESP_EUSAGE,
                        "prune.criterion = %s scores attention and MLP groups only, and prune.mode "
                        "= %s cuts others: take another criterion, such as element1",
                        esp_criterion_name(c->prune.criterion), esp_prune_mode_name(c->prune.mode));
    }
    return c->importance.criteria >> ESP_MASKS & 1 ? check_masks(c) : ESP_OK;
}

static esp_status check_select(const esp_config *c)
{
    const char *other = c->prune.mode != ESP_PRUNE_BLOCK           ? "prune.mode"
                        : c->prune.global                          ? "prune.scope"
                        : c->prune.attention == ESP_ATTENTION_BOTH ? "prune.attention"
                        : c->prune_steps > 1                       ? "prune.steps"
                                                                   : NULL;

    if (c->prune.select == ESP_BY_RECONSTRUCTION && other) {
        esp_fail(ESP_EUSAGE,
                 "prune.select = reconstruction cuts heads and channels of each layer alike, in "
                 "one walk: it needs prune.mode = block, prune.scope = local, prune.steps = 1 and "
                 "prune.attention = groups or queries");
        return refuse_at(c, "prune.select", other);
    }
    return ESP_OK;
}

static esp_status check_pairs(const esp_config *c)
{
    ESP_TRY(check_select(c));
    if (*c->calibration.corpus && *c->calibration.tokens) {
        esp_fail(ESP_EUSAGE,
                 "calibration.corpus and calibration.tokens are both set: drop one of them");
        return refuse_at(c, "calibration.corpus", "calibration.tokens");
    }
    if (c->eval.stride > c->eval.window) {
        esp_fail(ESP_EUSAGE,
                 "eval.stride = %zu is longer than eval.window = %zu: text between windows would "
                 "not be counted",
                 c->eval.stride, c->eval.window);
        return refuse_at(c, "eval.stride", "eval.window");
    }
    if (c->recover.min_learning_rate > c->recover.learning_rate) {
        esp_fail(ESP_EUSAGE, "recover.min_learning_rate = %g is above recover.learning_rate = %g",
                 c->recover.min_learning_rate, c->recover.learning_rate);
        return refuse_at(c, "recover.min_learning_rate", "recover.learning_rate");
    }
    if (esp_hints_check(c->recover.mpi_io_hints) != ESP_OK) {
        esp_fail_in(ESP_EUSAGE, "recover.mpi_io_hints = %s", c->recover.mpi_io_hints);
        return refuse_at(c, "recover.mpi_io_hints", NULL);
    }
    if (c->recover.steps == 0 && c->recover.epochs == 0) {
        esp_fail(ESP_EUSAGE, "recover.epochs and recover.steps are both 0: no step to train");
        return refuse_at(c, "recover.epochs", "recover.steps");
    }
    return ESP_OK;
}

/* ---- without effect -------------------------------------------------------------------------------- */

static bool is_full(const esp_config *c)
{
    return c->recover.method == ESP_METHOD_FULL;
}

static bool writes_direct(const esp_config *c)
{
    return c->recover.checkpoint_io == ESP_IO_DIRECT;
}

static bool has_tokens(const esp_config *c)
{
    return *c->calibration.tokens != '\0';
}

static bool has_no_teacher(const esp_config *c)
{
    return !*c->recover_teacher;
}

static bool follows_text_alone(const esp_config *c)
{
    return c->recover.kd_ratio == 0;
}

static bool has_steps(const esp_config *c)
{
    return c->recover.steps > 0;
}

static bool is_unvalidated(const esp_config *c)
{
    return c->recover.validation == 0;
}

static bool cuts_no_blocks(const esp_config *c)
{
    return c->prune.mode != ESP_PRUNE_BLOCK;
}

static bool cuts_channels(const esp_config *c)
{
    return c->prune.mode == ESP_PRUNE_CHANNEL;
}

static bool cuts_layers(const esp_config *c)
{
    return c->prune.mode == ESP_PRUNE_LAYER;
}

/* How much goes is set of all units together, or heads are not cut. */
static bool has_no_ratio_of_heads(const esp_config *c)
{
    bool has_target = false;

    for (esp_target_kind k = ESP_TARGET_NONE; k < ESP_N_TARGETS; k++) {
        has_target = has_target || c->prune_targets[k] > 0;
    }
    return has_target || c->prune.global || cuts_no_blocks(c);
}

static bool is_random(const esp_config *c)
{
    return c->prune.criterion == ESP_RANDOM;
}

static bool trains_no_masks(const esp_config *c)
{
    return !(c->importance.criteria >> ESP_MASKS & 1);
}

static bool reconstructs(const esp_config *c)
{
    return c->prune.select == ESP_BY_RECONSTRUCTION;
}

static bool fits_nothing(const esp_config *c)
{
    return c->prune_compensate == ESP_COMPENSATE_NONE;
}

static bool reads_no_text(const esp_config *c)
{
    return fits_nothing(c) && !reconstructs(c);
}

static bool damping_is_set(const esp_config *c)
{
    return c->compensate.damping > 0;
}

static bool has_no_tasks(const esp_config *c)
{
    return c->eval.tasks.n == 0;
}

static bool has_no_shots(const esp_config *c)
{
    return c->eval.shots == 0;
}

static bool is_greedy(const esp_config *c)
{
    return c->generate.temperature == 0;
}

/* Settings that are not read where another says so. */
static const struct idle {
    const char *path;
    bool (*where)(const esp_config *c);
    const char *because;
} idle[] = {
    { "calibration.samples", has_tokens, "all lines of calibration.tokens are used" },
    { "calibration.sequence", has_tokens, "the lines of calibration.tokens are the samples" },
    { "calibration.field", has_tokens, "calibration.tokens has no fields" },
    { "prune.scope", cuts_no_blocks, "prune.mode = block alone ranks by layer" },
    { "prune.attention", cuts_no_blocks, "prune.mode = block alone cuts heads" },
    { "prune.attention_layers", cuts_channels, "a channel runs through all layers" },
    { "prune.mlp_layers", cuts_channels, "a channel runs through all layers" },
    { "prune.attention_ratio", has_no_ratio_of_heads,
      "it is of heads that have a prune.ratio by themselves" },
    { "prune.round_to", cuts_layers, "whole layers leave widths as they are" },
    { "prune.criterion", reconstructs, "prune.select = reconstruction ranks by no criterion" },
    { "prune.aggregation", reconstructs, "prune.select = reconstruction ranks by no criterion" },
    { "prune.steps", is_random, "criterion random has nothing to estimate again" },
    { "masks.steps", trains_no_masks, "no criterion is masks" },
    { "masks.batch", trains_no_masks, "no criterion is masks" },
    { "masks.learning_rate", trains_no_masks, "no criterion is masks" },
    { "compensate.corpus", reads_no_text, "prune.compensate = none" },
    { "compensate.corpora", reads_no_text, "prune.compensate = none" },
    { "compensate.field", reads_no_text, "prune.compensate = none" },
    { "compensate.samples", reads_no_text, "prune.compensate = none" },
    { "compensate.sequence", reads_no_text, "prune.compensate = none" },
    { "compensate.holdout", reads_no_text, "prune.compensate = none" },
    { "compensate.holdout", damping_is_set, "compensate.damping is set" },
    { "compensate.damping", reads_no_text, "prune.compensate = none" },
    { "compensate.target", reads_no_text, "prune.compensate = none" },
    { "compensate.layers", fits_nothing, "prune.compensate = none" },
    { "recover.teacher", follows_text_alone, "recover.kd_ratio = 0" },
    { "recover.kd_ratio", has_no_teacher, "recover.teacher is not set" },
    { "recover.kd_temperature", has_no_teacher, "recover.teacher is not set" },
    { "recover.rank", is_full, "recover.method = full trains no adapter" },
    { "recover.alpha", is_full, "recover.method = full trains no adapter" },
    { "recover.dropout", is_full, "recover.method = full trains no adapter" },
    { "recover.targets", is_full, "recover.method = full trains no adapter" },
    { "recover.mpi_io_hints", writes_direct, "recover.checkpoint_io = direct is not MPI-IO" },
    { "recover.epochs", has_steps, "recover.steps goes before it" },
    { "recover.validate_every", is_unvalidated, "recover.validation = 0 holds nothing out" },
    { "recover.patience", is_unvalidated, "recover.validation = 0 holds nothing out" },
    { "eval.limit", has_no_tasks, "eval.tasks is not set" },
    { "eval.shots", has_no_tasks, "eval.tasks is not set" },
    { "eval.examples", has_no_shots, "eval.shots = 0 asks without examples" },
    { "generate.top_p", is_greedy, "generate.temperature = 0 takes the likeliest token" },
};

static void tell_idle(const esp_config *c)
{
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) {
        const esp_option *o = esp_option_find(idle[i].path);
        char *text = esp_option_text(c, o);

        if (strcmp(text, esp_recipe_value(c, o)) != 0 && idle[i].where(c)) {
            esp_warn("%s = %s has no effect: %s", o->path, text, idle[i].because);
        }
        free(text);
    }
}

esp_status esp_config_validate(esp_config *c)
{
    include_what_prune_needs(c);
    ESP_TRY(resolve_target(c));
    ESP_TRY(check_criterion(c));
    ESP_TRY(check_pairs(c));
    ESP_TRY(check_mixes(c));
    ESP_TRY(check_corpora(c));
    ESP_TRY(check_tasks(c));
    tell_idle(c);
    return ESP_OK;
}
