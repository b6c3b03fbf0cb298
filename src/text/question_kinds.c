/* question_kinds.c - the kinds of tasks: a row of the table and a small function each. */
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/questions.h"
#include "rewrite_impl.h"

#define DELIMITER " " /* between context and choice */

/* ---- fields ---------------------------------------------------------------------------------------- */

/* A field that is a string; borrowed. */
static esp_status take_string(const char **s, const esp_row *row, const json_t *object,
                              const char *field)
{
    const json_t *value = json_object_get(object, field);

    *s = json_string_value(value);
    if (!*s || strlen(*s) != json_string_length(value)) {
        return esp_row_refuse(row, field, value, "is to be a string without 0 characters");
    }
    return ESP_OK;
}

static esp_status take_strings(const json_t **list, const esp_row *row, const json_t *object,
                               const char *field, size_t least)
{
    *list = json_object_get(object, field);
    if (!json_is_array(*list) || json_array_size(*list) < least) {
        return esp_row_refuse(row, field, *list, "is to be an array of strings, two at least");
    }
    for (size_t i = 0; i < json_array_size(*list); i++) {
        const json_t *item = json_array_get(*list, i);

        if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item)) {
            return esp_row_refuse(row, field, item, "is to be a string without 0 characters");
        }
    }
    return ESP_OK;
}

/* The number of a choice: a whole number, as one or as a string, that counts from `from`. */
static esp_status take_number(size_t *gold, const esp_row *row, const char *field, size_t from,
                              size_t n)
{
    const json_t *value = json_object_get(row->value, field);
    json_int_t number = json_integer_value(value);
    bool whole = json_is_integer(value);

    if (json_is_string(value)) {
        char *end;

        number = strtol(json_string_value(value), &end, 10);
        whole = json_string_length(value) > 0 && *end == '\0';
    }
    if (!whole || number < (json_int_t)from || number >= (json_int_t)(from + n)) {
        return esp_row_refuse(row, field, value, "is to be the number of the right choice");
    }
    *gold = (size_t)number - from;
    return ESP_OK;
}

/* ---- choices --------------------------------------------------------------------------------------- */

static size_t characters_of(const char *s)
{
    size_t n = 0;

    for (; *s; s++) {
        n += (*s & 0xC0) != 0x80;
    }
    return n;
}

/* Takes over context and continuation; length: of which lengths count. */
static void add_choice(esp_question *q, char *context, char *continuation, const char *length)
{
    q->choice = esp_grow(q->choice, q->n + 1, sizeof *q->choice);
    q->choice[q->n++] = (esp_choice){ .context = context,
                                      .continuation = continuation,
                                      .characters = characters_of(length),
                                      .bytes = strlen(length) };
}

/* One that continues the query. */
static void add_answer(esp_question *q, const char *query, const char *text)
{
    add_choice(q, esp_strdup(query), esp_format("%s%s", DELIMITER, text), text);
}

static void add_answers(esp_question *q, const char *query, const json_t *texts)
{
    for (size_t i = 0; i < json_array_size(texts); i++) {
        add_answer(q, query, json_string_value(json_array_get(texts, i)));
    }
}

void esp_question_free(esp_question *q)
{
    for (size_t i = 0; i < q->n; i++) {
        free(q->choice[i].context);
        free(q->choice[i].continuation);
    }
    free(q->choice);
    free(q->description);
    *q = (esp_question){ 0 };
}

/* ---- any questions --------------------------------------------------------------------------------- */

static esp_status make_any(esp_question *q, const esp_row *row, const char *after)
{
    const json_t *choices;
    const char *query;
    char *context;

    ESP_TRY(take_string(&query, row, row->value, "query"));
    ESP_TRY(take_strings(&choices, row, row->value, "choices", 2));
    ESP_TRY(take_number(&q->gold, row, "gold", 0, json_array_size(choices)));
    context = esp_format("%s%s", query, after);
    add_answers(q, context, choices);
    free(context);
    return ESP_OK;
}

static esp_status make_query(esp_question *q, const esp_row *row)
{
    return make_any(q, row, "");
}

static esp_status make_question(esp_question *q, const esp_row *row)
{
    return make_any(q, row, "\nAnswer:");
}

/* ---- BoolQ (Clark et al. 2019), as of SuperGLUE or by itself --------------------------------------- */

