/* compensate_size.c - what a compensation takes and does, from shapes; what shapes say against it. */
#include <stdlib.h>

#include "compensate_impl.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"
#include "plan_impl.h"

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

static bool is_of(const esp_unit *u, size_t layer, int slot)
{
    for (size_t i = 0; i < u->n_structures; i++) {
        if (u->structures[i].layer == layer && u->structures[i].slot == slot) {
            return true;
        }
    }
    return false;
}

/* Tensors of a layer that are not the model's own, as something of them is cut; of ESP_NO_LAYER those
 * outside. unit: of this one alone, NULL: of all; slot: of that one alone, -1: of all. */
static size_t copied_bytes(const esp_model *m, const esp_model *left, size_t layer,
                           const esp_unit *unit, int slot)
{
    size_t n, bytes = 0;
    esp_tensor_ref *refs = esp_model_tensors(&n, left);

    for (size_t i = 0; i < n; i++) {
        const esp_tensor_ref *t = &refs[i];
        const esp_weight *w = esp_model_weight(m, t->layer, t->slot);
        bool wanted = t->layer == layer && (slot < 0 || t->slot == slot) &&
                      (!unit || is_of(unit, layer, t->slot));

        if (wanted && (w->rows != t->weight->rows || w->cols != t->weight->cols)) {
            bytes += esp_calloc_bytes(esp_tensor_ref_bytes(t), 1);
        }
    }
    free(refs);
    return bytes;
}

/* What the sums over the inputs of a projection are made in. */
static size_t sums_bytes(const esp_weight *w, size_t chunk_tok, size_t scratch)
{
    return esp_calloc_bytes(esp_gram_scratch(w->cols, w->rows), sizeof(float)) +
           esp_calloc_bytes(chunk_tok * w->rows, sizeof(float)) + scratch;
}

static size_t solve_bytes(const esp_weight *w, const esp_grid *grid)
{
    size_t n = w->cols + w->has_bias, begin, end;

    esp_share(&begin, &end, w->rows, 0, grid->n_data);
    return esp_calloc_bytes(esp_projection_bytes(w), 1) + esp_least_squares_bytes(n, end) +
           2 * esp_calloc_bytes(end * n, sizeof(double)) + esp_calloc_bytes(n, sizeof(float));
}

static size_t both_grams_bytes(const esp_weight *w)
{
    return 2 * esp_gram_bytes(w->cols, w->rows, w->has_bias);
}

/* The most for a layer, whose results stay until its end, in the place of copies. */
static size_t layer_bytes(const esp_model *m, const esp_model *left, size_t layer,
                          esp_pass_options o, const esp_grid *grid)
{
    int slot[ESP_MOST_PROJECTIONS];
    size_t n_slots = esp_projection_slots(slot, m), scratch = scratch_bytes(m, left, o);
    size_t held = copied_bytes(m, left, layer, NULL, -1), most = 0;

    for (size_t i = 0; i < n_slots; i++) {
        const esp_weight *w = esp_model_weight(left, layer, slot[i]);
        size_t sums = sums_bytes(w, o.chunk_tok, scratch), solve = solve_bytes(w, grid);

        most = esp_max(most, held + both_grams_bytes(w) + esp_max(sums, solve));
        held += esp_calloc_bytes(esp_projection_bytes(w), 1);
        held -= copied_bytes(m, left, layer, NULL, slot[i]);
    }
    return most;
}

/* Of attention the unit of query heads where only these go. */
static const esp_unit *cut_unit(const esp_model *m, const esp_groups *g, const esp_model *left,
                                size_t layer, const esp_unit *u)
{
    bool queries = u->kind == ESP_UNIT_ATTENTION &&
                   left->dims.layer[layer].kv_heads == m->dims.layer[layer].kv_heads &&
                   left->dims.layer[layer].heads < m->dims.layer[layer].heads;

    return queries ? esp_groups_unit(g, ESP_UNIT_QUERY, layer) : u;
}

