/* tool_tokens.c - a token file of documents that are ids already, as no tokenizer would make them.
 *
 *     tool_tokens IDS.txt OUT.h5
 *
 * IDS.txt has one document a line.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "espalier/corpus.h"
#include "espalier/h5.h"
#include "espalier/log.h"
#include "espalier/mem.h"

static esp_status write_all(esp_h5 *f, const esp_samples *s, const int64_t *start,
                            const int64_t *prompt)
{
    size_t n_start = s->n + 1;

    ESP_TRY(esp_h5_write(f, "/ids", H5T_NATIVE_INT32, 1, &s->start[s->n], s->ids));
    ESP_TRY(esp_h5_write(f, "/start", H5T_NATIVE_INT64, 1, &n_start, start));
    ESP_TRY(esp_h5_write(f, "/prompt", H5T_NATIVE_INT64, 1, &s->n, prompt));
    ESP_TRY(esp_h5_set_string(f, "/", "corpus", "ids"));
    return esp_h5_set_string(f, "/", "tokenizer", "none");
}

static esp_status save(const char *path, const esp_samples *s)
{
    esp_h5 f = { 0 };
    int64_t *start, *prompt;
    esp_status st = esp_h5_create(&f, path);

    ESP_NEW(start, s->n + 1);
    ESP_NEW(prompt, s->n);
    for (size_t j = 0; j <= s->n; j++) {
        start[j] = (int64_t)s->start[j];
    }
    st = esp_h5_close(&f, st == ESP_OK ? write_all(&f, s, start, prompt) : st);
    free(start);
    free(prompt);
    return st;
}

int main(int argc, char **argv)
{
    esp_samples s = { 0 };
    esp_status st = ESP_EUSAGE;

    MPI_Init(&argc, &argv);
    esp_log_init(ESP_LOG_QUIET, true);
    if (argc == 3) {
        st = esp_samples_read_ids(&s, argv[1], INT_MAX, INT_MAX);
        st = st == ESP_OK ? save(argv[2], &s) : st;
    }
    if (st != ESP_OK) {
        fprintf(stderr, "tool_tokens: %s\n", argc == 3 ? esp_error_message() : "IDS.txt OUT.h5");
    }
    esp_samples_free(&s);
    MPI_Finalize();
    return st == ESP_OK ? 0 : 1;
}
