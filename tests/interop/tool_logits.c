/* tool_logits.c - the logits of a model folder for samples of ids, for comparison with other programs.
 *
 *     tool_logits MODEL IDS.txt > LOGITS
 *
 * IDS.txt has one sample per line, all of them go through the model in one batch; LOGITS is f32 [tokens of
 * all samples, V]. */
#include <stdio.h>
#include <stdlib.h>

#include "espalier/corpus.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/pass.h"

static void write_logits(const esp_model *m, const esp_samples *s)
{
    size_t n_tok = s->start[s->n], V = m->dims.vocab, *pick;
    esp_batch batch;
    esp_pass pass;
    float *logits;

    ESP_NEW(pick, s->n);
    for (size_t j = 0; j < s->n; j++) {
        pick[j] = j;
    }
    ESP_NEW(logits, esp_samples_longest(s) * V);
    esp_model_batch_init(&batch, m, s->n, n_tok);
    esp_pass_init(&pass, m, (esp_pass_options){ .max_samples = s->n, .max_tok = n_tok });
    esp_batch_fill(&batch, s, pick, s->n);
    esp_pass_forward(&pass, NULL, &batch);
    for (size_t j = 0; j < s->n; j++) {
        size_t n = s->start[j + 1] - s->start[j];

        esp_pass_logits(logits, &pass, s->start[j], n);
        fwrite(logits, sizeof *logits, n * V, stdout);
    }
    esp_pass_free(&pass);
    esp_batch_free(&batch);
    free(logits);
    free(pick);
}

int main(int argc, char **argv)
{
    esp_model m = { 0 };
    esp_samples s = { 0 };
    esp_status st = ESP_EUSAGE;

    MPI_Init(&argc, &argv);
    esp_log_init(ESP_LOG_QUIET, true);
    if (argc == 3) {
        st = esp_model_load(&m, argv[1], MPI_COMM_SELF);
        st = st == ESP_OK ? esp_samples_read_ids(&s, argv[2], m.dims.max_positions, m.dims.vocab)
                          : st;
    }
    if (st == ESP_OK) {
        write_logits(&m, &s);
    } else {
        fprintf(stderr, "tool_logits: %s\n", argc == 3 ? esp_error_message() : "MODEL IDS.txt");
    }
    esp_samples_free(&s);
    esp_model_free(&m);
    MPI_Finalize();
    return st == ESP_OK ? 0 : 1;
}
