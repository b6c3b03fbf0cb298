/* estimate.c - the job from settings and shapes, its shares on a grid, and the limit of memory. */
#include "estimate_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/reshape.h"
#include "espalier/recover.h"
#include "espalier/settings.h"

/* ---- the job ---------------------------------------------------------------------------------- */

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

/* Names that are no projections have been refused, or a run will refuse them. */
static uint64_t targets_of(const esp_config *c, const esp_arch *a)
{
    uint64_t targets;

    if (esp_settings_targets(&targets, c, a) != ESP_OK) {
        esp_error_clear();
    }
    return targets;
}

/* A folder that cannot be read has been refused, or a run will refuse it. */
static void shape_teacher(esp_job *j)
{
    const char *dir = esp_settings_teacher(j->config);

    if (dir && esp_model_shape(&j->teacher, dir) != ESP_OK) {
        esp_error_clear();
    }
    j->teacher.precision = j->dense->precision;
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

/* What eval goes through where nobody has read it: windows of its texts, and as many questions of each
 * task, with four choices that are as long as a window. */
static esp_text_size judged_of(const esp_config *c)
{
    size_t windows = c->eval.samples ? c->eval.samples : c->estimate.windows;
    size_t questions = c->eval.limit ? c->eval.limit : c->estimate.windows;
    size_t texts = c->eval.corpora.n + (*c->eval.corpus ? 1 : 0), tasks = c->eval.tasks.n;

    texts = texts + tasks > 0 ? texts : 1;
    return text_of(texts * windows + tasks * questions * 4, c->eval.window);
}

void esp_job_init(esp_job *j, const esp_model *dense, const esp_config *c)
{
    unsigned stages = esp_settings_stages(c);

    *j = (esp_job){ .config = c,
                    .dense = dense,
                    .limit = esp_limit_of_settings(c),
                    .calibration = text_of(c->calibration.samples, c->calibration.sequence),
                    .compensation = text_of(c->compensate_samples, c->compensate_sequence),
                    .training = text_of(c->estimate.documents, c->recover_cutoff),
                    .evaluation = judged_of(c),
                    .targets = targets_of(c, dense->arch) };
    j->texts = (stages >> ESP_STAGE_SCORE & 1 ? esp_samples_bytes(j->calibration) : 0) +
               (esp_settings_compensate(c, stages) ? esp_samples_bytes(j->compensation) : 0) +
               (stages >> ESP_STAGE_RECOVER & 1 ? esp_samples_bytes(j->training) : 0) +
               (stages >> ESP_STAGE_EVAL & 1 ? esp_samples_bytes(j->evaluation) : 0);
    esp_groups_find(&j->groups, dense);
    j->units = esp_groups_bytes(&j->groups);
    shape_pruned(j, &j->groups);
    shape_teacher(j);
}

void esp_job_free(esp_job *j)
{
    esp_groups_free(&j->groups);
    esp_model_free(&j->pruned);
    esp_model_free(&j->teacher);
}

void esp_job_set_texts(esp_job *j, const esp_samples *calibration, const esp_samples *compensation,
                       const esp_samples *training, const esp_eval_texts *evaluation)
{
    const esp_samples *from[] = { calibration, compensation, training };
    esp_text_size *to[] = { &j->calibration, &j->compensation, &j->training },
                  judged = esp_eval_texts_size(evaluation);

    j->texts = 0;
    for (size_t i = 0; i < 3; i++) {
        if (from[i]->n > 0) {
            *to[i] = esp_samples_size(from[i]);
            j->texts += esp_samples_bytes(*to[i]);
        }
    }
    if (judged.samples > 0) {
        j->evaluation = judged;
        j->texts += esp_eval_texts_bytes(evaluation);
    }
}

/* ---- a stage ---------------------------------------------------------------------------------- */

static const esp_model *model_of(const esp_job *j, esp_stage s)
{
    return esp_stage_costs[s].pruned ? &j->pruned : j->dense;
}

static size_t teacher_held(const esp_job *j)
{
    return j->teacher.arch ? esp_model_bytes(&j->teacher) : 0;
}

static double teacher_mapped(const esp_job *j, const esp_grid *grid)
{
    return j->teacher.arch ? (double)esp_pipeline_stage_bytes(&j->teacher, grid) : 0;
}

/* Every stage has the texts of all and the groups. Pipeline stages between the first and the last are alike,
 * the first of them has the most. */
static void predict_memory(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l)
{
    const esp_stage_cost *cost = &esp_stage_costs[s];
    size_t held = ESP_PROGRAM_BYTES + l->threads * ESP_THREAD_BYTES + j->units + j->texts +
                  esp_model_bytes(j->dense) + (s == ESP_STAGE_RECOVER ? teacher_held(j) : 0);

    p->anonymous = p->mapped = 0;
    for (size_t i = 0; i < l->pipeline; i += i == 1 && l->pipeline > 3 ? l->pipeline - 2 : 1) {
        esp_grid grid = esp_grid_of(l, i);
        double mapped = (double)esp_pipeline_stage_bytes(model_of(j, s), &grid);

        p->anonymous = fmax(p->anonymous, (double)(held + cost->bytes(p, j, &grid, l)));
        mapped += s == ESP_STAGE_RECOVER ? teacher_mapped(j, &grid) : 0;
        p->mapped = fmax(p->mapped, cost->maps == ESP_MAPS_NONE ? 0 : mapped);
    }
}

/* ---- the whole -------------------------------------------------------------------------------- */

static size_t longest_sample(const esp_job *j, esp_stage s)
{
    return esp_max(esp_stage_costs[s].text(j)->longest, 1);
}

/* Bytes of a stage that its limit counts. What has been mapped by now counts already; the pruned model is
 * still to be. */
static double counted_bytes(const esp_prediction *p, const esp_job *j, esp_stage s)
{
    bool maps = j->limit.maps && esp_stage_costs[s].maps == ESP_MAPS_PRUNED;

    return p->anonymous + (maps ? (double)esp_model_cost(&j->pruned, 1).bytes : 0);
}

static bool fits_limit(const esp_job *j, esp_stage s, const esp_layout *l, size_t chunk_tok)
{
    esp_prediction p = { .chunk_tok = chunk_tok };

    predict_memory(&p, j, s, l);
    return counted_bytes(&p, j, s) <= j->limit.bytes;
}

/* The largest that fits of chunk, chunk - longest, chunk - 2 longest ..; the more tokens, the more bytes. */
size_t esp_predict_chunk(const esp_job *j, esp_stage s, const esp_layout *l)
{
    size_t longest = longest_sample(j, s), most = esp_max(esp_stage_costs[s].chunk(j, l), longest);
    size_t rest = most % longest, fit = 0, above = most / longest + 1;

    if (j->limit.bytes == 0 || fits_limit(j, s, l, most)) {
        return most;
    }
    while (above - fit > 1) {
        size_t samples = fit + (above - fit) / 2;

        if (fits_limit(j, s, l, rest + samples * longest)) {
            fit = samples;
        } else {
            above = samples;
        }
    }
    return fit > 0 ? rest + fit * longest : 0;
}

/* Bytes of a rank that kept activations may fill, with all else: a limit that is set is one of anonymous
 * memory, what the machine has is for mapped weights, too. */
static double room_of(bool *maps, const esp_job *j, const esp_layout *l, const esp_cluster *c)
{
    double room = j->limit.bytes, share = c ? ESP_NODE_SHARE * c->memory / (double)l->ranks : 0;

    *maps = strcmp(j->limit.source, "memory_limit") != 0;
    if (share > 0 && (room == 0 || share < room)) {
        *maps = true;
        room = share;
    }
    return room;
}

static bool fits_kept(const esp_job *j, esp_stage s, const esp_layout *l, const esp_cluster *c,
                      size_t chunk_tok, size_t kept_layers)
{
    esp_prediction p = { .chunk_tok = chunk_tok, .kept_layers = kept_layers };
    bool maps;
    double room = room_of(&maps, j, l, c);

    predict_memory(&p, j, s, l);
    return (maps ? p.anonymous + p.mapped : counted_bytes(&p, j, s)) <= room;
}

size_t esp_predict_kept(const esp_job *j, esp_stage s, const esp_layout *l, const esp_cluster *c,
                        size_t chunk_tok)
{
    size_t n_layers = model_of(j, s)->dims.n_layers, fit = 0;
    size_t most = (n_layers + l->pipeline - 1) / l->pipeline, above = most + 1;

    if (fits_kept(j, s, l, c, chunk_tok, most)) {
        return most;
    }
    while (above - fit > 1) {
        size_t kept = fit + (above - fit) / 2;

        if (fits_kept(j, s, l, c, chunk_tok, kept)) {
            fit = kept;
        } else {
            above = kept;
        }
    }
    return fit;
}

esp_prediction esp_predict(const esp_job *j, esp_stage s, const esp_layout *l, const esp_cluster *c,
                           size_t chunk_tok)
{
    esp_prediction p = { .chunk_tok = chunk_tok };

    if (chunk_tok == 0) {
        p.chunk_tok = esp_predict_chunk(j, s, l);
        p.chunk_tok = p.chunk_tok ? p.chunk_tok : longest_sample(j, s);
    }
    p.kept_layers = c ? esp_predict_kept(j, s, l, c, p.chunk_tok) : 0;
    predict_memory(&p, j, s, l);
    esp_stage_costs[s].moves(&p, j, l);
    if (c) {
        p.seconds = esp_file_seconds(&p, l, c) + esp_stage_costs[s].seconds(&p, j, l, c);
    }
    return p;
}

/* ---- the limit -------------------------------------------------------------------------------- */

static esp_status refuse(const esp_job *j, esp_stage s, const esp_layout *l)
{
    esp_prediction p = esp_predict(j, s, l, NULL, 0);

    return esp_fail(ESP_EUSAGE,
                    "%s needs %.0f MiB per rank on %zu ranks in %zu stages, the limit is %.0f MiB "
                    "by %s: give %s%s",
                    esp_stage_name(s), counted_bytes(&p, j, s) / 1048576, n_ranks(l), l->pipeline,
                    j->limit.bytes / 1048576, j->limit.source, esp_stage_costs[s].remedy,
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
