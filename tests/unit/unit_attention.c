/* unit_attention.c - rotary positions and attention in every variant, against plain f64 forwards and
 * central differences of them. */
#include "finite_differences.h"
#include "reference_rope.h"

#include "espalier/tensor.h"

/* Samples whose prefixes are given as such: prefix[j] tokens, of which `place` is the place. */
static void make_prefixed(esp_batch *b, const size_t *length, const size_t *prefix, size_t n)
{
    make_batch(b, length, n);
    for (size_t j = 0; j < n && prefix; j++) {
        b->prefix[j] = prefix[j];
        b->place[j] = prefix[j] / 2;
    }
}

/* ---- rotary ----------------------------------------------------------------------------------- */

typedef struct rotary_shape {
    const esp_batch *batch;
    const esp_rotation *r;
    size_t H, d;
} rotary_shape;

/* One head at a position. */
static void turn(double *y, const double *x, const esp_rotation *r, size_t d, double position,
                 size_t T)
{
    memcpy(y, x, d * sizeof *x);
    for (size_t c = 0; c < r->rope->n / 2; c++) {
        size_t i = r->first + (r->pairs ? 2 * c : c), k = i + (r->pairs ? 1 : r->rope->n / 2);
        double a = position * plain_frequency(r->rope, c, T), g = r->rope->gain;

        y[i] = g * (x[i] * cos(a) - x[k] * sin(a));
        y[k] = g * (x[i] * sin(a) + x[k] * cos(a));
    }
}

static void rotary(double *y, double *const *in, const void *shape) /* x */
{
    const rotary_shape *s = shape;
    const esp_batch *b = s->batch;

    for (size_t j = 0; j < b->n_samples; j++) {
        for (size_t row = b->start[j]; row < b->start[j + 1]; row++) {
            size_t index = b->position + row - b->start[j], block = 0, position = index;

            if (b->prefix[j] && index >= b->prefix[j]) {
                position = b->place[j];
                block = index - b->prefix[j] + 1;
            }
            for (size_t at = row * s->H * s->d; at < (row + 1) * s->H * s->d; at += s->d) {
                turn(y + at, in[0] + at, s->r, s->d,
                     (double)(s->r->block_position ? block : position),
                     b->position + b->start[j + 1] - b->start[j]);
            }
        }
    }
}

static void check_rope(const esp_batch *b, esp_rotation r, esp_rope rope, size_t H, size_t d)
{
    double inv_freq[8] = { 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003 };
    rotary_shape s = { b, &r, H, d };
    op o = { rotary, &s, b->n_tok * H * d, { b->n_tok * H * d } };
    float *in[MAX_IN], *grads[MAX_IN], *y = nans(o.n_out), *dy = random_floats(o.n_out, 10);

    rope.inv_freq = inv_freq;
    r.rope = &rope;
    make_arrays(in, grads, &o, 3);
    esp_rotary_forward(y, in[0], &r, H, d, b);
    CU_ASSERT(forward_close(&o, in, y));
    esp_rotary_backward(grads[0], dy, &r, H, d, b);
    take_ones(grads[0], o.n_in[0]);
    CU_ASSERT(gradients_close(&o, in, dy, grads));
    esp_rotary_forward(in[0], in[0], &r, H, d, b); /* in place */
    CU_ASSERT(memcmp(in[0], y, o.n_out * sizeof *y) == 0);
    free_arrays(in, grads);
    free(y);
    free(dy);
}

static void check_rotary(const esp_batch *b, esp_rotation r, size_t n, size_t H, size_t d)
{
    check_rope(b, r, (esp_rope){ .n = n, .gain = 1 }, H, d);
}

static void test_rotary(void)
{
    esp_batch several, decoded;

    make_batch(&several, (size_t[]){ 5, 1, 9 }, 3);
    make_batch(&decoded, (size_t[]){ 2 }, 1);
    decoded.position = 4000;
    check_rotary(&several, (esp_rotation){ .first = 0 }, 6, 3, 6);
    check_rotary(&several, (esp_rotation){ .pairs = true }, 6, 3, 6);
    check_rotary(&several, (esp_rotation){ .first = 0 }, 4, 2, 10);
    check_rotary(&several, (esp_rotation){ .first = 3, .pairs = true }, 4, 2, 10);
    check_rotary(&decoded, (esp_rotation){ .first = 0 }, 16, 1, 16);
    check_rotary(&decoded, (esp_rotation){ .pairs = true }, 8, 1, 16);
    esp_batch_free(&several);
    esp_batch_free(&decoded);
}

