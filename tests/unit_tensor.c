/* unit_tensor.c - each kernel against a plain f64 forward, and its backward against central differences
 * of that forward. */
#include "differences.h"

#include "espalier/tensor.h"

/* What a forward finds in its output: it must set, not add. */
static float *nans(size_t n)
{
    float *x;

    ESP_NEW(x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = NAN;
    }
    return x;
}

/* ---- linear ----------------------------------------------------------------------------------- */

typedef struct linear_shape {
    size_t n_tok, n_in, n_out;
} linear_shape;

static void linear(double *y, double *const *in, const void *shape) /* x, w, b */
{
    const linear_shape *s = shape;

    for (size_t t = 0; t < s->n_tok; t++) {
        for (size_t o = 0; o < s->n_out; o++) {
            double sum = in[2][o];

            for (size_t i = 0; i < s->n_in; i++) {
                sum += in[0][t * s->n_in + i] * in[1][o * s->n_in + i];
            }
            y[t * s->n_out + o] = sum;
        }
    }
}

static void check_linear(const size_t *length, size_t n, size_t n_in, size_t n_out, size_t min_rows)
{
    esp_batch b;
    linear_shape s;
    op o;
    float *in[MAX_IN], *grads[MAX_IN], *y, *dy;

    make_batch(&b, length, n, min_rows);
    s = (linear_shape){ b.n_tok, n_in, n_out };
    o = (op){ linear, &s, b.n_tok * n_out, { b.n_tok * n_in, n_out * n_in, n_out } };
    make_arrays(in, grads, &o, 1);
    y = nans(o.n_out);
    dy = random_floats(o.n_out, 10);
    esp_linear_forward(y, in[0], in[1], in[2], n_in, n_out, &b);
    CU_ASSERT(forward_close(&o, in, y));
    esp_linear_backward_input(grads[0], dy, in[1], n_in, n_out, &b);
    esp_linear_backward_weight(grads[1], grads[2], dy, in[0], b.n_tok, n_in, n_out);
    for (int i = 0; i < 3; i++) {
        take_ones(grads[i], o.n_in[i]);
    }
    CU_ASSERT(gradients_close(&o, in, dy, grads));
    memset(in[2], 0, n_out * sizeof(float));
    esp_linear_forward(y, in[0], in[1], NULL, n_in, n_out, &b);
    CU_ASSERT(forward_close(&o, in, y));
    for (size_t i = 0; i < o.n_out; i++) {
        y[i] = 1;
    }
    esp_linear_accumulate(y, in[0], in[1], n_in, n_out, &b);
    take_ones(y, o.n_out);
    CU_ASSERT(forward_close(&o, in, y));
    free_arrays(in, grads);
    free(y);
    free(dy);
    esp_batch_free(&b);
}

static void test_linear(void)
{
    check_linear((size_t[]){ 3, 130, 1 }, 3, 7, 5, 1);
    check_linear((size_t[]){ 1 }, 1, 33, 600, 1);
    check_linear((size_t[]){ 5, 6, 7 }, 3, 530, 9, 64);
}

/* ---- norm ------------------------------------------------------------------------------------- */

static void rmsnorm(double *y, double *const *in, const void *shape) /* x, w */
{
    const linear_shape *s = shape;

    for (size_t t = 0; t < s->n_tok; t++) {
        const double *x = in[0] + t * s->n_in;
        double sum = 0;

        for (size_t c = 0; c < s->n_in; c++) {
            sum += x[c] * x[c];
        }
        for (size_t c = 0; c < s->n_in; c++) {
            y[t * s->n_in + c] = x[c] / sqrt(sum / (double)s->n_in + 0.25) * in[1][c];
        }
    }
}

static void check_rmsnorm(const size_t *length, size_t n, size_t D)
{
    esp_batch b;
    linear_shape s;
    op o;
    float *in[MAX_IN], *grads[MAX_IN], *y, *dy, *dw;

    make_batch(&b, length, n, 1);
    s = (linear_shape){ b.n_tok, D, D };
    o = (op){ rmsnorm, &s, b.n_tok * D, { b.n_tok * D, D } };
    make_arrays(in, grads, &o, 2);
    y = nans(o.n_out);
    dy = random_floats(o.n_out, 10);
    dw = random_floats(n * D, 11); /* is set, not added to */
    esp_rmsnorm_forward(y, in[0], in[1], b.n_tok, D, 0.25f);
    CU_ASSERT(forward_close(&o, in, y));
    esp_rmsnorm_backward(grads[0], dw, dy, in[0], in[1], D, 0.25f, &b);
    take_ones(grads[0], o.n_in[0]);
    take_ones(grads[1], D);
    for (size_t i = 0; i < n * D; i++) {
        grads[1][i % D] += dw[i];
    }
    CU_ASSERT(gradients_close(&o, in, dy, grads));
    free_arrays(in, grads);
    free(y);
    free(dy);
    free(dw);
    esp_batch_free(&b);
}

