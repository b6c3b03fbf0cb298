/* compensate_size.c - what a compensation takes and does, from shapes; what shapes say against it. */
#include <stdlib.h>

#include "compensate_impl.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"

/* Tokens of a chunk: larger chunks save little time and cost memory. */
#define CHUNK_TOKENS ((size_t)1024)

/* Of a block, one after another: up to the projection of attention, up to that of the MLP, all of it. */
#define BLOCKS_RUN 2.3

/* Solves of a projection, products of f64 that cost as much as two of f32; the part of x x^T that is made. */
#define SOLVES   10
#define F64_COST 2
#define HALF     0.6

const char *esp_compensation_name(unsigned compensation)
{
    static const char *const names[] = { "none", "least_squares" };

    return compensation < ESP_N_COMPENSATIONS ? names[compensation] : NULL;
}

const char *esp_branch_name(unsigned branch)
{
    static const char *const names[] = { "dense", "own" };

    return branch < ESP_N_BRANCHES ? names[branch] : NULL;
}

size_t esp_compensate_chunk(esp_text_size own)
{
    return esp_max(esp_min(own.tokens, CHUNK_TOKENS), own.longest);
}

/* ---- before the work ------------------------------------------------------------------------------ */

/* Inputs of the widest projection. */
static size_t widest(const esp_model *m)
{
    int slot[ESP_MOST_PROJECTIONS];
    size_t n_slots = esp_projection_slots(slot, m), most = 0;

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (size_t i = 0; i < n_slots; i++) {
            most = esp_max(most, esp_model_weight(m, l, slot[i])->cols);
        }
    }
    return most;
}

esp_status esp_compensate_check(const esp_model *m, const esp_compensate_options *o,
                                bool hidden_cut, esp_text_size all)
{
    if (o->damping <= 0 && all.samples < o->holdout) {
        return esp_fail(ESP_EUSAGE,
                        "compensate.samples = %zu: with compensate.holdout = %zu none of them is "
                        "held out to choose the damping by: set more samples, a smaller holdout, "
                        "or compensate.damping",
                        all.samples, o->holdout);
    }
    if (o->target == ESP_BRANCH_OWN && hidden_cut) {
        return esp_fail(
            ESP_EUSAGE,
            "compensate.target = own: a dense block cannot take a hidden state of which "
            "prune.mode = channel cuts channels: set dense");
    }
    if (all.tokens < 2 * widest(m)) {
        esp_warn("compensate: %zu tokens for projections of up to %zu inputs: where they say "
                 "nothing, weights stay as they are by the damping; more compensate.samples fit "
                 "better",
                 all.tokens, widest(m));
    }
    return ESP_OK;
}

/* ---- memory --------------------------------------------------------------------------------------- */

static void share_of(size_t *begin, size_t *end, const esp_model *left, const esp_grid *grid)
{
    esp_share(begin, end, left->dims.n_layers, grid->i_pipeline, grid->n_pipeline);
}

esp_pass_options esp_compensate_pass(const esp_compensate_options *o, esp_text_size own,
                                     const esp_grid *alone)
{
    size_t chunk = esp_max(o->chunk_tok ? o->chunk_tok : esp_compensate_chunk(own), own.longest);

    return (esp_pass_options){ .max_samples = own.samples,
                               .max_tok = own.tokens,
                               .chunk_tok = esp_min(chunk, own.tokens),
                               .longest = own.longest,
                               .layers_only = true,
                               .scratch = o->scratch,
                               .grid = alone };
}

/* What an operation of a block takes while it goes on. */
static size_t scratch_bytes(const esp_model *m, const esp_model *left, esp_pass_options o)
{
    return esp_max(esp_pass_scratch_bytes(m, o).blocks, esp_pass_scratch_bytes(left, o).blocks);
}

/* Tensors of a layer that are not the model's own, as something of them is cut; of ESP_NO_LAYER those
 * outside. */
static size_t copied_bytes(const esp_model *m, const esp_model *left, size_t layer)
{
    size_t n, bytes = 0;
    esp_tensor_ref *refs = esp_model_tensors(&n, left);

    for (size_t i = 0; i < n; i++) {
        const esp_weight *w = esp_model_weight(m, refs[i].layer, refs[i].slot);

        if (refs[i].layer == layer &&
            (w->rows != refs[i].weight->rows || w->cols != refs[i].weight->cols)) {
            bytes += esp_calloc_bytes(esp_tensor_ref_bytes(&refs[i]), 1);
        }
    }
    free(refs);
    return bytes;
}

