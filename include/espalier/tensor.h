/* tensor.h - the kernels: forward and backward of every operation of a block, on row-major f32.
 *
 * Letters: B samples, T tokens of a sample, n_tok rows of the whole batch, D width, H heads, K key/value
 * heads, d head dimension, V vocabulary. All functions are Local, use the OpenMP threads of the process, and
 * give the same bits whatever the number of threads. Pointers of one call do not overlap unless said. Forward
 * functions set what they name first; backward functions add to d*, which the caller has zeroed or filled.
 */
#ifndef ESPALIER_TENSOR_H
#define ESPALIER_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/batch.h"

typedef enum esp_dtype { ESP_F32, ESP_F16, ESP_BF16, ESP_N_DTYPES } esp_dtype;

size_t esp_dtype_size(esp_dtype t);      /* bytes of an element                          */
const char *esp_dtype_name(esp_dtype t); /* as safetensors spells it: "F32" "F16" "BF16"; static;
                                          * NULL from ESP_N_DTYPES on                     */

/* Numbers of a matrix, row-major, in the type they have: a product converts what it is about to use. F32
 * numbers are aligned, others need not be. */
typedef struct esp_array {
    const void *at; /* borrowed */
    esp_dtype type;
} esp_array;

static inline esp_array esp_array_f32(const float *at)
{
    return (esp_array){ at, ESP_F32 };
}

/* Conversions of n elements between f32 (aligned) and the type t at any alignment; to 16 bits rounds to
 * nearest even, beyond the largest number to infinity. */
void esp_to_f32(float *dst, const void *src, esp_dtype t, size_t n);
void esp_from_f32(void *dst, esp_dtype t, const float *src, size_t n);

/* Index of the first of x [n], at any alignment, that is NaN or infinite; n when there is none. */
size_t esp_find_nonfinite(const void *x, esp_dtype t, size_t n);

/* y = x W^T + b.  x [n_tok, n_in]  w [n_out, n_in]  b [n_out] or NULL  y [n_tok, n_out]; n_tok is that of the
 * batch. A row of y depends on its row of x alone, bit for bit; but a batch of one sample of one token, as in
 * decoding, has a product of its own, with other rounding. */
void esp_linear_forward(float *y, const float *x, esp_array w, const float *b, size_t n_in,
                        size_t n_out, const esp_batch *batch);

/* y += x W^T. Shapes and rows as in esp_linear_forward. */
void esp_linear_accumulate(float *y, const float *x, esp_array w, size_t n_in, size_t n_out,
                           const esp_batch *batch);

/* dx += dy W.  dx [n_tok, n_in]  dy [n_tok, n_out]  w [n_out, n_in]. A row of dx depends on its row of dy
 * alone, bit for bit. */
void esp_linear_backward_input(float *dx, const float *dy, esp_array w, size_t n_in, size_t n_out,
                               const esp_batch *batch);

/* dw [n_out, n_in] += dy^T x;  db [n_out] += column sums of dy (db may be NULL).  dy [n_tok, n_out]  x
 * [n_tok, n_in]. */
void esp_linear_backward_weight(float *dw, float *db, const float *dy, const float *x, size_t n_tok,
                                size_t n_in, size_t n_out);

/* h += x^T x on and below the diagonal; what is above it is not defined.  h [n, n]  x [n_tok, n]. */
void esp_syrk(float *h, const float *x, size_t n_tok, size_t n);

/* RMS norm (Zhang and Sennrich 2019): y = x * r * w, r = 1 / sqrt(mean(x^2) + eps) per row.
 * x, y [n_tok, D]  w [D]. */
void esp_rmsnorm_forward(float *y, const float *x, const float *w, size_t n_tok, size_t D,
                         float eps);

/* Bytes of scratch that the backward of either norm allocates for n_rows rows. */
size_t esp_norm_bytes(size_t n_rows);

/* dx [n_tok, D] += gradient;  dw [B, D]: row j is set to the gradient of sample j (dw may be NULL).
 * dy, x [n_tok, D]  w [D]. */
