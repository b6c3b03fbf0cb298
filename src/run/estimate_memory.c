/* estimate_memory.c - anonymous memory of the stages, buffer by buffer as they allocate it, and the bytes of
 * weights that they map. The tests hold it to what is measured.
 *
 * Letters: T tokens of a rank, C tokens of a chunk, D model width, V vocabulary.
 */
#include "estimate_impl.h"

#include <math.h>

#include "espalier/packed.h"
#include "espalier/recover.h"
#include "run_impl.h"

#define PROGRAM    ((size_t)6 << 20) /* code and libraries with their tables                      */
#define THREAD     ((size_t)2 << 20) /* stack, BLAS's buffers                                     */
#define SAVE_BYTES ((size_t)8 << 20) /* of rows that are written at once                          */

/* ---- memory of a pass ------------------------------------------------------------------------- */

/* What is made of a weight, where it is not used as it lies in the file. */
static size_t made_bytes(const esp_model *m, const esp_weight *w)
{
    size_t n = w->rows * w->cols, vectors = 2 * w->rows * 4;

    return vectors + (m->precision == ESP_PRECISION_BF16 && w->dtype != ESP_BF16 ? n * 2 : 0);
}

static size_t block_weights(const esp_extent *p)
{
    size_t bytes = 0;

    for (int slot = ESP_SLOT_BLOCK; slot < (int)p->model->arch->n_slots; slot++) {
        size_t most = 0;

        for (size_t l = p->of.begin; l < p->of.end; l++) {
            most = esp_max(most, made_bytes(p->model, esp_model_weight(p->model, l, slot)));
        }
        bytes += most;
    }
    return bytes;
}

static size_t widest(const esp_extent *p, esp_width w)
{
    size_t most = 0;

    for (size_t l = 0; l < p->model->dims.n_layers; l++) {
        most = esp_max(most, esp_model_width(p->model, l, w));
    }
    return most;
}

/* Numbers a token of the values of a block, and of their gradients. */
static size_t block_values(const esp_extent *p, bool backward)
{
    const esp_arch *a = p->model->arch;
    int output = a->ops[a->n_ops - 1].out;
    size_t n = 0;

    for (int v = 1; v < (int)a->n_values; v++) {
        n += widest(p, a->values[v]) * (backward && v != output ? 2 : 1);
    }
    return n;
}

/* What is made of the head, and a run of logits. */
static size_t head_bytes(const esp_extent *p, size_t T, bool backward)
{
    const esp_model *m = p->model;
    size_t V = m->dims.vocab, run = esp_pass_run(m, T);
    const esp_weight *head = esp_model_weight(m, ESP_NO_LAYER, ESP_SLOT_HEAD);
    size_t made = m->normal_head ? head->rows * head->cols * 4 : made_bytes(m, head);

    return made + run * V * 4 * (m->normal_head && backward ? 2 : 1);
}

/* scratch: what has the size of a batch lies in files. */
static size_t pass_bytes(const esp_extent *p, size_t T, size_t C, bool backward, bool scratch)
{
    size_t D = p->model->dims.hidden, kept = backward ? p->of.end - p->of.begin + 1 + 2 : 1;

    kept += p->of.last;
    kept = scratch ? 0 : kept;
    return kept * T * D * 4 + esp_min(C, T) * block_values(p, backward) * 4 + block_weights(p) +
           (p->of.last ? head_bytes(p, T, backward) : 0);
}

/* ---- memory of a stage ------------------------------------------------------------------------ */

/* Whether the input of operation i went to a linear weight before it, whose copy serves both. */
static bool has_shared_input(const esp_arch *a, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (a->ops[k].kind == ESP_OP_LINEAR && a->ops[k].in[0] == a->ops[i].in[0]) {
            return true;
        }
    }
    return false;
}

/* Numbers a token of what is kept for the gradients of a layer: dy of the linear weights, and x. */
static size_t kept_numbers(const esp_job *j, const esp_extent *p, size_t layer)
{
    const esp_arch *a = p->model->arch;
    size_t n = 0;

    for (size_t i = 0; i < a->n_ops; i++) {
        const esp_weight *w;

        if (a->ops[i].kind == ESP_OP_LINEAR && esp_is_scored(j, p->model, layer, a->ops[i].slot)) {
            w = esp_model_weight(p->model, layer, a->ops[i].slot);
            n += esp_packed_width(ESP_FACTOR_DY, w->rows) +
                 (has_shared_input(a, i) ? 0 : esp_packed_width(ESP_FACTOR_X, w->cols));
        }
    }
    return n;
}

/* Of the layer under way, or of all of a stage of several; and, where the hidden state is a unit, of the
 * head: before the layers, or until its table has been looked up. */
static size_t kept_bytes(const esp_job *j, const esp_extent *p, size_t T)
{
    const esp_dims *dims = &p->model->dims;
    size_t head =
        esp_packed_width(ESP_FACTOR_DY, dims->vocab) + esp_packed_width(ESP_FACTOR_X, dims->hidden);
    size_t most = 0, n = 0;
    bool hidden = j->config->importance.units >> ESP_UNIT_HIDDEN & 1;

    for (size_t l = p->of.begin; l < p->of.end; l++) {
        most = esp_max(most, kept_numbers(j, p, l));
        n += kept_numbers(j, p, l);
    }
    n = p->of.at_once > 1 ? n : most;
    head = hidden && p->of.last ? head : 0;
    return (p->model->tied ? n + head : esp_max(n, head)) * T * 4;
}

