/* graph.c - the dependency rules over the wiring of an architecture (docs/method.md, eq. 4-5).
 *
 * Operands and result of an operation that works index by index are one node. A matrix joins nothing:
 * a neuron behind it has in-degree > 1 and one before it out-degree > 1, unless the value on the other
 * side has a single neuron, which always stays (a plan keeps at least one of each unit).
 */
#include "graph_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

/* Where the values of all layers lie among the neurons. */
typedef struct layout {
    const esp_model *model;
    bool queries;  /* as esp_graph_build has it */
    size_t *first; /* [(n_layers + 1) * n_values] owned; of "layer n_layers" value 0 only */
    size_t n;
} layout;

static size_t first_of(const layout *at, size_t layer, int value)
{
    return at->first[layer * at->model->arch->n_values + (size_t)value];
}

static size_t width_of(const layout *at, size_t layer, int value)
{
    return esp_model_width(at->model, layer, at->model->arch->values[value]);
}

static void layout_init(layout *at, const esp_model *m, bool queries)
{
    const esp_arch *a = m->arch;

    at->model = m;
    at->queries = queries;
    ESP_NEW(at->first, (m->dims.n_layers + 1) * a->n_values);
    at->n = m->dims.hidden; /* value 0 of layer 0 */
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (size_t i = 0; i < a->n_ops; i++) {
            at->first[l * a->n_values + (size_t)a->ops[i].out] = at->n;
            at->n += width_of(at, l, a->ops[i].out);
        }
        at->first[(l + 1) * a->n_values] = first_of(at, l, a->ops[a->n_ops - 1].out);
    }
    ESP_REQUIRE(at->n <= UINT32_MAX);
}

/* ---- union-find; the smallest neuron of a set represents it ------------------------------------ */

static uint32_t find(uint32_t *parent, size_t i)
{
    uint32_t p = (uint32_t)i;

    while (parent[p] != p) {
        parent[p] = parent[parent[p]];
        p = parent[p];
    }
    return p;
}

static void unite(uint32_t *parent, size_t i, size_t j)
{
    uint32_t a = find(parent, i), b = find(parent, j);

    if (a < b) {
        parent[b] = a;
    } else {
        parent[a] = b;
    }
}

static void flatten(uint32_t *parent, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        parent[i] = parent[parent[i]]; /* parents are smaller, hence flat already */
    }
}

/* ---- the rules --------------------------------------------------------------------------------- */

/* Index i of the result and index i of every operand. */
static void align_by_index(uint32_t *aligned, const layout *at, size_t layer, const esp_op *op)
{
    size_t out = first_of(at, layer, op->out), n = width_of(at, layer, op->out);

    for (size_t k = 0; k < 3 && op->in[k] >= 0; k++) {
        size_t in = first_of(at, layer, op->in[k]);

        ESP_REQUIRE(width_of(at, layer, op->in[k]) == n);
        for (size_t i = 0; i < n; i++) {
            unite(aligned, in + i, out + i);
        }
    }
}

/* Channel c of a query head meets channel c of its key head, channel c of the value head gives channel
 * c of the result; keys and values meet by their place in the head they share. */
static void align_groups(uint32_t *aligned, const layout *at, size_t layer, const esp_op *op)
{
    const esp_layer_dims *dims = &at->model->dims.layer[layer];
    size_t d = at->model->dims.head_dim;
    size_t q = first_of(at, layer, op->in[0]), k = first_of(at, layer, op->in[1]);
    size_t v = first_of(at, layer, op->in[2]), out = first_of(at, layer, op->out);

    for (size_t i = 0; i < dims->heads * d; i++) {
        size_t shared = i / d / (dims->heads / dims->kv_heads) * d + i % d;

        unite(aligned, k + shared, q + i);
        unite(aligned, k + shared, v + shared);
        unite(aligned, k + shared, out + i);
    }
}

