/* eval.h - what a model is worth: perplexity, answers to questions, cost, speed; and text from it. */
#ifndef ESPALIER_EVAL_H
#define ESPALIER_EVAL_H

#include <stdio.h>

#include <jansson.h>

#include "espalier/bytes.h"
#include "espalier/pass.h"
#include "espalier/questions.h"
#include "espalier/tokenizer.h"

typedef struct esp_eval {
    double loss, perplexity; /* mean cross-entropy per target in nats, its exponential */
    double accuracy;         /* share of targets that had the largest logit */
    int64_t tokens;          /* targets                                     */
    double seconds, tok_per_second;
    size_t peak_resident; /* largest over ranks, bytes */
} esp_eval;

/* Loss and accuracy over samples (docs/method.md, eq. 28), which are shared out over the data ranks in chunks
 * of at most max_tok tokens (a longer sample is a chunk by itself). e [out]; adapter may be NULL. All ranks
 * get the same result and status, and loss and accuracy have the same bits on any number of ranks. perplexity
 * may be infinite where the loss is not. ESP_EUSAGE when no position has a target, ESP_EFAILED for a loss
 * that is not finite, naming the first such sample. Collective on grid->world. */
esp_status esp_evaluate(esp_eval *e, const esp_model *m, const esp_adapter *adapter,
                        const esp_samples *samples, size_t max_tok, const esp_grid *grid);

/* Bytes of memory that esp_evaluate takes on a rank, for samples of sizes t and an adapter of that rank (0:
 * none); grid needs no communicators. Local. */
size_t esp_evaluate_bytes(const esp_model *m, size_t rank, esp_text_size t, size_t max_tok,
                          const esp_grid *grid);

/* The work of esp_evaluate on a rank, likewise. Local. */
esp_work esp_evaluate_work(const esp_model *m, esp_text_size t, size_t max_tok,
                           const esp_grid *grid);

/* ---- questions ------------------------------------------------------------------------------------ */

/* logprob [q->first[q->n]]: of each choice, the sum of the logarithms of its tokens' probabilities behind
 * its question (docs/method.md, eq. 44); the same bits on any number of ranks. Questions are shared out
 * over the data ranks. ESP_EFAILED for one that is not finite, naming the first such question. Collective
 * on grid->world. */
esp_status esp_answer(double *logprob, const esp_model *m, const esp_questions *q, size_t max_tok,
                      const esp_grid *grid);

/* By what the log-probability of a choice is divided before the largest is taken. */
typedef enum esp_norm_by {
    ESP_NORM_NONE,
    ESP_NORM_CHARACTERS,
    ESP_NORM_BYTES,
    ESP_N_NORMS
} esp_norm_by;

/* The choice of question j that is taken, counted from 0: of equal ones the first. Local. */
size_t esp_choose(const double *logprob, const esp_questions *q, size_t j, esp_norm_by by);

typedef struct esp_grade {
    double accuracy; /* share of questions with the right choice (eq. 45)      */
    double stderror; /* its standard error (eq. 46); NaN where there is one question */
} esp_grade;

esp_grade esp_grade_of(const double *logprob, const esp_questions *q, esp_norm_by by); /* Local. */

/* ---- the whole ------------------------------------------------------------------------------------ */

/* A text of eval.corpora. */
typedef struct esp_eval_corpus {
    char *name; /* owned */
    esp_samples samples;
} esp_eval_corpus;

/* All that a model is judged on; owned. */
typedef struct esp_eval_texts {
    esp_samples samples;     /* windows of eval.corpus; none: not asked for */
    esp_eval_corpus *corpus; /* [n_corpora] */
    size_t n_corpora;
    esp_questions *task; /* [n_tasks] */
    size_t n_tasks;
} esp_eval_texts;

void esp_eval_texts_free(esp_eval_texts *t); /* safe twice and on {0} */

/* Samples and tokens of all of them, and the tokens of the longest sample or question. Local. */
esp_text_size esp_eval_texts_size(const esp_eval_texts *t);

/* Bytes that they take. Local. */
size_t esp_eval_texts_bytes(const esp_eval_texts *t);

/* words [out]: digest of all of them. Local. */
void esp_eval_texts_digest(uint64_t words[ESP_DIGEST_WORDS], const esp_eval_texts *t);

/* What the measures of an evaluation are given; all borrowed. */
typedef struct esp_eval_input {
    const char *name; /* of the model, in messages: "dense" */
    const esp_model *model;
    const esp_eval_texts *texts;
    size_t max_tok; /* that a rank computes at a time, at least one window or question */
    const esp_grid *grid;
    esp_byte_string
        *questions; /* [in,out] a line of JSON per question is appended; NULL: not wanted */
} esp_eval_input;

/* What all measures find of a model: fields [out] is {field: value}, a new reference, NULL after a
 * failure. The status is that of the first measure that fails; it and the fields are the same on all
 * ranks. Collective on in->grid->world. */
esp_status esp_eval_run(json_t **fields, const esp_eval_input *in);

/* Prints tables to `to`: a row for each of names [n] that results, {name: fields of esp_eval_run}, has;
 * and a row for each metric of a task, with a column for each of the names. Local. */
void esp_eval_print(FILE *to, const json_t *results, const char *const *names, size_t n);

/* ---- text ----------------------------------------------------------------------------------------- */

typedef struct esp_generate_options {
    size_t tokens;      /* to make at most                       */
    double temperature; /* 0: greedy                             */
    double top_p;       /* nucleus (Holtzman et al. 2020); 1: all */
    uint64_t seed;
} esp_generate_options;

/* Continues the prompt in ids [in,out], to which new ids are appended: until EOS (left out), the last
 * position or o->tokens of them. each (may be NULL) is called with every new id and ctx. What is drawn
 * follows from the seed and the position. ESP_EUSAGE when the prompt is empty or leaves no position,
 * ESP_EFORMAT for an id beyond the model's vocabulary; ESP_EFAILED for a logit that is not finite, after the
 * ids made so far. Local. */
esp_status esp_generate(esp_ids *ids, const esp_model *m, const esp_generate_options *o,
                        void (*each)(void *ctx, int32_t id), void *ctx);

#endif
