/* distance.h - how far two words are apart, for messages that name what was meant. */
#ifndef ESPALIER_DISTANCE_H
#define ESPALIER_DISTANCE_H

#include <stdbool.h>
#include <stddef.h>

/* Levenshtein distance: single-character edits from a to b. Local. */
size_t esp_distance(const char *a, const char *b);

/* Whether a word may have been meant by another at that distance: a slip or two, not another word. Local. */
bool esp_is_slip(const char *word, size_t distance);

#endif
