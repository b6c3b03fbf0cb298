/* pretokenize.c - replacing, rewriting, prefixing and splitting of pieces. */
#include "pretokenize_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

esp_pretokenize_op *esp_pretokenizer_add(esp_pretokenizer *s, esp_pretokenize_kind kind)
{
    s->step = esp_grow(s->step, s->n + 1, sizeof *s->step);
    s->step[s->n] = (esp_pretokenize_op){ .kind = kind };
    return &s->step[s->n++];
}

void esp_pretokenizer_add_replace(esp_pretokenizer *s, const char *literal, const char *text)
{
    esp_pretokenize_op *step = esp_pretokenizer_add(s, ESP_PRETOKENIZE_REPLACE);

    step->text = esp_strdup(text);
    ESP_REQUIRE(esp_pattern_compile(&step->pattern, literal, true) == ESP_OK);
}

void esp_pretokenizer_free(esp_pretokenizer *s)
{
    for (size_t i = 0; i < s->n; i++) {
        pcre2_code_free(s->step[i].pattern);
        free(s->step[i].text);
    }
    free(s->step);
    *s = (esp_pretokenizer){ 0 };
}

/* ---- pieces ---------------------------------------------------------------------------------------- */

void esp_pieces_clear(esp_pieces *p)
{
    p->n = p->text.n = 0;
}

void esp_pieces_add(esp_pieces *p, const char *s, size_t n)
{
    esp_bytes_add(&p->text, s, n);
    p->end = esp_grow_array(p->end, &p->capacity, p->n + 1, sizeof *p->end);
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
 * checked once: PCRE2's own check would read the rest of the piece again for every match. An empty match
 * counts, but not where the one before it ended. */
typedef struct matches {
    const pcre2_code *pattern;
    pcre2_match_data *data;
    bool may_be_empty;
    const char *s;
    size_t n, run, run_end; /* 0 <= run <= run_end <= n                 */
    size_t at;              /* next place to seek from, past run_end: none */
    size_t last;            /* end of the match before, SIZE_MAX: none  */
    int error;              /* of PCRE2, < 0; 0 when all went well      */
} matches;

static void begin_piece(matches *m, const char *s, size_t n)
{
    m->s = s;
    m->n = n;
    m->run = m->run_end = 0;
    m->at = 1;
    m->last = SIZE_MAX;
}

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

/* What pcre2_match answers at m->at; a pattern that needs more stack than its machine code has is
 * interpreted. */
static int seek(matches *m)
{
    PCRE2_SPTR run = (PCRE2_SPTR)m->s + m->run;
    size_t n = m->run_end - m->run, at = m->at - m->run;
    int found = pcre2_match(m->pattern, run, n, at, PCRE2_NO_UTF_CHECK, m->data, NULL);

    return found != PCRE2_ERROR_JIT_STACKLIMIT
               ? found
               : pcre2_match(m->pattern, run, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data,
                             NULL);
}

static bool next_match(matches *m, size_t *begin, size_t *end)
{
    do {
        while (m->at < m->run_end + m->may_be_empty) {
            int found = seek(m);
            const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);

            if (found == PCRE2_ERROR_NOMATCH) {
                break;
            }
            if (found < 0) {
                m->error = found;
                return false;
            }
            m->at = m->run + at[1];
            if (at[0] < at[1] || m->at != m->last) {
                *begin = m->run + at[0];
                *end = m->last = m->at;
                return true;
            }
            m->at += m->at < m->run_end ? esp_utf8_length(m->s + m->at, m->run_end - m->at) : 1;
        }
    } while (next_run(m));
    return false;
}

/* ---- steps ----------------------------------------------------------------------------------------- */

/* Steps that take characters away clear *at_start when one of them began the first piece. */
static void replace(const esp_pretokenize_op *step, esp_pieces *out, matches *m, bool *at_start)
{
    size_t at = 0, begin, end;

    esp_pieces_add(out, "", 0);
    while (next_match(m, &begin, &end)) {
        *at_start = *at_start && !(out->n == 1 && begin == 0 && end > 0 && !*step->text);
        extend_last(out, m->s + at, begin - at);
        extend_last(out, step->text, strlen(step->text));
        at = end;
    }
    extend_last(out, m->s + at, m->n - at);
}

