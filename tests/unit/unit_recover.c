/* unit_recover.c - schedule, AdamW, data, and gradients of the whole model by the trained numbers. */
#include "espalier/recover.h"

#include <omp.h>

#include "espalier/corpus.h"
#include "golden_values.h"
#include "recover/adamw_impl.h"
#include "recover/data_impl.h"
#include "recover/gradient_impl.h"
#include "recover/schedule_impl.h"
#include "small_model.h"

#define ALL_TARGETS UINT64_MAX

/* ---- schedule ---------------------------------------------------------------------------------- */

static void test_schedule(void)
{
    esp_recover_options o = {
        .learning_rate = 1, .min_learning_rate = 0.2, .warmup = 4, .batch = 8, .epochs = 1.5
    };

    CU_ASSERT_EQUAL(esp_schedule_steps(&o, 17), 5); /* 3 an epoch */
    o.steps = 7;
    CU_ASSERT_EQUAL(esp_schedule_steps(&o, 17), 7);
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 0, 12), 0.25, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 3, 12), 1, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 4, 12), 1, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 8, 12), 0.6, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 11, 12), 0.3, 1e-15);
    o.warmup = 0.25; /* 3 of 12 steps */
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 1, 12), 2.0 / 3, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 3, 12), 1, 1e-15);
    o.warmup = 100; /* more than there are steps */
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 11, 12), 1, 1e-15);
    o.warmup = 0;
    CU_ASSERT_DOUBLE_EQUAL(esp_schedule_rate(&o, 0, 12), 1, 1e-15);
}

/* The steps are known from the samples alone, and that none is left to train on. */
static void test_foreseen(void)
{
    static const int32_t ids[] = { 1, 2, 3 };
    esp_recover_options o = { .batch = 4, .epochs = 2, .validation = 2 };
    esp_samples s = { 0 };
    size_t steps;

    for (int i = 0; i < 11; i++) {
        esp_samples_add(&s, ids, NULL, 3);
    }
    CU_ASSERT_EQUAL(esp_recover_check_early(&steps, &s, &o), ESP_OK);
    CU_ASSERT_EQUAL(steps, 6); /* of 9 samples 3 an epoch */
    o.validation = 11;
    CU_ASSERT_EQUAL(esp_recover_check_early(&steps, &s, &o), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "none is left to train on"));
    esp_error_clear();
    esp_samples_free(&s);
}

/* ---- optimiser --------------------------------------------------------------------------------- */

enum { N_FIRST = 300, N_ALL = 500, N_STEPS = 5 };

/* A decaying entry and one that does not decay. */
static void make_params(esp_params *p)
{
    esp_rng r = { .key = 3 };

    *p = (esp_params){ .n_entries = 2, .n = N_ALL, .n_stages = 1, .piece_limit = 70 };
    ESP_NEW(p->entries, 2);
    p->entries[0] = (esp_entry){ .begin = 0, .n = N_FIRST, .decays = true };
    p->entries[1] = (esp_entry){ .begin = N_FIRST, .n = N_ALL - N_FIRST };
    ESP_NEW(p->stage, 2);
    p->stage[1] = N_ALL;
    ESP_NEW(p->value, p->n);
    esp_params_train(p, NULL, 0, 1);
    for (size_t i = 0; i < p->n; i++) {
        p->value[i] = (float)esp_rng_normal(&r);
    }
}

/* One number through AdamW in f64, as the paper writes it. */
static double reference(double value, const double *grads, const esp_recover_options *o,
                        bool decays)
{
    double m = 0, v = 0;

    for (int t = 1; t <= N_STEPS; t++) {
        double g = 0.5 * grads[t - 1], rate = 0.01 * t;
        double m_hat, v_hat;

        m = o->beta1 * m + (1 - o->beta1) * g;
        v = o->beta2 * v + (1 - o->beta2) * g * g;
        m_hat = m / (1 - pow(o->beta1, t));
        v_hat = v / (1 - pow(o->beta2, t));
        value -=
            rate * (m_hat / (sqrt(v_hat) + o->epsilon) + (decays ? o->weight_decay * value : 0));
    }
    return value;
}