static esp_status make_boolq(esp_question *q, const esp_row *row)
{
    const char *field = json_object_get(row->value, "label") ? "label" : "answer";
    const json_t *label = json_object_get(row->value, field);
    const char *passage, *question;
    char *query;

    ESP_TRY(take_string(&passage, row, row->value, "passage"));
    ESP_TRY(take_string(&question, row, row->value, "question"));
    if (json_is_boolean(label)) {
        q->gold = json_is_true(label);
    } else {
        ESP_TRY(take_number(&q->gold, row, field, 0, 2));
    }
    query = esp_format("%s\nQuestion: %s?\nAnswer:", passage, question);
    add_answer(q, query, "no");
    add_answer(q, query, "yes");
    free(query);
    return ESP_OK;
}

/* ---- PIQA (Bisk et al. 2020) ----------------------------------------------------------------------- */

static esp_status make_piqa(esp_question *q, const esp_row *row)
{
    const char *goal, *solution[2];
    char *query;

    ESP_TRY(take_string(&goal, row, row->value, "goal"));
    ESP_TRY(take_string(&solution[0], row, row->value, "sol1"));
    ESP_TRY(take_string(&solution[1], row, row->value, "sol2"));
    q->gold = ESP_NO_GOLD;
    if (json_object_get(row->value, "label")) {
        ESP_TRY(take_number(&q->gold, row, "label", 0, 2));
    }
    query = esp_format("Question: %s\nAnswer:", goal);
    add_answer(q, query, solution[0]);
    add_answer(q, query, solution[1]);
    free(query);
    return ESP_OK;
}

/* ---- HellaSwag (Zellers et al. 2019) --------------------------------------------------------------- */

static char *to_string(esp_byte_string *b)
{
    esp_bytes_add(b, "", 1);
    return b->data;
}

/* Every `from` becomes `to`, from left to right; takes s. */
static char *replaced(char *s, const char *from, const char *to)
{
    esp_byte_string b = { 0 };
    const char *at = s;

    for (const char *found; (found = strstr(at, from)); at = found + strlen(from)) {
        esp_bytes_add(&b, at, (size_t)(found - at));
        esp_bytes_add(&b, to, strlen(to));
    }
    esp_bytes_add(&b, at, strlen(at));
    free(s);
    return to_string(&b);
}

/* Without what stands between brackets on one line, and the brackets; takes s. */
static char *without_brackets(char *s)
{
    esp_byte_string b = { 0 };

    for (const char *at = s; *at;) {
        size_t n = *at == '[' ? strcspn(at, "]\n") : 0;

        if (n > 0 && at[n] == ']') {
            at += n + 1;
        } else {
            esp_bytes_add(&b, at++, 1);
        }
    }
    free(s);
    return to_string(&b);
}

static char *stripped(const char *s)
{
    esp_byte_string left = { 0 }, both = { 0 };

    esp_rewrite_no_left(&left, s, strlen(s));
    if (left.n > 0) {
        esp_rewrite_no_right(&both, left.data, left.n);
    }
    esp_bytes_free(&left);
    return to_string(&both);
}

/* WikiHow's marks go. */
static char *cleaned(const char *s)
{
    return replaced(without_brackets(replaced(stripped(s), " [title]", ". ")), "  ", " ");
}

/* The first character large, the others small, as Python's str.capitalize has it. */
static char *capitalized(const char *s)
{
    esp_byte_string b = { 0 };
    size_t n = strlen(s), first = n > 0 ? esp_utf8_length(s, n) : 0;

    esp_rewrite_titlecase(&b, s, first);
    esp_rewrite_lowercase(&b, s + first, n - first);
    return to_string(&b);
}

static esp_status make_hellaswag(esp_question *q, const esp_row *row)
{
    const char *activity, *a, *b;
    const json_t *endings;
    char *large, *whole, *query;

    ESP_TRY(take_string(&activity, row, row->value, "activity_label"));
    ESP_TRY(take_string(&a, row, row->value, "ctx_a"));
    ESP_TRY(take_string(&b, row, row->value, "ctx_b"));
    ESP_TRY(take_strings(&endings, row, row->value, "endings", 2));
    ESP_TRY(take_number(&q->gold, row, "label", 0, json_array_size(endings)));
    large = capitalized(b);
    whole = esp_format("%s: %s %s", activity, a, large);
    query = cleaned(whole);
    for (size_t i = 0; i < json_array_size(endings); i++) {
        char *ending = cleaned(json_string_value(json_array_get(endings, i)));

        add_answer(q, query, ending);
        free(ending);
    }
    free(query);
    free(whole);
    free(large);
    return ESP_OK;
}

/* ---- WinoGrande (Sakaguchi et al. 2020) ------------------------------------------------------------ */

