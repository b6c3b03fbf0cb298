/* rewrite.c - normalizing text, with utf8proc for what Unicode's tables say. */
#include "rewrite_impl.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "espalier/status.h"

#define MAX_PARTS 18 /* characters that one becomes at most (U+FDFA) */

static void put(esp_byte_string *out, utf8proc_int32_t c)
{
    utf8proc_uint8_t bytes[4];

    esp_bytes_add(out, (const char *)bytes, (size_t)utf8proc_encode_char(c, bytes));
}

/* ---- normal forms ---------------------------------------------------------------------------------- */

typedef struct points {
    utf8proc_int32_t *c; /* [n] owned */
    size_t n, capacity;
} points;

static void decompose(points *p, const char *s, size_t n, utf8proc_option_t form)
{
    utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (form & UTF8PROC_COMPAT);

    for (size_t at = 0; at < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t made;

        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s + at, (utf8proc_ssize_t)(n - at),
                                       &c);
        p->c = esp_grow_array(p->c, &p->capacity, p->n + MAX_PARTS, sizeof *p->c);
        made = utf8proc_decompose_char(c, p->c + p->n, MAX_PARTS, how, NULL);
        ESP_REQUIRE(made >= 0 && made <= MAX_PARTS);
        p->n += (size_t)made;
    }
}

static uint64_t class_of(utf8proc_int32_t c)
{
    return (uint64_t)utf8proc_get_property(c)->combining_class;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Marks one after another go by class, those of one class as they came (canonical ordering; that of
 * utf8proc takes quadratic time). */
static void order_marks(points *p)
{
    uint64_t *key = NULL;
    size_t capacity = 0;

    for (size_t at = 0, end; at < p->n; at = end + 1) {
        for (end = at; end < p->n && class_of(p->c[end]) > 0; end++) {
        }
        if (end - at < 2) {
            continue;
        }
        key = esp_grow_array(key, &capacity, end - at, sizeof *key);
        for (size_t i = at; i < end; i++) { /* class, place, character: 8, 35 and 21 bits */
            key[i - at] = class_of(p->c[i]) << 56 | (uint64_t)(i - at) << 21 | (uint32_t)p->c[i];
        }
        qsort(key, end - at, sizeof *key, by_size);
        for (size_t i = at; i < end; i++) {
            p->c[i] = (utf8proc_int32_t)(key[i - at] & 0x1FFFFF);
        }
    }
    free(key);
}

static void compose(esp_byte_string *out, utf8proc_int32_t *c, size_t n, utf8proc_option_t form)
{
    utf8proc_ssize_t left = utf8proc_normalize_utf32(c, (utf8proc_ssize_t)n,
                                                     UTF8PROC_STABLE | (form & UTF8PROC_COMPOSE));

    ESP_REQUIRE(left >= 0);
    for (utf8proc_ssize_t i = 0; i < left; i++) {
        put(out, c[i]);
    }
}

/* below: the first byte of the first character that the form may change. */
static void to_form(esp_byte_string *out, const char *s, size_t n, unsigned below,
                    utf8proc_option_t form)
{
    points p = { 0 };
    size_t plain = 0, end;

    while (plain < n && (uint8_t)s[plain] < below) {
        plain++;
    }
    if (plain == n) {
        esp_bytes_add(out, s, n);
        return;
    }
    decompose(&p, s, n, form);
    order_marks(&p);
    for (size_t at = 0; at < p.n; at = end) { /* utf8proc loses U+11A7 after a Hangul syllable */
        for (end = at + 1; end < p.n && p.c[end] != 0x11A7; end++) {
        }
        compose(out, p.c + at, end - at, form);
    }
    free(p.c);
}

/* ---- character by character ------------------------------------------------------------------------ */

/* Appends what becomes of one character. */
typedef void change(esp_byte_string *out, utf8proc_int32_t c);

static void on_characters(esp_byte_string *out, const char *s, size_t n, change *put_changed)
{
    for (size_t at = 0; at < n;) {
        utf8proc_int32_t c;

        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s + at, (utf8proc_ssize_t)(n - at),
                                       &c);
        put_changed(out, c);
    }
}

static void put_lower(esp_byte_string *out, utf8proc_int32_t c)
{
    if (c == 0x130) { /* the one whose small form is two characters */
        esp_bytes_add(out, "i\xCC\x87", 3);
    } else {
        put(out, utf8proc_tolower(c));
    }
}

static void put_title(esp_byte_string *out, utf8proc_int32_t c)
{
    put(out, utf8proc_totitle(c));
}

static void put_unless_mark(esp_byte_string *out, utf8proc_int32_t c)
{
    utf8proc_category_t kind = utf8proc_category(c);

    if (kind != UTF8PROC_CATEGORY_MN && kind != UTF8PROC_CATEGORY_MC &&
        kind != UTF8PROC_CATEGORY_ME) {
        put(out, c);
    }
}

