/* attention.c - attention with grouped queries, in blocks of query rows.
 *
 * A block of QUERY_BLOCK queries needs the scores against the keys that one of them sees and no more, so
 * memory is QUERY_BLOCK x T a thread. Backward makes the probabilities again, block by block. Heads lie
 * strided in memory: a row of head h is d numbers every H * d.
 */
#include <stdlib.h>
#include <string.h>

#include "espalier/status.h"
#include "espalier/tensor.h"
#include "tensor/exp_impl.h"
#include "tensor/blas_impl.h"
#include "tensor/tile_impl.h"

#define QUERY_BLOCK ((size_t)64)

/* One sample, one head: rows are stride apart. */
typedef struct head {
    const esp_attention *a;
    const float *q, *k, *v;     /* first query, first key and value of the sample */
    size_t q_stride, kv_stride; /* H * d, K * d */
    float slope;
    size_t before, n; /* keys before that of the first query, queries */
    size_t prefix;    /* keys that no query comes too early for        */
} head;

/* Keys from .. to - 1. */
typedef struct span {
    size_t from, to;
} span;

/* Scratch of a thread, a number a query of a block and a key. */
typedef struct scratch {
    float *p;    /* probabilities                                                 */
    float *dp;   /* their gradient; backward                                      */
    float *bend; /* slope of the soft cap; backward, NULL where there is no cap   */
} scratch;

static head make_head(const float *q, const float *k, const float *v, const esp_attention *a,
                      size_t h, size_t j, const esp_batch *batch)
{
    size_t H = a->heads, K = a->kv_heads, d = a->head_dim, row = batch->start[j];
    size_t kv_at = (row * K + h / (H / K)) * d;

    return (head){ .a = a,
                   .q = q + (row * H + h) * d,
                   .k = k + kv_at,
                   .v = v + kv_at,
                   .q_stride = H * d,
                   .kv_stride = K * d,
                   .slope = a->slopes ? a->slopes[h] : 0,
                   .before = batch->position,
                   .n = batch->start[j + 1] - row,
                   .prefix = a->prefix ? batch->prefix[j] : 0 };
}

/* Keys that query i of a head sees. */
static span seen_by(const head *h, size_t i)
{
    size_t end = h->before + i + 1, window = h->a->window;

    return (span){ window && end > window ? end - window : 0, end > h->prefix ? end : h->prefix };
}

/* Keys that one of queries i .. i + n_q - 1 sees: both ends grow with the query. */
static span seen_by_block(const head *h, size_t i, size_t n_q)
{
    return (span){ seen_by(h, i).from, seen_by(h, i + n_q - 1).to };
}

/* ---- scores ----------------------------------------------------------------------------------- */

/* s[i] += slope * (key - query) for n keys from `from` on */
static void add_distances(float *s, float slope, size_t query, size_t from, size_t n)
{
    int offset = esp_count(from) - esp_count(query);

    for (int i = 0; i < (int)n; i++) {
        s[i] += slope * (float)(offset + i);
    }
}

/* Scores of a row become probabilities over keys seen.from .. seen.to - 1, 0 for the rest of n. */
static void softmax_row(float *s, span seen, size_t n)
{
    float *x = s + seen.from;
    size_t n_seen = seen.to - seen.from;
    float max = esp_largest(x, n_seen), sum = 0, inverse;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n_seen; i++) {
        x[i] = esp_expf(x[i] - max);
        sum += x[i];
    }
    inverse = 1 / sum;
    for (size_t i = 0; i < n_seen; i++) {
        x[i] *= inverse;
    }
    memset(s, 0, seen.from * sizeof *s);
    memset(s + seen.to, 0, (n - seen.to) * sizeof *s);
}

/* s->p [n_q, keys]: probabilities of queries i .. i + n_q - 1 over the keys of the block. */
static void probabilities(const scratch *s, const head *h, size_t i, size_t n_q, span keys)
{
    const esp_attention *a = h->a;
    size_t n = keys.to - keys.from;

    esp_blas(ESP_N, ESP_T, n_q, n, a->head_dim, a->scale, h->q + i * h->q_stride, h->q_stride,
             h->k + keys.from * h->kv_stride, h->kv_stride, 0, s->p, n);
    for (size_t r = 0; r < n_q; r++) {
        span seen = seen_by(h, i + r);
        float *row = s->p + r * n;

        if (a->soft_cap > 0) {
            esp_cap_row(row, a->soft_cap, n);
        }
        for (size_t c = 0; s->bend && c < n; c++) {
            s->bend[r * n + c] = esp_cap_slope(row[c], 1 / a->soft_cap);
        }
        if (h->slope != 0) {
            add_distances(row, h->slope, h->before + i + r, keys.from, n);
        }
        softmax_row(row, (span){ seen.from - keys.from, seen.to - keys.from }, n);
    }
}

