/* tokenizer_pretokenize.c - normalizer, pre_tokenizer and decoder of tokenizer.json as steps. */
#include "tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "json_impl.h"

/* The split of GPT-2, which ByteLevel does when use_regex is set. */
#define GPT2_PATTERN                                                                     \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" ESP_SPACE_CLASS "\\p{L}\\p{N}]+|" \
    "[" ESP_SPACE_CLASS "]+(?![^" ESP_SPACE_CLASS "])|[" ESP_SPACE_CLASS "]+"

/* In PCRE2's syntax: Unicode's punctuation with all of ASCII's, runs of characters of one kind, white
 * space. */
#define PUNCTUATION "[\\p{P}$+<=>^`|~]"
#define WORDS                                                   \
    "[" ESP_WORD_CLASS "\\x{200C}\\x{200D}]+|[^" ESP_WORD_CLASS \
    "\\x{200C}\\x{200D}" ESP_SPACE_CLASS "]+"
#define SPACE "[" ESP_SPACE_CLASS "]"

#define MAX_FIXED    65535 /* PCRE2's largest repetition */
#define TEXT_OF(n)   TEXT_OF_(n)
#define TEXT_OF_(n)  #n
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
typedef esp_status reader(const node *at, esp_pretokenizer *steps);

typedef struct kind {
    const char *type;
    const char *keys;     /* that it may have besides "type", each with a space after it */
    reader *read;         /* NULL: a Sequence, or                                        */
    esp_rewrite *rewrite; /* a normalizer without settings                               */
} kind;

static esp_status read_node(const node *at, const kind *kinds, size_t n, esp_pretokenizer *steps);

/* keys has one key: the list of members */
static esp_status read_members(const node *at, const kind *kinds, size_t n, const char *keys,
                               esp_pretokenizer *steps)
{
    char *list = esp_format("%.*s", (int)strcspn(keys, " "), keys);
    const json_t *members = json_object_get(at->object, list);
    esp_status st = json_is_array(members) ? ESP_OK : refuse(at, list, "is to be a list");

    for (size_t i = 0; st == ESP_OK && i < json_array_size(members); i++) {
        char *where = esp_format("%s.%s[%zu]", at->where, list, i);
        node member = { at->t, json_array_get(members, i), at->path, where };

        st = read_node(&member, kinds, n, steps);
        free(where);
    }
    free(list);
    return st;
}

static esp_status read_kind(const node *at, const kind *kinds, size_t n, const kind *k,
                            esp_pretokenizer *steps)
{
    ESP_TRY(esp_json_known(at->object, k->keys, at->path, at->where));
    if (k->rewrite) {
        esp_pretokenizer_add(steps, ESP_PRETOKENIZE_REWRITE)->rewrite = k->rewrite;
        return ESP_OK;
    }
    return k->read ? k->read(at, steps) : read_members(at, kinds, n, k->keys, steps);
}

static esp_status read_node(const node *at, const kind *kinds, size_t n, esp_pretokenizer *steps)
{
    const char *type = esp_json_string(at->object, "type", "");

    for (size_t i = 0; i < n; i++) {
        if (strcmp(type, kinds[i].type) == 0) {
            return read_kind(at, kinds, n, &kinds[i], steps);
        }
    }
    return refuse(at, "type", "not supported; " ESP_ELSEWHERE);
}

/* {"String": literal} or {"Regex": pattern} */
static esp_status read_pattern(const node *at, pcre2_code **pattern)
{
    const json_t *value = json_object_get(at->object, "pattern");
    const char *literal = esp_json_string(value, "String", NULL);
    const char *regex = esp_json_string(value, "Regex", NULL);
    char *pcre = NULL;
    esp_status st = ESP_OK;

    if (!literal && !regex) {
        return refuse(at, "pattern", "is to be {\"String\": ...} or {\"Regex\": ...}");
    }
    if (regex) {
        st = esp_pattern_translate(&pcre, regex);
    }
    st = st == ESP_OK ? esp_pattern_compile(pattern, regex ? pcre : literal, !regex) : st;
    free(pcre);
    return st == ESP_OK ? ESP_OK : esp_fail_in(ESP_EFORMAT, "%s: %s", at->path, at->where);
}

