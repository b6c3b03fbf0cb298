/* unit_pass.c - forward, loss, backward and decoding of whole models against the float64 oracle.
 *
 * Letters: D model width, V vocabulary, n_tok rows of the batch.
 */
#include "espalier/pass.h"
#include "golden_values.h"

#define TOLERANCE 1e-4 /* of the largest value of an array */

typedef struct setup {
    golden g;
    esp_pass pass;
    esp_batch batch; /* all samples */
} setup;

static void fill_batch(setup *s, size_t chunk_tok)
{
    size_t n = s->g.samples.n, *pick;

    ESP_NEW(pick, n);
    for (size_t j = 0; j < n; j++) {
        pick[j] = j;
    }
    s->batch.chunk_tok = chunk_tok;
    esp_batch_fill(&s->batch, &s->g.samples, pick, n);
    free(pick);
}

/* All samples of s->g in one batch. */
static void setup_batch(setup *s, esp_pass_options options)
{
    options.max_samples = s->g.samples.n;
    options.max_tok = s->g.samples.start[s->g.samples.n];
    esp_pass_init(&s->pass, &s->g.model, options);
    esp_model_batch_init(&s->batch, &s->g.model, options.max_samples, options.max_tok);
    fill_batch(s, 0);
}

static bool setup_begin(setup *s, const char *name, esp_pass_options options)
{
    bool here = golden_open(&s->g, name);

    if (here) {
        setup_batch(s, options);
    }
    return here;
}

static void setup_end(setup *s)
{
    esp_pass_free(&s->pass);
    esp_pass_free(&s->pass);
    esp_batch_free(&s->batch);
    golden_close(&s->g);
}

/* Runs a check on every shared model. */
static void on_all_models(void (*check)(setup *s), esp_pass_options options)
{
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        setup s;

        if (setup_begin(&s, golden_models[i], options)) {
            check(&s);
            setup_end(&s);
        }
    }
}

static bool close_to_golden(const setup *s, const char *name, const double *values, size_t n)
{
    size_t n_golden;
    double *right = golden_read(&n_golden, &s->g, name);
    bool good =
        n == n_golden && esp_test_close(values, right, n, golden_largest(right, n), TOLERANCE);

    if (!good) {
        printf("  %s of %s\n", name, s->g.model.dir);
    }
    free(right);
    return good;
}

/* ---- forward and loss ---------------------------------------------------------------------------- */

static double *all_logits(setup *s, size_t *n)
{
    size_t V = s->g.model.dims.vocab;
    float *logits;
    double *wide;

    *n = s->batch.n_tok * V;
    ESP_NEW(logits, *n);
    ESP_NEW(wide, *n);
    esp_pass_forward(&s->pass, NULL, &s->batch);
    esp_pass_logits(logits, &s->pass, 0, s->batch.n_tok);
    for (size_t i = 0; i < *n; i++) {
        wide[i] = logits[i];
    }
    free(logits);
    return wide;
}

static void check_logits(setup *s)
{
    size_t n;
    double *logits = all_logits(s, &n);

    CU_ASSERT(close_to_golden(s, "logits", logits, n));
    free(logits);
}

static void test_logits(void)
{
    on_all_models(check_logits, (esp_pass_options){ 0 });
}

static void check_losses(setup *s)
{
    size_t n = s->batch.n_samples;
    esp_loss *loss;
    double *mean;

    ESP_NEW(loss, n);
    ESP_NEW(mean, n);
    esp_pass_forward(&s->pass, NULL, &s->batch);
    esp_pass_loss(&s->pass, loss, NULL, NULL, &s->batch);
    for (size_t j = 0; j < n; j++) {
        CU_ASSERT_EQUAL(loss[j].count, (int64_t)esp_samples_targets(&s->g.samples, j));
        mean[j] = loss[j].sum / (double)loss[j].count;
    }
    CU_ASSERT(close_to_golden(s, "loss_per_sample", mean, n));
    free(mean);
    free(loss);
}

static void test_losses(void)
{
    on_all_models(check_losses, (esp_pass_options){ 0 });
}

