/* corpus.c - documents from plain text, JSON lines and JSON arrays. */
#include "espalier/corpus.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/limit.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/rows.h"
#include "espalier/text.h"
#include "text_impl.h"

#define SEPARATOR  "<|endoftext|>"
#define MOST_NAMES 8 /* of fields in a message */

/* A corpus while it is read. */
typedef struct reading {
    esp_corpus *c;
    const char *path, *field;
    size_t capacity;
} reading;

static void add_document(reading *r, const esp_byte_string *text, size_t n_prompt)
{
    esp_document *d;

    r->c->documents = esp_grow_array(r->c->documents, &r->capacity, r->c->n + 1, sizeof *d);
    d = &r->c->documents[r->c->n++];
    d->text = esp_calloc(text->n + 1, 1);
    d->n = text->n;
    d->n_prompt = n_prompt;
    if (text->n > 0) {
        memcpy(d->text, text->data, text->n);
    }
}

void esp_corpus_free(esp_corpus *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->documents[i].text);
    }
    free(c->documents);
    *c = (esp_corpus){ 0 };
}

/* ---- plain text ------------------------------------------------------------------------------------ */

/* Where the next empty line ends, counted from s + at, which begins a line; n when there is none.
 * *text_end is the end of the text before it. */
static size_t past_empty_line(const char *s, size_t n, size_t at, size_t *text_end)
{
    while (at < n) {
        const char *newline = memchr(s + at, '\n', n - at);
        size_t next = newline ? (size_t)(newline - s) + 1 : n;
        size_t length = newline ? (size_t)(newline - s) - at : n - at;

        if (newline && (length == 0 || (length == 1 && s[at] == '\r'))) {
            *text_end = at;
            return next;
        }
        at = next;
    }
    *text_end = n;
    return n;
}

static size_t past_separator(const char *s, size_t n, size_t at, size_t *text_end)
{
    const char *found = memmem(s + at, n - at, SEPARATOR, strlen(SEPARATOR));

    *text_end = found ? (size_t)(found - s) : n;
    return found ? *text_end + strlen(SEPARATOR) : n;
}

/* A document without the line ends around it; one of white space alone is none. */
static void add_plain(reading *r, const char *s, size_t n)
{
    size_t spaces = 0;

    while (n > 0 && (*s == '\n' || *s == '\r')) {
        s++;
        n--;
    }
    while (n > 0 && (s[n - 1] == '\n' || s[n - 1] == '\r')) {
        n--;
    }
    while (spaces < n && isspace((unsigned char)s[spaces])) {
        spaces++;
    }
    if (spaces < n) {
        esp_byte_string text = { 0 };

        esp_bytes_add(&text, s, n);
        add_document(r, &text, 0);
        esp_bytes_free(&text);
    }
}

static esp_status read_plain(reading *r, const char *s, size_t n)
{
    bool marked = memmem(s, n, SEPARATOR, strlen(SEPARATOR)) != NULL;

    for (size_t at = 0; at < n;) {
        size_t end,
            next = marked ? past_separator(s, n, at, &end) : past_empty_line(s, n, at, &end);

        add_plain(r, s + at, end - at);
        ESP_TRY(esp_limit_check(0, r->path));
        at = next;
    }
    return ESP_OK;
}

/* ---- objects --------------------------------------------------------------------------------------- */

static void add_string(esp_byte_string *b, const char *s)
{
    esp_bytes_add(b, s, strlen(s));
}

static void add_value(esp_byte_string *b, const json_t *string)
{
    esp_bytes_add(b, json_string_value(string), json_string_length(string));
}

/* The prompt of Stanford Alpaca, which models tuned on such data know word for word. */
static void add_instruction(reading *r, const json_t *instruction, const json_t *input,
                            const json_t *output)
{
    bool has_input = json_string_length(input) > 0;
    esp_byte_string text = { 0 };
    size_t n_prompt;

    add_string(&text, "Below is an instruction that describes a task");
    add_string(&text, has_input ? ", paired with an input that provides further context. " : ". ");
    add_string(&text,
               "Write a response that appropriately completes the request.\n\n### Instruction:\n");
    add_value(&text, instruction);
    if (has_input) {
        add_string(&text, "\n\n### Input:\n");
        add_value(&text, input);
    }
    add_string(&text, "\n\n### Response:\n");
    n_prompt = text.n;
    add_value(&text, output);
    add_document(r, &text, n_prompt);
    esp_bytes_free(&text);
}

static const json_t *find_text(const reading *r, const json_t *object)
{
    static const char *const usual[] = { "text", "story", "content" };

    if (r->field) {
        return json_object_get(object, r->field);
    }
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        const json_t *text = json_object_get(object, usual[i]);

        if (text) {
            return text;
        }
    }
    return NULL;
}

