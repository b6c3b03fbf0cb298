/* tokenizer_steps.c - normalizer, pre_tokenizer and decoder of tokenizer.json as steps. */
#include "tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "json_impl.h"

/* The split of GPT-2, which ByteLevel does when use_regex is set. */
#define GPT2_PATTERN \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* An object {"type": ...} of the file, with its name in messages. */
typedef struct node {
    esp_tokenizer *t;
    const json_t *object;
    const char *path, *where;
} node;

static esp_status refuse(const node *at, const char *field, const char *what)
{
    char *where = esp_format("%s.%s", at->where, field);

    esp_json_refuse(at->path, where, json_object_get(at->object, field), what);
    free(where);
    return ESP_EFORMAT;
}

/* Reads one kind of node; what it adds goes to steps (the decoder's replacements, for a decoder). */
typedef esp_status reader(const node *at, esp_steps *steps);

typedef struct kind {
    const char *type;
    reader *read;
    const char *list; /* of a Sequence: the field with its members */
} kind;

static esp_status read_node(const node *at, const kind *kinds, size_t n, esp_steps *steps);

static esp_status read_members(const node *at, const kind *kinds, size_t n, const char *list,
                               esp_steps *steps)
{
    const json_t *members = json_object_get(at->object, list);

    if (!json_is_array(members)) {
        return refuse(at, list, "is to be a list");
    }
    for (size_t i = 0; i < json_array_size(members); i++) {
        char *where = esp_format("%s.%s[%zu]", at->where, list, i);
        node member = { at->t, json_array_get(members, i), at->path, where };
        esp_status st = read_node(&member, kinds, n, steps);

        free(where);
        ESP_TRY(st);
    }
    return ESP_OK;
}

static esp_status read_node(const node *at, const kind *kinds, size_t n, esp_steps *steps)
{
    const char *type = esp_json_string(at->object, "type", "");

    for (size_t i = 0; i < n; i++) {
        if (strcmp(type, kinds[i].type) == 0) {
            return kinds[i].list ? read_members(at, kinds, n, kinds[i].list, steps)
                                 : kinds[i].read(at, steps);
        }
    }
    return refuse(at, "type", "not supported");
}

/* {"String": literal} or {"Regex": pattern} */
static esp_status read_pattern(const node *at, pcre2_code **pattern)
{
    const json_t *value = json_object_get(at->object, "pattern");
    const char *literal = esp_json_string(value, "String", NULL);
    const char *regex = esp_json_string(value, "Regex", NULL);

    if (!literal && !regex) {
        return refuse(at, "pattern", "is to be {\"String\": ...} or {\"Regex\": ...}");
    }
    if (esp_pattern_compile(pattern, literal ? literal : regex, literal != NULL) != ESP_OK) {
        return esp_fail_in(ESP_EFORMAT, "%s: %s", at->path, at->where);
    }
    return ESP_OK;
}

static esp_status read_replace(const node *at, esp_steps *steps)
{
    esp_step *step = esp_steps_add(steps, ESP_STEP_REPLACE);
    const char *content = esp_json_string(at->object, "content", NULL);

    if (!content) {
        return refuse(at, "content", "is to be a string");
    }
    step->text = esp_strdup(content);
    return read_pattern(at, &step->pattern);
}

/* ---- normalizers ----------------------------------------------------------------------------------- */

static void add_prefix(esp_tokenizer *t, esp_steps *steps, esp_prefix when, const char *text)
{
    esp_step *step = esp_steps_add(steps, ESP_STEP_PREFIX);

    step->prefix = when;
    step->text = esp_strdup(text);
    t->prefixed = true;
    t->prefixed_every = t->prefixed_every || when != ESP_PREFIX_AT_START;
}

static esp_status read_prepend(const node *at, esp_steps *steps)
{
    if (strcmp(esp_json_string(at->object, "prepend", ""), ESP_METASPACE) != 0) {
        return refuse(at, "prepend", "only U+2581 is supported");
    }
    add_prefix(at->t, steps, ESP_PREFIX_EVERY, ESP_METASPACE);
    return ESP_OK;
}

