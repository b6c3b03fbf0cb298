/* pattern_impl.h - the patterns of tokenizer.json, which are written for Oniguruma in Ruby's syntax, as
 * PCRE2 reads them. */
#ifndef ESPALIER_PATTERN_IMPL_H
#define ESPALIER_PATTERN_IMPL_H

#include <stdbool.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "espalier/status.h"

/* Inner parts of a character class. Space: Unicode's White_Space (PCRE2's \s has U+180E too). Word:
 * Alphabetic, marks, decimal digits and connectors. */
#define ESP_SPACE_CLASS "\\t-\\r\\x{85}\\p{Z}"
#define ESP_WORD_CLASS                                                                         \
    "\\p{L}\\p{Nl}\\p{M}\\p{Nd}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{" \
    "1F169}"                                                                                   \
    "\\x{1F170}-\\x{1F189}"

/* The same pattern in PCRE2's syntax, the caller frees. ESP_EFORMAT for what PCRE2 cannot say or would
 * read as something else, named. Local. */
esp_status esp_pattern_translate(char **pcre, const char *pattern);

/* Compiles a pattern of PCRE2 (UTF, Unicode properties, ^ and $ at every line) or a literal string.
 * ESP_EFORMAT with PCRE2's message. Local. */
esp_status esp_pattern_compile(pcre2_code **p, const char *pattern, bool literal);

#endif
