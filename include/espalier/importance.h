/* importance.h - how much the loss would move without a group (docs/method.md, eq. 6-14, 33-38).
 *
 * Flow: backward leaves dy and x of a matrix -> per-sample gradients, tile by tile, summed in f64
 * as G = mean g_j and F = mean g_j^2 -> sum over the data ranks -> saliency of each element -> row and
 * column sums -> channels of structures -> scores of groups. Per-sample values do not depend on ranks or
 * threads and sums are f64, so scores agree over rank counts to about 1e-14; plans rank them as f32.
 * Criteria of gates take x and dL/dx of the outputs of groups instead, one number per group and sample.
 */
#ifndef ESPALIER_IMPORTANCE_H
#define ESPALIER_IMPORTANCE_H

#include "espalier/groups.h"
#include "espalier/pass.h"

typedef enum esp_criterion {
    ESP_VECTOR,
    ESP_ELEMENT1,
    ESP_ELEMENT2,
    ESP_MIX,
    ESP_L1,
    ESP_L2,
    ESP_GATE1,
    ESP_GATE2,
    ESP_KFAC,
    ESP_WANDA_SP,
    ESP_FLAP,
    ESP_RANDOM,
    ESP_MASKS, /* see masks.h: esp_importance_estimate leaves its scores 0 */
    ESP_N_CRITERIA
} esp_criterion;

typedef enum esp_aggregation {
    ESP_SUM,
    ESP_PROD,
    ESP_MAX,
    ESP_LAST,
    ESP_N_AGGREGATIONS
} esp_aggregation;

/* What a criterion reads, a bit set. */
typedef enum esp_need {
    ESP_NEEDS_NOTHING = 0,
    ESP_NEEDS_WEIGHTS = 1,
    ESP_NEEDS_GRADIENT = 2,  /* G                                             */
    ESP_NEEDS_FISHER = 4,    /* F, gradients squared; it comes with G         */
    ESP_NEEDS_GATES = 8,     /* gradients of gates on the outputs of groups   */
    ESP_NEEDS_FACTORS = 16,  /* mean squares of inputs and of output gradients of matrices */
    ESP_NEEDS_INPUTS = 32,   /* moments of what the matrices behind units multiply         */
    ESP_NEEDS_TRAINING = 64, /* of gates, on the samples: see masks.h                         */
    ESP_NEEDS_BACKWARD =
        ESP_NEEDS_GRADIENT | ESP_NEEDS_FISHER | ESP_NEEDS_GATES | ESP_NEEDS_FACTORS,
    ESP_NEEDS_SAMPLES = ESP_NEEDS_BACKWARD | ESP_NEEDS_INPUTS
} esp_need;

/* Names, "vector" ... and "sum" ...; NULL from ESP_N_CRITERIA and ESP_N_AGGREGATIONS on. Local. */
const char *esp_criterion_name(esp_criterion c);
const char *esp_aggregation_name(esp_aggregation a);

/* What F is: "mean" or, sum = 1, "sum"; NULL beyond. Local. */
const char *esp_fisher_name(unsigned sum);

/* What the labels of the samples are: "data" or, drawn = 1, "model"; NULL beyond. Local. */
const char *esp_labels_name(unsigned drawn);

/* Whether one of a bit set of criteria needs that, or a part of it. Local. */
bool esp_criteria_need(unsigned criteria, esp_need need);

/* Bit set of 1u << esp_unit_kind: what a criterion scores. Local. */
unsigned esp_criterion_units(esp_criterion c);

/* Structures of a unit that a criterion scores: all, the columns alone, or none. Local. */
size_t esp_criterion_structures(esp_criterion c, const esp_unit *u);

typedef struct esp_importance_options {
    unsigned criteria;     /* bit set of 1u << esp_criterion       */
    unsigned aggregations; /* bit set of 1u << esp_aggregation     */
    unsigned units;        /* bit set of 1u << esp_unit_kind       */
    bool fisher_sum;       /* F = sum_j instead of mean_j          */
    bool model_labels;     /* labels drawn from the prediction, see esp_pass_options.draws_labels */
    uint64_t seed;         /* of criterion random, and of such labels */
    size_t chunk_tok;      /* tokens of a chunk; 0: chosen          */
    size_t kept_layers;    /* whose activations are kept, see esp_pass_options */
    const char
        *scratch; /* borrowed; folder for what has the samples' size, see esp_spill_buffer_init */
} esp_importance_options;