static void test_adamw(void)
{
    esp_recover_options o = { .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-3, .weight_decay = 0.3 };
    esp_rng r = { .key = 4 };
    double want[N_ALL], got[N_ALL], grads[N_ALL][N_STEPS];
    esp_exchange x;
    esp_params p;

    make_params(&p);
    esp_exchange_init(&x, &p, MPI_COMM_SELF);
    for (size_t i = 0; i < N_ALL; i++) {
        for (int t = 0; t < N_STEPS; t++) {
            grads[i][t] = (double)(float)(0.1 * esp_rng_normal(&r));
        }
        want[i] = reference((double)p.value[i], grads[i], &o, i < N_FIRST);
    }
    for (int t = 1; t <= N_STEPS; t++) {
        for (size_t i = 0; i < N_ALL; i++) {
            p.grad[i] = (float)grads[i][t - 1];
        }
        esp_adamw_step(&x, &o, 0.01 * t, 0.5, (size_t)t);
    }
    for (size_t i = 0; i < N_ALL; i++) {
        got[i] = (double)p.value[i];
    }
    CU_ASSERT(esp_test_close(got, want, N_ALL, 1, 1e-6));
    esp_exchange_free(&x);
    esp_params_free(&p);
}

static void test_norm(void)
{
    int threads = omp_get_max_threads();
    double want = 0, got;
    esp_params p;

    make_params(&p);
    for (size_t i = 0; i < p.n; i++) {
        p.grad[i] = p.value[i];
        want += (double)p.value[i] * (double)p.value[i];
    }
    got = esp_grad_squares(&p);
    CU_ASSERT_DOUBLE_EQUAL(got, want, 1e-12 * want);
    omp_set_num_threads(3);
    CU_ASSERT_EQUAL(esp_grad_squares(&p), got);
    omp_set_num_threads(threads);
    esp_params_free(&p);
}

/* ---- data -------------------------------------------------------------------------------------- */

/* Each sample with a target is once in the training order or held out. */
static void check_partition(esp_data *d, size_t n_with_target)
{
    uint8_t seen[64] = { 0 };
    const size_t *order = esp_data_order(d, 1);

    CU_ASSERT_EQUAL(d->n_train + d->n_valid, n_with_target);
    for (size_t i = 0; i < d->n_train; i++) {
        seen[order[i]]++;
    }
    for (size_t i = 0; i < d->n_valid; i++) {
        seen[d->valid[i]]++;
    }
    for (size_t j = 0; j < d->samples->n; j++) {
        CU_ASSERT_EQUAL(seen[j], esp_samples_targets(d->samples, j) > 0);
    }
}

static void test_data(void)
{
    esp_samples s = small_samples(40, 5, 10);
    const int32_t one = 1;
    size_t first[64];
    esp_data d;

    esp_samples_add(&s, &one, NULL, 1); /* predicts nothing */
    CU_ASSERT_EQUAL(esp_data_split(&d, &s, 0.1, 7), ESP_OK);
    CU_ASSERT_EQUAL(d.n_valid, 4);
    check_partition(&d, 40);
    memcpy(first, esp_data_order(&d, 0), d.n_train * sizeof *first);
    CU_ASSERT(memcmp(first, esp_data_order(&d, 1), d.n_train * sizeof *first) != 0);
    CU_ASSERT(memcmp(first, esp_data_order(&d, 0), d.n_train * sizeof *first) == 0);
    CU_ASSERT_EQUAL(esp_data_targets(&d, (const size_t[]){ 0, 40 }, 2), s.start[1] - 1);
    esp_data_free(&d);

    CU_ASSERT_EQUAL(esp_data_split(&d, &s, 0.001, 7), ESP_OK);
    CU_ASSERT_EQUAL(d.n_valid, 1);
    esp_data_free(&d);
    CU_ASSERT_EQUAL(esp_data_split(&d, &s, 12, 7), ESP_OK);
    CU_ASSERT_EQUAL(d.n_valid, 12);
    esp_data_free(&d);
    CU_ASSERT_EQUAL(esp_data_split(&d, &s, 0, 7), ESP_OK);
    CU_ASSERT_EQUAL(d.n_valid, 0);
    check_partition(&d, 40);
    esp_data_free(&d);
    CU_ASSERT_EQUAL(esp_data_split(&d, &s, 40, 7), ESP_EUSAGE);
    esp_data_free(&d);
    esp_samples_free(&s);
}

