/* pass.h - the one forward and the one backward, for calibration, recovery, evaluation and decoding.
 *
 * Flow: esp_pass_forward -> esp_pass_loss -> esp_pass_backward. Forward keeps the input of each block, and of
 * as many blocks as options.kept_layers says all that backward reads; backward recomputes the others, with
 * the same bits, and passes the gradients of a block's weights to a sink. Matrices are read from the
 * mapped file, in their own type.
 *
 * Where this rank has all layers, all chunks of a batch go through a layer before the next layer, so that its
 * weights are converted once. With several pipeline stages each chunk goes through all layers of the stage
 * and is sent to the next rank, which computes it while this rank computes the following chunk. The results
 * of a sample are the same either way, bit for bit.
 */
#ifndef ESPALIER_PASS_H
#define ESPALIER_PASS_H

#include "espalier/adapter.h"
#include "espalier/batch.h"
#include "espalier/gates.h"
#include "espalier/model.h"
#include "espalier/spill_buffer.h"
#include "espalier/work.h"

/* Receives gradients of weights and values in the order in which backward computes them: of each one chunk
 * at a time, in the order of the chunks. Each function may be NULL. Pointers are valid during the call. */
typedef struct esp_sink {
    void *ctx;
    /* dL/dW = dy^T x, and dL/dbias the column sums of dy. dy [n_tok, rows]  x [n_tok, cols]. input: number of
     * the block's value that x is, the same for all weights that multiply it (q, k and v); -1 for the head,
     * which is called once per run of tokens, in order. */
    void (*linear)(void *ctx, size_t layer, int slot, int input, const float *dy, const float *x,
                   size_t n_tok);
    /* Where the rows of the head are normalised, called after linear: row v of the head's dL/dW has to be
     * reduced by the sum over t of norm_head_grad[t, v] times row v of W.  norm_head_grad [n_tok, V] */
    void (*norm_head_grad)(void *ctx, const float *norm_head_grad, size_t n_tok);
    /* dw [n_samples, n]: gradient of a norm's weight of n numbers, one row per sample; db likewise of its
     * bias, NULL where it has none. */
    void (*norm)(void *ctx, size_t layer, int slot, const float *dw, const float *db,
                 size_t n_samples);
    /* dx [n_tok, width]: gradient, complete, of value `value` that an operation of the block makes, of a
     * chunk; x likewise: the value itself where a backward reads it, as it does what matrices multiply,
     * else NULL. Where gates multiply the value, x is what they take and dx the gradient of what they give:
     * a gate's gradient is the sum of x dx over its channels and tokens. */
    void (*value)(void *ctx, size_t layer, int value, const float *x, const float *dx,
                  const esp_batch *chunk);
    /* dx [n_tok, D]: gradient of the rows of a table that the tokens looked up; row [n_tok]. For all of the
     * batch at once. */
    void (*lookup)(void *ctx, int slot, const int32_t *row, const float *dx);
    /* No more calls for this layer; layer ESP_NO_LAYER: none for the head and the final norm. */
    void (*done)(void *ctx, size_t layer);
} esp_sink;

/* Reads what the linear operations of a layer take and give, for sums over tokens. */
typedef struct esp_tap {
    void *ctx;
    /* x [n_tok, cols]  y [n_tok, rows] of a chunk, which x and y outlive: until the pass goes on with the
     * next one. */
    void (*linear)(void *ctx, size_t layer, int slot, const float *x, const float *y,
                   const esp_batch *chunk);
    int last; /* slot of a linear operation after which the layer ends, its output not made; -1: none */
} esp_tap;

typedef struct esp_pass_options {
    size_t max_samples, max_tok; /* of the largest batch                                     */
    size_t chunk_tok;            /* tokens of the largest chunk; 0: max_tok                  */
    size_t rank;                 /* largest rank of an adapter that will be used; 0: none      */
    size_t longest;              /* tokens of the longest sample; 0: chunk_tok. For sizes only */
    size_t kept_layers;          /* of the stage, at most: layers whose values the backward does not
                                    make again from the block's input, as they are kept         */
    bool backward;               /* keep what backward needs                                 */
    bool resident;               /* keep what is made of all layers' weights (decoding)        */
    bool gates;                  /* room for what gates make of values, see esp_pass.gates  */
    bool draws_labels;           /* targets are drawn from what the model predicts           */
    uint64_t label_seed;         /* of these draws, with the key of a sample and a position   */
    bool layers_only;            /* no final norm, head and loss: for esp_pass_layer alone     */
    bool head_only;              /* no layers: logits of hidden states that are given        */
    const esp_grid *grid;        /* borrowed; NULL: this rank has all layers                  */
    const char
        *scratch; /* borrowed; folder for arrays of a batch's size, see esp_spill_buffer_init */
} esp_pass_options;

