/* attention.c - attention with grouped queries, in blocks of queries and of keys.
 *
 * A block of QUERY_BLOCK queries needs the scores against the keys that one of them sees and no more, so
 * memory is QUERY_BLOCK x T a thread, linear in T, and a softmax sees whole rows. Keys go by in blocks that
 * stay in cache; within a block, products leave out what is hidden from a whole band of queries or keys.
 * Backward makes the probabilities again, block by block. Heads lie strided in memory: a row of head h is
 * d numbers every H * d.
 */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/status.h"
#include "espalier/tensor.h"
#include "tensor/exp_impl.h"
#include "tensor/gemm_impl.h"
#include "tensor/tile_impl.h"

#define QUERY_BLOCK ((size_t)64)
#define KEY_BLOCK   ESP_INNER

/* Scores of a row that softmax goes by: a row has room for whole steps. */
#define STEP ((size_t)16)

static size_t in_steps(size_t n)
{
    return (n + STEP - 1) / STEP * STEP;
}

/* One sample, one head: rows are stride apart. */
typedef struct head {
    const esp_attention *a;
    const float *q, *k, *v;     /* first query, first key and value of the sample */
    size_t q_stride, kv_stride; /* H * d, K * d */
    float slope;
    size_t before, n; /* keys before that of the first query, queries */
    size_t trunk,
        gap; /* keys of the sample that is continued, and rows between them and the own ones */
    size_t prefix; /* keys that no query comes too early for        */
} head;

/* Keys from .. to - 1. */
typedef struct span {
    size_t from, to;
} span;

/* Scratch of a thread: a number per query of a block and key that the block sees, and packed operands. */
typedef struct scratch {
    float *p;              /* probabilities                                                 */
    float *dp;             /* their gradient; backward                                      */
    float *cap_derivative; /* derivative of the soft cap; NULL without a cap, and forward   */
    float *cols;           /* packed columns of a product, over a block of keys             */
} scratch;

