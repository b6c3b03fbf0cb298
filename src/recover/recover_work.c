/* recover_work.c - what a training has to do, from sizes alone. */
#include <math.h>

#include "espalier/mem.h"
#include "espalier/traffic.h"
#include "schedule_impl.h"
#include "teacher_impl.h"

/* Bytes that a step moves per number trained: zeros in its gradient; and per number of a share: gradient,
 * value, moments. */
#define ZEROED  4
#define UPDATED 28

/* Bytes of a checkpoint per number trained: value, moments, best value. */
#define SAVED 16

/* FLOP per token and number of LoRA matrices: forward, again, and the gradients of inputs and matrices. */
#define LORA 12

static size_t n_trained(const esp_model *m, const esp_recover_options *o, size_t rank)
{
    esp_params plan;
    size_t n;

    esp_params_plan(&plan, m, o->targets, rank, 0, 1);
    n = plan.n;
    esp_params_free(&plan);
    return n;
}

static void count_samples(esp_recover_work *w, const esp_recover_options *o, size_t n)
{
    size_t epoch, every;

    w->n_valid = esp_min(esp_recover_held_out(o->validation, n), n);
    w->n_train = n - w->n_valid;
    epoch = esp_schedule_epoch(o, w->n_train);
    every = o->validate_every ? o->validate_every : esp_max(epoch, 1);
    w->steps = (double)esp_schedule_steps(o, w->n_train);
    w->validations = w->n_valid ? 1 + ceil(w->steps / (double)every) : 0;
}

/* Of all steps, whose batches are smaller at the end of an epoch. */
static double trained_tokens(const esp_recover_work *w, const esp_recover_options *o,
                             esp_text_size t)
{
    double epoch = (double)esp_schedule_epoch(o, w->n_train);
    double batch = epoch > 0 ? (double)w->n_train / epoch : 0; /* a mean */

    return w->steps * batch * (double)t.tokens / fmax(1, (double)t.samples);
}

static void count_bytes(esp_recover_work *w, const esp_model *m, const esp_recover_options *o,
                        esp_text_size t, const esp_grid *grid)
{
    double n = (double)w->n_numbers;
    double a_sample = (double)t.tokens / fmax(1, (double)t.samples);
    double once = esp_moved_bytes(ESP_COST_REDUCE_SCATTER, sizeof(float) * n, grid->size);

    w->gradients = once * w->steps;
    w->values = once * (w->steps + 1); /* the best ones at the end */
    w->activations =
        esp_pass_sent(m, grid, trained_tokens(w, o, t), ESP_PASS_BACKWARD) +
        esp_pass_sent(m, grid, w->validations * (double)w->n_valid * a_sample, ESP_PASS_FORWARD);
    w->checkpoints = (o->save_every ? ceil(w->steps / (double)o->save_every) : 1) * SAVED * n;
}

/* Passes over n samples, as many as the data rank has that has the most of them. */
static esp_work work_of(const esp_model *m, const esp_recover_options *o, esp_text_size t, size_t n,
                        const esp_grid *grid, esp_pass_way way)
{
    esp_text_size own = esp_text_share(t, n, (size_t)grid->n_data);
    size_t passes = (own.samples + o->micro_batch - 1) / o->micro_batch;

    return esp_pass_work(m, grid, own, (double)passes, way, o->kept_layers);
}

/* Of a step's states those that another rank keeps; in the first epoch none, where each batch begins with
 * the first rank. */
static double sent_share(const esp_recover_work *w, const esp_recover_options *o,
                         const esp_grid *grid)
{
    double first = fmin(w->steps, (double)esp_schedule_epoch(o, w->n_train));
    double there = o->batch % (size_t)grid->n_data == 0 && w->steps > 0 ? first / w->steps : 0;

    return (1 - there) * (double)(grid->n_data - 1) / grid->n_data;
}

/* Its states once, and its logits of each step. */
static void add_teacher(esp_recover_work *w, const esp_recover_options *o, esp_text_size t,
                        const esp_grid *grid)
{
    const esp_model *m = o->teacher;
    size_t n = esp_teacher_samples(o, w->n_train, (size_t)w->steps);
    size_t batch = esp_min(o->batch, w->n_train);
    size_t own = esp_text_share(t, batch, (size_t)grid->n_data).tokens;
    double head = grid->i_pipeline == grid->n_pipeline - 1
                      ? 2.0 * (double)m->dims.hidden * (double)m->dims.vocab
                      : 0;
    esp_text_size kept = esp_text_share(t, n, 1),
                  share = esp_text_share(t, n, (size_t)grid->n_data);
    double elsewhere = sent_share(w, o, grid);
    double a_token = (double)(m->dims.hidden * sizeof(uint16_t));

    w->teacher = work_of(m, o, t, n, grid, ESP_PASS_FORWARD);
    w->teacher.products -= head * (double)share.tokens;
    w->step.products += head * (double)own;
    w->activations += esp_pass_sent(m, grid, (double)kept.tokens, ESP_PASS_FORWARD);
    w->states = elsewhere * trained_tokens(w, o, t) * a_token;
}

void esp_recover_work_of(esp_recover_work *w, const esp_model *m, const esp_recover_options *o,
                         esp_text_size t, const esp_grid *grid)
{
    bool lora = o->method == ESP_METHOD_LORA;
    esp_pass_way way = lora ? ESP_PASS_BACKWARD : ESP_PASS_GRADIENTS;
    size_t batch, own;
    double n;

    *w = (esp_recover_work){ .n_numbers = n_trained(m, o, lora ? o->rank : 0) };
    count_samples(w, o, t.samples);
    count_bytes(w, m, o, t, grid);
    n = (double)w->n_numbers;
    batch = esp_min(o->batch, w->n_train);
    own = esp_text_share(t, batch, (size_t)grid->n_data).tokens;
    w->step = work_of(m, o, t, batch, grid, way);
    w->step.products += lora ? LORA * n / grid->n_pipeline * (double)own : 0;
    w->step.moved += ZEROED * n + UPDATED * n / grid->size;
    w->validation = work_of(m, o, t, w->n_valid, grid, ESP_PASS_FORWARD);
    if (o->teacher) {
        add_teacher(w, o, t, grid);
    }
}