typedef struct esp_pipeline_stage { /* the layers of a rank */
    size_t begin, end;
    size_t at_once;   /* layers that a chunk goes through before the next chunk follows       */
    bool first, last; /* it has the embedding; the final norm and the head */
} esp_pipeline_stage;

/* Layers of this rank on a grid (NULL: all). Local. */
esp_pipeline_stage esp_pipeline_stage_of(const esp_model *m, const esp_grid *grid);

/* Bytes of the weights that this rank uses, in their types. Local. */
size_t esp_pipeline_stage_bytes(const esp_model *m, const esp_grid *grid);

/* Micro-batches that fill the pipeline: per_stage for each pipeline stage; 1 where there is one stage.
 * Local. */
size_t esp_pass_chunks(const esp_grid *grid, size_t per_stage);

/* Rows of logits that a pass over max_tok tokens makes at a time. Local. */
size_t esp_pass_run(const esp_model *m, size_t max_tok);

/* A teacher whose predictions are part of the loss: what esp_pass_loss of a student needs of it, where it has
 * the head. */
typedef struct esp_teaching {
    struct esp_pass *head;  /* borrowed; of the teacher, head_only, runs as long as the student's */
    const uint16_t *hidden; /* [n_tok, D of the teacher] borrowed; BF16: its final hidden states,
                             * after the norm, of the tokens of the batch */
    double ratio, temperature; /* see esp_distillation_rule */
} esp_teaching;

typedef struct esp_cache { /* keys and values of one sample, for decoding */
    size_t n, capacity;    /* positions filled, at most                   */
    size_t n_layers;
    float **k, **v; /* [n_layers] of [capacity, K * d] owned        */
} esp_cache;

typedef struct esp_pass {
    const esp_model *model;       /* borrowed                                             */
    const esp_adapter *adapter;   /* borrowed; NULL: none. May be changed between batches  */
    const esp_teaching *teaching; /* borrowed; NULL: none. May be changed between batches */
    const esp_gates *gates;       /* borrowed; NULL: none. options.gates; likewise          */
    esp_pass_options options;
    esp_pipeline_stage stage;
    esp_spill_buffer inputs;   /* [backward ? layers of the stage + 1 : 1][max_tok, D]: inputs of
                                * blocks, and the last output */
    esp_spill_buffer hidden;   /* [max_tok, D]: final hidden states, after the norm              */
    esp_spill_buffer d_hidden; /* [max_tok, D]: gradient with respect to the hidden state        */
    esp_spill_buffer d_spare;  /* [max_tok, D]: the other of the two buffers of the backward     */
    esp_batch chunk;           /* the chunk under way; owned                               */
    struct esp_pipeline *pipeline;   /* messages from and to the other pipeline stages; owned */
    struct esp_block *block;         /* scratch of one block; owned                              */
    float **kept;                    /* [options.kept_layers, n_values] of [max_tok, width] owned:
                                    * values of the stage's last blocks; NULL: not read by a backward */
    struct esp_embedding *embedding; /* what it keeps for its backward; owned    */
    struct esp_head_and_norm *head_and_norm; /* weights outside the blocks, logits; owned */
    esp_bf16 *bf16;          /* products of a model with that precision, else NULL; owned    */
    esp_bf16_buffer rounded; /* an operand of such a product; owned                         */
    double flops;            /* multiply-adds * 2 of the linear products executed so far         */
} esp_pass;

/* p [out, owned]: ready for batches within options; m must outlive it. Local. */
void esp_pass_init(esp_pass *p, const esp_model *m, esp_pass_options options);
void esp_pass_free(esp_pass *p); /* safe twice and on {0} */