/* Samples on both sides of the border in one batch, and a sequence that grows beyond it: the frequencies are
 * those of each sequence alone. */
static void test_rotary_by_length(void)
{
    double longer[8] = { 0.9, 0.2, 0.05, 0.01, 0.004, 0.002, 0.0007, 0.0001 };
    esp_rope lists = { .n = 6, .gain = 1.2, .border = 7, .longer = longer };
    esp_rope stretched = { .n = 6, .gain = 1, .border = 7, .stretch = 4 };
    esp_batch several, decoded;

    make_batch(&several, (size_t[]){ 7, 8, 3, 12, 8, 9 }, 6);
    make_batch(&decoded, (size_t[]){ 2 }, 1);
    check_rope(&several, (esp_rotation){ .first = 2 }, lists, 2, 9);
    check_rope(&several, (esp_rotation){ .pairs = true }, lists, 2, 6);
    check_rope(&several, (esp_rotation){ .first = 2 }, stretched, 2, 9);
    for (decoded.position = 4; decoded.position < 8; decoded.position++) {
        check_rope(&decoded, (esp_rotation){ .first = 0 }, lists, 2, 6);
        check_rope(&decoded, (esp_rotation){ .first = 0 }, stretched, 2, 6);
    }
    esp_batch_free(&several);
    esp_batch_free(&decoded);
}

/* Two dimensions: one half of a head by the position, the other by the block position. */
static void test_rotary_block(void)
{
    esp_batch several, decoded;

    make_prefixed(&several, (size_t[]){ 9, 4, 7 }, (size_t[]){ 5, 0, 1 }, 3);
    make_prefixed(&decoded, (size_t[]){ 3 }, (size_t[]){ 6 }, 1);
    check_rotary(&several, (esp_rotation){ .first = 0 }, 4, 3, 8);
    check_rotary(&several, (esp_rotation){ .first = 4, .block_position = true }, 4, 3, 8);
    for (decoded.position = 0; decoded.position < 9; decoded.position += 4) {
        check_rotary(&decoded, (esp_rotation){ .first = 0 }, 4, 1, 8);
        check_rotary(&decoded, (esp_rotation){ .first = 4, .block_position = true }, 4, 1, 8);
    }
    esp_batch_free(&several);
    esp_batch_free(&decoded);
}

/* ---- attention -------------------------------------------------------------------------------- */

typedef struct attention_shape {
    const esp_batch *batch;
    const esp_attention *a;
} attention_shape;

static bool sees(const attention_shape *s, size_t j, size_t query, size_t key)
{
    bool late = key > query && !(s->a->prefix && key < s->batch->prefix[j]);

    return !late && (!s->a->window || key + s->a->window > query);
}

/* Query row t of head h of sample j over the sample's n keys; k and v point at the first of the head's
 * key/value head, rows of which are K * d apart. */
static void attend(double *out, const double *q, const double *k, const double *v,
                   const attention_shape *s, size_t j, size_t h, size_t t, size_t n)
{
    const esp_attention *a = s->a;
    size_t d = a->head_dim, stride = a->kv_heads * d;
    double sum = 0, *p;

    ESP_NEW(p, n);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < d; c++) {
            p[i] += (double)a->scale * q[c] * k[i * stride + c];
        }
        if (a->soft_cap > 0) {
            p[i] = (double)a->soft_cap * tanh(p[i] / (double)a->soft_cap);
        }
        p[i] += a->slopes ? (double)a->slopes[h] * ((double)i - (double)t) : 0;
        p[i] = sees(s, j, t, i) ? exp(p[i]) : 0;
        sum += p[i];
    }
    for (size_t c = 0; c < d; c++) {
        out[c] = 0;
        for (size_t i = 0; i < n; i++) {
            out[c] += p[i] / sum * v[i * stride + c];
        }
    }
    free(p);
}

static void attention(double *out, double *const *in, const void *shape) /* q, k, v */
{
    const attention_shape *s = shape;
    size_t H = s->a->heads, K = s->a->kv_heads, d = s->a->head_dim;

    for (size_t j = 0; j < s->batch->n_samples; j++) {
        size_t begin = s->batch->start[j], n = s->batch->start[j + 1] - begin;

        for (size_t i = 0; i < n * H; i++) {
            size_t t = i / H, h = i % H, at = ((begin + t) * H + h) * d;
            size_t kv_at = (begin * K + h / (H / K)) * d;

            attend(out + at, in[0] + at, in[1] + kv_at, in[2] + kv_at, s, j, h, t, n);
        }
    }
}

