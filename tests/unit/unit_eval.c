/* unit_eval.c - perplexity against the float64 oracle, and generated text. */
#include <inttypes.h>

#include "espalier/eval.h"
#include "golden_values.h"

/* What another program makes of "Once upon a time" with stories260K: the most probable token, 80 times. */
static const int32_t prompt[] = { 1, 403, 407, 261, 378 };
static const int32_t greedy[] = { 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338,
                                  401, 396, 267, 337, 410, 408, 419, 292, 411, 322, 265, 282,
                                  295, 433, 426, 385, 328, 432, 358, 394, 261, 370, 432, 352,
                                  266, 268, 388, 426, 338, 391, 266, 267, 337, 335, 312, 432,
                                  398, 312, 286, 267, 414, 270, 333, 415, 426, 13,  438, 310,
                                  439, 419, 357, 336, 432, 313, 438, 310, 432, 278, 316, 439,
                                  419, 298, 414, 267, 265, 282, 295, 433 };
enum { PROMPT = sizeof prompt / sizeof *prompt, GREEDY = sizeof greedy / sizeof *greedy };

/* ---- perplexity ---------------------------------------------------------------------------------- */

static esp_status evaluate(esp_eval *e, const golden *g, size_t max_tok)
{
    esp_grid grid;
    esp_status st;

    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    st = esp_evaluate(e, &g->model, NULL, &g->samples, max_tok, &grid);
    esp_grid_free(&grid);
    return st;
}

/* Share of positions whose largest logit in the oracle is the next token. */
static double golden_accuracy(const golden *g)
{
    size_t n, V = g->model.dims.vocab, hits = 0, targets = 0;
    double *logits = golden_read(&n, g, "logits");

    for (size_t t = 0; t < g->samples.start[g->samples.n]; t++) {
        size_t best = 0;

        for (size_t i = 1; i < V; i++) {
            best = logits[t * V + i] > logits[t * V + best] ? i : best;
        }
        targets += g->samples.targets[t] != ESP_NO_TARGET;
        hits += g->samples.targets[t] == (int32_t)best;
    }
    free(logits);
    return (double)hits / (double)targets;
}

static void check_perplexity(const golden *g)
{
    size_t n, longest = esp_samples_longest(&g->samples);
    double *losses = golden_read(&n, g, "loss_per_sample"), mean = 0;
    esp_eval e, in_pieces;

    for (size_t j = 0; j < n; j++) {
        mean += losses[j] / (double)n; /* samples have the same length: also the mean of tokens */
    }
    CU_ASSERT_EQUAL(evaluate(&e, g, 100 * longest), ESP_OK);
    CU_ASSERT_DOUBLE_EQUAL(e.loss, mean, 1e-5 * mean);
    CU_ASSERT_DOUBLE_EQUAL(e.perplexity, exp(e.loss), 1e-12 * e.perplexity);
    CU_ASSERT_EQUAL(e.tokens, (int64_t)(n * (longest - 1)));
    CU_ASSERT_DOUBLE_EQUAL(e.accuracy, golden_accuracy(g), 1e-9);
    CU_ASSERT(e.seconds > 0 && e.tok_per_second > 0 && e.peak_resident > 0);

    CU_ASSERT_EQUAL(evaluate(&in_pieces, g, 2 * longest + 1), ESP_OK);
    CU_ASSERT_EQUAL(in_pieces.loss, e.loss);
    CU_ASSERT_EQUAL(evaluate(&in_pieces, g, 1), ESP_OK); /* less than a sample: one at a time */
    CU_ASSERT_EQUAL(in_pieces.loss, e.loss);
    CU_ASSERT_EQUAL(in_pieces.accuracy, e.accuracy);
    free(losses);
}

static void test_perplexity(void)
{
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        golden g;

        if (golden_open(&g, golden_models[i])) {
            check_perplexity(&g);
            golden_close(&g);
        }
    }
}

