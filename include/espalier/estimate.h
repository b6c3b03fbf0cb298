/* estimate.h - what the stages of a run need before any work is done: memory, bytes moved, time; and the
 * grid that needs the least time. From shapes and settings alone.
 *
 * Flow: esp_job_init -> esp_cluster_of -> esp_cluster_measure -> esp_predict for a layout, or
 * esp_best_layout over all of them. Letters: C tokens of a chunk, D model width, P data ranks, S pipeline
 * stages, W all ranks.
 *
 * Memory is the anonymous memory of the rank that needs the most (RssAnon); weights in their own type are
 * mapped from the model folder, and the ranks of a node share one copy in the page cache. Bytes sent follow
 * the model of traffic.h:
 *   weight gradients (P - 1) b, b the sum over the scored matrices [rows, cols] of the lesser of
 *                  4 T (rows + cols), T tokens of all samples (cols once for weights with one input; of a
 *                  table looked up 4 T (1 + cols) instead), where it is 256 MB at most, and
 *                  8 c rows cols, c = 2 with criteria that need the Fisher sum, else 1;
 *                and of 16 n for norms and biases of n
 *   sums         2 (W - 1) 8 s; s sums over rows and columns, all criteria
 *   activations  2 (S - 1) 4 D tokens; a forward alone: half of it
 *   gradients    2 (W - 1) 4 n per step, n trained numbers
 *   teacher      (P - 1) / P 2 D per token of a step, D the teacher's; where P divides a batch none in the
 *                first epoch
 */
#ifndef ESPALIER_ESTIMATE_H
#define ESPALIER_ESTIMATE_H

#include "espalier/config.h"
#include "espalier/groups.h"
#include "espalier/limit.h"
#include "espalier/par.h"
#include "espalier/traffic.h"

typedef struct esp_cluster {
    size_t nodes, cores;  /* cores of a node                                           */
    double memory;        /* bytes of a node                                           */
    esp_limit here;       /* where memory was found on this machine, its source; else {0} */
    double core_flops;    /* FLOP/s of products on a core while all of a node work     */
    double memory_bytes;  /* bytes/s of a node, read and written by copies             */
    double network_bytes; /* bytes/s of a node, each direction                         */
    double latency;       /* seconds of a short message between nodes                  */
    double read, write;   /* bytes/s of the file system, all nodes; read 0: in memory  */
} esp_cluster;

typedef struct esp_layout {
    size_t nodes, ranks; /* ranks of a node                              */
    size_t threads;      /* of a rank                                    */
    size_t pipeline;     /* pipeline stages; data ranks are nodes * ranks / pipeline */
} esp_layout;

typedef struct esp_job {
    const esp_config *config; /* borrowed */
    const esp_model *dense;   /* borrowed; shapes are enough                                    */
    esp_limit limit;          /* of a rank: memory_limit, until someone says what it is then    */
    esp_model pruned;         /* owned; shapes of what a plan by these settings leaves           */
    esp_model teacher;        /* owned; shapes of that of recover; {0}: none                     */
    esp_text_size calibration, compensation, training, evaluation;
    esp_groups groups;   /* owned; of dense                                             */
    uint64_t targets;    /* bit set of slots that recover adapts                        */
    size_t units, texts; /* bytes of groups; of the samples that are there with a stage */
} esp_job;

typedef struct esp_prediction {
    size_t chunk_tok;   /* C                                                               */
    size_t kept_layers; /* of a pipeline stage, at most: see esp_pass_options                     */
    double anonymous, mapped; /* bytes of the rank that needs the most                           */
    double seconds;
    double sent[ESP_N_SENT]; /* bytes, all ranks together */
    double read, written;    /* bytes of files, all ranks together */
} esp_prediction;

/* The setting memory_limit; 0 bytes where it is not set. Local. */
esp_limit esp_limit_of_settings(const esp_config *c);

/* l [out]: memory_limit, else what the machine has for the job (esp_limit_find), the same on all ranks. This
 * process is held to it, and borrows l, until esp_limit_hold(NULL). Collective on world. */
void esp_limit_begin(esp_limit *l, const esp_config *c, MPI_Comm world);

/* j [out, owned]; borrows dense and c. Sizes of texts are those of the settings (calibration.samples of
 * calibration.sequence tokens, estimate.documents of recover.cutoff, eval.samples or else estimate.windows of
 * eval.window) until esp_job_set_texts. Where no plan meets the settings, `pruned` has the shapes of dense.
 * Local. */
void esp_job_init(esp_job *j, const esp_model *dense, const esp_config *c);
void esp_job_free(esp_job *j); /* safe twice and on {0} */

/* Sets the sizes of texts to those of samples that have been read; of none (n = 0) they stay. Local. */
void esp_job_set_texts(esp_job *j, const esp_samples *calibration, const esp_samples *compensation,
                       const esp_samples *training, const esp_eval_texts *evaluation);

/* The cluster that the settings describe; what is to be measured is 0. Local. */
esp_cluster esp_cluster_of(const esp_config *c);

/* Fills in what is 0 in c [in,out]: cores of this machine, memory that esp_limit_of_node finds here, and the
 * rates that half a second of products and copies on all its cores reaches. Local. */
void esp_cluster_measure(esp_cluster *c);

/* What a stage needs on a layout, with chunks of chunk_tok tokens (0: of esp_predict_chunk, or one sample
 * where that is 0) and as many layers kept as esp_predict_kept says. c NULL: without seconds, none kept.
 * Local. */
esp_prediction esp_predict(const esp_job *j, esp_stage s, const esp_layout *l, const esp_cluster *c,
                           size_t chunk_tok);

/* The longest chunk, in tokens, with which a stage fits the limit of a rank: at most what the stage takes
 * without a limit, at least one sample; 0 when even that does not fit. A chunk goes through a layer at
 * once: of score some of the calibration, of recover a micro-batch, of eval a batch. Local. */
size_t esp_predict_chunk(const esp_job *j, esp_stage s, const esp_layout *l);

/* The most layers of a pipeline stage whose activations score and recover can keep with chunks of chunk_tok
 * tokens, weights that are mapped beside them: within the limit of a rank, and its share of the memory of
 * c's nodes (NULL: not looked at); 0 where neither is known. Local. */
size_t esp_predict_kept(const esp_job *j, esp_stage s, const esp_layout *l, const esp_cluster *c,
                        size_t chunk_tok);

/* best [out]: the layout of the cluster's nodes that does the stages (bits of esp_stage) in the least time,
 * within the memory of a node and the limit of a rank. Ranks, threads and pipeline of `fixed` hold where they
 * are not 0. ESP_EUSAGE when none fits, naming the least memory that any layout needs, or when no number of
 * ranks can be shared out to fixed->pipeline; *best is {0} then. Local. */
esp_status esp_best_layout(esp_layout *best, const esp_job *j, unsigned stages,
                           const esp_cluster *c, const esp_layout *fixed);

/* Shapes g [in,out], the grid of a run, into parallel.pipeline pipeline stages. Where that is 0: as many as
 * do all stages of the run in the least time (each more only for a tenth less) and fit the memory of the
 * nodes, by the settings of the cluster, or usual numbers where those are to be measured. ESP_EUSAGE when the
 * number does not divide the ranks. Collective on g->world. */
esp_status esp_choose_grid(esp_grid *g, const esp_config *c);

/* ESP_EUSAGE naming the stage, its need, the limit and what to change, when one of the stages (bits of
 * esp_stage) does not fit j->limit on this layout. Local. */
esp_status esp_check_memory(const esp_job *j, unsigned stages, const esp_layout *l);

#endif
