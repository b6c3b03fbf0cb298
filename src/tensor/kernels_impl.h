/* kernels_impl.h - the table of kernels: what the rest of the program calls of the files that are built
 * once for each width of vectors.
 *
 * Every file of this folder but those in PLAIN (Makefile) is a kernel file: compiled for each width, and
 * the objects of a width linked into one whose only global name is its table of pointers, an esp_kernels.
 * isa.c chooses a table and defines the public functions, which call through it. So a kernel file needs no
 * word about widths: within it, and from one kernel file to another, a call is a call to the same width,
 * and ESP_LANES (lanes_impl.h) is the number of f32 in a vector.
 *
 * To add a kernel: declare it in include/espalier/tensor.h, define it in a kernel file (a new file is
 * found by itself), add its row below, and a comparison over widths in tests/unit/unit_isa.c. A function
 * without a row can only be called from kernel files: elsewhere it is undefined when the program is
 * linked.
 */
#ifndef ESPALIER_KERNELS_IMPL_H
#define ESPALIER_KERNELS_IMPL_H

#include "espalier/cholesky.h"
#include "espalier/packed.h"
#include "espalier/tensor.h"
#include "tensor/gemm_impl.h"

/* Rows: PROCEDURE(name, parameters, arguments), FUNCTION(type, name, parameters, arguments). */
/* clang-format off */
#define ESP_KERNELS(PROCEDURE, FUNCTION)                                                                    \
    /* convert.c */                                                                                         \
    PROCEDURE(esp_to_f32, (float *dst, const void *src, esp_dtype t, size_t n), (dst, src, t, n))           \
    PROCEDURE(esp_from_f32, (void *dst, esp_dtype t, const float *src, size_t n), (dst, t, src, n))         \
    FUNCTION(size_t, esp_find_nonfinite, (const void *x, esp_dtype t, size_t n), (x, t, n))                 \
    /* linear.c */                                                                                          \
    PROCEDURE(esp_linear_forward,                                                                           \
              (float *y, const float *x, esp_array w, const float *b, size_t n_in, size_t n_out,            \
               const esp_batch *batch), (y, x, w, b, n_in, n_out, batch))                                   \
    PROCEDURE(esp_linear_accumulate,                                                                        \
              (float *y, const float *x, esp_array w, size_t n_in, size_t n_out, const esp_batch *batch),   \
              (y, x, w, n_in, n_out, batch))                                                                \
    PROCEDURE(esp_linear_backward_input,                                                                    \
              (float *dx, const float *dy, esp_array w, size_t n_in, size_t n_out, const esp_batch *batch), \
              (dx, dy, w, n_in, n_out, batch))                                                              \
    PROCEDURE(esp_linear_backward_weight,                                                                   \
              (float *dw, float *db, const float *dy, const float *x, size_t n_tok, size_t n_in,            \
               size_t n_out), (dw, db, dy, x, n_tok, n_in, n_out))                                          \
    PROCEDURE(esp_syrk, (float *h, const float *x, size_t n_tok, size_t n), (h, x, n_tok, n))               \
    /* norm.c */                                                                                            \
    PROCEDURE(esp_rmsnorm_forward,                                                                          \
              (float *y, const float *x, const float *w, size_t n_tok, size_t D, float eps),                \
              (y, x, w, n_tok, D, eps))                                                                     \
    PROCEDURE(esp_rmsnorm_backward,                                                                         \
              (float *dx, float *dw, const float *dy, const float *x, const float *w, size_t D, float eps,  \
               const esp_batch *batch), (dx, dw, dy, x, w, D, eps, batch))                                  \
    PROCEDURE(esp_layernorm_forward,                                                                        \
              (float *y, const float *x, const float *w, const float *b, size_t n_tok, size_t D,            \
               float eps), (y, x, w, b, n_tok, D, eps))                                                     \
    PROCEDURE(esp_layernorm_backward,                                                                       \
              (float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, size_t D,  \
               float eps, const esp_batch *batch), (dx, dw, db, dy, x, w, D, eps, batch))                   \
    FUNCTION(size_t, esp_norm_bytes, (size_t n_rows), (n_rows))                                             \
    /* rotary.c */                                                                                          \
    PROCEDURE(esp_rotary_forward,                                                                           \
              (float *y, const float *x, const esp_rotation *r, size_t H, size_t d,                         \
               const esp_batch *batch), (y, x, r, H, d, batch))                                             \
    PROCEDURE(esp_rotary_backward,                                                                          \
              (float *dx, const float *dy, const esp_rotation *r, size_t H, size_t d,                       \
               const esp_batch *batch), (dx, dy, r, H, d, batch))                                           \
    FUNCTION(size_t, esp_rotary_bytes, (const esp_rope *rope, size_t longest), (rope, longest))             \
    /* attention.c */                                                                                       \
    PROCEDURE(esp_attention_forward,                                                                        \
              (float *out, const float *q, const float *k, const float *v, const esp_attention *a,          \
               const esp_batch *batch), (out, q, k, v, a, batch))                                           \
    PROCEDURE(esp_attention_backward,                                                                       \
              (float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k,          \
               const float *v, const esp_attention *a, const esp_batch *batch),                             \
              (dq, dk, dv, dout, q, k, v, a, batch))                                                        \
    FUNCTION(size_t, esp_attention_bytes, (const esp_attention *a, size_t longest, bool backward),          \
             (a, longest, backward))                                                                        \
    /* gate.c */                                                                                            \
    PROCEDURE(esp_activation_forward, (float *y, const float *x, esp_activation a, size_t n),               \
              (y, x, a, n))                                                                                 \
    PROCEDURE(esp_activation_backward,                                                                      \
              (float *dx, const float *dy, const float *x, esp_activation a, size_t n), (dx, dy, x, a, n))  \
    PROCEDURE(esp_gate_forward,                                                                             \
              (float *y, const float *g, const float *u, esp_activation a, size_t n), (y, g, u, a, n))      \
    PROCEDURE(esp_gate_backward,                                                                            \
              (float *dg, float *du, const float *dy, const float *g, const float *u, esp_activation a,     \
               size_t n), (dg, du, dy, g, u, a, n))                                                         \
    PROCEDURE(esp_soft_cap, (float *x, float cap, size_t n), (x, cap, n))                                   \
    PROCEDURE(esp_add, (float *y, const float *a, float scale, const float *b, size_t n),                   \
              (y, a, scale, b, n))                                                                          \
    PROCEDURE(esp_accumulate, (float *y, const float *a, size_t n), (y, a, n))                              \
    /* dropout.c */                                                                                         \
    PROCEDURE(esp_dropout,                                                                                  \
              (float *y, const float *x, bool add, const esp_dropout_rule *r, size_t n_cols,                \
               const esp_batch *batch), (y, x, add, r, n_cols, batch))                                      \
    /* cross_entropy.c */                                                                                   \
    PROCEDURE(esp_cross_entropy,                                                                            \
              (double *loss, uint8_t *hit, float *logits, const int32_t *targets, const double *uniform,    \
               const float *scale, float cap, size_t n, size_t V),                                          \
              (loss, hit, logits, targets, uniform, scale, cap, n, V))                                      \
    /* distillation.c */                                                                                    \
    PROCEDURE(esp_distillation,                                                                             \
              (double *loss, uint8_t *hit, float *logits, float *teacher, const int32_t *targets,           \
               const float *scale, const esp_distillation_rule *rule, size_t n, size_t V),                  \
              (loss, hit, logits, teacher, targets, scale, rule, n, V))                                     \
    /* packed.c */                                                                                          \
    FUNCTION(size_t, esp_packed_width, (esp_factor which, size_t n), (which, n))                            \
    PROCEDURE(esp_packed_fill,                                                                              \
              (float *packed, esp_factor which, const float *rows, size_t width, size_t first, size_t n,    \
               const esp_spans *s), (packed, which, rows, width, first, n, s))                              \
    PROCEDURE(esp_packed_sums,                                                                              \
              (double *sum, const float *dy, size_t width, size_t col, size_t n, size_t begin, size_t end), \
              (sum, dy, width, col, n, begin, end))                                                         \
    /* moments.c */                                                                                         \
    PROCEDURE(esp_packed_gradient,                                                                          \
              (float *g, const esp_weight_tile *at, const esp_factors *f, size_t begin, size_t end),         \
              (g, at, f, begin, end))                                                                       \
    PROCEDURE(esp_packed_moments,                                                                           \
              (double *G, double *F, float *scratch, const esp_weight_tile *at, const esp_factors *f,        \
               const esp_spans *s), (G, F, scratch, at, f, s))                                              \
    PROCEDURE(esp_moments_add, (double *G, double *F, const float *g, size_t n), (G, F, g, n))              \
    /* cholesky.c */                                                                                        \
    PROCEDURE(esp_subtract_product,                                                                         \
              (double *c, size_t c_step, const double *a, size_t a_step, const double *b, size_t b_step,    \
               size_t m, size_t n, size_t k), (c, c_step, a, a_step, b, b_step, m, n, k))                   \
    FUNCTION(size_t, esp_cholesky, (double *a, size_t n), (a, n))                                           \
    PROCEDURE(esp_cholesky_solve, (double *x, const double *l, size_t n_rows, size_t n),                    \
              (x, l, n_rows, n))                                                                            \
    /* gemm.c, for tests alone */                                                                           \
    PROCEDURE(esp_pack_rows, (float *to, size_t length, esp_operand a, size_t m, size_t k),                 \
              (to, length, a, m, k))                                                                        \
    PROCEDURE(esp_pack_cols, (float *to, size_t length, esp_operand b, size_t k, size_t n),                 \
              (to, length, b, k, n))
/* clang-format on */

#define ESP_PROCEDURE_FIELD(name, parameters, arguments)      void(*name) parameters;
#define ESP_FUNCTION_FIELD(type, name, parameters, arguments) type(*name) parameters;

/* The kernels of one width. */
typedef struct esp_kernels {
    ESP_KERNELS(ESP_PROCEDURE_FIELD, ESP_FUNCTION_FIELD)
} esp_kernels;

#endif
