/* teacher_impl.h - the model whose predictions a training follows: its final hidden states of all samples
 * that will be trained on, computed once, kept in bf16, and brought to where a step needs them.
 *
 * Data rank k mod n_data keeps sample k of the first epoch's order, on the last pipeline stage; a step takes
 * its samples in another order, and they are sent from who keeps them to who computes them (in the first
 * epoch that is the same rank, where n_data divides a batch). Logits are made
 * of them by the teacher's head, beside those of the student (esp_teaching).
 *
 * Flow: esp_teacher_init -> for each step esp_teacher_bring, for each of its batches esp_teacher_turn.
 */
#ifndef ESPALIER_TEACHER_IMPL_H
#define ESPALIER_TEACHER_IMPL_H

#include "data_impl.h"
#include "espalier/recover.h"

typedef struct esp_teacher {
    const esp_model *model; /* borrowed; NULL: there is none            */
    const esp_grid *grid;   /* borrowed                                 */
    const esp_samples *samples;
    bool keeps;            /* this rank is of the last pipeline stage  */
    size_t *number;        /* [samples] owned; of a kept sample in the order of the first epoch */
    size_t *row;           /* [own + 1] owned; first row of the sample k n_data + i_data, by k */
    esp_spill_buffer kept; /* [row[own], D] BF16, two in a float       */
    size_t *step_row; /* [own of a step + 1] owned; first row of this rank's samples of a step, */
    uint16_t *step;   /* [step_row[..], D] owned; and their states */
    MPI_Request *request; /* [2 batch] owned                          */
    esp_pass head;
    esp_teaching teaching; /* for the pass of the student, where `keeps` */
} esp_teacher;

/* t [out, owned]: the states of the samples that `steps` steps of a training by o go through, with batches
 * and chunks of `options`, those of the student's pass; {0} where o has no teacher. d gives the first epoch's
 * order. Collective on grid->world. */
void esp_teacher_init(esp_teacher *t, esp_data *d, const esp_recover_options *o, size_t steps,
                      esp_pass_options options, const esp_grid *grid);
void esp_teacher_free(esp_teacher *t); /* safe twice and on {0} */

/* Bytes of memory of a rank for samples of sizes t, of which n_train are trained on in `steps` steps: that
 * stay, and those beside them while esp_teacher_init goes on and, after it, in t->head. Local. */
typedef struct esp_teacher_bytes {
    size_t kept, computing, head;
} esp_teacher_bytes;

esp_teacher_bytes esp_teacher_bytes_of(const esp_recover_options *o, esp_text_size t,
                                       size_t n_train, size_t steps, esp_pass_options options,
                                       const esp_grid *grid);

/* Samples whose states are kept by all ranks together. Local. */
size_t esp_teacher_samples(const esp_recover_options *o, size_t n_train, size_t steps);

/* The states of samples pick [n], a step, come to the ranks that compute them: pick[i] to data index
 * i mod n_data. Collective on grid->data of the last pipeline stage, as long as there is a teacher. */
void esp_teacher_bring(esp_teacher *t, const size_t *pick, size_t n);

/* A batch that begins with number `first` of this rank's samples of the step is next. Local. */
void esp_teacher_turn(esp_teacher *t, size_t first);

#endif
