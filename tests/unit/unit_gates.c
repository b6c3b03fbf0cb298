/* unit_gates.c - forward and backward with gates on heads and neurons, on every golden family: against the
 * pass without them, the same model with gates folded into its weights, and differences of the plain forward
 * in f64. That gates of 0 are the model without groups is shown in unit_surgery.c.
 */
#include "espalier/pass.h"
#include "golden_groups.h"
#include "own_weights.h"
#include "reference_model.h"

#define STEP      0x1p-15 /* of a difference */
#define TOLERANCE 2e-5    /* of the largest gradient of a gate */

/* What a pass gives for all samples: of whole arrays, so that they can be compared bit by bit. */
typedef struct outcome {
    size_t n, n_gates;
    float *logits;  /* [n_tok, V] */
    float *dx;      /* [n_tok, D]: gradient of the input of the first block */
    double *loss;   /* [n_samples]                                          */
    double *gate;   /* [n_gates]: dL/dm, one after another in the order of units      */
    double *weight; /* [n_layers * n_slots]: sum of |dy| |x| of the products of each matrix */
} outcome;

typedef struct job {
    const esp_model *model;
    const esp_groups *groups;
    const esp_samples *samples;
    outcome *out;
} job;

/* MLPs, and heads: query heads where they are units. */
static bool has_gates(const esp_groups *g, const esp_unit *u)
{
    return u->kind == ESP_UNIT_MLP || u->kind == ESP_UNIT_QUERY ||
           (u->kind == ESP_UNIT_ATTENTION && !esp_groups_unit(g, ESP_UNIT_QUERY, u->layer));
}

static size_t count_gates(const esp_groups *g)
{
    size_t n = 0;

    for (size_t u = 0; u < g->n_units; u++) {
        n += has_gates(g, &g->units[u]) ? g->units[u].n_groups : 0;
    }
    return n;
}

static void add_value(void *ctx, size_t layer, int value, const float *x, const float *dx,
                      const esp_batch *chunk)
{
    const job *j = ctx;
    double *gate = j->out->gate;

    for (size_t u = 0; u < j->groups->n_units; u++) {
        const esp_unit *unit = &j->groups->units[u];
        const esp_structure *columns = has_gates(j->groups, unit) ? esp_unit_columns(unit) : NULL;

        if (columns && unit->layer == layer &&
            esp_arch_linear(j->model->arch, columns->slot)->in[0] == value) {
            for (size_t i = 0; i < chunk->n_tok * columns->length; i++) {
                size_t channel = (size_t)columns->channel[i % columns->length];

                gate[channel / unit->channels_per_group] += (double)x[i] * (double)dx[i];
            }
        }
        gate += has_gates(j->groups, unit) ? unit->n_groups : 0;
    }
}

static void add_linear(void *ctx, size_t layer, int slot, int input, const float *dy,
                       const float *x, size_t n_tok)
{
    const job *j = ctx;
    size_t at = (layer == ESP_NO_LAYER ? 0 : layer) * j->model->arch->n_slots + (size_t)slot;
    const esp_weight *w = esp_model_weight(j->model, layer, slot);

    (void)input;
    for (size_t t = 0; t < n_tok; t++) {
        double sum_x = 0, sum_y = 0;

        for (size_t c = 0; c < w->cols; c++) {
            sum_x += fabs((double)x[t * w->cols + c]);
        }
        for (size_t r = 0; r < w->rows; r++) {
            sum_y += fabs((double)dy[t * w->rows + r]);
        }
        j->out->weight[at] += sum_x * sum_y;
    }
}

static void ignore_norm_head_grad(void *ctx, const float *norm_head_grad, size_t n_tok)
{
    (void)ctx, (void)norm_head_grad, (void)n_tok;
}

static void fill_batch(esp_batch *b, const esp_model *m, const esp_samples *s)
{
    size_t *pick;

    ESP_NEW(pick, s->n);
    for (size_t j = 0; j < s->n; j++) {
        pick[j] = j;
    }
    esp_model_batch_init(b, m, s->n, s->start[s->n]);
    esp_batch_fill(b, s, pick, s->n);
    free(pick);
}

static void run_loss_and_backward(esp_pass *p, job *j, const esp_batch *batch)
{
    const esp_sink sink = {
        .ctx = j, .linear = add_linear, .norm_head_grad = ignore_norm_head_grad, .value = add_value
    };
    esp_loss *loss;
    float *scale;

    ESP_NEW(loss, batch->n_samples);
    ESP_NEW(scale, batch->n_samples);
    for (size_t i = 0; i < batch->n_samples; i++) {
        scale[i] = 1.0f / (float)esp_samples_targets(j->samples, i);
    }
    esp_pass_loss(p, loss, scale, &sink, batch);
    esp_pass_backward(p, &sink, batch);
    for (size_t i = 0; i < batch->n_samples; i++) {
        j->out->loss[i] = loss[i].sum;
    }
    free(scale);
    free(loss);
}

