/* reference_model.h - the forward pass of any family once more, in f64 and as plainly as it can be written:
 * the operations of the description, one sample, one loop each. It can leave channels of the residual stream
 * and layers out, as they are not in a model that has been cut: a norm is then one over the channels that
 * are left.
 *
 * Letters: D model width, T tokens of the sample, V vocabulary, d channels of a head.
 */
#ifndef ESPALIER_TEST_REFERENCE_MODEL_H
#define ESPALIER_TEST_REFERENCE_MODEL_H

#include "espalier/gates.h"
#include "test.h"
#include "reference_rope.h"

#define PLAIN_VALUES 32

typedef struct plain {
    const esp_model *m;
    const bool *gone; /* [D] borrowed; channels that norms leave out. Their numbers are to be 0 in
                       * all weights that write or read the stream; NULL: none                    */
    const esp_gates *gates; /* borrowed; NULL: none */
    esp_batch batch;        /* of the sample */
    size_t T;
    double *value[PLAIN_VALUES]; /* [T, width] of the layer under way */
} plain;

static inline double *plain_numbers(const void *data, esp_dtype type, size_t n)
{
    float *narrow;
    double *wide;

    ESP_NEW(narrow, n);
    ESP_NEW(wide, n);
    esp_to_f32(narrow, data, type, n);
    for (size_t i = 0; i < n; i++) {
        wide[i] = (double)narrow[i];
    }
    free(narrow);
    return wide;
}

static inline size_t plain_width(const plain *p, size_t layer, int value)
{
    return esp_model_width(p->m, layer, p->m->arch->values[value]);
}

/* ---- operations --------------------------------------------------------------------------------- */

/* y [T, rows] = x [T, cols] W^T + b */
static inline void plain_linear(double *y, const double *x, const esp_weight *w, size_t T)
{
    double *W = plain_numbers(w->data, w->dtype, w->rows * w->cols);
    double *b = w->has_bias ? plain_numbers(w->bias, w->dtype, w->rows) : NULL;

    for (size_t t = 0; t < T; t++) {
        for (size_t i = 0; i < w->rows; i++) {
            double sum = b ? b[i] : 0;

            for (size_t c = 0; c < w->cols; c++) {
                sum += W[i * w->cols + c] * x[t * w->cols + c];
            }
            y[t * w->rows + i] = sum;
        }
    }
    free(W);
    free(b);
}

/* One row of n channels; y may be x. */
static inline void plain_norm_row(double *y, const double *x, const double *w, const double *b,
                                  const bool *gone, const esp_model *m, size_t n)
{
    bool centred = m->arch->norm == ESP_NORM_LAYER;
    double plus = m->arch->norm == ESP_NORM_RMS_ONE ? 1 : 0, sum = 0, square = 0, mean, r;
    size_t left = 0;

    for (size_t c = 0; c < n; c++) {
        left += !(gone && gone[c]);
        sum += gone && gone[c] ? 0 : x[c];
    }
    mean = centred ? sum / (double)left : 0;
    for (size_t c = 0; c < n; c++) {
        square += gone && gone[c] ? 0 : (x[c] - mean) * (x[c] - mean);
    }
    r = 1 / sqrt(square / (double)left + (double)m->norm_eps);
    for (size_t c = 0; c < n; c++) {
        y[c] = gone && gone[c] ? 0 : (x[c] - mean) * r * (w[c] + plus) + (b ? b[c] : 0);
    }
}

/* y may be x. A weight over the channels of a head is that of all heads. */
static inline void plain_norm(double *y, const double *x, const plain *p, size_t layer, int slot,
                              size_t width)
{
    const esp_weight *w = esp_model_weight(p->m, layer, slot);
    const bool *gone = p->m->arch->slots[slot].rows == ESP_W_HIDDEN ? p->gone : NULL;
    double *weight = plain_numbers(w->data, w->dtype, w->rows);
    double *b = w->has_bias ? plain_numbers(w->bias, w->dtype, w->rows) : NULL;

    for (size_t at = 0; at < p->T * width; at += w->rows) {
        plain_norm_row(y + at, x + at, weight, b, gone, p->m, w->rows);
    }
    free(weight);
    free(b);
}

static inline void plain_rotary(double *y, const double *x, const plain *p, bool by_block,
                                size_t width)
{
    const esp_model *m = p->m;
    size_t d = m->dims.head_dim, half = m->rope.n / 2, first = by_block ? m->rope.n : 0;
    size_t step = m->arch->rotary.pairs ? 2 : 1, apart = m->arch->rotary.pairs ? 1 : half;

    memcpy(y, x, p->T * width * sizeof *y);
    for (size_t i = 0; i < p->T * width / d * half; i++) {
        size_t c = i % half, head = i / half, t = head / (width / d);
        size_t position = by_block ? esp_batch_block_position(&p->batch, 0, t)
                                   : esp_batch_position(&p->batch, 0, t);
        size_t a = head * d + first + c * step, b = a + apart;
        double angle = (double)position * plain_frequency(&m->rope, c, p->T);

        y[a] = m->rope.gain * (x[a] * cos(angle) - x[b] * sin(angle));
        y[b] = m->rope.gain * (x[b] * cos(angle) + x[a] * sin(angle));
    }
}

