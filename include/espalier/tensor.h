/* tensor.h - the kernels: forward and backward of every operation of a block, on row-major f32.
 *
 * Letters: B samples, T tokens of a sample, n_tok rows of the whole batch, D width, H heads, K
 * key/value heads, d head dimension, V vocabulary. All functions are Local, use the OpenMP threads
 * of the process, and give the same bits whatever the number of threads. Pointers of one call do
 * not overlap unless said. Backward functions accumulate into d*: the caller zeroes.
 */
#ifndef ESPALIER_TENSOR_H
#define ESPALIER_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/batch.h"

typedef enum esp_dtype { ESP_F32, ESP_F16, ESP_BF16, ESP_N_DTYPES } esp_dtype;

size_t esp_dtype_size(esp_dtype t);      /* bytes of an element                       */
const char *esp_dtype_name(esp_dtype t); /* as safetensors spells it: "F32" "F16" "BF16" */

/* Conversions of n elements; to 16 bits rounds to nearest even. */
void esp_to_f32(float *dst, const void *src, esp_dtype t, size_t n);
void esp_from_f32(void *dst, esp_dtype t, const float *src, size_t n);

/* y = x W^T + b.  x [n_tok, n_in]  w [n_out, n_in]  b [n_out] or NULL  y [n_tok, n_out].
 * A row of y depends on the rows of its row block only, bit for bit. */
void esp_linear_forward(float *y, const float *x, const float *w, const float *b, size_t n_in,
                        size_t n_out, const esp_batch *batch);

/* y += x W^T. Blocks as in esp_linear_forward. */
void esp_linear_accumulate(float *y, const float *x, const float *w, size_t n_in, size_t n_out,
                           const esp_batch *batch);

/* dx += dy W. Blocks as in esp_linear_forward. */
void esp_linear_backward_input(float *dx, const float *dy, const float *w, size_t n_in,
                               size_t n_out, const esp_batch *batch);

/* dw += dy^T x over n_tok rows;  db += column sums of dy (db may be NULL). */
void esp_linear_backward_weight(float *dw, float *db, const float *dy, const float *x, size_t n_tok,
                                size_t n_in, size_t n_out);

/* g = dy^T x, a tile of a weight's gradient, by the calling thread alone. g [n_rows, n_cols]; dy and x
 * point at the tile's rows and columns in the first of n_tok tokens, which are n_out and n_in apart. */
void esp_linear_gradient_tile(float *g, size_t n_rows, size_t n_cols, const float *dy,
                              const float *x, size_t n_tok, size_t n_in, size_t n_out);

/* RMS norm (Zhang and Sennrich 2019): y = x * r * w, r = 1 / sqrt(mean(x^2) + eps) a row.
 * x, y [n_tok, D]  w [D]. */
void esp_rmsnorm_forward(float *y, const float *x, const float *w, size_t n_tok, size_t D,
                         float eps);

/* dx += gradient;  dw [B, D]: row j is set to the gradient of sample j (dw may be NULL). */
void esp_rmsnorm_backward(float *dx, float *dw, const float *dy, const float *x, const float *w,
                          size_t D, float eps, const esp_batch *batch);

/* Rotary positions (Su et al. 2021) in the half-split layout: channels c and c + d/2 of a head turn
 * by the angle (batch->position + t) * inv_freq[c]. x, y [n_tok, H * d]; inv_freq [d/2] f64; y may be x.
 * backward turns the other way and accumulates: dx += R^T dy. */
void esp_rotary_forward(float *y, const float *x, const double *inv_freq, size_t H, size_t d,
                        const esp_batch *batch);
void esp_rotary_backward(float *dx, const float *dy, const double *inv_freq, size_t H, size_t d,
                         const esp_batch *batch);

/* Causal attention with grouped queries (Ainslie et al. 2023), one sample after another:
 * out = softmax(scale q k^T) v, query head h reads key/value head h / (H / K).
 * q, out [n_tok, H * d]  k, v [n_tok, K * d]. No T x T matrix: query rows go in blocks. */
void esp_attention_forward(float *out, const float *q, const float *k, const float *v, size_t H,
                           size_t K, size_t d, float scale, const esp_batch *batch);
void esp_attention_backward(float *dq, float *dk, float *dv, const float *dout, const float *q,
                            const float *k, const float *v, size_t H, size_t K, size_t d,
                            float scale, const esp_batch *batch);

/* The same for n_new queries at the end of a cache of n_all keys and values (decoding, one sample):
 * query i sees keys 0 .. n_all - n_new + i. q, out [n_new, H * d]  k, v [n_all, K * d]. */
void esp_attention_cached(float *out, const float *q, const float *k, const float *v, size_t n_new,
                          size_t n_all, size_t H, size_t K, size_t d, float scale);

/* Gated activation (Shazeer 2020): y = silu(g) * u over n elements. */
void esp_silu_gate_forward(float *y, const float *g, const float *u, size_t n);
void esp_silu_gate_backward(float *dg, float *du, const float *dy, const float *g, const float *u,
                            size_t n);

/* y = a + b and dy += a over n elements. y may be a or b. */
void esp_add(float *y, const float *a, const float *b, size_t n);
void esp_accumulate(float *y, const float *a, size_t n);

/* Cross-entropy of rows of logits [n, V] against targets [n] (ESP_NO_TARGET rows count nothing).
 * loss [n] f64 and hit [n] (the target is the largest logit; may be NULL) are set. Where scale [n] is
 * not NULL, logits become their gradient, scale[i] * (softmax - onehot), zero for rows without target. */
void esp_cross_entropy(double *loss, uint8_t *hit, float *logits, const int32_t *targets,
                       const float *scale, size_t n, size_t V);

#endif
