/* kernel_impl.h - the micro-kernel of all products: a tile of C in vector registers. */
#ifndef ESPALIER_KERNEL_IMPL_H
#define ESPALIER_KERNEL_IMPL_H

#include "tensor/gemm_impl.h"

/* A tile of C, rows `width` apart: C = A B or C += A B. Number p of row r of A is row[r][p * step], row p
 * of B begins at b + p * b_step. */
static inline __attribute__((always_inline)) void
esp_multiply_tile(float *c, size_t width, bool add, const float *const *row, size_t step,
                  const float *b, size_t b_step, size_t k)
{
    esp_lanes sum[ESP_TILE_ROWS][2];

#pragma GCC unroll 8
    for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
        sum[r][0] = sum[r][1] = (esp_lanes){ 0 };
    }
    for (size_t p = 0; p < k; p++) {
        esp_lanes b0 = esp_lanes_load(b + p * b_step);
        esp_lanes b1 = esp_lanes_load(b + p * b_step + ESP_LANES);

#pragma GCC unroll 8
        for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
            esp_lanes each = row[r][p * step] - (esp_lanes){ 0 };

            sum[r][0] += each * b0;
            sum[r][1] += each * b1;
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
        float *to = c + r * width;

        esp_lanes_store(to, add ? esp_lanes_load(to) + sum[r][0] : sum[r][0]);
        esp_lanes_store(to + ESP_LANES,
                        add ? esp_lanes_load(to + ESP_LANES) + sum[r][1] : sum[r][1]);
    }
}

/* The same of a panel of A and one of B. */
static inline void esp_multiply_panels(float *c, size_t width, bool add, const float *a,
                                       const float *b, size_t k)
{
    const float *row[ESP_TILE_ROWS];

#pragma GCC unroll 8
    for (size_t r = 0; r < ESP_TILE_ROWS; r++) {
        row[r] = a + r;
    }
    esp_multiply_tile(c, width, add, row, ESP_TILE_ROWS, b, ESP_TILE_COLS, k);
}

#endif