/* A sample's loss has the same bits alone and among others. */
static void check_alone(setup *s)
{
    size_t n = s->batch.n_samples;
    esp_batch one;
    esp_loss *loss, alone;

    ESP_NEW(loss, n);
    esp_pass_forward(&s->pass, NULL, &s->batch);
    esp_pass_loss(&s->pass, loss, NULL, NULL, &s->batch);
    esp_model_batch_init(&one, &s->g.model, 1, s->batch.n_tok);
    for (size_t j = 0; j < n; j++) {
        esp_batch_fill(&one, &s->g.samples, &j, 1);
        esp_pass_forward(&s->pass, NULL, &one);
        esp_pass_loss(&s->pass, &alone, NULL, NULL, &one);
        CU_ASSERT_EQUAL(alone.sum, loss[j].sum);
        CU_ASSERT_EQUAL(alone.hits, loss[j].hits);
    }
    esp_batch_free(&one);
    free(loss);
}

static void test_samples_are_independent(void)
{
    on_all_models(check_alone, (esp_pass_options){ 0 });
}

/* Samples on both sides of the border, here 8 tokens, where frequencies depend on the length. */
static void check_lengths(const char *name)
{
    const size_t length[] = { 8, 12, 3, 9, 30, 8, 9 };
    esp_samples whole;
    setup s;

    CU_ASSERT_FATAL(golden_open(&s.g, name));
    CU_ASSERT_EQUAL(s.g.model.rope.border, 8);
    whole = s.g.samples;
    s.g.samples = (esp_samples){ 0 };
    for (size_t j = 0; j < sizeof length / sizeof *length; j++) {
        esp_samples_add(&s.g.samples, whole.ids, NULL, length[j]);
    }
    esp_samples_free(&whole);
    setup_batch(&s, (esp_pass_options){ 0 });
    check_alone(&s);
    setup_end(&s);
}

static void test_lengths_are_independent(void)
{
    check_lengths("tests/golden/phi4");
    check_lengths("tests/golden/dynamic");
}

/* ---- decoding ------------------------------------------------------------------------------------ */

/* Feeds sample 0 to the cache in pieces of 10, 1, 1, 4, 1, 1, 4 ... tokens; each piece must give the
 * logits that the whole sample gives. */
static void check_decoding(setup *s)
{
    size_t V = s->g.model.dims.vocab, n = s->g.samples.start[1], n_all, from = 0;
    double *whole = all_logits(s, &n_all), *piece;
    float *logits;
    esp_cache cache;
    esp_batch batch;

    if (s->g.model.rope.border > 0) { /* keys turn as they came: see unit_eval */
        free(whole);
        return;
    }
    ESP_NEW(logits, 10 * V);
    ESP_NEW(piece, 10 * V);
    esp_cache_init(&cache, &s->g.model, n);
    esp_model_batch_init(&batch, &s->g.model, 1, 10);
    for (size_t step = 0; from < n; step++) {
        size_t wanted = step == 0 ? 10 : step % 3 == 0 ? 4 : 1, first = 0;
        size_t len = wanted < n - from ? wanted : n - from;
        esp_samples part = { 0 };

        esp_samples_add(&part, s->g.samples.ids + from, NULL, len);
        esp_batch_fill(&batch, &part, &first, 1);
        batch.position = cache.n;
        batch.prefix[0] = s->batch.prefix[0]; /* of the whole sample, in the first piece */
        batch.place[0] = s->batch.place[0];
        esp_pass_forward(&s->pass, &cache, &batch);
        esp_pass_logits(logits, &s->pass, 0, len);
        for (size_t i = 0; i < len * V; i++) {
            piece[i] = logits[i];
        }
        CU_ASSERT(
            esp_test_close(piece, whole + from * V, len * V, golden_largest(whole, n * V), 1e-5));
        esp_samples_free(&part);
        from += len;
        CU_ASSERT_EQUAL(cache.n, from);
    }
    esp_batch_free(&batch);
    esp_cache_free(&cache);
    free(piece);
    free(logits);
    free(whole);
}

static void test_decoding(void)
{
    on_all_models(check_decoding, (esp_pass_options){ 0 });
    on_all_models(check_decoding, (esp_pass_options){ .resident = true });
}

/* ---- backward ------------------------------------------------------------------------------------ */

/* Sums the gradients that backward hands out. Slots of the whole model lie before those of layer 0. */
typedef struct gradients {
    const esp_model *model;
    const esp_batch *batch;
    float **weight, **bias; /* [ (1 + n_layers) * n_slots ] */
    bool *done;             /* [n_layers + 1], the last: outside the blocks */
} gradients;