/* The same where the groups that go are chosen: units are cut one after another. */
static size_t choice_bytes(const esp_model *m, const esp_groups *g, const esp_model *left,
                           size_t layer, const esp_compensate_options *options, esp_pass_options o,
                           const esp_grid *grid)
{
    size_t scratch = scratch_bytes(m, m, o), held = 0, most = 0;

    for (esp_unit_kind k = ESP_UNIT_ATTENTION; k <= ESP_UNIT_MLP; k++) {
        const esp_unit *u = esp_groups_unit(g, k, layer);
        int slot = esp_unit_columns(u)->slot;
        const esp_weight *whole = esp_model_weight(m, layer, slot),
                         *w = esp_model_weight(left, layer, slot);
        const esp_unit *cut = cut_unit(m, g, left, layer, u);
        size_t n_gone = cut->n_groups - cut->n_groups * w->cols / whole->cols;
        size_t sums = sums_bytes(whole, o.chunk_tok, scratch), copies, choice, solve;

        copies = copied_bytes(m, left, layer, u, -1);
        choice = n_gone > 0 ? esp_selection_bytes(whole, cut, n_gone, grid) : 0;
        solve = copies + (options->choose_only ? 0 : solve_bytes(w, grid));
        most =
            esp_max(most, held + both_grams_bytes(whole) + esp_max(sums, esp_max(choice, solve)));
        held += copies;
        if (!options->choose_only) {
            held += esp_calloc_bytes(esp_projection_bytes(w), 1);
            held -= copied_bytes(m, left, layer, u, slot);
        }
    }
    return most;
}

/* What all layers have in common: of the batch, both passes, the tables. */
static size_t walk_bytes(const esp_model *m, const esp_model *pruned, esp_pass_options of)
{
    size_t n, n_projections = pruned->dims.n_layers * ESP_MOST_PROJECTIONS;

    free(esp_model_tensors(&n, pruned));
    return esp_batch_bytes(of.max_samples, of.max_tok) + esp_pass_bytes(m, of) +
           esp_pass_bytes(pruned, of) + esp_tensors_bytes(pruned) +
           esp_calloc_bytes(n, sizeof(void *)) +
           esp_calloc_bytes(n_projections, sizeof(esp_projection));
}

size_t esp_compensate_bytes(const esp_model *m, const esp_model *left,
                            const esp_compensate_options *o, esp_text_size own,
                            const esp_grid *grid)
{
    esp_grid alone = { .size = 1, .n_data = 1, .n_pipeline = 1, .n_threads = grid->n_threads };
    esp_pass_options of = esp_compensate_pass(o, own, &alone);
    size_t begin, end, most = 0;

    share_of(&begin, &end, left, grid);
    for (size_t l = begin; l < end; l++) {
        most = esp_max(most, layer_bytes(m, left, l, of, grid));
    }
    return walk_bytes(m, left, of) + copied_bytes(m, left, ESP_NO_LAYER, NULL, -1) + most +
           esp_calloc_bytes(left->dims.n_layers * ESP_MOST_PROJECTIONS, sizeof(esp_map));
}

/* Projections that a walk which chooses goes through. */
static size_t n_chosen(const esp_model *m, const esp_model *left, const esp_compensate_options *o)
{
    int slot[ESP_MOST_PROJECTIONS];
    size_t n_slots = esp_projection_slots(slot, m), n = 0;
    bool differs = false;

    for (size_t l = 0; l < left->dims.n_layers; l++) {
        for (size_t i = 0; i < n_slots; i++) {
            bool cut =
                esp_model_weight(left, l, slot[i])->cols < esp_model_weight(m, l, slot[i])->cols;

            differs = differs || cut;
            n += o->cut_only || o->choose_only ? cut : differs;
        }
    }
    return n;
}

size_t esp_reconstruct_bytes(const esp_model *m, const esp_groups *groups, const esp_model *left,
                             const esp_compensate_options *o, esp_text_size own,
                             const esp_grid *grid)
{
    esp_grid alone = { .size = 1, .n_data = 1, .n_pipeline = 1, .n_threads = grid->n_threads };
    esp_pass_options of = esp_compensate_pass(o, own, &alone);
    size_t begin, end, most = 0, n = n_chosen(m, left, o);

    share_of(&begin, &end, left, grid);
    for (size_t l = begin; l < end; l++) {
        most = esp_max(most, choice_bytes(m, groups, left, l, o, of, grid));
    }
    return esp_remnant_bytes(m, groups, left) + esp_plan_whole_bytes(m) + walk_bytes(m, m, of) +
           most + 2 * esp_calloc_bytes(n, sizeof(esp_map)) + esp_calloc_bytes(n, sizeof(esp_curve));
}

/* ---- work ----------------------------------------------------------------------------------------- */