/* The fields of all measures, and their columns; what is null is printed as inf. */
static void test_measures(void)
{
    static const char *const names[] = { "dense", "none" };
    json_t *fields, *results = json_object();
    golden g;
    esp_grid grid;
    esp_eval_texts texts;
    esp_eval_input in;
    esp_cost cost;
    esp_eval e;
    char *text, *line;
    size_t n;
    FILE *to = open_memstream(&text, &n);

    CU_ASSERT_FATAL(golden_open(&g, golden_models[0]));
    cost = esp_model_cost(&g.model, 64);
    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    texts = (esp_eval_texts){ .samples = g.samples };
    in = (esp_eval_input){ "dense", &g.model, &texts, 512, &grid, NULL };
    CU_ASSERT_EQUAL_FATAL(esp_eval_run(&fields, &in), ESP_OK);
    CU_ASSERT_EQUAL(evaluate(&e, &g, 512), ESP_OK);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(fields, "parameters")), cost.parameters);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(fields, "macs")), cost.macs);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(fields, "bytes")), cost.bytes);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(fields, "tokens")), e.tokens);
    CU_ASSERT_EQUAL(json_real_value(json_object_get(fields, "loss")), e.loss);
    CU_ASSERT_EQUAL(json_real_value(json_object_get(fields, "accuracy")), e.accuracy);
    json_object_set_new(fields, "perplexity", json_null());
    json_object_set_new(fields, "seconds", json_real(1.25));
    json_object_set_new(results, "dense", fields);
    esp_eval_print(to, results, names, 2);
    fclose(to);
    line = esp_format(
        "model           parameters   MACs (64 tokens)   perplexity  accuracy   seconds\n"
        "dense      %15" PRIu64 " %18" PRIu64 "          inf %9.4f      1.25\n",
        cost.parameters, cost.macs, e.accuracy);
    CU_ASSERT_STRING_EQUAL(text, line);

    texts.samples.n = 0; /* a measure that fails leaves nothing */
    CU_ASSERT_EQUAL(esp_eval_run(&fields, &in), ESP_EUSAGE);
    CU_ASSERT_PTR_NULL(fields);
    free(line);
    free(text);
    json_decref(results);
    esp_grid_free(&grid);
    golden_close(&g);
}

/* Targets that do not count are left out, and samples of different length weigh by their targets. */
static void test_counted_targets(void)
{
    golden g;
    esp_eval first, second, both;
    uint8_t counts[64] = { 0 };
    const int32_t *ids;
    esp_samples all;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    all = g.samples;
    ids = all.ids;
    memset(counts + 40, 1, sizeof counts - 40);
    g.samples = (esp_samples){ 0 };
    esp_samples_add(&g.samples, ids, counts, 64);
    CU_ASSERT_EQUAL(evaluate(&first, &g, 1000), ESP_OK);
    CU_ASSERT_EQUAL(first.tokens, 24);
    esp_samples_free(&g.samples);
    esp_samples_add(&g.samples, ids + 64, NULL, 17);
    CU_ASSERT_EQUAL(evaluate(&second, &g, 1000), ESP_OK);
    CU_ASSERT_EQUAL(second.tokens, 16);
    esp_samples_add(&g.samples, ids, counts, 64);
    CU_ASSERT_EQUAL(evaluate(&both, &g, 1000), ESP_OK);
    CU_ASSERT_DOUBLE_EQUAL(both.loss, (24 * first.loss + 16 * second.loss) / 40, 1e-9);
    CU_ASSERT(fabs(first.loss - second.loss) > 1e-3);
    esp_samples_free(&g.samples);
    g.samples = all;
    golden_close(&g);
}

