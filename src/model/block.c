/* block.c - one block: its weights, forward and backward over the operations of the family.
 *
 * Letters: D model width, d head dimension; n_tok rows of the batch.
 */
#include "block_impl.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

/* Of esp_block_work, fitted to make bench: FLOP of attention backward per FLOP of a forward; bytes moved per
 * number of a block's values by norms, gates, additions. */
#define ATTENTION_BACK 2.5
#define VALUE_BYTES    15.0

/* ---- weights ---- */

/* The weights of a layer: of the one that was loaded last, or of all. */
static esp_f32 *weights_of(const esp_pass *p, size_t layer)
{
    return p->block->weights +
           esp_slot_index(p->model->arch->n_slots, p->options.resident ? layer : 0, 0);
}

static void load_layer(esp_pass *p, size_t layer)
{
    const esp_arch *a = p->model->arch;
    esp_f32 *weights = weights_of(p, layer), *first = &weights[ESP_SLOT_BLOCK];

    if (p->options.resident ? first->w || first->matrix.at : p->block->loaded == layer) {
        return;
    }
    for (int slot = ESP_SLOT_BLOCK; slot < (int)a->n_slots; slot++) {
        const esp_weight *w = esp_model_weight(p->model, layer, slot);

        if (a->slots[slot].cols == ESP_W_ONE) {
            esp_f32_load(&weights[slot], w, esp_slot_weight_offset(a, slot));
        } else {
            esp_matrix_load(&weights[slot], w, p);
        }
    }
    p->block->loaded = layer;
}

/* ---- scratch ---- */

int esp_block_output(const esp_arch *a)
{
    return a->ops[a->n_ops - 1].out;
}

/* Whether the backward of an operation reads its inputs. */
static bool reads_inputs(esp_op_kind k)
{
    return k != ESP_OP_ADD && k != ESP_OP_ROTARY && k != ESP_OP_ROTARY_BLOCK && k != ESP_OP_SLICE;
}

bool esp_block_reads(const esp_arch *a, int value)
{
    bool reads = false;

    for (size_t i = 0; i < a->n_ops; i++) {
        for (int k = 0; k < 3; k++) {
            reads |= a->ops[i].in[k] == value && reads_inputs(a->ops[i].kind);
        }
    }
    return reads && value != 0;
}

/* Marks the operations whose results some backward reads, and what those are made of. */
static void find_redo(bool *redo, const esp_arch *a)
{
    bool *read = NULL;

    ESP_NEW(read, a->n_values);
    for (size_t i = a->n_ops; i-- > 0;) {
        const esp_op *op = &a->ops[i];

        redo[i] = read[op->out];
        for (int k = 0; k < 3; k++) {
            if (op->in[k] >= 0 && (reads_inputs(op->kind) || redo[i])) {
                read[op->in[k]] = true;
            }
        }
    }
    free(read);
}

static size_t widest_in_model(const esp_model *m, esp_width w)
{
    size_t widest = 0;

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        widest = esp_max(widest, esp_model_width(m, l, w));
    }
    return widest;
}

/* Rows of the widest norm, in or outside the blocks. */
static size_t widest_norm(const esp_model *m)
{
    return esp_max(m->dims.hidden, m->dims.head_dim);
}

/* Room for the weights of a layer, as large as those of any layer; or, resident, of each. */
static void make_weights(esp_block *b, const esp_model *m, esp_pass_options o, size_t *bytes)
{
    esp_pipeline_stage s = esp_pipeline_stage_of(m, o.grid);
    size_t n_slots = m->arch->n_slots;

    for (int slot = ESP_SLOT_BLOCK; slot < (int)n_slots; slot++) {
        esp_f32 f = { 0 };

        for (size_t l = s.begin; l < s.end; l++) {
            const esp_weight *w = esp_model_weight(m, l, slot);

            if (m->arch->slots[slot].cols == ESP_W_ONE) {
                esp_f32_fit_vector(&f, w);
            } else {
                esp_f32_fit_matrix(&f, w, m->precision);
            }
            if (!o.resident && l + 1 < s.end) {
                continue;
            }
            esp_f32_make(&f, bytes);
            if (!bytes) {
                b->weights[esp_slot_index(n_slots, o.resident ? l : 0, slot)] = f;
            }
            f = (esp_f32){ 0 };
        }
    }
}