/* out [out, owned]: of m with gates (NULL: a pass that knows none). */
static void run(outcome *out, const esp_model *m, const esp_groups *g, const esp_samples *samples,
                const esp_gates *gates)
{
    job j = { m, g, samples, out };
    esp_batch batch;
    esp_pass p;

    fill_batch(&batch, m, samples);
    *out = (outcome){ .n = batch.n_tok * m->dims.vocab, .n_gates = count_gates(g) };
    ESP_NEW(out->logits, out->n);
    ESP_NEW(out->dx, batch.n_tok * m->dims.hidden);
    ESP_NEW(out->loss, samples->n);
    ESP_NEW(out->gate, out->n_gates);
    ESP_NEW(out->weight, m->dims.n_layers * m->arch->n_slots);
    esp_pass_init(&p, m,
                  (esp_pass_options){ .max_samples = samples->n,
                                      .max_tok = batch.n_tok,
                                      .backward = true,
                                      .kept_layers = gates ? 1 : 0,
                                      .gates = gates });
    p.gates = gates;
    esp_pass_forward(&p, NULL, &batch);
    esp_pass_logits(out->logits, &p, 0, batch.n_tok);
    run_loss_and_backward(&p, &j, &batch);
    memcpy(out->dx, p.d_hidden.at, batch.n_tok * m->dims.hidden * sizeof *out->dx);
    esp_pass_free(&p);
    esp_batch_free(&batch);
}

static void outcome_free(outcome *o)
{
    free(o->logits);
    free(o->dx);
    free(o->loss);
    free(o->gate);
    free(o->weight);
}

static bool same(const void *a, const void *b, size_t n, size_t size)
{
    return memcmp(a, b, n * size) == 0;
}

static void check_same(const fixture *t, const outcome *a, const outcome *b, const char *what)
{
    const esp_model *m = &t->golden.model;
    size_t n_tok = a->n / m->dims.vocab;
    bool good = same(a->logits, b->logits, a->n, sizeof *a->logits) &&
                same(a->dx, b->dx, n_tok * m->dims.hidden, sizeof *a->dx) &&
                same(a->loss, b->loss, t->golden.samples.n, sizeof *a->loss) &&
                same(a->gate, b->gate, a->n_gates, sizeof *a->gate);

    if (!good) {
        printf("  %s, %s\n", m->dir, what);
    }
    CU_ASSERT(good);
}

/* ---- gates of 1 ---------------------------------------------------------------------------------- */

static void check_ones(const fixture *t)
{
    const esp_model *m = &t->golden.model;
    outcome without, gated;
    esp_gates gates;

    esp_gates_init(&gates, m);
    run(&without, m, &t->groups, &t->golden.samples, NULL);
    run(&gated, m, &t->groups, &t->golden.samples, &gates);
    check_same(t, &without, &gated, "gates of 1");
    CU_ASSERT(
        same(without.weight, gated.weight, m->dims.n_layers * m->arch->n_slots, sizeof(double)));
    outcome_free(&without);
    outcome_free(&gated);
    esp_gates_free(&gates);
}

static void test_ones(void)
{
    fixture_each(false, check_ones);
    fixture_each(true, check_ones);
}

/* ---- gates that are powers of two ---------------------------------------------------------------- */

/* 1/2, 1 or 2: exact factors, of a group by its number. */
static float power(size_t unit, size_t group)
{
    static const float of[] = { 0.5f, 1, 2 };

    return of[(unit + group + group / 3) % 3];
}

/* A group whose gate is moved by h. */
typedef struct moved {
    size_t unit, group;
    double h;
} moved;

/* The gates of a unit; the caller frees. */
static float *powers_of(const esp_unit *u, size_t number, const moved *one)
{
    float *gate;

    ESP_NEW(gate, u->n_groups);
    for (size_t i = 0; i < u->n_groups; i++) {
        bool moves = one && one->unit == number && one->group == i;

        gate[i] = power(number, i) + (moves ? (float)one->h : 0);
    }
    return gate;
}

/* Powers on all units, one of them moved (NULL: none). */
static void set_powers(esp_gates *gates, const esp_groups *g, const moved *one)
{
    esp_gates_reset(gates);
    for (size_t u = 0; u < g->n_units; u++) {
        float *gate = powers_of(&g->units[u], u, one);

        if (has_gates(g, &g->units[u])) {
            esp_unit_scale_gates(gates, &g->units[u], gate);
        }
        free(gate);
    }
}

