/* bench_kernels.c - the speed of the kernels beside that of BLAS and of a copy, in the same run, on one rank.
 *
 * Products: GFLOP/s of a kernel, its tiles shared out over the threads, and the ratio to one cblas_sgemm
 * call over the whole batch with as many threads. Attention counts the causal half and is held against
 * sgemm on q's projection. The rest: GB/s read and written, and the ratio to a copy by all threads. Medians.
 */
#include "espalier/clock.h"
#include "espalier/par.h"
#include "espalier/tensor.h"
#include "bench.h"
#include "finite_differences.h"

enum { REPEATS = 7, MAX_SAMPLES = 16 };

typedef struct shape {
    const char *name;
    size_t n_samples, T, n_in, n_out, H, K, d;
} shape;

typedef struct bench {
    shape s;
    esp_batch batch;
    float *x, *w, *y, *dx, *dw; /* [n_tok, n_in] [n_out, n_in] [n_tok, n_out], and gradients */
    float *q, *k, *v, *out;     /* [n_tok, H * d] or [n_tok, K * d] */
    double *inv_freq;
} bench;

typedef void (*kernel)(bench *b);

static int n_threads;
static const esp_grid *alone; /* for the rows */

/* openblas_set_num_threads sets OpenMP's number as well. */
static void blas_threads(int n)
{
    openblas_set_num_threads(n);
    omp_set_num_threads(n_threads);
}

static double seconds(kernel run, bench *b)
{
    double t[REPEATS];

    run(b);
    for (int i = 0; i < REPEATS; i++) {
        double began = esp_now();

        run(b);
        t[i] = esp_now() - began;
    }
    return bench_median(t, REPEATS);
}

/* ---- linear ----------------------------------------------------------------------------------- */

static void forward(bench *b)
{
    esp_linear_forward(b->y, b->x, esp_array_f32(b->w), NULL, b->s.n_in, b->s.n_out, &b->batch);
}

static void backward_input(bench *b)
{
    esp_linear_backward_input(b->dx, b->y, esp_array_f32(b->w), b->s.n_in, b->s.n_out, &b->batch);
}

static void backward_weight(bench *b)
{
    esp_linear_backward_weight(b->dw, NULL, b->y, b->x, b->batch.n_tok, b->s.n_in, b->s.n_out);
}

/* The whole product as one call: forward, backward_input and backward_weight in the terms of BLAS. */
static void sgemm_forward(bench *b)
{
    int m = esp_count(b->batch.n_tok), n = esp_count(b->s.n_out), k = esp_count(b->s.n_in);

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, b->x, k, b->w, k, 0, b->y, n);
}

static void sgemm_input(bench *b)
{
    int m = esp_count(b->batch.n_tok), n = esp_count(b->s.n_in), k = esp_count(b->s.n_out);

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, b->y, k, b->w, n, 1, b->dx,
                n);
}

static void sgemm_weight(bench *b)
{
    int m = esp_count(b->s.n_out), n = esp_count(b->s.n_in), k = esp_count(b->batch.n_tok);

    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, k, 1, b->y, m, b->x, n, 1, b->dw, n);
}

/* GFLOP/s of sgemm */
static double blas_speed(kernel run, bench *b, double gflop)
{
    double s;

    blas_threads(n_threads);
    s = seconds(run, b);
    blas_threads(1);
    return gflop / s;
}

static void print_speed(const bench *b, const char *what, const char *unit, double speed,
                        const char *of, double reference)
{
    char *name = esp_format("%s, %s", what, b->s.name);

    bench_row(name, speed, unit, speed / reference, of, 0, alone);
    free(name);
}

static void bench_linear(bench *b)
{
    static const kernel ours[3] = { forward, backward_input, backward_weight };
    static const kernel blas[3] = { sgemm_forward, sgemm_input, sgemm_weight };
    static const char *const names[3] = { "forward", "dx", "dw" };
    double gflop = 2e-9 * (double)b->batch.n_tok * (double)b->s.n_in * (double)b->s.n_out;

    for (int i = 0; i < 3; i++) {
        print_speed(b, names[i], "GFLOP/s", gflop / seconds(ours[i], b), "sgemm",
                    blas_speed(blas[i], b, gflop));
    }
}

/* ---- attention -------------------------------------------------------------------------------- */

static esp_attention attention_of(const bench *b)
{
    return (
        esp_attention){ .heads = b->s.H, .kv_heads = b->s.K, .head_dim = b->s.d, .scale = 0.125f };
}

