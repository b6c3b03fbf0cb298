/* compare.c - the models that runs have judged, and what their columns are. */
#include "espalier/compare.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/digest.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/questions.h"
#include "espalier/run.h"

static const char *const models[] = { "dense", "pruned", "recovered" };
#define N_MODELS (sizeof models / sizeof *models)

/* One run while it is added. */
typedef struct source {
    const char *dir;
    json_t *stages, *results; /* borrowed */
} source;

static json_t *inputs_of(const source *s, const char *stage)
{
    return json_object_get(json_object_get(s->stages, stage), "inputs");
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static const char *eval_setting(const source *s, const char *path)
{
    return text_of(json_object_get(json_object_get(s->stages, "eval"), "settings"), path);
}

/* Takes list. */
static char *appended(char *list, const char *between, const char *more)
{
    char *longer = esp_format("%s%s%s", list, *list ? between : "", more);

    free(list);
    return longer;
}

/* ---- columns ---------------------------------------------------------------------------------- */

static void insert_column(esp_comparison *c, size_t at, const esp_compare_column *column)
{
    c->column = esp_grow(c->column, c->n_columns + 1, sizeof *c->column);
    memmove(&c->column[at + 1], &c->column[at], (c->n_columns - at) * sizeof *c->column);
    c->column[at] = *column;
    c->n_columns++;
}

/* The title of the column of a test, which is made where it is not there yet. Borrowed. */
static const char *column_of(esp_comparison *c, esp_column_kind kind, const char *name,
                             const char *test)
{
    size_t same = 1, at = 0;

    for (size_t i = 0; i < c->n_columns; i++) {
        const esp_compare_column *column = &c->column[i];

        at = column->kind <= kind ? i + 1 : at;
        if (strcmp(column->name, name) == 0) {
            if (strcmp(column->test, test) == 0) {
                return column->title;
            }
            same++;
        }
    }
    insert_column(c, at,
                  &(esp_compare_column){ .kind = kind,
                                         .title = same > 1 ? esp_format("%s#%zu", name, same)
                                                           : esp_strdup(name),
                                         .name = esp_strdup(name),
                                         .test = esp_strdup(test) });
    return c->column[at].title;
}

/* ---- what was read before --------------------------------------------------------------------- */

/* Stages that read texts to make a model, before it is judged. */
static const struct reader {
    const char *stage, *word;
    size_t model; /* the first of models that it shapes */
} readers[] = { { "score", "calibration", 1 },
                { "plan", "plan", 1 },
                { "prune", "compensation", 1 },
                { "recover", "recovery", 2 } };

static bool is_digest(const json_t *value, const char *digest)
{
    return json_is_string(value) && strcmp(json_string_value(value), digest) == 0;
}

/* By its list of texts; a record of an earlier version has none, and its inputs have most of them. */
static bool has_read(const json_t *record, const char *digest)
{
    const json_t *texts = json_object_get(record, "texts");
    json_t *inputs = texts ? NULL : json_object_get(record, "inputs"), *input;
    const char *name;
    bool has = false;

    for (size_t i = 0; i < json_array_size(texts); i++) {
        has = has || is_digest(json_array_get(texts, i), digest);
    }
    json_object_foreach(inputs, name, input)
    {
        has = has || is_digest(input, digest);
    }
    return has;
}

/* The stages that read the file of a digest to make a model, with "+" between; the caller frees. */
static char *seen_by(const source *s, const char *digest, size_t model)
{
    char *seen = esp_strdup("");

    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        const json_t *stage = json_object_get(s->stages, readers[i].stage);

        if (readers[i].model <= model && has_read(stage, digest)) {
            seen = appended(seen, "+", readers[i].word);
        }
    }
    return seen;
}

static void note_seen(esp_judged *j, const source *s, const char *title, const char *digest,
                      size_t model)
{
    char *seen = seen_by(s, digest, model);

    if (*seen) {
        esp_warn("compare: %s: the %s model was made with the text that %s is of (%s)", s->dir,
                 j->model, title, seen);
        json_object_set_new(j->seen, title, json_string(seen));
    }
    free(seen);
}

/* ---- values ----------------------------------------------------------------------------------- */