static head make_head(const float *q, const float *k, const float *v, const esp_attention *a,
                      size_t h, size_t j, const esp_batch *batch)
{
    size_t H = a->heads, K = a->kv_heads, d = a->head_dim, row = batch->start[j];
    size_t of = j - batch->back[j], first = batch->start[of];
    size_t trunk = of < j ? batch->start[of + 1] - first : 0;
    size_t kv_at = (first * K + h / (H / K)) * d;

    return (head){ .a = a,
                   .q = q + (row * H + h) * d,
                   .k = k + kv_at,
                   .v = v + kv_at,
                   .q_stride = H * d,
                   .kv_stride = K * d,
                   .slope = a->slopes ? a->slopes[h] : 0,
                   .before = esp_batch_before(batch, j),
                   .n = batch->start[j + 1] - row,
                   .trunk = trunk,
                   .gap = row - first - trunk,
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

static void fill(float *x, float value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = value;
    }
}

/* Scores of a row become probabilities over keys seen.from .. seen.to - 1, 0 for the rest of n. Goes by
 * whole steps: rows of short samples would be all rest of a vector loop. What fills up the first and the
 * last adds some 1e-38 to a sum of at least 1. */
static void softmax_row(float *s, span seen, size_t n)
{
    size_t from = seen.from / STEP * STEP, to = in_steps(seen.to);
    float top[STEP], part[STEP] = { 0 }, max, sum = 0, inverse;

    fill(s + from, -FLT_MAX, seen.from - from);
    fill(s + seen.to, -FLT_MAX, to - seen.to);
    memcpy(top, s + from, sizeof top);
    for (size_t i = from; i < to; i += STEP) {
#pragma omp simd
        for (size_t e = 0; e < STEP; e++) {
            top[e] = s[i + e] > top[e] ? s[i + e] : top[e];
        }
    }
    max = esp_largest(top, STEP);
    for (size_t i = from; i < to; i += STEP) {
#pragma omp simd
        for (size_t e = 0; e < STEP; e++) {
            s[i + e] = esp_expf(s[i + e] - max);
            part[e] += s[i + e];
        }
    }
    for (size_t e = 0; e < STEP; e++) {
        sum += part[e];
    }
    inverse = 1 / sum;
    for (size_t i = from; i < to; i++) {
        s[i] *= inverse;
    }
    memset(s, 0, seen.from * sizeof *s);
    memset(s + seen.to, 0, (n - seen.to) * sizeof *s);
}

/* A block of queries, i .. i + n_q - 1, and the keys that one of them sees. */
typedef struct block {
    size_t i, n_q;
    span keys;
    size_t n, width; /* keys; numbers in a row of scores */
} block;

static block make_block(const head *h, size_t i)
{
    size_t n_q = esp_tile(i, h->n, QUERY_BLOCK);
    span keys = seen_by_block(h, i, n_q);

    return (block){ i, n_q, keys, keys.to - keys.from, in_steps(keys.to - keys.from) };
}

/* Keys that query r of the block sees, counted from the first of the block. */
static span seen_in(const head *h, const block *b, size_t r)
{
    span seen = seen_by(h, b->i + r);

    return (span){ seen.from - b->keys.from, seen.to - b->keys.from };
}

/* How many of keys k .. k + n_k - 1 of the block a query of the band from r on may see: the first ones. */
static size_t seen_of(const head *h, const block *b, size_t r, size_t k, size_t n_k)
{
    size_t last = r + esp_tile(r, b->n_q, ESP_TILE_ROWS) - 1, to = seen_in(h, b, last).to;

    return to <= k ? 0 : to - k < n_k ? to - k : n_k;
}

/* Row of a key, counted from that of the first. */
static size_t row_of(const head *h, size_t key)
{
    return key < h->trunk ? key : key + h->gap;
}

/* How many of n keys from one on lie one after another: those of a trunk, or the own ones. */
static size_t run_of(const head *h, size_t key, size_t n)
{
    return key < h->trunk ? esp_tile(key, h->trunk, n) : n;
}

/* Columns of rows x [n, d], in place where no panel ends behind a row, else packed. */
static esp_columns columns_of(float *room, const float *x, size_t stride, size_t n, size_t d)
{
    if (d % ESP_TILE_COLS == 0) {
        return (esp_columns){ x, ESP_TILE_COLS, stride };
    }
    esp_pack_cols(room, n, esp_plain(x, stride), n, d);
    return (esp_columns){ room, n * ESP_TILE_COLS, ESP_TILE_COLS };
}

/* The same of n keys from one on, which are packed where they do not lie one after another. */
static esp_columns columns_of_keys(float *room, const float *x, const head *h, size_t key, size_t n)
{
    size_t d = h->a->head_dim, stride = h->kv_stride, run = run_of(h, key, n);

    if (run == n) {
        return columns_of(room, x + row_of(h, key) * stride, stride, n, d);
    }
    esp_pack_cols(room, n, esp_plain(x + key * stride, stride), run, d);
    esp_pack_cols(room + run * ESP_TILE_COLS, n,
                  esp_plain(x + row_of(h, key + run) * stride, stride), n - run, d);
    return (esp_columns){ room, n * ESP_TILE_COLS, ESP_TILE_COLS };
}

/* s [n_q, n] = A B^T, rows of A the queries', of B the keys'; what no query of a band sees is not set. */
static void score(float *s, const scratch *w, const float *a, const float *rows_b, const head *h,
                  const block *b)
{
    size_t d = h->a->head_dim;
    const esp_columns cols = { w->cols, d * ESP_TILE_COLS, ESP_TILE_COLS };

    for (size_t k = 0, n_k; k < b->n; k += n_k) {
        size_t key = b->keys.from + k;
        const float *first = rows_b + row_of(h, key) * h->kv_stride;

        n_k = run_of(h, key, esp_tile(k, b->n, KEY_BLOCK));
        esp_pack_cols(w->cols, d, esp_transposed(esp_plain(first, h->kv_stride)), d, n_k);
        for (size_t r = 0; r < b->n_q; r += ESP_TILE_ROWS) {
            esp_multiply_in_place((esp_target){ s + r * b->width + k, b->width, 1 }, false,
                                  esp_plain(a + r * h->q_stride, h->q_stride), cols,
                                  esp_tile(r, b->n_q, ESP_TILE_ROWS), seen_of(h, b, r, k, n_k), d);
        }
    }
}

/* y [n_q, d] = S B or y += S B, S [n_q, n] zero where a query does not see, rows of B the keys'. */
static void weigh(float *y, bool add, const scratch *w, const float *s, const float *rows_b,
                  const head *h, const block *b)
{
    size_t d = h->a->head_dim;

    for (size_t k = 0; k < b->n; k += KEY_BLOCK) {
        size_t n_k = esp_tile(k, b->n, KEY_BLOCK);
        esp_columns cols = columns_of_keys(w->cols, rows_b, h, b->keys.from + k, n_k);

        for (size_t r = 0; r < b->n_q; r += ESP_TILE_ROWS) {
            size_t n_seen = seen_of(h, b, r, k, n_k);

            if (n_seen > 0) {
                esp_multiply_in_place((esp_target){ y + r * h->q_stride, h->q_stride, 1 },
                                      add || k > 0, esp_plain(s + r * b->width + k, b->width), cols,
                                      esp_tile(r, b->n_q, ESP_TILE_ROWS), d, n_seen);
            }
        }
    }
}

/* w->p [n_q, n]: probabilities of the block's queries over its keys. */
static void probabilities(const scratch *w, const head *h, const block *b)
{
    const esp_attention *a = h->a;

    score(w->p, w, h->q + b->i * h->q_stride, h->k, h, b);
    for (size_t r = 0; r < b->n_q; r++) {
        span seen = seen_in(h, b, r);
        float *row = w->p + r * b->width;

        for (size_t c = seen.from; c < seen.to; c++) {
            row[c] *= a->scale;
        }
        if (a->soft_cap > 0) {
            esp_cap_row(row + seen.from, a->soft_cap, seen.to - seen.from);
        }
        for (size_t c = seen.from; w->cap_derivative && c < seen.to; c++) {
            w->cap_derivative[r * b->width + c] = esp_cap_slope(row[c], 1 / a->soft_cap);
        }
        if (h->slope != 0) {
            add_distances(row + seen.from, h->slope, h->before + b->i + r, b->keys.from + seen.from,
                          seen.to - seen.from);
        }
        softmax_row(row, seen, b->width);
    }
}

/* ---- scratch ---------------------------------------------------------------------------------- */

/* For samples of at most so many queries, each of which sees so many keys at most. */
static void make_scratch(scratch *w, const esp_attention *a, size_t n_queries, size_t n_keys,
                         bool backward, size_t *bytes)
{
    size_t n_q = esp_tile(0, n_queries, QUERY_BLOCK), size = n_q * in_steps(n_keys);
    size_t n = esp_tile(0, n_keys, KEY_BLOCK), d = ESP_PANELS(a->head_dim);

    *w = (scratch){ 0 };
    ESP_MAKE(w->p, size, bytes);
    ESP_MAKE(w->cols, ESP_PANELS(esp_max(n, n_q)) * d, bytes);
    if (backward) {
        ESP_MAKE(w->dp, size, bytes);
    }
    if (backward && a->soft_cap > 0) {
        ESP_MAKE(w->cap_derivative, size, bytes);
    }
}

static void scratch_init(scratch *w, const esp_attention *a, bool backward, const esp_batch *batch)
{
    make_scratch(w, a, esp_batch_longest(batch), esp_batch_reach(batch), backward, NULL);
}

size_t esp_attention_bytes(const esp_attention *a, size_t longest, bool backward)
{
    scratch w;
    size_t bytes = 0;

    make_scratch(&w, a, longest, longest, backward, &bytes);
    return bytes;
}

static void scratch_free(scratch *w)
{
    free(w->p);
    free(w->dp);
    free(w->cap_derivative);
    free(w->cols);
}

/* ---- forward ---------------------------------------------------------------------------------- */

static void head_forward(float *out, const scratch *w, const head *h)
{
    for (size_t i = 0; i < h->n; i += QUERY_BLOCK) {
        block b = make_block(h, i);

        probabilities(w, h, &b);
        weigh(out + i * h->q_stride, false, w, w->p, h->v, h, &b);
    }
}

void esp_attention_forward(float *out, const float *q, const float *k, const float *v,
                           const esp_attention *a, const esp_batch *batch)
{
    ESP_REQUIRE(batch->position == 0 || batch->n_samples == 1);
#pragma omp parallel
    {
        scratch s;

        scratch_init(&s, a, false, batch);
#pragma omp for collapse(2) schedule(dynamic)
        for (size_t j = 0; j < batch->n_samples; j++) {
            for (size_t i = 0; i < a->heads; i++) {
                head h = make_head(q, k, v, a, i, j, batch);

                head_forward(out + (h.q - q), &s, &h);
            }
        }
        scratch_free(&s);
    }
}

/* ---- backward --------------------------------------------------------------------------------- */

/* ds = scale p (dp - sum(p dp)) times the slope of the cap (NULL: 1) for a row, in the place of dp; zero
 * where the query does not see. */
static void softmax_backward_row(float *dp, const float *p, const float *cap_derivative,
                                 float scale, span seen, size_t n)
{
    float sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = seen.from; i < seen.to; i++) {
        sum += p[i] * dp[i];
    }
    for (size_t i = seen.from; i < seen.to; i++) {
        dp[i] = scale * p[i] * (dp[i] - sum);
    }
    for (size_t i = seen.from; cap_derivative && i < seen.to; i++) {
        dp[i] *= cap_derivative[i];
    }
    memset(dp, 0, seen.from * sizeof *dp);
    memset(dp + seen.to, 0, (n - seen.to) * sizeof *dp);
}

