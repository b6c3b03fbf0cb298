/* unit_isa.c - the choice of the kernels' width, and the results of each width beside those of the
 * narrowest. */
#include "finite_differences.h"

#include "espalier/cholesky.h"
#include "espalier/isa.h"
#include "espalier/packed.h"
#include "espalier/tensor.h"

/* ---- what the kernels are given ----------------------------------------------------------------- */

/* H heads of d, K key/value heads; no size is a multiple of a vector. */
enum { H = 4, K = 2, HEAD = 18, D = H * HEAD, F = 50, MOST = 3 * 160 * D };

static const size_t lengths[] = { 5, 64, 90 };

typedef struct subject {
    esp_batch batch, one; /* one: a sample of one token */
    size_t n;             /* tokens                     */
    float *x, *y, *z, *w; /* random, MOST numbers each  */
    double inv_freq[HEAD / 2];
} subject;

static subject s;

static void subject_make(void)
{
    const size_t one = 1;

    make_batch(&s.batch, lengths, sizeof lengths / sizeof *lengths);
    make_batch(&s.one, &one, 1);
    s.n = s.batch.n_tok;
    s.x = random_floats(MOST, 1);
    s.y = random_floats(MOST, 2);
    s.z = random_floats(MOST, 3);
    s.w = random_floats(MOST, 4);
    for (size_t c = 0; c < HEAD / 2; c++) {
        s.inv_freq[c] = pow(10000, -2.0 * (double)c / HEAD);
    }
}

static void subject_free(void)
{
    esp_batch_free(&s.batch);
    esp_batch_free(&s.one);
    free(s.x);
    free(s.y);
    free(s.z);
    free(s.w);
}

/* ---- kernels: out [MOST] is what they set or add to ---------------------------------------------- */

static void linear(float *out)
{
    uint16_t *half;

    ESP_NEW(half, F * D);
    for (esp_dtype t = ESP_F16; t <= ESP_BF16; t++) {
        esp_from_f32(half, t, s.w, F * D);
        esp_linear_forward(out, s.x, (esp_array){ half, t }, s.z, D, F, &s.batch);
        out += s.n * F;
    }
    esp_linear_accumulate(out, s.x, esp_array_f32(s.w), D, F, &s.batch);
    free(half);
}

static void linear_of_a_row(float *out)
{
    esp_linear_forward(out, s.x, esp_array_f32(s.w), NULL, 9 * D, F, &s.one);
}

static void linear_backward(float *out)
{
    esp_linear_backward_input(out, s.y, esp_array_f32(s.w), D, F, &s.batch);
    esp_linear_backward_weight(out + s.n * D, out + s.n * D + F * D, s.y, s.x, s.n, D, F);
}

static void rms_norm(float *out)
{
    esp_rmsnorm_forward(out, s.x, s.w, s.n, D, 1e-5f);
    esp_rmsnorm_backward(out + s.n * D, out + 2 * s.n * D, s.y, s.x, s.w, D, 1e-5f, &s.batch);
}

static void layer_norm(float *out)
{
    float *dw = out + 2 * s.n * D;

    esp_layernorm_forward(out, s.x, s.w, s.z, s.n, D, 1e-5f);
    esp_layernorm_backward(out + s.n * D, dw, dw + 3 * D, s.y, s.x, s.w, D, 1e-5f, &s.batch);
}

static void rotary(float *out)
{
    const esp_rope rope = { .n = HEAD, .inv_freq = s.inv_freq, .gain = 1 };
    const esp_rotation halves = { .rope = &rope }, pairs = { .rope = &rope, .pairs = true };

    esp_rotary_forward(out, s.x, &halves, H, HEAD, &s.batch);
    esp_rotary_backward(out + s.n * D, s.x, &pairs, H, HEAD, &s.batch);
}

static void attention(float *out)
{
    const esp_attention a = {
        .heads = H, .kv_heads = K, .head_dim = HEAD, .scale = 0.2f, .soft_cap = 5, .window = 40
    };
    float *dq = out + s.n * D, *dk = dq + s.n * D;

    esp_attention_forward(out, s.x, s.y, s.z, &a, &s.batch);
    esp_attention_backward(dq, dk, dk + s.n * K * HEAD, s.w, s.x, s.y, s.z, &a, &s.batch);
}

