/* text.c - reading files of text. */
#include "espalier/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/kind.h"
#include "text_impl.h"

#define MARK "\xEF\xBB\xBF" /* byte-order mark in UTF-8 */

/* Where the first byte is that text does not have, n when all is well. */
static size_t past_text(const char *s, size_t n)
{
    const char *zero = memchr(s, '\0', n);

    return esp_utf8_run(s, zero ? (size_t)(zero - s) : n);
}

static size_t line_of(const char *s, size_t at)
{
    size_t line = 1;

    for (size_t i = 0; i < at; i++) {
        line += s[i] == '\n';
    }
    return line;
}

static esp_status check(const char *s, size_t n, const char *path)
{
    size_t at;

    ESP_TRY(esp_kind_refuse(s, n, path));
    at = past_text(s, n);
    if (at == n) {
        return ESP_OK;
    }
    return s[at] == '\0'
               ? esp_fail(ESP_EFORMAT,
                          "%s: line %zu, byte offset %zu: a 0 byte, which text in UTF-8 does not "
                          "have: convert UTF-16 "
                          "with iconv, else give a file of text",
                          path, line_of(s, at), at)
               : esp_fail(
                     ESP_EFORMAT,
                     "%s: line %zu, byte offset %zu: 0x%02X is not UTF-8: convert the file first, "
                     "with iconv -f WINDOWS-1252 -t UTF-8 or from what it is in",
                     path, line_of(s, at), at, (unsigned)(uint8_t)s[at]);
}

bool esp_text_is_utf8(const char *s)
{
    size_t n = strlen(s);

    return esp_utf8_run(s, n) == n;
}

esp_status esp_text_read(char **text, size_t *n, const char *path)
{
    size_t mark = strlen(MARK);
    esp_status st;

    ESP_TRY(esp_file_read(text, n, path));
    st = check(*text, *n, path);
    if (st != ESP_OK) {
        free(*text);
        *text = NULL;
    } else if (*n >= mark && memcmp(*text, MARK, mark) == 0) {
        *n -= mark;
        memmove(*text, *text + mark, *n + 1);
    }
    return st;
}
