/* estimate.c - the job from settings and shapes, its shares on a grid, and the limit of memory. */
#include "estimate_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/reshape.h"
#include "espalier/recover.h"
#include "espalier/settings.h"

/* ---- the job ---------------------------------------------------------------------------------- */

/* Bytes of what groups hold. */
static size_t groups_bytes(const esp_groups *g)
{
    size_t bytes = 0;

    for (size_t u = 0; u < g->n_units; u++) {
        for (size_t i = 0; i < g->units[u].n_structures; i++) {
            const esp_structure *s = &g->units[u].structures[i];

            bytes += sizeof *s + esp_calloc_bytes(s->length, sizeof *s->channel);
        }
    }
    return bytes;
}

static size_t text_bytes(const esp_text_size *t)
{
    return t->tokens * 2 * sizeof(int32_t) + t->samples * sizeof(size_t);
}

/* What a plan by these settings leaves, whatever the scores; all of it where they leave no plan. */
static void shape_pruned(esp_job *j, const esp_groups *g)
{
    esp_plan_options o = j->config->prune;
    esp_dims dims;
    esp_plan p = { 0 };

    o.criterion = ESP_RANDOM;
    if (esp_plan_make(&p, j->dense, g, NULL, &o) == ESP_OK) {
        esp_plan_dims(&dims, &p, j->dense);
        esp_model_reshape(&j->pruned, j->dense, &dims);
        free(dims.layer);
    } else {
        esp_error_clear();
        esp_model_reshape(&j->pruned, j->dense, &j->dense->dims);
    }
    esp_plan_free(&p);
}

static uint64_t targets_of(const esp_config *c, const esp_arch *a)
{
    uint64_t targets = 0;

    for (size_t i = 0; i < c->recover_targets.n; i++) {
        int slot = esp_arch_slot(a, c->recover_targets.item[i]);

        targets |= slot < 0 ? 0 : UINT64_C(1) << slot;
    }
    for (int slot = ESP_SLOT_BLOCK; c->recover_targets.n == 0 && slot < (int)a->n_slots; slot++) {
        targets |= a->slots[slot].cols == ESP_W_ONE ? 0 : UINT64_C(1) << slot;
    }
    return targets;
}

static esp_text_size text_of(size_t samples, size_t length)
{
    return (esp_text_size){ samples, samples * length, length };
}

esp_limit esp_limit_of_settings(const esp_config *c)
{
    return (esp_limit){ .bytes = (double)c->memory_limit, .source = "memory_limit" };
}

void esp_limit_begin(esp_limit *l, const esp_config *c, MPI_Comm world)
{
    *l = esp_limit_of_settings(c);
    if (l->bytes <= 0) {
        esp_limit_find(l, "", world);
    }
    esp_limit_hold(l);
}

void esp_job_init(esp_job *j, const esp_model *dense, const esp_config *c)
{
    size_t windows = c->eval.samples ? c->eval.samples : c->estimate.windows;
    unsigned stages = esp_settings_stages(c);

    *j = (esp_job){ .config = c,
                    .dense = dense,
                    .limit = esp_limit_of_settings(c),
                    .calibration = text_of(c->calibration.samples, c->calibration.sequence),
                    .training = text_of(c->estimate.documents, c->recover_cutoff),
                    .evaluation = text_of(windows, c->eval.window),
                    .targets = targets_of(c, dense->arch) };
    j->texts = (stages >> ESP_STAGE_SCORE & 1 ? text_bytes(&j->calibration) : 0) +
               (stages >> ESP_STAGE_RECOVER & 1 ? text_bytes(&j->training) : 0) +
               (stages >> ESP_STAGE_EVAL & 1 ? text_bytes(&j->evaluation) : 0);
    esp_groups_find(&j->groups, dense);
    j->units = groups_bytes(&j->groups);
    shape_pruned(j, &j->groups);
}