static esp_status read_replace(const node *at, esp_pretokenizer *steps)
{
    esp_pretokenize_op *step = esp_pretokenizer_add(steps, ESP_PRETOKENIZE_REPLACE);
    const char *content = esp_json_string(at->object, "content", NULL);

    if (!content) {
        return refuse(at, "content", "is to be a string");
    }
    step->text = esp_strdup(content);
    return read_pattern(at, &step->pattern);
}

/* ---- normalizers ----------------------------------------------------------------------------------- */

static void add_prefix(esp_tokenizer *t, esp_pretokenizer *steps, esp_prefix when, const char *text)
{
    esp_pretokenize_op *step = esp_pretokenizer_add(steps, ESP_PRETOKENIZE_PREFIX);

    step->prefix = when;
    step->text = esp_strdup(text);
    if (strcmp(text, " ") == 0 || strcmp(text, ESP_METASPACE) == 0) {
        t->prefixed = true;
        t->prefixed_every = t->prefixed_every || when != ESP_PREFIX_AT_START;
    }
}

static esp_status read_prepend(const node *at, esp_pretokenizer *steps)
{
    const char *text = esp_json_string(at->object, "prepend", NULL);

    if (!text) {
        return refuse(at, "prepend", "is to be a string");
    }
    add_prefix(at->t, steps, ESP_PREFIX_EVERY, text);
    return ESP_OK;
}

static void add_rewrite_if(bool wanted, esp_pretokenizer *steps, esp_rewrite *rewrite)
{
    if (wanted) {
        esp_pretokenizer_add(steps, ESP_PRETOKENIZE_REWRITE)->rewrite = rewrite;
    }
}

static esp_status read_strip(const node *at, esp_pretokenizer *steps)
{
    add_rewrite_if(esp_json_bool(at->object, "strip_left", false), steps, esp_rewrite_no_left);
    add_rewrite_if(esp_json_bool(at->object, "strip_right", false), steps, esp_rewrite_no_right);
    return ESP_OK;
}

static esp_status read_bert(const node *at, esp_pretokenizer *steps)
{
    bool lower = esp_json_bool(at->object, "lowercase", true);
    bool strip = esp_json_bool(at->object, "strip_accents", lower);

    add_rewrite_if(esp_json_bool(at->object, "clean_text", true), steps, esp_rewrite_bert_clean);
    add_rewrite_if(esp_json_bool(at->object, "handle_chinese_chars", true), steps,
                   esp_rewrite_bert_chinese);
    add_rewrite_if(strip, steps, esp_rewrite_nfd);
    add_rewrite_if(strip, steps, esp_rewrite_no_nonspace);
    add_rewrite_if(lower, steps, esp_rewrite_lowercase);
    return ESP_OK;
}

static const kind normalizers[] = {
    { "Sequence", "normalizers ", NULL, NULL },
    { "Prepend", "prepend ", read_prepend, NULL },
    { "Replace", "pattern content ", read_replace, NULL },
    { "NFC", "", NULL, esp_rewrite_nfc },
    { "NFD", "", NULL, esp_rewrite_nfd },
    { "NFKC", "", NULL, esp_rewrite_nfkc },
    { "NFKD", "", NULL, esp_rewrite_nfkd },
    { "Lowercase", "", NULL, esp_rewrite_lowercase },
    { "StripAccents", "", NULL, esp_rewrite_no_marks },
    { "Strip", "strip_left strip_right ", read_strip, NULL },
    { "Nmt", "", NULL, esp_rewrite_nmt },
    { "BertNormalizer", "clean_text handle_chinese_chars strip_accents lowercase ", read_bert,
      NULL },
    { "ByteLevel", "", NULL, esp_rewrite_alphabet },
};

/* ---- pre-tokenizers -------------------------------------------------------------------------------- */

static const char *const split_names[ESP_N_SPLIT] = {
    [ESP_SPLIT_ISOLATED] = "Isolated",           [ESP_SPLIT_REMOVED] = "Removed",
    [ESP_SPLIT_PREVIOUS] = "MergedWithPrevious", [ESP_SPLIT_NEXT] = "MergedWithNext",
    [ESP_SPLIT_CONTIGUOUS] = "Contiguous",
};

