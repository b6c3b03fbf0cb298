/* stage_costs.c - what each stage of a run costs: the table that the estimate goes by, a row per stage. Parts
 * say what they take and do (esp_X_bytes, esp_X_work), a stage adds them up.
 */
#include "estimate_impl.h"

#include <math.h>

#include "espalier/compensate.h"
#include "espalier/eval.h"
#include "espalier/exporters.h"
#include "espalier/importance.h"
#include "espalier/mem.h"
#include "espalier/masks.h"
#include "espalier/merge.h"
#include "espalier/recover.h"
#include "espalier/settings.h"
#include "espalier/surgery.h"
#include "espalier/tensor_writer.h"

#define SORTED     1.25e-8           /* seconds per byte of scores: rank 0 sorts and counts    */
#define CHECKPOINT ((size_t)5 << 20) /* structures of HDF5 and of MPI-IO                       */
#define WRITER     ((size_t)4 << 20) /* of the thread that writes a checkpoint, at most   */

/* Copies of a model's layers that are read: the nodes of a pipeline stage map its layers, each a copy. */
static double readers(const esp_layout *l)
{
    return fmin((double)l->nodes, (double)data_ranks(l));
}

static double file_bytes(const esp_model *m)
{
    return (double)esp_model_cost(m, 1).bytes;
}

static const esp_writer *model_writer(void)
{
    return esp_exporter_find("huggingface");
}

/* ---- score -------------------------------------------------------------------------------------- */

static const esp_text_size *calibration(const esp_job *j)
{
    return &j->calibration;
}

/* Samples of the rank that has the most of them, at least one. */
static esp_text_size own_share(esp_text_size all, const esp_layout *l)
{
    esp_text_size own = esp_text_share(all, all.samples, data_ranks(l));

    own.samples = esp_max(own.samples, 1);
    own.tokens = esp_max(own.tokens, own.longest);
    return own;
}

static esp_text_size own_calibration(const esp_job *j, const esp_layout *l)
{
    return own_share(j->calibration, l);
}

static esp_importance_work score_work(const esp_prediction *p, const esp_job *j,
                                      const esp_grid *grid, const esp_layout *l)
{
    esp_importance_options o = j->config->importance;
    esp_importance_work w;

    o.chunk_tok = p->chunk_tok;
    o.kept_layers = p->kept_layers;
    esp_importance_work_of(&w, j->dense, &j->groups, &o, j->calibration, own_calibration(j, l),
                           grid);
    return w;
}

/* Of the training of gates, which follows it; nothing without. */
static esp_mask_work mask_work(const esp_job *j, const esp_grid *grid)
{
    const esp_config *c = j->config;
    esp_mask_work w = { 0 };

    if (c->importance.criteria >> ESP_MASKS & 1) {
        esp_mask_work_of(&w, j->dense, &j->groups, j->calibration, &c->prune, &c->masks, grid);
    }
    return w;
}

static size_t scores_bytes(const esp_job *j)
{
    esp_importance_options o = j->config->importance;

    return esp_scores_bytes(&j->groups, o.criteria, o.aggregations, o.units);
}

static size_t score_chunk(const esp_job *j, const esp_layout *l)
{
    esp_text_size t = esp_text_share(j->calibration, j->calibration.samples, data_ranks(l));
    esp_grid grid = esp_grid_of(l, 0);

    return esp_importance_chunk(t.tokens, t.longest, &grid);
}

/* importance.h5 is made in memory: half as much more than it needs. */
static size_t score_bytes(const esp_prediction *p, const esp_job *j, const esp_grid *grid,
                          const esp_layout *l)
{
    size_t masks = scores_bytes(j) + mask_work(j, grid).bytes;

    return esp_max(esp_max(score_work(p, j, grid, l).bytes, masks), scores_bytes(j) * 5 / 2);
}

static void score_moves(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    p->read = file_bytes(j->dense) * readers(l);
    for (size_t i = 0; i < l->pipeline; i++) {
        esp_grid grid = esp_grid_of(l, i);
        esp_importance_work w = score_work(p, j, &grid, l);
        esp_mask_work masks = mask_work(j, &grid);

        p->sent[ESP_SENT_WEIGHT_GRADIENTS] += w.weight_gradients;
        p->sent[ESP_SENT_SUMS] = w.sums + masks.sums;
        p->sent[ESP_SENT_ACTIVATIONS] = w.activations + masks.activations;
    }
}