static size_t place(const gradients *g, size_t layer, int slot)
{
    return (layer == ESP_NO_LAYER ? 0 : layer + 1) * g->model->arch->n_slots + (size_t)slot;
}

/* A tied head and the embedding are one parameter. */
static int owner(const gradients *g, int slot)
{
    return slot == ESP_SLOT_HEAD && g->model->tied ? ESP_SLOT_EMBED : slot;
}

static float *room(float **at, size_t n)
{
    if (!*at) {
        ESP_NEW(*at, n);
    }
    return *at;
}

/* The value of the block that the wiring says a weight multiplies; -1: of no block. */
static int wired_input(const esp_arch *a, int slot)
{
    for (size_t i = 0; i < a->n_ops; i++) {
        if (a->ops[i].kind == ESP_OP_LINEAR && a->ops[i].slot == slot) {
            return a->ops[i].in[0];
        }
    }
    return -1;
}

static void add_linear(void *ctx, size_t layer, int slot, int input, const float *dy,
                       const float *x, size_t n_tok)
{
    gradients *g = ctx;
    const esp_weight *w = esp_model_weight(g->model, layer, slot);
    size_t at = place(g, layer, owner(g, slot));
    float *db = w->has_bias ? room(&g->bias[at], w->rows) : NULL;

    CU_ASSERT_EQUAL(input, wired_input(g->model->arch, slot));
    CU_ASSERT_FALSE(g->done[layer == ESP_NO_LAYER ? g->model->dims.n_layers : layer]);
    esp_linear_backward_weight(room(&g->weight[at], w->rows * w->cols), db, dy, x, n_tok, w->cols,
                               w->rows);
}

static void subtract_norm_head_grad(void *ctx, const float *norm_head_grad, size_t n_tok)
{
    gradients *g = ctx;
    const esp_weight *w = esp_model_weight(g->model, ESP_NO_LAYER, ESP_SLOT_HEAD);
    float *dw = g->weight[place(g, ESP_NO_LAYER, owner(g, ESP_SLOT_HEAD))], *head;

    ESP_NEW(head, w->rows * w->cols);
    esp_to_f32(head, w->data, w->dtype, w->rows * w->cols);
    for (size_t i = 0; i < w->rows * w->cols; i++) {
        for (size_t t = 0; t < n_tok; t++) {
            dw[i] -= norm_head_grad[t * w->rows + i / w->cols] * head[i];
        }
    }
    free(head);
}

static void add_norm(void *ctx, size_t layer, int slot, const float *dw, const float *db,
                     size_t n_samples)
{
    gradients *g = ctx;
    size_t n = esp_model_weight(g->model, layer, slot)->rows;
    float *sum = room(&g->weight[place(g, layer, slot)], n);

    for (size_t j = 0; j < n_samples; j++) {
        esp_accumulate(sum, dw + j * n, n);
        if (db) {
            esp_accumulate(room(&g->bias[place(g, layer, slot)], n), db + j * n, n);
        }
    }
}

static void add_lookup(void *ctx, int slot, const int32_t *row, const float *dx)
{
    gradients *g = ctx;
    const esp_weight *w = esp_model_weight(g->model, ESP_NO_LAYER, slot);
    float *sum = room(&g->weight[place(g, ESP_NO_LAYER, slot)], w->rows * w->cols);

    for (size_t t = 0; t < g->batch->n_tok; t++) {
        esp_accumulate(sum + (size_t)row[t] * w->cols, dx + t * w->cols, w->cols);
    }
}

static void mark_done(void *ctx, size_t layer)
{
    gradients *g = ctx;

    g->done[layer == ESP_NO_LAYER ? g->model->dims.n_layers : layer] = true;
}

