/* unit_adapter.c - the low-rank path against f64 and central differences; what dropout depends on. */
#include "finite_differences.h"

#include "espalier/adapter.h"

enum { N_LAYERS = 2, SLOT = ESP_SLOT_BLOCK + 1 };
enum { N_IN = 9, N_OUT = 7, RANK = 3 };

static const size_t lengths[3] = { 4, 1, 140 };

static void init_adapter(esp_adapter *a, size_t rank, float alpha, float dropout)
{
    esp_model m = { .arch = esp_arch_find("llama"), .dims = { .n_layers = N_LAYERS } };

    esp_adapter_init(a, &m, rank, alpha);
    a->dropout = dropout;
    a->seed = 5;
}

static esp_lora *lora_of(const esp_adapter *a, size_t layer, int slot)
{
    return &a->lora[esp_slot_index(a->n_slots, layer, slot)];
}

/* ---- the mask --------------------------------------------------------------------------------- */

static float *identity(size_t n)
{
    float *x;

    ESP_NEW(x, n * n);
    for (size_t i = 0; i < n; i++) {
        x[i * n + i] = 1;
    }
    return x;
}

/* What each of n columns of x is multiplied by, [n_tok, n]: with A = B = I and x = 1 it is y. */
static float *mask_of(float dropout, uint64_t seed, size_t layer, int slot, size_t n,
                      const esp_batch *batch)
{
    esp_adapter a;
    esp_weight w = { .rows = n, .cols = n };
    float *eye = identity(n), *x, *y, *u, *dropped;

    init_adapter(&a, n, (float)n, dropout);
    a.seed = seed;
    *lora_of(&a, layer, slot) = (esp_lora){ .a = eye, .b = eye };
    ESP_NEW(x, batch->n_tok * n);
    ESP_NEW(y, batch->n_tok * n);
    ESP_NEW(u, batch->n_tok * n);
    ESP_NEW(dropped, batch->n_tok * n);
    for (size_t i = 0; i < batch->n_tok * n; i++) {
        x[i] = 1;
    }
    esp_lora_forward(y, u, dropped, &a, layer, slot, x, &w, batch);
    esp_adapter_free(&a);
    free(eye);
    free(x);
    free(u);
    free(dropped);
    return y;
}

static void test_mask_share(void)
{
    esp_batch b;
    size_t n = 60, kept = 0;
    float *mask;

    make_batch(&b, lengths, 3);
    mask = mask_of(0.2f, 1, 0, SLOT, n, &b);
    for (size_t i = 0; i < b.n_tok * n; i++) {
        CU_ASSERT(mask[i] == 0 || mask[i] == 1.25f);
        kept += mask[i] > 0;
    }
    CU_ASSERT_DOUBLE_EQUAL((double)kept / (double)(b.n_tok * n), 0.8, 0.018); /* 4 deviations */
    free(mask);
    esp_batch_free(&b);
}

static void test_mask_of_a_sample(void)
{
    esp_batch all, alone;
    float *together, *one;

    make_batch(&all, lengths, 3);
    make_batch(&alone, lengths + 2, 1);
    alone.key[0] = all.key[2];
    together = mask_of(0.5f, 1, 1, SLOT, N_IN, &all);
    one = mask_of(0.5f, 1, 1, SLOT, N_IN, &alone);
    CU_ASSERT(memcmp(together + all.start[2] * N_IN, one, lengths[2] * N_IN * sizeof *one) == 0);
    free(together);
    free(one);
    esp_batch_free(&all);
    esp_batch_free(&alone);
}

/* Each of seed, layer, slot and sample gives another mask. */
static void test_mask_streams(void)
{
    static const size_t two[2] = { 20, 20 };
    const size_t n = 20 * N_IN;
    esp_batch b;
    float *mask[4];

    make_batch(&b, two, 2);
    mask[0] = mask_of(0.5f, 1, 0, SLOT, N_IN, &b);
    mask[1] = mask_of(0.5f, 2, 0, SLOT, N_IN, &b);
    mask[2] = mask_of(0.5f, 1, 1, SLOT, N_IN, &b);
    mask[3] = mask_of(0.5f, 1, 0, SLOT + 1, N_IN, &b);
    CU_ASSERT(memcmp(mask[0], mask[0] + n, n * sizeof(float)) != 0);
    for (int i = 1; i < 4; i++) {
        CU_ASSERT(memcmp(mask[0], mask[i], n * sizeof(float)) != 0);
    }
    for (int i = 0; i < 4; i++) {
        free(mask[i]);
    }
    esp_batch_free(&b);
}

/* ---- values and gradients --------------------------------------------------------------------- */

typedef struct lora_shape {
    size_t n_tok;
    double scale;
    const float *mask; /* [n_tok, N_IN] */
} lora_shape;