/* Where few positions have a target, the others cost no logits, and the losses are the same. */
static void test_few_targets(void)
{
    golden g;
    esp_samples all, some = { 0 };
    esp_eval e;
    double sum = 0;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    all = g.samples;
    for (size_t part = 0; part < 4; part++) {
        uint8_t counts[64] = { 0 };

        for (size_t t = part; t < 64; t += 4) {
            counts[t] = 1;
        }
        g.samples = (esp_samples){ 0 };
        esp_samples_add(&g.samples, all.ids, counts, 64);
        CU_ASSERT_EQUAL(evaluate(&e, &g, 1000), ESP_OK);
        sum += e.loss * (double)e.tokens;
        esp_samples_free(&g.samples);
    }
    esp_samples_add(&some, all.ids, NULL, 64);
    g.samples = some;
    CU_ASSERT_EQUAL(evaluate(&e, &g, 1000), ESP_OK);
    CU_ASSERT_DOUBLE_EQUAL(e.loss * (double)e.tokens, sum, 1e-11 * sum);
    esp_samples_free(&g.samples);
    g.samples = all;
    golden_close(&g);
}

static void test_nothing_to_predict(void)
{
    golden g;
    esp_eval e;
    esp_samples all;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    all = g.samples;
    g.samples = (esp_samples){ 0 };
    CU_ASSERT_EQUAL(evaluate(&e, &g, 100), ESP_EUSAGE);
    esp_samples_add(&g.samples, prompt, NULL, 1);
    CU_ASSERT_EQUAL(evaluate(&e, &g, 100), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "two tokens"));
    esp_error_clear();
    esp_samples_free(&g.samples);
    g.samples = all;
    golden_close(&g);
}

/* ---- generation ---------------------------------------------------------------------------------- */

static void start_with_prompt(esp_ids *ids)
{
    *ids = (esp_ids){ 0 };
    for (size_t i = 0; i < PROMPT; i++) {
        esp_ids_add(ids, prompt[i]);
    }
}

static void generate(esp_ids *ids, const esp_model *m, esp_generate_options o)
{
    start_with_prompt(ids);
    CU_ASSERT_EQUAL(esp_generate(ids, m, &o, NULL, NULL), ESP_OK);
    CU_ASSERT_EQUAL(memcmp(ids->id, prompt, sizeof prompt), 0);
}

static bool same_ids(const esp_ids *a, const esp_ids *b)
{
    return a->n == b->n && memcmp(a->id, b->id, a->n * sizeof *a->id) == 0;
}

static void test_greedy_is_what_others_make(void)
{
    golden g;
    esp_ids ids;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    generate(&ids, &g.model, (esp_generate_options){ .tokens = GREEDY });
    CU_ASSERT_EQUAL_FATAL(ids.n, PROMPT + GREEDY);
    CU_ASSERT_EQUAL(memcmp(ids.id + PROMPT, greedy, sizeof greedy), 0);
    esp_ids_free(&ids);
    golden_close(&g);
}