/* Sums over the inputs of a projection w; own: of a layer of this rank. */
static void add_sums(esp_compensate_work *to, const esp_weight *w, double n_tok, bool own,
                     const esp_grid *grid)
{
    double n = (double)(w->cols + w->has_bias), rows = (double)w->rows;

    if (own) {
        to->work.products += 2 * n_tok * n * (HALF * n + rows);
        to->work.moved += 20 * n * (n + rows);
    }
    to->sums +=
        esp_moved_bytes(ESP_COST_ALLREDUCE, 2 * sizeof(double) * n * (n + rows), grid->n_data);
}

static void add_solve(esp_compensate_work *to, const esp_weight *w, bool own, const esp_grid *grid)
{
    double n = (double)(w->cols + w->has_bias), rows = (double)w->rows;
    double solve = esp_least_squares_flops(w->cols, 0) +
                   4 * rows / grid->n_data * n * n; /* with the error of the held-out tokens */

    to->work.products += own ? F64_COST * SOLVES * solve : 0;
    to->values +=
        esp_moved_bytes(ESP_COST_REDUCE_SCATTER,
                        (double)(esp_weight_numbers(w) * esp_dtype_size(w->dtype)), grid->n_data);
}

/* The choice of those inputs of a projection that go. */
static void add_choice(esp_compensate_work *to, const esp_weight *whole, const esp_weight *left,
                       bool own, const esp_grid *grid)
{
    size_t n = whole->cols + whole->has_bias, rows = whole->rows / (size_t)grid->n_data;
    double flops = esp_reconstruction_flops(n, rows, whole->cols - left->cols);

    if (whole->cols > left->cols) {
        to->work.products += own ? F64_COST * flops : 0;
        to->sums +=
            esp_moved_bytes(ESP_COST_ALLREDUCE, (double)(n * n * sizeof(double)), grid->n_data);
    }
}

/* Both streams; the pruned one has shapes between those of the dense model and of what is left. */
static void add_streams(esp_compensate_work *w, const esp_model *m, const esp_model *pruned,
                        const esp_compensate_options *o, esp_text_size own, const esp_grid *grid)
{
    esp_work a = esp_pass_work(m, grid, own, 1, ESP_PASS_FORWARD, 0);
    esp_work b = esp_pass_work(pruned, grid, own, 1, ESP_PASS_FORWARD, 0);
    double streams = o->target == ESP_BRANCH_DENSE ? 2 : 1, tokens = (double)own.tokens;

    *w = (esp_compensate_work){ .work = { .products = BLOCKS_RUN * (a.products + b.products),
                                          .attention = BLOCKS_RUN * (a.attention + b.attention),
                                          .moved = BLOCKS_RUN * (a.moved + b.moved),
                                          .chunks = 1 },
                                .activations =
                                    streams * esp_pass_sent(pruned, grid, tokens * grid->n_data,
                                                            ESP_PASS_FORWARD) };
}

/* summed: the shapes of which sums are made. */
static void work_of(esp_compensate_work *w, const esp_model *m, const esp_model *summed,
                    const esp_model *left, const esp_compensate_options *o, esp_text_size own,
                    const esp_grid *grid)
{
    int slot[ESP_MOST_PROJECTIONS];
    size_t n_slots = esp_projection_slots(slot, m), begin, end;

    add_streams(w, m, summed, o, own, grid);
    share_of(&begin, &end, left, grid);
    for (size_t l = 0; l < left->dims.n_layers; l++) {
        for (size_t i = 0; i < n_slots; i++) {
            const esp_weight *a = esp_model_weight(summed, l, slot[i]),
                             *b = esp_model_weight(left, l, slot[i]);
            bool mine = l >= begin && l < end;

            add_sums(w, a, (double)own.tokens, mine, grid);
            add_choice(w, a, b, mine, grid);
            if (!o->choose_only) {
                add_solve(w, b, mine, grid);
            }
        }
    }
}

void esp_compensate_work_of(esp_compensate_work *w, const esp_model *m, const esp_model *left,
                            const esp_compensate_options *o, esp_text_size own,
                            const esp_grid *grid)
{
    work_of(w, m, left, left, o, own, grid);
}

void esp_reconstruct_work_of(esp_compensate_work *w, const esp_model *m, const esp_model *left,
                             const esp_compensate_options *o, esp_text_size own,
                             const esp_grid *grid)
{
    work_of(w, m, m, left, o, own, grid);
}
