/* estimate_time.c - seconds of the stages: products, the work beside them, messages, files.
 *
 * The rate of a core is that of products with weights; other work runs at a fraction of it, and what moves
 * memory shares the bandwidth of the node with the other ranks. Measured by make bench.
 */
#include "estimate_impl.h"

#include <math.h>

#include "espalier/recover.h"
#include "espalier/settings.h"

#define ATTENTION 0.36  /* of that rate: scores, softmax and values, in blocks of queries    */
#define SUM_G     7.8   /* FLOP that a core would do while it adds an element of a sample to G */
#define SUM_GF    13.6  /* the same for G and F                                              */
#define SERIAL    0.005 /* of the work of a rank is done by one of its threads: assumed */
#define TABLE     15.0  /* bytes moved a number of a block's values: norms, gates, additions    */

/* What a rank has to do, in FLOP of products with weights and bytes of memory. */
typedef struct load {
    double flops, bytes;
} load;

/* Numbers of the linear weights of a stage, head left out, and of those that backward computes again. */
typedef struct weights {
    double linear, again, values, attention;
} weights;

static weights weights_of(const esp_extent *e)
{
    const esp_model *m = e->model;
    const esp_arch *a = m->arch;
    weights n = { 0 };

    for (size_t l = e->of.begin; l < e->of.end; l++) {
        double last = 0;

        for (size_t i = 0; i < a->n_ops; i++) {
            const esp_op *op = &a->ops[i];

            n.values += (double)esp_model_width(m, l, a->values[op->out]);
            if (op->kind == ESP_OP_LINEAR) {
                const esp_weight *w = esp_model_weight(m, l, op->slot);

                last = (double)w->rows * (double)w->cols;
                n.linear += last;
            }
        }
        n.again += -last;
        n.attention += (double)esp_model_width(m, l, ESP_W_QUERY);
    }
    n.again += n.linear;
    return n;
}

static double head_numbers(const esp_extent *e)
{
    return e->of.last ? (double)e->model->dims.hidden * (double)e->model->dims.vocab : 0;
}

/* Bytes of the weights that one chunk reads. */
static double read_bytes(const esp_extent *e, const weights *w)
{
    return w->linear * (double)esp_dtype_size(e->model->dtype);
}

/* Tokens through the stage: `forward` times, and `products` more of each linear weight and of the head. */
static load pass_load(const esp_extent *e, double tokens, double longest, double passes,
                      bool backward, bool gradients)
{
    weights w = weights_of(e);
    double head = head_numbers(e), times = backward ? 2 : 1;
    load t = { 0 };

    t.flops = 2 * tokens * (w.linear + head);
    if (backward) {
        t.flops += 2 * tokens * (w.again + w.linear + head);
    }
    if (gradients) {
        t.flops += 2 * tokens * w.linear;
    }
    t.flops += (backward ? 4.5 : 1) * 2 * tokens * longest * w.attention / ATTENTION;
    t.bytes = times * passes * read_bytes(e, &w) + (backward ? 3 : 1) * TABLE * tokens * w.values;
    return t;
}

static double seconds_of(const load *t, const esp_layout *l, const esp_cluster *c)
{
    double cores = fmin((double)l->threads, (double)c->cores / (double)l->ranks);
    double speed = cores / (1 + SERIAL * (cores - 1)); /* Amdahl */

    return t->flops / (c->core_flops * speed) + t->bytes * (double)l->ranks / c->memory_bytes;
}

/* Messages of one kind: bytes of all ranks together, and how many one after another. */
static double sending(double bytes, double calls, const esp_layout *l, const esp_cluster *c)
{
    double rate = l->nodes > 1 ? fmin(c->network_bytes, c->memory_bytes) : c->memory_bytes / 4;
    double latency = l->nodes > 1 ? c->latency : c->latency / 4;

    return bytes / (double)l->nodes / rate + calls * latency * log2(fmax(2, (double)n_ranks(l)));
}

static double files(const esp_prediction *p, const esp_layout *l, const esp_cluster *c)
{
    double node = c->network_bytes * (double)l->nodes; /* the network carries the files, too */

    return (c->read > 0 ? p->read / fmin(c->read, node) : 0) + p->written / fmin(c->write, node);
}

/* ---- the stages ------------------------------------------------------------------------------- */