static size_t largest(const float *logits, size_t V)
{
    size_t best = 0;

    for (size_t i = 1; i < V; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* Sets logits [V] after the last of ids, by one forward over all of them. */
static void forward_all(float *logits, const esp_ids *ids, esp_pass *pass, esp_batch *batch)
{
    esp_samples s = { 0 };
    size_t first = 0;

    esp_samples_add(&s, ids->id, NULL, ids->n);
    esp_batch_fill(batch, &s, &first, 1);
    esp_pass_forward(pass, NULL, batch);
    esp_pass_logits(logits, pass, ids->n - 1, 1);
    esp_samples_free(&s);
}

/* Continues ids greedily to n tokens; returns the logits after them, which the caller frees. */
static float *continue_without_cache(esp_ids *ids, const esp_model *m, size_t n)
{
    esp_pass_options options = { .max_samples = 1, .max_tok = n };
    esp_batch batch;
    esp_pass pass;
    float *logits;

    ESP_NEW(logits, m->dims.vocab);
    esp_pass_init(&pass, m, options);
    esp_batch_init(&batch, 1, n);
    forward_all(logits, ids, &pass, &batch);
    while (ids->n < n) {
        esp_ids_add(ids, (int32_t)largest(logits, m->dims.vocab));
        forward_all(logits, ids, &pass, &batch);
    }
    esp_batch_free(&batch);
    esp_pass_free(&pass);
    return logits;
}

static void check_greedy_without_cache(const esp_model *m)
{
    esp_ids cached, plain;

    generate(&cached, m, (esp_generate_options){ .tokens = 40 });
    start_with_prompt(&plain);
    CU_ASSERT(cached.n > PROMPT);
    free(continue_without_cache(&plain, m, cached.n));
    CU_ASSERT(same_ids(&cached, &plain));
    esp_ids_free(&plain);
    esp_ids_free(&cached);
}

static void test_greedy_without_cache(void)
{
    const char *names[] = { "models/stories260K", "models/tinystories656k-bf16" };

    for (size_t i = 0; i < 2; i++) {
        golden g;

        if (golden_open(&g, names[i])) {
            check_greedy_without_cache(&g.model);
            golden_close(&g);
        }
    }
}

static void test_sampling(void)
{
    esp_generate_options o = { .tokens = 40, .temperature = 1, .top_p = 0.9, .seed = 7 };
    esp_ids a, b, other, narrow, best;
    golden g;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    generate(&a, &g.model, o);
    generate(&b, &g.model, o);
    CU_ASSERT(same_ids(&a, &b));
    o.seed = 8;
    generate(&other, &g.model, o);
    CU_ASSERT_FALSE(same_ids(&a, &other));
    o.top_p = 1e-9; /* a nucleus of one */
    generate(&narrow, &g.model, o);
    o.temperature = 0;
    generate(&best, &g.model, o);
    CU_ASSERT(same_ids(&narrow, &best));
    CU_ASSERT_FALSE(same_ids(&a, &best));
    esp_ids_free(&a);
    esp_ids_free(&b);
    esp_ids_free(&other);
    esp_ids_free(&narrow);
    esp_ids_free(&best);
    golden_close(&g);
}

static void test_sampling_goes_on(void) /* from the middle to the same end */
{
    esp_generate_options o = { .temperature = 1, .top_p = 0.9, .seed = 1, .tokens = 40 };
    esp_ids whole, parts;
    golden g;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    generate(&whole, &g.model, o);
    CU_ASSERT_EQUAL(whole.n, PROMPT + 40);
    o.tokens = 20;
    generate(&parts, &g.model, o);
    CU_ASSERT_EQUAL(esp_generate(&parts, &g.model, &o, NULL, NULL), ESP_OK);
    CU_ASSERT(same_ids(&whole, &parts));
    esp_ids_free(&parts);
    esp_ids_free(&whole);
    golden_close(&g);
}

/* Sequences that grow beyond the border, here 8 tokens, of models whose frequencies depend on the length.
 * What transformers generates, in float64: it computes all of a Phi-3 again there; elsewhere each key stays
 * as it turned when it came. */
static void check_growing(const char *model, const int32_t *start, const int32_t *wanted, size_t n)
{
    esp_generate_options o = { .tokens = n };
    esp_ids ids = { 0 };
    golden g;

    CU_ASSERT_FATAL(golden_open(&g, model));
    for (size_t i = 0; i < PROMPT; i++) {
        esp_ids_add(&ids, start[i]);
    }
    g.model.eos = -1;
    CU_ASSERT_EQUAL(esp_generate(&ids, &g.model, &o, NULL, NULL), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(ids.n, PROMPT + n);
    CU_ASSERT_EQUAL(memcmp(ids.id + PROMPT, wanted, n * sizeof *wanted), 0);
    esp_ids_free(&ids);
    golden_close(&g);
}

static void test_grows_beyond_the_border(void)
{
    const int32_t start[] = { 1, 40, 26, 33, 17 };
    const int32_t phi4[] = { 71, 40, 26, 9,  40, 64, 26, 63, 26, 45,
                             45, 69, 63, 26, 65, 9,  26, 61, 26, 68 };
    const int32_t dynamic[] = { 39, 24, 77, 40, 32, 61, 39, 27, 72, 32,
                                9,  27, 37, 4,  41, 76, 61, 79, 79, 52 };

    check_growing("tests/golden/phi4", start, phi4, 20);
    check_growing("tests/golden/dynamic", start, dynamic, 20);
}

/* How many tokens were more probable than the one at position n of ids. */
static size_t rank_at(const esp_ids *ids, const esp_model *m, size_t n)
{
    esp_ids before = { 0 };
    size_t rank = 0;
    float *logits;

    for (size_t i = 0; i < n; i++) {
        esp_ids_add(&before, ids->id[i]);
    }
    logits = continue_without_cache(&before, m, n);
    for (size_t i = 0; i < m->dims.vocab; i++) {
        rank += logits[i] > logits[ids->id[n]];
    }
    esp_ids_free(&before);
    free(logits);
    return rank;
}

/* Hot enough, all tokens are equally probable, and the rank says which number was drawn. */
static void test_sampling_draws_anew(void)
{
    const esp_generate_options o = { .temperature = 1e6, .top_p = 1, .seed = 1, .tokens = 3 };
    size_t rank[3], V;
    esp_ids ids;
    golden g;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    generate(&ids, &g.model, o);
    CU_ASSERT_EQUAL_FATAL(ids.n, PROMPT + 3);
    for (size_t i = 0; i < 3; i++) {
        rank[i] = rank_at(&ids, &g.model, PROMPT + i);
    }
    V = g.model.dims.vocab;
    CU_ASSERT((rank[0] + V - rank[1]) % V > 5 && (rank[1] + V - rank[0]) % V > 5);
    CU_ASSERT((rank[1] + V - rank[2]) % V > 5 && (rank[2] + V - rank[1]) % V > 5);
    esp_ids_free(&ids);
    golden_close(&g);
}

/* Probabilities p [V] of the token after the prompt: softmax of logits / temperature within the nucleus. */
static void nucleus(double *p, const float *logits, size_t V, double temperature, double top_p)
{
    double total = 0, kept = 0;

    for (size_t i = 0; i < V; i++) {
        total += exp(logits[i] / temperature);
    }
    for (size_t i = 0; i < V; i++) { /* in: those more probable hold less than top_p */
        double above = 0;

        for (size_t k = 0; k < V; k++) {
            above += logits[k] > logits[i] ? exp(logits[k] / temperature) : 0;
        }
        p[i] = above < top_p * total ? exp(logits[i] / temperature) : 0;
        kept += p[i];
    }
    for (size_t i = 0; i < V; i++) {
        p[i] /= kept;
    }
}

/* Frequencies f [V] of the first token over n seeds. */
static void frequencies(double *f, const esp_model *m, esp_generate_options o, size_t n)
{
    for (o.seed = 0; o.seed < n; o.seed++) {
        esp_ids ids;

        generate(&ids, m, o);
        if (ids.n > PROMPT) {
            f[ids.id[PROMPT]] += 1.0 / (double)n;
        }
        esp_ids_free(&ids);
    }
}

static void test_sampling_frequencies(void)
{
    enum { DRAWS = 2000 };
    const esp_generate_options o = { .tokens = 1, .temperature = 3, .top_p = 0.8 };
    size_t V, possible = 0, outside = 0;
    double *p, *f;
    float *logits;
    esp_ids ids;
    golden g;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    V = g.model.dims.vocab;
    ESP_NEW(p, V);
    ESP_NEW(f, V);
    start_with_prompt(&ids);
    logits = continue_without_cache(&ids, &g.model, PROMPT);
    nucleus(p, logits, V, o.temperature, o.top_p);
    frequencies(f, &g.model, o, DRAWS);
    for (size_t i = 0; i < V; i++) {
        possible += p[i] > 0;
        outside += fabs(f[i] - p[i]) > 4.5 * sqrt(p[i] * (1 - p[i]) / DRAWS) + 1e-9;
    }
    CU_ASSERT(possible > 1 && possible < V / 2);
    CU_ASSERT_EQUAL(outside, 0);
    esp_ids_free(&ids);
    free(logits);
    free(f);
    free(p);
    golden_close(&g);
}

static void remember(void *ctx, int32_t id)
{
    esp_ids_add(ctx, id);
}

static void test_ends_at_eos(void)
{
    esp_ids ids, heard = { 0 };
    golden g;
    size_t n = 0;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    g.model.eos = 426; /* the full stop */
    while (greedy[n] != 426) {
        n++;
    }
    start_with_prompt(&ids);
    CU_ASSERT_EQUAL(
        esp_generate(&ids, &g.model, &(esp_generate_options){ .tokens = GREEDY }, remember, &heard),
        ESP_OK);
    CU_ASSERT_EQUAL(ids.n, PROMPT + n);
    CU_ASSERT_EQUAL(heard.n, n);
    CU_ASSERT_EQUAL(memcmp(heard.id, greedy, n * sizeof *greedy), 0);
    esp_ids_free(&ids);
    esp_ids_free(&heard);
    golden_close(&g);
}

static void test_ends_with_the_positions(void)
{
    esp_ids ids;
    golden g;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    g.model.dims.max_positions = PROMPT + 20;
    generate(&ids, &g.model, (esp_generate_options){ .tokens = 1000 });
    CU_ASSERT_EQUAL(ids.n, PROMPT + 20);
    CU_ASSERT_EQUAL(memcmp(ids.id + PROMPT, greedy, 20 * sizeof *greedy), 0);
    esp_ids_free(&ids);
    generate(&ids, &g.model, (esp_generate_options){ .tokens = 0 });
    CU_ASSERT_EQUAL(ids.n, PROMPT);
    esp_ids_free(&ids);
    golden_close(&g);
}

static void test_refused_prompts(void)
{
    const esp_generate_options o = { .tokens = 5 };
    esp_ids ids = { 0 };
    golden g;

    if (!golden_open(&g, "models/stories260K")) {
        return;
    }
    CU_ASSERT_EQUAL(esp_generate(&ids, &g.model, &o, NULL, NULL), ESP_EUSAGE);
    start_with_prompt(&ids);
    g.model.dims.max_positions = PROMPT;
    CU_ASSERT_EQUAL(esp_generate(&ids, &g.model, &o, NULL, NULL), ESP_EUSAGE);
    g.model.dims.max_positions = 512;
    ids.id[2] = 512;
    CU_ASSERT_EQUAL(esp_generate(&ids, &g.model, &o, NULL, NULL), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "512"));
    CU_ASSERT_EQUAL(ids.n, PROMPT);
    esp_error_clear();
    esp_ids_free(&ids);
    golden_close(&g);
}

ESP_TEST_MAIN("eval", { "perplexity", test_perplexity }, { "measures", test_measures },
              { "counted targets", test_counted_targets }, { "few targets", test_few_targets },
              { "nothing to predict", test_nothing_to_predict },
              { "greedy is what others make", test_greedy_is_what_others_make },
              { "greedy without cache", test_greedy_without_cache }, { "sampling", test_sampling },
              { "sampling goes on", test_sampling_goes_on },
              { "sampling draws anew", test_sampling_draws_anew },
              { "sampling frequencies", test_sampling_frequencies },
              { "ends at EOS", test_ends_at_eos },
              { "grows beyond the border", test_grows_beyond_the_border },
              { "ends with the positions", test_ends_with_the_positions },
              { "refused prompts", test_refused_prompts })