/* Whether query t sees key s. */
static inline bool plain_sees(const plain *p, size_t window, size_t t, size_t s)
{
    return s < p->batch.prefix[0] || (s <= t && (window == 0 || t - s < window));
}

/* out [d] of query q [d]; keys and values of the head are step apart. */
static inline void plain_attend(double *out, const double *q, const double *k, const double *v,
                                const plain *p, size_t layer, size_t t, double slope, size_t step)
{
    const esp_model *m = p->m;
    size_t d = m->dims.head_dim, window = m->dims.layer[layer].window;
    double *score, largest = -INFINITY, sum = 0, cap = (double)m->attention_cap;

    ESP_NEW(score, p->T);
    for (size_t s = 0; s < p->T; s++) {
        for (size_t c = 0; c < d; c++) {
            score[s] += q[c] * k[s * step + c] * (double)m->attention_scale;
        }
        score[s] = cap > 0 ? cap * tanh(score[s] / cap) : score[s];
        score[s] += slope * ((double)s - (double)t);
        score[s] = plain_sees(p, window, t, s) ? score[s] : -INFINITY;
        largest = fmax(largest, score[s]);
    }
    for (size_t s = 0; s < p->T; s++) {
        score[s] = exp(score[s] - largest);
        sum += score[s];
    }
    memset(out, 0, d * sizeof *out);
    for (size_t i = 0; i < p->T * d; i++) {
        out[i % d] += score[i / d] / sum * v[i / d * step + i % d];
    }
    free(score);
}

static inline void plain_attention(double *out, const double *q, const double *k, const double *v,
                                   const plain *p, size_t layer)
{
    const float *slopes = esp_model_slopes(p->m, layer);
    size_t d = p->m->dims.head_dim, H = p->m->dims.layer[layer].heads;
    size_t K = p->m->dims.layer[layer].kv_heads;

    for (size_t i = 0; i < p->T * H; i++) {
        size_t t = i / H, h = i % H, g = h / (H / K) * d;

        plain_attend(out + i * d, q + i * d, k + g, v + g, p, layer, t,
                     slopes ? (double)slopes[h] : 0, K * d);
    }
}

static inline double plain_activation(double x, esp_activation a)
{
    switch (a) {
    case ESP_SILU:
        return x / (1 + exp(-x));
    case ESP_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case ESP_GELU_ERF:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case ESP_RELU:
        return fmax(x, 0);
    }
    return NAN;
}

/* ---- a block and the model ----------------------------------------------------------------------- */

static inline void plain_op(plain *p, size_t layer, const esp_op *op)
{
    const esp_model *m = p->m;
    double *y = p->value[op->out], *in[3];
    size_t width = plain_width(p, layer, op->out), n = p->T * width;

    for (int i = 0; i < 3; i++) {
        in[i] = op->in[i] >= 0 ? p->value[op->in[i]] : NULL;
    }
    switch (op->kind) {
    case ESP_OP_NORM:
        plain_norm(y, in[0], p, layer, op->slot, width);
        break;
    case ESP_OP_LINEAR:
        plain_linear(y, in[0], esp_model_weight(m, layer, op->slot), p->T);
        break;
    case ESP_OP_SLICE:
        for (size_t i = 0; i < n; i++) {
            y[i] = in[0][i / width * plain_width(p, layer, op->in[0]) +
                         esp_slice_index(esp_model_slice(m, layer, op), i % width)];
        }
        break;
    case ESP_OP_ROTARY:
    case ESP_OP_ROTARY_BLOCK:
        plain_rotary(y, in[0], p, op->kind == ESP_OP_ROTARY_BLOCK, width);
        break;
    case ESP_OP_ATTENTION:
        plain_attention(y, in[0], in[1], in[2], p, layer);
        break;
    case ESP_OP_ACTIVATION:
    case ESP_OP_GATE:
        for (size_t i = 0; i < n; i++) {
            y[i] = plain_activation(in[0][i], m->arch->activation) * (in[1] ? in[1][i] : 1);
        }
        break;
    case ESP_OP_ADD:
        for (size_t i = 0; i < n; i++) {
            y[i] = (double)m->residual_scale * in[0][i] + in[1][i];
        }
        break;
    case ESP_OP_LOOKUP:
    case ESP_OP_SCALE:
        CU_FAIL("a step of the embedding in a block");
    }
}

