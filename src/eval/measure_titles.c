/* measure_titles.c - the titles that the tables of the measures have alike. */
#include "measures_impl.h"

void esp_print_titles(FILE *to, const char *rows, const char *count, const json_t *results,
                      const char *const *names, size_t n)
{
    fprintf(to, "\n%-26s %9s", rows, count);
    for (size_t i = 0; i < n; i++) {
        if (json_object_get(results, names[i])) {
            fprintf(to, "  %16s", names[i]);
        }
    }
    fputc('\n', to);
}
