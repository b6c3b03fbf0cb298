/* dropout.c - inputs of which a random share is set to zero (Srivastava et al. 2014). */
#include "espalier/rng.h"
#include "espalier/tensor.h"

void esp_dropout(float *y, const float *x, bool add, const esp_dropout_rule *r, size_t n_cols,
                 const esp_batch *batch)
{
    const uint64_t limit = (uint64_t)((double)r->share * 0x1p64); /* numbers under it drop */
    const float keep = 1 / (1 - r->share);

#pragma omp parallel
    for (size_t j = 0; j < batch->n_samples; j++) {
        uint64_t key = esp_rng_key(r->seed, r->stream, batch->key[j]);
        size_t begin = batch->start[j] * n_cols, end = batch->start[j + 1] * n_cols;

#pragma omp for simd nowait
        for (size_t i = begin; i < end; i++) {
            float kept = esp_rng_at(key, i - begin) < limit ? 0 : keep * x[i];

            y[i] = add ? y[i] + kept : kept;
        }
    }
}
