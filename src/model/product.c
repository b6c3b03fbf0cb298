/* product.c - products of a pass with its matrices, in the precision of the model. */
#include <stdlib.h>

#include "block_impl.h"
#include "espalier/mem.h"

#define ROUNDED_AT_ONCE ((size_t)1024) /* numbers of a weight */

/* The bias in f32, in f's room. */
static void load_bias(esp_f32 *f, const esp_weight *w)
{
    f->b = NULL;
    if (!w->has_bias) {
        return;
    }
    if (f->n_room < w->rows) {
        free(f->room);
        ESP_NEW(f->room, w->rows);
        f->n_room = w->rows;
    }
    esp_to_f32(f->room, w->bias, w->dtype, w->rows);
    f->b = f->room;
}

/* F16 is rounded by way of f32, a few rows at a time. */
static void round_weight(esp_bf16_room *room, const esp_weight *w)
{
    size_t n = w->rows * w->cols;

    if (room->n < n) {
        free(room->at);
        ESP_NEW(room->at, n);
        room->n = n;
    }
#pragma omp parallel for
    for (size_t r = 0; r < w->rows; r++) {
        const char *row = (const char *)w->data + r * w->cols * esp_dtype_size(w->dtype);
        float part[ROUNDED_AT_ONCE];

        for (size_t at = 0; at < w->cols; at += ROUNDED_AT_ONCE) {
            size_t length = w->cols - at < ROUNDED_AT_ONCE ? w->cols - at : ROUNDED_AT_ONCE;

            esp_to_f32(part, row + at * esp_dtype_size(w->dtype), w->dtype, length);
            esp_from_f32(room->at + r * w->cols + at, ESP_BF16, part, length);
        }
    }
}

void esp_matrix_load(esp_f32 *f, const esp_weight *w, const esp_pass *p)
{
    if (!p->bf16) {
        esp_f32_load(f, w, 0);
        return;
    }
    load_bias(f, w);
    if (w->dtype == ESP_BF16 && (uintptr_t)w->data % _Alignof(uint16_t) == 0) {
        f->bf16 = w->data;
        return;
    }
    round_weight(&f->rounded, w);
    f->bf16 = f->rounded.at;
}

void esp_matrix_forward(float *y, const float *x, const esp_f32 *f, const esp_weight *w,
                        esp_pass *p, const esp_batch *batch)
{
    if (f->bf16) {
        const uint16_t *rounded = esp_bf16_round(&p->rounded, x, batch->n_tok, w->cols);

        esp_bf16_forward(p->bf16, y, rounded, f->bf16, f->b, batch->n_tok, w->cols, w->rows);
    } else {
        esp_linear_forward(y, x, f->w, f->b, w->cols, w->rows, batch);
    }
    p->flops += 2.0 * (double)batch->n_tok * (double)w->rows * (double)w->cols;
}

void esp_matrix_backward(float *dx, const float *dy, const esp_f32 *f, const esp_weight *w,
                         esp_pass *p, const esp_batch *batch)
{
    if (f->bf16) {
        const uint16_t *rounded = esp_bf16_round(&p->rounded, dy, batch->n_tok, w->rows);

        esp_bf16_backward_input(p->bf16, dx, rounded, f->bf16, batch->n_tok, w->cols, w->rows);
    } else {
        esp_linear_backward_input(dx, dy, f->w, w->cols, w->rows, batch);
    }
    p->flops += 2.0 * (double)batch->n_tok * (double)w->rows * (double)w->cols;
}