static void make_gradients(gradients *g, setup *s)
{
    const esp_sink sink = { .ctx = g,
                            .linear = add_linear,
                            .norm_head_grad = subtract_norm_head_grad,
                            .norm = add_norm,
                            .lookup = add_lookup,
                            .done = mark_done };
    size_t n = s->batch.n_samples, n_layers = s->g.model.dims.n_layers;
    esp_loss *loss;
    float *scale;

    *g = (gradients){ .model = &s->g.model, .batch = &s->batch };
    ESP_NEW(g->weight, (1 + n_layers) * s->g.model.arch->n_slots);
    ESP_NEW(g->bias, (1 + n_layers) * s->g.model.arch->n_slots);
    ESP_NEW(g->done, n_layers + 1);
    ESP_NEW(loss, n);
    ESP_NEW(scale, n);
    for (size_t j = 0; j < n; j++) { /* L = mean over samples of the mean over targets */
        scale[j] = 1.0f / (float)(n * esp_samples_targets(&s->g.samples, j));
    }
    esp_pass_forward(&s->pass, NULL, &s->batch);
    esp_pass_loss(&s->pass, loss, scale, &sink, &s->batch);
    esp_pass_backward(&s->pass, &sink, &s->batch);
    for (size_t l = 0; l <= n_layers; l++) {
        CU_ASSERT(g->done[l]);
    }
    free(scale);
    free(loss);
}

static void free_gradients(gradients *g)
{
    for (size_t i = 0; i < (1 + g->model->dims.n_layers) * g->model->arch->n_slots; i++) {
        free(g->weight[i]);
        free(g->bias[i]);
    }
    free(g->weight);
    free(g->bias);
    free(g->done);
}

/* That of a bias is measured by its weight's too: keys' biases have none, softmax does not see them. */
static void check_norm(const setup *s, const char *tensor, const char *part, const float *dw,
                       size_t n)
{
    char *name = esp_format("grad_norms/%s.%s", tensor, part);
    char *weight = esp_format("grad_norms/%s.weight", tensor);
    size_t n_golden;
    double *right = golden_read(&n_golden, &s->g, name);
    double *beside = golden_read(&n_golden, &s->g, weight), sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)dw[i] * dw[i];
    }
    sum = sqrt(sum);
    if (!esp_test_close(&sum, right, 1, fmax(*right, *beside), TOLERANCE)) {
        printf("  %s of %s\n", name, s->g.model.dir);
        CU_FAIL("a gradient is not the golden one");
    }
    free(beside);
    free(right);
    free(weight);
    free(name);
}

typedef struct visit {
    const setup *setup;
    const gradients *gradients;
    size_t n;
} visit;

static void check_weight(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    visit *v = ctx;
    size_t at = place(v->gradients, layer, slot);
    char *tensor = esp_model_tensor_name(v->gradients->model, layer, slot);

    CU_ASSERT_PTR_NOT_NULL_FATAL(v->gradients->weight[at]);
    check_norm(v->setup, tensor, "weight", v->gradients->weight[at], w->rows * w->cols);
    if (w->has_bias) {
        check_norm(v->setup, tensor, "bias", v->gradients->bias[at], w->rows);
    }
    v->n += w->has_bias ? 2 : 1;
    free(tensor);
}

static void check_gradients(setup *s)
{
    gradients g;
    visit v = { s, &g, 0 };

    make_gradients(&g, s);
    esp_model_visit(&s->g.model, check_weight, &v);
    CU_ASSERT(v.n > (s->g.model.arch->n_slots - ESP_SLOT_BLOCK) * s->g.model.dims.n_layers);
    free_gradients(&g);
}

static void test_gradients(void)
{
    on_all_models(check_gradients, (esp_pass_options){ .backward = true });
}

/* Gradients of weight or bias `slot` of a layer, or of the whole model. */
static void compare_gradient(const gradients *a, const gradients *b, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(a->model, layer, slot);
    size_t at = place(a, layer, slot), n = w->rows * w->cols;

    CU_ASSERT_EQUAL(!a->weight[at], !b->weight[at]);
    CU_ASSERT_EQUAL(!a->bias[at], !b->bias[at]);
    CU_ASSERT(!a->weight[at] || !memcmp(a->weight[at], b->weight[at], n * sizeof(float)));
    CU_ASSERT(!a->bias[at] || !memcmp(a->bias[at], b->bias[at], w->rows * sizeof(float)));
}

/* A layer whose values are kept gives the bits that it gives when they are made again, in chunks too; and it
 * does fewer products. */
