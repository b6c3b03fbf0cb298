/* stem_impl.h - from token ids to the input of the first block, and back. */
#ifndef ESPALIER_STEM_IMPL_H
#define ESPALIER_STEM_IMPL_H

#include "block_impl.h"

typedef struct esp_stem {
    esp_f32 norm;  /* weight of the stem's norm; empty where it has none */
    float *normed; /* [max_tok, D] owned: the input of that norm; NULL likewise */
    int32_t *row;  /* [max_tok] owned: what the tokens look up           */
    float *add;    /* [D] owned: a row of a table                        */
} esp_stem;

void esp_stem_init(esp_stem *s, const esp_model *m, esp_pass_options o);
size_t esp_stem_bytes(const esp_model *m, esp_pass_options o); /* that it takes */
void esp_stem_free(esp_stem *s);                               /* safe twice and on {0} */

/* x [n_tok, D] is set. Local. */
void esp_stem_forward(float *x, esp_pass *p, const esp_batch *batch);

/* Takes dx [n_tok, D], the gradient of what forward gave, and spare [n_tok, D]; both are changed.
 * Gradients of the weights go to the sink. Local. */
void esp_stem_backward(float *dx, float *spare, esp_pass *p, const esp_sink *sink,
                       const esp_batch *batch);

#endif
