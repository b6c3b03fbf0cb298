/* block_impl.h - scratch of one block, and its forward and backward by the operations of the family.
 *
 * Flow: esp_block_init -> esp_block_forward -> esp_block_backward.
 */
#ifndef ESPALIER_BLOCK_IMPL_H
#define ESPALIER_BLOCK_IMPL_H

#include "espalier/pass.h"

typedef struct esp_f32 {
    const float *w,
        *b; /* a vector and its bias in f32; b also of a matrix, NULL where there is none  */
    esp_array
        matrix;    /* as products take it                                                       */
    float *buffer; /* owned; NULL while they point at the mapping                               */
    size_t capacity;
    esp_bf16_buffer rounded; /* of the matrix, empty while it points at the mapping */
} esp_f32;

typedef struct esp_block {
    float **value;    /* [n_values] of [chunk_tok, width], borrowed: value[0] the caller's input,
                       * others as esp_kept_place says */
    float **scratch;  /* [n_values] likewise, owned: the values of a layer that keeps none       */
    float **grad;     /* [n_values] likewise; owned but grad[0] and that of the output; backward */
    float **gated;    /* [n_values] likewise, owned: of values with gates, times these; else NULL */
    bool *redo;       /* [n_ops] backward needs what this operation makes                        */
    esp_f32 *weights; /* [n_slots], or [n_layers * n_slots] when resident                        */
    size_t n_weights; /* of them                                                                 */
    size_t loaded;    /* layer in weights; ESP_NO_LAYER: none                                    */
    float *low, *dlow; /* [chunk_tok, rank] of an adapter; NULL where the pass meets none        */
    float *dropped;    /* [chunk_tok, widest value]                                            */
    float *norm_grad;  /* [2, max_samples, widest norm]: of weights, then of biases */
    size_t *row_start; /* [max_samples + 1] starts of samples in rows of single heads */
} esp_block;

/* Room that a weight may need, if it is more than that of those before; then all that, made or (bytes not
 * NULL) only added up. Local. */
void esp_f32_fit_vector(esp_f32 *f, const esp_weight *w);
void esp_f32_fit_matrix(esp_f32 *f, const esp_weight *w, esp_precision p);
void esp_f32_make(esp_f32 *f, size_t *bytes);

/* f32 view of a vector, to which `plus` is added, and its bias: the mapping itself where it is F32 and
 * aligned and plus is 0, else made in f's buffer. Local. */
void esp_f32_load(esp_f32 *f, const esp_weight *w, float plus);

/* A matrix for the precision of the pass, and its bias in f32: the mapping itself, but where bf16 is wanted
 * of another type, or F32 is not aligned. Local. */
void esp_matrix_load(esp_f32 *f, const esp_weight *w, const esp_pass *p);

/* y = x W^T + b and dx += dy W with what esp_matrix_load has made of w. x, y, dx, dy as in
 * esp_linear_forward and esp_linear_backward_input. Local. */
void esp_matrix_forward(float *y, const float *x, const esp_f32 *f, const esp_weight *w,
                        esp_pass *p, const esp_batch *batch);
void esp_matrix_backward(float *dx, const float *dy, const esp_f32 *f, const esp_weight *w,
                         esp_pass *p, const esp_batch *batch);

/* y = norm(x) for rows of n = w's rows channels, and back: dx accumulates; the gradients of weight and
 * bias, one row per sample, are set in buffer [2, n_samples, n] (NULL: not wanted). batch's samples start at
 * rows of x. Local. */
void esp_norm_forward(float *y, const float *x, const esp_f32 *f, const esp_model *m, size_t n_rows,
                      size_t n);
void esp_norm_backward(float *dx, float *buffer, const float *dy, const float *x, const esp_f32 *f,
                       const esp_model *m, size_t n, const esp_batch *batch);

/* Hands what esp_norm_backward left in buffer to the sink. Local. */
void esp_norm_to_sink(const esp_sink *sink, size_t layer, int slot, const float *buffer,
                      const esp_f32 *f, size_t n, const esp_batch *batch);
void esp_f32_free(esp_f32 *f); /* safe twice and on {0} */

void esp_block_init(esp_block *b, const esp_model *m, esp_pass_options o);
size_t esp_block_bytes(const esp_model *m, esp_pass_options o); /* that it takes */

/* What esp_block_forward and esp_block_backward do for tokens of t, as esp_pass_work; kept: the values of the
 * layer are. Local. */
esp_work esp_block_work(const esp_model *m, size_t layer, esp_text_size t, double reads,
                        esp_pass_way way, bool kept);

/* The most that an operation of a block takes while it goes on. Local. */
size_t esp_block_scratch(const esp_model *m, esp_pass_options o);
void esp_block_free(esp_block *b, const esp_model *m);

/* The value that leaves a block. Local. */
int esp_block_output(const esp_arch *a);

/* Whether the backward of some operation reads a value; not said of the input of the block. Local. */
bool esp_block_reads(const esp_arch *a, int value);

/* Runs layer `layer` on block->value[0]. again: only what backward needs, for recomputation. cache and tap
 * may be NULL. Local. */
void esp_block_forward(esp_pass *p, size_t layer, bool again, esp_cache *cache, const esp_tap *tap,
                       const esp_batch *batch);

/* grad[0] += gradient, given the gradient of the output in grad[output]; the others are scratch.
 * Weight gradients go to the sink, adapter gradients to the adapter. Local. */
void esp_block_backward(esp_pass *p, size_t layer, const esp_sink *sink, const esp_batch *batch);

#endif
