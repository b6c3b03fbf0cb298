/* sparse_loss.c - the loss where few positions have a target, as in the choices of a question.
 *
 * Letters: D model width, V vocabulary.
 */
#include <string.h>

#include "espalier/mem.h"
#include "head_impl.h"

bool esp_is_sparse(const esp_batch *batch)
{
    size_t n = 0;

    for (size_t t = 0; t < batch->n_tok; t++) {
        n += batch->targets[t] != ESP_NO_TARGET;
    }
    return n <= batch->n_tok / 2;
}

/* Copies rows with a target from *t on, at most a run of them, and moves *t past them. Returns how many. */
static size_t pick_rows(esp_head_and_norm *h, size_t *t, const float *hidden, size_t D,
                        const esp_batch *batch)
{
    size_t n = 0;

    for (; *t < batch->n_tok && n < h->run; (*t)++) {
        if (batch->targets[*t] != ESP_NO_TARGET) {
            memcpy(h->picked + n * D, hidden + *t * D, D * sizeof *hidden);
            h->targets[n] = batch->targets[*t];
            h->row[n++] = *t;
        }
    }
    return n;
}

void esp_sparse_losses(esp_pass *p, const esp_weight *head, const esp_batch *batch)
{
    esp_head_and_norm *h = p->head_and_norm;
    size_t D = p->model->dims.hidden, V = p->model->dims.vocab, n;

    for (size_t t = 0; (n = pick_rows(h, &t, p->hidden.at, D, batch)) > 0;) {
        const esp_batch run = { .n_tok = n };

        esp_matrix_forward(h->logits, h->picked, &h->head, head, p, &run);
        esp_cross_entropy(h->picked_losses, h->picked_hits, h->logits, h->targets, NULL, NULL,
                          p->model->logit_cap, n, V);
        for (size_t i = 0; i < n; i++) {
            h->losses[h->row[i]] = h->picked_losses[i];
            h->hits[h->row[i]] = h->picked_hits[i];
        }
    }
}
