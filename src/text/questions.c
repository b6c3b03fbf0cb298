/* questions.c - questions of a file, with examples before them, as ids. */
#include "espalier/questions.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/limit.h"
#include "espalier/mem.h"
#include "espalier/text.h"
#include "text_impl.h"

/* Questions of a file as text. */
typedef struct sheet {
    const esp_question_kind *kind;
    const char *path;
    esp_question *question; /* [n] owned */
    size_t n, capacity;
} sheet;

static void sheet_free(sheet *s)
{
    for (size_t i = 0; i < s->n; i++) {
        esp_question_free(&s->question[i]);
    }
    free(s->question);
    *s = (sheet){ 0 };
}

/* ---- reading --------------------------------------------------------------------------------------- */

static esp_status take_row(void *ctx, const esp_row *row)
{
    sheet *s = ctx;
    esp_question *q;

    if (!json_is_object(row->value) && !json_is_array(row->value)) {
        return esp_fail(ESP_EFORMAT, "%s: %s %zu: is to be an object", row->path, row->kind,
                        row->number);
    }
    s->question = esp_grow_array(s->question, &s->capacity, s->n + 1, sizeof *q);
    q = &s->question[s->n++];
    *q = (esp_question){ 0 };
    if (s->kind->make(q, row) != ESP_OK) {
        char *message = esp_strdup(esp_error_message());

        esp_fail(ESP_EFORMAT, "%s; a row of %s has %s", message, s->kind->name, s->kind->record);
        free(message);
        return ESP_EFORMAT;
    }
    return ESP_OK;
}

/* valid.jsonl: valid-labels.lst; the caller frees. */
static char *labels_path(const sheet *s)
{
    const char *dot = strrchr(s->path, '.');

    return esp_format("%.*s%s", esp_count((size_t)(dot - s->path)), s->path, s->kind->labels);
}

/* A number per line, as many as there are questions. */
static esp_status take_labels(sheet *s, const char *text, const char *path)
{
    for (size_t i = 0; i < s->n; i++) {
        char *end;
        unsigned long gold = strtoul(text, &end, 10);

        if (end == text || gold >= s->question[i].n) {
            return esp_fail(ESP_EFORMAT,
                            "%s: line %zu: is to be the number of the right choice, below %zu; %s "
                            "has %zu questions",
                            path, i + 1, s->question[i].n, s->path, s->n);
        }
        s->question[i].gold = gold;
        text = end;
    }
    return ESP_OK;
}

static esp_status read_labels(sheet *s)
{
    char *path = labels_path(s), *text = NULL;
    size_t n;
    esp_status st;

    if (!esp_file_exists(path)) {
        st = esp_fail(ESP_EFORMAT,
                      "%s: its rows have no label, and %s is not there: put it beside, or a field "
                      "\"label\" into each row",
                      s->path, path);
    } else {
        st = esp_text_read(&text, &n, path);
        st = st == ESP_OK ? take_labels(s, text, path) : st;
    }
    free(text);
    free(path);
    return st;
}

static esp_status read_sheet(sheet *s, const esp_question_kind *kind, const char *path)
{
    bool all = true;

    *s = (sheet){ .kind = kind, .path = path };
    ESP_TRY(esp_rows_read(path, take_row, s));
    if (s->n == 0) {
        return esp_fail(ESP_EFORMAT, "%s: an empty file: no question in it", path);
    }
    for (size_t i = 0; i < s->n; i++) {
        all = all && s->question[i].gold != ESP_NO_GOLD;
    }
    return all ? ESP_OK : read_labels(s);
}

/* ---- prompts --------------------------------------------------------------------------------------- */

static const char *description_of(const esp_question *q)
{
    return q->description ? q->description : "";
}

/* What stands before a question: its description, then the first examples that have it, too. *prompt is the
 * caller's to free. */
static esp_status make_prompt(char **prompt, const esp_question *q, const sheet *examples,
                              size_t shots)
{
    size_t n = 0;

    *prompt = esp_strdup(description_of(q));
    for (size_t i = 0; i < examples->n && n < shots; i++) {
        const esp_question *e = &examples->question[i];
        const esp_choice *right = &e->choice[e->gold];

        if (strcmp(description_of(e), description_of(q)) == 0) {
            char *more = esp_format("%s%s%s\n\n", *prompt, right->context, right->continuation);

            free(*prompt);
            *prompt = more;
            n++;
        }
    }
    if (n < shots) {
        esp_fail(ESP_EUSAGE, "%s: has %zu examples%s%s, and eval.shots is %zu", examples->path, n,
                 *description_of(q) ? " for: " : "", description_of(q), shots);
        free(*prompt);
        *prompt = NULL;
        return ESP_EUSAGE;
    }
    return ESP_OK;
}

/* ---- ids ------------------------------------------------------------------------------------------- */

/* A choice while it becomes ids. */
typedef struct encoding {
    const esp_tokenizer *t;
    size_t max_positions, vocab;
    esp_ids context, whole;
} encoding;

static size_t without_space(const char *s)
{
    size_t n = strlen(s), space;

    while ((space = esp_space_before(s, n)) > 0) {
        n -= space;
    }
    return n;
}

/* The ids of n bytes of context, then those of all of it. A context of nothing is BOS, or else EOS. Where the
 * tokens before a text go between a prompt and its answer, what follows has its own ids. */
