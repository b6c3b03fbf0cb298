/* gemm_impl.h - the one door to BLAS: C = alpha op(A) op(B) + beta C, row-major, on sizes.
 *
 * Called for tiles from inside parallel loops; BLAS itself runs on one thread (esp_grid_init).
 * C [m, n], inner dimension k; ld* are the distances of rows.
 */
#ifndef ESPALIER_BLAS_IMPL_H
#define ESPALIER_BLAS_IMPL_H

#include <cblas.h>

#include "espalier/mem.h"

#define ESP_N CblasNoTrans
#define ESP_T CblasTrans

/* One row (decoding) goes to the product with a vector, which reads the matrix once and in place. */
static inline void esp_blasv(CBLAS_TRANSPOSE op_b, size_t n, size_t k, float alpha, const float *a,
                             const float *b, size_t ldb, float beta, float *c)
{
    if (op_b == CblasTrans) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, esp_count(n), esp_count(k), alpha, b,
                    esp_count(ldb), a, 1, beta, c, 1);
    } else {
        cblas_sgemv(CblasRowMajor, CblasTrans, esp_count(k), esp_count(n), alpha, b, esp_count(ldb),
                    a, 1, beta, c, 1);
    }
}

static inline void esp_blas(CBLAS_TRANSPOSE op_a, CBLAS_TRANSPOSE op_b, size_t m, size_t n,
                            size_t k, float alpha, const float *a, size_t lda, const float *b,
                            size_t ldb, float beta, float *c, size_t ldc)
{
    if (m == 1 && op_a == CblasNoTrans) {
        esp_blasv(op_b, n, k, alpha, a, b, ldb, beta, c);
        return;
    }
    cblas_sgemm(CblasRowMajor, op_a, op_b, esp_count(m), esp_count(n), esp_count(k), alpha, a,
                esp_count(lda), b, esp_count(ldb), beta, c, esp_count(ldc));
}

#endif
