/* distance.c - single-character edits between words. */
#include "espalier/distance.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

size_t esp_distance(const char *a, const char *b)
{
    size_t m = strlen(b), result, *row;

    ESP_NEW(row, m + 1);
    for (size_t j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0]; /* of row i, column j */

        row[0] = i + 1;
        for (size_t j = 0; j < m; j++) {
            size_t best = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            best = esp_min(best, diagonal + 1);
            row[j + 1] = esp_min(best, row[j] + 1);
        }
    }
    result = row[m];
    free(row);
    return result;
}

bool esp_is_slip(const char *word, size_t distance)
{
    return distance <= 1 + strlen(word) / 3;
}
