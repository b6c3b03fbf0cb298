/* estimate_impl.h - what the files of the estimate share. */
#ifndef ESPALIER_ESTIMATE_IMPL_H
#define ESPALIER_ESTIMATE_IMPL_H

#include "espalier/estimate.h"
#include "espalier/importance.h"
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

/* The first rank of stage i of those of the layout, without communicators. */
esp_grid esp_grid_of(const esp_layout *l, size_t i);

/* The layers of a stage, number `stage` of those of the layout. */
typedef struct esp_extent {
    const esp_model *model;
    esp_grid grid;
    esp_pipeline_stage of;
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

/* Bytes that a stage takes with chunks of C tokens on a rank of the grid. */
typedef size_t (*esp_stage_memory)(const esp_job *j, const esp_grid *grid, const esp_layout *l,
                                   size_t C);

/* Of an estimate of importance. */
void esp_score_work(esp_importance_work *w, const esp_job *j, const esp_grid *grid,
                    const esp_layout *l, size_t chunk_tok);

/* anonymous and mapped of p; bytes sent, read and written. */
void esp_predict_memory(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l);
void esp_predict_bytes(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l);

/* seconds, from the other fields. */
void esp_predict_time(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l,
                      const esp_cluster *c);

#endif
