/* teacher.c - final hidden states of a teacher: computed, kept, sent.
 *
 * Letters: D width of the teacher.
 */
#include "teacher_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/clock.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/tensor.h"
#include "espalier/traffic.h"

/* ---- set-up ---- */

size_t esp_teacher_samples(const esp_recover_options *o, size_t n_train, size_t steps)
{
    return steps < n_train / o->batch ? steps * o->batch : n_train;
}

/* Of n samples those with the numbers i_data, i_data + n_data, .. */
static size_t own_of(size_t n, const esp_grid *grid)
{
    size_t P = (size_t)grid->n_data, i = (size_t)grid->i_data;

    return (n + P - 1 - i) / P;
}

/* The most that a rank has of them. */
static size_t most_of(size_t n, const esp_grid *grid)
{
    return (n + (size_t)grid->n_data - 1) / (size_t)grid->n_data;
}

/* Numbers in memory, two to a float. */
static size_t floats_of(size_t n_tok, const esp_model *m)
{
    return (n_tok * m->dims.hidden + 1) / 2;
}

static bool is_last(const esp_grid *grid)
{
    return grid->i_pipeline == grid->n_pipeline - 1;
}

/* The head works on runs of the student's length. */
static esp_pass_options head_options(const esp_model *m, esp_pass_options student)
{
    return (esp_pass_options){ .max_samples = 1,
                               .max_tok = esp_pass_run(m, student.max_tok),
                               .head_only = true };
}

static esp_pass_options forward_options(esp_pass_options student)
{
    student.backward = false;
    student.rank = 0;
    return student;
}

/* Arrays for n_kept samples, of them n_own here. */
static void make_teacher(esp_teacher *t, const esp_recover_options *o, size_t n_samples,
                         size_t n_own, size_t longest, size_t *bytes)
{
    size_t batch = esp_min(o->batch, n_samples), share = most_of(batch, t->grid);

    ESP_MAKE(t->number, n_samples, bytes);
    ESP_MAKE(t->row, n_own + 1, bytes);
    ESP_MAKE(t->step_row, share + 1, bytes);
    if (t->keeps) {
        ESP_MAKE(t->step, share * longest * t->model->dims.hidden, bytes);
        ESP_MAKE(t->request, 2 * batch, bytes);
    }
}

esp_teacher_bytes esp_teacher_bytes_of(const esp_recover_options *o, esp_text_size size,
                                       size_t n_train, size_t steps, esp_pass_options options,
                                       const esp_grid *grid)
{
    const esp_model *m = o->teacher;
    esp_teacher t = { .model = m, .grid = grid, .keeps = is_last(grid) };
    esp_pass_options forward = forward_options(options);
    size_t n_kept = esp_teacher_samples(o, n_train, steps);
    esp_text_size own = esp_text_share(size, n_kept, (size_t)grid->n_data);
    esp_teacher_bytes b = { 0 };
    esp_pass_scratch scratch;

    if (!m) {
        return b;
    }
    make_teacher(&t, o, size.samples, own.samples, size.longest, &b.kept);
    scratch = esp_pass_scratch_bytes(m, forward);
    b.computing = esp_batch_bytes(forward.max_samples, forward.max_tok) +
                  esp_pass_bytes(m, forward) +
                  esp_max(scratch.blocks, esp_max(scratch.loss, scratch.embedding)) +
                  esp_calloc_bytes(own.samples, sizeof(size_t));
    if (t.keeps) {
        b.kept += esp_spill_buffer_bytes(floats_of(own.tokens, m), o->scratch);
        b.head = esp_pass_bytes(m, head_options(m, options));
    }
    return b;
}

/* ---- computing ---- */

/* own [n_own, out]: this rank's samples; also where their rows begin. */
static void number_samples(esp_teacher *t, size_t *own, const size_t *order, size_t n_kept)
{
    const size_t *start = t->samples->start;
    size_t P = (size_t)t->grid->n_data, n = 0;

    for (size_t k = 0; k < n_kept; k++) {
        t->number[order[k]] = k;
        if (k % P == (size_t)t->grid->i_data) {
            t->row[n + 1] = t->row[n] + start[order[k] + 1] - start[order[k]];
            own[n++] = order[k];
        }
    }
}

static uint16_t *kept_row(const esp_teacher *t, size_t k)
{
    void *at = t->kept.at;

    return (uint16_t *)at + t->row[k] * t->model->dims.hidden;
}

