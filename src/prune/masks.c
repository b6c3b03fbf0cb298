/* masks.c - gates on heads and neurons, trained under a budget (docs/method.md, eq. 50-53). */
#include "espalier/masks.h"

#include <math.h>
#include <stdlib.h>

#include "candidates_impl.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"
#include "gate_sums_impl.h"
#include "scores_impl.h"

#define EXACT       0x1p40 /* gradients are multiples of its inverse: sums below 2^12 are exact */
#define WIDTH       0.5    /* of the border between 0 and 1, at first */
#define LEAST_WIDTH 0.01   /* and at the end */
#define RISE        0.5    /* part of the steps after which the budget is complete */
#define MEMORY      0.95   /* of the mean square of gradients, from step to step */
#define MOST_CUT    0.95   /* of a pool */
#define HALVINGS    60     /* until the border is found */

/* Numbers that share a budget: those of a unit, or of all. */
typedef struct pool {
    size_t begin, end;
    double cut;    /* share of the weights that goes in the end          */
    double square; /* mean square of gradients, a running mean           */
    double border; /* numbers above it by the width have a gate of 1     */
} pool;

typedef struct masks {
    const esp_model *model;
    const esp_groups *groups;
    const esp_plan_options *plan;
    const esp_mask_options *options;
    const esp_grid *grid;
    size_t n;                   /* groups that may go                                       */
    size_t n_pools;             /* of them                                                  */
    pool *pools;                /* [n_pools] owned                                          */
    size_t *place;              /* [n_units] owned: the unit's first number; SIZE_MAX: none */
    double *number;             /* [n] owned                                                */
    double *weight;             /* [n] owned: what a group counts in its pool               */
    double *sum;                /* [n + 1] owned: gradients of the gates of a step, and its loss */
    double *channel, *of_group; /* [widest value] owned: scratch of a sample    */
    float *gate;                /* [widest value] owned: gates of a unit        */
    esp_gates gates;
    esp_pass pass;
    esp_batch batch;
    size_t *pick;   /* [room] owned: samples of this rank in a step */
    float *scale;   /* [room] owned                                 */
    esp_loss *loss; /* [room] owned                                 */
} masks;

/* ---- what is trained ----------------------------------------------------------------------------- */

/* Numbers of the weights that a group of a unit takes with it. */
static double numbers_per_group(const esp_model *m, const esp_unit *u)
{
    double n = 0;

    for (size_t i = 0; i < u->n_structures; i++) {
        const esp_structure *s = &u->structures[i];
        const esp_weight *w = esp_model_weight(m, s->layer, s->slot);
        size_t each = s->side == ESP_ROWS ? w->cols + w->has_bias : w->rows;

        for (size_t k = 0; k < s->length; k++) {
            n += s->channel[k] >= 0 ? (double)each : 0;
        }
    }
    return n / (double)u->n_groups;
}

static double share_left(const esp_model *m, const esp_plan_options *o)
{
    esp_cost cost = esp_model_cost(m, o->target_tokens);
    double dense = o->target_kind == ESP_TARGET_PARAMETERS ? (double)cost.parameters
                   : o->target_kind == ESP_TARGET_MACS     ? (double)cost.macs
                                                           : (double)cost.bytes;

    return o->target <= 1 ? o->target : o->target / dense;
}

/* Share of the groups that goes in the end. A target is turned into parameters: the plan meets it. */
static double share_cut(const masks *t, const esp_unit *u, double numbers)
{
    const esp_plan_options *o = t->plan;
    esp_unit_candidates of = { .kind = u->kind };
    double all = (double)esp_model_cost(t->model, 1).parameters;

    if (o->target_kind == ESP_TARGET_NONE) {
        return fmin(o->global ? o->ratio : esp_unit_ratio(&of, o), MOST_CUT);
    }
    return fmin(fmax((1 - share_left(t->model, o)) * all / numbers, 0), MOST_CUT);
}

static bool is_trained(const masks *t, size_t u)
{
    return t->place[u] != SIZE_MAX;
}

/* Of sizes alone there is no array but place, which is freed by free_places. */
static double find_places(masks *t)
{
    double numbers = 0;

    ESP_NEW(t->place, t->groups->n_units);
    for (size_t u = 0; u < t->groups->n_units; u++) {
        const esp_unit *unit = &t->groups->units[u];
        bool wanted = unit->kind != ESP_UNIT_HIDDEN && esp_unit_may_cut(t->plan, unit);

        t->place[u] = wanted ? t->n : SIZE_MAX;
        t->n += wanted ? unit->n_groups : 0;
        t->n_pools += wanted;
        numbers += wanted ? numbers_per_group(t->model, unit) * (double)unit->n_groups : 0;
    }
    t->n_pools = t->plan->global ? 1 : t->n_pools;
    return numbers;
}