static void check_attention(const esp_batch *b, esp_attention a)
{
    attention_shape s = { b, &a };
    size_t n_q = b->n_tok * a.heads * a.head_dim, n_kv = b->n_tok * a.kv_heads * a.head_dim;
    op o = { attention, &s, n_q, { n_q, n_kv, n_kv } };
    float *in[MAX_IN], *grads[MAX_IN], *out = nans(n_q), *dout = random_floats(n_q, 10);

    a.scale = 0.5f;
    make_arrays(in, grads, &o, 4);
    esp_attention_forward(out, in[0], in[1], in[2], &a, b);
    CU_ASSERT(forward_close(&o, in, out));
    esp_attention_backward(grads[0], grads[1], grads[2], dout, in[0], in[1], in[2], &a, b);
    for (int i = 0; i < 3; i++) {
        take_ones(grads[i], o.n_in[i]);
    }
    CU_ASSERT(gradients_close(&o, in, dout, grads));
    free_arrays(in, grads);
    free(out);
    free(dout);
}

static void check_lengths(const size_t *length, size_t n, esp_attention a)
{
    esp_batch b;

    make_batch(&b, length, n);
    check_attention(&b, a);
    esp_batch_free(&b);
}

#define HEADS(H, K, d) .heads = (H), .kv_heads = (K), .head_dim = (d)

static void test_attention(void)
{
    check_lengths((size_t[]){ 1 }, 1, (esp_attention){ HEADS(1, 1, 2) });
    check_lengths((size_t[]){ 9, 1, 4 }, 3, (esp_attention){ HEADS(6, 2, 6) });
    check_lengths((size_t[]){ 140, 3 }, 2, (esp_attention){ HEADS(2, 2, 4) });
    check_lengths((size_t[]){ 67 }, 1, (esp_attention){ HEADS(4, 1, 10) });
}

/* Samples shorter and longer than a block of queries, with prefixes likewise. */
enum { N_SAMPLES = 3 };
static const size_t lengths[N_SAMPLES] = { 80, 1, 9 };
static const size_t prefixes[N_SAMPLES] = { 70, 0, 3 };
static const float slopes[4] = { 0.5f, 0.25f, 0.0625f, 0 };

/* Each variant on its own, then all at once. */
static const esp_attention variants[] = {
    { HEADS(4, 2, 2), .slopes = slopes },
    { HEADS(4, 2, 2), .soft_cap = 0.75f },
    { HEADS(4, 2, 2), .window = 5 },
    { HEADS(4, 2, 2), .window = 70 },
    { HEADS(4, 2, 2), .prefix = true },
    { HEADS(4, 2, 2), .slopes = slopes, .soft_cap = 1.5f, .window = 30, .prefix = true },
};
enum { N_VARIANTS = sizeof variants / sizeof *variants };

static void test_attention_variants(void)
{
    esp_batch b;

    make_prefixed(&b, lengths, prefixes, N_SAMPLES);
    for (size_t i = 0; i < N_VARIANTS; i++) {
        check_attention(&b, variants[i]);
    }
    esp_batch_free(&b);
}

/* Where the prefix is not asked for, that of the batch changes nothing. */
static void test_prefix_not_asked(void)
{
    esp_batch b;

    make_prefixed(&b, (size_t[]){ 9 }, (size_t[]){ 6 }, 1);
    check_attention(&b, (esp_attention){ HEADS(2, 1, 4) });
    esp_batch_free(&b);
}

/* ---- decoding --------------------------------------------------------------------------------- */

/* Decoding n_new tokens behind the others gives the tail of the full attention. */
static void check_cached(const esp_attention *a, size_t T, size_t prefix, size_t n_new)
{
    size_t at = (T - n_new) * a->heads * a->head_dim, n = T * a->heads * a->head_dim;
    float *q = random_floats(n, 1), *k = random_floats(n, 2), *v = random_floats(n, 3);
    float *full = nans(n), *tail = nans(n - at);
    double *want;
    esp_batch all, last;

    make_prefixed(&all, &T, &prefix, 1);
    make_prefixed(&last, &n_new, &prefix, 1);
    last.position = T - n_new;
    esp_attention_forward(full, q, k, v, a, &all);
    esp_attention_forward(tail, q + at, k, v, a, &last);
    want = doubles_of(full + at, n - at);
    CU_ASSERT(close_floats(tail, want, n - at, 1e-6));
    free(q);
    free(k);
    free(v);
    free(full);
    free(tail);
    free(want);
    esp_batch_free(&all);
    esp_batch_free(&last);
}