static void prefix(const esp_pretokenize_op *step, esp_pieces *out, const char *s, size_t n,
                   bool at_start)
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

static void split(const esp_pretokenize_op *step, esp_pieces *out, matches *m, bool *at_start)
{
    int before = NOTHING;
    size_t at = 0;
    bool more;

    do {
        size_t begin = m->n, end = begin;

        more = next_match(m, &begin, &end);
        for (int i = 0; i < 2; i++) { /* the text before the match, the match */
            size_t from = i ? begin : at, to = i ? end : begin;
            int now = (i == 1) != step->invert ? MATCH : BETWEEN;

            if (from == to && !(i == 1 && more)) { /* an empty match cuts, too */
                continue;
            }
            if (step->split == ESP_SPLIT_REMOVED && now == MATCH) {
                *at_start = *at_start && (out->n > 0 || from == to);
                continue;
            }
            (joins(step->split, before, now) ? extend_last : esp_pieces_add)(out, m->s + from,
                                                                             to - from);
            before = now;
        }
        at = end;
    } while (more);
}

static void rewrite(const esp_pretokenize_op *step, esp_pieces *out, const char *s, size_t n,
                    bool *at_start)
{
    size_t before = out->text.n;
    bool ends_only = step->rewrite == esp_rewrite_no_right; /* what is left begins as before */

    if (*at_start && !ends_only && out->n == 0 && n > 0) {
        size_t length = esp_utf8_length(s, n);

        step->rewrite(&out->text, s, length ? length : 1);
        *at_start = out->text.n > before;
        out->text.n = before;
    }
    step->rewrite(&out->text, s, n);
    esp_pieces_add(out, "", 0);
}

static void drop_empty(esp_pieces *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n; i++) {
        if (p->end[i] > (i ? p->end[i - 1] : 0)) {
            p->end[n++] = p->end[i];
        }
    }
    p->n = n;
}

static void start(matches *m, const pcre2_code *pattern)
{
    uint32_t empty = 0;

    *m = (matches){ .pattern = pattern };
    if (pattern) {
        m->data = pcre2_match_data_create_from_pattern(pattern, NULL);
        ESP_REQUIRE(m->data);
        pcre2_pattern_info(pattern, PCRE2_INFO_MATCHEMPTY, &empty);
        m->may_be_empty = empty != 0;
    }
}

static esp_status run(const esp_pretokenize_op *step, esp_pieces *out, const esp_pieces *in,
                      bool *at_start)
{
    matches m;

    start(&m, step->pattern);
    esp_pieces_clear(out);
    for (size_t i = 0; i < in->n && m.error == 0; i++) {
        size_t n;
        const char *s = esp_pieces_at(in, i, &n);

        begin_piece(&m, s, n);
        switch (step->kind) {
        case ESP_PRETOKENIZE_REPLACE:
            replace(step, out, &m, at_start);
            break;
        case ESP_PRETOKENIZE_REWRITE:
            rewrite(step, out, s, n, at_start);
            break;
        case ESP_PRETOKENIZE_PREFIX:
            prefix(step, out, s, n, *at_start && i == 0);
            break;
        case ESP_PRETOKENIZE_SPLIT:
            split(step, out, &m, at_start);
            break;
        }
    }
    pcre2_match_data_free(m.data);
    if (step->kind == ESP_PRETOKENIZE_SPLIT) {
        drop_empty(out);
    }
    return m.error ? esp_fail(ESP_EFAILED, "PCRE2 gives up on a piece of %zu bytes, error %d", m.n,
                              m.error)
                   : ESP_OK;
}

esp_status esp_pretokenizer_run(const esp_pretokenizer *s, esp_pieces *p, esp_pieces *spare,
                                bool *at_start)
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
