/* Importance against float64 values of an independent program (tests/golden/README.md), and what must
 * hold whatever the values are. */
#include "espalier/exporters.h"
#include "espalier/importance.h"
#include "espalier/rng.h"
#include "espalier/synth.h"
#include "golden_groups.h"

#include <omp.h>

#define TOLERANCE 1e-4 /* of F32 arithmetic, relative to the largest value of an array */
#define REPEATED  1e-5 /* sums over heads in another order, likewise */
#define ALL(n)    ((1u << (n)) - 1)

static const esp_importance_options everything = { .criteria = ALL(ESP_N_CRITERIA),
                                                   .aggregations = ALL(ESP_N_AGGREGATIONS),
                                                   .units = ALL(ESP_N_UNITS),
                                                   .seed = 1 };

/* By this process alone. */
static esp_status try_estimate(esp_scores *s, const fixture *t, const esp_samples *samples,
                               const esp_importance_options *o)
{
    esp_grid grid;
    esp_status st;

    esp_grid_init(&grid, 0, MPI_COMM_SELF);
    st = esp_importance_estimate(s, &t->golden.model, &t->groups, samples, o, &grid);
    esp_grid_free(&grid);
    return st;
}

static esp_scores estimate(const fixture *t, const esp_importance_options *o)
{
    esp_scores s;

    CU_ASSERT_EQUAL(try_estimate(&s, t, &t->golden.samples, o), ESP_OK);
    return s;
}

/* ---- golden values -------------------------------------------------------------------------------- */

static void check_array(const fixture *t, const char *path, const double *found, size_t n)
{
    size_t n_wanted;
    double *wanted = golden_read(&n_wanted, &t->golden, path);

    CU_ASSERT_EQUAL(n, n_wanted);
    if (!esp_test_close(found, wanted, n, golden_largest(wanted, n), TOLERANCE)) {
        printf("  %s/golden.h5: %s\n", t->golden.model.dir, path);
        CU_FAIL("an array is not the golden one");
    }
    free(wanted);
}

static void check_unit(const fixture *t, const esp_scores *s, const esp_unit *u, esp_criterion c)
{
    bool in_layer = u->layer != ESP_NO_LAYER;
    char *base = in_layer ? esp_format("/layers/%zu/%s/%s", u->layer, esp_unit_name(u->kind),
                                       esp_criterion_name(c))
                          : esp_format("/hidden/%s", esp_criterion_name(c));
    size_t n = u->n_groups * u->channels_per_group;

    for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS; a++) {
        char *path = esp_path(base, esp_aggregation_name(a));

        check_array(t, path, esp_scores_group(s, u, c, a), u->n_groups);
        free(path);
    }
    for (size_t i = 0; in_layer && i < u->n_structures; i++) {
        const char *label = u->structures[i].label;
        char *path = esp_format("%s/structures/%s", base, label);

        check_array(t, path, esp_scores_structure(s, u, c) + i * n, n);
        free(path);
    }
    free(base);
}

/* Scores by gates, which all aggregations have alike; where the values are, which are those of the
 * repository. */
static void check_gates(const fixture *t, const esp_scores *s, const esp_unit *u, esp_criterion c)
{
    char *path = esp_format("/layers/%zu/%s/%s/sum", u->layer, esp_unit_name(u->kind),
                            esp_criterion_name(c));

    check_array(t, path, esp_scores_group(s, u, c, ESP_SUM), u->n_groups);
    free(path);
    CU_ASSERT_PTR_NULL(esp_scores_structure(s, u, c));
    for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS; a++) {
        CU_ASSERT_EQUAL(memcmp(esp_scores_group(s, u, c, ESP_SUM), esp_scores_group(s, u, c, a),
                               u->n_groups * sizeof(double)),
                        0);
    }
}

