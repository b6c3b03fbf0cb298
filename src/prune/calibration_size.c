/* calibration_size.c - what an estimate of importance takes: its backward gone through with sizes alone,
 * weight by weight in its order (calibration.c, grad_store.c, weight_importance.c). */
#include <math.h>
#include <stdlib.h>

#include "calibration_impl.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"
#include "grad_store_impl.h"
#include "scores_impl.h"

/* Rows of tiles' operands in bf16. */
enum { DY16, X16, N_ROUNDED };

/* Bytes moved per number of a matrix whose salience is made of its sums. */
#define WEIGHED 24

typedef struct walk {
    const esp_model *model;
    const esp_importance_options *options;
    const esp_grid *grid;
    esp_pipeline_stage stage;
    esp_text_size all, own;
    esp_sample_gather
        gather; /* of it what esp_sample_gather_pays and the sizes of rooms need          */
    size_t *
        factors; /* [at_once, n_slots] owned: bytes of buffers of the layers under way            */
    size_t
        *values; /* [at_once, n_values] owned: likewise of the inputs                             */
    int *input;  /* [n_slots] owned: value that a weight multiplies                               */
    size_t rounded[N_ROUNDED]; /* bytes of rooms */
    uint8_t *sides;   /* [n_layers * n_slots] owned: bit s: side s of it is in a unit asked for */
    size_t sum_bytes; /* of a number of a weight                                         */
    size_t live, peak;
    esp_importance_work *work;
    double sent; /* bytes of weight gradients that each data rank but one passes on */
} walk;

/* ---- memory --------------------------------------------------------------------------------------- */

/* Bytes that are there for a while. */
static void pass_by(walk *at, size_t bytes)
{
    at->peak = esp_max(at->peak, at->live + bytes);
}

static void hold(walk *at, size_t bytes)
{
    at->live += bytes;
    pass_by(at, 0);
}

/* A buffer that is as large as was ever needed. */
static void grow(walk *at, size_t *bytes, size_t needed)
{
    if (needed > *bytes) {
        at->live -= *bytes;
        *bytes = needed;
        hold(at, needed);
    }
}

static size_t in_memory(const walk *at, esp_factor which, size_t n_rows, size_t width)
{
    esp_spill_buffer r;
    size_t bytes = 0;

    esp_spill_buffer_make(&r, esp_grad_store_floats(which, n_rows, width), at->options->scratch,
                          &bytes);
    return bytes;
}

/* ---- which weights ---------------------------------------------------------------------------------- */

static uint8_t *sides_of(const walk *at, size_t layer, int slot)
{
    return &at->sides[esp_slot_index(at->model->arch->n_slots, layer, slot)];
}

static void mark_sides(walk *at, const esp_groups *g)
{
    ESP_NEW(at->sides, at->model->dims.n_layers * at->model->arch->n_slots);
    for (size_t u = 0; u < g->n_units; u++) {
        for (size_t i = 0; i < g->units[u].n_structures; i++) {
            const esp_structure *s = &g->units[u].structures[i];

            if (at->options->units >> g->units[u].kind & 1) {
                *sides_of(at, s->layer, s->slot) |= (uint8_t)(1u << s->side);
            }
        }
    }
}

/* ---- weights ---------------------------------------------------------------------------------------- */

static void gather(walk *at, esp_gathered what, size_t numbers)
{
    size_t bytes = esp_calloc_bytes(numbers, sizeof(float));

    at->sent += (double)(numbers * sizeof(float));
    if (at->gather.capacity[what] < numbers) {
        at->live -= at->gather.capacity[what]
                        ? esp_calloc_bytes(at->gather.capacity[what], sizeof(float))
                        : 0;
        at->gather.capacity[what] = numbers;
        hold(at, bytes);
    }
}

