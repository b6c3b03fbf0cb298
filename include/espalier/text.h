/* text.h - files of text, and what is none. */
#ifndef ESPALIER_TEXT_H
#define ESPALIER_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "espalier/status.h"

/* text [out, owned]: a whole file of *n bytes of UTF-8, without a byte-order mark at its beginning and with a
 * 0 byte after its end. ESP_EFORMAT for a known kind of something else (kind.h), and for a 0 byte or bytes
 * that are not UTF-8, with line and byte offset (from 0); else as esp_file_read. *text is NULL then.
 * Local. */
esp_status esp_text_read(char **text, size_t *n, const char *path);

/* Whether a string is well-formed UTF-8. Local. */
bool esp_text_is_utf8(const char *s);

#endif