static esp_status encode(encoding *e, const char *text, size_t n)
{
    int32_t begin =
        esp_tokenizer_bos(e->t) >= 0 ? esp_tokenizer_bos(e->t) : esp_tokenizer_eos(e->t);
    bool apart = n == 0 || esp_tokenizer_prompt_first(e->t);

    e->context.n = e->whole.n = 0;
    if (n > 0) {
        ESP_TRY(esp_tokenizer_encode_prompt(e->t, &e->context, text, n));
    } else if (begin >= 0) {
        esp_ids_add(&e->context, begin);
    }
    for (size_t i = 0; apart && i < e->context.n; i++) {
        esp_ids_add(&e->whole, e->context.id[i]);
    }
    return esp_tokenizer_encode(e->t, &e->whole, text + (apart ? n : 0),
                                strlen(text) - (apart ? n : 0), !apart);
}

static esp_status check_ids(const encoding *e)
{
    size_t n = e->whole.n, n_own = n - esp_min(n, e->context.n);

    if (n_own == 0 || e->context.n == 0) {
        return esp_fail(ESP_EFORMAT, "%s",
                        n_own == 0 ? "has no token of its own behind its question"
                                   : "has no token before it, and the tokenizer no BOS");
    }
    if (n_own > e->max_positions) {
        return esp_fail(ESP_EFORMAT, "has %zu tokens, and the model %zu positions", n_own,
                        e->max_positions);
    }
    for (size_t i = 0; i < n; i++) {
        if (e->whole.id[i] < 0 || (size_t)e->whole.id[i] >= e->vocab) {
            return esp_fail(ESP_EFORMAT, "has id %d, and the model's vocabulary %zu tokens",
                            e->whole.id[i], e->vocab);
        }
    }
    return ESP_OK;
}

/* A context that ends in white space gives that to the continuation. */
static esp_status add_choice(esp_questions *q, encoding *e, const char *prompt,
                             const esp_choice *choice)
{
    char *context = esp_format("%s%s", prompt, choice->context);
    char *text = esp_format("%s%s", context, choice->continuation);
    esp_status st = encode(e, text, without_space(context));
    size_t n = e->whole.n, cut;

    st = st == ESP_OK ? check_ids(e) : st;
    if (st == ESP_OK) {
        cut = n - esp_min(n, e->max_positions + 1);
        esp_samples_add_continuation(&q->samples, e->whole.id + cut, n - cut - 1,
                                     e->context.n - 1 - cut);
    }
    free(context);
    free(text);
    return st;
}

static esp_status add_question(esp_questions *q, encoding *e, const esp_question *from,
                               const sheet *examples, size_t shots, size_t number)
{
    char *prompt;
    esp_status st;

    ESP_TRY(make_prompt(&prompt, from, examples, shots));
    st = ESP_OK;
    for (size_t i = 0; i < from->n && st == ESP_OK; i++) {
        size_t at = q->samples.n;

        st = add_choice(q, e, prompt, &from->choice[i]);
        if (st != ESP_OK) {
            esp_fail_in(st, "question %zu: choice %zu", number + 1, i + 1);
        } else {
            q->characters = esp_grow(q->characters, at + 1, sizeof *q->characters);
            q->bytes = esp_grow(q->bytes, at + 1, sizeof *q->bytes);
            q->characters[at] = from->choice[i].characters;
            q->bytes[at] = from->choice[i].bytes;
        }
    }
    q->first[number + 1] = q->samples.n;
    q->gold[number] = from->gold;
    free(prompt);
    return st;
}

static esp_status encode_sheet(esp_questions *q, const sheet *s, const sheet *examples,
                               const esp_asking *how, encoding *e)
{
    esp_status st = ESP_OK;

    q->n = how->limit > 0 ? esp_min(how->limit, s->n) : s->n;
    ESP_NEW(q->first, q->n + 1);
    ESP_NEW(q->gold, q->n);
    for (size_t i = 0; i < q->n && st == ESP_OK; i++) {
        st = add_question(q, e, &s->question[i], examples, how->shots, i);
        st = st == ESP_OK ? esp_limit_check(0, s->path) : st;
    }
    return st == ESP_OK ? ESP_OK : esp_fail_in(st, "%s", s->path);
}

/* ---- the whole ------------------------------------------------------------------------------------- */

esp_status esp_questions_load(esp_questions *q, const char *name, const esp_question_kind *kind,
                              const esp_asking *how, const esp_tokenizer *t, size_t max_positions,
                              size_t vocab)
{
    encoding e = { .t = t, .max_positions = max_positions, .vocab = vocab };
    sheet s = { 0 }, examples = { 0 };
    esp_status st = read_sheet(&s, kind, how->path);

    *q = (esp_questions){ .name = esp_strdup(name), .kind = kind };
    if (st == ESP_OK && how->shots > 0) {
        st = read_sheet(&examples, kind, how->examples);
    }
    st = st == ESP_OK ? encode_sheet(q, &s, &examples, how, &e) : st;
    esp_ids_free(&e.context);
    esp_ids_free(&e.whole);
    sheet_free(&s);
    sheet_free(&examples);
    if (st != ESP_OK) {
        esp_questions_free(q);
    }
    return st;
}

void esp_questions_free(esp_questions *q)
{
    esp_samples_free(&q->samples);
    free(q->name);
    free(q->first);
    free(q->gold);
    free(q->characters);
    free(q->bytes);
    *q = (esp_questions){ 0 };
}

void esp_questions_digest(uint64_t words[ESP_DIGEST_WORDS], const esp_questions *q)
{
    uint64_t samples[ESP_DIGEST_WORDS];
    esp_digest d;

    esp_samples_digest(samples, &q->samples);
    esp_digest_init(&d);
    esp_digest_add(&d, samples, sizeof samples);
    esp_digest_add(&d, q->first, (q->n + 1) * sizeof *q->first);
    esp_digest_add(&d, q->gold, q->n * sizeof *q->gold);
    esp_digest_add(&d, q->characters, q->samples.n * sizeof *q->characters);
    esp_digest_add(&d, q->bytes, q->samples.n * sizeof *q->bytes);
    esp_digest_end_words(&d, words);
}