static void set_pools(masks *t, double numbers)
{
    bool by_numbers = t->plan->target_kind != ESP_TARGET_NONE;
    size_t k = 0;

    for (size_t u = 0; u < t->groups->n_units; u++) {
        const esp_unit *unit = &t->groups->units[u];
        double each = by_numbers ? numbers_per_group(t->model, unit) : 1;

        if (!is_trained(t, u)) {
            continue;
        }
        if (!t->plan->global || k == 0) {
            t->pools[k++] = (pool){ .begin = t->place[u], .cut = share_cut(t, unit, numbers) };
        }
        t->pools[k - 1].end = t->place[u] + unit->n_groups;
        for (size_t i = 0; i < unit->n_groups; i++) {
            t->weight[t->place[u] + i] = each;
        }
    }
}

/* ---- memory -------------------------------------------------------------------------------------- */

static size_t widest_unit(const esp_groups *g)
{
    size_t widest = 0;

    for (size_t u = 0; u < g->n_units; u++) {
        if (g->units[u].kind != ESP_UNIT_HIDDEN) {
            widest = esp_max(widest, esp_unit_columns(&g->units[u])->length);
        }
    }
    return widest;
}

/* Of a rank's samples in a step, at least one. */
static esp_text_size text_of_step(size_t longest, const esp_mask_options *o, const esp_grid *grid)
{
    size_t n = (o->batch + (size_t)grid->n_data - 1) / (size_t)grid->n_data;

    return (esp_text_size){ .samples = n, .tokens = n * longest, .longest = longest };
}

static esp_pass_options pass_options(esp_text_size t, const esp_grid *grid)
{
    return (esp_pass_options){ .max_samples = t.samples,
                               .max_tok = t.tokens,
                               .chunk_tok = esp_min(esp_importance_chunk(t.tokens, t.longest, grid),
                                                    t.tokens),
                               .longest = t.longest,
                               .backward = true,
                               .gates = true,
                               .grid = grid };
}

static void make_arrays(masks *t, size_t room, size_t *bytes)
{
    size_t widest = widest_unit(t->groups);

    ESP_MAKE(t->pools, t->n_pools, bytes);
    ESP_MAKE(t->number, t->n, bytes);
    ESP_MAKE(t->weight, t->n, bytes);
    ESP_MAKE(t->sum, t->n + 1, bytes);
    ESP_MAKE(t->channel, widest, bytes);
    ESP_MAKE(t->of_group, widest, bytes);
    ESP_MAKE(t->gate, widest, bytes);
    ESP_MAKE(t->pick, room, bytes);
    ESP_MAKE(t->scale, room, bytes);
    ESP_MAKE(t->loss, room, bytes);
}

static void masks_init(masks *t, size_t longest)
{
    double numbers = find_places(t);
    esp_text_size own = text_of_step(longest, t->options, t->grid);
    esp_pass_options options = pass_options(own, t->grid);

    make_arrays(t, own.samples, NULL);
    set_pools(t, numbers);
    for (size_t i = 0; i < t->n; i++) {
        t->number[i] = 1;
    }
    esp_gates_init(&t->gates, t->model);
    esp_pass_init(&t->pass, t->model, options);
    t->pass.gates = &t->gates;
    esp_model_batch_init(&t->batch, t->model, own.samples, own.tokens);
    t->batch.chunk_tok = options.chunk_tok;
}

static void masks_free(masks *t)
{
    esp_pass_free(&t->pass);
    esp_batch_free(&t->batch);
    esp_gates_free(&t->gates);
    free(t->pools);
    free(t->place);
    free(t->number);
    free(t->weight);
    free(t->sum);
    free(t->channel);
    free(t->of_group);
    free(t->gate);
    free(t->pick);
    free(t->scale);
    free(t->loss);
}

void esp_mask_work_of(esp_mask_work *w, const esp_model *m, const esp_groups *g, esp_text_size all,
                      const esp_plan_options *plan, const esp_mask_options *o, const esp_grid *grid)
{
    masks t = { .model = m, .groups = g, .plan = plan, .options = o, .grid = grid };
    esp_text_size own = text_of_step(all.longest, o, grid);
    esp_pass_options options = pass_options(own, grid);
    esp_pass_scratch scratch = esp_pass_scratch_bytes(m, options);
    double chunks = grid->n_pipeline > 1 ? ceil((double)own.tokens / (double)options.chunk_tok) : 1;
    double tokens = (double)(o->steps * o->batch * all.longest);

    find_places(&t);
    *w = (esp_mask_work){ .bytes = esp_calloc_bytes(g->n_units, sizeof *t.place) };
    make_arrays(&t, own.samples, &w->bytes);
    w->bytes += esp_gates_bytes(m) + esp_pass_bytes(m, options) +
                esp_batch_bytes(own.samples, own.tokens) +
                esp_max(scratch.blocks, esp_max(scratch.loss, scratch.embedding));
    w->step = esp_pass_work(m, grid, own, chunks, ESP_PASS_BACKWARD, 0);
    w->sums = (double)o->steps *
              esp_moved_bytes(ESP_COST_ALLREDUCE, (double)((t.n + 1) * sizeof *t.sum), grid->size);
    w->activations = esp_pass_sent(m, grid, tokens, ESP_PASS_BACKWARD);
    free(t.place);
}

