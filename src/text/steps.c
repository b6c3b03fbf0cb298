/* steps.c - replacing, prefixing, splitting and byte-mapping of pieces. */
#include "steps_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

esp_step *esp_steps_add(esp_steps *s, esp_step_kind kind)
{
    s->step = esp_grow(s->step, s->n + 1, sizeof *s->step);
    s->step[s->n] = (esp_step){ .kind = kind };
    return &s->step[s->n++];
}

void esp_steps_free(esp_steps *s)
{
    for (size_t i = 0; i < s->n; i++) {
        pcre2_code_free(s->step[i].pattern);
        free(s->step[i].text);
    }
    free(s->step);
    *s = (esp_steps){ 0 };
}

/* Files write "[^(\\s|[.,!?])]" for a class within a class, their union, which PCRE2 does not know: the
 * same without the inner brackets. An inner class that is negated, or POSIX's, stays as it is. */
static char *flatten_classes(const char *pattern)
{
    size_t n = strlen(pattern), depth = 0;
    char *flat = esp_calloc(n + 1, 1), *to = flat;

    for (const char *c = pattern; *c; c++) {
        if (*c == '\\' && c[1]) {
            *to++ = *c++;
            *to++ = *c;
        } else if (*c == '[' && !(depth > 0 && (c[1] == '^' || c[1] == ':'))) {
            if (depth++ == 0) {
                *to++ = *c;
            }
        } else if (*c != ']' || depth <= 1) {
            depth -= *c == ']' && depth == 1;
            *to++ = *c;
        } else {
            depth--;
        }
    }
    return flat;
}

esp_status esp_pattern_compile(pcre2_code **p, const char *pattern, bool literal)
{
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP);
    char *flat = literal ? esp_strdup(pattern) : flatten_classes(pattern);
    int code;
    PCRE2_SIZE where;

    *p = pcre2_compile((PCRE2_SPTR)flat, PCRE2_ZERO_TERMINATED, options, &code, &where, NULL);
    free(flat);
    if (!*p) {
        char why[128];

        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return esp_fail(ESP_EFORMAT, "pattern \"%s\" at character %zu: %s", pattern, where, why);
    }
    pcre2_jit_compile(*p, PCRE2_JIT_COMPLETE); /* where there is no JIT it is interpreted */
    return ESP_OK;
}

/* ---- pieces ---------------------------------------------------------------------------------------- */

void esp_pieces_clear(esp_pieces *p)
{
    p->n = p->text.n = 0;
}

void esp_pieces_add(esp_pieces *p, const char *s, size_t n)
{
    esp_bytes_add(&p->text, s, n);
    p->end = esp_room(p->end, &p->room, p->n + 1, sizeof *p->end);
    p->end[p->n++] = p->text.n;
}

static void extend_last(esp_pieces *p, const char *s, size_t n)
{
    esp_bytes_add(&p->text, s, n);
    p->end[p->n - 1] = p->text.n;
}

const char *esp_pieces_at(const esp_pieces *p, size_t i, size_t *n)
{
    size_t begin = i ? p->end[i - 1] : 0;

    *n = p->end[i] - begin;
    return p->text.data ? p->text.data + begin : "";
}

void esp_pieces_free(esp_pieces *p)
{
    esp_bytes_free(&p->text);
    free(p->end);
    *p = (esp_pieces){ 0 };
}

/* ---- matches --------------------------------------------------------------------------------------- */

/* Matches of a pattern in a piece, one after another, within its runs of well-formed UTF-8. A run is
 * checked once: PCRE2's own check would read the rest of the piece again for every match. */
typedef struct matches {
    const pcre2_code *pattern;
    pcre2_match_data *data;
    const char *s;
    size_t n, run, run_end, at; /* 0 <= run <= at <= run_end <= n */
    int error;                  /* of PCRE2, < 0; 0 when all went well */
} matches;

static bool next_run(matches *m)
{
    while (m->run_end < m->n) {
        m->run = m->at = m->run_end;
        m->run_end += esp_utf8_run(m->s + m->run, m->n - m->run);
        if (m->run_end > m->run) {
            return true;
        }
        m->run_end++; /* a byte that is part of no character */
    }
    return false;
}

