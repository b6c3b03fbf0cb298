/* dnnl_impl.h - the one door to oneDNN: C = op(A) op(B) + beta C of bf16 matrices, C in f32, row-major.
 *
 * Sizes and distances of rows are given with each call, so that one primitive serves all shapes of a
 * kind. Called for tiles from inside parallel loops, where oneDNN runs on the calling thread alone.
 */
#ifndef ESPALIER_DNNL_IMPL_H
#define ESPALIER_DNNL_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/status.h"

typedef enum esp_dnnl_layout {
    ESP_ROWS_ROWS_T, /* A [m, k]  B^T [n, k] */
    ESP_ROWS_ROWS,   /* A [m, k]  B [k, n]   */
    ESP_N_LAYOUTS
} esp_dnnl_layout;

typedef struct esp_dnnl esp_dnnl;

/* ESP_EUSAGE where there is no oneDNN in this build or the processor has no products of bf16. Local. */
esp_status esp_dnnl_check(void);

esp_dnnl *esp_dnnl_open(void);
size_t esp_dnnl_bytes(void);      /* that it takes, but for the library's own */
void esp_dnnl_close(esp_dnnl *d); /* NULL is fine */

/* Rows of a, b and c as they lie in memory are lda, ldb and ldc apart. add: beta is 1, else 0. Local. */
void esp_dnnl_product(const esp_dnnl *d, esp_dnnl_layout layout, size_t m, size_t n, size_t k,
                      const uint16_t *a, size_t lda, const uint16_t *b, size_t ldb, bool add,
                      float *c, size_t ldc);

#endif