static void check_golden(const fixture *t)
{
    bool own = strncmp(t->golden.model.dir, "tests/", 6) == 0;
    esp_scores s = estimate(t, &everything);
    double loss = 0;

    CU_ASSERT_EQUAL(esp_h5_get_double(&t->golden.file, "/", "loss", &loss), ESP_OK);
    CU_ASSERT_DOUBLE_EQUAL(s.loss, loss, 1e-5 * loss);
    CU_ASSERT(s.flops > 0);
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const esp_unit *unit = &t->groups.units[u];

        if (unit->kind == ESP_UNIT_QUERY) { /* see test_queries */
            continue;
        }
        for (esp_criterion c = 0; c <= ESP_L2; c++) {
            check_unit(t, &s, unit, c);
        }
        for (esp_criterion c = ESP_GATE1; c <= ESP_GATE2 && own; c++) {
            if (unit->kind == ESP_UNIT_HIDDEN) {
                CU_ASSERT_PTR_NULL(esp_scores_group(&s, unit, c, ESP_SUM));
            } else {
                check_gates(t, &s, unit, c);
            }
        }
    }
    esp_scores_free(&s);
}

static void test_golden(void)
{
    fixture_each(false, check_golden);
}

static void test_golden_shared(void)
{
    fixture_each(true, check_golden);
}

/* ---- query heads ------------------------------------------------------------------------------------ */

/* Each of `heads` pieces of data as often as makes it n bytes. */
static void *repeated(const void *data, size_t heads, size_t bytes, size_t times)
{
    char *all = esp_calloc(bytes * times, 1);
    size_t piece = bytes / heads;

    for (size_t h = 0; h < heads * times; h++) {
        memcpy(all + h * piece, (const char *)data + h / times * piece, piece);
    }
    return all;
}

/* The weight's rows are heads of keys or of values. */
static void repeat_rows(esp_weight *w, size_t heads, size_t times)
{
    size_t size = esp_dtype_size(w->dtype);

    w->data = repeated(w->data, heads, w->rows * w->cols * size, times);
    w->bias = w->has_bias ? repeated(w->bias, heads, w->rows * size, times) : NULL;
    w->rows *= times;
}

/* The same model with a key/value head of its own for each query head. False where a weight is fused. */
static bool repeat_keys(fixture *t, void (*with)(esp_weight *w, size_t heads, size_t times))
{
    esp_model *m = &t->golden.model;
    size_t n_block = m->arch->n_slots - ESP_SLOT_BLOCK;
    bool found = false;

    for (size_t i = 0; i < m->dims.n_layers * n_block; i++) {
        const esp_layer_dims *d = &m->dims.layer[i / n_block];

        if (m->arch->slots[ESP_SLOT_BLOCK + i % n_block].rows == ESP_W_KV) {
            with(&m->block[i], d->kv_heads, d->heads / d->kv_heads);
            found = true;
        }
    }
    return found;
}

static void free_rows(esp_weight *w, size_t heads, size_t times)
{
    (void)heads, (void)times;
    free((void *)w->data);
    free((void *)w->bias);
}

/* Structures of query heads, and gates, are those of the heads of that model. */
static void check_heads(const fixture *t, const esp_scores *s, const fixture *repeated_keys,
                        const esp_scores *wanted, size_t layer)
{
    const esp_unit *u = esp_groups_unit(&t->groups, ESP_UNIT_QUERY, layer);
    const esp_unit *of = esp_groups_unit(&repeated_keys->groups, ESP_UNIT_ATTENTION, layer);
    size_t n = u->n_groups * u->channels_per_group;

    CU_ASSERT_EQUAL(u->n_groups, of->n_groups);
    for (esp_criterion c = 0; c < ESP_RANDOM; c++) {
        const double *found = esp_scores_group(s, u, c, ESP_SUM);
        size_t n_structures = esp_criterion_structures(c, u);

        if (n_structures < 2) { /* gates, and the columns alone */
            CU_ASSERT(esp_test_close(found, esp_scores_group(wanted, of, c, ESP_SUM), u->n_groups,
                                     golden_largest(found, u->n_groups), REPEATED));
            continue;
        }
        for (size_t k = 0; k < 2; k++) { /* q; o, the last of q, k, v, o */
            const double *part = esp_scores_structure(s, u, c) + k * n;
            const double *same = esp_scores_structure(wanted, of, c) + 3 * k * n;

            CU_ASSERT(esp_test_close(part, same, n, golden_largest(part, n), REPEATED));
        }
    }
}

