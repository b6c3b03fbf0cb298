/* estimate_impl.h - what the files of the estimate share. */
#ifndef ESPALIER_ESTIMATE_IMPL_H
#define ESPALIER_ESTIMATE_IMPL_H

#include "espalier/estimate.h"
#include "espalier/mem.h"
#include "espalier/pass.h"

static inline size_t divide_up(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

static inline size_t n_ranks(const esp_layout *l)
{
    return l->nodes * l->ranks;
}

/* For visitors of weights: numbers or bytes counted. */
typedef struct esp_tally {
    const esp_job *job;
    const esp_model *model;
    size_t n;
} esp_tally;

/* The layers of a stage, number `stage` of those of the layout. */
typedef struct esp_extent {
    const esp_model *model;
    esp_stage_layers of;
} esp_extent;

esp_extent esp_extent_of(const esp_model *m, size_t stage, const esp_layout *l);

size_t esp_n_data(const esp_layout *l);

/* Samples and tokens of the data rank that has the most of n samples. */
esp_text_size esp_local_text(const esp_text_size *all, size_t n_samples, const esp_layout *l);

/* Steps of the optimiser, samples that it trains on and those that are held out. */
typedef struct esp_training_size {
    double steps, validations, batch;       /* samples of a step, a mean over an epoch */
    size_t n_train, n_valid, micro_batches; /* micro-batches of a step on a rank */
    size_t n_numbers;                       /* trained                            */
} esp_training_size;

esp_training_size esp_training_size_of(const esp_job *j, const esp_layout *l);

/* The model whose weights a stage computes with; bit sets of what its criteria need. */
const esp_model *esp_model_of(const esp_job *j, esp_stage s);
size_t esp_n_criteria(const esp_job *j);
bool esp_needs_fisher(const esp_job *j);

/* Tokens of the rank that has the most in a pass: the samples of its calibration, or so many chunks as the
 * stages of recover and eval have under way. */
size_t esp_pass_tokens(const esp_job *j, esp_stage s, const esp_layout *l, size_t chunk_tok);

/* Whether a unit asked for owns a part of a weight: its gradient goes through the panels. */
bool esp_is_scored(const esp_job *j, const esp_model *m, size_t layer, int slot);

/* What the panels take for the weights of a stage over n_data data ranks. */
typedef struct esp_panel_work {
    double bytes;            /* each of the data ranks but one passes them on                   */
    double gathered, summed; /* numbers whose products take all samples on every rank, own ones */
    double numbers;          /* of all matrices                                                 */
    size_t room;             /* bytes for what is gathered                                      */
} esp_panel_work;

esp_panel_work esp_panel_work_of(const esp_job *j, const esp_extent *e, size_t n_data);

/* anonymous and mapped of p; bytes sent, read and written. */
void esp_predict_memory(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l);
void esp_predict_bytes(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l);

/* seconds, from the other fields. */
void esp_predict_time(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l,
                      const esp_cluster *c);

#endif