static double score_seconds(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                            const esp_cluster *c)
{
    double most = 0, gradients = p->sent[ESP_SENT_WEIGHT_GRADIENTS] + p->sent[ESP_SENT_SUMS];

    for (size_t i = 0; i < l->pipeline; i++) {
        esp_grid grid = esp_grid_of(l, i);
        esp_importance_work w = score_work(p, j, &grid, l);
        esp_mask_work masks = mask_work(j, &grid);
        double steps = masks.bytes ? (double)j->config->masks.steps : 0;
        double activations = p->sent[ESP_SENT_ACTIVATIONS];
        double calls = 2 * (w.work.chunks + steps * masks.step.chunks);

        most = fmax(most, esp_pipeline_seconds(&w.work, l, c) +
                              steps * esp_pipeline_seconds(&masks.step, l, c) +
                              esp_sending_seconds(gradients, w.numbers / 1e6, l, c) +
                              esp_sending_seconds(activations, calls, l, c));
    }
    return most;
}

/* ---- plan, prune -------------------------------------------------------------------------------- */

static const esp_text_size *compensation(const esp_job *j)
{
    return &j->compensation;
}

static esp_text_size own_compensation(const esp_job *j, const esp_layout *l)
{
    return own_share(j->compensation, l);
}

static size_t prune_chunk(const esp_job *j, const esp_layout *l)
{
    return esp_compensate_chunk(own_compensation(j, l));
}

/* Whether the plan walks through the model and chooses by what projections lose; it fits them on its way. */
static bool reconstructs(const esp_job *j)
{
    return esp_settings_reconstruct(j->config);
}

static bool compensates(const esp_job *j)
{
    return j->config->prune_compensate != ESP_COMPENSATE_NONE;
}

static esp_compensate_options walk_options(const esp_job *j, size_t chunk_tok)
{
    esp_compensate_options o = j->config->compensate;

    o.chunk_tok = chunk_tok;
    o.choose_only = !compensates(j);
    return o;
}

/* Of the walk of a plan, or of prune. */
static esp_compensate_work walk_work(const esp_job *j, const esp_layout *l, size_t i)
{
    esp_grid grid = esp_grid_of(l, i);
    esp_text_size own = own_compensation(j, l);
    esp_compensate_options o = walk_options(j, 0);
    esp_compensate_work w;

    if (reconstructs(j)) {
        esp_reconstruct_work_of(&w, j->dense, &j->pruned, &o, own, &grid);
    } else {
        esp_compensate_work_of(&w, j->dense, &j->pruned, &o, own, &grid);
    }
    return w;
}

static void walk_moves(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    esp_compensate_work w = walk_work(j, l, 0);

    p->read += file_bytes(j->dense) * readers(l);
    p->sent[ESP_SENT_SUMS] = w.sums;
    p->sent[ESP_SENT_VALUES] = w.values;
    p->sent[ESP_SENT_ACTIVATIONS] = w.activations;
}

/* Pipeline stages work one after another. */
static double walk_seconds(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                           const esp_cluster *c)
{
    double sent = p->sent[ESP_SENT_SUMS] + p->sent[ESP_SENT_VALUES] + p->sent[ESP_SENT_ACTIVATIONS];
    double seconds = esp_sending_seconds(sent, 0, l, c);

    for (size_t i = 0; i < l->pipeline; i++) {
        esp_compensate_work w = walk_work(j, l, i);

        seconds += esp_work_seconds(&w.work, l, c);
    }
    return seconds;
}

static const esp_text_size *plan_text(const esp_job *j)
{
    return reconstructs(j) ? compensation(j) : calibration(j);
}

static size_t plan_chunk(const esp_job *j, const esp_layout *l)
{
    return reconstructs(j) ? prune_chunk(j, l) : score_chunk(j, l);
}

static size_t plan_bytes(const esp_prediction *p, const esp_job *j, const esp_grid *grid,
                         const esp_layout *l)
{
    const esp_config *c = j->config;
    bool again = c->prune_steps > 1 && esp_settings_rank(c);

    if (reconstructs(j)) {
        esp_compensate_options o = walk_options(j, p->chunk_tok);

        return esp_reconstruct_bytes(j->dense, &j->groups, &j->pruned, &o, own_compensation(j, l),
                                     grid);
    }
    return scores_bytes(j) + (again ? score_bytes(p, j, grid, l) : scores_bytes(j));
}

static void plan_moves(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    if (reconstructs(j)) {
        walk_moves(p, j, l);
    }
}

static double plan_seconds(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                           const esp_cluster *c)
{
    return reconstructs(j) ? walk_seconds(p, j, l, c) : (double)scores_bytes(j) * SORTED;
}

/* Whether prune fits projections itself. */
static bool prune_walks(const esp_job *j)
{
    return compensates(j) && !reconstructs(j);
}