/* All ranks of a pipeline take the same batches. */
static void compute_states(esp_teacher *t, const size_t *own, size_t n_own, esp_pass_options o)
{
    esp_pass pass;
    esp_batch batch;

    esp_model_batch_init(&batch, t->model, o.max_samples, o.max_tok);
    batch.chunk_tok = o.chunk_tok;
    esp_pass_init(&pass, t->model, o);
    for (size_t k = 0; k < n_own; k += batch.n_samples) {
        esp_batch_fill(&batch, t->samples, own + k, esp_min(o.max_samples, n_own - k));
        esp_pass_forward(&pass, NULL, &batch);
        if (t->keeps) {
            esp_from_f32(kept_row(t, k), ESP_BF16, pass.hidden.at,
                         batch.n_tok * t->model->dims.hidden);
        }
        esp_progress("recover: the teacher's states", k + batch.n_samples, n_own);
    }
    esp_batch_free(&batch);
    esp_pass_free(&pass);
}

static void tell(const esp_teacher *t, size_t n_kept, double began)
{
    char *bytes = esp_bytes_text(4 * (double)t->kept.n);

    esp_info("recover: states of the teacher for %zu samples in %.1f s, %s on a rank in %s", n_kept,
             esp_now() - began, bytes, t->kept.mapped ? "parallel.scratch" : "memory");
    free(bytes);
}

void esp_teacher_init(esp_teacher *t, esp_data *d, const esp_recover_options *o, size_t steps,
                      esp_pass_options options, const esp_grid *grid)
{
    size_t n_kept = esp_teacher_samples(o, d->n_train, steps), n_own = own_of(n_kept, grid), *own;
    double began = esp_now();

    *t = (esp_teacher){ 0 };
    if (!o->teacher) {
        return;
    }
    *t = (esp_teacher){
        .model = o->teacher, .grid = grid, .samples = d->samples, .keeps = is_last(grid)
    };
    make_teacher(t, o, d->samples->n, most_of(n_kept, grid), options.longest, NULL);
    ESP_NEW(own, most_of(n_kept, grid));
    number_samples(t, own, esp_data_order(d, 0), n_kept);
    if (t->keeps) {
        esp_spill_buffer_init(&t->kept, floats_of(t->row[n_own], t->model), o->scratch);
    }
    compute_states(t, own, n_own, forward_options(options));
    free(own);
    if (t->keeps) {
        esp_pass_init(&t->head, t->model, head_options(t->model, options));
    }
    t->teaching =
        (esp_teaching){ .head = &t->head, .ratio = o->kd_ratio, .temperature = o->kd_temperature };
    tell(t, n_kept, began);
}

void esp_teacher_free(esp_teacher *t)
{
    esp_pass_free(&t->head);
    esp_spill_buffer_free(&t->kept);
    free(t->number);
    free(t->row);
    free(t->step_row);
    free(t->step);
    free(t->request);
    *t = (esp_teacher){ 0 };
}

/* ---- steps ---- */

/* Sends or receives n numbers; messages of two ranks come in the order in which both go through a step. */
static void move(esp_teacher *t, size_t *n_requests, uint16_t *to, const uint16_t *from, int other,
                 size_t n)
{
    MPI_Comm data = t->grid->data;
    MPI_Request *request = t->request + *n_requests;

    if (to && from) {
        memcpy(to, from, n * sizeof *to);
        return;
    }
    if (to) {
        ESP_MPI(MPI_Irecv(to, esp_count(n), MPI_UINT16_T, other, 0, data, request));
    } else {
        ESP_MPI(MPI_Isend(from, esp_count(n), MPI_UINT16_T, other, 0, data, request));
        esp_sent(ESP_SENT_TEACHER, ESP_COST_P2P, n * sizeof *from, data);
    }
    ++*n_requests;
}

void esp_teacher_bring(esp_teacher *t, const size_t *pick, size_t n)
{
    size_t n_requests = 0, mine = 0, D;
    double began = esp_now();

    if (!t->keeps) {
        return;
    }
    D = t->model->dims.hidden;
    for (size_t i = 0; i < n; i++) {
        size_t P = (size_t)t->grid->n_data, k = t->number[pick[i]];
        size_t n_tok = t->samples->start[pick[i] + 1] - t->samples->start[pick[i]];
        int keeper = (int)(k % P), taker = (int)(i % P), me = t->grid->i_data;
        uint16_t *to = taker == me ? t->step + t->step_row[mine] * D : NULL;
        const uint16_t *from = keeper == me ? kept_row(t, k / P) : NULL;

        if (to) {
            t->step_row[mine + 1] = t->step_row[mine] + n_tok;
            mine++;
        }
        if (to || from) {
            move(t, &n_requests, to, from, to ? keeper : taker, n_tok * D);
        }
    }
    ESP_MPI(MPI_Waitall((int)n_requests, t->request, MPI_STATUSES_IGNORE));
    esp_waited(began);
}

void esp_teacher_turn(esp_teacher *t, size_t first)
{
    if (t->keeps) {
        t->teaching.hidden = t->step + t->step_row[first] * t->model->dims.hidden;
    }
}