static void test_rmsnorm(void)
{
    check_rmsnorm((size_t[]){ 1 }, 1, 3);
    check_rmsnorm((size_t[]){ 4, 1, 9 }, 3, 150);
}

/* Row j of dw is the gradient of sample j alone. */
static void test_rmsnorm_samples(void)
{
    esp_batch all, one;
    float *x = random_floats(7 * 5, 1), *dy = random_floats(7 * 5, 2), *w = random_floats(5, 3);
    float *dx = random_floats(7 * 5, 4), together[10], alone[5];

    make_batch(&all, (size_t[]){ 3, 4 }, 2, 1);
    make_batch(&one, (size_t[]){ 4 }, 1, 1);
    esp_rmsnorm_backward(dx, together, dy, x, w, 5, 1e-5f, &all);
    esp_rmsnorm_backward(dx, alone, dy + 15, x + 15, w, 5, 1e-5f, &one);
    CU_ASSERT(memcmp(together + 5, alone, sizeof alone) == 0);
    esp_rmsnorm_backward(dx, NULL, dy, x, w, 5, 1e-5f, &all);
    free(x);
    free(dy);
    free(w);
    free(dx);
    esp_batch_free(&all);
    esp_batch_free(&one);
}

/* ---- rotary ----------------------------------------------------------------------------------- */

typedef struct head_shape {
    const esp_batch *batch;
    const double *inv_freq;
    size_t H, K, d;
    double scale;
} head_shape;

static void rotary(double *y, double *const *in, const void *shape) /* x */
{
    const head_shape *s = shape;
    size_t half = s->d / 2;

    for (size_t j = 0; j < s->batch->n_samples; j++) {
        for (size_t row = s->batch->start[j]; row < s->batch->start[j + 1]; row++) {
            for (size_t i = 0; i < s->H * half; i++) {
                size_t c = i % half, at = (row * s->H + i / half) * s->d + c;
                double position = (double)(s->batch->position + row - s->batch->start[j]);
                double a = position * s->inv_freq[c], x0 = in[0][at], x1 = in[0][at + half];

                y[at] = x0 * cos(a) - x1 * sin(a);
                y[at + half] = x0 * sin(a) + x1 * cos(a);
            }
        }
    }
}

static void check_rotary(const size_t *length, size_t n, size_t position, size_t H, size_t d)
{
    double inv_freq[8] = { 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003 };
    esp_batch b;
    head_shape s = { &b, inv_freq, H, H, d, 0 };
    esp_rotation turn = { .n = d, .inv_freq = inv_freq };
    op o;
    float *in[MAX_IN], *grads[MAX_IN], *y, *dy;

    make_batch(&b, length, n, 1);
    b.position = position;
    o = (op){ rotary, &s, b.n_tok * H * d, { b.n_tok * H * d } };
    make_arrays(in, grads, &o, 3);
    y = nans(o.n_out);
    dy = random_floats(o.n_out, 10);
    esp_rotary_forward(y, in[0], &turn, H, d, &b);
    CU_ASSERT(forward_close(&o, in, y));
    esp_rotary_backward(grads[0], dy, &turn, H, d, &b);
    take_ones(grads[0], o.n_in[0]);
    CU_ASSERT(gradients_close(&o, in, dy, grads));
    esp_rotary_forward(in[0], in[0], &turn, H, d, &b); /* in place */
    CU_ASSERT(memcmp(in[0], y, o.n_out * sizeof *y) == 0);
    free_arrays(in, grads);
    free(y);
    free(dy);
    esp_batch_free(&b);
}

static void test_rotary(void)
{
    check_rotary((size_t[]){ 5, 1, 9 }, 3, 0, 3, 6);
    check_rotary((size_t[]){ 2 }, 1, 4000, 1, 16);
}

/* ---- attention -------------------------------------------------------------------------------- */

