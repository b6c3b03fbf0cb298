/* packed.c - rows of samples into panels, and sums over a sample's. */
#include "espalier/packed.h"

#include <string.h>

#include "tensor/gemm_impl.h"
#include "tensor/tile_impl.h"

/* Columns that a thread packs at a time: few enough panels to keep a line of each at hand. */
#define COLUMNS ((size_t)192)

_Static_assert(ESP_TILE_ROWS <= ESP_WIDEST_PANEL && ESP_TILE_COLS <= ESP_WIDEST_PANEL, "panels");

static size_t panel_width(esp_factor which)
{
    return which == ESP_FACTOR_DY ? ESP_TILE_ROWS : ESP_TILE_COLS;
}

size_t esp_packed_width(esp_factor which, size_t n)
{
    size_t width = panel_width(which);

    return (n + width - 1) / width * width;
}

/* n rows of a sample of n_tok tokens, columns `col` on, into the panels `to` points into. */
static void fill(float *to, esp_factor which, esp_operand rows, size_t n, size_t n_cols,
                 size_t n_tok)
{
    if (which == ESP_FACTOR_DY) {
        esp_pack_rows(to, n_tok, esp_transposed(rows), n_cols, n);
    } else {
        esp_pack_cols(to, n_tok, rows, n, n_cols);
    }
}

/* The sample that token t is part of. */
static size_t sample_of(size_t t, const esp_spans *s)
{
    size_t j = 0;

    while (s->end[j] <= t) {
        j++;
    }
    return j;
}

void esp_packed_fill(float *packed, esp_factor which, const float *rows, size_t width, size_t first,
                     size_t n, const esp_spans *s)
{
    size_t begin = n > 0 ? sample_of(first, s) : 0, packed_width = esp_packed_width(which, width);

#pragma omp parallel for
    for (size_t col = 0; col < width; col += COLUMNS) {
        size_t n_cols = esp_tile(col, width, COLUMNS);

        for (size_t t = 0, n_rows, j = begin; t < n; t += n_rows, j++) {
            size_t skip = first + t - s->begin[j], n_tok = s->end[j] - s->begin[j];
            float *to =
                packed + s->begin[j] * packed_width + col * n_tok + skip * panel_width(which);

            n_rows = esp_tile(t, n, n_tok - skip);
            fill(to, which, esp_plain(rows + t * width + col, width), n_rows, n_cols, n_tok);
        }
    }
}

void esp_packed_sums(double *sum, const float *dy, size_t width, size_t col, size_t n, size_t begin,
                     size_t end)
{
    size_t n_tok = end - begin;
    const float *from = dy + begin * esp_packed_width(ESP_FACTOR_DY, width) + col * n_tok;

    memset(sum, 0, n * sizeof *sum);
    for (size_t i = 0; i < n; i += ESP_TILE_ROWS) {
        size_t n_cols = esp_tile(i, n, ESP_TILE_ROWS);

        for (size_t t = 0; t < n_tok; t++) {
            for (size_t k = 0; k < n_cols; k++) {
                sum[i + k] += (double)from[i * n_tok + t * ESP_TILE_ROWS + k];
            }
        }
    }
}
