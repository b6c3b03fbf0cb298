/* product.c - weights as a pass uses them, and products with its matrices, in the precision of the model. */
#include <stdlib.h>
#include <string.h>

#include "block_impl.h"
#include "espalier/mem.h"

#define ROUNDED_AT_ONCE ((size_t)1024) /* numbers of a weight */

static bool is_aligned(const void *at, esp_dtype t)
{
    return (uintptr_t)at % esp_dtype_size(t) == 0;
}

/* Of a vector of n numbers in f32: itself, or made at buffer. */
static const float *as_f32(float *buffer, const void *data, esp_dtype t, size_t n)
{
    if (t == ESP_F32 && is_aligned(data, t)) {
        return data;
    }
    esp_to_f32(buffer, data, t, n);
    return buffer;
}

/* Whether products take another than the matrix in the file, and whether that is one in bf16. */
static bool is_rounded(const esp_weight *w, esp_precision p)
{
    return p == ESP_PRECISION_BF16 && !(w->dtype == ESP_BF16 && is_aligned(w->data, w->dtype));
}

static bool is_copied(const esp_weight *w, esp_precision p)
{
    return p == ESP_PRECISION_F32 && w->dtype == ESP_F32 && !is_aligned(w->data, w->dtype);
}

/* ---- memory -- */

void esp_f32_fit_vector(esp_f32 *f, const esp_weight *w)
{
    f->capacity = esp_max(f->capacity, 2 * w->rows);
}

void esp_f32_fit_matrix(esp_f32 *f, const esp_weight *w, esp_precision p)
{
    size_t n = w->rows * w->cols;

    f->capacity = esp_max(f->capacity, w->rows + (is_copied(w, p) ? n : 0));
    f->rounded.n = esp_max(f->rounded.n, is_rounded(w, p) ? n : 0);
}

void esp_f32_make(esp_f32 *f, size_t *bytes)
{
    ESP_MAKE(f->buffer, f->capacity, bytes);
    esp_bf16_buffer_make(&f->rounded, f->rounded.n, bytes);
}

/* ---- weights ---- */

void esp_f32_load(esp_f32 *f, const esp_weight *w, float plus)
{
    ESP_REQUIRE(2 * w->rows <= f->capacity);
    f->w = as_f32(f->buffer, w->data, w->dtype, w->rows);
    f->b = w->has_bias ? as_f32(f->buffer + w->rows, w->bias, w->dtype, w->rows) : NULL;
    if (plus != 0) {
        memmove(f->buffer, f->w, w->rows * sizeof *f->w);
        for (size_t i = 0; i < w->rows; i++) {
            f->buffer[i] += plus;
        }
        f->w = f->buffer;
    }
}

void esp_f32_free(esp_f32 *f)
{
    free(f->buffer);
    esp_bf16_buffer_free(&f->rounded);
    *f = (esp_f32){ 0 };
}

/* F16 is rounded by way of f32, a few rows at a time. */
static void round_weight(esp_bf16_buffer *buffer, const esp_weight *w)
{
    ESP_REQUIRE(w->rows * w->cols <= buffer->n);
#pragma omp parallel for
    for (size_t r = 0; r < w->rows; r++) {
        const char *row = (const char *)w->data + r * w->cols * esp_dtype_size(w->dtype);
        float part[ROUNDED_AT_ONCE];

        for (size_t at = 0; at < w->cols; at += ROUNDED_AT_ONCE) {
            size_t length = esp_min(w->cols - at, ROUNDED_AT_ONCE);

            esp_to_f32(part, row + at * esp_dtype_size(w->dtype), w->dtype, length);
            esp_from_f32(buffer->at + r * w->cols + at, ESP_BF16, part, length);
        }
    }
}

void esp_matrix_load(esp_f32 *f, const esp_weight *w, const esp_pass *p)
{
    esp_precision precision = p->model->precision;

    ESP_REQUIRE(w->rows <= f->capacity);
    f->b = w->has_bias ? as_f32(f->buffer, w->bias, w->dtype, w->rows) : NULL;
    if (is_rounded(w, precision)) {
        round_weight(&f->rounded, w);
        f->matrix = (esp_array){ f->rounded.at, ESP_BF16 };
    } else if (is_copied(w, precision)) {
        ESP_REQUIRE(w->rows * (1 + w->cols) <= f->capacity);
        esp_to_f32(f->buffer + w->rows, w->data, w->dtype, w->rows * w->cols);
        f->matrix = esp_array_f32(f->buffer + w->rows);
    } else {
        f->matrix = (esp_array){ w->data, w->dtype };
    }
}

void esp_matrix_forward(float *y, const float *x, const esp_f32 *f, const esp_weight *w,
                        esp_pass *p, const esp_batch *batch)
{
    if (p->bf16) {
        const uint16_t *rounded = esp_bf16_round(&p->rounded, x, batch->n_tok, w->cols);

        esp_bf16_forward(p->bf16, y, rounded, f->matrix.at, f->b, batch->n_tok, w->cols, w->rows);
    } else {
        esp_linear_forward(y, x, f->matrix, f->b, w->cols, w->rows, batch);
    }
    p->flops += 2.0 * (double)batch->n_tok * (double)w->rows * (double)w->cols;
}

void esp_matrix_backward(float *dx, const float *dy, const esp_f32 *f, const esp_weight *w,
                         esp_pass *p, const esp_batch *batch)
{
    if (p->bf16) {
        const uint16_t *rounded = esp_bf16_round(&p->rounded, dy, batch->n_tok, w->rows);

        esp_bf16_backward_input(p->bf16, dx, rounded, f->matrix.at, batch->n_tok, w->cols, w->rows);
    } else {
        esp_linear_backward_input(dx, dy, f->matrix, w->cols, w->rows, batch);
    }
    p->flops += 2.0 * (double)batch->n_tok * (double)w->rows * (double)w->cols;
}
