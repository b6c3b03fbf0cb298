/* attention.c - causal attention with grouped queries, in blocks of query rows.
 *
 * A block of QUERY_BLOCK queries needs the scores against all keys up to its last row and no more, so
 * memory is QUERY_BLOCK x T a thread. Backward makes the probabilities again, block by block. Heads lie
 * strided in memory: a row of head h is d numbers every H * d.
 */
#include <stdlib.h>
#include <string.h>

#include "espalier/tensor.h"
#include "tensor/exp_impl.h"
#include "tensor/gemm_impl.h"
#include "tensor/tile_impl.h"

#define QUERY_BLOCK ((size_t)64)

/* One sample, one head: rows are stride apart. */
typedef struct head {
    const float *q, *k, *v;
    size_t q_stride, kv_stride; /* H * d, K * d */
    size_t d;
    float scale;
} head;

/* Scores of a row become probabilities over the first n_seen keys, 0 for the rest of n. */
static void softmax_row(float *s, size_t n_seen, size_t n)
{
    float max = esp_largest(s, n_seen), sum = 0, inverse;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n_seen; i++) {
        s[i] = esp_expf(s[i] - max);
        sum += s[i];
    }
    inverse = 1 / sum;
    for (size_t i = 0; i < n_seen; i++) {
        s[i] *= inverse;
    }
    memset(s + n_seen, 0, (n - n_seen) * sizeof *s);
}

/* p [n_q, n_keys]: probabilities of n_q queries, the first of which sees the first n_seen keys, each
 * following one key more. n_keys = n_seen + n_q - 1. */
static void probabilities(float *p, const head *a, const float *q, size_t n_q, size_t n_seen)
{
    size_t n_keys = n_seen + n_q - 1;

    esp_gemm(ESP_N, ESP_T, n_q, n_keys, a->d, a->scale, q, a->q_stride, a->k, a->kv_stride, 0, p,
             n_keys);
    for (size_t i = 0; i < n_q; i++) {
        softmax_row(p + i * n_keys, n_seen + i, n_keys);
    }
}

/* out rows of n_new queries at the end of n_all keys; p is scratch [QUERY_BLOCK, n_all] */
static void head_forward(float *out, float *p, const head *a, size_t n_new, size_t n_all)
{
    for (size_t i = 0; i < n_new; i += QUERY_BLOCK) {
        size_t n_q = esp_tile(i, n_new, QUERY_BLOCK), n_seen = n_all - n_new + i + 1;
        size_t n_keys = n_seen + n_q - 1;

        probabilities(p, a, a->q + i * a->q_stride, n_q, n_seen);
        esp_gemm(ESP_N, ESP_N, n_q, a->d, n_keys, 1, p, n_keys, a->v, a->kv_stride, 0,
                 out + i * a->q_stride, a->q_stride);
    }
}

void esp_attention_forward(float *out, const float *q, const float *k, const float *v, size_t H,
                           size_t K, size_t d, float scale, const esp_batch *batch)
{
    size_t longest = esp_batch_longest(batch);

#pragma omp parallel
    {
        float *p;

        ESP_NEW(p, QUERY_BLOCK * longest);
#pragma omp for collapse(2) schedule(dynamic)
        for (size_t j = 0; j < batch->n_samples; j++) {
            for (size_t h = 0; h < H; h++) {
                size_t row = batch->start[j], n = batch->start[j + 1] - row;
                size_t at = row * H * d + h * d, kv_at = row * K * d + h / (H / K) * d;
                head a = { q + at, k + kv_at, v + kv_at, H * d, K * d, d, scale };

                head_forward(out + at, p, &a, n, n);
            }
        }
        free(p);
    }
}

void esp_attention_cached(float *out, const float *q, const float *k, const float *v, size_t n_new,
                          size_t n_all, size_t H, size_t K, size_t d, float scale)
{
#pragma omp parallel
    {
        float *p;

        ESP_NEW(p, QUERY_BLOCK * n_all);
#pragma omp for schedule(dynamic)
        for (size_t h = 0; h < H; h++) {
            size_t kv_at = h / (H / K) * d;
            head a = { q + h * d, k + kv_at, v + kv_at, H * d, K * d, d, scale };

            head_forward(out + h * d, p, &a, n_new, n_all);
        }
        free(p);
    }
}

/* ds = p (dp - sum(p dp)) for a row, in the place of dp */
static void softmax_backward_row(float *dp, const float *p, size_t n)
{
    float sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += p[i] * dp[i];
    }
    for (size_t i = 0; i < n; i++) {
        dp[i] = p[i] * (dp[i] - sum);
    }
}

/* Gradients of one head of a sample of n tokens; p, dp are scratch [QUERY_BLOCK, n]. */
static void head_backward(float *dq, float *dk, float *dv, const float *dout, float *p, float *dp,
                          const head *a, size_t n)
{
    size_t d = a->d, qs = a->q_stride, kvs = a->kv_stride;

    for (size_t i = 0; i < n; i += QUERY_BLOCK) {
        size_t n_q = esp_tile(i, n, QUERY_BLOCK), n_keys = i + n_q;
        const float *qi = a->q + i * qs, *douti = dout + i * qs;

        probabilities(p, a, qi, n_q, i + 1);
        esp_gemm(ESP_T, ESP_N, n_keys, d, n_q, 1, p, n_keys, douti, qs, 1, dv, kvs);
        esp_gemm(ESP_N, ESP_T, n_q, n_keys, d, 1, douti, qs, a->v, kvs, 0, dp, n_keys);
        for (size_t r = 0; r < n_q; r++) {
            softmax_backward_row(dp + r * n_keys, p + r * n_keys, n_keys);
        }
        esp_gemm(ESP_N, ESP_N, n_q, d, n_keys, a->scale, dp, n_keys, a->k, kvs, 1, dq + i * qs, qs);
        esp_gemm(ESP_T, ESP_N, n_keys, d, n_q, a->scale, dp, n_keys, qi, qs, 1, dk, kvs);
    }
}

void esp_attention_backward(float *dq, float *dk, float *dv, const float *dout, const float *q,
                            const float *k, const float *v, size_t H, size_t K, size_t d,
                            float scale, const esp_batch *batch)
{
    size_t longest = esp_batch_longest(batch);

#pragma omp parallel
    {
        float *p, *dp;

        ESP_NEW(p, QUERY_BLOCK * longest);
        ESP_NEW(dp, QUERY_BLOCK * longest);
        /* The heads of one key/value head follow each other on one thread: they add into the same rows. */
#pragma omp for collapse(2) schedule(dynamic)
        for (size_t j = 0; j < batch->n_samples; j++) {
            for (size_t g = 0; g < K; g++) {
                size_t row = batch->start[j], n = batch->start[j + 1] - row;
                size_t kv_at = (row * K + g) * d;

                for (size_t h = g * (H / K); h < (g + 1) * (H / K); h++) {
                    size_t at = (row * H + h) * d;
                    head a = { q + at, k + kv_at, v + kv_at, H * d, K * d, d, scale };

                    head_backward(dq + at, dk + kv_at, dv + kv_at, dout + at, p, dp, &a, n);
                }
            }
        }
        free(p);
        free(dp);
    }
}
