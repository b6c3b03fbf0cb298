/* added.c - finding added tokens in a text. */
#include "added_impl.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "espalier/mem.h"

esp_added *esp_added_new(esp_added_set *a)
{
    a->token = esp_grow(a->token, a->n + 1, sizeof *a->token);
    a->token[a->n] = (esp_added){ 0 };
    return &a->token[a->n++];
}

static int longest_first(const void *a, const void *b)
{
    size_t n = ((const esp_added *)a)->n, m = ((const esp_added *)b)->n;

    return n < m ? 1 : n > m ? -1 : 0;
}

void esp_added_sort(esp_added_set *a)
{
    for (size_t i = 0; i < a->n; i++) {
        a->token[i].n = strlen(a->token[i].sought);
    }
    if (a->n > 0) {
        qsort(a->token, a->n, sizeof *a->token, longest_first);
    }
    for (size_t i = 0; i < a->n; i++) {
        a->begins[a->token[i].normalized][(uint8_t)a->token[i].sought[0]] = true;
    }
}

void esp_added_free(esp_added_set *a)
{
    for (size_t i = 0; i < a->n; i++) {
        free(a->token[i].content);
        free(a->token[i].sought);
    }
    free(a->token);
    *a = (esp_added_set){ 0 };
}

static const esp_added *token_at(const esp_added_set *a, bool normalized, const char *s, size_t n)
{
    for (size_t i = 0; i < a->n; i++) {
        const esp_added *t = &a->token[i];

        if (t->normalized == normalized && t->n <= n && memcmp(s, t->sought, t->n) == 0) {
            return t;
        }
    }
    return NULL;
}

/* Letters, marks, decimal digits, connectors, joiners and letters in circles and squares. */
static bool is_word(const char *s, size_t n)
{
    size_t length = n > 0 ? esp_utf8_length(s, n) : 0;
    utf8proc_int32_t c;

    if (length == 0) {
        return false;
    }
    utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)length, &c);
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
               (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
               (c >= 0x1F170 && c <= 0x1F189);
    }
}

static bool stands_alone(const char *s, size_t n, size_t begin, size_t end)
{
    size_t before = begin;

    while (before > 0 && ((uint8_t)s[--before] & 0xC0) == 0x80) {
    }
    return !(begin > 0 && is_word(s + before, begin - before)) && !is_word(s + end, n - end);
}

esp_added_match esp_added_find(const esp_added_set *a, bool normalized, const char *s, size_t n,
                               size_t seek, size_t done)
{
    while (seek < n) {
        const esp_added *t = a->begins[normalized][(uint8_t)s[seek]]
                                 ? token_at(a, normalized, s + seek, n - seek)
                                 : NULL;
        esp_added_match m = { t, seek, seek + (t ? t->n : 1), 0 };
        size_t space;

        seek = m.seek = m.end;
        if (!t || (t->single_word && !stands_alone(s, n, m.begin, m.end))) {
            continue;
        }
        while (t->rstrip && (space = esp_space_length(s + m.end, n - m.end)) > 0) {
            m.end += space;
        }
        if (t->lstrip && m.end <= done) { /* white space that the token before took */
            continue;
        }
        while (t->lstrip && m.begin > done &&
               (space = esp_space_before(s + done, m.begin - done)) > 0) {
            m.begin -= space;
        }
        return m;
    }
    return (esp_added_match){ NULL, n, n, n };
}
