/* bf16.c - the linear products on bf16 operands, in tiles that the threads share out. */
#include "espalier/bf16.h"

#include <stdlib.h>
#include <string.h>

#include "dnnl_impl.h"
#include "espalier/mem.h"
#include "tensor/tile_impl.h"

/* Rows and columns of a tile of y or dx: so many that packing the operands costs little. */
#define ROWS ((size_t)640)
#define COLS ((size_t)192)

struct esp_bf16 {
    esp_dnnl *dnnl;
};

const char *esp_precision_name(esp_precision p)
{
    static const char *const names[ESP_N_PRECISIONS] = {
        [ESP_PRECISION_F32] = "f32", [ESP_PRECISION_BF16] = "bf16"
    };

    return p < ESP_N_PRECISIONS ? names[p] : NULL;
}

esp_status esp_precision_check(esp_precision p)
{
    return p == ESP_PRECISION_BF16 ? esp_dnnl_check() : ESP_OK;
}

esp_bf16 *esp_bf16_open(esp_precision p)
{
    esp_bf16 *b = NULL;

    if (p == ESP_PRECISION_BF16) {
        ESP_NEW(b, 1);
        b->dnnl = esp_dnnl_open();
    }
    return b;
}

size_t esp_bf16_bytes(esp_precision p)
{
    return p == ESP_PRECISION_BF16 ? esp_calloc_bytes(1, sizeof(esp_bf16)) + esp_dnnl_bytes() : 0;
}

void esp_bf16_close(esp_bf16 *b)
{
    if (b) {
        esp_dnnl_close(b->dnnl);
    }
    free(b);
}

void esp_bf16_buffer_make(esp_bf16_buffer *room, size_t n, size_t *bytes)
{
    if (n > 0) {
        ESP_MAKE(room->at, n, bytes);
        room->n = n;
    }
}

void esp_bf16_buffer_fit(esp_bf16_buffer *room, size_t n, size_t *bytes)
{
    if (room->n < n) {
        if (bytes && room->n > 0) {
            *bytes -= esp_calloc_bytes(room->n, sizeof *room->at);
        }
        free(room->at);
        esp_bf16_buffer_make(room, n, bytes);
    }
}

/* With a row of zeros at the end: see tile. */
size_t esp_bf16_rounded(size_t n_rows, size_t n_cols)
{
    return (n_rows + 1) * n_cols;
}

const uint16_t *esp_bf16_round(esp_bf16_buffer *room, const float *x, size_t n_rows, size_t n_cols)
{
    size_t n = n_rows * n_cols;

    esp_bf16_buffer_fit(room, esp_bf16_rounded(n_rows, n_cols), NULL);
    esp_from_f32(room->at, ESP_BF16, x, n);
    memset(room->at + n, 0, n_cols * sizeof *room->at);
    return room->at;
}

/* Tokens that are transposed at a time: one row of them is a cache line. */
#define SQUARE ((size_t)32)

/* A panel of n_tok tokens, whose first n_cols columns become rows n_to apart. */
static void transpose_panel(uint16_t *to, size_t n_to, const float *panel, size_t n_tok,
                            size_t n_cols, size_t width)
{
    uint16_t part[SQUARE * ESP_WIDEST_PANEL];

    for (size_t t = 0; t < n_tok; t += SQUARE) {
        size_t n = esp_tile(t, n_tok, SQUARE);

        esp_from_f32(part, ESP_BF16, panel + t * width, n * width);
        for (size_t c = 0; c < n_cols; c++) {
            for (size_t i = 0; i < n; i++) {
                to[c * n_to + t + i] = part[i * width + c];
            }
        }
    }
}

const uint16_t *esp_bf16_round_packed(esp_bf16_buffer *room, esp_factor which, const float *packed,
                                      size_t n_cols, size_t n_tok, const esp_spans *s)
{
    size_t width = esp_packed_width(which, 1), all = esp_packed_width(which, n_cols);

    esp_bf16_buffer_fit(room, n_tok * n_cols, NULL);
#pragma omp parallel for
    for (size_t col = 0; col < n_cols; col += width) {
        for (size_t j = 0; j < s->n; j++) {
            size_t n = s->end[j] - s->begin[j];

            transpose_panel(room->at + col * n_tok + s->begin[j], n_tok,
                            packed + s->begin[j] * all + col * n, n, esp_tile(col, n_cols, width),
                            width);
        }
    }
    return room->at;
}

void esp_bf16_buffer_free(esp_bf16_buffer *room)
{
    free(room->at);
    *room = (esp_bf16_buffer){ 0 };
}

/* c = a op(B) + beta c for a tile of the product. oneDNN takes a single row for a vector, with another
 * order of the sums: such a row goes as the first of two, as it is the last and behind it is one of zeros. */
static void tile(const esp_bf16 *p, esp_dnnl_layout layout, size_t m, size_t n, size_t k,
                 const uint16_t *a, const uint16_t *b, size_t ldb, bool add, float *c, size_t ldc)
{
    float two[2 * COLS] = { 0 };

    if (m > 1) {
        esp_dnnl_product(p->dnnl, layout, m, n, k, a, k, b, ldb, add, c, ldc);
        return;
    }
    memcpy(two, c, n * sizeof *c);
    esp_dnnl_product(p->dnnl, layout, 2, n, k, a, k, b, ldb, add, two, COLS);
    memcpy(c, two, n * sizeof *c);
}

/* c [n_tok, n] = a [n_tok, k] op(B) + beta c; step: from a column of op(B) to the next. */
static void product(const esp_bf16 *p, esp_dnnl_layout layout, size_t n_tok, size_t n, size_t k,
                    const uint16_t *a, const uint16_t *b, size_t ldb, bool add, float *c)
{
    size_t step = layout == ESP_ROWS_ROWS_T ? ldb : 1;

#pragma omp parallel for collapse(2) schedule(dynamic)
    for (size_t col = 0; col < n; col += COLS) {
        for (size_t row = 0; row < n_tok; row += ROWS) {
            tile(p, layout, esp_tile(row, n_tok, ROWS), esp_tile(col, n, COLS), k, a + row * k,
                 b + col * step, ldb, add, c + row * n + col, n);
        }
    }
}

void esp_bf16_forward(const esp_bf16 *p, float *y, const uint16_t *x, const uint16_t *w,
                      const float *b, size_t n_tok, size_t n_in, size_t n_out)
{
    if (b) {
#pragma omp parallel for
        for (size_t t = 0; t < n_tok; t++) {
            memcpy(y + t * n_out, b, n_out * sizeof *y);
        }
    }
    product(p, ESP_ROWS_ROWS_T, n_tok, n_out, n_in, x, w, n_in, b != NULL, y);
}

void esp_bf16_backward_input(const esp_bf16 *p, float *dx, const uint16_t *dy, const uint16_t *w,
                             size_t n_tok, size_t n_in, size_t n_out)
{
    product(p, ESP_ROWS_ROWS, n_tok, n_in, n_out, dy, w, n_in, true, dx);
}

void esp_bf16_gradient_tile(const esp_bf16 *p, float *g, size_t n_rows, size_t n_cols,
                            const uint16_t *dy, const uint16_t *x, size_t n_tok, size_t distance)
{
    esp_dnnl_product(p->dnnl, ESP_ROWS_ROWS_T, n_rows, n_cols, n_tok, dy, distance, x, distance,
                     false, g, n_cols);
}
