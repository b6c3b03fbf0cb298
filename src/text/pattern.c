/* pattern.c - from Oniguruma's syntax to PCRE2's. */
#include "pattern_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "text_impl.h"

/* Oniguruma's \w has the small digits and fractions of Latin-1 as well, unless it is in a class. */
#define WORD_CLASS ESP_WORD_CLASS "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define WORD       "[" WORD_CLASS "]"

/* Where in a pattern the translation is. */
typedef struct reader {
    const char *pattern, *at;
    esp_byte_string out;
    size_t depth; /* of character classes */
} reader;

static void put(reader *r, const char *s)
{
    esp_bytes_add(&r->out, s, strlen(s));
}

static void copy(reader *r, size_t n)
{
    esp_bytes_add(&r->out, r->at, n);
    r->at += n;
}

static esp_status refuse(const reader *r, const char *what)
{
    return esp_fail(ESP_EFORMAT, "pattern \"%s\" at byte %zu: %s", r->pattern,
                    (size_t)(r->at - r->pattern), what);
}

/* ---- escapes --------------------------------------------------------------------------------------- */

/* Escapes that PCRE2 knows as something else, as it writes them; NULL: not there. */
static const struct escape {
    char letter;
    const char *outside, *in_class;
} escapes[] = {
    { 's', "[" ESP_SPACE_CLASS "]", ESP_SPACE_CLASS },
    { 'S', "[^" ESP_SPACE_CLASS "]", "\\S\\x{180E}" },
    { 'w', WORD, ESP_WORD_CLASS },
    { 'W', "[^" WORD_CLASS "]", NULL },
    { 'd', "\\p{Nd}", "\\p{Nd}" },
    { 'D', "\\P{Nd}", "\\P{Nd}" },
    { 'h', "[0-9A-Fa-f]", "0-9A-Fa-f" },
    { 'H', "[^0-9A-Fa-f]", NULL },
    { 'v', "\\x0B", "\\x0B" },
    { 'b', "(?:(?<=" WORD ")(?!" WORD ")|(?<!" WORD ")(?=" WORD "))", "\\x08" },
    { 'B', "(?:(?<=" WORD ")(?=" WORD ")|(?<!" WORD ")(?!" WORD "))", NULL },
};

/* \p{Name}: a script is the characters of that script, not those that may be used in it. */
static esp_status translate_property(reader *r)
{
    const char *end = r->at[2] == '{' ? strchr(r->at, '}') : NULL;
    size_t n = end ? (size_t)(end - r->at) - 3 : 0;
    const char *name = r->at + 3;
    bool negated = (r->at[1] == 'P') != (n > 0 && *name == '^');
    char *script;
    pcre2_code *code;
    esp_status st;

    if (n == 0) {
        return refuse(r, "a property is to be \\p{Name}");
    }
    name += *name == '^';
    script = esp_format("\\%c{sc:%.*s}", negated ? 'P' : 'p', (int)(end - name), name);
    st = esp_pattern_compile(&code, script, false);
    if (st == ESP_OK) {
        pcre2_code_free(code);
        put(r, script);
    } else {
        esp_error_clear();
        put(r, negated ? "\\P{" : "\\p{");
        esp_bytes_add(&r->out, name, (size_t)(end - name) + 1);
    }
    free(script);
    r->at = end + 1;
    return ESP_OK;
}

static esp_status translate_escape(reader *r)
{
    char letter = r->at[1];

    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        const char *text = r->depth ? escapes[i].in_class : escapes[i].outside;

        if (escapes[i].letter == letter && text) {
            put(r, text);
            r->at += 2;
            return ESP_OK;
        }
    }
    if (letter == 'p' || letter == 'P') {
        return translate_property(r);
    }
    if (letter == 'u' && strspn(r->at + 2, "0123456789abcdefABCDEF") >= 4) {
        put(r, "\\x{");
        esp_bytes_add(&r->out, r->at + 2, 4);
        put(r, "}");
        r->at += 6;
        return ESP_OK;
    }
    if (letter == '\0' || (((letter | 32) >= 'a' && (letter | 32) <= 'z') &&
                           !strchr(r->depth ? "nrtfaex" : "nrtfaexAzZGRXNKk", letter))) {
        return refuse(r, "this escape is not supported");
    }
    copy(r, 2);
    return ESP_OK;
}

/* ---- character classes ----------------------------------------------------------------------------- */

