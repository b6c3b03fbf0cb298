/* added.c - finding added tokens in a text. */
#include "added_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

esp_added *esp_added_new(esp_added_set *a)
{
    a->token = esp_grow(a->token, a->n + 1, sizeof *a->token);
    a->token[a->n] = (esp_added){ 0 };
    return &a->token[a->n++];
}

static int longest_first(const void *a, const void *b)
{
    size_t n = strlen(((const esp_added *)a)->sought), m = strlen(((const esp_added *)b)->sought);

    return n < m ? 1 : n > m ? -1 : 0;
}

void esp_added_sort(esp_added_set *a)
{
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
        size_t length = strlen(t->sought);

        if (t->normalized == normalized && length <= n && memcmp(s, t->sought, length) == 0) {
            return t;
        }
    }
    return NULL;
}

const esp_added *esp_added_find(const esp_added_set *a, bool normalized, const char *s, size_t n,
                                size_t from, size_t *begin, size_t *end)
{
    for (size_t at = from; at < n; at++) {
        const esp_added *t =
            a->begins[normalized][(uint8_t)s[at]] ? token_at(a, normalized, s + at, n - at) : NULL;

        if (t) {
            size_t space;

            *begin = at;
            *end = at + strlen(t->sought);
            while (t->lstrip && (space = esp_space_before(s + from, *begin - from)) > 0) {
                *begin -= space;
            }
            while (t->rstrip && (space = esp_space_length(s + *end, n - *end)) > 0) {
                *end += space;
            }
            return t;
        }
    }
    *begin = *end = n;
    return NULL;
}