static size_t prune_bytes(const esp_prediction *p, const esp_job *j, const esp_grid *grid,
                          const esp_layout *l)
{
    size_t bytes = esp_surgery_bytes(j->dense, &j->groups, &j->pruned, model_writer());
    esp_compensate_options o = walk_options(j, p->chunk_tok);

    return bytes + (prune_walks(j) ? esp_compensate_bytes(j->dense, &j->pruned, &o,
                                                          own_compensation(j, l), grid)
                                   : 0);
}

static void prune_moves(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    p->read = p->written = file_bytes(&j->pruned);
    if (prune_walks(j)) {
        walk_moves(p, j, l);
    }
}

static double prune_seconds(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                            const esp_cluster *c)
{
    double seconds = esp_model_save_work(&j->pruned).moved / c->memory_bytes;

    return seconds + (prune_walks(j) ? walk_seconds(p, j, l, c) : 0);
}

/* ---- recover ------------------------------------------------------------------------------------ */

static const esp_text_size *training(const esp_job *j)
{
    return &j->training;
}

static esp_recover_options recover_options(const esp_prediction *p, const esp_job *j)
{
    esp_recover_options o = j->config->recover;

    o.kept_layers = p->kept_layers;
    o.targets = j->targets;
    o.teacher = j->teacher.arch ? &j->teacher : NULL;
    return o;
}

static esp_recover_work recover_work(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                                     size_t i)
{
    esp_recover_options o = recover_options(p, j);
    esp_grid grid = esp_grid_of(l, i);
    esp_recover_work w;

    esp_recover_work_of(&w, &j->pruned, &o, j->training, &grid);
    return w;
}

static size_t recover_chunk(const esp_job *j, const esp_layout *l)
{
    (void)l;
    return j->config->recover.micro_batch * j->training.longest;
}

/* A checkpoint that is written while the training goes on takes its room beside it. */
static size_t recover_bytes(const esp_prediction *p, const esp_job *j, const esp_grid *grid,
                            const esp_layout *l)
{
    esp_recover_options o = recover_options(p, j);
    size_t left = esp_recover_left(&j->pruned, &o, grid);
    bool beside = o.save_every > 0 && recover_work(p, j, l, 0).steps > (double)o.save_every;
    esp_text_size t = j->training;
    size_t bytes;

    t.longest = esp_max(t.longest, 1);
    o.micro_batch = esp_max(p->chunk_tok / t.longest, 1);
    bytes = esp_recover_bytes(&j->pruned, &o, t, grid) + (beside ? esp_min(left, WRITER) : 0);
    return CHECKPOINT + esp_max(bytes, left + esp_merge_bytes(&j->pruned, model_writer()));
}

/* Merging reads the model once more; a teacher other than the dense model is not there yet. */
static void recover_moves(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    esp_recover_work w = recover_work(p, j, l, 0);
    double bytes = file_bytes(&j->pruned);
    bool lora = j->config->recover.method == ESP_METHOD_LORA;

    p->read = bytes * readers(l) + bytes;
    p->read += j->teacher.arch ? file_bytes(&j->teacher) * readers(l) : 0;
    p->written = w.checkpoints + bytes + (lora ? 4 * (double)w.n_numbers : 0);
    p->sent[ESP_SENT_GRADIENTS] = w.gradients;
    p->sent[ESP_SENT_TEACHER] = w.states;
    p->sent[ESP_SENT_VALUES] = w.values;
    p->sent[ESP_SENT_ACTIVATIONS] = w.activations;
}

static double recover_seconds(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                              const esp_cluster *c)
{
    double most = 0, pieces = 2 * (double)(j->pruned.dims.n_layers + 2); /* per step */
    double trained = p->sent[ESP_SENT_GRADIENTS] + p->sent[ESP_SENT_VALUES];

    for (size_t i = 0; i < l->pipeline; i++) {
        esp_recover_work w = recover_work(p, j, l, i);
        double activations = p->sent[ESP_SENT_ACTIVATIONS], calls = 2 * w.step.chunks * w.steps;

        most = fmax(most, esp_pipeline_seconds(&w.teacher, l, c) +
                              w.steps * esp_pipeline_seconds(&w.step, l, c) +
                              w.validations * esp_work_seconds(&w.validation, l, c) +
                              esp_sending_seconds(trained, pieces * w.steps, l, c) +
                              esp_sending_seconds(w.states, w.steps, l, c) +
                              esp_sending_seconds(activations, calls, l, c));
    }
    return most;
}

/* ---- eval --------------------------------------------------------------------------------------- */

static const esp_text_size *evaluation(const esp_job *j)
{
    return &j->evaluation;
}

