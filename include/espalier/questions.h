/* questions.h - zero-shot and few-shot tasks: questions with choices, from the files in which their data
 * sets are published.
 *
 * Flow: esp_questions_load (rows -> questions -> ids); esp_answer (eval.h) asks a model.
 *
 * Prompts, choices and their order are those of lm-evaluation-harness (EleutherAI), so that results
 * compare.
 */
#ifndef ESPALIER_QUESTIONS_H
#define ESPALIER_QUESTIONS_H

#include <stdbool.h>

#include "espalier/batch.h"
#include "espalier/rows.h"
#include "espalier/tokenizer.h"

/* ---- as text ----------------------------------------------------------------------------------- */

/* What is scored is the continuation behind the context. */
typedef struct esp_choice {
    char *context, *continuation; /* owned                                             */
    size_t characters, bytes;     /* of the choice: what log-probabilities are divided by */
} esp_choice;

typedef struct esp_question {
    char *description;  /* owned; stands before the examples; "" where a task has none   */
    esp_choice *choice; /* [n] owned                                                     */
    size_t n;
    size_t gold; /* the right one; ESP_NO_GOLD: in the file of labels beside      */
} esp_question;

#define ESP_NO_GOLD SIZE_MAX

void esp_question_free(esp_question *q); /* safe twice and on {0} */

/* A kind of task: how a row of its data set becomes a question. */
typedef struct esp_question_kind {
    const char *name;   /* "piqa"                                             */
    const char *record; /* fields of a row, for messages                      */
    const char *labels; /* ending of the file of labels that may lie beside; NULL: none */
    bool normalized;    /* accuracy by length is usual, too                   */
    /* q [in,out] is {0} before; the caller frees it, also after a failure. ESP_EFORMAT with file, line and
     * field. Local. */
    esp_status (*make)(esp_question *q, const esp_row *row);
} esp_question_kind;

/* By its name, NULL when there is none; by its number, NULL after the last. Borrowed. Local. */
const esp_question_kind *esp_question_kind_find(const char *name);
const esp_question_kind *esp_question_kind_at(size_t i);

/* ---- as ids ------------------------------------------------------------------------------------ */

/* A choice is a sample: ids of context and continuation without the last one, with targets where a token of
 * the continuation is next. */
typedef struct esp_questions {
    char *name; /* owned; of the task in results */
    const esp_question_kind *kind;
    size_t n;
    size_t *first;       /* [n + 1] owned; choices of question j are first[j] .. first[j + 1] - 1 */
    size_t *gold;        /* [n] owned; the right choice of each, counted from 0                 */
    size_t *characters;  /* [first[n]] owned; of each choice                                    */
    size_t *bytes;       /* [first[n]] owned                                                    */
    esp_samples samples; /* one per choice                                                      */
} esp_questions;

typedef struct esp_asking {
    const char *path;     /* of the questions                                          */
    const char *examples; /* of the file that examples are taken from; NULL: none      */
    size_t shots;         /* examples before a question: the first with its description */
    size_t limit;         /* questions, the first ones; 0: all                         */
} esp_asking;

/* Reads all of the files and turns the questions asked for into ids as the harness does: white space at
 * the end of a context belongs to the continuation, whose tokens are those that the whole has beyond the
 * tokens of the context; where there are more than max_positions + 1 of both, the first ones go.
 * ESP_EUSAGE for a missing file, or fewer examples than shots; ESP_EFORMAT with file, line and field for a
 * row that is none of the kind, a choice without a token of its own, and ids beyond vocab. Nothing is left
 * after a failure. Every rank by itself. Local. */
esp_status esp_questions_load(esp_questions *q, const char *name, const esp_question_kind *kind,
                              const esp_asking *how, const esp_tokenizer *t, size_t max_positions,
                              size_t vocab);
void esp_questions_free(esp_questions *q); /* safe twice and on {0} */

/* words [out]: digest of all that results follow from. Local. */
void esp_questions_digest(uint64_t words[ESP_DIGEST_WORDS], const esp_questions *q);

#endif