/* The most for a projection: its sums, and what they are made in, or what its solve takes. */
static size_t projection_bytes(const esp_weight *w, size_t chunk_tok, size_t scratch,
                               const esp_grid *grid)
{
    size_t n = w->cols + w->has_bias, begin, end, sums, solve;

    esp_share(&begin, &end, w->rows, 0, grid->n_data);
    sums = esp_calloc_bytes(esp_gram_scratch(w->cols, w->rows), sizeof(float)) +
           esp_calloc_bytes(chunk_tok * w->rows, sizeof(float)) + scratch;
    solve = esp_calloc_bytes(esp_projection_bytes(w), 1) + esp_least_squares_bytes(n, end) +
            2 * esp_calloc_bytes(end * n, sizeof(double)) + esp_calloc_bytes(n, sizeof(float));
    return 2 * esp_gram_bytes(w->cols, w->rows, w->has_bias) + esp_max(sums, solve);
}

/* The most for a layer, whose results stay until its end. */
static size_t layer_bytes(const esp_model *m, const esp_model *left, size_t layer,
                          esp_pass_options o, const esp_grid *grid)
{
    int slot[ESP_MOST_PROJECTIONS];
    size_t n_slots = esp_projection_slots(slot, m), scratch = scratch_bytes(m, left, o);
    size_t held = copied_bytes(m, left, layer), most = 0;

    for (size_t i = 0; i < n_slots; i++) {
        const esp_weight *w = esp_model_weight(left, layer, slot[i]);

        most = esp_max(most, held + projection_bytes(w, o.chunk_tok, scratch, grid));
        held += esp_calloc_bytes(esp_projection_bytes(w), 1);
    }
    return most;
}

size_t esp_compensate_bytes(const esp_model *m, const esp_model *left,
                            const esp_compensate_options *o, esp_text_size own,
                            const esp_grid *grid)
{
    esp_grid alone = { .size = 1, .n_data = 1, .n_pipeline = 1, .n_threads = grid->n_threads };
    esp_pass_options of = esp_compensate_pass(o, own, &alone);
    size_t begin, end, most = 0, n, n_layers = left->dims.n_layers;

    share_of(&begin, &end, left, grid);
    for (size_t l = begin; l < end; l++) {
        most = esp_max(most, layer_bytes(m, left, l, of, grid));
    }
    free(esp_model_tensors(&n, left));
    return esp_batch_bytes(of.max_samples, of.max_tok) + esp_pass_bytes(m, of) +
           esp_pass_bytes(left, of) + esp_tensors_bytes(left) +
           esp_calloc_bytes(n, sizeof(void *)) + copied_bytes(m, left, ESP_NO_LAYER) + most +
           esp_calloc_bytes(n_layers * ESP_MOST_PROJECTIONS, sizeof(esp_projection)) +
           esp_calloc_bytes(n_layers * ESP_MOST_PROJECTIONS, sizeof(esp_map));
}

/* ---- work ----------------------------------------------------------------------------------------- */

static void add_projection(esp_compensate_work *to, const esp_weight *w, double n_tok, bool own,
                           const esp_grid *grid)
{
    double n = (double)(w->cols + w->has_bias), rows = (double)w->rows;
    double solve = esp_least_squares_flops(w->cols, 0) +
                   4 * rows / grid->n_data * n * n; /* with the error of the held-out tokens */

    if (own) {
        to->work.products += 2 * n_tok * n * (HALF * n + rows) + F64_COST * SOLVES * solve;
        to->work.moved += 20 * n * (n + rows);
    }
    to->sums +=
        esp_moved_bytes(ESP_COST_ALLREDUCE, 2 * sizeof(double) * n * (n + rows), grid->n_data);
    to->values +=
        esp_moved_bytes(ESP_COST_REDUCE_SCATTER,
                        (double)(esp_weight_numbers(w) * esp_dtype_size(w->dtype)), grid->n_data);
}

void esp_compensate_work_of(esp_compensate_work *w, const esp_model *m, const esp_model *left,
                            const esp_compensate_options *o, esp_text_size own,
                            const esp_grid *grid)
{
    esp_work dense = esp_pass_work(m, grid, own, 1, ESP_PASS_FORWARD, 0);
    esp_work pruned = esp_pass_work(left, grid, own, 1, ESP_PASS_FORWARD, 0);
    int slot[ESP_MOST_PROJECTIONS];
    size_t n_slots = esp_projection_slots(slot, m), begin, end;
    double streams = o->target == ESP_BRANCH_DENSE ? 2 : 1;

    *w = (esp_compensate_work){
        .work = { .products = BLOCKS_RUN * (dense.products + pruned.products),
                  .attention = BLOCKS_RUN * (dense.attention + pruned.attention),
                  .moved = BLOCKS_RUN * (dense.moved + pruned.moved),
                  .chunks = 1 },
        .activations =
            streams * esp_pass_sent(left, grid, (double)own.tokens * grid->n_data, ESP_PASS_FORWARD)
    };
    share_of(&begin, &end, left, grid);
    for (size_t l = 0; l < left->dims.n_layers; l++) {
        for (size_t i = 0; i < n_slots; i++) {
            add_projection(w, esp_model_weight(left, l, slot[i]), (double)own.tokens,
                           l >= begin && l < end, grid);
        }
    }
}