static double score_seconds(const esp_prediction *p, const esp_job *j, const esp_extent *e,
                            const esp_layout *l, const esp_cluster *c)
{
    esp_text_size t = esp_local_text(&j->calibration, j->calibration.samples, l);
    double chunks = ceil((double)t.tokens / fmax(1, (double)p->chunk_tok));
    bool fisher = esp_criteria_need(j->config->importance.criteria, ESP_NEEDS_FISHER);
    double data = (double)esp_n_data(l), sum = fisher ? SUM_GF : SUM_G;
    double a_number = sum * (double)j->calibration.samples +
                      2 * (double)j->calibration.tokens;                     /* of all samples */
    double idle = (double)t.samples * data / (double)j->calibration.samples; /* shares are uneven */
    esp_importance_work score;
    load work = pass_load(e, (double)t.tokens, (double)t.longest, l->pipeline > 1 ? chunks : 1,
                          true, false);

    esp_score_work(&score, j, &e->grid, l, p->chunk_tok);
    work.flops += (score.gathered + score.summed * idle) * a_number / data;
    work.bytes += score.numbers * 24 / data;
    return seconds_of(&work, l, c) * (chunks + (double)l->pipeline - 1) / chunks +
           sending(p->sent[ESP_SENT_WEIGHT_GRADIENTS] + p->sent[ESP_SENT_SUMS], score.numbers / 1e6,
                   l, c) +
           sending(p->sent[ESP_SENT_ACTIVATIONS], 2 * chunks, l, c);
}

static double recover_seconds(const esp_prediction *p, const esp_job *j, const esp_extent *e,
                              const esp_layout *l, const esp_cluster *c)
{
    const esp_config *o = j->config;
    esp_training_size s = esp_training_size_of(j, l);
    bool full = o->recover.method == ESP_METHOD_FULL;
    esp_text_size step = esp_local_text(&j->training, esp_min(o->recover.batch, s.n_train), l);
    esp_text_size held = esp_local_text(&j->training, s.n_valid, l);
    double micro = fmax(1, (double)s.micro_batches), longest = (double)step.longest;
    double micro_valid = ceil((double)held.samples / fmax(1, (double)o->recover.micro_batch));
    double bubble = (micro + (double)l->pipeline - 1) / micro, n = (double)s.n_numbers;
    load train = pass_load(e, (double)step.tokens, longest, micro, true, full);
    load valid = pass_load(e, (double)held.tokens, longest, micro_valid, false, false);
    double calls = (double)(j->pruned.dims.n_layers + 2);

    train.flops += full ? 0 : 12 * n / (double)l->pipeline * (double)step.tokens;
    train.bytes += 4 * n + 28 * n / (double)n_ranks(l); /* zeros; the optimiser on a share */
    return s.steps *
               (seconds_of(&train, l, c) * bubble +
                sending((p->sent[ESP_SENT_GRADIENTS] + p->sent[ESP_SENT_VALUES]) / fmax(1, s.steps),
                        2 * calls, l, c)) +
           s.validations * seconds_of(&valid, l, c) +
           sending(p->sent[ESP_SENT_ACTIVATIONS], 2 * micro * s.steps, l, c);
}

static double eval_seconds(const esp_prediction *p, const esp_job *j, const esp_extent *e,
                           const esp_layout *l, const esp_cluster *c)
{
    esp_text_size t = esp_local_text(&j->evaluation, j->evaluation.samples, l);
    double batches = ceil((double)t.tokens / fmax(1, (double)j->config->eval.batch_tokens));
    load work = pass_load(e, (double)t.tokens, (double)t.longest, batches, false, false);

    return seconds_of(&work, l, c) * (batches + (double)l->pipeline - 1) / fmax(1, batches) +
           sending(p->sent[ESP_SENT_ACTIVATIONS] / 3, batches, l, c);
}

/* The slowest stage of the pipeline, over all of them. */
static double slowest(double (*seconds)(const esp_prediction *, const esp_job *, const esp_extent *,
                                        const esp_layout *, const esp_cluster *),
                      const esp_prediction *p, const esp_job *j, const esp_model *m,
                      const esp_layout *l, const esp_cluster *c)
{
    double most = 0;

    for (size_t i = 0; i < l->pipeline; i++) {
        esp_extent e = esp_extent_of(m, i, l);

        most = fmax(most, seconds(p, j, &e, l, c));
    }
    return most;
}

void esp_predict_time(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l,
                      const esp_cluster *c)
{
    bool samples = esp_criteria_need(j->config->importance.criteria, ESP_NEEDS_GRADIENT);

    p->seconds = files(p, l, c);
    switch (s) {
    case ESP_STAGE_SCORE:
        p->seconds += samples ? slowest(score_seconds, p, j, j->dense, l, c) : 0;
        break;
    case ESP_STAGE_PLAN: /* rank 0 sorts and counts */
        p->seconds += (double)esp_scores_bytes(&j->groups, j->config->importance.criteria,
                                               j->config->importance.aggregations,
                                               j->config->importance.units) *
                      1.25e-8;
        break;
    case ESP_STAGE_PRUNE:
        p->seconds += 2 * p->written / c->memory_bytes;
        break;
    case ESP_STAGE_RECOVER:
        p->seconds += slowest(recover_seconds, p, j, &j->pruned, l, c);
        break;
    default:
        p->seconds += slowest(eval_seconds, p, j, j->dense, l, c) +
                      2 * slowest(eval_seconds, p, j, &j->pruned, l, c);
    }
}