static void lora(double *y, double *const *in, const void *shape) /* x, A, B */
{
    const lora_shape *s = shape;

    for (size_t t = 0; t < s->n_tok; t++) {
        for (size_t o = 0; o < N_OUT; o++) {
            double sum = 0;

            for (size_t i = 0; i < (size_t)RANK * N_IN; i++) {
                size_t r = i / N_IN, c = i % N_IN, at = t * N_IN + c;

                sum += in[2][o * RANK + r] * in[1][i] * (double)s->mask[at] * in[0][at];
            }
            y[t * N_OUT + o] = s->scale * sum;
        }
    }
}

static void check_lora(float dropout)
{
    esp_batch b;
    esp_adapter a;
    esp_weight w = { .rows = N_OUT, .cols = N_IN };
    lora_shape s = { .scale = 16.0 / RANK };
    op o;
    float *in[MAX_IN], *grads[MAX_IN], *mask, *y, *dy, *u, *du, *dropped;

    make_batch(&b, lengths, 3);
    s.n_tok = b.n_tok;
    s.mask = mask = mask_of(dropout, 5, 1, SLOT, N_IN, &b);
    o = (op){ lora, &s, b.n_tok * N_OUT, { b.n_tok * N_IN, RANK * N_IN, N_OUT * RANK } };
    make_arrays(in, grads, &o, 1);
    init_adapter(&a, RANK, 16, dropout);
    *lora_of(&a, 1, SLOT) = (esp_lora){ in[1], in[2], grads[1], grads[2] };
    ESP_NEW(y, o.n_out);
    dy = random_floats(o.n_out, 9);
    ESP_NEW(u, b.n_tok * RANK);
    ESP_NEW(du, b.n_tok * RANK);
    ESP_NEW(dropped, b.n_tok * N_IN);

    esp_lora_forward(y, u, dropped, &a, 1, SLOT, in[0], &w, &b);
    CU_ASSERT(forward_close(&o, in, y));
    memset(u, 0, b.n_tok * RANK * sizeof *u); /* scratch: nothing is kept between the two */
    esp_lora_backward(grads[0], u, du, dropped, &a, 1, SLOT, dy, in[0], &w, &b);
    for (int i = 0; i < 3; i++) {
        take_ones(grads[i], o.n_in[i]);
    }
    CU_ASSERT(gradients_close(&o, in, dy, grads));

    free_arrays(in, grads);
    free(mask);
    free(y);
    free(dy);
    free(u);
    free(du);
    free(dropped);
    esp_adapter_free(&a);
    esp_batch_free(&b);
}

static void test_lora(void)
{
    check_lora(0);
}

static void test_lora_dropout(void)
{
    check_lora(0.3f);
}

/* ---- which weights have one ------------------------------------------------------------------- */

static void test_adapter_at(void)
{
    esp_adapter a;
    esp_batch b;
    esp_weight w = { .rows = 1, .cols = 1 };
    float one = 1, y = 3, u = 0, du = 0, dx = 4;

    make_batch(&b, lengths + 1, 1);
    init_adapter(&a, 1, 1, 0);
    CU_ASSERT_PTR_NULL(esp_adapter_at(NULL, 0, SLOT));
    CU_ASSERT_PTR_NULL(esp_adapter_at(&a, 0, SLOT));
    CU_ASSERT_PTR_NULL(esp_adapter_at(&a, ESP_NO_LAYER, ESP_SLOT_HEAD));
    esp_lora_forward(&y, &u, NULL, &a, 0, SLOT, &one, &w, &b); /* nothing there: nothing happens */
    esp_lora_backward(&dx, &u, &du, NULL, &a, 0, SLOT, &one, &one, &w, &b);
    CU_ASSERT(y == 3 && dx == 4);
    lora_of(&a, 0, SLOT)->a = lora_of(&a, 0, SLOT)->b = &one;
    CU_ASSERT_PTR_EQUAL(esp_adapter_at(&a, 0, SLOT), lora_of(&a, 0, SLOT));
    CU_ASSERT_PTR_NULL(esp_adapter_at(&a, 1, SLOT));
    esp_lora_forward(&y, &u, NULL, &a, 0, SLOT, &one, &w, &b);
    esp_lora_backward(&dx, &u, &du, NULL, &a, 0, SLOT, &one, &one, &w, &b); /* not trained */
    CU_ASSERT(y == 4 && dx == 5);
    esp_adapter_free(&a);
    esp_adapter_free(&a);
    esp_batch_free(&b);
}

ESP_TEST_MAIN("adapter", { "mask: share and value", test_mask_share },
              { "mask: a sample alone and in a batch", test_mask_of_a_sample },
              { "mask: streams", test_mask_streams }, { "without dropout", test_lora },
              { "with dropout", test_lora_dropout },
              { "weights with and without", test_adapter_at })