static void gates(float *out)
{
    for (esp_activation a = ESP_SILU; a <= ESP_RELU; a++, out += 6 * D) {
        esp_activation_forward(out, s.x, a, D);
        esp_activation_backward(out + D, s.y, s.x, a, D);
        esp_gate_forward(out + 2 * D, s.x, s.y, a, D);
        esp_gate_backward(out + 3 * D, out + 4 * D, s.z, s.x, s.y, a, D);
        esp_add(out + 5 * D, s.x, 0.3f, s.y, D);
        esp_soft_cap(out + 5 * D, 2, D);
    }
}

static void cross_entropy(float *out)
{
    float scale[] = { 1, 2, 0.5f };
    int32_t targets[] = { 7, ESP_NO_TARGET, 900 };
    double loss[3];

    memcpy(out, s.x, 3 * 1000 * sizeof *out);
    esp_cross_entropy(loss, NULL, out, targets, NULL, scale, 30, 3, 1000);
    for (int i = 0; i < 3; i++) {
        out[3000 + i] = (float)loss[i];
    }
}

static void distillation(float *out)
{
    const esp_distillation_rule rule = { .ratio = 0.4f, .temperature = 2, .cap = 30 };
    float scale[] = { 1, 2, 0.5f };
    int32_t targets[] = { 7, ESP_NO_TARGET, 900 };
    double loss[3];
    uint8_t hit[3];

    memcpy(out, s.x, 3 * 1000 * sizeof *out);
    memcpy(out + 3003, s.y, 3 * 1000 * sizeof *out);
    esp_distillation(loss, hit, out, out + 3003, targets, scale, &rule, 3, 1000);
    for (int i = 0; i < 3; i++) {
        out[3000 + i] = (float)loss[i];
    }
}

static void dropout(float *out)
{
    const esp_dropout_rule rule = { .seed = 5, .stream = 3, .share = 0.3f };

    esp_dropout(out, s.x, false, &rule, D, &s.batch);
    esp_dropout(out, s.y, true, &rule, D, &s.batch);
}

static float *pack(esp_factor which, const float *rows, size_t width, const esp_spans *spans)
{
    float *packed;

    ESP_NEW(packed, s.n * esp_packed_width(which, width));
    esp_packed_fill(packed, which, rows, width, 0, s.n, spans);
    return packed;
}

static void packed(float *out)
{
    const esp_spans spans = { s.batch.n_samples, s.batch.start, s.batch.start + 1 };
    float *dy = pack(ESP_FACTOR_DY, s.y, F, &spans), *x = pack(ESP_FACTOR_X, s.x, D, &spans);
    const esp_weight_tile all = { 0, 0, F, D };
    double *G, *squares, sum[F];
    float *scratch;

    ESP_NEW(G, F * D);
    ESP_NEW(squares, F * D);
    ESP_NEW(scratch, F * D);
    esp_packed_moments(G, squares, scratch, &all, &(esp_factors){ dy, x, F, D }, &spans);
    esp_packed_sums(sum, dy, F, 0, F, spans.begin[1], spans.end[1]);
    for (size_t i = 0; i < F * D; i++) {
        out[i] = (float)G[i];
        out[F * D + i] = (float)squares[i];
    }
    for (size_t i = 0; i < F; i++) {
        out[2 * F * D + i] = (float)sum[i];
    }
    free(dy);
    free(x);
    free(G);
    free(squares);
    free(scratch);
}

static void cholesky(float *out)
{
    float h[D * D] = { 0 };
    double *a, *x;

    ESP_NEW(a, D * D);
    ESP_NEW(x, F * D);
    esp_syrk(h, s.x, 2 * D, D);
    for (size_t i = 0; i < D * D; i++) {
        a[i] = (double)h[i] + (i % (D + 1) ? 0 : 10);
    }
    for (size_t i = 0; i < F * D; i++) {
        x[i] = (double)s.y[i];
    }
    CU_ASSERT_EQUAL(esp_cholesky(a, D), D);
    esp_cholesky_solve(x, a, F, D);
    for (size_t i = 0; i < F * D; i++) {
        out[i] = (float)x[i];
    }
    free(a);
    free(x);
}