typedef struct esp_scores {
    const esp_groups *groups; /* borrowed */
    const esp_arch *arch;     /* borrowed; names the structures */
    unsigned criteria, aggregations, units;
    /* [n_units * ESP_N_CRITERIA * ESP_N_AGGREGATIONS] of [n_groups], and
     * [n_units * ESP_N_CRITERIA] of [n_structures * n_channels]; NULL where not asked for; owned */
    double **group;
    double **structure;
    double
        loss; /* mean over samples of the mean cross-entropy; NAN where no criterion needs a backward */
    size_t n_samples, n_tok, sequence; /* sequence: tokens of the longest sample */
    double flops; /* multiply-adds * 2 of the linear products, over all ranks */
} esp_scores;

/* Tokens of a chunk where nothing is set, for a rank's n_tok tokens of samples of at most longest. Local. */
size_t esp_importance_chunk(size_t n_tok, size_t longest, const esp_grid *grid);

/* What esp_importance_estimate takes on a rank of a grid, which needs no communicators, for sizes of all
 * samples and of the rank's own. Bytes are exact, but that scratch of any layer counts as that of the layer
 * with the most. Local. */
typedef struct esp_importance_work {
    size_t bytes;            /* of memory, at most                                               */
    size_t held;             /* of memory while it is added up                                   */
    size_t n_sums;           /* numbers of sums over rows and columns                            */
    double numbers;          /* of all matrices                                                  */
    esp_work work;           /* of this rank, the pass included                                  */
    double weight_gradients; /* bytes that the data ranks of this pipeline stage send each other */
    double sums;             /* bytes of sums that all ranks send                                */
    double activations;      /* bytes that all pipeline stages send each other                   */
} esp_importance_work;

void esp_importance_work_of(esp_importance_work *w, const esp_model *m, const esp_groups *g,
                            const esp_importance_options *o, esp_text_size all, esp_text_size own,
                            const esp_grid *grid);

/* Scores of all criteria in one pass over the samples; l1 and l2 need the weights only, random the shapes
 * only, and samples may be NULL then. A rank takes its samples as one batch, in chunks, so that the gradient
 * of a matrix is complete when backward has passed its layer. Memory beside the pass, in f32: for each of the
 * rank's tokens, inputs and output gradients of the matrices of one layer (with several pipeline stages, of
 * the layers of the stage), and for ESP_UNIT_HIDDEN the gradient of the logits; the sums over rows
 * and columns: see esp_importance_work. ESP_EUSAGE for a sample that predicts nothing; ESP_EFORMAT for a
 * loss, a gradient (the first sample, and where in the model) or a score that is not finite. The same scores,
 * or the same error, on all ranks afterwards. Collective on grid->world. */
esp_status esp_importance_estimate(esp_scores *s, const esp_model *m, const esp_groups *g,
                                   const esp_samples *samples, const esp_importance_options *o,
                                   const esp_grid *grid);
void esp_scores_free(esp_scores *s); /* safe twice and on {0} */

/* Bytes of memory that scores take, of bit sets as in the options. Local. */
size_t esp_scores_bytes(const esp_groups *g, unsigned criteria, unsigned aggregations,
                        unsigned units);

/* Borrowed; NULL when not asked for. structure: [esp_criterion_structures][n_groups *
 * channels_per_group]. Local. */
const double *esp_scores_group(const esp_scores *s, const esp_unit *u, esp_criterion c,
                               esp_aggregation a);
const double *esp_scores_structure(const esp_scores *s, const esp_unit *u, esp_criterion c);

/* Score of a group under criterion random, uniform in [0, 1): a function of the seed and the place of
 * the group. Local. */
double esp_score_random(uint64_t seed, const esp_unit *u, size_t group);

/* importance.h5: /layers/<l>/<unit>/<criterion>/<aggregation> f64 [groups],
 * /layers/<l>/<unit>/<criterion>/structures/<label> f64 [channels], /hidden/<criterion>/<aggregation>
 * f64 [hidden]; attributes of the file: model (digest), samples, tokens, sequence, seed, loss,
 * fisher, labels. Errors of esp_h5_close. Local. */
esp_status esp_scores_save(const esp_scores *s, const char *path, const char *model_digest,
                           const esp_importance_options *o);

/* Reads back what a plan needs: the scores of groups of whatever units, criteria and aggregations
 * there are. ESP_EFORMAT when sizes do not fit the groups or the digest differs. Local. */
esp_status esp_scores_load(esp_scores *s, const esp_groups *g, const char *path,
                           const char *model_digest);

#endif