static esp_status read_nfc(const node *at, esp_steps *steps)
{
    (void)steps;
    esp_info("%s: %s: NFC: text is taken as it is; compose it first if it holds combining marks",
             at->path, at->where);
    return ESP_OK;
}

static const kind normalizers[] = {
    { "Sequence", NULL, "normalizers" },
    { "Prepend", read_prepend, NULL },
    { "Replace", read_replace, NULL },
    { "NFC", read_nfc, NULL },
};

/* ---- pre-tokenizers -------------------------------------------------------------------------------- */

static const char *const split_names[ESP_N_SPLIT] = {
    [ESP_SPLIT_ISOLATED] = "Isolated",           [ESP_SPLIT_REMOVED] = "Removed",
    [ESP_SPLIT_PREVIOUS] = "MergedWithPrevious", [ESP_SPLIT_NEXT] = "MergedWithNext",
    [ESP_SPLIT_CONTIGUOUS] = "Contiguous",
};

static esp_status read_split(const node *at, esp_steps *steps)
{
    const char *name = esp_json_string(at->object, "behavior", "");
    esp_step *step = esp_steps_add(steps, ESP_STEP_SPLIT);

    while (step->split < ESP_N_SPLIT && strcmp(name, split_names[step->split]) != 0) {
        step->split++;
    }
    if (step->split == ESP_N_SPLIT) {
        return refuse(at, "behavior", "not supported");
    }
    step->invert = esp_json_bool(at->object, "invert", false);
    return read_pattern(at, &step->pattern);
}

static void add_split(esp_steps *steps, const char *pattern, esp_split how)
{
    esp_step *step = esp_steps_add(steps, ESP_STEP_SPLIT);

    step->split = how;
    ESP_REQUIRE(esp_pattern_compile(&step->pattern, pattern, false) == ESP_OK);
}

static esp_status read_byte_level(const node *at, esp_steps *steps)
{
    if (esp_json_bool(at->object, "add_prefix_space", true)) {
        add_prefix(at->t, steps, ESP_PREFIX_UNLESS_THERE, " ");
    }
    if (esp_json_bool(at->object, "use_regex", true)) {
        add_split(steps, GPT2_PATTERN, ESP_SPLIT_ISOLATED);
    }
    esp_steps_add(steps, ESP_STEP_BYTES);
    return ESP_OK;
}

static esp_status read_digits(const node *at, esp_steps *steps)
{
    bool each = esp_json_bool(at->object, "individual_digits", false);

    add_split(steps, "\\p{N}", each ? ESP_SPLIT_ISOLATED : ESP_SPLIT_CONTIGUOUS);
    return ESP_OK;
}

static bool is_metaspace(const node *at) /* "str_rep" and "replacement" in files of several ages */
{
    return strcmp(esp_json_string(at->object, "replacement", ""), ESP_METASPACE) == 0;
}

static esp_status read_metaspace(const node *at, esp_steps *steps)
{
    bool old = esp_json_bool(at->object, "add_prefix_space", true);
    const char *scheme = esp_json_string(at->object, "prepend_scheme", old ? "always" : "never");
    esp_step *step;

    if (!is_metaspace(at)) {
        return refuse(at, "replacement", "only U+2581 is supported");
    }
    step = esp_steps_add(steps, ESP_STEP_REPLACE);
    step->text = esp_strdup(ESP_METASPACE);
    ESP_REQUIRE(esp_pattern_compile(&step->pattern, " ", true) == ESP_OK);
    if (strcmp(scheme, "always") == 0) {
        add_prefix(at->t, steps, ESP_PREFIX_UNLESS_THERE, ESP_METASPACE);
    } else if (strcmp(scheme, "first") == 0) {
        add_prefix(at->t, steps, ESP_PREFIX_AT_START, ESP_METASPACE);
    } else if (strcmp(scheme, "never") != 0) {
        return refuse(at, "prepend_scheme", "not supported");
    }
    if (esp_json_bool(at->object, "split", true)) {
        add_split(steps, ESP_METASPACE, ESP_SPLIT_NEXT);
    }
    return ESP_OK;
}