static void test_attention_cached(void)
{
    const esp_attention plain = { HEADS(4, 2, 6) };
    const size_t n_new[] = { 1, 70, 150 };

    for (size_t i = 0; i < sizeof n_new / sizeof *n_new; i++) {
        check_cached(&plain, 150, 0, n_new[i]);
        for (size_t e = 0; e < N_VARIANTS; e++) {
            esp_attention a = variants[e];

            a.scale = 0.4f;
            check_cached(&a, 150, 80, n_new[i]);
        }
    }
}

/* ---- branches --------------------------------------------------------------------------------- */

/* Rows [n, width] of x from `from` on, behind what is at `to`. Returns the end. */
static float *copy_rows(float *to, const float *x, size_t from, size_t n, size_t width)
{
    memcpy(to, x + from * width, n * width * sizeof *to);
    return to + n * width;
}

/* Row i of the batch begins a branch of n rows behind a trunk of rows first .. first + trunk - 1: whether
 * out has the bits that it has where trunk and branch are one sample. */
static bool as_whole(const float *out, const float *const x[3], const esp_attention *a,
                     size_t first, size_t trunk, size_t i, size_t n, size_t prefix)
{
    const size_t width[] = { a->heads * a->head_dim, a->kv_heads * a->head_dim,
                             a->kv_heads * a->head_dim };
    size_t T = trunk + n;
    float *of[3], *whole = nans(T * width[0]);
    bool same;
    esp_batch b;

    for (int v = 0; v < 3; v++) {
        of[v] = nans(T * width[v]);
        copy_rows(copy_rows(of[v], x[v], first, trunk, width[v]), x[v], i, n, width[v]);
    }
    make_prefixed(&b, &T, &prefix, 1);
    esp_attention_forward(whole, of[0], of[1], of[2], a, &b);
    same = memcmp(whole, out + first * width[0], trunk * width[0] * sizeof *out) == 0 &&
           memcmp(whole + trunk * width[0], out + i * width[0], n * width[0] * sizeof *out) == 0;
    for (int v = 0; v < 3; v++) {
        free(of[v]);
    }
    free(whole);
    esp_batch_free(&b);
    return same;
}

static void check_branches(const esp_attention *a, size_t trunk, size_t prefix)
{
    const size_t length[] = { 3, trunk, 1, 70, 300, 2 };
    const size_t prefixes_of[] = { 0, prefix, prefix, prefix, prefix, 0 };
    size_t width = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    float *x[3], *out;
    esp_batch b;

    make_prefixed(&b, length, prefixes_of, 6);
    for (size_t j = 2; j < 5; j++) {
        b.back[j] = j - 1;
    }
    for (uint64_t v = 0; v < 3; v++) {
        x[v] = random_floats(b.n_tok * (v ? kv : width), v);
    }
    out = nans(b.n_tok * width);
    esp_attention_forward(out, x[0], x[1], x[2], a, &b);
    for (size_t j = 2; j < 5; j++) {
        CU_ASSERT(
            as_whole(out, (const float *const *)x, a, 3, trunk, b.start[j], length[j], prefix));
    }
    for (int v = 0; v < 3; v++) {
        free(x[v]);
    }
    free(out);
    esp_batch_free(&b);
}

static void test_attention_branches(void)
{
    const size_t trunks[] = { 1, 40, 64, 250, 256, 300 };

    for (size_t i = 0; i < sizeof trunks / sizeof *trunks; i++) {
        check_branches(&(esp_attention){ HEADS(4, 2, 8), .scale = 0.3f }, trunks[i], 0);
        check_branches(&(esp_attention){ HEADS(1, 1, 32), .scale = 0.3f }, trunks[i], 0);
        for (size_t e = 0; e < N_VARIANTS; e++) {
            esp_attention a = variants[e];

            a.scale = 0.4f;
            a.window = 0;
            check_branches(&a, trunks[i], a.prefix ? trunks[i] - trunks[i] / 3 : 0);
        }
    }
}

ESP_TEST_MAIN("attention", { "rotary", test_rotary },
              { "rotary, block positions", test_rotary_block },
              { "rotary by length", test_rotary_by_length }, { "attention", test_attention },
              { "branches", test_attention_branches }, { "variants", test_attention_variants },
              { "prefix not asked for", test_prefix_not_asked },
              { "with a cache", test_attention_cached })
