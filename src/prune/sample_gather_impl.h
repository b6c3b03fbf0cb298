/* sample_gather_impl.h - activations and output gradients of the samples of all data ranks, gathered on each.
 *
 * With few tokens, inputs and output gradients of all tokens are far smaller than the gradient of a large
 * weight. Then every rank all-gathers those and computes some of the weight's tiles from all samples, instead
 * of all tiles from its own samples followed by a reduce-scatter. The choice follows from sizes and is the
 * same on all ranks.
 */
#ifndef ESPALIER_SAMPLE_GATHER_IMPL_H
#define ESPALIER_SAMPLE_GATHER_IMPL_H

#include "espalier/batch.h"
#include "espalier/model.h"
#include "espalier/packed.h"
#include "espalier/par.h"
#include "espalier/spill_buffer.h"

/* Where the gradient of a weight comes from: a product with it, rows of it that were looked up, or both (a
 * tied embedding). The same on all ranks. */
typedef struct esp_gradient_source {
    size_t layer;    /* ESP_NO_LAYER: outside the blocks                                   */
    int input;       /* value of the layer's block that x of the product is; -1: of none   */
    bool product;    /* dy^T x                                                             */
    bool normalized; /* of each sample norm_head_grad[r] * W[r] is subtracted from row r   */
    bool looked_up;  /* dx is added to the rows that the tokens looked up                  */
} esp_gradient_source;

typedef struct esp_weight_gradient {
    esp_gradient_source from;    /* which of the following there are                       */
    const float *dy, *x;         /* [n_tok, rows], [n_tok, cols], packed: of the product   */
    const float *norm_head_grad; /* [n_samples, rows]                                      */
    const int32_t *ids;          /* [n_tok] row that a token looked up                     */
    const float *dx;             /* [n_tok, cols] gradient of what it found                */
    const uint16_t *dy16, *x16;  /* dy^T and x^T in bf16 where the product is; else NULL          */
    size_t n16;                  /* tokens, columns of these                                      */
} esp_weight_gradient;

typedef struct esp_rows { /* of a gradient's arrays: tokens begin[j] .. end[j] - 1 are sample j's */
    size_t n;
    const size_t *begin, *end;
    const size_t *sample; /* its row in arrays with one row per sample */
} esp_rows;

/* What is gathered, each in a buffer of its own. */
typedef enum esp_gathered {
    ESP_GATHER_DY,
    ESP_GATHER_X,
    ESP_GATHER_NORM_HEAD,
    ESP_GATHER_IDS,
    ESP_GATHER_DX,
    ESP_N_GATHERED
} esp_gathered;

typedef struct esp_sample_gather {
    const esp_grid *grid; /* borrowed */
    esp_rows rows;        /* of all samples, in their order; its arrays are owned */
    size_t n_tok;         /* of all samples                                       */
    size_t *begin, *end, *sample;
    size_t *tokens, *samples;                /* [n_data] owned: of each rank          */
    int *counts, *at;                        /* [n_data] owned                        */
    size_t layer;                            /* whose value `input` was gathered last */
    int input;                               /* -1: none                              */
    esp_spill_buffer buffer[ESP_N_GATHERED]; /* owned; in memory */
} esp_sample_gather;

/* For all samples, which are to be placed; or where bytes is not NULL one of sizes alone, which only adds
 * what it would take. Local. */
void esp_sample_gather_make(esp_sample_gather *g, esp_text_size all, const esp_grid *grid,
                            size_t *bytes);
void esp_sample_gather_free(esp_sample_gather *g); /* safe twice and on {0} */

/* Finds out where the rows of each sample come to lie. Local. */
void esp_sample_gather_place(esp_sample_gather *g, const esp_samples *samples);

/* Whether the gradient of w is to be made from all samples; sum_bytes is what a number of its sums takes.
 * Local. */
bool esp_sample_gather_pays(const esp_sample_gather *g, const esp_weight *w,
                            const esp_gradient_source *from, size_t sum_bytes);

/* The gradient with rows of all samples, g->rows, until the next call. A value that several weights
 * multiply, one after another, is gathered once. Collective on the grid's data. */
esp_weight_gradient esp_sample_gather_all(esp_sample_gather *g, const esp_weight *w,
                                          const esp_weight_gradient *own);

/* Bytes that this gathers; adds those that its buffers grow by. g: of sizes alone. Local. */
size_t esp_sample_gather_all_sizes(esp_sample_gather *g, const esp_weight *w,
                                   const esp_gradient_source *from, size_t *bytes);

#endif