/* ---- layout ------------------------------------------------------------------------------------ */

static void test_lora_init(void)
{
    esp_adapter a, few;
    esp_params p, q;
    small s;

    small_init(&s, &two_qwen2, ESP_F32);
    esp_adapter_init(&a, &s.model, 4, 8);
    esp_adapter_init(&few, &s.model, 4, 8);
    esp_params_lora(&p, &a, &s.model, ALL_TARGETS, 9);
    esp_params_lora(&q, &few, &s.model, UINT64_C(1) << (ESP_SLOT_BLOCK + 2), 9);
    CU_ASSERT_EQUAL(p.n_entries, 2 * 7 * 2);
    CU_ASSERT_EQUAL(q.n_entries, 2 * 2);
    CU_ASSERT_EQUAL(p.stage[p.n_stages], p.n);
    for (size_t i = 0; i < p.n_entries; i++) {
        const esp_entry *e = &p.entries[i];
        const esp_weight *w = esp_model_weight(&s.model, e->layer, e->slot);
        float bound = 1 / sqrtf((float)w->cols), largest = 0, mean = 0;

        for (size_t k = e->begin; k < e->begin + e->n; k++) {
            largest = fmaxf(largest, fabsf(p.value[k]));
            mean += p.value[k] / (float)e->n;
        }
        CU_ASSERT(e->decays);
        CU_ASSERT(e->part == ESP_PART_A ? largest > 0.9f * bound && largest <= bound
                                        : largest == 0);
        CU_ASSERT(fabsf(mean) < 0.3f * bound);
    }
    CU_ASSERT_PTR_NOT_NULL(esp_adapter_at(&few, 1, ESP_SLOT_BLOCK + 2));
    CU_ASSERT_PTR_NULL(esp_adapter_at(&few, 1, ESP_SLOT_BLOCK + 1));
    CU_ASSERT(memcmp(esp_adapter_at(&few, 1, ESP_SLOT_BLOCK + 2)->a,
                     esp_adapter_at(&a, 1, ESP_SLOT_BLOCK + 2)->a, 4 * 24 * sizeof(float)) == 0);
    esp_params_free(&p);
    esp_params_free(&q);
    esp_adapter_free(&a);
    esp_adapter_free(&few);
    small_free(&s);
}

static void check_full(const shape *of)
{
    esp_params p;
    size_t n;
    small s;

    small_init(&s, of, ESP_BF16);
    n = esp_model_cost(&s.model, 1).parameters;
    esp_params_full(&p, &s.model);
    CU_ASSERT_EQUAL(p.n, n);
    CU_ASSERT_EQUAL(p.n_stages, of->layers + 2);
    for (size_t i = 0; i < p.n_entries; i++) {
        const esp_entry *e = &p.entries[i];
        const esp_weight *w = esp_model_weight(&s.model, e->layer, e->slot);

        CU_ASSERT_EQUAL(e->original, ESP_BF16);
        CU_ASSERT_EQUAL(w->dtype, ESP_F32);
        CU_ASSERT_PTR_EQUAL(e->part == ESP_PART_BIAS ? w->bias : w->data, p.value + e->begin);
        CU_ASSERT_EQUAL(e->decays, e->part == ESP_PART_WEIGHT &&
                                       s.model.arch->slots[e->slot].cols != ESP_W_ONE);
    }
    esp_params_free(&p);
    small_free(&s);
}

/* The down projection of a layer that is pruned to one channel has one column, and decays as any matrix. */
static void test_full_layout(void)
{
    shape narrow = three_llama;

    narrow.mlp = 1;
    check_full(&two_qwen2);
    check_full(&three_llama_tied);
    check_full(&narrow);
}

/* ---- gradients --------------------------------------------------------------------------------- */