static void add_value(esp_comparison *c, esp_judged *j, esp_column_kind kind, const char *name,
                      json_t *value)
{
    if (value) {
        json_object_set(j->values, column_of(c, kind, name, ""), value);
    }
}

static void add_costs(esp_comparison *c, esp_judged *j, const source *s, const json_t *fields)
{
    json_t *n = json_object_get(fields, "parameters");
    double dense =
        json_number_value(json_object_get(json_object_get(s->results, models[0]), "parameters"));
    json_t *share = dense > 0 ? json_real(json_number_value(n) / dense) : NULL;

    add_value(c, j, ESP_COLUMN_PARAMETERS, "parameters", n);
    add_value(c, j, ESP_COLUMN_SHARE, "share", share);
    add_value(c, j, ESP_COLUMN_MACS, "macs", json_object_get(fields, "macs"));
    add_value(c, j, ESP_COLUMN_BYTES, "bytes", json_object_get(fields, "bytes"));
    json_decref(share);
}

/* How windows of a text are judged; the caller frees. */
static char *corpus_test(const source *s, const char *window, const char *digest)
{
    const char *stride = eval_setting(s, "eval.stride"), *most = eval_setting(s, "eval.samples");
    bool all = strcmp(most, "0") == 0 || !*most, apart = strcmp(stride, "0") == 0 || !*stride;

    return esp_format("%s%s windows of %s tokens%s%s, text %.8s", all ? "" : "the first ",
                      all ? "all" : most, window, apart ? "" : ", one every ", apart ? "" : stride,
                      digest);
}

static void add_perplexity(esp_comparison *c, esp_judged *j, const source *s, size_t model,
                           const json_t *fields, const char *name, const char *window,
                           const char *digest)
{
    json_t *value = json_object_get(fields, "perplexity");
    char *test = corpus_test(s, window, digest);
    const char *title;

    if (value) {
        title = column_of(c, ESP_COLUMN_PERPLEXITY, name, test);
        json_object_set(j->values, title, value);
        note_seen(j, s, title, digest, model);
    }
    free(test);
}

/* NAME of an input "eval.corpora.NAME:WHAT", what [out]: WHAT, "" where there is none; NULL where it is no
 * input of that setting. The caller frees. */
static char *input_name(const char **what, const char *input, const char *setting, bool last_colon)
{
    size_t n = strlen(setting);
    const char *name = input + n + 1, *colon;

    if (strncmp(input, setting, n) != 0 || input[n] != '.') {
        return NULL;
    }
    colon = last_colon ? strrchr(name, ':') : strchr(name, ':');
    *what = colon ? colon + 1 : "";
    return esp_format("%.*s", colon ? (int)(colon - name) : (int)strlen(name), name);
}

static void add_corpora(esp_comparison *c, esp_judged *j, const source *s, size_t model,
                        const json_t *fields)
{
    json_t *corpora = json_object_get(fields, "corpora"), *digest;
    const char *window = eval_setting(s, "eval.window"), *input, *own;

    add_perplexity(c, j, s, model, fields, "perplexity", window,
                   text_of(inputs_of(s, "eval"), "eval.corpus"));
    json_object_foreach(inputs_of(s, "eval"), input, digest)
    {
        char *name = input_name(&own, input, "eval.corpora", true);

        if (name) {
            char *title = esp_format("%s.perplexity", name);

            add_perplexity(c, j, s, model, json_object_get(corpora, name), title,
                           *own ? own : window, json_string_value(digest));
            free(title);
        }
        free(name);
    }
}

/* ---- tasks ------------------------------------------------------------------------------------ */

/* The sum over the tasks of a model. */
typedef struct tasks_sum {
    double acc, acc_norm; /* acc_norm where it is usual, else acc */
    size_t n;
    char *names, *tests; /* owned: of which tasks, and how they are asked */
} tasks_sum;

static void add_metric(esp_comparison *c, esp_judged *j, const source *s, size_t model,
                       const char *task, const char *metric, const char *test, const char *digest,
                       json_t *value)
{
    char *name = esp_format("%s.%s", task, metric);
    const char *title = column_of(c, ESP_COLUMN_TASK, name, test);

    json_object_set(j->values, title, value);
    note_seen(j, s, title, digest, model);
    free(name);
}

