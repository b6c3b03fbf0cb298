/* estimate_memory.c - memory of the stages: what their parts say they take, added up, with what is no part of
 * theirs; and the bytes of weights that they map.
 */
#include "estimate_impl.h"

#include <math.h>

#include "espalier/eval.h"
#include "espalier/exporters.h"
#include "espalier/merge.h"
#include "espalier/recover.h"
#include "espalier/surgery.h"
#include "espalier/settings.h"

/* What is not counted by the constructors. */
#define PROGRAM    ((size_t)6 << 20) /* code and libraries with their tables, JSON, tokenizer */
#define THREAD     ((size_t)2 << 20) /* stack, BLAS's buffers                                 */
#define CHECKPOINT ((size_t)5 << 20) /* structures of HDF5 and of MPI-IO                      */
#define WRITER     ((size_t)4 << 20) /* room of the thread that writes a checkpoint, at most   */

/* ---- stages ------------------------------------------------------------------------------------- */

/* Samples of the rank that has the most of them, at least one. */
static esp_text_size own_text(const esp_text_size *all, const esp_layout *l)
{
    esp_text_size own = esp_local_text(all, all->samples, l);

    own.samples = esp_max(own.samples, 1);
    own.tokens = esp_max(own.tokens, own.longest);
    return own;
}

void esp_score_work(esp_importance_work *w, const esp_job *j, const esp_grid *grid,
                    const esp_layout *l, size_t chunk_tok)
{
    esp_importance_options o = j->config->importance;

    o.chunk_tok = chunk_tok;
    esp_importance_work_of(w, j->dense, &j->groups, &o, j->calibration,
                           own_text(&j->calibration, l), grid);
}

static size_t scores_bytes(const esp_job *j)
{
    esp_importance_options o = j->config->importance;

    return esp_scores_bytes(&j->groups, o.criteria, o.aggregations, o.units);
}

/* importance.h5 is made in memory: half as much more than it needs. */
static size_t score_bytes(const esp_job *j, const esp_grid *grid, const esp_layout *l, size_t C)
{
    esp_importance_work w;

    esp_score_work(&w, j, grid, l, C);
    return esp_max(w.bytes, scores_bytes(j) * 5 / 2);
}

static size_t plan_bytes(const esp_job *j, const esp_grid *grid, const esp_layout *l, size_t C)
{
    const esp_config *c = j->config;
    bool again = c->prune_steps > 1 && c->prune.criterion != ESP_RANDOM;

    return scores_bytes(j) + (again ? score_bytes(j, grid, l, C) : scores_bytes(j));
}

static size_t prune_bytes(const esp_job *j, const esp_grid *grid, const esp_layout *l, size_t C)
{
    (void)grid, (void)l, (void)C;
    return esp_surgery_bytes(j->dense, &j->groups, &j->pruned, esp_exporter_find("huggingface"));
}

/* A checkpoint that is written while the training goes on takes its room beside it. */
static size_t recover_bytes(const esp_job *j, const esp_grid *grid, const esp_layout *l, size_t C)
{
    esp_recover_options o = j->config->recover;
    bool beside = o.save_every > 0 && esp_training_size_of(j, l).steps > (double)o.save_every;
    esp_text_size t = j->training;
    size_t bytes, left;

    o.targets = j->targets;
    left = esp_recover_left(&j->pruned, &o, grid);
    t.longest = esp_max(t.longest, 1);
    o.micro_batch = esp_max(C / t.longest, 1);
    bytes = esp_recover_bytes(&j->pruned, &o, t, grid) + (beside ? esp_min(left, WRITER) : 0);
    return CHECKPOINT +
           esp_max(bytes, left + esp_merge_bytes(&j->pruned, esp_exporter_find("huggingface")));
}

static size_t eval_bytes(const esp_job *j, const esp_grid *grid, const esp_layout *l, size_t C)
{
    (void)l;
    return esp_evaluate_bytes(j->dense, 0, j->evaluation, C, grid);
}

static const esp_stage_memory stages[ESP_N_STAGES] = {
    [ESP_STAGE_SCORE] = score_bytes, [ESP_STAGE_PLAN] = plan_bytes,
    [ESP_STAGE_PRUNE] = prune_bytes, [ESP_STAGE_RECOVER] = recover_bytes,
    [ESP_STAGE_EVAL] = eval_bytes,
};

/* ---- what is mapped ----------------------------------------------------------------------------- */

static double file_bytes(const esp_model *m, const esp_pipeline_stage *of)
{
    double bytes = 0;

    for (size_t l = of->begin; l < of->end; l++) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
            const esp_weight *w = esp_model_weight(m, l, slot);

            bytes += (double)((w->rows * w->cols + (w->has_bias ? w->rows : 0)) *
                              esp_dtype_size(w->dtype));
        }
    }
    for (int slot = 0; slot < ESP_SLOT_BLOCK; slot++) {
        const esp_weight *w = esp_model_weight(m, ESP_NO_LAYER, slot);
        bool here =
            slot < ESP_SLOT_FINAL_NORM ? of->first || (of->last && m->tied && slot == 0) : of->last;
        bool counts = !(slot == ESP_SLOT_HEAD && m->tied);

        bytes += here && counts ? (double)(w->rows * w->cols * esp_dtype_size(w->dtype)) : 0;
    }
    return bytes;
}

/* Every stage has the texts of all and the groups. Stages of layers between the first and the last are alike,
 * the first of them has the most. */
void esp_predict_memory(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l)
{
    const esp_model *m = s == ESP_STAGE_RECOVER ? &j->pruned : j->dense;
    size_t held = PROGRAM + l->threads * THREAD + j->units + j->texts + esp_model_bytes(j->dense);

    p->anonymous = p->mapped = 0;
    for (size_t i = 0; i < l->pipeline; i += i == 1 && l->pipeline > 3 ? l->pipeline - 2 : 1) {
        esp_grid grid = esp_grid_of(l, i);
        esp_pipeline_stage of = esp_pipeline_stage_of(m, &grid);

        p->anonymous = fmax(p->anonymous, (double)(held + stages[s](j, &grid, l, p->chunk_tok)));
        p->mapped = fmax(p->mapped, s == ESP_STAGE_PLAN ? 0 : file_bytes(m, &of));
    }
}