/* A model, what is trained of it, and one batch. */
typedef struct probe {
    esp_params params;
    esp_pass pass;
    esp_batch batch;
    esp_exchange exchange;
    esp_gradient gradient;
    esp_loss *loss;
    float *scale;
    double targets;
} probe;

/* adapter NULL: all weights. */
static void probe_init(probe *t, const esp_model *m, const esp_adapter *adapter,
                       const esp_samples *s)
{
    size_t *pick;

    ESP_NEW(pick, s->n);
    ESP_NEW(t->loss, s->n);
    ESP_NEW(t->scale, s->n);
    t->targets = 0;
    for (size_t j = 0; j < s->n; j++) {
        pick[j] = j;
        t->targets += (double)esp_samples_targets(s, j);
    }
    for (size_t j = 0; j < s->n; j++) {
        t->scale[j] = (float)(1 / t->targets);
    }
    esp_model_batch_init(&t->batch, m, s->n, s->start[s->n]);
    esp_batch_fill(&t->batch, s, pick, s->n);
    esp_pass_init(&t->pass, m,
                  (esp_pass_options){ .max_samples = s->n,
                                      .max_tok = s->start[s->n],
                                      .rank = adapter ? adapter->rank : 0,
                                      .backward = true });
    t->pass.adapter = adapter;
    esp_exchange_init(&t->exchange, &t->params, MPI_COMM_SELF);
    esp_gradient_init(&t->gradient, &t->exchange, m, !adapter);
    free(pick);
}

static void probe_free(probe *t)
{
    esp_pass_free(&t->pass);
    esp_batch_free(&t->batch);
    esp_exchange_free(&t->exchange);
    esp_params_free(&t->params);
    free(t->loss);
    free(t->scale);
}

static double probe_loss(probe *t, bool backward)
{
    double sum = 0;

    if (backward) {
        esp_gradient_begin(&t->gradient);
        esp_gradient_take(&t->gradient, &t->batch, true);
    }
    esp_pass_forward(&t->pass, NULL, &t->batch);
    esp_pass_loss(&t->pass, t->loss, backward ? t->scale : NULL, &t->gradient.sink, &t->batch);
    if (backward) {
        esp_pass_backward(&t->pass, &t->gradient.sink, &t->batch);
        esp_gradient_finish(&t->gradient);
    }
    for (size_t j = 0; j < t->batch.n_samples; j++) {
        sum += t->loss[j].sum;
    }
    return sum / t->targets;
}

/* Derivative along a random direction in the numbers of an entry, against central differences. */
static void check_entry(probe *t, const esp_entry *e, double h)
{
    float *value = t->params.value + e->begin;
    esp_rng r = { .key = esp_rng_key(1, e->begin, 0) };
    double got = 0, want, above;
    float *kept, *direction;

    ESP_NEW(kept, e->n);
    ESP_NEW(direction, e->n);
    memcpy(kept, value, e->n * sizeof *kept);
    for (size_t i = 0; i < e->n; i++) {
        direction[i] =
            (float)esp_rng_normal(&r) + (t->params.grad[e->begin + i] > 0 ? 1.0f : -1.0f);
        got += (double)direction[i] * (double)t->params.grad[e->begin + i];
        value[i] = kept[i] + (float)h * direction[i];
    }
    above = probe_loss(t, false);
    for (size_t i = 0; i < e->n; i++) {
        value[i] = kept[i] - (float)h * direction[i];
    }
    want = (above - probe_loss(t, false)) / (2 * h);
    memcpy(value, kept, e->n * sizeof *kept);
    if (!esp_test_close(&got, &want, 1, fabs(want), 1e-2)) {
        CU_FAIL("gradient against differences");
        printf("  layer %zd slot %d part %d\n", (ssize_t)e->layer, e->slot, (int)e->part);
    }
    free(kept);
    free(direction);
}

static void check_gradients(probe *t, double h)
{
    probe_loss(t, true);
    for (size_t i = 0; i < t->params.n_entries; i++) {
        check_entry(t, &t->params.entries[i], h);
    }
}