static size_t eval_chunk(const esp_job *j, const esp_layout *l)
{
    (void)l;
    return esp_max(j->config->eval.batch_tokens, j->evaluation.longest);
}

static size_t eval_bytes(const esp_prediction *p, const esp_job *j, const esp_grid *grid,
                         const esp_layout *l)
{
    (void)l;
    return esp_evaluate_bytes(j->dense, 0, j->evaluation, p->chunk_tok, grid);
}

/* Of the dense, the pruned and the recovered model. */
static void eval_moves(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    esp_grid grid = esp_grid_of(l, 0);
    double n_tok = (double)j->evaluation.tokens;

    p->read = (file_bytes(j->dense) + 2 * file_bytes(&j->pruned)) * readers(l);
    p->sent[ESP_SENT_ACTIVATIONS] = 3 * esp_pass_sent(j->dense, &grid, n_tok, ESP_PASS_FORWARD);
}

static double eval_seconds_of(const esp_model *m, const esp_prediction *p, const esp_job *j,
                              const esp_layout *l, const esp_cluster *c)
{
    double most = 0;

    for (size_t i = 0; i < l->pipeline; i++) {
        esp_grid grid = esp_grid_of(l, i);
        esp_work w = esp_evaluate_work(m, j->evaluation, j->config->eval.batch_tokens, &grid);

        most =
            fmax(most, esp_pipeline_seconds(&w, l, c) +
                           esp_sending_seconds(p->sent[ESP_SENT_ACTIVATIONS] / 3, w.chunks, l, c));
    }
    return most;
}

static double eval_seconds(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                           const esp_cluster *c)
{
    return eval_seconds_of(j->dense, p, j, l, c) + 2 * eval_seconds_of(&j->pruned, p, j, l, c);
}

/* ---- score of a run that may take its importance from another --------------------------------------- */

static bool takes_scores(const esp_job *j)
{
    return *j->config->importance_from;
}

static size_t taking_bytes(const esp_prediction *p, const esp_job *j, const esp_grid *grid,
                           const esp_layout *l)
{
    return takes_scores(j) ? scores_bytes(j) * 5 / 2 : score_bytes(p, j, grid, l);
}

/* The model is read in any case, for its digest. */
static void taking_moves(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    if (takes_scores(j)) {
        p->read = file_bytes(j->dense) * readers(l);
    } else {
        score_moves(p, j, l);
    }
}

static double taking_seconds(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                             const esp_cluster *c)
{
    return takes_scores(j) ? 0 : score_seconds(p, j, l, c);
}

/* ---- the table ---------------------------------------------------------------------------------- */

const esp_stage_cost esp_stage_costs[ESP_N_STAGES] = {
    [ESP_STAGE_SCORE] = { .text = calibration,
                          .maps = ESP_MAPS_DENSE,
                          .chunk = score_chunk,
                          .bytes = taking_bytes,
                          .moves = taking_moves,
                          .seconds = taking_seconds,
                          .remedy = "fewer calibration.samples, a shorter calibration.sequence, "
                                    "parallel.scratch, more nodes, or parallel.pipeline above 1" },
    [ESP_STAGE_PLAN] = { .text = plan_text,
                         .maps = ESP_MAPS_NONE,
                         .chunk = plan_chunk,
                         .bytes = plan_bytes,
                         .moves = plan_moves,
                         .seconds = plan_seconds,
                         .remedy = "fewer ranks per node" },
    [ESP_STAGE_PRUNE] = { .text = compensation,
                          .maps = ESP_MAPS_DENSE,
                          .chunk = prune_chunk,
                          .bytes = prune_bytes,
                          .moves = prune_moves,
                          .seconds = prune_seconds,
                          .remedy = "fewer ranks per node, fewer compensate.samples, or "
                                    "parallel.scratch" },
    [ESP_STAGE_RECOVER] = { .text = training,
                            .pruned = true,
                            .maps = ESP_MAPS_PRUNED,
                            .chunk = recover_chunk,
                            .bytes = recover_bytes,
                            .moves = recover_moves,
                            .seconds = recover_seconds,
                            .remedy = "a smaller recover.micro_batch or recover.cutoff, or "
                                      "parallel.pipeline above 1" },
    [ESP_STAGE_EVAL] = { .text = evaluation,
                         .maps = ESP_MAPS_PRUNED,
                         .chunk = eval_chunk,
                         .bytes = eval_bytes,
                         .moves = eval_moves,
                         .seconds = eval_seconds,
                         .remedy =
                             "a smaller eval.batch_tokens or eval.window, fewer eval.shots, or "
                             "parallel.pipeline above 1" },
};