/* x: number of the input's value; -1: its own. */
static void gather_all(walk *at, size_t layer, const esp_weight *w, bool product,
                       bool norm_head_grad, bool looked_up, int x)
{
    size_t T = at->all.tokens;

    if (product) {
        gather(at, ESP_GATHER_DY, esp_grad_store_floats(ESP_FACTOR_DY, T, w->rows));
        if (x < 0 || x != at->gather.input || layer != at->gather.layer) {
            gather(at, ESP_GATHER_X, esp_grad_store_floats(ESP_FACTOR_X, T, w->cols));
        }
        at->gather.input = x;
        at->gather.layer = layer;
    }
    if (norm_head_grad) {
        gather(at, ESP_GATHER_NORM_HEAD, at->all.samples * w->rows);
    }
    if (looked_up) {
        gather(at, ESP_GATHER_IDS, T);
        gather(at, ESP_GATHER_DX, T * w->cols);
    }
}

/* As esp_weight_importance_add. */
static void add_matrix(walk *at, size_t layer, int slot, bool product, bool norm_head_grad,
                       bool looked_up, int x)
{
    const esp_weight *w = esp_model_weight(at->model, layer, slot);
    unsigned sides = *sides_of(at, layer, slot);
    double n = (double)w->rows * (double)w->cols;
    size_t T = at->own.tokens;

    if (!sides) {
        return;
    }
    at->work->numbers += n;
    if (esp_sample_gather_pays(&at->gather, w, product, looked_up, at->sum_bytes)) {
        if (at->grid->n_data > 1) {
            gather_all(at, layer, w, product, norm_head_grad, looked_up, x);
        }
        at->work->gathered += product ? n : 0;
        T = at->all.tokens;
    } else {
        at->sent += n * (double)at->sum_bytes;
        at->work->summed += product ? n : 0;
    }
    if (product && at->model->precision == ESP_PRECISION_BF16) {
        grow(at, &at->rounded[DY16], esp_calloc_bytes(T * w->rows, sizeof(uint16_t)));
        grow(at, &at->rounded[X16], esp_calloc_bytes(T * w->cols, sizeof(uint16_t)));
    }
    if (sides >> ESP_ROWS & 1 && w->has_bias) {
        at->sent += 16.0 * (double)w->rows;
    }
}

/* As esp_weight_importance_add_norm. */
static void add_norm(walk *at, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(at->model, layer, slot);

    if (*sides_of(at, layer, slot) >> ESP_ROWS & 1) {
        at->sent += (w->has_bias ? 32.0 : 16.0) * (double)w->rows;
    }
}

/* ---- the backward ------------------------------------------------------------------------------------- */

/* Bytes that are kept of the gradients of a norm; of a matrix outside of blocks. */
static size_t norm_kept(const walk *at, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(at->model, layer, slot);
    size_t bytes = in_memory(at, ESP_FACTOR_DY, at->own.samples, w->rows);

    return *sides_of(at, layer, slot) ? bytes * (w->has_bias ? 2 : 1) : 0;
}

static size_t head_kept(const walk *at, int slot)
{
    const esp_weight *w = esp_model_weight(at->model, ESP_NO_LAYER, slot);

    return *sides_of(at, ESP_NO_LAYER, slot)
               ? in_memory(at, ESP_FACTOR_DY, at->own.tokens, w->rows) +
                     in_memory(at, ESP_FACTOR_X, at->own.tokens, w->cols)
               : 0;
}

static bool has_norm_head_grad(const walk *at)
{
    return at->model->normalized_head && at->options->units >> ESP_UNIT_HIDDEN & 1;
}

/* Head and final norm. What is kept of a tied head stays until its table has been looked up. */
static size_t walk_loss(walk *at, size_t scratch)
{
    int slot = at->model->tied ? ESP_SLOT_EMBED : ESP_SLOT_HEAD;
    size_t kept = head_kept(at, slot), norm = norm_kept(at, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM);

    if (!at->stage.last) {
        return 0;
    }
    hold(at, kept);
    pass_by(at, scratch);
    pass_by(at, norm);
    add_norm(at, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM);
    if (at->model->tied) {
        return kept;
    }
    add_matrix(at, ESP_NO_LAYER, slot, true, has_norm_head_grad(at), false, -1);
    at->live -= kept;
    return 0;
}