/* The same in the columns of m, whose weights are its own. */
static void fold_powers(const esp_model *m, const esp_groups *g)
{
    for (size_t u = 0; u < g->n_units; u++) {
        float *gate = powers_of(&g->units[u], u, NULL);

        if (has_gates(g, &g->units[u])) {
            own_weights_scale(m, &g->units[u], gate);
        }
        free(gate);
    }
}

/* The folded model has the same bits, and m times the gradient: with L(m W), d/dm' at gates m' = 1. */
static void check_folded(const fixture *t)
{
    esp_model dense, folded;
    outcome gated, other;
    esp_gates gates;
    double *of_gate;

    CU_ASSERT_EQUAL(esp_model_load(&dense, t->golden.model.dir, MPI_COMM_SELF), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&folded, t->golden.model.dir, MPI_COMM_SELF), ESP_OK);
    own_weights(&dense);
    own_weights(&folded);
    esp_gates_init(&gates, &dense);
    set_powers(&gates, &t->groups, NULL);
    fold_powers(&folded, &t->groups);
    run(&gated, &dense, &t->groups, &t->golden.samples, &gates);
    run(&other, &folded, &t->groups, &t->golden.samples, NULL);
    of_gate = gated.gate;
    for (size_t u = 0; u < t->groups.n_units; u++) {
        for (size_t i = 0;
             has_gates(&t->groups, &t->groups.units[u]) && i < t->groups.units[u].n_groups; i++) {
            *of_gate++ *= (double)power(u, i);
        }
    }
    check_same(t, &gated, &other, "gates folded into weights");
    outcome_free(&gated);
    outcome_free(&other);
    esp_gates_free(&gates);
    own_weights_free(&dense);
    own_weights_free(&folded);
    esp_model_free(&dense);
    esp_model_free(&folded);
}

static void test_folded(void)
{
    fixture_each(false, check_folded);
    fixture_each(true, check_folded);
}

/* ---- differences --------------------------------------------------------------------------------- */

/* Sum over samples of their mean loss, of the plain model with gates. */
static double plain_objective(const fixture *t, const esp_gates *gates)
{
    const esp_samples *s = &t->golden.samples;
    size_t V = t->golden.model.dims.vocab;
    double *logits = plain_logits(&t->golden.model, s, NULL, NULL, gates), sum = 0;

    for (size_t j = 0; j < s->n; j++) {
        double of_sample = 0;

        for (size_t at = s->start[j]; at + 1 < s->start[j + 1]; at++) {
            const double *row = logits + at * V;
            double most = row[0], all = 0;

            for (size_t v = 0; v < V; v++) {
                most = fmax(most, row[v]);
            }
            for (size_t v = 0; v < V; v++) {
                all += exp(row[v] - most);
            }
            of_sample += most + log(all) - row[s->ids[at + 1]];
        }
        sum += of_sample / (double)esp_samples_targets(s, j);
    }
    free(logits);
    return sum;
}

/* dL/dm to the fourth order of the step. */
static double difference(esp_gates *gates, const fixture *t, size_t u, size_t group)
{
    static const double at[] = { -2, -1, 1, 2 }, weight[] = { 1, -8, 8, -1 };
    double sum = 0;

    for (int i = 0; i < 4; i++) {
        set_powers(gates, &t->groups, &(moved){ u, group, at[i] * STEP });
        sum += weight[i] * plain_objective(t, gates);
    }
    return sum / (12 * STEP);
}

/* One group of each unit of the last layer and of the first. */
static void check_differences(const fixture *t)
{
    const esp_model *m = &t->golden.model;
    size_t last = m->dims.n_layers - 1, at = 0;
    esp_gates gates;
    outcome gated;

    esp_gates_init(&gates, m);
    set_powers(&gates, &t->groups, NULL);
    run(&gated, m, &t->groups, &t->golden.samples, &gates);
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const esp_unit *unit = &t->groups.units[u];
        size_t group = unit->n_groups / 2;

        if (has_gates(&t->groups, unit) && (unit->layer == 0 || unit->layer == last)) {
            double wanted = difference(&gates, t, u, group), found = gated.gate[at + group];
            double most = golden_largest(gated.gate, gated.n_gates);

            if (!esp_test_close(&found, &wanted, 1, most, TOLERANCE)) {
                printf("  %s, unit %zu: %.9g, not %.9g\n", m->dir, u, found, wanted);
                CU_FAIL("the gradient of a gate is not that of differences");
            }
        }
        at += has_gates(&t->groups, unit) ? unit->n_groups : 0;
    }
    CU_ASSERT_EQUAL(at, gated.n_gates);
    outcome_free(&gated);
    esp_gates_free(&gates);
}

static void test_differences(void)
{
    fixture_each(false, check_differences);
    fixture_each(true, check_differences);
}

ESP_TEST_MAIN("gates", { "gates of 1 change no bit", test_ones },
              { "gates folded into weights", test_folded },
              { "gradients against differences in f64", test_differences })
