/* text_impl.c - a dictionary, UTF-8 and the byte alphabet. */
#include "text_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/status.h"

/* ---- dictionary: open addressing, FNV-1a ---------------------------------------------------------- */

static struct esp_dict_entry *find(const esp_dict *d, const char *key, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint8_t)key[i]) * UINT64_C(0x100000001b3);
    }
    for (size_t at = (h ^ h >> 32) & (d->capacity - 1);; at = (at + 1) & (d->capacity - 1)) {
        struct esp_dict_entry *e = &d->entry[at];

        if (!e->key || (e->n == n && memcmp(e->key, key, n) == 0)) {
            return e;
        }
    }
}

static void widen(esp_dict *d)
{
    esp_dict old = *d;

    d->capacity = old.capacity ? 2 * old.capacity : 64;
    ESP_NEW(d->entry, d->capacity);
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.entry[i].key) {
            *find(d, old.entry[i].key, old.entry[i].n) = old.entry[i];
        }
    }
    free(old.entry);
}

void esp_dict_put(esp_dict *d, const void *key, size_t n, int32_t value)
{
    struct esp_dict_entry *e;

    ESP_REQUIRE(n <= UINT32_MAX && value >= 0);
    if (2 * (d->n + 1) > d->capacity) {
        widen(d);
    }
    e = find(d, key, n);
    d->n += e->key == NULL;
    *e = (struct esp_dict_entry){ key, (uint32_t)n, value };
}

int32_t esp_dict_get(const esp_dict *d, const void *key, size_t n)
{
    struct esp_dict_entry *e = d->n ? find(d, key, n) : NULL;

    return e && e->key ? e->value : -1;
}

void esp_dict_free(esp_dict *d)
{
    free(d->entry);
    *d = (esp_dict){ 0 };
}

/* ---- UTF-8 (RFC 3629) ------------------------------------------------------------------------------ */

size_t esp_utf8_length(const char *s, size_t n)
{
    const uint8_t *c = (const uint8_t *)s;
    size_t length = c[0] < 0x80   ? 1
                    : c[0] < 0xC2 ? 0
                    : c[0] < 0xE0 ? 2
                    : c[0] < 0xF0 ? 3
                    : c[0] < 0xF5 ? 4
                                  : 0;

    if (length > n) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((c[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    if ((c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xED && c[1] > 0x9F) || /* overlong, surrogates */
        (c[0] == 0xF0 && c[1] < 0x90) ||
        (c[0] == 0xF4 && c[1] > 0x8F)) { /* overlong, past U+10FFFF */
        return 0;
    }
    return length;
}

size_t esp_utf8_run(const char *s, size_t n)
{
    size_t at = 0, step;

    do {
        for (uint64_t word; at + sizeof word <= n; at += sizeof word) { /* ASCII, eight at a time */
            memcpy(&word, s + at, sizeof word);
            if (word & UINT64_C(0x8080808080808080)) {
                break;
            }
        }
        step = at < n ? esp_utf8_length(s + at, n - at) : 0;
        at += step;
    } while (step > 0);
    return at;
}

size_t esp_utf8_begun(const char *s, size_t n)
{
    /* with these continuations a begun character is whole, if it can be */
    static const char *const ends[] = { "\x80\x80\x80", "\xA0\x80\x80", "\x90\x80\x80" };
    size_t begun = 1;

    for (size_t kept = 2; kept <= 3 && kept <= n; kept++) {
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
            char whole[7];

            memcpy(whole, s, kept);
            memcpy(whole + kept, ends[i], 4);
            begun = esp_utf8_length(whole, kept + 3) > kept ? kept : begun;
        }
    }
    return begun;
}

/* Unicode's White_Space, by UTF-8. */
size_t esp_space_length(const char *s, size_t n)
{
    static const char *const wide[] = { "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80",
                                        "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF",
                                        "\xE2\x81\x9F", "\xE3\x80\x80" };

    if (n > 0 && (*s == ' ' || (*s >= '\t' && *s <= '\r'))) {
        return 1;
    }
    if (n >= 3 && memcmp(s, "\xE2\x80", 2) == 0 && (uint8_t)s[2] >= 0x80 && (uint8_t)s[2] <= 0x8A) {
        return 3; /* U+2000 .. U+200A */
    }
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t length = strlen(wide[i]);

        if (n >= length && memcmp(s, wide[i], length) == 0) {
            return length;
        }
    }
    return 0;
}

size_t esp_space_before(const char *s, size_t n)
{
    for (size_t length = 1; length <= 3 && length <= n; length++) {
        if (esp_space_length(s + n - length, length) == length) {
            return length;
        }
    }
    return 0;
}

/* ---- bytes as characters --------------------------------------------------------------------------- */

/* Printable bytes stand for themselves, the others for U+0100 and on in their order. */
static unsigned alphabet_of(unsigned byte)
{
    if (byte <= 32) {
        return 256 + byte;
    }
    if (byte >= 127 && byte <= 160) {
        return 256 + 33 + (byte - 127);
    }
    return byte == 173 ? 256 + 33 + 34 : byte;
}

static int byte_of(unsigned point)
{
    if (point < 256) {
        return alphabet_of(point) == point ? (int)point : -1;
    }
    if (point <= 256 + 32) {
        return (int)point - 256;
    }
    if (point < 256 + 33 + 34) {
        return (int)point - 256 - 33 + 127;
    }
    return point == 256 + 33 + 34 ? 173 : -1;
}

size_t esp_alphabet_put(char out[2], uint8_t byte)
{
    unsigned point = alphabet_of(byte);

    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    out[0] = (char)(0xC0 | point >> 6);
    out[1] = (char)(0x80 | (point & 0x3F));
    return 2;
}

void esp_alphabet_back(esp_byte_string *b, const char *s, size_t n)
{
    size_t before = b->n;

    for (size_t at = 0; at < n;) {
        size_t length = esp_utf8_length(s + at, n - at);
        unsigned point = length == 1 ? (uint8_t)s[at]
                         : length == 2
                             ? ((uint8_t)s[at] & 0x1Fu) << 6 | ((uint8_t)s[at + 1] & 0x3Fu)
                             : UINT32_MAX;
        int byte = byte_of(point);
        char c = (char)byte;

        if (byte < 0) {
            b->n = before;
            esp_bytes_add(b, s, n);
            return;
        }
        esp_bytes_add(b, &c, 1);
        at += length;
    }
}

int esp_byte_piece(const char *s, size_t n)
{
    char digits[3] = { 0 };

    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') {
        return -1;
    }
    memcpy(digits, s + 3, 2);
    return strspn(digits, "0123456789ABCDEFabcdef") == 2 ? (int)strtol(digits, NULL, 16) : -1;
}
