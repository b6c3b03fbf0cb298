/* tokenizer_checks.h - writing small files and checking what a tokenizer does with a text; shared by the
 * tests of both kinds of tokenizer. */
#ifndef ESPALIER_TEST_TOKENIZER_CHECKS_H
#define ESPALIER_TEST_TOKENIZER_CHECKS_H

#include "test.h"

#include <stdbool.h>

#include "espalier/file.h"
#include "espalier/tokenizer.h"

/* Text that grows; ` becomes ". */
typedef struct page {
    char *text;
    size_t n;
} page;

static inline void put(page *p, const char *s)
{
    size_t n = strlen(s);

    p->text = esp_grow(p->text, p->n + n + 1, 1);
    for (size_t i = 0; i <= n; i++) {
        p->text[p->n + i] = s[i];
        if (s[i] == '`') {
            p->text[p->n + i] = '"';
        }
    }
    p->n += n;
}

/* Writes a file of the folder and forgets the page. */
static inline void write_page(const char *dir, const char *name, page *p)
{
    char *path = esp_path(dir, name);

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, p->text, p->n), ESP_OK);
    free(path);
    free(p->text);
    *p = (page){ 0 };
}

static inline void write_text(const char *dir, const char *name, const char *text)
{
    page p = { 0 };

    put(&p, text);
    write_page(dir, name, &p);
}

/* ---- checks ---------------------------------------------------------------------------------------- */

static inline esp_tokenizer *open_dir(const char *dir)
{
    esp_tokenizer *t = NULL;

    if (esp_tokenizer_open(&t, dir) != ESP_OK) {
        printf("  %s\n", esp_error_message());
        CU_FAIL("the tokenizer does not open");
    }
    return t;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define LIST(...)    ((const int32_t[]){ __VA_ARGS__ })
#define IDS(...)     LIST(__VA_ARGS__), COUNT(LIST(__VA_ARGS__))

static inline int gives(const esp_tokenizer *t, const char *text, bool special, const int32_t *want,
                        size_t n)
{
    esp_ids ids = { 0 };
    int same = t && esp_tokenizer_encode(t, &ids, text, strlen(text), special) == ESP_OK &&
               ids.n == n && memcmp(ids.id, want, n * sizeof *want) == 0;

    for (size_t i = 0; !same && i < ids.n; i++) {
        printf("%s%d%s", i ? ", " : "  got ", ids.id[i], i + 1 < ids.n ? "" : "\n");
    }
    esp_ids_free(&ids);
    return same;
}
#define GIVES(t, text, special, ...) CU_ASSERT(gives(t, text, special, IDS(__VA_ARGS__)))

static inline int goes_round(const esp_tokenizer *t, const char *text, size_t n)
{
    esp_ids ids = { 0 };
    char *back = NULL;
    size_t n_back = 0;
    int same = t && esp_tokenizer_encode(t, &ids, text, n, false) == ESP_OK &&
               esp_tokenizer_decode(t, &back, &n_back, ids.id, ids.n, false) == ESP_OK &&
               n_back == n && memcmp(back, text, n) == 0;

    if (!same) {
        printf("  %zu bytes became %zu ids and %zu bytes\n", n, ids.n, n_back);
    }
    free(back);
    esp_ids_free(&ids);
    return same;
}
#define GOES_ROUND(t, text) CU_ASSERT(goes_round(t, text, sizeof(text) - 1))

static inline int reads(const esp_tokenizer *t, const char *want, bool skip_special,
                        const int32_t *ids, size_t n)
{
    char *text = NULL;
    int same = t && esp_tokenizer_decode(t, &text, NULL, ids, n, skip_special) == ESP_OK &&
               strcmp(text, want) == 0;

    if (!same) {
        printf("  \"%s\"\n", text ? text : esp_error_message());
    }
    free(text);
    return same;
}
#define READS(t, want, skip_special, ...) CU_ASSERT(reads(t, want, skip_special, IDS(__VA_ARGS__)))

#define SENTENCE "Once upon a time, there was a little girl named Lily."

static inline void file_goes_round(const esp_tokenizer *t, const char *below)
{
    char *path = esp_test_shared(below), *text;
    size_t n;

    if (path && esp_file_read(&text, &n, path) == ESP_OK) {
        CU_ASSERT(goes_round(t, text, n));
        free(text);
    }
    free(path);
}

#endif