static void make_block(esp_block *b, const esp_model *m, esp_pass_options o, size_t *bytes)
{
    const esp_arch *a = m->arch;
    size_t widest = 0;

    *b = (esp_block){ .loaded = ESP_NO_LAYER,
                      .n_weights = a->n_slots * (o.resident ? m->dims.n_layers : 1) };
    ESP_MAKE(b->value, a->n_values, bytes);
    ESP_MAKE(b->scratch, a->n_values, bytes);
    ESP_MAKE(b->grad, a->n_values, bytes);
    ESP_MAKE(b->gated, a->n_values, bytes);
    ESP_MAKE(b->redo, a->n_ops, bytes);
    ESP_MAKE(b->weights, b->n_weights, bytes);
    make_weights(b, m, o, bytes);
    for (int v = 1; v < (int)a->n_values; v++) {
        size_t width = widest_in_model(m, a->values[v]);

        widest = esp_max(widest, width);
        ESP_MAKE(b->scratch[v], o.chunk_tok * width, bytes);
        if (o.backward && v != esp_block_output(a)) {
            ESP_MAKE(b->grad[v], o.chunk_tok * width, bytes);
        }
        if (o.gates && esp_arch_has_gate(a, v)) {
            ESP_MAKE(b->gated[v], o.chunk_tok * width, bytes);
        }
    }
    if (o.backward) {
        ESP_MAKE(b->norm_grad, 2 * o.max_samples * widest_norm(m), bytes);
        ESP_MAKE(b->row_start, o.max_samples + 1, bytes);
    }
    if (o.rank > 0) {
        ESP_MAKE(b->low, o.chunk_tok * o.rank, bytes);
        ESP_MAKE(b->dlow, o.chunk_tok * o.rank, bytes);
        ESP_MAKE(b->dropped, o.chunk_tok * widest, bytes);
    }
}

void esp_block_init(esp_block *b, const esp_model *m, esp_pass_options o)
{
    make_block(b, m, o, NULL);
    find_redo(b->redo, m->arch);
}

size_t esp_block_bytes(const esp_model *m, esp_pass_options o)
{
    esp_block b;
    size_t bytes = 0;

    make_block(&b, m, o, &bytes);
    return bytes;
}

/* Backward computes again what it reads, unless that is kept, then the gradients of inputs. */
esp_work esp_block_work(const esp_model *m, size_t layer, esp_text_size t, double reads,
                        esp_pass_way way, bool kept)
{
    const esp_arch *a = m->arch;
    double tokens = (double)t.tokens, linear = 0, again = 0, bytes = 0, values = 0;
    double query = (double)esp_model_width(m, layer, ESP_W_QUERY);
    bool back = way != ESP_PASS_FORWARD, redone = back && !kept, *redo;

    ESP_NEW(redo, a->n_ops);
    find_redo(redo, a);
    for (size_t i = 0; i < a->n_ops; i++) {
        const esp_op *op = &a->ops[i];

        values += (double)esp_model_width(m, layer, a->values[op->out]);
        if (op->kind == ESP_OP_LINEAR) {
            const esp_weight *w = esp_model_weight(m, layer, op->slot);
            double n = (double)w->rows * (double)w->cols;

            linear += n;
            again += redo[i] ? n : 0;
            bytes += n * (double)esp_dtype_size(w->dtype);
        }
    }
    free(redo);
    return (esp_work){ .products = 2 * tokens * ((1 + way) * linear + (redone ? again : 0)),
                       .attention = (1 + (back ? ATTENTION_BACK : 0) + redone) * 2 * tokens *
                                    (double)t.longest * query,
                       .moved = (back ? 2 : 1) * reads * bytes +
                                (1 + back + redone) * VALUE_BYTES * tokens * values };
}

void esp_block_free(esp_block *b, const esp_model *m)
{
    const esp_arch *a = m->arch;
    int output = esp_block_output(a);

    for (int v = 1; b->scratch && v < (int)a->n_values; v++) {
        free(b->scratch[v]);
        free(b->gated[v]);
        if (v != output) {
            free(b->grad[v]);
        }
    }
    for (size_t i = 0; i < b->n_weights; i++) {
        esp_f32_free(&b->weights[i]);
    }
    free(b->value);
    free(b->scratch);
    free(b->grad);
    free(b->gated);
    free(b->redo);
    free(b->weights);
    free(b->low);
    free(b->dlow);
    free(b->dropped);
    free(b->norm_grad);
    free(b->row_start);
    *b = (esp_block){ 0 };
}

/* ---- operations ---- */

/* What an operation needs to know of its place. */
typedef struct site {
    const esp_op *op;
    const esp_model *model;
    size_t layer;
    esp_attention attention;
    esp_rotation rotation;
    const esp_batch *batch;
} site;