static void test_queries(void)
{
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        fixture *t = fixture_of(golden_models[i]), *other = fixture_of(golden_models[i]);

        if (t && fixture_shares_keys(t) && repeat_keys(other, repeat_rows)) {
            esp_scores s = estimate(t, &everything), wanted;

            for (size_t l = 0; l < other->golden.model.dims.n_layers; l++) {
                esp_layer_dims *d = &other->golden.model.dims.layer[l];

                d->kv_heads = d->heads;
            }
            esp_groups_free(&other->groups);
            esp_groups_find(&other->groups, &other->golden.model);
            wanted = estimate(other, &everything);
            for (size_t l = 0; l < t->golden.model.dims.n_layers; l++) {
                check_heads(t, &s, other, &wanted, l);
            }
            esp_scores_free(&s);
            esp_scores_free(&wanted);
            repeat_keys(other, free_rows);
        }
        if (t) {
            fixture_free(t);
            fixture_free(other);
        }
    }
}

/* ---- what must hold whatever the values are ------------------------------------------------------- */

/* All scores of b are f times those of a; f = 1: to the bit. */
static void check_same(const fixture *t, const esp_scores *a, const esp_scores *b, esp_criterion c,
                       double factor)
{
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const esp_unit *unit = &t->groups.units[u];
        size_t n = esp_criterion_structures(c, unit) * unit->n_groups * unit->channels_per_group;
        const double *x = esp_scores_structure(a, unit, c), *y = esp_scores_structure(b, unit, c);

        CU_ASSERT_EQUAL(!x, !y);
        for (size_t i = 0; x && y && i < n; i++) {
            CU_ASSERT(factor == 1 ? x[i] == y[i] : fabs(factor * x[i] - y[i]) <= 1e-13 * y[i]);
        }
        if (!(esp_criterion_units(c) >> unit->kind & 1)) {
            continue;
        }
        for (esp_aggregation k = 0; factor == 1 && k < ESP_N_AGGREGATIONS; k++) {
            CU_ASSERT_EQUAL(memcmp(esp_scores_group(a, unit, c, k), esp_scores_group(b, unit, c, k),
                                   unit->n_groups * sizeof(double)),
                            0);
        }
    }
}

static void test_threads(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    int threads = omp_get_max_threads();
    esp_scores one, two;

    omp_set_num_threads(1);
    one = estimate(t, &everything);
    omp_set_num_threads(2);
    two = estimate(t, &everything);
    omp_set_num_threads(threads);
    CU_ASSERT_EQUAL(one.loss, two.loss);
    for (esp_criterion c = 0; c < ESP_RANDOM; c++) {
        check_same(t, &one, &two, c, 1);
    }
    esp_scores_free(&one);
    esp_scores_free(&two);
    fixture_free(t);
}

/* Each criterion alone gives what all together give; those of the weights need no samples. */
static void test_alone(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    esp_scores all = estimate(t, &everything);

    for (esp_criterion c = 0; c < ESP_RANDOM; c++) {
        esp_importance_options o = everything;
        bool needs_samples = c != ESP_L1 && c != ESP_L2;
        bool has_loss = needs_samples && c != ESP_WANDA_SP && c != ESP_FLAP;
        esp_scores s;

        o.criteria = 1u << c;
        CU_ASSERT_EQUAL(try_estimate(&s, t, needs_samples ? &t->golden.samples : NULL, &o), ESP_OK);
        check_same(t, &all, &s, c, 1);
        CU_ASSERT(has_loss ? s.loss == all.loss : isnan(s.loss));
        CU_ASSERT_PTR_NULL(esp_scores_group(&s, &t->groups.units[0], ESP_RANDOM, ESP_SUM));
        esp_scores_free(&s);
    }
    esp_scores_free(&all);
    fixture_free(t);
}