void esp_job_free(esp_job *j)
{
    esp_groups_free(&j->groups);
    esp_model_free(&j->pruned);
}

void esp_job_take_texts(esp_job *j, const esp_samples *calibration, const esp_samples *training,
                        const esp_samples *evaluation)
{
    const esp_samples *from[] = { calibration, training, evaluation };
    esp_text_size *to[] = { &j->calibration, &j->training, &j->evaluation };

    j->texts = 0;
    for (size_t i = 0; i < 3; i++) {
        if (from[i]->n > 0) {
            *to[i] = esp_samples_size(from[i]);
            j->texts += text_bytes(to[i]);
        }
    }
}

/* ---- shares ----------------------------------------------------------------------------------- */

esp_grid esp_grid_of(const esp_layout *l, size_t i)
{
    return (esp_grid){ .size = esp_count(n_ranks(l)),
                       .n_data = esp_count(n_ranks(l) / l->pipeline),
                       .n_pipeline = (int)l->pipeline,
                       .i_pipeline = (int)i,
                       .n_threads = (int)l->threads };
}

esp_extent esp_extent_of(const esp_model *m, size_t stage, const esp_layout *l)
{
    esp_grid grid = esp_grid_of(l, stage);

    return (esp_extent){ m, grid, esp_pipeline_stage_of(m, &grid) };
}

size_t esp_n_data(const esp_layout *l)
{
    return n_ranks(l) / l->pipeline;
}

esp_text_size esp_local_text(const esp_text_size *all, size_t n_samples, const esp_layout *l)
{
    size_t n = divide_up(n_samples, esp_n_data(l));
    double mean = all->samples ? (double)all->tokens / (double)all->samples : 0;

    return (esp_text_size){ n, (size_t)ceil((double)n * mean), all->longest };
}

/* ---- training --------------------------------------------------------------------------------- */

static void count_trained(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    esp_tally *t = ctx;
    size_t r = t->job->config->recover.rank;

    if (t->job->config->recover.method == ESP_METHOD_FULL) {
        t->n += w->rows * w->cols + (w->has_bias ? w->rows : 0);
    } else if (layer != ESP_NO_LAYER && t->job->targets >> slot & 1) {
        t->n += r * (w->rows + w->cols);
    }
}

esp_training_size esp_training_size_of(const esp_job *j, const esp_layout *l)
{
    const esp_config *c = j->config;
    size_t n_valid = esp_min(esp_recover_held_out(c->recover.validation, j->training.samples),
                             j->training.samples);
    size_t n_train = j->training.samples - n_valid, epoch = divide_up(n_train, c->recover.batch);
    size_t own = divide_up(esp_min(c->recover.batch, n_train), esp_n_data(l));
    esp_tally t = { j, &j->pruned, 0 };
    esp_training_size s = { .n_train = n_train,
                            .n_valid = n_valid,
                            .micro_batches = divide_up(own, c->recover.micro_batch) };
    size_t every = c->recover.validate_every ? c->recover.validate_every : esp_max(epoch, 1);

    esp_model_visit(&j->pruned, count_trained, &t);
    s.n_numbers = t.n;
    s.batch = epoch ? (double)n_train / (double)epoch : 0;
    s.steps = c->recover.steps ? (double)c->recover.steps : ceil(c->recover.epochs * (double)epoch);
    s.validations = n_valid ? 1 + ceil(s.steps / (double)every) : 0;
    return s;
}

/* ---- the whole -------------------------------------------------------------------------------- */

/* The chunk where there is no limit. */
static size_t longest_chunk(const esp_job *j, esp_stage s, const esp_layout *l)
{
    esp_text_size t = esp_local_text(&j->calibration, j->calibration.samples, l);
    esp_grid grid = esp_grid_of(l, 0);

    switch (s) {
    case ESP_STAGE_RECOVER:
        return j->config->recover.micro_batch * j->training.longest;
    case ESP_STAGE_EVAL:
        return esp_max(j->config->eval.batch_tokens, j->evaluation.longest);
    default:
        return esp_importance_chunk(t.tokens, t.longest, &grid);
    }
}