/* y [n, d] of the block's keys += S^T B, S [n_q, n] as in weigh, rows of B the queries'. */
static void spread(float *y, const scratch *w, const float *s, const float *rows_b, const head *h,
                   const block *b)
{
    size_t d = h->a->head_dim, r = 0;
    esp_columns cols = columns_of(w->cols, rows_b, h->q_stride, b->n_q, d);

    for (size_t k = 0; k < b->n; k += ESP_TILE_ROWS) {
        while (r + 1 < b->n_q && seen_in(h, b, r).to <= k) { /* the first query that sees key k */
            r++;
        }
        esp_multiply_in_place(
            (esp_target){ y + (b->keys.from + k) * h->kv_stride, h->kv_stride, 1 }, true,
            (esp_operand){ s + r * b->width + k, 1, b->width, ESP_F32 },
            (esp_columns){ cols.at + r * cols.row, cols.panel, cols.row },
            esp_tile(k, b->n, ESP_TILE_ROWS), d, b->n_q - r);
    }
}

/* Gradients of one head; rows of dq and dout lie as those of q, rows of dk and dv as those of k. */
static void head_backward(float *dq, float *dk, float *dv, const float *dout, const scratch *w,
                          const head *h)
{
    size_t qs = h->q_stride;

    for (size_t i = 0; i < h->n; i += QUERY_BLOCK) {
        block b = make_block(h, i);

        probabilities(w, h, &b);
        spread(dv, w, w->p, dout + i * qs, h, &b);
        score(w->dp, w, dout + i * qs, h->v, h, &b);
        for (size_t r = 0; r < b.n_q; r++) {
            softmax_backward_row(w->dp + r * b.width, w->p + r * b.width,
                                 w->cap_derivative ? w->cap_derivative + r * b.width : NULL,
                                 h->a->scale, seen_in(h, &b, r), b.width);
        }
        weigh(dq + i * qs, true, w, w->dp, h->k, h, &b);
        spread(dk, w, w->dp, h->q + i * qs, h, &b);
    }
}

void esp_attention_backward(float *dq, float *dk, float *dv, const float *dout, const float *q,
                            const float *k, const float *v, const esp_attention *a,
                            const esp_batch *batch)
{
    size_t n_shared = a->heads / a->kv_heads;

    ESP_REQUIRE(esp_batch_reach(batch) == esp_batch_longest(batch)); /* nothing is continued */
#pragma omp parallel
    {
        scratch s;

        scratch_init(&s, a, true, batch);
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
        scratch_free(&s);
    }
}