static esp_status read_behavior(const node *at, esp_split *split)
{
    const char *name = esp_json_string(at->object, "behavior", "");

    *split = 0;
    while (*split < ESP_N_SPLIT && strcmp(name, split_names[*split]) != 0) {
        ++*split;
    }
    return *split < ESP_N_SPLIT ? ESP_OK : refuse(at, "behavior", "not supported");
}

static esp_status read_split(const node *at, esp_pretokenizer *steps)
{
    esp_pretokenize_op *step = esp_pretokenizer_add(steps, ESP_PRETOKENIZE_SPLIT);

    ESP_TRY(read_behavior(at, &step->split));
    step->invert = esp_json_bool(at->object, "invert", false);
    return read_pattern(at, &step->pattern);
}

/* A pattern in PCRE2's syntax. */
static esp_pretokenize_op *add_split(esp_pretokenizer *steps, const char *pattern, esp_split how)
{
    esp_pretokenize_op *step = esp_pretokenizer_add(steps, ESP_PRETOKENIZE_SPLIT);

    step->split = how;
    ESP_REQUIRE(esp_pattern_compile(&step->pattern, pattern, false) == ESP_OK);
    return step;
}

static esp_status read_byte_level(const node *at, esp_pretokenizer *steps)
{
    if (esp_json_bool(at->object, "add_prefix_space", true)) {
        add_prefix(at->t, steps, ESP_PREFIX_UNLESS_THERE, " ");
    }
    if (esp_json_bool(at->object, "use_regex", true)) {
        add_split(steps, GPT2_PATTERN, ESP_SPLIT_ISOLATED);
    }
    esp_pretokenizer_add(steps, ESP_PRETOKENIZE_REWRITE)->rewrite = esp_rewrite_alphabet;
    return ESP_OK;
}

static esp_status read_digits(const node *at, esp_pretokenizer *steps)
{
    bool each = esp_json_bool(at->object, "individual_digits", false);

    add_split(steps, "\\p{N}", each ? ESP_SPLIT_ISOLATED : ESP_SPLIT_CONTIGUOUS);
    return ESP_OK;
}

static esp_status read_punctuation(const node *at, esp_pretokenizer *steps)
{
    esp_split how = ESP_SPLIT_ISOLATED;

    if (json_object_get(at->object, "behavior")) {
        ESP_TRY(read_behavior(at, &how));
    }
    add_split(steps, PUNCTUATION, how);
    return ESP_OK;
}

static esp_status read_whitespace(const node *at, esp_pretokenizer *steps)
{
    (void)at;
    add_split(steps, WORDS, ESP_SPLIT_REMOVED)->invert = true;
    return ESP_OK;
}

static esp_status read_whitespace_split(const node *at, esp_pretokenizer *steps)
{
    (void)at;
    add_split(steps, SPACE, ESP_SPLIT_REMOVED);
    return ESP_OK;
}

static esp_status read_bert_split(const node *at, esp_pretokenizer *steps)
{
    (void)at;
    add_split(steps, SPACE, ESP_SPLIT_REMOVED);
    add_split(steps, PUNCTUATION, ESP_SPLIT_ISOLATED);
    return ESP_OK;
}

static esp_status read_delimiter(const node *at, esp_pretokenizer *steps)
{
    const char *delimiter = esp_json_string(at->object, "delimiter", "");
    esp_pretokenize_op *step;

    if (!*delimiter) {
        return refuse(at, "delimiter", "is to be a character");
    }
    step = esp_pretokenizer_add(steps, ESP_PRETOKENIZE_SPLIT);
    step->split = ESP_SPLIT_REMOVED;
    return esp_pattern_compile(&step->pattern, delimiter, true);
}

static esp_status read_fixed_length(const node *at, esp_pretokenizer *steps)
{
    const json_t *value = json_object_get(at->object, "length");
    double length = value ? json_number_value(value) : 5; /* the library's default */
    char *pattern;

    if (!(length >= 1 && length <= MAX_FIXED)) {
        return refuse(at, "length", "is to be 1 .. " TEXT_OF(MAX_FIXED));
    }
    pattern = esp_format("(?s).{1,%d}", (int)length);
    add_split(steps, pattern, ESP_SPLIT_ISOLATED);
    free(pattern);
    return ESP_OK;
}

