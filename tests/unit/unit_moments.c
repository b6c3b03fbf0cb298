/* Criteria of weights and moments, kfac, wanda_sp and flap, against sums over all tokens written down
 * directly (docs/method.md, eq. 36-38). */
#include "espalier/importance.h"
#include "golden_groups.h"

#define TOLERANCE 1e-5 /* of F32 arithmetic, relative to the largest value of an array */

/* What a matrix of a block takes and the gradient of what it gives, of all tokens. */
typedef struct rows {
    size_t n; /* tokens */
    float *x, *dy;
} rows;

typedef struct naive {
    const esp_model *model;
    size_t n_samples;
    rows *of; /* [n_layers * n_slots] */
} naive;

static rows *rows_of(const naive *d, size_t layer, int slot)
{
    return &d->of[layer * d->model->arch->n_slots + (size_t)slot];
}

static void keep(void *ctx, size_t layer, int slot, int input, const float *dy, const float *x,
                 size_t n_tok)
{
    naive *d = ctx;
    rows *r;
    const esp_weight *w;

    (void)input;
    if (layer == ESP_NO_LAYER) {
        return;
    }
    r = rows_of(d, layer, slot);
    w = esp_model_weight(d->model, layer, slot);
    r->x = esp_grow(r->x, (r->n + n_tok) * w->cols, sizeof *r->x);
    r->dy = esp_grow(r->dy, (r->n + n_tok) * w->rows, sizeof *r->dy);
    memcpy(r->x + r->n * w->cols, x, n_tok * w->cols * sizeof *x);
    memcpy(r->dy + r->n * w->rows, dy, n_tok * w->rows * sizeof *dy);
    r->n += n_tok;
}

static void ignore_norm_head(void *ctx, const float *norm_head_grad, size_t n_tok)
{
    (void)ctx, (void)norm_head_grad, (void)n_tok;
}