/* [:name:] */
static esp_status translate_posix(reader *r)
{
    static const char *const names[][2] = {
        { "[:space:]", ESP_SPACE_CLASS },
        { "[:word:]", ESP_WORD_CLASS },
        { "[:punct:]", "\\p{P}\\p{S}" },
        { "[:alpha:]", "\\p{Alphabetic}" },
        { "[:alnum:]", "\\p{Alphabetic}\\p{Nd}" },
        { "[:digit:]", "\\p{Nd}" },
        { "[:upper:]", "\\p{Uppercase}" },
        { "[:lower:]", "\\p{Lowercase}" },
        { "[:xdigit:]", "0-9A-Fa-f" },
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(r->at, names[i][0], strlen(names[i][0])) == 0) {
            put(r, names[i][1]);
            r->at += strlen(names[i][0]);
            return ESP_OK;
        }
    }
    return refuse(r, "this bracket is not supported");
}

/* A class within a class is their union, which PCRE2 does not know: the same without inner brackets. */
static esp_status translate_in_class(reader *r)
{
    if (*r->at == '[') {
        if (r->at[1] == ':') {
            return translate_posix(r);
        }
        if (r->at[1] == '^' || r->at[1] == ']') {
            return refuse(r, "such a class within a class is not supported");
        }
        r->depth++;
        r->at++;
    } else if (*r->at == ']') {
        if (--r->depth == 0) {
            put(r, "]");
        }
        r->at++;
    } else if (strncmp(r->at, "&&", 2) == 0) {
        return refuse(r, "an intersection of classes is not supported");
    } else {
        copy(r, 1);
    }
    return ESP_OK;
}

static void open_class(reader *r)
{
    r->depth = 1;
    copy(r, r->at[1] == '^' ? 2 : 1);
    if (*r->at == ']') { /* the first one is a character of the class */
        put(r, "\\]");
        r->at++;
    }
}

/* ---- groups and repetitions ------------------------------------------------------------------------ */

/* (?im-im: or (?im-im): Ruby's m lets the dot match a line end, PCRE2's s does. */
static esp_status translate_options(reader *r)
{
    size_t n = strspn(r->at + 2, "im-");

    copy(r, 2);
    for (size_t i = 0; i < n; i++, r->at++) {
        esp_bytes_add(&r->out, *r->at == 'm' ? "s" : r->at, 1);
    }
    return *r->at == ':' || *r->at == ')' ? ESP_OK : refuse(r, "this option is not supported");
}

static esp_status translate_group(reader *r)
{
    if (r->at[1] == '*') {
        return refuse(r, "verbs are not supported");
    }
    if (r->at[1] == '?' && r->at[2] && strchr("im-", r->at[2])) {
        return translate_options(r);
    }
    if (r->at[1] == '?' && (!r->at[2] || !strchr(":=!><", r->at[2]))) {
        return refuse(r, "this group is not supported");
    }
    copy(r, 1);
    return ESP_OK;
}

/* {n}, {n,}, {n,m} and {,m}; anything else is a brace. What follows is greedy repetition of the whole in
 * one syntax, possessive in the other. */
static esp_status translate_brace(reader *r)
{
    size_t low = strspn(r->at + 1, "0123456789"), comma = r->at[1 + low] == ',';
    size_t high = comma ? strspn(r->at + 2 + low, "0123456789") : 0;
    const char *end = r->at + 1 + low + comma + high;

    if (*end != '}' || low + high == 0) {
        put(r, "\\{");
        r->at++;
        return ESP_OK;
    }
    put(r, low == 0 ? "{0" : "{");
    r->at++;
    copy(r, (size_t)(end + 1 - r->at));
    return *r->at == '+' ? refuse(r, "\"+\" after a repetition in braces is not supported")
                         : ESP_OK;
}

esp_status esp_pattern_translate(char **pcre, const char *pattern)
{
    reader r = { .pattern = pattern, .at = pattern };
    esp_status st = ESP_OK;

    while (*r.at && st == ESP_OK) {
        if (*r.at == '\\') {
            st = translate_escape(&r);
        } else if (r.depth > 0) {
            st = translate_in_class(&r);
        } else if (*r.at == '[') {
            open_class(&r);
        } else if (*r.at == '(') {
            st = translate_group(&r);
        } else if (*r.at == '{') {
            st = translate_brace(&r);
        } else {
            copy(&r, 1);
        }
    }
    esp_bytes_add(&r.out, "", 1);
    *pcre = st == ESP_OK ? r.out.data : NULL;
    if (st != ESP_OK) {
        esp_bytes_free(&r.out);
    }
    return st;
}

esp_status esp_pattern_compile(pcre2_code **p, const char *pattern, bool literal)
{
    uint32_t options =
        PCRE2_UTF |
        (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    int code;
    PCRE2_SIZE where;

    ESP_REQUIRE(context);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *p = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &where, context);
    pcre2_compile_context_free(context);
    if (!*p) {
        char why[128];

        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return esp_fail(ESP_EFORMAT, "pattern \"%s\" at character %zu: %s", pattern, where, why);
    }
    pcre2_jit_compile(*p, PCRE2_JIT_COMPLETE); /* where there is no JIT it is interpreted */
    return ESP_OK;
}