static void test_fisher_sum(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    esp_importance_options o = everything;
    esp_scores mean = estimate(t, &o), sum;

    o.fisher_sum = true;
    sum = estimate(t, &o);
    check_same(t, &mean, &sum, ESP_ELEMENT1, 1);
    check_same(t, &mean, &sum, ESP_ELEMENT2, (double)t->golden.samples.n);
    check_same(t, &mean, &sum, ESP_GATE1, 1);
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const double *of_mean = esp_scores_group(&mean, &t->groups.units[u], ESP_GATE2, ESP_SUM);
        const double *of_sum = esp_scores_group(&sum, &t->groups.units[u], ESP_GATE2, ESP_SUM);

        for (size_t g = 0; of_mean && g < t->groups.units[u].n_groups; g++) {
            CU_ASSERT_DOUBLE_EQUAL(of_sum[g], (double)t->golden.samples.n * of_mean[g],
                                   1e-13 * of_sum[g]);
        }
    }
    esp_scores_free(&mean);
    esp_scores_free(&sum);
    fixture_free(t);
}

/* Mean over the samples of the mean entropy of the predictions, and the variance over the labels of what
 * replaces it, -log p of a label that is drawn. */
static double entropy(double *variance, const fixture *t)
{
    const esp_model *m = &t->golden.model;
    size_t V = m->dims.vocab, n = t->golden.samples.n, longest;
    double mean = 0;
    esp_batch batch;
    esp_pass pass;
    float *logits;

    longest = esp_samples_longest(&t->golden.samples);
    esp_model_batch_init(&batch, m, 1, longest);
    esp_pass_init(&pass, m, (esp_pass_options){ .max_samples = 1, .max_tok = longest });
    ESP_NEW(logits, longest * V);
    *variance = 0;
    for (size_t j = 0; j < n; j++) {
        double targets = (double)esp_samples_targets(&t->golden.samples, j);

        esp_batch_fill(&batch, &t->golden.samples, &j, 1);
        esp_pass_forward(&pass, NULL, &batch);
        esp_pass_logits(logits, &pass, 0, batch.n_tok);
        for (size_t i = 0; i + 1 < batch.n_tok; i++) {
            double sum = 0, first = 0, second = 0;

            for (size_t v = 0; v < V; v++) {
                sum += exp((double)logits[i * V + v]);
            }
            for (size_t v = 0; v < V; v++) {
                double log_p = (double)logits[i * V + v] - log(sum), p = exp(log_p);

                first -= p * log_p;
                second += p * log_p * log_p;
            }
            mean += first / targets / (double)n;
            *variance += (second - first * first) / targets / targets / (double)(n * n);
        }
    }
    free(logits);
    esp_pass_free(&pass);
    esp_batch_free(&batch);
    return mean;
}

/* The loss of labels that the model draws is its entropy on average, and follows from the seed. */
static void test_model_labels(void)
{
    enum { SEEDS = 50 };
    fixture *t = fixture_of(OWN_MODEL);
    esp_importance_options o = { .criteria = 1u << ESP_GATE2,
                                 .aggregations = 1u << ESP_SUM,
                                 .units = 1u << ESP_UNIT_MLP };
    double wanted, variance, sum = 0, of_data, last = 0;
    esp_scores s = estimate(t, &o);

    of_data = s.loss;
    esp_scores_free(&s);
    o.model_labels = true;
    for (o.seed = 0; o.seed < SEEDS; o.seed++) {
        s = estimate(t, &o);
        CU_ASSERT(s.loss != of_data && s.loss != last);
        last = s.loss;
        sum += s.loss;
        esp_scores_free(&s);
    }
    wanted = entropy(&variance, t);
    CU_ASSERT_DOUBLE_EQUAL(sum / SEEDS, wanted, 4 * sqrt(variance / SEEDS));
    o.seed = SEEDS - 1;
    s = estimate(t, &o);
    CU_ASSERT_EQUAL(s.loss, last);
    esp_scores_free(&s);
    fixture_free(t);
}