/* ---- forward ---------------------------------------------------------------------------------- */

/* Numbers of scratch that the longest sample needs. */
static size_t scratch_size(const esp_batch *batch)
{
    size_t longest = esp_batch_longest(batch);

    return esp_tile(0, longest, QUERY_BLOCK) * (batch->position + longest);
}

static void head_forward(float *out, const scratch *s, const head *h)
{
    for (size_t i = 0; i < h->n; i += QUERY_BLOCK) {
        size_t n_q = esp_tile(i, h->n, QUERY_BLOCK);
        span keys = seen_by_block(h, i, n_q);
        size_t n = keys.to - keys.from;

        probabilities(s, h, i, n_q, keys);
        esp_blas(ESP_N, ESP_N, n_q, h->a->head_dim, n, 1, s->p, n, h->v + keys.from * h->kv_stride,
                 h->kv_stride, 0, out + i * h->q_stride, h->q_stride);
    }
}

void esp_attention_forward(float *out, const float *q, const float *k, const float *v,
                           const esp_attention *a, const esp_batch *batch)
{
    size_t size = scratch_size(batch);

    ESP_REQUIRE(batch->position == 0 || batch->n_samples == 1);
#pragma omp parallel
    {
        scratch s = { 0 };

        ESP_NEW(s.p, size);
#pragma omp for collapse(2) schedule(dynamic)
        for (size_t j = 0; j < batch->n_samples; j++) {
            for (size_t i = 0; i < a->heads; i++) {
                head h = make_head(q, k, v, a, i, j, batch);

                head_forward(out + (h.q - q), &s, &h);
            }
        }
        free(s.p);
    }
}

/* ---- backward --------------------------------------------------------------------------------- */

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

/* Gradients of one head; rows of dq and dout lie as those of q, rows of dk and dv as those of k. */
static void head_backward(float *dq, float *dk, float *dv, const float *dout, const scratch *s,
                          const head *h)
{
    size_t d = h->a->head_dim, qs = h->q_stride, kvs = h->kv_stride;
    float scale = h->a->scale;

    for (size_t i = 0; i < h->n; i += QUERY_BLOCK) {
        size_t n_q = esp_tile(i, h->n, QUERY_BLOCK);
        span keys = seen_by_block(h, i, n_q);
        size_t n = keys.to - keys.from, at = keys.from * kvs;
        const float *douti = dout + i * qs;

        probabilities(s, h, i, n_q, keys);
        esp_blas(ESP_T, ESP_N, n, d, n_q, 1, s->p, n, douti, qs, 1, dv + at, kvs);
        esp_blas(ESP_N, ESP_T, n_q, n, d, 1, douti, qs, h->v + at, kvs, 0, s->dp, n);
        for (size_t r = 0; r < n_q; r++) {
            softmax_backward_row(s->dp + r * n, s->p + r * n, n);
        }
        for (size_t e = 0; s->bend && e < n_q * n; e++) {
            s->dp[e] *= s->bend[e];
        }
        esp_blas(ESP_N, ESP_N, n_q, d, n, scale, s->dp, n, h->k + at, kvs, 1, dq + i * qs, qs);
        esp_blas(ESP_T, ESP_N, n, d, n_q, scale, s->dp, n, h->q + i * qs, qs, 1, dk + at, kvs);
    }
}

void esp_attention_backward(float *dq, float *dk, float *dv, const float *dout, const float *q,
                            const float *k, const float *v, const esp_attention *a,
                            const esp_batch *batch)
{
    size_t size = scratch_size(batch), n_shared = a->heads / a->kv_heads;

    ESP_REQUIRE(batch->position == 0);
#pragma omp parallel
    {
        scratch s = { 0 };

        ESP_NEW(s.p, size);
        ESP_NEW(s.dp, size);
        if (a->soft_cap > 0) {
            ESP_NEW(s.bend, size);
        }
        /* The heads of one key/value head follow each other on one thread: they add into the same rows. */
#pragma omp for collapse(2) schedule(dynamic)
        for (size_t j = 0; j < batch->n_samples; j++) {
            for (size_t g = 0; g < a->kv_heads; g++) {
                for (size_t i = g * n_shared; i < (g + 1) * n_shared; i++) {
                    head h = make_head(q, k, v, a, i, j, batch);
                    size_t at = (size_t)(h.q - q), kv_at = (size_t)(h.k - k);

                    head_backward(dq + at, dk + kv_at, dv + kv_at, dout + at, &s, &h);
                }
            }
        }
        free(s.p);
        free(s.dp);
        free(s.bend);
    }
}