/* What an operation made, times the gates on it. */
static inline void plain_gates(plain *p, size_t layer, const esp_op *op)
{
    const float *gate = p->gates ? esp_gates_at(p->gates, layer, op->out) : NULL;
    size_t width = plain_width(p, layer, op->out);

    for (size_t i = 0; gate && i < p->T * width; i++) {
        p->value[op->out][i] *= (double)gate[i % width];
    }
}

/* x [T, D] through a block. */
static inline void plain_block(plain *p, double *x, size_t layer)
{
    const esp_arch *a = p->m->arch;
    size_t n = p->T * p->m->dims.hidden;

    ESP_REQUIRE(a->n_values <= PLAIN_VALUES);
    for (size_t i = 0; i < a->n_values; i++) {
        ESP_NEW(p->value[i], p->T * plain_width(p, layer, (int)i));
    }
    memcpy(p->value[0], x, n * sizeof *x);
    for (size_t i = 0; i < a->n_ops; i++) {
        plain_op(p, layer, &a->ops[i]);
        plain_gates(p, layer, &a->ops[i]);
    }
    memcpy(x, p->value[a->ops[a->n_ops - 1].out], n * sizeof *x);
    for (size_t i = 0; i < a->n_values; i++) {
        free(p->value[i]);
    }
}

/* x += rows of a table, by token or by position. */
static inline void plain_look_up(double *x, const plain *p, int slot)
{
    const esp_weight *w = esp_model_weight(p->m, ESP_NO_LAYER, slot);
    double *table = plain_numbers(w->data, w->dtype, w->rows * w->cols);

    for (size_t i = 0; i < p->T * w->cols; i++) {
        size_t t = i / w->cols, row = slot == ESP_SLOT_EMBED ? (size_t)p->batch.ids[t]
                                                             : t + p->m->arch->position_offset;

        x[i] += table[row * w->cols + i % w->cols];
    }
    free(table);
}

static inline void plain_embedding(plain *p, double *x)
{
    size_t D = p->m->dims.hidden;

    for (size_t i = 0; i < p->m->arch->n_embedding; i++) {
        const esp_op *op = &p->m->arch->embedding[i];

        if (op->kind == ESP_OP_LOOKUP) {
            plain_look_up(x, p, op->slot);
        } else if (op->kind == ESP_OP_NORM) {
            plain_norm(x, x, p, ESP_NO_LAYER, op->slot, D);
        }
        for (size_t k = 0; op->kind == ESP_OP_SCALE && k < p->T * D; k++) {
            x[k] *= (double)p->m->embed_scale;
        }
    }
}

/* logits [T, V] = x W^T, by rows of length 1 where the family has it so, and capped. */
static inline void plain_head(double *logits, const double *x, const plain *p)
{
    const esp_weight *w = esp_model_weight(p->m, ESP_NO_LAYER, ESP_SLOT_HEAD);
    double *W = plain_numbers(w->data, w->dtype, w->rows * w->cols), cap = (double)p->m->logit_cap;

    plain_linear(logits, x, w, p->T);
    for (size_t i = 0; i < p->T * w->rows; i++) {
        double square = 0;

        for (size_t c = 0; p->m->normalized_head && c < w->cols; c++) {
            square += W[i % w->rows * w->cols + c] * W[i % w->rows * w->cols + c];
        }
        logits[i] = p->m->normalized_head ? logits[i] / sqrt(square) : logits[i];
        logits[i] = cap > 0 ? cap * tanh(logits[i] / cap) : logits[i];
    }
    free(W);
}

/* Logits of all samples one after another [n_tok, V], of the model without what is left out (each NULL:
 * nothing) and with gates (NULL: none); the caller frees. */
static inline double *plain_logits(const esp_model *m, const esp_samples *samples, const bool *gone,
                                   const bool *skipped, const esp_gates *gates)
{
    size_t D = m->dims.hidden;
    double *logits;

    ESP_NEW(logits, samples->start[samples->n] * m->dims.vocab);
    for (size_t j = 0; j < samples->n; j++) {
        plain p = { .m = m, .gone = gone, .gates = gates };
        double *x;

        p.T = samples->start[j + 1] - samples->start[j];
        esp_model_batch_init(&p.batch, m, 1, p.T);
        esp_batch_fill(&p.batch, samples, &j, 1);
        ESP_NEW(x, p.T * D);
        plain_embedding(&p, x);
        for (size_t l = 0; l < m->dims.n_layers; l++) {
            if (!skipped || !skipped[l]) {
                plain_block(&p, x, l);
            }
        }
        plain_norm(x, x, &p, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM, D);
        plain_head(logits + samples->start[j] * m->dims.vocab, x, &p);
        esp_batch_free(&p.batch);
        free(x);
    }
    return logits;
}

#endif
