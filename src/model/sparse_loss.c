/* sparse_loss.c - the loss where few positions have a target, as in the choices of a question or
 * in training on answers alone.
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
            h->picked_scale[n] = h->scale[*t];
            h->row[n++] = *t;
        }
    }
    return n;
}

/* Gradient of the logits of n rows that were picked, back to their rows of d_hidden. */
static void put_gradient(float *d_hidden, esp_pass *p, const esp_weight *head, size_t n)
{
    esp_head_and_norm *h = p->head_and_norm;
    const esp_batch run = { .n_tok = n };
    size_t D = p->model->dims.hidden;

    memset(h->picked, 0, n * D * sizeof *h->picked);
    esp_matrix_backward(h->picked, h->logits, &h->head, head, p, &run);
    for (size_t i = 0; i < n; i++) {
        memcpy(d_hidden + h->row[i] * D, h->picked + i * D, D * sizeof *d_hidden);
    }
}

void esp_sparse_losses(float *d_hidden, esp_pass *p, const esp_weight *head, const esp_batch *batch)
{
    esp_head_and_norm *h = p->head_and_norm;
    size_t D = p->model->dims.hidden, V = p->model->dims.vocab, n;

    for (size_t t = 0; (n = pick_rows(h, &t, p->hidden.at, D, batch)) > 0;) {
        const esp_batch run = { .n_tok = n };

        esp_matrix_forward(h->logits, h->picked, &h->head, head, p, &run);
        esp_cross_entropy(h->picked_losses, h->picked_hits, h->logits, h->targets, NULL,
                          d_hidden ? h->picked_scale : NULL, p->model->logit_cap, n, V);
        for (size_t i = 0; i < n; i++) {
            h->losses[h->row[i]] = h->picked_losses[i];
            h->hits[h->row[i]] = h->picked_hits[i];
        }
        if (d_hidden) {
            put_gradient(d_hidden, p, head, n);
        }
    }
}