static void attention_forward(bench *b)
{
    esp_attention a = attention_of(b);

    esp_attention_forward(b->out, b->q, b->k, b->v, &a, &b->batch);
}

static void attention_backward(bench *b)
{
    esp_attention a = attention_of(b);

    esp_attention_backward(b->y, b->dx, b->x, b->out, b->q, b->k, b->v, &a, &b->batch);
}

static void bench_attention(bench *b)
{
    double T = (double)b->s.T, pairs = (double)b->s.n_samples * T * (T + 1) / 2;
    double gflop = 2e-9 * pairs * (double)(b->s.H * b->s.d); /* of one product */
    double blas = blas_speed(
        sgemm_forward, b, 2e-9 * (double)b->batch.n_tok * (double)b->s.n_in * (double)b->s.n_out);

    print_speed(b, "forward", "GFLOP/s", 2 * gflop / seconds(attention_forward, b), "sgemm", blas);
    print_speed(b, "backward", "GFLOP/s", 5 * gflop / seconds(attention_backward, b), "sgemm",
                blas);
}

/* ---- what memory bounds ----------------------------------------------------------------------- */

static size_t numbers(const bench *b)
{
    return b->batch.n_tok * b->s.n_in;
}

static void copy(bench *b)
{
    size_t n = numbers(b), chunk = n / (size_t)n_threads;

#pragma omp parallel for
    for (size_t i = 0; i < n; i += chunk) {
        memcpy(b->dx + i, b->x + i, (n - i < chunk ? n - i : chunk) * sizeof *b->x);
    }
}

static void norm_forward(bench *b)
{
    esp_rmsnorm_forward(b->dx, b->x, b->w, b->batch.n_tok, b->s.n_in, 1e-5f);
}

static void norm_backward(bench *b)
{
    esp_rmsnorm_backward(b->dx, b->dw, b->y, b->x, b->w, b->s.n_in, 1e-5f, &b->batch);
}

static void rotary(bench *b)
{
    esp_rope rope = { .n = b->s.d, .inv_freq = b->inv_freq, .gain = 1 };
    esp_rotation r = { .rope = &rope };

    esp_rotary_forward(b->dx, b->x, &r, b->s.n_in / b->s.d, b->s.d, &b->batch);
}

static void gate(bench *b)
{
    esp_gate_forward(b->dx, b->x, b->y, ESP_SILU, numbers(b));
}

static void gate_backward(bench *b)
{
    esp_gate_backward(b->dx, b->q, b->y, b->x, b->k, ESP_SILU, numbers(b));
}

static void layer_norm(bench *b)
{
    esp_layernorm_forward(b->dx, b->x, b->w, b->dw, b->batch.n_tok, b->s.n_in, 1e-5f);
}

static void layer_norm_backward(bench *b)
{
    esp_layernorm_backward(b->dx, b->dw, NULL, b->y, b->x, b->w, b->s.n_in, 1e-5f, &b->batch);
}

static void gelu_tanh(bench *b)
{
    esp_activation_forward(b->dx, b->x, ESP_GELU_TANH, numbers(b));
}

static void gelu_erf(bench *b)
{
    esp_activation_forward(b->dx, b->x, ESP_GELU_ERF, numbers(b));
}

static void loss(bench *b)
{
    double *sum;

    ESP_NEW(sum, b->batch.n_tok);
    esp_cross_entropy(sum, NULL, b->x, b->batch.ids, NULL, NULL, 0, b->batch.n_tok, b->s.n_in);
    free(sum);
}

static void from_bf16(bench *b)
{
    esp_to_f32(b->dx, b->x, ESP_BF16, numbers(b));
}

static void from_f16(bench *b)
{
    esp_to_f32(b->dx, b->x, ESP_F16, numbers(b));
}

static void bench_rows(bench *b)
{
    static const struct {
        const char *name;
        kernel run;
        double bytes; /* read and written a number */
    } rows[] = {
        { "copy", copy, 8 },
        { "rms norm forward", norm_forward, 8 },
        { "rms norm backward", norm_backward, 16 },
        { "layer norm forward", layer_norm, 8 },
        { "layer norm backward", layer_norm_backward, 16 },
        { "rotary", rotary, 8 },
        { "silu gate forward", gate, 12 },
        { "silu gate backward", gate_backward, 28 },
        { "gelu (tanh) forward", gelu_tanh, 8 },
        { "gelu (erf) forward", gelu_erf, 8 },
        { "cross-entropy, loss only", loss, 4 },
        { "F32 from BF16", from_bf16, 6 },
        { "F32 from F16", from_f16, 6 },
    };
    double n = 1e-9 * (double)numbers(b), reference = 8 * n / seconds(copy, b);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_speed(b, rows[i].name, "GB/s", rows[i].bytes * n / seconds(rows[i].run, b), "a copy",
                    reference);
    }
}