static bool next_match(matches *m, size_t *begin, size_t *end)
{
    do {
        int found =
            m->at == m->run_end
                ? PCRE2_ERROR_NOMATCH
                : pcre2_match(m->pattern, (PCRE2_SPTR)m->s + m->run, m->run_end - m->run,
                              m->at - m->run, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, m->data, NULL);

        if (found > 0) {
            const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);

            *begin = m->run + at[0];
            *end = m->at = m->run + at[1];
            return true;
        }
        if (found != PCRE2_ERROR_NOMATCH) {
            m->error = found;
            return false;
        }
    } while (next_run(m));
    return false;
}

/* ---- steps ----------------------------------------------------------------------------------------- */

static void replace(const esp_step *step, esp_pieces *out, matches *m)
{
    size_t at = 0, begin, end;

    esp_pieces_add(out, "", 0);
    while (next_match(m, &begin, &end)) {
        extend_last(out, m->s + at, begin - at);
        extend_last(out, step->text, strlen(step->text));
        at = end;
    }
    extend_last(out, m->s + at, m->n - at);
}

static void prefix(const esp_step *step, esp_pieces *out, const char *s, size_t n, bool at_start)
{
    size_t n_text = strlen(step->text);
    bool there = n >= n_text && memcmp(s, step->text, n_text) == 0;
    bool wanted = step->prefix == ESP_PREFIX_EVERY ||
                  (!there && (step->prefix == ESP_PREFIX_UNLESS_THERE || at_start));

    esp_pieces_add(out, step->text, wanted && n > 0 ? n_text : 0);
    extend_last(out, s, n);
}

enum { NOTHING = -1, BETWEEN, MATCH };

/* Whether a span goes to the piece before it, by what that piece is. */
static bool joins(esp_split split, int before, int now)
{
    switch (split) {
    case ESP_SPLIT_CONTIGUOUS:
        return before == now;
    case ESP_SPLIT_PREVIOUS:
        return before == BETWEEN && now == MATCH;
    case ESP_SPLIT_NEXT:
        return before == MATCH && now == BETWEEN;
    default:
        return false;
    }
}

static void split(const esp_step *step, esp_pieces *out, matches *m)
{
    int before = NOTHING;
    size_t at = 0;
    bool more;

    do {
        size_t begin = m->n, end = m->n;

        more = next_match(m, &begin, &end);
        for (int i = 0; i < 2; i++) { /* the text before the match, the match */
            size_t from = i ? begin : at, to = i ? end : begin;
            int now = (i == 1) != step->invert ? MATCH : BETWEEN;

            if (from == to || (step->split == ESP_SPLIT_REMOVED && now == MATCH)) {
                continue;
            }
            (joins(step->split, before, now) ? extend_last : esp_pieces_add)(out, m->s + from,
                                                                             to - from);
            before = now;
        }
        at = end;
    } while (more);
}

static void to_alphabet(esp_pieces *out, const char *s, size_t n)
{
    char c[2];

    esp_pieces_add(out, "", 0);
    for (size_t i = 0; i < n; i++) {
        extend_last(out, c, esp_alphabet_put(c, (uint8_t)s[i]));
    }
}

static esp_status run(const esp_step *step, esp_pieces *out, const esp_pieces *in, bool at_start)
{
    matches m = { .pattern = step->pattern };

    if (m.pattern) {
        m.data = pcre2_match_data_create_from_pattern(m.pattern, NULL);
        ESP_REQUIRE(m.data);
    }
    esp_pieces_clear(out);
    for (size_t i = 0; i < in->n && m.error == 0; i++) {
        m.s = esp_pieces_at(in, i, &m.n);
        m.run = m.run_end = m.at = 0;
        switch (step->kind) {
        case ESP_STEP_REPLACE:
            replace(step, out, &m);
            break;
        case ESP_STEP_PREFIX:
            prefix(step, out, m.s, m.n, at_start && i == 0);
            break;
        case ESP_STEP_SPLIT:
            split(step, out, &m);
            break;
        case ESP_STEP_BYTES:
            to_alphabet(out, m.s, m.n);
            break;
        }
    }
    pcre2_match_data_free(m.data);
    return m.error ? esp_fail(ESP_EFAILED, "PCRE2 gives up on a piece of %zu bytes, error %d", m.n,
                              m.error)
                   : ESP_OK;
}

esp_status esp_steps_run(const esp_steps *s, esp_pieces *p, esp_pieces *spare, bool at_start)
{
    for (size_t i = 0; i < s->n; i++) {
        esp_pieces made;

        ESP_TRY(run(&s->step[i], spare, p, at_start));
        made = *spare;
        *spare = *p;
        *p = made;
    }
    return ESP_OK;
}