/* ---- gates under a budget ------------------------------------------------------------------------ */

/* docs/method.md, eq. 50 */
static double gate_of(double number, double border, double width)
{
    return fmin(fmax((number - border) / width, 0), 1);
}

static double weight_kept(const masks *t, const pool *p, double border, double width)
{
    double kept = 0;

    for (size_t i = p->begin; i < p->end; i++) {
        kept += t->weight[i] * gate_of(t->number[i], border, width);
    }
    return kept;
}

/* The border with which a share of the weights is kept (eq. 51). */
static void set_border(const masks *t, pool *p, double share, double width)
{
    double low = INFINITY, high = -INFINITY, all = 0;

    for (size_t i = p->begin; i < p->end; i++) {
        low = fmin(low, t->number[i] - width);
        high = fmax(high, t->number[i]);
        all += t->weight[i];
    }
    for (int i = 0; i < HALVINGS; i++) {
        double middle = low + (high - low) / 2;

        if (weight_kept(t, p, middle, width) >= share * all) {
            low = middle;
        } else {
            high = middle;
        }
    }
    p->border = low;
}

static const pool *pool_of(const masks *t, size_t u)
{
    size_t k = 0;

    while (t->pools[k].end <= t->place[u]) {
        k++;
    }
    return &t->pools[k];
}

static void set_gates(masks *t, double part)
{
    double width = fmax(WIDTH * (1 - part), LEAST_WIDTH), risen = fmin(part / RISE, 1);

    for (size_t k = 0; k < t->n_pools; k++) {
        set_border(t, &t->pools[k], 1 - t->pools[k].cut * risen, width);
    }
    esp_gates_reset(&t->gates);
    for (size_t u = 0; u < t->groups->n_units; u++) {
        const esp_unit *unit = &t->groups->units[u];

        for (size_t i = 0; is_trained(t, u) && i < unit->n_groups; i++) {
            t->gate[i] = (float)gate_of(t->number[t->place[u] + i], pool_of(t, u)->border, width);
        }
        if (is_trained(t, u)) {
            esp_unit_scale_gates(&t->gates, unit, t->gate);
        }
    }
}

/* ---- a step -------------------------------------------------------------------------------------- */

/* Gradients of a sample's gates, rounded, to the sums. */
static void take_value(void *ctx, size_t layer, int value, const float *x, const float *dx,
                       const esp_batch *chunk)
{
    masks *t = ctx;

    for (size_t u = 0; u < t->groups->n_units; u++) {
        const esp_unit *unit = &t->groups->units[u];

        if (!is_trained(t, u) || unit->layer != layer ||
            esp_arch_linear(t->model->arch, esp_unit_columns(unit)->slot)->in[0] != value) {
            continue;
        }
        for (size_t j = 0; j < chunk->n_samples; j++) {
            esp_gate_gradients(t->of_group, t->channel, unit, x, dx, chunk->start[j],
                               chunk->start[j + 1]);
            for (size_t i = 0; i < unit->n_groups; i++) {
                t->sum[t->place[u] + i] += rint(t->of_group[i] * EXACT) / EXACT;
            }
        }
    }
}

/* This rank's samples of a step; without any, one that counts nothing, so that the rank keeps step. */
static size_t fill_batch(masks *t, const esp_samples *samples, size_t step)
{
    size_t n = 0, batch = t->options->batch;

    t->pick[0] = 0;
    t->scale[0] = 0;
    for (size_t j = (size_t)t->grid->i_data; j < batch; j += (size_t)t->grid->n_data) {
        size_t pick = (step * batch + j) % samples->n;

        t->pick[n] = pick;
        t->scale[n++] = 1 / ((float)esp_samples_targets(samples, pick) * (float)batch);
    }
    esp_batch_fill(&t->batch, samples, t->pick, esp_max(n, 1));
    return n;
}

