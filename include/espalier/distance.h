/* distance.h - how far two words are apart, for messages that name what was meant. */
#ifndef ESPALIER_DISTANCE_H
#define ESPALIER_DISTANCE_H

#include <stdbool.h>
#include <stddef.h>

/* Levenshtein distance: bytes inserted, removed or changed on the way from a to b. Local. */
size_t esp_distance(const char *a, const char *b);

/* Whether a word at that distance from another may be a slip of it: distance <= 1 + length / 3. Local. */
bool esp_is_slip(const char *word, size_t distance);

#endif