static void test_random(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    esp_importance_options o = everything;
    const esp_unit *mlp = esp_groups_unit(&t->groups, ESP_UNIT_MLP, 1);
    esp_scores s;
    const double *score;

    o.criteria = 1u << ESP_RANDOM;
    CU_ASSERT_EQUAL(try_estimate(&s, t, NULL, &o), ESP_OK);
    score = esp_scores_group(&s, mlp, ESP_RANDOM, ESP_LAST);
    CU_ASSERT_PTR_NULL(esp_scores_structure(&s, mlp, ESP_RANDOM));
    for (size_t g = 0; g < mlp->n_groups; g++) {
        CU_ASSERT_EQUAL(score[g], esp_score_random(o.seed, mlp, g));
        CU_ASSERT(score[g] >= 0 && score[g] < 1);
        CU_ASSERT(g == 0 || score[g] != score[g - 1]);
    }
    CU_ASSERT_NOT_EQUAL(score[0], esp_score_random(o.seed + 1, mlp, 0));
    CU_ASSERT_NOT_EQUAL(score[0], esp_score_random(o.seed, mlp - 1, 0));
    esp_scores_free(&s);
    fixture_free(t);
}

static void test_refused(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    esp_samples none = { 0 };
    esp_scores s = { 0 };
    int32_t id = 3;

    CU_ASSERT_EQUAL(try_estimate(&s, t, &none, &everything), ESP_EUSAGE);
    esp_samples_add(&t->golden.samples, &id, NULL, 1);
    CU_ASSERT_EQUAL(try_estimate(&s, t, &t->golden.samples, &everything), ESP_EUSAGE);
    esp_scores_free(&s);
    fixture_free(t);
}

/* ---- weights of several strips, against sums written down directly ------------------------------- */

/* G and F of every linear weight outside and inside the only block, in f64. */
typedef struct direct {
    const esp_model *model;
    const esp_batch *batch; /* one sample */
    double n;               /* samples    */
    double **g, **f;        /* [n_slots] of [rows, cols] */
} direct;

static void add_direct(direct *d, int slot, const float *dy, const float *x, size_t n_tok)
{
    const esp_weight *w =
        esp_model_weight(d->model, slot < ESP_SLOT_BLOCK ? ESP_NO_LAYER : 0, slot);

    for (size_t r = 0; r < w->rows; r++) {
        for (size_t c = 0; c < w->cols; c++) {
            double v = 0;

            for (size_t t = 0; t < n_tok; t++) {
                v += (double)dy[t * w->rows + r] * (double)x[t * w->cols + c];
            }
            d->g[slot][r * w->cols + c] += v / d->n;
            d->f[slot][r * w->cols + c] += v * v / d->n;
        }
    }
}

static void direct_linear(void *ctx, size_t layer, int slot, int input, const float *dy,
                          const float *x, size_t n_tok)
{
    (void)layer;
    (void)input;
    add_direct(ctx, slot, dy, x, n_tok);
}

/* The product of one-hot rows and dx. */
static void direct_embed(void *ctx, int slot, const int32_t *row, const float *dx)
{
    direct *d = ctx;
    size_t V = d->model->dims.vocab, n_tok = d->batch->n_tok;
    float *one_hot;

    ESP_NEW(one_hot, n_tok * V);
    for (size_t t = 0; t < n_tok; t++) {
        one_hot[t * V + (size_t)row[t]] = 1;
    }
    add_direct(d, slot, one_hot, dx, n_tok);
    free(one_hot);
}