static size_t longest_sample(const esp_job *j, esp_stage s)
{
    const esp_text_size *t = s == ESP_STAGE_RECOVER ? &j->training
                             : s == ESP_STAGE_EVAL  ? &j->evaluation
                                                    : &j->calibration;

    return esp_max(t->longest, 1);
}

/* Bytes of a stage that its limit counts. What has been mapped by now counts already; the pruned model is
 * still to be. */
static double counted_bytes(const esp_prediction *p, const esp_job *j, esp_stage s)
{
    bool maps = j->limit.maps && (s == ESP_STAGE_RECOVER || s == ESP_STAGE_EVAL);

    return p->anonymous + (maps ? (double)esp_model_cost(&j->pruned, 1).bytes : 0);
}

size_t esp_predict_chunk(const esp_job *j, esp_stage s, const esp_layout *l)
{
    size_t longest = longest_sample(j, s);
    esp_prediction p = { .chunk_tok = esp_max(longest_chunk(j, s, l), longest) };

    while (j->limit.bytes > 0) {
        esp_predict_memory(&p, j, s, l);
        if (counted_bytes(&p, j, s) <= j->limit.bytes) {
            break;
        }
        if (p.chunk_tok < 2 * longest) {
            return 0;
        }
        p.chunk_tok -= longest;
    }
    return p.chunk_tok;
}

esp_prediction esp_predict(const esp_job *j, esp_stage s, const esp_layout *l, const esp_cluster *c,
                           size_t chunk_tok)
{
    esp_prediction p = { .chunk_tok = chunk_tok };

    if (chunk_tok == 0) {
        p.chunk_tok = esp_predict_chunk(j, s, l);
        p.chunk_tok = p.chunk_tok ? p.chunk_tok : longest_sample(j, s);
    }
    esp_predict_memory(&p, j, s, l);
    esp_predict_bytes(&p, j, s, l);
    if (c) {
        esp_predict_time(&p, j, s, l, c);
    }
    return p;
}

/* ---- the limit -------------------------------------------------------------------------------- */

static esp_status refuse(const esp_job *j, esp_stage s, const esp_layout *l)
{
    static const char *const remedies[ESP_N_STAGES] = {
        [ESP_STAGE_SCORE] = "fewer calibration.samples, a shorter calibration.sequence, "
                            "parallel.scratch, more nodes, or "
                            "parallel.pipeline above 1",
        [ESP_STAGE_PLAN] = "fewer ranks per node",
        [ESP_STAGE_PRUNE] = "fewer ranks per node",
        [ESP_STAGE_RECOVER] = "a smaller recover.micro_batch or recover.cutoff, or "
                              "parallel.pipeline above 1",
        [ESP_STAGE_EVAL] =
            "a smaller eval.batch_tokens or eval.window, or parallel.pipeline above 1",
    };
    esp_prediction p = esp_predict(j, s, l, NULL, 0);

    return esp_fail(ESP_EUSAGE,
                    "%s needs %.0f MiB per rank on %zu ranks in %zu stages, the limit is %.0f MiB "
                    "by %s: give %s%s",
                    esp_stage_name(s), counted_bytes(&p, j, s) / 1048576, n_ranks(l), l->pipeline,
                    j->limit.bytes / 1048576, j->limit.source, remedies[s],
                    j->config->memory_limit ? ", or a higher memory_limit" : "");
}

esp_status esp_check_memory(const esp_job *j, unsigned stages, const esp_layout *l)
{
    for (esp_stage s = 0; s < ESP_N_STAGES; s++) {
        if (stages >> s & 1 && !esp_predict_chunk(j, s, l)) {
            return refuse(j, s, l);
        }
    }
    return ESP_OK;
}