static void check_kept(setup *s)
{
    size_t n_layers = s->g.model.dims.n_layers, kept[] = { 1, SIZE_MAX };
    esp_pass_options o = s->pass.options;
    gradients again, keeps;
    double flops;

    o.chunk_tok = esp_batch_longest(&s->batch);
    for (size_t i = 0; i < 2; i++) {
        fill_batch(s, o.chunk_tok);
        make_gradients(&again, s);
        flops = s->pass.flops;
        esp_pass_free(&s->pass);
        o.kept_layers = kept[i];
        esp_pass_init(&s->pass, &s->g.model, o);
        make_gradients(&keeps, s);
        CU_ASSERT(s->pass.flops < flops);
        for (size_t l = 0; l < n_layers; l++) {
            for (int slot = ESP_SLOT_BLOCK; slot < (int)s->g.model.arch->n_slots; slot++) {
                compare_gradient(&again, &keeps, l, slot);
            }
        }
        compare_gradient(&again, &keeps, ESP_NO_LAYER, ESP_SLOT_EMBED);
        free_gradients(&again);
        free_gradients(&keeps);
        esp_pass_free(&s->pass);
        o.kept_layers = 0;
        esp_pass_init(&s->pass, &s->g.model, o);
    }
}

static void test_kept(void)
{
    on_all_models(check_kept, (esp_pass_options){ .backward = true });
}

/* ---- work ----------------------------------------------------------------------------------------- */

static void ignore_linear(void *ctx, size_t layer, int slot, int input, const float *dy,
                          const float *x, size_t n_tok)
{
    (void)ctx, (void)layer, (void)slot, (void)input, (void)dy, (void)x, (void)n_tok;
}

static void ignore_norm_head_grad(void *ctx, const float *norm_head_grad, size_t n_tok)
{
    (void)ctx, (void)norm_head_grad, (void)n_tok;
}

/* FLOP that a pass counts while it goes that way. */
static double counted_flops(setup *s, esp_pass_way way)
{
    static const esp_sink multiplies = { .linear = ignore_linear,
                                         .norm_head_grad = ignore_norm_head_grad };
    const esp_sink *sink = way == ESP_PASS_GRADIENTS ? &multiplies : NULL;
    double before = s->pass.flops;
    esp_loss *loss;
    float *scale;

    ESP_NEW(loss, s->batch.n_samples);
    ESP_NEW(scale, s->batch.n_samples);
    esp_pass_forward(&s->pass, NULL, &s->batch);
    esp_pass_loss(&s->pass, loss, way == ESP_PASS_FORWARD ? NULL : scale, sink, &s->batch);
    if (way != ESP_PASS_FORWARD) {
        esp_pass_backward(&s->pass, sink, &s->batch);
    }
    free(loss);
    free(scale);
    return s->pass.flops - before;
}

/* The pipeline stages of a grid have the work and the weights of all layers between them. */
static void check_stages(const setup *s, esp_text_size t, esp_pass_way way, double products)
{
    const esp_model *m = &s->g.model;
    esp_grid grid = { .size = 2, .n_data = 1, .n_pipeline = 2, .n_threads = 1 };
    size_t bytes = 0, twice = 0;
    double sum = 0;

    if (m->dims.n_layers < 2) {
        return;
    }
    for (; grid.i_pipeline < grid.n_pipeline; grid.i_pipeline++) {
        sum += esp_pass_work(m, &grid, t, 1, way, s->pass.options.kept_layers).products;
        bytes += esp_pipeline_stage_bytes(m, &grid);
    }
    if (m->tied) {
        const esp_weight *w = esp_model_weight(m, ESP_NO_LAYER, ESP_SLOT_EMBED);

        twice = w->rows * w->cols * esp_dtype_size(w->dtype);
    }
    CU_ASSERT_EQUAL(sum, products);
    CU_ASSERT_EQUAL(bytes, esp_model_cost(m, 1).bytes + twice);
}

static void check_work(setup *s)
{
    esp_text_size t = esp_samples_size(&s->g.samples);

    for (esp_pass_way way = ESP_PASS_FORWARD; way <= ESP_PASS_GRADIENTS; way++) {
        esp_work w = esp_pass_work(&s->g.model, NULL, t, 1, way, s->pass.options.kept_layers);
        double counted = counted_flops(s, way);

        if (w.products != counted) {
            printf("  %s: %.0f FLOP predicted, %.0f counted\n", s->g.model.dir, w.products,
                   counted);
        }
        CU_ASSERT_EQUAL(w.products, counted);
        check_stages(s, t, way, counted);
    }
}

