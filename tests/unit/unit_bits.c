/* unit_bits.c - kernels give a sample the same bits whatever the number of threads and whatever its
 * neighbours, and a product the same bits whatever it is cut into. */
#include "finite_differences.h"

#include <omp.h>

#include "espalier/par.h"
#include "espalier/tensor.h"

enum { H = 30, K = 10, D = 10, WIDTH = H * D, KV = K * D, OUT = 600 }; /* several tiles wide */

/* The prefix of a sample follows from its key. */
static void set_prefixes(esp_batch *b)
{
    for (size_t j = 0; j < b->n_samples; j++) {
        b->prefix[j] = (b->start[j + 1] - b->start[j]) / (b->key[j] + 2);
        b->place[j] = b->prefix[j] / 3;
    }
}

/* Results with a row a token; width[i] numbers in a row. */
enum { N_RESULTS = 21 };
static const size_t width[N_RESULTS] = { OUT,   WIDTH, WIDTH, WIDTH, WIDTH, WIDTH, KV,
                                         KV,    WIDTH, OUT,   WIDTH, WIDTH, WIDTH, WIDTH,
                                         WIDTH, KV,    KV,    WIDTH, WIDTH, WIDTH, WIDTH };

typedef struct results {
    float *row[N_RESULTS]; /* [n_tok, width[i]] owned */
    float *dw, *db;        /* [OUT, WIDTH], [OUT] owned: over all samples */
    double *loss;          /* [n_tok] owned */
} results;

/* Rows [n_tok, n]: those of a sample follow from its key and `what`. */
static float *rows_of(const esp_batch *b, size_t n, uint64_t what)
{
    float *x;

    ESP_NEW(x, b->n_tok * n);
    for (size_t j = 0; j < b->n_samples; j++) {
        size_t begin = b->start[j] * n, count = b->start[j + 1] * n - begin;
        float *part = random_floats(count, 100 * what + b->key[j]);

        memcpy(x + begin, part, count * sizeof *x);
        free(part);
    }
    return x;
}

static void run_linear(results *r, const esp_batch *b)
{
    float *x = rows_of(b, WIDTH, 1), *dy = rows_of(b, OUT, 2), *w = random_floats(OUT * WIDTH, 3);
    float *bias = random_floats(OUT, 4), *d_norm = rows_of(b, WIDTH, 13);

    esp_linear_forward(r->row[0], x, esp_array_f32(w), bias, WIDTH, OUT, b);
    esp_linear_backward_input(r->row[1], dy, esp_array_f32(w), WIDTH, OUT, b);
    esp_linear_backward_weight(r->dw, r->db, dy, x, b->n_tok, WIDTH, OUT);
    esp_rmsnorm_forward(r->row[2], x, w, b->n_tok, WIDTH, 1e-5f);
    esp_rmsnorm_backward(r->row[3], NULL, d_norm, x, w, WIDTH, 1e-5f, b);
    esp_layernorm_forward(r->row[11], x, w, w + WIDTH, b->n_tok, WIDTH, 1e-5f);
    esp_layernorm_backward(r->row[12], NULL, NULL, d_norm, x, w, WIDTH, 1e-5f, b);
    free(x);
    free(dy);
    free(w);
    free(bias);
    free(d_norm);
}

static void run_attention(results *r, const esp_batch *b)
{
    float *q = rows_of(b, WIDTH, 5), *k = rows_of(b, KV, 6), *v = rows_of(b, KV, 7);
    float *dout = rows_of(b, WIDTH, 8);
    double inv_freq[D / 2] = { 1, 0.3, 0.1, 0.03, 0.01 };
    esp_rope all = { .n = D, .inv_freq = inv_freq, .gain = 1 };
    esp_rope six = { .n = 6, .inv_freq = inv_freq, .gain = 1 };
    esp_rotation turn = { .rope = &all };
    esp_rotation other = { .rope = &six, .first = 2, .pairs = true };
    esp_attention a = { .heads = H, .kv_heads = K, .head_dim = D, .scale = 0.3f };
    esp_attention bent = a;
    float *slopes = random_floats(H, 14);

    bent.slopes = slopes;
    bent.soft_cap = 2;
    bent.window = 40;
    bent.prefix = true;
    other.block_position = true;

    esp_attention_forward(r->row[4], q, k, v, &a, b);
    esp_attention_backward(r->row[5], r->row[6], r->row[7], dout, q, k, v, &a, b);
    esp_rotary_forward(r->row[8], q, &turn, H, D, b);
    esp_attention_forward(r->row[13], q, k, v, &bent, b);
    esp_attention_backward(r->row[14], r->row[15], r->row[16], dout, q, k, v, &bent, b);
    esp_rotary_forward(r->row[17], q, &other, H, D, b);
    free(slopes);
    free(q);
    free(k);
    free(v);
    free(dout);
}

