/* unit_tensor.c - each kernel against a plain f64 forward, and its backward against central differences
 * of that forward. */
#include "finite_differences.h"

#include "espalier/tensor.h"

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

static void check_linear(const size_t *length, size_t n, size_t n_in, size_t n_out)
{
    esp_batch b;
    linear_shape s;
    op o;
    float *in[MAX_IN], *grads[MAX_IN], *y, *dy;

    make_batch(&b, length, n);
    s = (linear_shape){ b.n_tok, n_in, n_out };
    o = (op){ linear, &s, b.n_tok * n_out, { b.n_tok * n_in, n_out * n_in, n_out } };
    make_arrays(in, grads, &o, 1);
    y = nans(o.n_out);
    dy = random_floats(o.n_out, 10);
    esp_linear_forward(y, in[0], esp_array_f32(in[1]), in[2], n_in, n_out, &b);
    CU_ASSERT(forward_close(&o, in, y));
    esp_linear_backward_input(grads[0], dy, esp_array_f32(in[1]), n_in, n_out, &b);
    esp_linear_backward_weight(grads[1], grads[2], dy, in[0], b.n_tok, n_in, n_out);
    for (int i = 0; i < 3; i++) {
        take_ones(grads[i], o.n_in[i]);
    }
    CU_ASSERT(gradients_close(&o, in, dy, grads));
    memset(in[2], 0, n_out * sizeof(float));
    esp_linear_forward(y, in[0], esp_array_f32(in[1]), NULL, n_in, n_out, &b);
    CU_ASSERT(forward_close(&o, in, y));
    for (size_t i = 0; i < o.n_out; i++) {
        y[i] = 1;
    }
    esp_linear_accumulate(y, in[0], esp_array_f32(in[1]), n_in, n_out, &b);
    take_ones(y, o.n_out);
    CU_ASSERT(forward_close(&o, in, y));
    free_arrays(in, grads);
    free(y);
    free(dy);
    esp_batch_free(&b);
}

static void test_linear(void)
{
    check_linear((size_t[]){ 3, 130, 1 }, 3, 7, 5);
    check_linear((size_t[]){ 1 }, 1, 33, 600);
    check_linear((size_t[]){ 5, 6, 7 }, 3, 530, 9);
}

/* Weights of 16 bits, at any address, give what the same weights in f32 give, bit for bit. */
static void check_typed(esp_dtype type, size_t n_tok, size_t n_in, size_t n_out)
{
    size_t n = n_in * n_out;
    float *x = random_floats(n_tok * n_in, 1), *w = random_floats(n, 2);
    float *dy = random_floats(n_tok * n_out, 3), *y, *as_f32, *dx, *dx_f32;
    char *stored;
    esp_batch b;

    ESP_NEW(y, n_tok * n_out);
    ESP_NEW(as_f32, n_tok * n_out);
    ESP_NEW(dx, n_tok * n_in);
    ESP_NEW(dx_f32, n_tok * n_in);
    ESP_NEW(stored, n * esp_dtype_size(type) + 1);
    make_batch(&b, &n_tok, 1);
    esp_from_f32(stored, type, w, n);
    esp_to_f32(w, stored, type, n);
    memmove(stored + 1, stored, n * esp_dtype_size(type));
    esp_linear_forward(y, x, (esp_array){ stored + 1, type }, NULL, n_in, n_out, &b);
    esp_linear_forward(as_f32, x, esp_array_f32(w), NULL, n_in, n_out, &b);
    CU_ASSERT(memcmp(y, as_f32, n_tok * n_out * sizeof *y) == 0);
    esp_linear_backward_input(dx, dy, (esp_array){ stored + 1, type }, n_in, n_out, &b);
    esp_linear_backward_input(dx_f32, dy, esp_array_f32(w), n_in, n_out, &b);
    CU_ASSERT(memcmp(dx, dx_f32, n_tok * n_in * sizeof *dx) == 0);
    esp_batch_free(&b);
    free(x);
    free(w);
    free(dy);
    free(y);
    free(as_f32);
    free(dx);
    free(dx_f32);
    free(stored);
}

static void test_typed(void)
{
    for (esp_dtype t = ESP_F16; t <= ESP_BF16; t++) {
        check_typed(t, 1, 300, 41);
        check_typed(t, 37, 300, 41);
        check_typed(t, 70, 16, 600);
    }
}