void esp_rmsnorm_backward(float *dx, float *dw, const float *dy, const float *x, const float *w,
                          size_t D, float eps, const esp_batch *batch);

/* Layer norm (Ba et al. 2016): y = (x - mean(x)) * r * w + b, r = 1 / sqrt(var(x) + eps) per row.
 * x, y [n_tok, D]  w, b [D]. */
void esp_layernorm_forward(float *y, const float *x, const float *w, const float *b, size_t n_tok,
                           size_t D, float eps);

/* dx [n_tok, D] += gradient;  dw, db [B, D]: row j is set to the gradient of sample j (each may be NULL).
 * dy, x [n_tok, D]  w [D]. */
void esp_layernorm_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                            const float *w, size_t D, float eps, const esp_batch *batch);

/* Frequencies of rotary positions. A sequence is a sample, in decoding with all that the cache has of it: one
 * of T tokens is rotated the same whatever else is in the batch. */
typedef struct esp_rope {
    size_t n;         /* rotated channels of a head, in pairs; 0: none                     */
    double *inv_freq; /* [n / 2] the angle of pair c is position * inv_freq[c]             */
    double gain;      /* cosines and sines are multiplied by it                           */
    size_t border;    /* tokens of the longest sequence for which these hold; 0: of any    */
    double *longer;   /* [n / 2] frequencies beyond the border; NULL: by the stretch       */
    double stretch;   /* f: with T > border tokens the frequency is inv_freq[c] / s^(2c / (n - 2)),
                       * s = f T / border - (f - 1)                                       */
} esp_rope;

/* Which channels of a head are rotated, how they pair and by which position (esp_batch_position or
 * esp_batch_block_position of the row). */
typedef struct esp_rotation {
    const esp_rope *rope; /* borrowed                                                     */
    bool pairs;           /* channels 2c and 2c + 1 are a pair, not c and c + n / 2        */
    size_t first;         /* channels first .. first + rope->n - 1 rotate, others stay      */
    bool block_position;
} esp_rotation;

/* Rotary positions (Su et al. 2021): y = R x, and dx += R^T dy.  x, y, dx, dy [n_tok, H * d]; y may be x. */
void esp_rotary_forward(float *y, const float *x, const esp_rotation *r, size_t H, size_t d,
                        const esp_batch *batch);
void esp_rotary_backward(float *dx, const float *dy, const esp_rotation *r, size_t H, size_t d,
                         const esp_batch *batch);

/* Bytes of scratch that either allocates at a time, for samples of at most `longest` tokens. */
size_t esp_rotary_bytes(const esp_rope *rope, size_t longest);

typedef struct esp_attention {
    size_t heads, kv_heads, head_dim; /* H, K, d; query head h reads key/value head h / (H / K)  */
    float scale;                      /* of q k^T                                               */
    float soft_cap;                   /* c: scores s become c tanh(s / c); 0: they stay         */
    size_t window;                    /* query t sees keys after t - window; 0: all before it   */
    const float *slopes;              /* [H] borrowed; adds slope * (key - query); may be NULL  */
    bool prefix; /* all queries of sample j see its first batch->prefix[j] keys  */
} esp_attention;

/* Attention with grouped queries (Ainslie et al. 2023), one sample after another:
 * out = softmax(scale q k^T) v; query t sees keys 0 .. t, but for the window and the prefix.
 * Scores: soft cap (Gemma 2, 2024), then linear biases (ALiBi, Press et al. 2022).
 * q, out [n_tok, H * d]  k, v [n_tok, K * d]. In decoding (batch->position > 0, one sample) k and v
 * begin batch->position rows earlier: the cache, at its end the rows of the batch.
 * No T x T matrix: query rows go in blocks. */
void esp_attention_forward(float *out, const float *q, const float *k, const float *v,
                           const esp_attention *a, const esp_batch *batch);

/* Bytes of scratch that each thread allocates, for samples of at most `longest` tokens. */
size_t esp_attention_bytes(const esp_attention *a, size_t longest, bool backward);

/* dq, dout [n_tok, H * d]  dk, dv [n_tok, K * d], added to; of whole samples: batch->position = 0. The
 * probabilities are computed again. */