/* What follows the gap is scored behind the sentence with either option in it (partial scoring, Trinh and Le
 * 2018). */
static esp_status make_winogrande(esp_question *q, const esp_row *row)
{
    const char *sentence, *option[2], *gap;
    char *rest;

    ESP_TRY(take_string(&sentence, row, row->value, "sentence"));
    ESP_TRY(take_string(&option[0], row, row->value, "option1"));
    ESP_TRY(take_string(&option[1], row, row->value, "option2"));
    ESP_TRY(take_number(&q->gold, row, "answer", 1, 2));
    gap = strchr(sentence, '_');
    if (!gap) {
        return esp_row_refuse(row, "sentence", json_object_get(row->value, "sentence"),
                              "is to have a gap, _");
    }
    rest = stripped(gap + 1);
    for (size_t i = 0; i < 2; i++) {
        char *begin =
            esp_format("%.*s%s", esp_count((size_t)(gap - sentence)), sentence, option[i]);

        add_choice(q, begin, esp_format("%s%s", DELIMITER, rest), begin);
    }
    free(rest);
    return ESP_OK;
}

/* ---- ARC (Clark et al. 2018), OpenBookQA (Mihaylov et al. 2018) ------------------------------------ */

/* Choices with letters: [{text, label}] or {text: [], label: []}; both come out as arrays, new references. */
static esp_status take_lettered(json_t **texts, json_t **letters, const esp_row *row,
                                const json_t *choices)
{
    size_t n = json_array_size(choices);

    *texts = json_array();
    *letters = json_array();
    if (json_is_object(choices)) {
        json_array_extend(*texts, json_object_get(choices, "text"));
        json_array_extend(*letters, json_object_get(choices, "label"));
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *choice = json_array_get(choices, i);

        json_array_append(*texts, json_object_get(choice, "text"));
        json_array_append(*letters, json_object_get(choice, "label"));
    }
    n = json_array_size(*texts);
    if (n < 2 || json_array_size(*letters) != n) {
        return esp_row_refuse(row, "choices", choices,
                              "is to be [{text, label}, ...] or {text: [...], label: [...]}");
    }
    for (size_t i = 0; i < n; i++) {
        if (!json_is_string(json_array_get(*texts, i)) ||
            !json_is_string(json_array_get(*letters, i))) {
            return esp_row_refuse(row, "choices", choices, "is to have strings as text and label");
        }
    }
    return ESP_OK;
}

static esp_status add_lettered(esp_question *q, const esp_row *row, const char *query,
                               const json_t *texts, const json_t *letters)
{
    const json_t *key = json_object_get(row->value, "answerKey");
    const char *letter = json_string_value(key);

    q->gold = json_array_size(letters);
    for (size_t i = json_array_size(letters); letter && i-- > 0;) {
        bool is = strcmp(letter + strspn(letter, " "),
                         json_string_value(json_array_get(letters, i))) == 0;

        q->gold = is ? i : q->gold;
    }
    if (q->gold == json_array_size(letters)) {
        return esp_row_refuse(row, "answerKey", key, "is to be the label of a choice");
    }
    add_answers(q, query, texts);
    return ESP_OK;
}

/* As published by AllenAI: question: {stem, choices}; on the Hugging Face hub: stem in a field of its own. */
static esp_status make_lettered(esp_question *q, const esp_row *row, const char *stem_field,
                                const char *before, const char *after)
{
    const json_t *question = json_object_get(row->value, "question");
    bool nested = json_is_object(question);
    const json_t *home = nested ? question : row->value;
    json_t *texts = NULL, *letters = NULL;
    const char *stem;
    char *query;
    esp_status st;

    ESP_TRY(take_string(&stem, row, home, nested ? "stem" : stem_field));
    st = take_lettered(&texts, &letters, row, json_object_get(home, "choices"));
    query = esp_format("%s%s%s", before, stem, after);
    st = st == ESP_OK ? add_lettered(q, row, query, texts, letters) : st;
    free(query);
    json_decref(texts);
    json_decref(letters);
    return st;
}

static esp_status make_arc(esp_question *q, const esp_row *row)
{
    return make_lettered(q, row, "question", "Question: ", "\nAnswer:");
}

static esp_status make_openbookqa(esp_question *q, const esp_row *row)
{
    return make_lettered(q, row, "question_stem", "", "");
}

/* ---- MMLU (Hendrycks et al. 2021) ------------------------------------------------------------------ */

#define LETTERS   "ABCD"
#define N_LETTERS ((size_t)4)