/* ---- norms ------------------------------------------------------------------------------------ */

typedef struct norm_shape {
    size_t n_tok, D;
    bool centred; /* layer norm: x, w, b; else RMS norm: x, w */
} norm_shape;

static void norm(double *y, double *const *in, const void *shape)
{
    const norm_shape *s = shape;

    for (size_t t = 0; t < s->n_tok; t++) {
        const double *x = in[0] + t * s->D;
        double mean = 0, sum = 0;

        for (size_t c = 0; s->centred && c < s->D; c++) {
            mean += x[c] / (double)s->D;
        }
        for (size_t c = 0; c < s->D; c++) {
            sum += (x[c] - mean) * (x[c] - mean);
        }
        for (size_t c = 0; c < s->D; c++) {
            y[t * s->D + c] = (x[c] - mean) / sqrt(sum / (double)s->D + 0.25) * in[1][c] +
                              (s->centred ? in[2][c] : 0);
        }
    }
}

/* grad, which holds ones, becomes the sum of the samples' gradients [n, D]. */
static void sum_samples(float *grad, const float *of_sample, size_t n, size_t D)
{
    take_ones(grad, D);
    for (size_t i = 0; i < n * D; i++) {
        grad[i % D] += of_sample[i];
    }
}

static void check_norm(const size_t *length, size_t n, size_t D, bool centred)
{
    esp_batch b;
    norm_shape s;
    op o;
    float *in[MAX_IN], *grads[MAX_IN], *y, *dy;
    float *dw = random_floats(n * D, 11),
          *db = random_floats(n * D, 12); /* are set, not added to */

    make_batch(&b, length, n);
    s = (norm_shape){ b.n_tok, D, centred };
    o = (op){ norm, &s, b.n_tok * D, { b.n_tok * D, D, D } };
    make_arrays(in, grads, &o, 2);
    y = nans(o.n_out);
    dy = random_floats(o.n_out, 10);
    if (centred) {
        esp_layernorm_forward(y, in[0], in[1], in[2], b.n_tok, D, 0.25f);
        esp_layernorm_backward(grads[0], dw, db, dy, in[0], in[1], D, 0.25f, &b);
        sum_samples(grads[2], db, n, D);
    } else {
        esp_rmsnorm_forward(y, in[0], in[1], b.n_tok, D, 0.25f);
        esp_rmsnorm_backward(grads[0], dw, dy, in[0], in[1], D, 0.25f, &b);
        take_ones(grads[2], D); /* no bias, no gradient */
    }
    take_ones(grads[0], o.n_in[0]);
    sum_samples(grads[1], dw, n, D);
    CU_ASSERT(forward_close(&o, in, y));
    CU_ASSERT(gradients_close(&o, in, dy, grads));
    free_arrays(in, grads);
    free(y);
    free(dy);
    free(dw);
    free(db);
    esp_batch_free(&b);
}

static void test_rmsnorm(void)
{
    check_norm((size_t[]){ 1 }, 1, 3, false);
    check_norm((size_t[]){ 4, 1, 9 }, 3, 150, false);
}

static void test_layernorm(void)
{
    check_norm((size_t[]){ 1 }, 1, 3, true);
    check_norm((size_t[]){ 4, 1, 9 }, 3, 150, true);
}

/* Row j of dw and db is the gradient of sample j alone; either may be left out. */
static void test_norm_samples(void)
{
    esp_batch all, one;
    float *x = random_floats(7 * 5, 1), *dy = random_floats(7 * 5, 2), *w = random_floats(5, 3);
    float *dx = random_floats(7 * 5, 4), dw[10], db[10], alone[5], bias[5];

    make_batch(&all, (size_t[]){ 3, 4 }, 2);
    make_batch(&one, (size_t[]){ 4 }, 1);
    esp_rmsnorm_backward(dx, dw, dy, x, w, 5, 1e-5f, &all);
    esp_rmsnorm_backward(dx, alone, dy + 15, x + 15, w, 5, 1e-5f, &one);
    CU_ASSERT(memcmp(dw + 5, alone, sizeof alone) == 0);
    esp_rmsnorm_backward(dx, NULL, dy, x, w, 5, 1e-5f, &all);
    esp_layernorm_backward(dx, dw, db, dy, x, w, 5, 1e-5f, &all);
    esp_layernorm_backward(dx, alone, NULL, dy + 15, x + 15, w, 5, 1e-5f, &one);
    esp_layernorm_backward(dx, NULL, bias, dy + 15, x + 15, w, 5, 1e-5f, &one);
    CU_ASSERT(memcmp(dw + 5, alone, sizeof alone) == 0);
    CU_ASSERT(memcmp(db + 5, bias, sizeof bias) == 0);
    free(x);
    free(dy);
    free(w);
    free(dx);
    esp_batch_free(&all);
    esp_batch_free(&one);
}