static site make_site(const esp_pass *p, size_t layer, const esp_op *op, const esp_batch *batch)
{
    const esp_model *m = p->model;
    const esp_layer_dims *d = &m->dims.layer[layer];
    bool by_block = op->kind == ESP_OP_ROTARY_BLOCK;

    return (site){ .op = op,
                   .model = m,
                   .layer = layer,
                   .attention = { .heads = d->heads,
                                  .kv_heads = d->kv_heads,
                                  .head_dim = m->dims.head_dim,
                                  .scale = m->attention_scale,
                                  .soft_cap = m->attention_cap,
                                  .window = d->window,
                                  .slopes = esp_model_slopes(m, layer),
                                  .prefix = esp_model_prefix_rule(m) != NULL },
                   .rotation = { .rope = &m->rope,
                                 .pairs = m->arch->rotary.pairs,
                                 .first = by_block ? m->rope.n : 0,
                                 .block_position = by_block },
                   .batch = batch };
}

static size_t width_of(const site *s, int value)
{
    return esp_model_width(s->model, s->layer, s->model->arch->values[value]);
}

static bool has_adapter(const esp_pass *p, const site *s)
{
    return p->adapter && esp_adapter_at(p->adapter, s->layer, s->op->slot);
}

/* Factors [width] of a value; NULL: none. */
static const float *gates_of(const esp_pass *p, const site *s, int value)
{
    return p->gates ? esp_gates_at(p->gates, s->layer, value) : NULL;
}

/* What operations read as a value; NULL: that of no number. */
static float *operand(const esp_pass *p, const site *s, int value)
{
    if (value < 0) {
        return NULL;
    }
    return gates_of(p, s, value) ? p->block->gated[value] : p->block->value[value];
}

/* y = m x, x and y [n_tok, width] of a value, where it has gates m. */
static void apply_gates(const esp_pass *p, const site *s, int value, float *y, const float *x)
{
    const float *m = gates_of(p, s, value);
    size_t width = width_of(s, value);

    if (!m) {
        return;
    }
#pragma omp parallel for
    for (size_t t = 0; t < s->batch->n_tok; t++) {
        for (size_t c = 0; c < width; c++) {
            y[t * width + c] = m[c] * x[t * width + c];
        }
    }
}

static void linear_forward(esp_pass *p, const site *s, float *y, const float *x)
{
    const esp_weight *w = esp_model_weight(s->model, s->layer, s->op->slot);

    esp_matrix_forward(y, x, &weights_of(p, s->layer)[s->op->slot], w, p, s->batch);
    if (has_adapter(p, s)) {
        ESP_REQUIRE(p->adapter->rank <= p->options.rank);
        esp_lora_forward(y, p->block->low, p->block->dropped, p->adapter, s->layer, s->op->slot, x,
                         w, s->batch);
    }
}

static void attention_forward(const site *s, float *out, const float *q, const float *k,
                              const float *v, esp_cache *cache)
{
    size_t n = s->batch->n_tok, width = s->attention.kv_heads * s->attention.head_dim;

    if (cache) {
        ESP_REQUIRE(s->batch->n_samples == 1 && cache->n + n <= cache->capacity);
        memcpy(cache->k[s->layer] + cache->n * width, k, n * width * sizeof *k);
        memcpy(cache->v[s->layer] + cache->n * width, v, n * width * sizeof *v);
        k = cache->k[s->layer];
        v = cache->v[s->layer];
    }
    esp_attention_forward(out, q, k, v, &s->attention, s->batch);
}

/* Row widths of the whole and the part: y = part of x, or x += y put back into its place. */
static void slice(float *y, float *x, const site *s, bool back)
{
    esp_slice part = esp_model_slice(s->model, s->layer, s->op);
    size_t n = width_of(s, s->op->out), n_whole = width_of(s, s->op->in[0]);

#pragma omp parallel for
    for (size_t t = 0; t < s->batch->n_tok; t++) {
        for (size_t i = 0; i < n; i += part.run) {
            float *whole = x + t * n_whole + esp_slice_index(part, i), *at = y + t * n + i;

            if (back) {
                esp_accumulate(whole, at, part.run);
            } else {
                memcpy(at, whole, part.run * sizeof *at);
            }
        }
    }
}

/* Rows of single heads where the weight is one for all heads. */
static size_t rows_per_token(const site *s)
{
    return width_of(s, s->op->out) / esp_model_weight(s->model, s->layer, s->op->slot)->rows;
}