static void put_unless_nonspace(esp_byte_string *out, utf8proc_int32_t c)
{
    if (utf8proc_category(c) != UTF8PROC_CATEGORY_MN) {
        put(out, c);
    }
}

static void put_nmt(esp_byte_string *out, utf8proc_int32_t c)
{
    if ((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
        c == 0x8F || c == 0x9F) {
        return;
    }
    if ((c >= 0x09 && c <= 0x0D) || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 ||
        c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD) {
        c = ' ';
    }
    put(out, c);
}

static void put_bert_clean(esp_byte_string *out, utf8proc_int32_t c)
{
    utf8proc_category_t kind = utf8proc_category(c);

    if (c == '\t' || c == '\n' || c == '\r' || kind == UTF8PROC_CATEGORY_ZS ||
        kind == UTF8PROC_CATEGORY_ZL || kind == UTF8PROC_CATEGORY_ZP) {
        put(out, ' ');
    } else if (kind != UTF8PROC_CATEGORY_CC && kind != UTF8PROC_CATEGORY_CF &&
               kind != UTF8PROC_CATEGORY_CO && c != 0xFFFD) {
        put(out, c);
    }
}

static void put_bert_chinese(esp_byte_string *out, utf8proc_int32_t c)
{
    static const utf8proc_int32_t chinese[][2] = {
        { 0x3400, 0x4DBF },   { 0x4E00, 0x9FFF },   { 0xF900, 0xFAFF },   { 0x20000, 0x2A6DF },
        { 0x2A700, 0x2B81F }, { 0x2B920, 0x2CEAF }, { 0x2F800, 0x2FA1F },
    };
    bool inside = false;

    for (size_t i = 0; i < sizeof chinese / sizeof *chinese; i++) {
        inside = inside || (c >= chinese[i][0] && c <= chinese[i][1]);
    }
    esp_bytes_add(out, " ", inside);
    put(out, c);
    esp_bytes_add(out, " ", inside);
}

/* ---- well-formed runs ------------------------------------------------------------------------------ */

/* What becomes of well-formed UTF-8: each character is changed, or all of it is put into a normal form. */
typedef struct rewriting {
    change *each; /* NULL: the form */
    unsigned below;
    utf8proc_option_t form; /* of to_form */
} rewriting;

static void rewrite(esp_byte_string *out, const char *s, size_t n, rewriting how)
{
    for (size_t at = 0; at < n;) {
        size_t run = esp_utf8_run(s + at, n - at);

        if (run == 0) { /* a byte that stays */
            esp_bytes_add(out, s + at, 1);
        } else if (how.each) {
            on_characters(out, s + at, run, how.each);
        } else {
            to_form(out, s + at, run, how.below, how.form);
        }
        at += run ? run : 1;
    }
}

void esp_rewrite_nfc(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .below = 0xCC, .form = UTF8PROC_COMPOSE }); /* U+0300 */
}

void esp_rewrite_nfd(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .below = 0x80, .form = UTF8PROC_DECOMPOSE });
}

void esp_rewrite_nfkc(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .below = 0x80, .form = UTF8PROC_COMPOSE | UTF8PROC_COMPAT });
}

void esp_rewrite_nfkd(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .below = 0x80, .form = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT });
}

void esp_rewrite_lowercase(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .each = put_lower });
}

void esp_rewrite_titlecase(esp_byte_string *out, const char *s, size_t n)
{
    on_characters(out, s, n, put_title);
}

void esp_rewrite_no_marks(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .each = put_unless_mark });
}

void esp_rewrite_no_nonspace(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .each = put_unless_nonspace });
}

void esp_rewrite_nmt(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .each = put_nmt });
}

void esp_rewrite_bert_clean(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .each = put_bert_clean });
}

void esp_rewrite_bert_chinese(esp_byte_string *out, const char *s, size_t n)
{
    rewrite(out, s, n, (rewriting){ .each = put_bert_chinese });
}

/* ---- ends, bytes ----------------------------------------------------------------------------------- */

void esp_rewrite_no_left(esp_byte_string *out, const char *s, size_t n)
{
    size_t space;

    while ((space = esp_space_length(s, n)) > 0) {
        s += space;
        n -= space;
    }
    esp_bytes_add(out, s, n);
}

void esp_rewrite_no_right(esp_byte_string *out, const char *s, size_t n)
{
    size_t space;

    while ((space = esp_space_before(s, n)) > 0) {
        n -= space;
    }
    esp_bytes_add(out, s, n);
}

void esp_rewrite_alphabet(esp_byte_string *out, const char *s, size_t n)
{
    char c[2];

    for (size_t i = 0; i < n; i++) {
        esp_bytes_add(out, c, esp_alphabet_put(c, (uint8_t)s[i]));
    }
}