static void test_full_differences(void)
{
    shape normalized_head = two_qwen2,
          one_plus = three_llama_tied; /* what is not used as it is stored */
    const shape *shapes[] = { &two_qwen2, &three_llama_tied, &normalized_head, &one_plus };

    normalized_head.type = "baichuan";
    normalized_head.kv_heads = normalized_head.heads;
    normalized_head.more = ", \"z_loss_weight\": 0";
    one_plus.type = "gemma2";
    one_plus.layers = 1;
    for (int i = 0; i < 4; i++) {
        esp_samples samples = small_samples(6, 20, shapes[i]->vocab);
        probe t;
        small s;

        small_init(&s, shapes[i], ESP_F32);
        esp_params_full(&t.params, &s.model);
        esp_params_train(&t.params, NULL, 0, 1);
        probe_init(&t, &s.model, NULL, &samples);
        check_gradients(&t, 2e-4);
        probe_free(&t);
        small_free(&s);
        esp_samples_free(&samples);
    }
}

static void check_lora_differences(const shape *of)
{
    esp_samples samples = small_samples(6, 20, of->vocab);
    esp_rng r = { .key = 77 };
    esp_adapter a;
    probe t;
    small s;

    small_init(&s, of, ESP_BF16);
    esp_adapter_init(&a, &s.model, 4, 8);
    esp_params_lora(&t.params, &a, &s.model, ALL_TARGETS, 9);
    esp_params_train(&t.params, &a, 0, 1);
    for (size_t i = 0; i < t.params.n; i++) { /* with B = 0 the gradient of A is none */
        t.params.value[i] += 0.1f * (float)esp_rng_normal(&r);
    }
    a.dropout = 0.2f; /* the same mask every time */
    a.seed = 3;
    probe_init(&t, &s.model, &a, &samples);
    check_gradients(&t, 3e-4);
    probe_free(&t);
    esp_adapter_free(&a);
    small_free(&s);
    esp_samples_free(&samples);
}

/* One pair A, B over a fused matrix, and inside of norms, caps and residuals of every kind. */
static void test_lora_differences(void)
{
    static const shape fused[] = {
        { "qwen3", 2, 16, 4, 2, 6, 20, 21, false, NULL },
        { "gemma2", 2, 16, 4, 2, 6, 20, 21, true, NULL },
        { "phi3", 2, 16, 4, 2, 6, 20, 21, false, NULL },
        { "baichuan", 2, 16, 4, 4, 4, 20, 21, false, ", \"z_loss_weight\": 0" },
        { "bloom", 2, 16, 4, 4, 4, 64, 21, true, BLOOM_KEYS(2, 4) },
        { "opt", 2, 16, 4, 4, 4, 20, 21, true, OPT_KEYS(20) },
        { "chatglm", 2, 16, 4, 4, 4, 20, 21, false, CHATGLM_KEYS(2, 20) },
        { "chatglm", 2, 16, 4, 2, 4, 20, 21, false, CHATGLM2_KEYS(2, 2, 4, 20, 21) },
    };

    check_lora_differences(&two_qwen2);
    for (size_t i = 0; i < sizeof fused / sizeof *fused; i++) {
        check_lora_differences(&fused[i]);
    }
}

static char *golden_norm_name(const esp_model *m, const esp_entry *e)
{
    char *tensor = esp_model_tensor_name(m, e->layer, e->slot);
    char *name =
        esp_format("/grad_norms/%s.%s", tensor, e->part == ESP_PART_BIAS ? "bias" : "weight");

    free(tensor);
    return name;
}

static void check_golden_norms(golden *g)
{
    double *got, *want,
        most = 0; /* biases of keys have no gradient at all: softmax does not see them */
    probe t;

    esp_params_full(&t.params, &g->model);
    esp_params_train(&t.params, NULL, 0, 1);
    probe_init(&t, &g->model, NULL, &g->samples);
    probe_loss(&t, true);
    ESP_NEW(got, t.params.n_entries);
    ESP_NEW(want, t.params.n_entries);
    for (size_t i = 0; i < t.params.n_entries; i++) {
        const esp_entry *e = &t.params.entries[i];
        char *name = golden_norm_name(&g->model, e);
        double sum = 0;

        for (size_t k = e->begin; k < e->begin + e->n; k++) {
            sum += (double)t.params.grad[k] * (double)t.params.grad[k];
        }
        got[i] = sqrt(sum);
        CU_ASSERT_EQUAL(esp_h5_read(&g->file, name, H5T_NATIVE_DOUBLE, 0, 1, &want[i]), ESP_OK);
        most = fmax(most, want[i]);
        CU_ASSERT(esp_test_close(&got[i], &want[i], 1, fmax(want[i], 1e-3 * most), 1e-4));
        free(name);
    }
    free(got);
    free(want);
    probe_free(&t);
}