/* ---- shapes ----------------------------------------------------------------------------------- */

/* n numbers in [-1, 1) */
static float *uniform(size_t n, uint64_t key)
{
    float *x;

    ESP_NEW(x, n);
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(int32_t)esp_rng_at(key, i) * 0x1p-31f;
    }
    return x;
}

static void bench_init(bench *b)
{
    size_t length[MAX_SAMPLES], n_tok = b->s.n_samples * b->s.T;
    size_t wide = b->s.n_in > b->s.n_out ? b->s.n_in : b->s.n_out;

    wide = wide > b->s.H * b->s.d ? wide : b->s.H * b->s.d;
    for (size_t j = 0; j < b->s.n_samples; j++) {
        length[j] = b->s.T;
    }
    make_batch(&b->batch, length, b->s.n_samples);
    b->x = uniform(n_tok * wide, 1);
    b->y = uniform(n_tok * wide, 2);
    b->dx = uniform(n_tok * wide, 3);
    b->w = uniform(b->s.n_out * b->s.n_in, 4);
    b->dw = uniform((b->s.n_out + b->s.n_samples) * b->s.n_in, 5);
    b->q = uniform(n_tok * wide, 6);
    b->k = uniform(n_tok * wide, 7);
    b->v = uniform(n_tok * wide, 8);
    b->out = uniform(n_tok * wide, 9);
    ESP_NEW(b->inv_freq, b->s.d / 2);
}

static void bench_free(bench *b)
{
    float *arrays[] = { b->x, b->y, b->dx, b->w, b->dw, b->q, b->k, b->v, b->out };

    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        free(arrays[i]);
    }
    free(b->inv_freq);
    esp_batch_free(&b->batch);
}

static const shape linear_shapes[] = {
    { "768 -> 768, 10 x 64 tokens", 10, 64, 768, 768, 1, 1, 64 },
    { "768 -> 2048, 4 x 256 tokens", 4, 256, 768, 2048, 1, 1, 64 },
    { "2048 -> 2048, 10 x 64 tokens", 10, 64, 2048, 2048, 1, 1, 64 },
    { "2048 -> 5632, 10 x 64 tokens", 10, 64, 2048, 5632, 1, 1, 64 },
    { "5632 -> 2048, 2 x 256 tokens", 2, 256, 5632, 2048, 1, 1, 64 },
};
static const shape attention_shapes[] = {
    { "32 heads of 64, 10 x 64 tokens", 10, 64, 2048, 2048, 32, 32, 64 },
    { "32/4 heads of 64, 2 x 512 tokens", 2, 512, 2048, 2048, 32, 4, 64 },
    { "16 heads of 128, 1 x 1024 tokens", 1, 1024, 2048, 2048, 16, 16, 128 },
    { "8/2 heads of 64, 1 x 2048 tokens", 1, 2048, 512, 512, 8, 2, 64 },
    { "2 heads of 64, 1 x 8192 tokens", 1, 8192, 512, 512, 2, 2, 64 },
};
static const shape row_shapes[] = {
    { "2048 numbers, 4 x 256 tokens", 4, 256, 2048, 8, 1, 1, 64 },
};

static void run_all(const shape *list, size_t n, void (*run)(bench *b))
{
    for (size_t i = 0; i < n; i++) {
        bench b = { .s = list[i] };

        bench_init(&b);
        run(&b);
        bench_free(&b);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    esp_grid grid;
    int provided;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    esp_grid_init(&grid, 0, MPI_COMM_WORLD);
    n_threads = grid.n_threads;
    alone = &grid;
    if (grid.size == 1) {
        printf("OpenBLAS for %s\n", openblas_get_corename());
        run_all(linear_shapes, sizeof linear_shapes / sizeof(shape), bench_linear);
        run_all(attention_shapes, sizeof attention_shapes / sizeof(shape), bench_attention);
        run_all(row_shapes, sizeof row_shapes / sizeof(shape), bench_rows);
    }
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