/* The same with keys and values that stay: channel c of a query head goes with channel c of its result. */
static void align_queries(uint32_t *aligned, const layout *at, size_t layer, const esp_op *op)
{
    size_t q = first_of(at, layer, op->in[0]), out = first_of(at, layer, op->out);

    for (size_t i = 0; i < width_of(at, layer, op->out); i++) {
        unite(aligned, q + i, out + i);
    }
}

/* Index i of a part and its index in the whole: a head of a fused value owns its rows wherever they lie. */
static void align_slice(uint32_t *aligned, const layout *at, size_t layer, const esp_op *op)
{
    esp_slice part = esp_model_slice(at->model, layer, op);
    size_t in = first_of(at, layer, op->in[0]), out = first_of(at, layer, op->out);

    for (size_t i = 0; i < width_of(at, layer, op->out); i++) {
        unite(aligned, in + esp_slice_index(part, i), out + i);
    }
}

static void align(uint32_t *aligned, const layout *at, size_t layer, const esp_op *op)
{
    switch (op->kind) {
    case ESP_OP_NORM:
    case ESP_OP_ROTARY:
    case ESP_OP_ROTARY_BLOCK:
    case ESP_OP_ACTIVATION:
    case ESP_OP_GATE:
    case ESP_OP_ADD:
        align_by_index(aligned, at, layer, op);
        break;
    case ESP_OP_ATTENTION:
        (at->queries ? align_queries : align_groups)(aligned, at, layer, op);
        break;
    case ESP_OP_SLICE:
        align_slice(aligned, at, layer, op);
        break;
    case ESP_OP_LINEAR:
    case ESP_OP_LOOKUP: /* steps of the embedding are in no block */
    case ESP_OP_SCALE:
        break;
    }
}

/* The reshape into heads ties all channels of a head, with them those of the query heads, which are
 * aligned with their key head, and with them whatever rotary positions mix. */
static void tie(uint32_t *tied, const layout *at, size_t layer, const esp_op *op)
{
    size_t d = at->model->dims.head_dim;
    size_t first, n;

    if (op->kind != ESP_OP_ATTENTION) {
        return;
    }
    first = first_of(at, layer, op->out);
    n = width_of(at, layer, op->out);
    for (size_t i = 0; i < n; i++) {
        unite(tied, first + i / d * d, first + i);
    }
}

static void apply(uint32_t *parent, const layout *at,
                  void (*rule)(uint32_t *, const layout *, size_t, const esp_op *))
{
    const esp_model *m = at->model;

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (size_t i = 0; i < m->arch->n_ops; i++) {
            rule(parent, at, l, &m->arch->ops[i]);
        }
    }
    flatten(parent, at->n);
}

static void fill_kinds(esp_graph *g, const layout *at)
{
    const esp_model *m = at->model;
    uint8_t heads = at->queries ? ESP_UNIT_QUERY : ESP_UNIT_ATTENTION;

    memset(g->kind, ESP_UNIT_MLP, g->n);
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (size_t i = 0; i < m->arch->n_ops; i++) {
            const esp_op *op = &m->arch->ops[i];

            for (size_t k = 0; op->kind == ESP_OP_ATTENTION && k < width_of(at, l, op->out); k++) {
                g->kind[g->tied[first_of(at, l, op->out) + k]] = heads;
            }
        }
    }
    for (size_t k = 0; k < m->dims.hidden;
         k++) { /* the residual stream, input of the first block */
        g->kind[g->tied[k]] = ESP_UNIT_HIDDEN;
    }
    for (size_t i = 0; i < g->n; i++) {
        g->kind[i] = g->kind[g->tied[i]];
    }
}

/* ---- weights on the graph ---------------------------------------------------------------------- */

static void add_side(esp_graph *g, const layout *at, size_t layer, int slot, esp_side side,
                     size_t first, size_t length)
{
    g->sides[g->n_sides++] = (esp_graph_side){ .layer = layer,
                                               .slot = slot,
                                               .label = at->model->arch->slots[slot].label,
                                               .side = side,
                                               .first = first,
                                               .length = length,
                                               .slice = { .run = length },
                                               .n = length };
}