void esp_attention_backward(float *dq, float *dk, float *dv, const float *dout, const float *q,
                            const float *k, const float *v, const esp_attention *a,
                            const esp_batch *batch);

typedef enum esp_activation {
    ESP_SILU,      /* x / (1 + exp(-x))                                                       */
    ESP_GELU_TANH, /* x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))                       */
    ESP_GELU_ERF,  /* x / 2 (1 + erf(x / sqrt(2))), Hendrycks and Gimpel 2016                 */
    ESP_RELU       /* max(x, 0), its slope at 0 is 0                                          */
} esp_activation;

/* y = a(x), and dx += a'(x) dy, over n elements. */
void esp_activation_forward(float *y, const float *x, esp_activation a, size_t n);
void esp_activation_backward(float *dx, const float *dy, const float *x, esp_activation a,
                             size_t n);

/* Gated activation (Shazeer 2020): y = a(g) * u; and dg += a'(g) * u * dy, du += a(g) * dy, over n
 * elements. */
void esp_gate_forward(float *y, const float *g, const float *u, esp_activation a, size_t n);
void esp_gate_backward(float *dg, float *du, const float *dy, const float *g, const float *u,
                       esp_activation a, size_t n);

/* x = cap tanh(x / cap) over n elements, in place; cap above 0 (Gemma 2, 2024). */
void esp_soft_cap(float *x, float cap, size_t n);

/* Dropout of the inputs of a batch (Srivastava et al. 2014): number t * n_cols + c of the stream (seed,
 * stream, key of the sample) decides on column c of the sample's token t, so a mask depends neither on the
 * neighbours nor on the rank count. */
typedef struct esp_dropout_rule {
    uint64_t seed, stream;
    float share; /* of the elements, 0 < share < 1: dropped; the others are divided by 1 - share */
} esp_dropout_rule;

/* y = dropout(x), y may be x; with add: y += dropout(x). x, y [n_tok, n_cols]. */
void esp_dropout(float *y, const float *x, bool add, const esp_dropout_rule *r, size_t n_cols,
                 const esp_batch *batch);

/* y = scale a + b, y may be a or b; and y += a, over n elements. */
void esp_add(float *y, const float *a, float scale, const float *b, size_t n);
void esp_accumulate(float *y, const float *a, size_t n);

/* Cross-entropy, in nats, of rows of logits [n, V] [in,out] against targets [n]. loss [n] and hit [n]
 * (whether the target has the largest logit; may be NULL) are set, to 0 for rows with ESP_NO_TARGET. Where
 * cap is above 0, the other rows are soft-capped first, in place. Where scale [n] is not NULL, logits become
 * their gradient, scale[i] * (softmax - onehot) times the derivative of the cap; zero for rows without
 * target. Where uniform [n], of [0, 1), is not NULL, the target of each row that has one is drawn from its
 * softmax instead: the first index up to which the probabilities come to more than uniform[i]. */
void esp_cross_entropy(double *loss, uint8_t *hit, float *logits, const int32_t *targets,
                       const double *uniform, const float *scale, float cap, size_t n, size_t V);

/* What a row of logits x is to follow beside its target: a teacher's logits z, by a share of the loss,
 *     (1 - ratio) CE(x) + ratio T^2 KL(softmax(z / T) || softmax(x / T)),  T = temperature > 0. */
typedef struct esp_distillation_rule {
    float ratio, temperature;
    float cap; /* of x; 0: none. z is capped already */
} esp_distillation_rule;

/* The loss (58) of rows of logits [n, V] [in,out] with targets [n] and a teacher's logits [n, V] [in; then
 * of no use]. loss, hit and scale, which is not NULL, as in esp_cross_entropy, as are rows without target:
 * logits become the gradient of scale[i] times the loss. Equal logits of both have a divergence, and a
 * gradient of it, of exactly 0. */
void esp_distillation(double *loss, uint8_t *hit, float *logits, float *teacher,
                      const int32_t *targets, const float *scale, const esp_distillation_rule *rule,
                      size_t n, size_t V);

#endif