static void add_losses(masks *t, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        double mean = t->loss[j].sum / fmax((double)t->loss[j].count, 1);

        t->sum[t->n] += rint(mean / (double)t->options->batch * EXACT) / EXACT;
    }
}

static void sum_gradients(masks *t, const esp_samples *samples, size_t step)
{
    const esp_sink sink = { .ctx = t, .value = take_value };
    size_t n = fill_batch(t, samples, step);

    for (size_t i = 0; i <= t->n; i++) {
        t->sum[i] = 0;
    }
    esp_pass_forward(&t->pass, NULL, &t->batch);
    esp_pass_loss(&t->pass, t->loss, t->scale, NULL, &t->batch);
    esp_pass_backward(&t->pass, &sink, &t->batch);
    add_losses(t, n);
    esp_sent(ESP_SENT_SUMS, ESP_COST_ALLREDUCE, (t->n + 1) * sizeof *t->sum, t->grid->world);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, t->sum, esp_count(t->n + 1), MPI_DOUBLE, MPI_SUM,
                          t->grid->world));
}

/* docs/method.md, eq. 52 */
static void move(const masks *t, pool *p, size_t step)
{
    double square = 0, of_mean;

    for (size_t i = p->begin; i < p->end; i++) {
        square += t->sum[i] * t->sum[i];
    }
    square /= (double)(p->end - p->begin);
    p->square = MEMORY * p->square + (1 - MEMORY) * square;
    of_mean = sqrt(p->square / (1 - pow(MEMORY, (double)step + 1)));
    for (size_t i = p->begin; of_mean > 0 && i < p->end; i++) {
        t->number[i] -= t->options->learning_rate * t->sum[i] / of_mean;
    }
}

/* All ranks have the same sums. */
static esp_status check_sums(const masks *t, size_t step)
{
    for (size_t i = 0; i <= t->n; i++) {
        if (!isfinite(t->sum[i])) {
            return esp_fail(ESP_EFORMAT,
                            "masks: step %zu of %zu: the %s is not finite: lower "
                            "masks.learning_rate, or leave that text out",
                            step + 1, t->options->steps, i == t->n ? "loss" : "gradient of a gate");
        }
    }
    return ESP_OK;
}

static esp_status train(masks *t, const esp_samples *samples)
{
    size_t n = t->options->steps;

    for (size_t k = 0; k < n; k++) {
        set_gates(t, (double)k / (double)n);
        sum_gradients(t, samples, k);
        ESP_TRY(check_sums(t, k));
        for (size_t i = 0; i < t->n_pools; i++) {
            move(t, &t->pools[i], k);
        }
        if (k == 0 || k + 1 == n) {
            esp_info("masks: step %zu of %zu: loss %.4f", k + 1, n, t->sum[t->n]);
        }
        esp_progress("masks", k + 1, n);
    }
    set_gates(t, 1);
    return ESP_OK;
}

/* ---- scores -------------------------------------------------------------------------------------- */

/* docs/method.md, eq. 53. By all aggregations alike; a unit that was not trained has none. */
static void fill_unit(esp_scores *s, const masks *t, size_t u)
{
    const esp_unit *unit = &t->groups->units[u];

    for (esp_aggregation a = 0; a < ESP_N_AGGREGATIONS; a++) {
        double **score = esp_scores_place(s, unit, ESP_MASKS, a);

        if (!is_trained(t, u)) {
            free(*score);
            *score = NULL;
        }
        for (size_t i = 0; *score && i < unit->n_groups; i++) {
            (*score)[i] = exp(t->number[t->place[u] + i] - pool_of(t, u)->border);
        }
    }
}

static esp_status check_samples(const esp_samples *samples)
{
    for (size_t j = 0; j < samples->n; j++) {
        if (esp_samples_targets(samples, j) == 0) {
            return esp_fail(ESP_EUSAGE,
                            "masks: sample %zu of %zu predicts nothing: it needs two tokens or "
                            "more",
                            j, samples->n);
        }
    }
    return ESP_OK;
}

esp_status esp_masks_train(esp_scores *s, const esp_model *m, const esp_groups *g,
                           const esp_samples *samples, const esp_plan_options *plan,
                           const esp_mask_options *o, const esp_grid *grid)
{
    masks t = { .model = m, .groups = g, .plan = plan, .options = o, .grid = grid };
    esp_status st;

    ESP_TRY(esp_agree(grid->world, check_samples(samples)));
    masks_init(&t, esp_samples_longest(samples));
    st = train(&t, samples);
    for (size_t u = 0; st == ESP_OK && u < g->n_units; u++) {
        fill_unit(s, &t, u);
    }
    masks_free(&t);
    return st == ESP_OK ? esp_agree(grid->world, esp_scores_check(s)) : st;
}
