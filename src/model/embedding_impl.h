/* embedding_impl.h - from token ids to the input of the first block, and back. */
#ifndef ESPALIER_EMBEDDING_IMPL_H
#define ESPALIER_EMBEDDING_IMPL_H

#include "block_impl.h"

typedef struct esp_embedding {
    esp_f32 norm;  /* weight of the embedding's norm; empty where it has none */
    float *normed; /* [max_tok, D] owned: the input of that norm; NULL likewise */
    int32_t *row;  /* [max_tok] owned: what the tokens look up           */
    float *add;    /* [D] owned: a row of a table                        */
} esp_embedding;

void esp_embedding_init(esp_embedding *s, const esp_model *m, esp_pass_options o);
size_t esp_embedding_bytes(const esp_model *m, esp_pass_options o); /* that it takes */
void esp_embedding_free(esp_embedding *s);                          /* safe twice and on {0} */

/* x [n_tok, D] is set. Local. */
void esp_embedding_forward(float *x, esp_pass *p, const esp_batch *batch);

/* Takes dx [n_tok, D], the gradient of what forward gave, and spare [n_tok, D]; both are changed.
 * Gradients of the weights go to the sink. Local. */
void esp_embedding_backward(float *dx, float *spare, esp_pass *p, const esp_sink *sink,
                            const esp_batch *batch);

#endif