/* Bytes that esp_pass_init allocates; options.grid needs no communicators. Local. */
size_t esp_pass_bytes(const esp_model *m, esp_pass_options options);

/* Bytes beside that while it goes on, at most: of esp_pass_loss; of layers; of the steps before. Local. */
typedef struct esp_pass_scratch {
    size_t loss, blocks, embedding;
} esp_pass_scratch;

esp_pass_scratch esp_pass_scratch_bytes(const esp_model *m, esp_pass_options options);

/* How far a pass goes: forward and loss; and back through frozen weights; and with gradients of all weights
 * with inputs, which the sink multiplies out. */
typedef enum esp_pass_way { ESP_PASS_FORWARD, ESP_PASS_BACKWARD, ESP_PASS_GRADIENTS } esp_pass_way;

/* What a rank of a grid does with t of its own. reads: times that a layer's weights are read each way (on one
 * pipeline stage once for all chunks of a batch, else per chunk). Products are those that pass->flops
 * counts, without adapters; kept_layers as in esp_pass_options. Local. */
esp_work esp_pass_work(const esp_model *m, const esp_grid *grid, esp_text_size t, double reads,
                       esp_pass_way way, size_t kept_layers);

/* Bytes that all pipeline stages together pass on for n_tok tokens. Local. */
double esp_pass_sent(const esp_model *m, const esp_grid *grid, double n_tok, esp_pass_way way);

/* Embedding and all blocks and the final norm: fills p->hidden (of the last pipeline stage). With a cache
 * (one sample) the batch continues it: batch->position = cache->n, and the cache grows by the batch. cache
 * may be NULL. Collective on grid->pipeline, like loss and backward: Local without a grid. */
void esp_pass_forward(esp_pass *p, esp_cache *cache, const esp_batch *batch);

/* Layer by layer, for who reads or changes weights on the way: esp_pass_begin (the embedding, or what the
 * pipeline stage before sends) -> all chunks of a layer, layers in order -> esp_pass_end (sent to the next
 * stage). Without backward. A layer's output takes the place of its input, unless tap->last ends it before:
 * then it can be run again. With chunk 0 the weights are read anew. tap may be NULL. begin and end are
 * Collective on the grid's layers, esp_pass_layer is Local. */
void esp_pass_begin(esp_pass *p, const esp_batch *batch);
void esp_pass_layer(esp_pass *p, size_t layer, size_t chunk, const esp_tap *tap,
                    const esp_batch *batch);
void esp_pass_end(esp_pass *p, const esp_batch *batch);

/* Head and cross-entropy in runs of tokens. loss [n_samples] is set to sums over targets: those of the batch,
 * or, with options.draws_labels, one drawn from the prediction wherever the batch has one.
 * With scale [n_samples] (what a token's loss of that sample counts in the objective) it also prepares
 * backward: gradients of head and final norm go to the sink (may be NULL), and with p->teaching the loss is
 * that of esp_distillation. scale NULL: cross-entropy only. The last pipeline stage does it; on the others
 * losses are 0. */
typedef struct esp_loss {
    double sum;    /* cross-entropy, or what takes its place, nats */
    int64_t count; /* targets             */
    int64_t hits;  /* targets that had the largest logit */
} esp_loss;

void esp_pass_loss(esp_pass *p, esp_loss *loss, const float *scale, const esp_sink *sink,
                   const esp_batch *batch);

/* Through all blocks and the embedding, after esp_pass_loss with a scale. LoRA gradients go to the
 * adapter's arrays, weight gradients to the sink (NULL: none, base weights frozen). */
void esp_pass_backward(esp_pass *p, const esp_sink *sink, const esp_batch *batch);

/* Input of layer l [max_tok, D]; for the layer after the last of the stage: what the stage gives. Those of
 * all layers stay for a backward. Borrowed. Local. */
float *esp_pass_input(const esp_pass *p, size_t l);

/* Logits of rows of p->hidden.  logits [n_rows, V]. Local. */
void esp_pass_logits(float *logits, esp_pass *p, size_t first_row, size_t n_rows);

/* c [out, owned]: empty, with room for `capacity` positions of a sample. Local. */
void esp_cache_init(esp_cache *c, const esp_model *m, size_t capacity);
void esp_cache_free(esp_cache *c); /* safe twice and on {0} */

#endif
