/* estimate_impl.h - what the files of the estimate share. */
#ifndef ESPALIER_ESTIMATE_IMPL_H
#define ESPALIER_ESTIMATE_IMPL_H

#include "espalier/estimate.h"
#include "espalier/mem.h"
#include "espalier/pass.h"

#define ESP_NODE_SHARE 0.9 /* of the memory of a node that ranks may fill */

/* What no constructor counts. */
#define ESP_PROGRAM_BYTES \
    ((size_t)6 << 20) /* code and libraries with their tables, JSON, tokenizer */
#define ESP_THREAD_BYTES \
    ((size_t)2 << 20) /* stack, BLAS's buffers                                 */

static inline size_t n_ranks(const esp_layout *l)
{
    return l->nodes * l->ranks;
}

static inline size_t data_ranks(const esp_layout *l)
{
    return n_ranks(l) / l->pipeline;
}

/* The first rank of pipeline stage i of those of the layout, without communicators. */
static inline esp_grid esp_grid_of(const esp_layout *l, size_t i)
{
    return (esp_grid){ .size = esp_count(n_ranks(l)),
                       .n_data = esp_count(data_ranks(l)),
                       .n_pipeline = (int)l->pipeline,
                       .i_pipeline = (int)i,
                       .n_threads = (int)l->threads };
}

/* ---- stage_costs.c: what a stage of the run costs, a row each ------------------------------------ */

/* Weights that a stage maps. The dense ones are mapped by now and count in a limit already, pruned ones are
 * still to be. */
typedef enum esp_maps { ESP_MAPS_NONE, ESP_MAPS_DENSE, ESP_MAPS_PRUNED } esp_maps;

typedef struct esp_stage_cost {
    const esp_text_size *(*text)(
        const esp_job *j); /* of the samples that go through it, borrowed */
    bool pruned;           /* its layers are those of the pruned model    */
    esp_maps maps;
    /* Tokens of a chunk where there is no limit. */
    size_t (*chunk)(const esp_job *j, const esp_layout *l);
    /* Bytes of memory of a rank of the grid with the chunks and the kept layers of p, beside what every stage
     * has. */
    size_t (*bytes)(const esp_prediction *p, const esp_job *j, const esp_grid *grid,
                    const esp_layout *l);
    /* Sets sent, read and written of p, {0} before. */
    void (*moves)(esp_prediction *p, const esp_job *j, const esp_layout *l);
    /* Seconds without files, from the other fields of p. */
    double (*seconds)(const esp_prediction *p, const esp_job *j, const esp_layout *l,
                      const esp_cluster *c);
    const char *remedy; /* where its memory is too much */
} esp_stage_cost;

extern const esp_stage_cost esp_stage_costs[ESP_N_STAGES];

/* ---- rates.c: seconds of work, messages and files ----------------------------------------------- */

/* Of a rank while the other ranks of its node have as much. */
double esp_work_seconds(const esp_work *w, const esp_layout *l, const esp_cluster *c);

/* The same where its chunks go through the stages of a pipeline: the first and the last have to wait. */
double esp_pipeline_seconds(const esp_work *w, const esp_layout *l, const esp_cluster *c);

/* Messages: bytes of all ranks together, and how many go one after another. */
double esp_sending_seconds(double bytes, double calls, const esp_layout *l, const esp_cluster *c);

/* What p says is read and written. */
double esp_file_seconds(const esp_prediction *p, const esp_layout *l, const esp_cluster *c);

#endif