static void run_direct(direct *d, const esp_samples *samples)
{
    esp_sink sink = { .ctx = d, .linear = direct_linear, .lookup = direct_embed };
    size_t longest = esp_samples_longest(samples);
    esp_batch batch;
    esp_pass pass;
    esp_loss loss;

    esp_model_batch_init(&batch, d->model, 1, longest);
    esp_pass_init(&pass, d->model,
                  (esp_pass_options){ .max_samples = 1, .max_tok = longest, .backward = true });
    d->batch = &batch;
    for (size_t j = 0; j < samples->n; j++) {
        float scale = 1 / (float)esp_samples_targets(samples, j);

        esp_batch_fill(&batch, samples, &j, 1);
        esp_pass_forward(&pass, NULL, &batch);
        esp_pass_loss(&pass, &loss, &scale, &sink, &batch);
        esp_pass_backward(&pass, &sink, &batch);
    }
    esp_pass_free(&pass);
    esp_batch_free(&batch);
}

/* Channels of a structure by eq. 3-5; a row's bias is none here. */
static double *direct_structure(const direct *d, const esp_unit *u, const esp_structure *part,
                                esp_criterion c)
{
    const esp_weight *w = esp_model_weight(d->model, part->layer, part->slot);
    double *channel, *sum;
    float *data;

    ESP_NEW(channel, u->n_groups * u->channels_per_group);
    ESP_NEW(sum, part->length);
    ESP_NEW(data, w->rows * w->cols);
    esp_to_f32(data, w->data, w->dtype, w->rows * w->cols);
    for (size_t k = 0; k < w->rows * w->cols; k++) {
        double wk = (double)data[k], gw = d->g[part->slot][k] * wk;

        sum[part->side == ESP_ROWS ? k / w->cols : k % w->cols] +=
            c == ESP_VECTOR ? gw : fabs(gw - d->f[part->slot][k] * wk * wk / 2);
    }
    for (size_t i = 0; i < part->length; i++) {
        channel[part->channel[i]] += fabs(sum[i]);
    }
    free(sum);
    free(data);
    return channel;
}

static void check_direct(const direct *d, const esp_scores *s, const esp_unit *u, esp_criterion c)
{
    size_t n = u->n_groups * u->channels_per_group;

    for (size_t i = 0; i < u->n_structures; i++) {
        const esp_structure *part = &u->structures[i];

        if (esp_model_weight(d->model, part->layer, part->slot)->cols > 1) {
            double *wanted = direct_structure(d, u, part, c);

            CU_ASSERT(esp_test_close(esp_scores_structure(s, u, c) + i * n, wanted, n,
                                     golden_largest(wanted, n), TOLERANCE));
            free(wanted);
        }
    }
}

static void make_room(direct *d, const esp_model *m, size_t n_samples)
{
    *d = (direct){ .model = m, .n = (double)n_samples };
    ESP_NEW(d->g, m->arch->n_slots);
    ESP_NEW(d->f, m->arch->n_slots);
    for (int slot = 0; slot < (int)m->arch->n_slots; slot++) {
        const esp_weight *w = esp_model_weight(m, slot < ESP_SLOT_BLOCK ? ESP_NO_LAYER : 0, slot);

        ESP_NEW(d->g[slot], w->rows * w->cols);
        ESP_NEW(d->f[slot], w->rows * w->cols);
    }
}

static void free_room(direct *d)
{
    for (size_t slot = 0; slot < d->model->arch->n_slots; slot++) {
        free(d->g[slot]);
        free(d->f[slot]);
    }
    free(d->g);
    free(d->f);
}

/* Samples of several lengths, one of them longer than the others together. */
static void make_samples(esp_samples *s, size_t vocab)
{
    static const size_t lengths[] = { 7, 2, 150 };
    esp_rng r = { esp_rng_key(11, 0, 0), 0 };

    for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
        int32_t ids[150];

        for (size_t t = 0; t < lengths[j]; t++) {
            ids[t] = (int32_t)esp_rng_below(&r, vocab);
        }
        esp_samples_add(s, ids, NULL, lengths[j]);
    }
}