static void test_work(void)
{
    on_all_models(check_work, (esp_pass_options){ .backward = true });
    on_all_models(check_work, (esp_pass_options){ .backward = true, .kept_layers = SIZE_MAX });
}

/* ---- layer by layer ------------------------------------------------------------------------------ */

typedef struct tapped {
    const esp_model *model;
    size_t calls;
    int last_slot;
} tapped;

/* y is what the weight makes of x: of the first token, plainly. */
static void check_product(void *ctx, size_t layer, int slot, const float *x, const float *y,
                          const esp_batch *chunk)
{
    tapped *t = ctx;
    const esp_weight *w = esp_model_weight(t->model, layer, slot);
    float *row, *bias;

    ESP_NEW(row, w->cols);
    ESP_NEW(bias, w->rows);
    if (w->has_bias) {
        esp_to_f32(bias, w->bias, w->dtype, w->rows);
    }
    for (size_t r = 0; r < w->rows; r += 1 + w->rows / 3) {
        const char *at = (const char *)w->data + r * w->cols * esp_dtype_size(w->dtype);
        double sum = (double)bias[r], most = fabs(sum);

        esp_to_f32(row, at, w->dtype, w->cols);
        for (size_t i = 0; i < w->cols; i++) {
            sum += (double)row[i] * (double)x[i];
            most += fabs((double)row[i] * (double)x[i]);
        }
        CU_ASSERT(fabs(sum - (double)y[r]) <= 1e-5 * most);
    }
    CU_ASSERT(chunk->n_tok > 0);
    t->calls++;
    t->last_slot = slot;
    free(row);
    free(bias);
}

static void run_layer(esp_pass *p, size_t layer, const esp_tap *tap, const esp_batch *batch)
{
    for (size_t c = 0; c < batch->n_chunks; c++) {
        esp_pass_layer(p, layer, c, tap, batch);
    }
}

static size_t n_linear(const esp_arch *a)
{
    size_t n = 0;

    for (size_t i = 0; i < a->n_ops; i++) {
        n += a->ops[i].kind == ESP_OP_LINEAR;
    }
    return n;
}

/* The same bits as forward, also where each layer was begun and ended before. */
static void check_layers(setup *s)
{
    const esp_model *m = &s->g.model;
    esp_pass_options o = s->pass.options;
    size_t n = s->batch.n_tok * m->dims.hidden;
    tapped t = { .model = m };
    esp_tap tap = { .ctx = &t, .linear = check_product, .last = -1 };
    esp_pass p;

    o.layers_only = true;
    o.chunk_tok = esp_batch_longest(&s->batch);
    esp_pass_init(&p, m, o);
    fill_batch(s, o.chunk_tok);
    CU_ASSERT(s->batch.n_chunks > 1);
    esp_pass_begin(&p, &s->batch);
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        t.calls = 0;
        tap.last = -1;
        run_layer(&p, l, &(esp_tap){ &t, check_product, m->arch->ops[1].slot }, &s->batch);
        CU_ASSERT_EQUAL(t.last_slot, m->arch->ops[1].slot);
        CU_ASSERT_EQUAL(t.calls, s->batch.n_chunks);
        run_layer(&p, l, &tap, &s->batch);
        CU_ASSERT_EQUAL(t.calls, (1 + n_linear(m->arch)) * s->batch.n_chunks);
    }
    esp_pass_end(&p, &s->batch);
    esp_pass_forward(&s->pass, NULL, &s->batch);
    CU_ASSERT(memcmp(esp_pass_input(&p, m->dims.n_layers),
                     esp_pass_input(&s->pass, m->dims.n_layers), n * sizeof(float)) == 0);
    CU_ASSERT(esp_pass_bytes(m, o) < esp_pass_bytes(m, s->pass.options));
    esp_pass_free(&p);
}

static void test_layers(void)
{
    on_all_models(check_layers, (esp_pass_options){ 0 });
}

ESP_TEST_MAIN("pass", { "logits", test_logits }, { "losses", test_losses },
              { "samples are independent", test_samples_are_independent },
              { "lengths are independent", test_lengths_are_independent },
              { "decoding", test_decoding }, { "layer by layer", test_layers },
              { "gradients", test_gradients }, { "kept layers", test_kept }, { "work", test_work })