static void test_golden_norms(void)
{
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        golden g;

        if (golden_open(&g, golden_models[i])) {
            check_golden_norms(&g);
            golden_close(&g);
        }
    }
}

/* ---- real text --------------------------------------------------------------------------------- */

static esp_samples story_samples(const esp_model *m, const char *corpus)
{
    esp_sampling how = { .cut = ESP_CUT_DOCUMENTS, .length = 96, .count = 90 };
    esp_samples s = { 0 };
    esp_tokenizer *t = NULL;

    CU_ASSERT_EQUAL_FATAL(esp_tokenizer_open(&t, m->dir), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(
        esp_samples_load(&s, corpus, NULL, t, how, m->dims.max_positions, m->dims.vocab), ESP_OK);
    esp_tokenizer_free(t);
    return s;
}

/* Takes an MLP out and lets LoRA make up for it. */
static void recover_stories(esp_model *m, const char *corpus)
{
    char *dir = esp_test_dir("stories");
    esp_recover_options o = { .rank = 8,
                              .alpha = 16,
                              .dropout = 0.05,
                              .targets = UINT64_MAX,
                              .learning_rate = 5e-3,
                              .warmup = 2,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .epsilon = 1e-8,
                              .clip = 1,
                              .epochs = 2,
                              .batch = 8,
                              .micro_batch = 4,
                              .validation = 20,
                              .keep = 1,
                              .seed = 1,
                              .dir = dir,
                              .settings = "stories" };
    int down = esp_arch_slot(m->arch, "down_proj");
    size_t at = 2 * (m->arch->n_slots - ESP_SLOT_BLOCK) + (size_t)(down - ESP_SLOT_BLOCK);
    const esp_weight *w = esp_model_weight(m, 2, down);
    esp_samples samples = story_samples(m, corpus);
    void *zeros = esp_calloc(w->rows * w->cols, esp_dtype_size(w->dtype));
    esp_recover_result r = { 0 };
    esp_adapter adapter;
    esp_params p;
    esp_grid grid;

    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    m->block[at].data = zeros;
    esp_grid_init(&grid, 0, MPI_COMM_SELF);
    esp_recover_prepare(&p, &adapter, m, &o);
    CU_ASSERT_EQUAL(esp_recover(&p, &r, m, &adapter, &samples, &o, NULL, NULL, NULL, &grid),
                    ESP_OK);
    CU_ASSERT_EQUAL(r.steps, 18);
    CU_ASSERT(r.validation_loss > 1 && r.validation_loss < 0.95 * r.first_validation_loss);
    esp_params_free(&p);
    esp_adapter_free(&adapter);
    esp_grid_free(&grid);
    esp_samples_free(&samples);
    free(zeros);
    free(dir);
}

static void test_stories(void)
{
    char *corpus = esp_test_shared("text/stories-train.jsonl");
    golden g;

    if (corpus && golden_open(&g, "models/stories260K")) {
        recover_stories(&g.model, corpus);
        golden_close(&g);
    }
    free(corpus);
}

ESP_TEST_MAIN("recovery", { "learning rate", test_schedule }, { "foreseen", test_foreseen },
              { "AdamW against f64", test_adamw }, { "norm of the gradient", test_norm },
              { "split and order of samples", test_data },
              { "first values of LoRA", test_lora_init },
              { "layout of all weights", test_full_layout },
              { "gradients of all weights, differences", test_full_differences },
              { "gradients of LoRA, differences", test_lora_differences },
              { "gradients of all weights, oracle", test_golden_norms },
              { "loss on stories", test_stories })