static void run_rows(results *r, const esp_batch *b)
{
    float *g = rows_of(b, WIDTH, 9), *u = rows_of(b, WIDTH, 10), *logits = rows_of(b, OUT, 11);
    float *scale = random_floats(b->n_tok, 12);

    for (size_t t = 0; t < b->n_tok; t++) {
        scale[t] = 1;
    }
    esp_cross_entropy(r->loss, NULL, logits, b->targets, NULL, scale, 5, b->n_tok, OUT);
    memcpy(r->row[9], logits, b->n_tok * OUT * sizeof *logits);
    esp_gate_forward(r->row[10], g, u, ESP_SILU, b->n_tok * WIDTH);
    esp_activation_forward(r->row[18], g, ESP_GELU_TANH, b->n_tok * WIDTH);
    esp_activation_backward(r->row[19], u, g, ESP_GELU_ERF, b->n_tok * WIDTH);
    esp_gate_forward(r->row[20], g, u, ESP_RELU, b->n_tok * WIDTH);
    free(g);
    free(u);
    free(logits);
    free(scale);
}

static void set_threads(int n)
{
    esp_grid g;

    esp_grid_init(&g, n, MPI_COMM_SELF);
    CU_ASSERT_EQUAL(omp_get_max_threads(), n);
    esp_grid_free(&g);
}

static void results_make(results *r, const esp_batch *b, int n_threads)
{
    set_threads(n_threads);
    for (int i = 0; i < N_RESULTS; i++) {
        ESP_NEW(r->row[i], b->n_tok * width[i]);
    }
    ESP_NEW(r->dw, OUT * WIDTH);
    ESP_NEW(r->db, OUT);
    ESP_NEW(r->loss, b->n_tok);
    run_linear(r, b);
    run_attention(r, b);
    run_rows(r, b);
}

static void results_free(results *r)
{
    for (int i = 0; i < N_RESULTS; i++) {
        free(r->row[i]);
    }
    free(r->dw);
    free(r->db);
    free(r->loss);
}

/* n_tok rows of b at b_row, of a from its beginning */
static int same_rows(const results *a, const results *b, size_t b_row, size_t n_tok)
{
    int same = memcmp(a->loss, b->loss + b_row, n_tok * sizeof *a->loss) == 0;

    for (int i = 0; i < N_RESULTS; i++) {
        if (memcmp(a->row[i], b->row[i] + b_row * width[i], n_tok * width[i] * sizeof(float)) !=
            0) {
            printf("  result %d differs\n", i);
            same = 0;
        }
    }
    return same;
}

enum { N_SAMPLES = 5 };
static const size_t lengths[N_SAMPLES] = { 150, 7, 1, 70, 33 };

static void test_threads(void)
{
    esp_batch b;
    results one, more;

    make_batch(&b, lengths, N_SAMPLES);
    set_prefixes(&b);
    results_make(&one, &b, 1);
    for (int n = 2; n <= 3; n++) {
        results_make(&more, &b, n);
        CU_ASSERT(same_rows(&one, &more, 0, b.n_tok));
        CU_ASSERT(memcmp(one.dw, more.dw, OUT * WIDTH * sizeof(float)) == 0);
        CU_ASSERT(memcmp(one.db, more.db, OUT * sizeof(float)) == 0);
        results_free(&more);
    }
    results_free(&one);
    esp_batch_free(&b);
}

static void test_neighbours(void)
{
    esp_batch all;
    results together;

    make_batch(&all, lengths, N_SAMPLES);
    set_prefixes(&all);
    results_make(&together, &all, 2);
    for (size_t j = 0; j < N_SAMPLES; j++) {
        esp_batch alone;
        results r;

        /* a batch of one token is decoding, which has its own product: such a sample gets other company */
        make_batch(&alone, lengths + j, lengths[j] == 1 && j + 1 < N_SAMPLES ? 2 : 1);
        for (size_t i = 0; i < alone.n_samples; i++) {
            alone.key[i] = j + i;
        }
        set_prefixes(&alone);
        results_make(&r, &alone, 2);
        CU_ASSERT(same_rows(&r, &together, all.start[j], lengths[j]));
        results_free(&r);
        esp_batch_free(&alone);
    }
    results_free(&together);
    esp_batch_free(&all);
}

ESP_TEST_MAIN("bits", { "any number of threads", test_threads },
              { "any neighbours", test_neighbours })