/* Query row i of one head over keys 0 .. n_seen - 1; rows of q are H * d, of k and v K * d apart. */
static void attend(double *out, const double *q, const double *k, const double *v, size_t n_seen,
                   const head_shape *s)
{
    size_t stride = s->K * s->d;
    double *p, sum = 0;

    ESP_NEW(p, n_seen);
    for (size_t i = 0; i < n_seen; i++) {
        for (size_t c = 0; c < s->d; c++) {
            p[i] += s->scale * q[c] * k[i * stride + c];
        }
        p[i] = exp(p[i]);
        sum += p[i];
    }
    for (size_t c = 0; c < s->d; c++) {
        out[c] = 0;
        for (size_t i = 0; i < n_seen; i++) {
            out[c] += p[i] / sum * v[i * stride + c];
        }
    }
    free(p);
}

static void attention(double *out, double *const *in, const void *shape) /* q, k, v */
{
    const head_shape *s = shape;

    for (size_t j = 0; j < s->batch->n_samples; j++) {
        size_t begin = s->batch->start[j];

        for (size_t row = begin; row < s->batch->start[j + 1]; row++) {
            for (size_t h = 0; h < s->H; h++) {
                size_t at = (row * s->H + h) * s->d;
                size_t kv_at = (begin * s->K + h / (s->H / s->K)) * s->d;

                attend(out + at, in[0] + at, in[1] + kv_at, in[2] + kv_at, row - begin + 1, s);
            }
        }
    }
}

static void check_attention(const size_t *length, size_t n, size_t H, size_t K, size_t d)
{
    esp_batch b;
    head_shape s = { &b, NULL, H, K, d, 0.5 };
    esp_attention a = { .heads = H, .kv_heads = K, .head_dim = d, .scale = 0.5f };
    op o;
    float *in[MAX_IN], *grads[MAX_IN], *out, *dout;

    make_batch(&b, length, n, 1);
    o = (op){
        attention, &s, b.n_tok * H * d, { b.n_tok * H * d, b.n_tok * K * d, b.n_tok * K * d }
    };
    make_arrays(in, grads, &o, 4);
    out = nans(o.n_out);
    dout = random_floats(o.n_out, 10);
    esp_attention_forward(out, in[0], in[1], in[2], &a, &b);
    CU_ASSERT(forward_close(&o, in, out));
    esp_attention_backward(grads[0], grads[1], grads[2], dout, in[0], in[1], in[2], &a, &b);
    for (int i = 0; i < 3; i++) {
        take_ones(grads[i], o.n_in[i]);
    }
    CU_ASSERT(gradients_close(&o, in, dout, grads));
    free_arrays(in, grads);
    free(out);
    free(dout);
    esp_batch_free(&b);
}

static void test_attention(void)
{
    check_attention((size_t[]){ 1 }, 1, 1, 1, 2);
    check_attention((size_t[]){ 9, 1, 4 }, 3, 6, 2, 6);
    check_attention((size_t[]){ 140, 3 }, 2, 2, 2, 4);
    check_attention((size_t[]){ 67 }, 1, 4, 1, 10);
}

/* Decoding 1 or 70 tokens behind the others gives the tail of the full attention. */
static void test_attention_cached(void)
{
    enum { H = 4, K = 2, D = 6, T = 150 };
    float *q = random_floats(T * H * D, 1), *k = random_floats(T * K * D, 2);
    float *v = random_floats(T * K * D, 3), *full = random_floats(T * H * D, 4);
    float *tail = random_floats(T * H * D, 5);
    size_t n_new[3] = { 1, 70, T };
    esp_attention a = { .heads = H, .kv_heads = K, .head_dim = D, .scale = 0.4f };
    esp_batch b;

    make_batch(&b, (size_t[]){ T }, 1, 1);
    esp_attention_forward(full, q, k, v, &a, &b);
    for (int i = 0; i < 3; i++) {
        size_t at = (T - n_new[i]) * H * D;
        double *want = doubles_of(full + at, n_new[i] * H * D);

        esp_batch last;

        make_batch(&last, &n_new[i], 1, 1);
        last.position = T - n_new[i];
        esp_attention_forward(tail, q + at, k, v, &a, &last);
        esp_batch_free(&last);
        CU_ASSERT(close_floats(tail, want, n_new[i] * H * D, 1e-6));
        free(want);
    }
    free(q);
    free(k);
    free(v);
    free(full);
    free(tail);
    esp_batch_free(&b);
}

/* ---- elementwise ------------------------------------------------------------------------------ */

static void gate(double *y, double *const *in, const void *shape) /* g, u */
{
    const size_t *n = shape;

    for (size_t i = 0; i < *n; i++) {
        y[i] = in[0][i] / (1 + exp(-in[0][i])) * in[1][i];
    }
}