/* What is asked of a task, and how; the caller frees. */
static char *task_test(const source *s, const json_t *fields, const char *task, const char *digest)
{
    char *examples = esp_format("eval.examples.%s", task);
    const char *shots = eval_setting(s, "eval.shots"),
               *shown = text_of(inputs_of(s, "eval"), examples);
    char *test =
        esp_format("%s, %.0f questions, %s examples%s%.8s, file %.8s", text_of(fields, "kind"),
                   json_number_value(json_object_get(fields, "questions")), *shots ? shots : "0",
                   *shown ? " of " : "", shown, digest);

    free(examples);
    return test;
}

static void add_task(esp_comparison *c, tasks_sum *sum, esp_judged *j, const source *s,
                     size_t model, const char *task, const json_t *fields, const char *digest)
{
    const esp_question_kind *kind = esp_question_kind_find(text_of(fields, "kind"));
    json_t *acc = json_object_get(fields, "acc"), *norm = json_object_get(fields, "acc_norm");
    char *test = task_test(s, fields, task, digest);
    bool both = kind && kind->normalized && norm;

    if (acc) {
        add_metric(c, j, s, model, task, "acc", test, digest, acc);
        if (both) {
            add_metric(c, j, s, model, task, "acc_norm", test, digest, norm);
        }
        sum->n++;
        sum->acc += json_number_value(acc);
        sum->acc_norm += json_number_value(both ? norm : acc);
        sum->names = appended(sum->names, ", ", task);
        sum->tests = appended(sum->tests, "; ", test);
    }
    free(test);
}

static void add_means(esp_comparison *c, esp_judged *j, const tasks_sum *sum)
{
    char hex[ESP_DIGEST_SIZE], *test;
    double n = (double)sum->n;

    esp_digest_bytes(hex, sum->tests, strlen(sum->tests));
    test = esp_format("mean of %s, as asked %.8s", sum->names, hex);
    if (sum->n > 1) {
        json_object_set_new(j->values, column_of(c, ESP_COLUMN_MEAN, "mean.acc", test),
                            json_real(sum->acc / n));
        json_object_set_new(j->values, column_of(c, ESP_COLUMN_MEAN, "mean.acc_norm", test),
                            json_real(sum->acc_norm / n));
    }
    free(test);
}

static void add_tasks(esp_comparison *c, esp_judged *j, const source *s, size_t model,
                      const json_t *fields)
{
    json_t *tasks = json_object_get(fields, "tasks"), *digest;
    tasks_sum sum = { .names = esp_strdup(""), .tests = esp_strdup("") };
    const char *input, *kind;

    json_object_foreach(inputs_of(s, "eval"), input, digest)
    {
        char *name = input_name(&kind, input, "eval.tasks", false);

        if (name) {
            add_task(c, &sum, j, s, model, name, json_object_get(tasks, name),
                     json_string_value(digest));
        }
        free(name);
    }
    add_means(c, j, &sum);
    free(sum.names);
    free(sum.tests);
}

/* ---- what made a model ------------------------------------------------------------------------ */

/* Records of what follows from seeds, and is no difference by itself. */
static const char *const derived[] = { "samples", "importance.h5", "plan.json", "pruned",
                                       "recovered" };

/* The part of a stage's record that says what it was asked to do, without seeds. New reference. */
static json_t *asked(const json_t *record)
{
    json_t *settings = json_copy(json_object_get(record, "settings"));
    json_t *inputs = json_copy(json_object_get(record, "inputs"));

    json_object_del(settings, "seed");
    for (size_t i = 0; i < sizeof derived / sizeof *derived; i++) {
        json_object_del(inputs, derived[i]);
    }
    return json_pack("{s:o, s:o}", "settings", settings, "inputs", inputs);
}

static bool shapes(const char *stage, size_t model)
{
    return model == 2 || strcmp(stage, "recover") != 0;
}