static void norm_forward(const esp_pass *p, const site *s, float *y, const float *x)
{
    size_t n = rows_per_token(s);

    esp_norm_forward(y, x, &weights_of(p, s->layer)[s->op->slot], s->model, s->batch->n_tok * n,
                     width_of(s, s->op->out) / n);
}

static void op_forward(esp_pass *p, const site *s, esp_cache *cache)
{
    float *y = p->block->value[s->op->out], *in[3];
    size_t n_tok = s->batch->n_tok, width = width_of(s, s->op->out), d = s->attention.head_dim;

    for (int i = 0; i < 3; i++) {
        in[i] = operand(p, s, s->op->in[i]);
    }
    switch (s->op->kind) {
    case ESP_OP_NORM:
        norm_forward(p, s, y, in[0]);
        break;
    case ESP_OP_LINEAR:
        linear_forward(p, s, y, in[0]);
        break;
    case ESP_OP_SLICE:
        slice(y, in[0], s, false);
        break;
    case ESP_OP_ROTARY:
    case ESP_OP_ROTARY_BLOCK:
        esp_rotary_forward(y, in[0], &s->rotation, width / d, d, s->batch);
        break;
    case ESP_OP_ATTENTION:
        attention_forward(s, y, in[0], in[1], in[2], cache);
        break;
    case ESP_OP_ACTIVATION:
        esp_activation_forward(y, in[0], s->model->arch->activation, n_tok * width);
        break;
    case ESP_OP_GATE:
        esp_gate_forward(y, in[0], in[1], s->model->arch->activation, n_tok * width);
        break;
    case ESP_OP_ADD:
        esp_add(y, in[0], s->model->residual_scale, in[1], n_tok * width);
        break;
    case ESP_OP_LOOKUP:
    case ESP_OP_SCALE:
        esp_bug(__FILE__, __LINE__, "a step of the embedding in a block");
    }
}

static void linear_backward(esp_pass *p, const site *s, const esp_sink *sink, float *dx,
                            const float *dy, const float *x)
{
    const esp_weight *w = esp_model_weight(s->model, s->layer, s->op->slot);
    esp_block *b = p->block;

    if (sink && sink->linear) {
        sink->linear(sink->ctx, s->layer, s->op->slot, s->op->in[0], dy, x, s->batch->n_tok);
        p->flops += 2.0 * (double)s->batch->n_tok * (double)w->rows * (double)w->cols;
    }
    if (has_adapter(p, s)) {
        esp_lora_backward(dx, b->low, b->dlow, b->dropped, p->adapter, s->layer, s->op->slot, dy, x,
                          w, s->batch);
    }
    esp_matrix_backward(dx, dy, &weights_of(p, s->layer)[s->op->slot], w, p, s->batch);
}

static void norm_backward(esp_pass *p, const site *s, const esp_sink *sink, float *dx,
                          const float *dy, const float *x)
{
    const esp_f32 *f = &weights_of(p, s->layer)[s->op->slot];
    size_t n = rows_per_token(s), width = width_of(s, s->op->out) / n;
    float *buffer = sink && sink->norm ? p->block->norm_grad : NULL;
    esp_batch rows = *s->batch;

    for (size_t j = 0; j <= rows.n_samples; j++) {
        p->block->row_start[j] = n * s->batch->start[j];
    }
    rows.start = p->block->row_start;
    rows.n_tok = n * s->batch->n_tok;
    esp_norm_backward(dx, buffer, dy, x, f, s->model, width, &rows);
    esp_norm_to_sink(sink, s->layer, s->op->slot, buffer, f, width, &rows);
}

