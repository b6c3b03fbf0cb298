/* unit_sparse_loss.c - losses and gradients where few positions have a target. */
#include "espalier/pass.h"
#include "golden_values.h"

static void ignore_linear(void *ctx, size_t layer, int slot, int input, const float *dy,
                          const float *x, size_t n_tok)
{
    (void)ctx, (void)layer, (void)slot, (void)input, (void)dy, (void)x, (void)n_tok;
}

static void ignore_norm_head_grad(void *ctx, const float *norm_head_grad, size_t n_tok)
{
    (void)ctx, (void)norm_head_grad, (void)n_tok;
}

/* All samples of g, every third position with its target. */
static void fill_batch(esp_batch *b, const golden *g)
{
    size_t n = g->samples.n, *pick;

    ESP_NEW(pick, n);
    for (size_t j = 0; j < n; j++) {
        pick[j] = j;
    }
    esp_model_batch_init(b, &g->model, n, g->samples.start[n]);
    esp_batch_fill(b, &g->samples, pick, n);
    for (size_t t = 0; t < b->n_tok; t++) {
        b->targets[t] = t % 3 == 1 ? b->targets[t] : ESP_NO_TARGET;
    }
    free(pick);
}

/* Loss of a batch that went forward, and FLOP of it; gradient [n] of the last hidden states. */
static double take_loss(esp_loss *loss, float *gradient, esp_pass *p, const esp_sink *sink,
                        const esp_batch *b)
{
    size_t n = b->n_tok * p->model->dims.hidden;
    double flops = p->flops;
    float *scale;

    ESP_NEW(scale, b->n_samples);
    for (size_t j = 0; j < b->n_samples; j++) {
        scale[j] = 1.0f / (float)(3 + j);
    }
    esp_pass_loss(p, loss, scale, sink, b);
    memcpy(gradient, p->d_hidden.at, n * sizeof *gradient);
    free(scale);
    return p->flops - flops;
}

/* Unless somebody asks for the head's gradient, positions without a target cost no logits; and the bits are
 * the same. */
static void check_model(golden *g, esp_precision precision)
{
    static const esp_sink of_head = { .linear = ignore_linear,
                                      .norm_head_grad = ignore_norm_head_grad };
    size_t n_samples = g->samples.n, n_tok = g->samples.start[n_samples];
    size_t n = n_tok * g->model.dims.hidden;
    esp_loss *all, *few;
    float *gradient, *picked;
    esp_batch b;
    esp_pass p;
    double flops;

    g->model.precision = precision;
    fill_batch(&b, g);
    esp_pass_init(
        &p, &g->model,
        (esp_pass_options){ .max_samples = n_samples, .max_tok = n_tok, .backward = true });
    ESP_NEW(all, n_samples);
    ESP_NEW(few, n_samples);
    ESP_NEW(gradient, n);
    ESP_NEW(picked, n);
    esp_pass_forward(&p, NULL, &b);
    flops = take_loss(all, gradient, &p, &of_head, &b);
    CU_ASSERT(take_loss(few, picked, &p, NULL, &b) <= flops / 3);
    CU_ASSERT(memcmp(gradient, picked, n * sizeof(float)) == 0);
    for (size_t j = 0; j < n_samples; j++) {
        CU_ASSERT(few[j].sum == all[j].sum && few[j].count == all[j].count);
        CU_ASSERT_EQUAL(few[j].hits, all[j].hits);
    }
    free(all);
    free(few);
    free(gradient);
    free(picked);
    esp_pass_free(&p);
    esp_batch_free(&b);
}

static void test_few_targets(void)
{
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        golden g;

        if (golden_open(&g, golden_models[i])) {
            check_model(&g, ESP_PRECISION_F32);
            if (esp_test_bf16()) {
                check_model(&g, ESP_PRECISION_BF16);
            }
            golden_close(&g);
        }
    }
}

ESP_TEST_MAIN("sparse loss", { "few targets", test_few_targets })
