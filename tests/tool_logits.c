/* tool_logits.c - the logits of a model folder for samples of ids, for comparison with other programs.
 *
 *     tool_logits MODEL IDS.txt > LOGITS
 *
 * IDS.txt has one sample a line; LOGITS is f32 [tokens of all samples, V].
 */
#include <stdio.h>
#include <stdlib.h>

#include "espalier/corpus.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/pass.h"

static void write_logits(const esp_model *m, const esp_samples *s)
{
    size_t n_tok = esp_samples_longest(s), V = m->dims.vocab;
    esp_batch batch;
    esp_pass pass;
    float *logits;

    ESP_NEW(logits, n_tok * V);
    esp_model_batch_init(&batch, m, 1, n_tok);
    esp_pass_init(&pass, m, (esp_pass_options){ .max_samples = 1, .max_tok = n_tok });
    for (size_t j = 0; j < s->n; j++) {
        esp_batch_fill(&batch, s, &j, 1);
        esp_pass_forward(&pass, NULL, &batch);
        esp_pass_logits(logits, &pass, 0, batch.n_tok);
        fwrite(logits, sizeof *logits, batch.n_tok * V, stdout);
    }
    esp_pass_free(&pass);
    esp_batch_free(&batch);
    free(logits);
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