static void op_backward(esp_pass *p, const site *s, const esp_sink *sink)
{
    float **value = p->block->value, **grad = p->block->grad;
    const int *in = s->op->in;
    const float *dy = grad[s->op->out];
    size_t width = width_of(s, s->op->out), n = s->batch->n_tok * width;
    size_t d = s->attention.head_dim;
    esp_activation activation = s->model->arch->activation;

    switch (s->op->kind) {
    case ESP_OP_NORM:
        norm_backward(p, s, sink, grad[in[0]], dy, value[in[0]]);
        break;
    case ESP_OP_LINEAR: /* of a layer that is kept, values are, without gates */
        apply_gates(p, s, in[0], p->block->gated[in[0]], value[in[0]]);
        linear_backward(p, s, sink, grad[in[0]], dy, operand(p, s, in[0]));
        break;
    case ESP_OP_SLICE:
        slice(grad[s->op->out], grad[in[0]], s, true);
        break;
    case ESP_OP_ROTARY:
    case ESP_OP_ROTARY_BLOCK:
        esp_rotary_backward(grad[in[0]], dy, &s->rotation, width / d, d, s->batch);
        break;
    case ESP_OP_ATTENTION:
        esp_attention_backward(grad[in[0]], grad[in[1]], grad[in[2]], dy, value[in[0]],
                               value[in[1]], value[in[2]], &s->attention, s->batch);
        break;
    case ESP_OP_ACTIVATION:
        esp_activation_backward(grad[in[0]], dy, value[in[0]], activation, n);
        break;
    case ESP_OP_GATE:
        esp_gate_backward(grad[in[0]], grad[in[1]], dy, value[in[0]], value[in[1]], activation, n);
        break;
    case ESP_OP_ADD:
        esp_add(grad[in[0]], dy, s->model->residual_scale, grad[in[0]], n);
        esp_accumulate(grad[in[1]], dy, n);
        break;
    case ESP_OP_LOOKUP:
    case ESP_OP_SCALE:
        esp_bug(__FILE__, __LINE__, "a step of the embedding in a block");
    }
}

static size_t scratch_of(const site *s, esp_pass_options o)
{
    size_t longest = o.longest ? o.longest : o.chunk_tok;
    size_t threads = o.grid ? (size_t)o.grid->n_threads : (size_t)omp_get_max_threads();

    switch (s->op->kind) {
    case ESP_OP_NORM:
        return o.backward ? esp_norm_bytes(o.chunk_tok * rows_per_token(s)) : 0;
    case ESP_OP_ROTARY:
    case ESP_OP_ROTARY_BLOCK:
        return esp_rotary_bytes(s->rotation.rope, longest);
    case ESP_OP_ATTENTION:
        return threads * esp_attention_bytes(&s->attention, longest, o.backward);
    default:
        return 0;
    }
}

size_t esp_block_scratch(const esp_model *m, esp_pass_options o)
{
    const esp_pass of = { .model = m, .stage = esp_pipeline_stage_of(m, o.grid) };
    size_t most = 0;

    for (size_t l = of.stage.begin; l < of.stage.end; l++) {
        for (size_t i = 0; i < m->arch->n_ops; i++) {
            site s = make_site(&of, l, &m->arch->ops[i], NULL);

            most = esp_max(most, scratch_of(&s, o));
        }
    }
    return most;
}

/* Whether the layer ends with that operation. */
static bool read_linear(const esp_pass *p, const site *s, const esp_tap *tap)
{
    if (!tap || s->op->kind != ESP_OP_LINEAR) {
        return false;
    }
    tap->linear(tap->ctx, s->layer, s->op->slot, operand(p, s, s->op->in[0]),
                p->block->value[s->op->out], s->batch);
    return s->op->slot == tap->last;
}

void esp_block_forward(esp_pass *p, size_t layer, bool again, esp_cache *cache, const esp_tap *tap,
                       const esp_batch *batch)
{
    const esp_arch *a = p->model->arch;
    bool ended = false;

    load_layer(p, layer);
    for (size_t i = 0; i < a->n_ops && !ended; i++) {
        if (!again || p->block->redo[i]) {
            site s = make_site(p, layer, &a->ops[i], batch);

            op_forward(p, &s, cache);
            apply_gates(p, &s, s.op->out, p->block->gated[s.op->out], p->block->value[s.op->out]);
            ended = read_linear(p, &s, tap);
        }
    }
}

void esp_block_backward(esp_pass *p, size_t layer, const esp_sink *sink, const esp_batch *batch)
{
    const esp_arch *a = p->model->arch;
    int output = esp_block_output(a);

    load_layer(p, layer);
    for (int v = 0; v < (int)a->n_values; v++) {
        size_t width = esp_model_width(p->model, layer, a->values[v]);

        if (v != output) {
            memset(p->block->grad[v], 0, batch->n_tok * width * sizeof(float));
        }
    }
    for (size_t i = a->n_ops; i-- > 0;) {
        site s = make_site(p, layer, &a->ops[i], batch);
        int made = s.op->out;

        if (sink && sink->value) {
            sink->value(sink->ctx, layer, made,
                        esp_block_reads(a, made) ? p->block->value[made] : NULL,
                        p->block->grad[made], batch);
        }
        apply_gates(p, &s, made, p->block->grad[made], p->block->grad[made]);
        op_backward(p, &s, sink);
    }
}