/* Of a file SUBJECT_test.csv, SUBJECT_dev.csv or SUBJECT_val.csv; the caller frees. */
static char *subject_of(const char *path)
{
    static const char *const endings[] = { "_test.csv", "_dev.csv", "_val.csv" };
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strcspn(name, ".");

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const char *end = strstr(name, endings[i]);

        n = end ? (size_t)(end - name) : n;
    }
    return esp_format("%.*s", esp_count(n), name);
}

/* Takes over subject. */
static void describe(esp_question *q, char *subject)
{
    for (char *at = subject; (at = strchr(at, '_'));) {
        *at = ' ';
    }
    q->description = esp_format(
        "The following are multiple choice questions (with answers) about %s.\n\n", subject);
    free(subject);
}

static void add_letters(esp_question *q, const char *question, const json_t *texts, size_t from)
{
    char *plain = stripped(question), *query = esp_format("%s\n", plain), letter[] = "A";

    for (size_t i = 0; i < N_LETTERS; i++) {
        char *more = esp_format("%s%c. %s\n", query, LETTERS[i],
                                json_string_value(json_array_get(texts, from + i)));

        free(query);
        query = more;
    }
    free(plain);
    plain = esp_format("%sAnswer:", query);
    for (size_t i = 0; i < N_LETTERS; i++) {
        letter[0] = LETTERS[i];
        add_answer(q, plain, letter);
    }
    free(plain);
    free(query);
}

/* question, four choices, letter */
static esp_status make_mmlu_of_csv(esp_question *q, const esp_row *row)
{
    const char *answer = json_string_value(json_array_get(row->value, N_LETTERS + 1));
    const char *at = answer && strlen(answer) == 1 ? strchr(LETTERS, *answer) : NULL;

    if (json_array_size(row->value) != N_LETTERS + 2) {
        return esp_fail(ESP_EFORMAT,
                        "%s: line %zu: has %zu fields, and is to have a question, four choices and "
                        "a letter",
                        row->path, row->number, json_array_size(row->value));
    }
    if (!at) {
        return esp_row_refuse(row, "field 6", json_array_get(row->value, N_LETTERS + 1),
                              "is to be one of A, B, C, D");
    }
    q->gold = (size_t)(at - LETTERS);
    describe(q, subject_of(row->path));
    add_letters(q, json_string_value(json_array_get(row->value, 0)), row->value, 1);
    return ESP_OK;
}

static esp_status make_mmlu(esp_question *q, const esp_row *row)
{
    const json_t *choices, *answer = json_object_get(row->value, "answer");
    const char *question, *subject, *letter = json_string_value(answer);

    if (json_is_array(row->value)) {
        return make_mmlu_of_csv(q, row);
    }
    ESP_TRY(take_string(&question, row, row->value, "question"));
    ESP_TRY(take_string(&subject, row, row->value, "subject"));
    ESP_TRY(take_strings(&choices, row, row->value, "choices", N_LETTERS));
    if (letter && strlen(letter) == 1 && strchr(LETTERS, *letter)) {
        q->gold = (size_t)(strchr(LETTERS, *letter) - LETTERS);
    } else {
        ESP_TRY(take_number(&q->gold, row, "answer", 0, N_LETTERS));
    }
    describe(q, esp_strdup(subject));
    add_letters(q, question, choices, 0);
    return ESP_OK;
}

/* ---- the table ------------------------------------------------------------------------------------- */

#define LETTERED "choices, answerKey"

static const esp_question_kind kinds[] = {
    { "boolq", "passage, question, label (or answer)", NULL, false, make_boolq },
    { "piqa", "goal, sol1, sol2, label", "-labels.lst", true, make_piqa },
    { "hellaswag", "activity_label, ctx_a, ctx_b, endings, label", NULL, true, make_hellaswag },
    { "winogrande", "sentence, option1, option2, answer", NULL, false, make_winogrande },
    { "arc_easy", "question, " LETTERED, NULL, true, make_arc },
    { "arc_challenge", "question, " LETTERED, NULL, true, make_arc },
    { "openbookqa", "question_stem, " LETTERED, NULL, true, make_openbookqa },
    { "mmlu", "question, subject, choices, answer", NULL, false, make_mmlu },
    { "question", "query, choices, gold", NULL, true, make_question },
    { "query", "query, choices, gold", NULL, true, make_query },
};

const esp_question_kind *esp_question_kind_at(size_t i)
{
    return i < sizeof kinds / sizeof *kinds ? &kinds[i] : NULL;
}

const esp_question_kind *esp_question_kind_find(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}