static bool is_metaspace(const node *at) /* "str_rep" and "replacement" in files of several ages */
{
    return strcmp(esp_json_string(at->object, "replacement", ""), ESP_METASPACE) == 0;
}

static esp_status read_metaspace(const node *at, esp_pretokenizer *steps)
{
    bool old = esp_json_bool(at->object, "add_prefix_space", true);
    const char *scheme = esp_json_string(at->object, "prepend_scheme", old ? "always" : "never");

    if (!is_metaspace(at)) {
        return refuse(at, "replacement", "only U+2581 is supported");
    }
    esp_pretokenizer_add_replace(steps, " ", ESP_METASPACE);
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
    { "Sequence", "pretokenizers ", NULL, NULL },
    { "ByteLevel", "add_prefix_space trim_offsets use_regex ", read_byte_level, NULL },
    { "Split", "pattern behavior invert ", read_split, NULL },
    { "Metaspace", "replacement str_rep add_prefix_space prepend_scheme split ", read_metaspace,
      NULL },
    { "Digits", "individual_digits ", read_digits, NULL },
    { "Punctuation", "behavior ", read_punctuation, NULL },
    { "Whitespace", "", read_whitespace, NULL },
    { "WhitespaceSplit", "", read_whitespace_split, NULL },
    { "BertPreTokenizer", "", read_bert_split, NULL },
    { "CharDelimiterSplit", "delimiter ", read_delimiter, NULL },
    { "FixedLength", "length ", read_fixed_length, NULL },
};

/* ---- decoders -------------------------------------------------------------------------------------- */

static esp_status decode_byte_level(const node *at, esp_pretokenizer *steps)
{
    (void)steps;
    at->t->decoder.byte_level = true;
    return ESP_OK;
}

static esp_status decode_byte_fallback(const node *at, esp_pretokenizer *steps)
{
    (void)steps;
    at->t->decoder.byte_fallback = true;
    return ESP_OK;
}

/* Tokens are joined in any case. */
static esp_status decode_fuse(const node *at, esp_pretokenizer *steps)
{
    (void)steps;
    at->t->decoder.fused = true;
    return ESP_OK;
}

static esp_status decode_strip(const node *at, esp_pretokenizer *steps)
{
    (void)steps;
    if (strcmp(esp_json_string(at->object, "content", ""), " ") != 0) {
        return refuse(at, "content", "only a space is supported");
    }
    if (json_number_value(json_object_get(at->object, "stop")) != 0) {
        return refuse(at, "stop", "only 0 is supported");
    }
    if (!at->t->decoder.fused) {
        return refuse(at, "type", "is supported after Fuse only: it would strip each token");
    }
    at->t->decoder.first_spaces = (size_t)json_number_value(json_object_get(at->object, "start"));
    return ESP_OK;
}

static esp_status decode_metaspace(const node *at, esp_pretokenizer *steps)
{
    const char *scheme = esp_json_string(at->object, "prepend_scheme", "always");

    if (!is_metaspace(at)) {
        return refuse(at, "replacement", "only U+2581 is supported");
    }
    at->t->decoder.first_bare = strcmp(scheme, "never") != 0;
    esp_pretokenizer_add_replace(steps, ESP_METASPACE, " ");
    return ESP_OK;
}

static const kind decoders[] = {
    { "Sequence", "decoders ", NULL, NULL },
    { "Replace", "pattern content ", read_replace, NULL },
    { "ByteLevel", "add_prefix_space trim_offsets use_regex ", decode_byte_level, NULL },
    { "ByteFallback", "", decode_byte_fallback, NULL },
    { "Fuse", "", decode_fuse, NULL },
    { "Strip", "content start stop ", decode_strip, NULL },
    { "Metaspace", "replacement str_rep add_prefix_space prepend_scheme split ", decode_metaspace,
      NULL },
};

/* ---- all of it ------------------------------------------------------------------------------------- */

static esp_status read_steps(esp_tokenizer *t, const json_t *root, const char *path,
                             const char *field, const kind *kinds, size_t n,
                             esp_pretokenizer *steps)
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