static const kind pre_tokenizers[] = {
    { "Sequence", NULL, "pretokenizers" }, { "ByteLevel", read_byte_level, NULL },
    { "Split", read_split, NULL },         { "Metaspace", read_metaspace, NULL },
    { "Digits", read_digits, NULL },
};

/* ---- decoders -------------------------------------------------------------------------------------- */

static esp_status decode_byte_level(const node *at, esp_steps *steps)
{
    (void)steps;
    at->t->decoder.byte_level = true;
    return ESP_OK;
}

static esp_status decode_byte_fallback(const node *at, esp_steps *steps)
{
    (void)steps;
    at->t->decoder.byte_fallback = true;
    return ESP_OK;
}

/* Tokens are joined in any case, and the blank that encoding put before a text is taken away again:
 * Fuse and Strip say no more than that, and are refused where they do. */
static esp_status decode_fuse(const node *at, esp_steps *steps)
{
    (void)at;
    (void)steps;
    return ESP_OK;
}

static esp_status decode_strip(const node *at, esp_steps *steps)
{
    (void)steps;
    if (strcmp(esp_json_string(at->object, "content", ""), " ") != 0) {
        return refuse(at, "content", "only a blank is supported");
    }
    if (json_number_value(json_object_get(at->object, "start")) > 1) {
        return refuse(at, "start", "at most 1 is supported");
    }
    if (json_number_value(json_object_get(at->object, "stop")) != 0) {
        return refuse(at, "stop", "only 0 is supported");
    }
    return ESP_OK;
}

static esp_status decode_metaspace(const node *at, esp_steps *steps)
{
    esp_step *step;

    if (!is_metaspace(at)) {
        return refuse(at, "replacement", "only U+2581 is supported");
    }
    step = esp_steps_add(steps, ESP_STEP_REPLACE);
    step->text = esp_strdup(" ");
    ESP_REQUIRE(esp_pattern_compile(&step->pattern, ESP_METASPACE, true) == ESP_OK);
    return ESP_OK;
}

static const kind decoders[] = {
    { "Sequence", NULL, "decoders" },
    { "Replace", read_replace, NULL },
    { "ByteLevel", decode_byte_level, NULL },
    { "ByteFallback", decode_byte_fallback, NULL },
    { "Fuse", decode_fuse, NULL },
    { "Strip", decode_strip, NULL },
    { "Metaspace", decode_metaspace, NULL },
};

/* ---- all of it ------------------------------------------------------------------------------------- */

static esp_status read_steps(esp_tokenizer *t, const json_t *root, const char *path,
                             const char *field, const kind *kinds, size_t n, esp_steps *steps)
{
    node at = { t, json_object_get(root, field), path, field };

    return !at.object || json_is_null(at.object) ? ESP_OK : read_node(&at, kinds, n, steps);
}

esp_status esp_tokenizer_read_steps(esp_tokenizer *t, const json_t *root, const char *path)
{
    const json_t *decoder = json_object_get(root, "decoder");

    if (!json_is_object(decoder)) {
        return esp_json_refuse(path, "decoder", decoder, "tokens cannot be turned back into text");
    }
    ESP_TRY(
        read_steps(t, root, path, "normalizer", normalizers, COUNT(normalizers), &t->normalizer));
    ESP_TRY(read_steps(t, root, path, "pre_tokenizer", pre_tokenizers, COUNT(pre_tokenizers),
                       &t->pre_tokenizer));
    return read_steps(t, root, path, "decoder", decoders, COUNT(decoders), &t->decoder.replace);
}
