/* wide_numbers.c - whole numbers of more than 32 bits in the text of a libconfig file. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/text.h"
#include "config_impl.h"

/* Length of a string or a comment that begins here, 0 where neither does. */
static size_t opaque_length(const char *at)
{
    size_t n = 1;

    if (*at == '"') {
        while (at[n] && at[n] != '"') {
            n += at[n] == '\\' && at[n + 1] ? 2 : 1;
        }
        return n + (at[n] == '"');
    }
    if (strncmp(at, "/*", 2) == 0) {
        const char *end = strstr(at + 2, "*/");

        return end ? (size_t)(end + 2 - at) : strlen(at);
    }
    return *at == '#' || strncmp(at, "//", 2) == 0 ? strcspn(at, "\n") : 0;
}

/* A word of n characters as a whole number, by what it needs. */
typedef enum width { NO_NUMBER, NARROW, WIDE, TOO_WIDE } width;

static width width_of(const char *word, size_t n)
{
    size_t sign = *word == '-' || *word == '+';
    bool hex = strncasecmp(word + sign, "0x", 2) == 0;
    char *end;
    long long v;

    errno = 0;
    v = strtoll(word, &end, hex ? 16 : 10);
    if (end == word || end + strspn(end, "L") != word + n) {
        return NO_NUMBER;
    }
    if (errno == ERANGE) {
        return TOO_WIDE;
    }
    return end == word + n && (v > INT_MAX || v < INT_MIN) ? WIDE : NARROW;
}

static size_t line_of(const char *text, const char *at)
{
    size_t line = 1;

    for (; text < at; text++) {
        line += *text == '\n';
    }
    return line;
}

/* The length of what begins here and is looked at as one: a string, a comment, a word, else a character.
 * needs [out]: as a whole number. */
static size_t token_length(width *needs, const char *at)
{
    static const char word[] = "0123456789+-*._"
                               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t skip = opaque_length(at), n = skip ? skip : strspn(at, word);

    *needs = skip || n == 0 ? NO_NUMBER : width_of(at, n);
    return n ? n : 1;
}

static esp_status refuse_number(const char *text, const char *at, size_t n, const char *file)
{
    return esp_fail(ESP_EUSAGE,
                    "%s:%zu: %.*s: whole numbers end at %lld; a larger one that need not be whole "
                    "has an exponent, as 1e20",
                    file, line_of(text, at), (int)n, at, LLONG_MAX);
}

/* libconfig reads an included file itself, where no L can be put behind a number. ESP_EUSAGE where one is
 * missing; a file that cannot be read is libconfig's to tell. */
static esp_status check_included(const char *file)
{
    char *text;
    size_t n_text, n;
    width needs;
    esp_status st = ESP_OK;

    if (esp_text_read(&text, &n_text, file) != ESP_OK) {
        esp_error_clear();
        return ESP_OK;
    }
    for (const char *at = text; *at && st == ESP_OK; at += n) {
        n = token_length(&needs, at);
        if (needs == TOO_WIDE) {
            st = refuse_number(text, at, n, file);
        } else if (needs == WIDE) {
            st =
                esp_fail(ESP_EUSAGE,
                         "%s:%zu: %.*s: in a file that another one includes, a number of more than "
                         "32 bits ends with L: %.*sL",
                         file, line_of(text, at), (int)n, at, (int)n, at);
        }
    }
    free(text);
    return st;
}

/* Checks the file that a line @include "FILE" names, if this is one. */
static esp_status check_include(const char *at)
{
    const char *begin = at + strlen("@include");
    size_t n;
    char *file;
    esp_status st;

    if (strncmp(at, "@include", strlen("@include")) != 0) {
        return ESP_OK;
    }
    begin += strspn(begin, " \t");
    n = *begin == '"' ? strcspn(begin + 1, "\"\n") : 0;
    file = esp_format("%.*s", (int)n, begin + 1);
    st = n > 0 ? check_included(file) : ESP_OK;
    free(file);
    return st;
}

esp_status esp_config_widen(char **wide, const char *text, const char *file)
{
    char *to = *wide = esp_calloc(2 * strlen(text) + 1, 1);
    width needs;
    size_t n;

    for (const char *at = text; *at; at += n) {
        n = token_length(&needs, at);
        if (needs == TOO_WIDE) {
            return refuse_number(text, at, n, file);
        }
        ESP_TRY(check_include(at));
        memcpy(to, at, n);
        to += n;
        if (needs == WIDE) {
            *to++ = 'L';
        }
    }
    return ESP_OK;
}