/* j->made and j->seeds. Of a dense model its weights and how it is multiplied. */
static void set_made(esp_judged *j, const source *s, size_t model)
{
    json_t *made = json_pack("{s:s}", "model", models[model]), *record;
    char *text, hex[ESP_DIGEST_SIZE];
    const char *stage;

    j->seeds = esp_strdup("");
    json_object_set(made, "weights", json_object_get(inputs_of(s, "eval"), "model"));
    json_object_set_new(made, "precision", json_string(eval_setting(s, "precision")));
    json_object_set_new(made, "rope_ratio", json_string(eval_setting(s, "rope_ratio")));
    json_object_foreach(s->stages, stage, record)
    {
        if (model > 0 && json_object_get(record, "finished") && shapes(stage, model)) {
            const char *seed = text_of(json_object_get(record, "settings"), "seed");

            json_object_set_new(made, stage, asked(record));
            j->seeds = *seed ? appended(j->seeds, "/", seed) : j->seeds;
        }
    }
    text = json_dumps(made, JSON_COMPACT | JSON_SORT_KEYS);
    esp_digest_bytes(hex, text, strlen(text));
    j->made = esp_strdup(hex);
    free(text);
    json_decref(made);
}

/* ---- the whole -------------------------------------------------------------------------------- */

static void free_judged(esp_judged *j)
{
    free(j->run);
    free(j->made);
    free(j->seeds);
    json_decref(j->values);
    json_decref(j->seen);
}

/* The model that was made in the same way of the same seeds; NULL: none. */
static esp_judged *find(const esp_comparison *c, const esp_judged *j)
{
    for (size_t i = 0; i < c->n_judged; i++) {
        if (strcmp(c->judged[i].made, j->made) == 0 && strcmp(c->judged[i].seeds, j->seeds) == 0) {
            return &c->judged[i];
        }
    }
    return NULL;
}

/* A dense model that another run has judged, too: what that did not judge is added. Takes j. */
static void merge(esp_judged *known, esp_judged *j)
{
    json_t *value, *before;
    const char *title;

    json_object_foreach(j->values, title, value)
    {
        before = json_object_get(known->values, title);
        if (before && !json_equal(before, value)) {
            esp_warn("compare: %s and %s: %s of the same dense model differs; the first is shown",
                     known->run, j->run, title);
        }
    }
    json_object_update_missing(known->values, j->values);
    free_judged(j);
}

/* Takes j. */
static void add(esp_comparison *c, esp_judged *j, size_t model)
{
    esp_judged *known = find(c, j);

    if (!known) {
        c->judged = esp_grow(c->judged, c->n_judged + 1, sizeof *c->judged);
        c->judged[c->n_judged++] = *j;
    } else if (model == 0) {
        merge(known, j);
    } else {
        esp_warn("compare: %s: its %s model has the settings and the seed of %s: it is left out",
                 j->run, j->model, known->run);
        free_judged(j);
    }
}

/* A path without slashes at its end; the caller frees. */
static char *trimmed(const char *dir)
{
    size_t n = strlen(dir);

    for (; n > 1 && dir[n - 1] == '/'; n--) {
    }
    return esp_format("%.*s", esp_count(n), dir);
}

esp_status esp_compare_add(esp_comparison *c, const char *dir)
{
    source s = { .dir = dir };

    ESP_TRY(esp_run_results(&s.stages, &s.results, dir));
    for (size_t m = 0; m < N_MODELS; m++) {
        const json_t *fields = json_object_get(s.results, models[m]);
        esp_judged j = { .model = models[m] };

        if (fields) {
            j.run = trimmed(dir);
            j.values = json_object();
            j.seen = json_object();
            set_made(&j, &s, m);
            add_costs(c, &j, &s, fields);
            add_corpora(c, &j, &s, m, fields);
            add_tasks(c, &j, &s, m, fields);
            add(c, &j, m);
        }
    }
    json_decref(s.stages);
    json_decref(s.results);
    return ESP_OK;
}

void esp_compare_free(esp_comparison *c)
{
    for (size_t i = 0; i < c->n_columns; i++) {
        free(c->column[i].title);
        free(c->column[i].name);
        free(c->column[i].test);
    }
    for (size_t i = 0; i < c->n_judged; i++) {
        free_judged(&c->judged[i]);
    }
    free(c->column);
    free(c->judged);
    *c = (esp_comparison){ 0 };
}