/* Buffers of a layer grow to those of the largest, as in esp_grad_store_linear and esp_grad_store_norm. */
static void store_layer(walk *at, size_t layer)
{
    const esp_arch *a = at->model->arch;
    size_t place = (layer - at->stage.begin) % at->stage.at_once;
    size_t *dy = at->factors + place * a->n_slots, *x = at->values + place * a->n_values;

    for (size_t i = 0; i < a->n_ops; i++) {
        const esp_op *op = &a->ops[i];
        const esp_weight *w;

        if ((op->kind != ESP_OP_LINEAR && op->kind != ESP_OP_NORM) ||
            !*sides_of(at, layer, op->slot)) {
            continue;
        }
        w = esp_model_weight(at->model, layer, op->slot);
        if (op->kind == ESP_OP_NORM) {
            grow(at, &dy[op->slot], norm_kept(at, layer, op->slot));
            continue;
        }
        grow(at, &dy[op->slot], in_memory(at, ESP_FACTOR_DY, at->own.tokens, w->rows));
        grow(at, &x[op->in[0]], in_memory(at, ESP_FACTOR_X, at->own.tokens, w->cols));
        at->input[op->slot] = op->in[0];
    }
}

static void flush_layer(walk *at, size_t layer)
{
    const esp_arch *a = at->model->arch;

    for (int slot = ESP_SLOT_BLOCK; slot < (int)a->n_slots; slot++) {
        if (a->slots[slot].cols != ESP_W_ONE) {
            add_matrix(at, layer, slot, true, false, false, at->input[slot]);
        } else {
            add_norm(at, layer, slot);
        }
    }
}

static void walk_layers(walk *at, size_t scratch)
{
    size_t end = at->stage.end;

    do {
        size_t first = end - at->stage.at_once;

        for (size_t l = end; l-- > first;) {
            store_layer(at, l);
        }
        pass_by(at, scratch);
        for (size_t l = end; l-- > first;) {
            flush_layer(at, l);
        }
        end = first;
    } while (end > at->stage.begin);
}

/* The tables, with what is kept of a tied head; it is added up where the head is. */
static void walk_tables(walk *at, size_t kept, size_t scratch)
{
    const esp_model *m = at->model;
    bool hidden = at->options->units >> ESP_UNIT_HIDDEN & 1;
    bool elsewhere = m->tied && at->grid->n_pipeline > 1;
    size_t D = m->dims.hidden;

    if (at->stage.first) {
        pass_by(at, scratch);
        hold(at, norm_kept(at, ESP_NO_LAYER, ESP_SLOT_EMBED_NORM));
        add_norm(at, ESP_NO_LAYER, ESP_SLOT_EMBED_NORM);
    }
    for (size_t i = m->arch->n_embedding; hidden && at->stage.first && i-- > 0;) {
        int slot = m->arch->embedding[i].slot;
        bool table = m->arch->embedding[i].kind == ESP_OP_LOOKUP;

        if (table && !(slot == ESP_SLOT_EMBED && elsewhere)) {
            bool head = slot == ESP_SLOT_EMBED && m->tied;

            add_matrix(at, ESP_NO_LAYER, slot, head, head && has_norm_head_grad(at), true, -1);
        }
    }
    if (hidden && elsewhere && at->stage.last) {
        size_t bytes = esp_calloc_bytes(at->own.tokens * D, sizeof(float));

        hold(at, bytes);
        add_matrix(at, ESP_NO_LAYER, ESP_SLOT_EMBED, true, has_norm_head_grad(at), true, -1);
        at->live -= bytes;
    }
    at->live -= kept;
}