/* ---- elementwise ------------------------------------------------------------------------------ */

static const esp_activation activations[] = { ESP_SILU, ESP_GELU_TANH, ESP_GELU_ERF, ESP_RELU };
enum { N_ACTIVATIONS = sizeof activations / sizeof *activations };

typedef struct curve_shape {
    esp_activation a;
    size_t n;
} curve_shape;

static double activation_at(esp_activation a, double x)
{
    switch (a) {
    case ESP_SILU:
        return x / (1 + exp(-x));
    case ESP_GELU_TANH:
        /* (1 + tanh(z)) / 2 written so that it keeps its digits for negative z */
        return x / (1 + exp(-2 * sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case ESP_GELU_ERF:
        return x / 2 * erfc(-x / sqrt(2));
    case ESP_RELU:
        break;
    }
    return x > 0 ? x : 0;
}

static void activation(double *y, double *const *in, const void *shape) /* x */
{
    const curve_shape *s = shape;

    for (size_t i = 0; i < s->n; i++) {
        y[i] = activation_at(s->a, in[0][i]);
    }
}

static void gate(double *y, double *const *in, const void *shape) /* g, u */
{
    activation(y, in, shape);
    for (size_t i = 0; i < ((const curve_shape *)shape)->n; i++) {
        y[i] *= in[1][i];
    }
}

static void check_activation(esp_activation a, size_t n)
{
    curve_shape s = { a, n };
    op o = { activation, &s, n, { n } };
    float *in[MAX_IN], *grads[MAX_IN], *y = nans(n), *dy = random_floats(n, 10);

    make_arrays(in, grads, &o, 7);
    esp_activation_forward(y, in[0], a, n);
    CU_ASSERT(forward_close(&o, in, y));
    esp_activation_backward(grads[0], dy, in[0], a, n);
    take_ones(grads[0], n);
    CU_ASSERT(gradients_close(&o, in, dy, grads));
    free_arrays(in, grads);
    free(y);
    free(dy);
}

static void test_activations(void)
{
    for (size_t i = 0; i < N_ACTIVATIONS; i++) {
        check_activation(activations[i], 40001);
        check_activation(activations[i], 3);
    }
}

/* Down to the smallest values an activation is right to 1e-6 of itself, its slope to 1e-6; far out it
 * is x or 0, and a NaN is not hidden. */
static void test_activation_accuracy(void)
{
    enum { N = 24001 };
    float far[4] = { -1e30f, 1e30f, NAN, 0 }, y_far[4];

    for (size_t i = 0; i < N_ACTIVATIONS; i++) {
        esp_activation a = activations[i];
        float *x = nans(N), *y = nans(N), *dx, *one = nans(N);
        double worst = 0, worst_slope = 0;

        ESP_NEW(dx, N);
        for (int e = 0; e < N; e++) {
            x[e] = (float)(e - N / 2) * 1e-3f;
            one[e] = 1;
        }
        esp_activation_forward(y, x, a, N);
        esp_activation_backward(dx, one, x, a, N);
        for (size_t e = 0; e < N; e++) {
            double at = (double)x[e], want = activation_at(a, at), h = 1e-5;
            double slope = (activation_at(a, at + h) - activation_at(a, at - h)) / (2 * h);

            if (fabs(want) > 1e-35) {
                worst = fmax(worst, fabs((double)y[e] - want) / fabs(want));
            }
            worst_slope = fmax(worst_slope, at != 0 ? fabs((double)dx[e] - slope) : 0);
        }
        CU_ASSERT(worst < 1e-6);
        CU_ASSERT(worst_slope < 1e-6);
        esp_activation_forward(y_far, far, a, 4);
        CU_ASSERT(fabsf(y_far[0]) < 1e-8f && y_far[1] == far[1] && isnan(y_far[2]) &&
                  y_far[3] == 0);
        free(x);
        free(y);
        free(dx);
        free(one);
    }
}

static void test_gate(void)
{
    for (size_t i = 0; i < N_ACTIVATIONS; i++) {
        curve_shape s = { activations[i], 40001 };
        op o = { gate, &s, s.n, { s.n, s.n } };
        float *in[MAX_IN], *grads[MAX_IN], *y = nans(s.n), *dy = random_floats(s.n, 10);

        make_arrays(in, grads, &o, 5);
        in[0][0] = -200; /* far in the tails nothing overflows */
        in[0][1] = 200;
        esp_gate_forward(y, in[0], in[1], s.a, s.n);
        CU_ASSERT(forward_close(&o, in, y));
        esp_gate_backward(grads[0], grads[1], dy, in[0], in[1], s.a, s.n);
        take_ones(grads[0], s.n);
        take_ones(grads[1], s.n);
        in[0][0] = in[0][1] = grads[1][0] = grads[1][1] = 0;
        grads[0][0] = grads[0][1] = 0;
        dy[0] = dy[1] = 0;
        CU_ASSERT(gradients_close(&o, in, dy, grads));
        free_arrays(in, grads);
        free(y);
        free(dy);
    }
}

static void test_sums(void)
{
    size_t n = 40001;
    float *a = random_floats(n, 1), *b = random_floats(n, 2), *y = nans(n);

    esp_add(y, a, 2, b, n);
    CU_ASSERT(y[n - 1] == 2 * a[n - 1] + b[n - 1]);
    esp_accumulate(y, a, n);
    CU_ASSERT(y[n - 1] == 2 * a[n - 1] + b[n - 1] + a[n - 1]);
    esp_add(y, y, 2, y, n);
    CU_ASSERT(y[0] == 3 * (2 * a[0] + b[0] + a[0]));
    free(a);
    free(b);
    free(y);
}

static void test_soft_cap(void)
{
    size_t n = 40001;
    float *x = random_floats(n, 1), *y = nans(n);
    double worst = 0;

    x[0] = 1e30f;
    x[1] = -1e30f;
    x[2] = 1e-6f;
    memcpy(y, x, n * sizeof *x);
    esp_soft_cap(y, 1.5f, n);
    for (size_t i = 0; i < n; i++) {
        double want = 1.5 * tanh((double)x[i] / 1.5);

        worst = fmax(worst, fabs((double)y[i] - want) / fabs(want));
    }
    CU_ASSERT(worst < 1e-6);
    free(x);
    free(y);
}

/* ---- cross-entropy ---------------------------------------------------------------------------- */

typedef struct loss_shape {
    size_t n, V;
    const int32_t *targets;
    double cap; /* 0: none */
} loss_shape;

static double capped(double x, double cap)
{
    return cap > 0 ? cap * tanh(x / cap) : x;
}

static void cross_entropy(double *loss, double *const *in, const void *shape) /* logits */
{
    const loss_shape *s = shape;

    for (size_t i = 0; i < s->n; i++) {
        const double *x = in[0] + i * s->V;
        double sum = 0;

        for (size_t c = 0; c < s->V; c++) {
            sum += exp(capped(x[c], s->cap));
        }
        loss[i] = s->targets[i] == ESP_NO_TARGET ? 0 : log(sum) - capped(x[s->targets[i]], s->cap);
    }
}

static void check_cross_entropy(float cap)
{
    enum { N = 4, V = 77 };
    int32_t targets[N] = { 3, ESP_NO_TARGET, V - 1, 0 };
    loss_shape s = { N, V, targets, (double)cap };
    op o = { cross_entropy, &s, N, { (size_t)N * V } };
    float *in[MAX_IN], *grads[MAX_IN], scale[N] = { 0.5f, 2, -1, 0 }, loss_f32[N];
    double loss[N];
    uint8_t hit[N];

    make_arrays(in, grads, &o, 6);
    in[0][2 * V + V - 1] = 30; /* a sure hit */
    memcpy(grads[0], in[0], o.n_in[0] * sizeof(float));
    esp_cross_entropy(loss, hit, grads[0], targets, NULL, NULL, cap, N, V);
    CU_ASSERT((memcmp(grads[0], in[0], o.n_in[0] * sizeof(float)) == 0) == !(cap > 0));
    for (size_t i = 0; i < N; i++) {
        loss_f32[i] = (float)loss[i];
    }
    CU_ASSERT(forward_close(&o, in, loss_f32));
    CU_ASSERT(loss[1] == 0 && (cap > 0 || loss[2] < 1e-6));
    CU_ASSERT(hit[0] == 0 && hit[1] == 0 && hit[2] == 1);
    memcpy(grads[0], in[0], o.n_in[0] * sizeof(float));
    esp_cross_entropy(loss, NULL, grads[0], targets, NULL, scale, cap, N, V);
    CU_ASSERT(gradients_close(&o, in, scale, grads));
    free_arrays(in, grads);
}

static void test_cross_entropy(void)
{
    check_cross_entropy(0);
    check_cross_entropy(2);
}

/* ---- distillation ----------------------------------------------------------------------------- */

typedef struct distillation_shape {
    loss_shape of;
    const float *teacher; /* [n, V] capped already */
    double ratio, temperature;
} distillation_shape;

/* ln of the sum of exp(x / T) over a row; of the teacher without a cap. */
static double log_sum(const double *x, const float *z, double T, double cap, size_t V)
{
    double sum = 0;

    for (size_t c = 0; c < V; c++) {
        sum += exp((x ? capped(x[c], cap) : (double)z[c]) / T);
    }
    return log(sum);
}

static void distillation(double *loss, double *const *in, const void *shape) /* logits */
{
    const distillation_shape *s = shape;
    double T = s->temperature, cap = s->of.cap;
    size_t V = s->of.V;

    for (size_t i = 0; i < s->of.n; i++) {
        const double *x = in[0] + i * V;
        const float *z = s->teacher + i * V;
        double p_sum = log_sum(NULL, z, T, 0, V), q_sum = log_sum(x, NULL, T, cap, V), kl = 0;
        int32_t target = s->of.targets[i];

        for (size_t c = 0; c < V; c++) {
            double p = (double)z[c] / T - p_sum, q = capped(x[c], cap) / T - q_sum;

            kl += exp(p) * (p - q);
        }
        loss[i] = target == ESP_NO_TARGET
                      ? 0
                      : (1 - s->ratio) * (log_sum(x, NULL, 1, cap, V) - capped(x[target], cap)) +
                            s->ratio * T * T * kl;
    }
}

/* Loss and gradient against f64, with logits that make a row of one sure target. */
static void check_distillation(float ratio, float temperature, float cap)
{
    enum { N = 4, V = 77 };
    int32_t targets[N] = { 3, ESP_NO_TARGET, V - 1, 0 };
    float *teacher = random_floats((size_t)N * V, 31), *z = random_floats((size_t)N * V, 31);
    distillation_shape s = {
        { N, V, targets, (double)cap }, teacher, (double)ratio, (double)temperature
    };
    const esp_distillation_rule rule = { .ratio = ratio, .temperature = temperature, .cap = cap };
    op o = { distillation, &s, N, { (size_t)N * V } };
    float *in[MAX_IN], *grads[MAX_IN], scale[N] = { 0.5f, 2, -1, 0 }, loss_f32[N];
    double loss[N];
    uint8_t hit[N];

    make_arrays(in, grads, &o, 6);
    in[0][2 * V + V - 1] = 30;
    memcpy(grads[0], in[0], o.n_in[0] * sizeof(float));
    esp_distillation(loss, hit, grads[0], z, targets, scale, &rule, N, V);
    for (size_t i = 0; i < N; i++) {
        loss_f32[i] = (float)loss[i];
    }
    CU_ASSERT(forward_close(&o, in, loss_f32));
    CU_ASSERT(gradients_close(&o, in, scale, grads));
    CU_ASSERT(loss[1] == 0 && hit[0] == 0 && hit[1] == 0 && hit[2] == 1);
    free_arrays(in, grads);
    free(teacher);
    free(z);
}

/* A student that predicts what its teacher does has nothing to learn from it, to the last bit. */
static void check_same_logits(float temperature)
{
    enum { N = 2, V = 1000 };
    const esp_distillation_rule rule = { .ratio = 1, .temperature = temperature };
    float *x = random_floats((size_t)N * V, 8), *z = random_floats((size_t)N * V, 8);
    float scale[N] = { 1, 3 };
    int32_t targets[N] = { 5, 999 };
    double loss[N];
    uint8_t hit[N];

    esp_distillation(loss, hit, x, z, targets, scale, &rule, N, V);
    CU_ASSERT(loss[0] == 0 && loss[1] == 0);
    for (size_t i = 0; i < (size_t)N * V; i++) {
        CU_ASSERT(x[i] == 0);
    }
    free(x);
    free(z);
}

static void test_distillation(void)
{
    check_distillation(0, 1, 0); /* cross-entropy alone */
    check_distillation(1, 1, 0);
    check_distillation(0.3f, 2, 0);
    check_distillation(0.5f, 0.7f, 2);
    check_same_logits(1);
    check_same_logits(2.5f);
}

/* The row's target, whose gradient alone is negative. */
static size_t target_of(const float *gradient, size_t n)
{
    size_t target = 0;

    for (size_t i = 0; i < n; i++) {
        target = gradient[i] < gradient[target] ? i : target;
    }
    return target;
}

/* Of draws that lie evenly in [0, 1) each index has its share of the softmax; rows without a target have
 * none. */
static void check_drawn_targets(float cap)
{
    enum { N = 1000, V = 5 };
    static const float logits[V] = { 0.5f, -1, 2, -200, 1.25f };
    float *x, *scale;
    double *loss, *uniform, sum = 0;
    int32_t *targets;
    size_t count[V] = { 0 };

    ESP_NEW(x, (size_t)N * V);
    ESP_NEW(scale, N);
    ESP_NEW(loss, N);
    ESP_NEW(uniform, N);
    ESP_NEW(targets, N);
    for (size_t i = 0; i < N; i++) {
        memcpy(x + i * V, logits, sizeof logits);
        scale[i] = 1;
        uniform[i] = (double)i / N;
        targets[i] = i == 7 ? ESP_NO_TARGET : 1;
    }
    esp_cross_entropy(loss, NULL, x, targets, uniform, scale, cap, N, V);
    CU_ASSERT(loss[7] == 0 && x[(size_t)7 * V] == 0);
    for (size_t c = 0; c < V; c++) {
        sum += exp(capped((double)logits[c], (double)cap));
    }
    for (size_t i = 0; i < N; i++) {
        size_t target = target_of(x + i * V, V);

        count[target] += i != 7;
        CU_ASSERT(i == 7 ||
                  fabs(loss[i] - log(sum) + capped((double)logits[target], (double)cap)) < 1e-6);
    }
    for (size_t c = 0; c < V; c++) {
        double share = exp(capped((double)logits[c], (double)cap)) / sum;

        CU_ASSERT_DOUBLE_EQUAL((double)count[c], N * share, 2);
    }
    free(x);
    free(scale);
    free(loss);
    free(uniform);
    free(targets);
}

static void test_drawn_targets(void)
{
    check_drawn_targets(0);
    check_drawn_targets(2);
}

/* Logits far from zero neither overflow nor lose the loss; a NaN is not hidden. */
static void test_cross_entropy_range(void)
{
    float x[9] = { 1e4f, 1e4f, -1e30f, -2000, -1000, -1500, 0, NAN, 1 };
    int32_t targets[3] = { 1, 1, 2 };
    double loss[3];
    uint8_t hit[3];

    esp_cross_entropy(loss, hit, x, targets, NULL, NULL, 0, 3, 3);
    CU_ASSERT_DOUBLE_EQUAL(loss[0], log(2), 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(loss[1], 0, 1e-6);
    CU_ASSERT(hit[0] == 1 && hit[1] == 1);
    CU_ASSERT(isnan(loss[2]));
}

ESP_TEST_MAIN("kernels", { "linear", test_linear }, { "linear, 16 bits", test_typed },
              { "rms norm", test_rmsnorm }, { "layer norm", test_layernorm },
              { "norms, samples on their own", test_norm_samples },
              { "activations", test_activations },
              { "activations, accuracy", test_activation_accuracy }, { "gate", test_gate },
              { "sums", test_sums }, { "soft cap", test_soft_cap },
              { "cross-entropy", test_cross_entropy },
              { "cross-entropy, drawn targets", test_drawn_targets },
              { "cross-entropy, range", test_cross_entropy_range },
              { "distillation", test_distillation })
