/* tool_generate.c - greedy continuations of ids by a model folder, for comparison with other programs.
 *
 *     tool_generate MODEL IDS.txt N > IDS
 *
 * IDS.txt has one prompt a line; IDS has the N ids that follow it. No id ends a text.
 */
#include <stdio.h>
#include <stdlib.h>

#include "espalier/corpus.h"
#include "espalier/eval.h"
#include "espalier/log.h"

static void print_id(void *ctx, int32_t id)
{
    (void)ctx;
    printf("%d ", id);
}

static esp_status continue_all(const esp_model *m, const esp_samples *prompts, size_t n)
{
    const esp_generate_options o = { .tokens = n };
    esp_status st = ESP_OK;

    for (size_t j = 0; j < prompts->n && st == ESP_OK; j++) {
        esp_ids ids = { 0 };

        for (size_t t = prompts->start[j]; t < prompts->start[j + 1]; t++) {
            esp_ids_add(&ids, prompts->ids[t]);
        }
        st = esp_generate(&ids, m, &o, print_id, NULL);
        putchar('\n');
        esp_ids_free(&ids);
    }
    return st;
}

int main(int argc, char **argv)
{
    esp_model m = { 0 };
    esp_samples s = { 0 };
    esp_status st = ESP_EUSAGE;

    MPI_Init(&argc, &argv);
    esp_log_init(ESP_LOG_QUIET, true);
    if (argc == 4) {
        st = esp_model_load(&m, argv[1], MPI_COMM_SELF);
        m.eos = -1;
        st = st == ESP_OK ? esp_samples_read_ids(&s, argv[2], m.dims.max_positions, m.dims.vocab)
                          : st;
        st = st == ESP_OK ? continue_all(&m, &s, strtoul(argv[3], NULL, 10)) : st;
    }
    if (st != ESP_OK) {
        fprintf(stderr, "tool_generate: %s\n", argc == 4 ? esp_error_message() : "MODEL IDS.txt N");
    }
    esp_samples_free(&s);
    esp_model_free(&m);
    MPI_Finalize();
    return st == ESP_OK ? 0 : 1;
}