/* Rows of the fused weight that makes what op takes a part of. */
static void add_slice(esp_graph *g, const layout *at, size_t layer, const esp_op *op)
{
    const esp_arch *a = at->model->arch;
    const esp_op *maker = a->ops;

    while (maker->out != op->in[0]) {
        maker++;
    }
    add_side(g, at, layer, maker->slot, ESP_ROWS, first_of(at, layer, op->in[0]),
             width_of(at, layer, op->in[0]));
    g->sides[g->n_sides - 1].label = op->label;
    g->sides[g->n_sides - 1].slice = esp_model_slice(at->model, layer, op);
    g->sides[g->n_sides - 1].n = width_of(at, layer, op->out);
}

static bool is_sliced(const esp_arch *a, int value)
{
    for (size_t i = 0; i < a->n_ops; i++) {
        if (a->ops[i].kind == ESP_OP_SLICE && a->ops[i].in[0] == value) {
            return true;
        }
    }
    return false;
}

/* Whether the rows of a weight are the neurons it makes: not those of a norm that all heads share. */
static bool has_rows(const esp_arch *a, const esp_op *op)
{
    return op->slot >= 0 && a->slots[op->slot].rows == a->values[op->out] && !is_sliced(a, op->out);
}

static void add_block_sides(esp_graph *g, const layout *at, size_t layer)
{
    const esp_arch *a = at->model->arch;

    for (size_t i = 0; i < a->n_ops; i++) {
        const esp_op *op = &a->ops[i];

        if (op->kind == ESP_OP_LINEAR) {
            add_side(g, at, layer, op->slot, ESP_COLS, first_of(at, layer, op->in[0]),
                     width_of(at, layer, op->in[0]));
        }
        if (has_rows(a, op)) {
            add_side(g, at, layer, op->slot, ESP_ROWS, first_of(at, layer, op->out),
                     width_of(at, layer, op->out));
        } else if (op->kind == ESP_OP_SLICE) {
            add_slice(g, at, layer, op);
        }
    }
}

static void add_sides(esp_graph *g, const layout *at)
{
    const esp_model *m = at->model;
    size_t D = m->dims.hidden, last = first_of(at, m->dims.n_layers, 0);

    ESP_NEW(g->sides, ESP_SLOT_BLOCK + 2 * m->dims.n_layers * m->arch->n_ops);
    for (size_t i = 0; i < m->arch->n_embedding; i++) {
        const esp_op *op = &m->arch->embedding[i];

        if (op->slot >= 0) {
            add_side(g, at, ESP_NO_LAYER, op->slot, op->kind == ESP_OP_LOOKUP ? ESP_COLS : ESP_ROWS,
                     0, D);
        }
    }
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        add_block_sides(g, at, l);
    }
    add_side(g, at, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM, ESP_ROWS, last, D);
    if (!m->tied) {
        add_side(g, at, ESP_NO_LAYER, ESP_SLOT_HEAD, ESP_COLS, last, D);
    }
}

void esp_graph_build(esp_graph *g, const esp_model *m, bool queries)
{
    layout at;

    layout_init(&at, m, queries);
    *g = (esp_graph){ .n = at.n };
    ESP_NEW(g->aligned, g->n);
    ESP_NEW(g->tied, g->n);
    ESP_NEW(g->kind, g->n);
    for (size_t i = 0; i < g->n; i++) {
        g->aligned[i] = (uint32_t)i;
    }
    apply(g->aligned, &at, align);
    memcpy(g->tied, g->aligned, g->n * sizeof *g->tied);
    apply(g->tied, &at, tie);
    fill_kinds(g, &at);
    add_sides(g, &at);
    free(at.first);
}

void esp_graph_free(esp_graph *g)
{
    free(g->aligned);
    free(g->tied);
    free(g->kind);
    free(g->sides);
    *g = (esp_graph){ 0 };
}