/* Names of the fields of an object, the first ones; the caller frees. */
static char *field_names(const json_t *object)
{
    char *names = esp_strdup("");
    const char *name;
    json_t *value;
    size_t n = 0;

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        char *more =
            n++ < MOST_NAMES ? esp_format("%s%s%s", names, *names ? ", " : "", name) : NULL;

        if (more) {
            free(names);
            names = more;
        }
    }
    return names;
}

/* The field that would be the text, where it is there and is no string; NULL: none is. */
static const char *not_string(const reading *r, const json_t *object)
{
    const char *const names[] = { "instruction", "output", "text", "story", "content" };
    bool pair = json_object_get(object, "instruction") && json_object_get(object, "output");

    if (r->field) {
        return json_object_get(object, r->field) ? r->field : NULL;
    }
    for (size_t i = pair ? 0 : 2; i < sizeof names / sizeof *names; i++) {
        const json_t *value = json_object_get(object, names[i]);

        if (value && !json_is_string(value)) {
            return names[i];
        }
    }
    return NULL;
}

static esp_status refuse_field(const esp_row *row, const char *name)
{
    char *quoted = esp_format("\"%s\"", name);

    esp_row_refuse(row, quoted, json_object_get(row->value, name), "is to be a string");
    free(quoted);
    return ESP_EFORMAT;
}

static esp_status no_text(const reading *r, const esp_row *row)
{
    const char *wanted = r->field ? r->field : "text", *wrong;
    const json_t *object = row->value;
    char *names;

    if (!json_is_object(object)) {
        return esp_fail(ESP_EFORMAT, "%s: %s %zu: is not an object with a field \"%s\"%s", r->path,
                        row->kind, row->number, wanted,
                        json_is_array(object) ? "; an array of objects is a file *.json" : "");
    }
    wrong = not_string(r, object);
    if (wrong) {
        return refuse_field(row, wrong);
    }
    names = field_names(object);
    esp_fail(
        ESP_EFORMAT,
        "%s: %s %zu: no string \"%s\", nor instruction and output; its fields are %s: name the "
        "one with the text in the setting .field beside .corpus",
        r->path, row->kind, row->number, wanted, *names ? names : "none");
    free(names);
    return ESP_EFORMAT;
}

static esp_status add_object(void *ctx, const esp_row *row)
{
    reading *r = ctx;
    const json_t *object = row->value;
    const json_t *instruction = json_object_get(object, "instruction");
    const json_t *input = json_object_get(object, "input"),
                 *output = json_object_get(object, "output");
    const json_t *text = find_text(r, object);
    bool pair = !r->field && json_is_string(instruction) && json_is_string(output);

    if (r->c->n > 0 && pair != r->c->instructions) {
        return esp_fail(ESP_EFORMAT, "%s: %s %zu: instructions and plain texts in one file",
                        r->path, row->kind, row->number);
    }
    if (!pair && !json_is_string(text)) {
        return no_text(r, row);
    }
    if (pair && input && !json_is_string(input) && !json_is_null(input)) {
        return refuse_field(row, "input");
    }
    r->c->instructions = pair;
    if (pair) {
        add_instruction(r, instruction, input, output);
    } else if (json_string_length(text) > 0) {
        esp_byte_string bytes = { 0 };

        add_value(&bytes, text);
        add_document(r, &bytes, 0);
        esp_bytes_free(&bytes);
    }
    return ESP_OK;
}

/* ---- the file -------------------------------------------------------------------------------------- */

static bool is_object(const char *s, size_t n)
{
    json_t *object = *s == '{' ? json_loadb(s, n, JSON_ALLOW_NUL, NULL) : NULL;
    bool is = json_is_object(object);

    json_decref(object);
    return is;
}

static esp_status read_text(reading *r, const char *s, size_t n)
{
    size_t first = strspn(s, " \t\r\n");

    if (esp_rows_are_json(r->path)) {
        return esp_rows_json(s, n, r->path, add_object, r);
    }
    if (is_object(s + first, strcspn(s + first, "\n"))) {
        esp_warn("%s: begins with a JSON object and is read as plain text; where it is JSON lines, "
                 "name it "
                 "*.jsonl",
                 r->path);
    }
    if (r->field) {
        esp_warn("%s: is plain text, and has no field \"%s\"", r->path, r->field);
    }
    return read_plain(r, s, n);
}

esp_status esp_corpus_read(esp_corpus *c, const char *path, const char *field)
{
    reading r = { .c = c, .path = path, .field = field };
    char *text;
    size_t n;
    esp_status st;

    *c = (esp_corpus){ 0 };
    ESP_TRY(esp_text_read(&text, &n, path));
    st = read_text(&r, text, n);
    free(text);
    if (st == ESP_OK && c->n == 0) {
        st = esp_fail(ESP_EFORMAT, "%s: an empty corpus: no document in %zu bytes", path, n);
    }
    if (st != ESP_OK) {
        esp_corpus_free(c);
    }
    return st;
}