static void test_gate(void)
{
    size_t n = 40001;
    op o = { gate, &n, n, { n, n } };
    float *in[MAX_IN], *grads[MAX_IN], *y = nans(n), *dy = random_floats(n, 10);

    make_arrays(in, grads, &o, 5);
    in[0][0] = -200; /* far in the tails nothing overflows */
    in[0][1] = 200;
    esp_gate_forward(y, in[0], in[1], ESP_SILU, n);
    CU_ASSERT(forward_close(&o, in, y));
    in[0][0] = in[0][1] = 0;
    esp_gate_backward(grads[0], grads[1], dy, in[0], in[1], ESP_SILU, n);
    take_ones(grads[0], n);
    take_ones(grads[1], n);
    CU_ASSERT(gradients_close(&o, in, dy, grads));
    esp_add(y, in[0], in[1], n);
    CU_ASSERT(y[n - 1] == in[0][n - 1] + in[1][n - 1]);
    esp_accumulate(y, in[0], n);
    CU_ASSERT(y[n - 1] == in[0][n - 1] + in[1][n - 1] + in[0][n - 1]);
    esp_add(y, y, y, n);
    CU_ASSERT(y[0] == 2 * in[1][0]);
    free_arrays(in, grads);
    free(y);
    free(dy);
}

/* ---- cross-entropy ---------------------------------------------------------------------------- */

typedef struct loss_shape {
    size_t n, V;
    const int32_t *targets;
} loss_shape;

static void cross_entropy(double *loss, double *const *in, const void *shape) /* logits */
{
    const loss_shape *s = shape;

    for (size_t i = 0; i < s->n; i++) {
        const double *x = in[0] + i * s->V;
        double sum = 0;

        for (size_t c = 0; c < s->V; c++) {
            sum += exp(x[c]);
        }
        loss[i] = s->targets[i] == ESP_NO_TARGET ? 0 : log(sum) - x[s->targets[i]];
    }
}

static void test_cross_entropy(void)
{
    enum { N = 4, V = 77 };
    int32_t targets[N] = { 3, ESP_NO_TARGET, V - 1, 0 };
    loss_shape s = { N, V, targets };
    op o = { cross_entropy, &s, N, { (size_t)N * V } };
    float *in[MAX_IN], *grads[MAX_IN], scale[N] = { 0.5f, 2, -1, 0 }, loss_f32[N];
    double loss[N];
    uint8_t hit[N];

    make_arrays(in, grads, &o, 6);
    in[0][2 * V + V - 1] = 30; /* a sure hit */
    memcpy(grads[0], in[0], o.n_in[0] * sizeof(float));
    esp_cross_entropy(loss, hit, grads[0], targets, NULL, 0, N, V);
    CU_ASSERT(memcmp(grads[0], in[0], o.n_in[0] * sizeof(float)) == 0);
    for (size_t i = 0; i < N; i++) {
        loss_f32[i] = (float)loss[i];
    }
    CU_ASSERT(forward_close(&o, in, loss_f32));
    CU_ASSERT(loss[1] == 0 && loss[2] < 1e-6);
    CU_ASSERT(hit[0] == 0 && hit[1] == 0 && hit[2] == 1);
    esp_cross_entropy(loss, NULL, grads[0], targets, scale, 0, N, V);
    CU_ASSERT(gradients_close(&o, in, scale, grads));
    free_arrays(in, grads);
}

/* Logits far from zero neither overflow nor lose the loss; a NaN is not hidden. */
static void test_cross_entropy_range(void)
{
    float x[9] = { 1e4f, 1e4f, -1e30f, -2000, -1000, -1500, 0, NAN, 1 };
    int32_t targets[3] = { 1, 1, 2 };
    double loss[3];
    uint8_t hit[3];

    esp_cross_entropy(loss, hit, x, targets, NULL, 0, 3, 3);
    CU_ASSERT_DOUBLE_EQUAL(loss[0], log(2), 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(loss[1], 0, 1e-6);
    CU_ASSERT(hit[0] == 1 && hit[1] == 1);
    CU_ASSERT(isnan(loss[2]));
}

ESP_TEST_MAIN("kernels", { "linear", test_linear }, { "rms norm", test_rmsnorm },
              { "rms norm, samples on their own", test_rmsnorm_samples }, { "rotary", test_rotary },
              { "attention", test_attention }, { "attention with a cache", test_attention_cached },
              { "gate and sums", test_gate }, { "cross-entropy", test_cross_entropy },
              { "cross-entropy, range", test_cross_entropy_range })