/* Rounded to 16 bits and back. */
static void conversions(float *out)
{
    uint16_t half[D];

    for (esp_dtype t = ESP_F16; t <= ESP_BF16; t++) {
        for (size_t at = 0; at < 10 * D; at += D, out += D) {
            esp_from_f32(half, t, s.x + at, D);
            esp_to_f32(out, half, t, D);
        }
    }
    out[0] = (float)esp_find_nonfinite(s.x, ESP_F32, MOST);
}

/* tolerance: of the largest number; 0: the same bits */
static const struct {
    const char *name;
    void (*run)(float *out);
    double tolerance;
} kernels[] = {
    { "linear", linear, 1e-6 },
    { "linear of a row", linear_of_a_row, 2e-6 },
    { "linear, backward", linear_backward, 1e-6 },
    { "RMS norm", rms_norm, 1e-6 },
    { "layer norm", layer_norm, 1e-6 },
    { "rotary", rotary, 0 },
    { "attention", attention, 2e-6 },
    { "gates", gates, 1e-6 },
    { "cross-entropy", cross_entropy, 1e-6 },
    { "distillation", distillation, 1e-6 },
    { "dropout", dropout, 0 },
    { "packed rows", packed, 1e-6 },
    { "Cholesky", cholesky, 1e-5 },
    { "conversions", conversions, 0 },
};

/* ---- tests ---------------------------------------------------------------------------------------- */

static double *results_of(void (*run)(float *out))
{
    float *out;
    double *result;

    ESP_NEW(out, MOST);
    ESP_NEW(result, MOST);
    run(out);
    for (size_t i = 0; i < MOST; i++) {
        result[i] = (double)out[i];
    }
    free(out);
    return result;
}

static double largest(const double *x)
{
    double most = 0;

    for (size_t i = 0; i < MOST; i++) {
        most = fmax(most, fabs(x[i]));
    }
    return most;
}

static bool is_like_narrowest(size_t kernel)
{
    const char *name = esp_isa_name();
    double *want, *got = results_of(kernels[kernel].run);
    bool close;

    CU_ASSERT_EQUAL(esp_isa_choose(esp_isa_at(0)), ESP_OK);
    want = results_of(kernels[kernel].run);
    CU_ASSERT_EQUAL(esp_isa_choose(name), ESP_OK);
    close = largest(want) > 0 &&
            esp_test_close(got, want, MOST, largest(want), kernels[kernel].tolerance);
    if (!close) {
        printf("  %s of %s\n", kernels[kernel].name, name);
    }
    free(want);
    free(got);
    return close;
}

static void test_widths(void)
{
    subject_make();
    for (size_t i = 1; esp_isa_at(i); i++) {
        if (esp_isa_choose(esp_isa_at(i)) != ESP_OK) {
            printf("skipped: %s\n", esp_error_message());
            esp_error_clear();
            continue;
        }
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
            CU_ASSERT(is_like_narrowest(k));
        }
    }
    subject_free();
}

/* Wider kernels have wider panels: a width that is asked for is the one that computes. */
static void test_choice(void)
{
    size_t width = 0;

    for (size_t i = 0; esp_isa_at(i) && esp_isa_choose(esp_isa_at(i)) == ESP_OK; i++) {
        CU_ASSERT_STRING_EQUAL(esp_isa_name(), esp_isa_at(i));
        CU_ASSERT(esp_packed_width(ESP_FACTOR_X, 1) > width);
        width = esp_packed_width(ESP_FACTOR_X, 1);
    }
    CU_ASSERT_EQUAL(esp_isa_choose(esp_isa_at(0)), ESP_OK);
    CU_ASSERT_EQUAL(esp_isa_choose(""), ESP_OK);
    CU_ASSERT_EQUAL(esp_packed_width(ESP_FACTOR_X, 1), width);
    esp_error_clear();
}

static void test_refused(void)
{
    const char *before = esp_isa_name();

    CU_ASSERT_EQUAL(esp_isa_choose("mmx"), ESP_EUSAGE);
    CU_ASSERT(strstr(esp_error_message(), "ESPALIER_ISA = mmx: unknown") != NULL);
    CU_ASSERT(strstr(esp_error_message(), esp_isa_at(0)) != NULL);
    CU_ASSERT_STRING_EQUAL(esp_isa_name(), before);
    esp_error_clear();
}

ESP_TEST_MAIN("isa", { "choice", test_choice }, { "refused", test_refused },
              { "widths alike", test_widths })