/* Sizes that are no multiples of a tile, and a vocabulary of three strips. */
static void test_strips(void)
{
    static const esp_synth_options shape = { .model_type = "llama",
                                             .hidden = 300,
                                             .mlp = 530,
                                             .layers = 1,
                                             .heads = 6,
                                             .kv_heads = 2,
                                             .head_dim = 32,
                                             .vocab = 4500,
                                             .max_positions = 256,
                                             .dtype = ESP_BF16,
                                             .std = 0.05,
                                             .rope_theta = 1e4,
                                             .seed = 2 };
    char *root = esp_test_dir("importance"), *dir = esp_path(root, "strips");
    fixture t = { 0 };
    esp_scores s;
    direct d;

    CU_ASSERT_EQUAL(esp_mkdirs(root), ESP_OK);
    CU_ASSERT_EQUAL(esp_synth(esp_export_to(dir, "huggingface"), &shape, MPI_COMM_SELF), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&t.golden.model, dir, MPI_COMM_SELF), ESP_OK);
    esp_groups_find(&t.groups, &t.golden.model);
    make_samples(&t.golden.samples, shape.vocab);
    s = estimate(&t, &everything);
    make_room(&d, &t.golden.model, t.golden.samples.n);
    run_direct(&d, &t.golden.samples);
    for (size_t u = 0; u < t.groups.n_units; u++) {
        check_direct(&d, &s, &t.groups.units[u], ESP_VECTOR);
        check_direct(&d, &s, &t.groups.units[u], ESP_MIX);
    }
    free_room(&d);
    esp_scores_free(&s);
    esp_samples_free(&t.golden.samples);
    esp_groups_free(&t.groups);
    esp_model_free(&t.golden.model);
    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    free(dir);
    free(root);
}

/* ---- importance.h5 -------------------------------------------------------------------------------- */

static void test_file(void)
{
    fixture *t = fixture_of(OWN_MODEL), *other = fixture_of(OWN_MODEL);
    esp_scores s = estimate(t, &everything), back;
    char *dir = esp_test_dir("importance"), *path = esp_path(dir, "importance.h5");

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_scores_save(&s, path, "0123", &everything), ESP_OK);
    CU_ASSERT_EQUAL(esp_scores_load(&back, &t->groups, path, "0124"), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "0123"));
    CU_ASSERT_EQUAL(esp_scores_load(&back, &t->groups, path, "0123"), ESP_OK);
    CU_ASSERT_EQUAL(back.criteria, s.criteria);
    CU_ASSERT_EQUAL(back.aggregations, s.aggregations);
    CU_ASSERT_EQUAL(back.units, s.units);
    CU_ASSERT_EQUAL(back.loss, s.loss);
    CU_ASSERT_EQUAL(back.n_samples, t->golden.samples.n);
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const esp_unit *unit = &t->groups.units[u];

        for (esp_criterion c = 0; c < ESP_N_CRITERIA; c++) {
            const double *score = esp_scores_group(&s, unit, c, ESP_PROD);
            const double *read = esp_scores_group(&back, unit, c, ESP_PROD);

            CU_ASSERT_EQUAL(!score, !read);
            CU_ASSERT(!score || memcmp(score, read, unit->n_groups * sizeof(double)) == 0);
        }
    }
    esp_scores_free(&back);
    other->groups.units[0].n_groups++;
    CU_ASSERT_EQUAL(esp_scores_load(&back, &other->groups, path, "0123"), ESP_EFORMAT);
    esp_scores_free(&back);
    esp_scores_free(&s);
    fixture_free(other);
    fixture_free(t);
    free(path);
    free(dir);
}

ESP_TEST_MAIN("importance", { "golden values of the repository", test_golden },
              { "golden values of the shared models", test_golden_shared },
              { "query heads are those of a model with keys repeated", test_queries },
              { "the same bits on 1 and 2 threads", test_threads },
              { "a criterion alone gives the same", test_alone },
              { "weights of several strips", test_strips }, { "fisher = sum", test_fisher_sum },
              { "labels of the model", test_model_labels }, { "criterion random", test_random },
              { "samples that predict nothing are refused", test_refused },
              { "importance.h5 is written and read", test_file })