/* One sample after the other. */
static void naive_init(naive *d, const fixture *t)
{
    const esp_samples *samples = &t->golden.samples;
    const esp_model *m = &t->golden.model;
    esp_sink sink = { .ctx = d, .linear = keep, .norm_head_grad = ignore_norm_head };
    size_t longest = esp_samples_longest(samples);
    esp_batch batch;
    esp_pass pass;
    esp_loss loss;

    *d = (naive){ .model = m, .n_samples = samples->n };
    ESP_NEW(d->of, m->dims.n_layers * m->arch->n_slots);
    esp_model_batch_init(&batch, m, 1, longest);
    esp_pass_init(&pass, m,
                  (esp_pass_options){ .max_samples = 1, .max_tok = longest, .backward = true });
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

static void naive_free(naive *d)
{
    for (size_t i = 0; i < d->model->dims.n_layers * d->model->arch->n_slots; i++) {
        free(d->of[i].x);
        free(d->of[i].dy);
    }
    free(d->of);
}

/* Over the rows of x [n, width]: the mean of column c, and of the squares of its distances from `from`. */
static double mean_of(const float *x, size_t n, size_t width, size_t c)
{
    double sum = 0;

    for (size_t t = 0; t < n; t++) {
        sum += (double)x[t * width + c];
    }
    return sum / (double)n;
}

static double mean_square(const float *x, size_t n, size_t width, size_t c, double from)
{
    double sum = 0;

    for (size_t t = 0; t < n; t++) {
        sum += ((double)x[t * width + c] - from) * ((double)x[t * width + c] - from);
    }
    return sum / (double)n;
}

/* What the elements of a column are multiplied by. */
static double of_input(esp_criterion c, const rows *r, size_t width, size_t col)
{
    double mean = c == ESP_FLAP ? mean_of(r->x, r->n, width, col) : 0;
    double square = mean_square(r->x, r->n, width, col, mean);

    return c == ESP_WANDA_SP ? sqrt(square) : square;
}

/* Of an element w of a row of the structure's weight. */
static double saliency(const naive *d, esp_criterion c, const esp_structure *part, double w,
                       size_t row, double input)
{
    const rows *r = rows_of(d, part->layer, part->slot);
    size_t width = esp_model_weight(d->model, part->layer, part->slot)->rows;

    switch (c) {
    case ESP_KFAC:
        return w * w / 2 * input * mean_square(r->dy, r->n, width, row, 0) * (double)r->n /
               (double)d->n_samples;
    case ESP_WANDA_SP:
        return fabs(w) * input;
    default:
        return w * w * input;
    }
}

static void naive_structure(double *channel, const naive *d, const esp_structure *part,
                            esp_criterion c)
{
    const esp_weight *w = esp_model_weight(d->model, part->layer, part->slot);
    const rows *r = rows_of(d, part->layer, part->slot);
    float *data, *bias;

    ESP_NEW(data, w->rows * w->cols);
    ESP_NEW(bias, w->rows);
    esp_to_f32(data, w->data, w->dtype, w->rows * w->cols);
    if (w->has_bias) {
        esp_to_f32(bias, w->bias, w->dtype, w->rows);
    }
    for (size_t k = 0; k < w->cols; k++) {
        double input = of_input(c, r, w->cols, k);

        for (size_t i = 0; i < w->rows; i++) {
            int32_t at = part->channel[part->side == ESP_ROWS ? i : k];

            if (at >= 0) {
                channel[at] += saliency(d, c, part, (double)data[i * w->cols + k], i, input);
            }
        }
    }
    for (size_t i = 0; part->side == ESP_ROWS && i < w->rows; i++) {
        if (part->channel[i] >= 0) {
            channel[part->channel[i]] += saliency(d, c, part, (double)bias[i], i, 1);
        }
    }
    free(data);
    free(bias);
}

/* All structures by kfac, the columns alone by the others, whose groups are sums over channels. */
static void check_unit(const naive *d, const esp_scores *s, const esp_unit *u, esp_criterion c)
{
    size_t n = u->n_groups * u->channels_per_group, k = 0;
    double *channel, *group;

    for (size_t i = 0; i < u->n_structures; i++) {
        const esp_structure *part = &u->structures[i];

        if (c != ESP_KFAC && part->side == ESP_ROWS) {
            continue;
        }
        ESP_NEW(channel, n);
        ESP_NEW(group, u->n_groups);
        naive_structure(channel, d, part, c);
        CU_ASSERT(esp_test_close(esp_scores_structure(s, u, c) + k++ * n, channel, n,
                                 golden_largest(channel, n), TOLERANCE));
        for (size_t at = 0; at < n; at++) {
            group[at / u->channels_per_group] += channel[at];
        }
        for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS && c != ESP_KFAC; a++) {
            CU_ASSERT(esp_test_close(esp_scores_group(s, u, c, a), group, u->n_groups,
                                     golden_largest(group, u->n_groups), TOLERANCE));
        }
        free(channel);
        free(group);
    }
}

static void check_model(const fixture *t)
{
    static const esp_criterion criteria[] = { ESP_KFAC, ESP_WANDA_SP, ESP_FLAP };
    const esp_importance_options o = {
        .criteria = 1u << ESP_KFAC | 1u << ESP_WANDA_SP | 1u << ESP_FLAP,
        .aggregations = (1u << ESP_N_AGGREGATIONS) - 1,
        .units = (1u << ESP_N_UNITS) - 1,
    };
    esp_grid grid;
    esp_scores s;
    naive d;

    naive_init(&d, t);
    esp_grid_init(&grid, 0, MPI_COMM_SELF);
    CU_ASSERT_EQUAL(
        esp_importance_estimate(&s, &t->golden.model, &t->groups, &t->golden.samples, &o, &grid),
        ESP_OK);
    for (size_t u = 0; u < t->groups.n_units; u++) {
        for (size_t i = 0; i < 3; i++) {
            const esp_unit *unit = &t->groups.units[u];

            if (unit->kind == ESP_UNIT_HIDDEN) {
                CU_ASSERT_PTR_NULL(esp_scores_group(&s, unit, criteria[i], ESP_SUM));
            } else {
                check_unit(&d, &s, unit, criteria[i]);
            }
        }
    }
    esp_scores_free(&s);
    esp_grid_free(&grid);
    naive_free(&d);
}

/* Biases, fused weights, heads that share keys: all families. */
static void test_families(void)
{
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        fixture *t =
            strncmp(golden_models[i], "tests/", 6) == 0 ? fixture_of(golden_models[i]) : NULL;

        if (t) {
            check_model(t);
            fixture_free(t);
        }
    }
}

ESP_TEST_MAIN("moments", { "kfac, wanda_sp and flap of all families", test_families })