static size_t score_bytes(const esp_job *j, const esp_extent *p, const esp_layout *l, size_t C)
{
    esp_text_size t = esp_local_text(&j->calibration, j->calibration.samples, l);
    bool gradients = (j->config->importance.criteria & ESP_CRITERIA_OF_SAMPLES) != 0;
    bool scratch = *j->config->parallel.scratch != 0;
    size_t n = esp_n_criteria(j), bytes = j->units + (j->sums + j->scores) * n * 8;

    bytes += esp_importance_bytes(j->config->importance.criteria, l->threads);
    if (gradients) {
        bytes += pass_bytes(p, t.tokens, C, true, scratch) +
                 (scratch ? 0 : kept_bytes(j, p, t.tokens)) +
                 esp_panel_work_of(j, p, esp_n_data(l)).room;
    }
    return bytes;
}

/* Vectors of the trained numbers: value, gradient, the share of two moments and the best, shares of
 * gradients on their way from other ranks; and low-rank scratch. */
static size_t recover_bytes(const esp_job *j, const esp_extent *p, const esp_layout *l, size_t C)
{
    const esp_config *c = j->config;
    esp_training_size t = esp_training_size_of(j, l);
    size_t T = esp_pass_tokens(j, ESP_STAGE_RECOVER, l, C), widest_value = 0;
    size_t own = t.n_numbers / n_ranks(l) + ESP_SHARE_BLOCK;
    size_t sums = n_ranks(l) > 1 ? esp_min(t.n_numbers, ESP_PIECES_AT_ONCE * ESP_PIECE) : 0;
    size_t bytes =
        (t.n_numbers * 2 + own * 3 + sums - sums / n_ranks(l)) * 4 + j->training.tokens * 8;
    const esp_arch *a = p->model->arch;

    for (size_t v = 1; v < a->n_values; v++) {
        widest_value = esp_max(widest_value, widest(p, a->values[v]));
    }
    if (c->recover.method == ESP_METHOD_LORA) {
        bytes += esp_min(C, T) * (widest_value + 2 * c->recover.rank) * 4;
    }
    return bytes + pass_bytes(p, T, C, true, *c->parallel.scratch != 0);
}

static size_t eval_bytes(const esp_job *j, const esp_extent *p, const esp_layout *l, size_t C)
{
    size_t T = esp_pass_tokens(j, ESP_STAGE_EVAL, l, C);

    return pass_bytes(p, T, C, false, false) + j->evaluation.tokens * 8;
}

static double anonymous(const esp_job *j, esp_stage s, const esp_extent *p, const esp_layout *l,
                        size_t C)
{
    size_t bytes = PROGRAM + l->threads * THREAD;

    switch (s) {
    case ESP_STAGE_SCORE:
        return (double)(bytes + score_bytes(j, p, l, C));
    case ESP_STAGE_PLAN:
        return (double)(bytes + j->units + (j->scores + j->sums) * 8 * esp_n_criteria(j));
    case ESP_STAGE_PRUNE:
        return (double)(bytes + j->units + SAVE_BYTES);
    case ESP_STAGE_RECOVER:
        return (double)(bytes + recover_bytes(j, p, l, C));
    default:
        return (double)(bytes + eval_bytes(j, p, l, C));
    }
}

static double file_bytes(const esp_extent *p)
{
    const esp_model *m = p->model;
    double bytes = 0;

    for (size_t l = p->of.begin; l < p->of.end; l++) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
            const esp_weight *w = esp_model_weight(m, l, slot);

            bytes += (double)((w->rows * w->cols + (w->has_bias ? w->rows : 0)) *
                              esp_dtype_size(w->dtype));
        }
    }
    for (int slot = 0; slot < ESP_SLOT_BLOCK; slot++) {
        const esp_weight *w = esp_model_weight(m, ESP_NO_LAYER, slot);
        bool here = slot < ESP_SLOT_FINAL_NORM ? p->of.first || (p->of.last && m->tied && slot == 0)
                                               : p->of.last;
        bool counts = !(slot == ESP_SLOT_HEAD && m->tied);

        bytes += here && counts ? (double)(w->rows * w->cols * esp_dtype_size(w->dtype)) : 0;
    }
    return bytes;
}

void esp_predict_memory(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l)
{
    const esp_model *m = esp_model_of(j, s);

    p->anonymous = p->mapped = 0;
    for (size_t i = 0; i < l->layers; i++) {
        esp_extent part = esp_extent_of(m, i, l);

        p->anonymous = fmax(p->anonymous, anonymous(j, s, &part, l, p->chunk_tok));
        p->mapped = fmax(p->mapped, s == ESP_STAGE_PLAN ? 0 : file_bytes(&part));
    }
}