static void walk_gradients(walk *at, const esp_pass_options *o)
{
    const esp_model *m = at->model;
    esp_pass_scratch scratch = esp_pass_scratch_bytes(m, *o);
    size_t kept;

    hold(at, esp_calloc_bytes(at->all.samples, sizeof(double)) +
                 esp_batch_bytes(o->max_samples, o->max_tok) +
                 esp_calloc_bytes(o->max_samples, sizeof(float)) +
                 esp_calloc_bytes(o->max_samples, sizeof(esp_loss)) + esp_pass_bytes(m, *o) +
                 (has_norm_head_grad(at)
                      ? esp_calloc_bytes(o->max_samples * m->dims.vocab, sizeof(float))
                      : 0) +
                 esp_grad_store_bytes(m, &at->stage));
    ESP_NEW(at->factors, at->stage.at_once * m->arch->n_slots);
    ESP_NEW(at->values, at->stage.at_once * m->arch->n_values);
    ESP_NEW(at->input, m->arch->n_slots);
    pass_by(at, scratch.blocks);
    kept = walk_loss(at, scratch.loss);
    walk_layers(at, scratch.blocks);
    walk_tables(at, kept, scratch.embedding);
    free(at->factors);
    free(at->values);
    free(at->input);
}

/* What the numbers of all matrices and the pass come to. Products with all samples are shared out by tiles,
 * those with own samples by samples, of which this rank may have more than others. */
static void add_work(walk *at, const esp_pass_options *pass)
{
    esp_importance_work *w = at->work;
    double data = (double)at->grid->n_data, n = (double)at->all.samples;
    double own = (double)at->own.samples * data / n;
    double numbers = (w->gathered + w->summed * own) / data;
    double chunks = ceil((double)at->own.tokens / (double)pass->chunk_tok);
    double head = esp_pass_sent(at->model, at->grid, (double)at->all.tokens, ESP_PASS_FORWARD);

    w->work = esp_pass_work(at->model, at->grid, at->own, at->grid->n_pipeline > 1 ? chunks : 1,
                            ESP_PASS_BACKWARD);
    w->work.chunks = chunks;
    w->work.products += numbers * 2 * (double)at->all.tokens;
    *(at->sum_bytes == 16 ? &w->work.gf : &w->work.g) = numbers * n;
    w->work.moved += w->numbers * WEIGHED / data;
    w->weight_gradients = esp_moved_bytes(ESP_COST_REDUCE_SCATTER, at->sent, at->grid->n_data);
    w->activations = esp_pass_sent(at->model, at->grid, (double)at->all.tokens, ESP_PASS_BACKWARD);
    if (at->model->tied && at->grid->n_pipeline > 1 && at->options->units >> ESP_UNIT_HIDDEN & 1) {
        w->activations += head / (at->grid->n_pipeline - 1); /* from the embedding to the head */
    }
}

void esp_importance_work_of(esp_importance_work *w, const esp_model *m, const esp_groups *g,
                            const esp_importance_options *o, esp_text_size all, esp_text_size own,
                            const esp_grid *grid)
{
    bool gradients = esp_criteria_need(o->criteria, ESP_NEEDS_GRADIENT);
    esp_pass_options pass = esp_calibration_pass(own, o, grid);
    walk at = { .model = m,
                .options = o,
                .grid = grid,
                .stage = esp_pipeline_stage_of(m, grid),
                .all = all,
                .own = own,
                .gather = { .grid = grid, .n_tok = all.tokens, .input = -1 },
                .sum_bytes = esp_criteria_need(o->criteria, ESP_NEEDS_FISHER) ? 16 : 8,
                .work = w };

    *w = (esp_importance_work){ 0 };
    hold(&at, esp_scores_bytes(g, o->criteria, o->aggregations, o->units));
    hold(&at, esp_saliency_sums_bytes(&w->n_sums, m, g, o->units, o->criteria));
    if (esp_criteria_need(o->criteria, ESP_NEEDS_WEIGHTS)) {
        hold(&at, esp_weight_importance_bytes(o->criteria, m, gradients ? all.samples : 0,
                                              gradients ? own.samples : 0, grid));
    }
    if (gradients) {
        mark_sides(&at, g);
        walk_gradients(&at, &pass);
        add_work(&at, &pass);
        free(at.sides);
    }
    w->bytes = at.peak;
    w->sums = gradients ? esp_moved_bytes(ESP_COST_ALLREDUCE, sizeof(double) * (double)w->n_sums,
                                          grid->size)
                        : 0;
}
