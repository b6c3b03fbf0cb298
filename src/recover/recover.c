/* recover.c - the training loop: steps, validation, checkpoints. */
#include "espalier/recover.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adamw_impl.h"
#include "data_impl.h"
#include "espalier/checkpoint.h"
#include "espalier/clock.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/reshape.h"
#include "espalier/pass.h"
#include "espalier/rng.h"
#include "espalier/traffic.h"
#include "gradient_impl.h"
#include "schedule_impl.h"
#include "teacher_impl.h"

#define DROPOUT          UINT64_C(0x64726f70) /* names a random stream                              */
#define CHUNKS_PER_STAGE 2 /* micro-batches of a pass per pipeline stage, where there are several */

typedef struct loop {
    const esp_recover_options *options;
    const esp_grid *grid;
    const volatile int *stop;
    esp_recover_report report;
    void *report_ctx;
    esp_params *params;
    esp_adapter *adapter; /* NULL: all weights are trained */
    esp_data data;
    esp_teacher teacher;
    esp_pass pass;
    esp_batch batch;
    esp_exchange exchange;
    esp_gradient gradient;
    esp_checkpoint checkpoint;
    esp_training at;
    esp_recover_news news; /* of the last step */
    size_t steps;          /* planned */
    size_t *mine;          /* samples of this rank: of the batch, or held out */
    size_t n_pass;         /* samples of one forward and backward: micro-batches for all stages */
    esp_loss *loss;        /* [n_pass] */
    float *scale;          /* [n_pass] */
    double seconds, waited, tokens, flops; /* of training steps; tokens of all ranks */
    double save_seconds;                   /* not hidden behind steps                */
} loop;

void esp_recover_prepare(esp_params *p, esp_adapter *adapter, esp_model *m,
                         const esp_recover_options *o)
{
    *adapter = (esp_adapter){ 0 };
    if (o->method == ESP_METHOD_LORA) {
        esp_adapter_init(adapter, m, o->rank, (float)o->alpha);
        esp_params_lora(p, adapter, m, o->targets, o->seed);
    } else {
        esp_params_full(p, m);
    }
}

/* ---- set-up ---- */

/* Micro-batches for all pipeline stages go through the model at once. */
static esp_pass_options pass_options(const esp_recover_options *o, size_t longest,
                                     const esp_grid *grid)
{
    size_t chunk = o->micro_batch * longest, n_chunks = esp_pass_chunks(grid, CHUNKS_PER_STAGE);

    return (esp_pass_options){ .max_samples = o->micro_batch * n_chunks,
                               .max_tok = chunk * n_chunks,
                               .chunk_tok = chunk,
                               .rank = o->method == ESP_METHOD_LORA ? o->rank : 0,
                               .longest = longest,
                               .kept_layers = o->kept_layers,
                               .backward = true,
                               .scratch = o->scratch,
                               .grid = grid };
}

static void make_loop(loop *r, size_t n_valid, size_t *bytes)
{
    ESP_MAKE(r->mine, esp_max(r->options->batch, n_valid), bytes);
    ESP_MAKE(r->loss, r->n_pass, bytes);
    ESP_MAKE(r->scale, r->n_pass, bytes);
}

static esp_teacher_bytes teacher_bytes(const esp_recover_options *o, esp_text_size t,
                                       size_t n_valid, esp_pass_options options,
                                       const esp_grid *grid)
{
    size_t n_train = t.samples - esp_min(n_valid, t.samples);

    return esp_teacher_bytes_of(o, t, n_train, esp_schedule_steps(o, n_train), options, grid);
}

size_t esp_recover_bytes(const esp_model *m, const esp_recover_options *o, esp_text_size t,
                         const esp_grid *grid)
{
    bool lora = o->method == ESP_METHOD_LORA;
    esp_pass_options options = pass_options(o, t.longest, grid);
    loop r = { .options = o, .n_pass = options.max_samples };
    size_t bytes = esp_data_bytes(t.samples) + (lora ? esp_adapter_bytes(m) : 0), steps;
    size_t n_valid = esp_recover_held_out(o->validation, t.samples);
    esp_teacher_bytes teacher = teacher_bytes(o, t, n_valid, options, grid);
    esp_model full = { 0 };
    esp_pass_scratch scratch;
    esp_params plan;

    make_loop(&r, n_valid, &bytes);
    esp_params_plan(&plan, m, o->targets, options.rank, grid->rank, grid->size);
    if (!lora) {
        esp_model_reshape(&full, m, &m->dims);
        esp_params_set_types(&full);
        m = &full;
    }
    scratch = esp_pass_scratch_bytes(m, options);
    bytes += esp_params_bytes(&plan) + teacher.kept;
    steps = teacher.head + esp_exchange_bytes(&plan) + esp_pass_bytes(m, options) +
            esp_batch_bytes(options.max_samples, options.max_tok) +
            esp_max(scratch.blocks, esp_max(scratch.loss, scratch.embedding));
    esp_params_free(&plan);
    esp_model_free(&full);
    return bytes + esp_max(steps, teacher.computing);
}

size_t esp_recover_left(const esp_model *m, const esp_recover_options *o, const esp_grid *grid)
{
    size_t rank = o->method == ESP_METHOD_LORA ? o->rank : 0, bytes;
    esp_params plan;

    esp_params_plan(&plan, m, o->targets, rank, grid->rank, grid->size);
    bytes = esp_params_bytes(&plan) + (rank ? esp_adapter_bytes(m) : 0);
    esp_params_free(&plan);
    return bytes;
}

static void loop_init(loop *r, const esp_model *m)
{
    const esp_recover_options *o = r->options;
    esp_pass_options options = pass_options(o, esp_samples_longest(r->data.samples), r->grid);

    r->n_pass = options.max_samples;
    r->steps = esp_schedule_steps(o, r->data.n_train);
    make_loop(r, r->data.n_valid, NULL);
    esp_params_train(r->params, r->adapter, r->grid->rank, r->grid->size);
    esp_teacher_init(&r->teacher, &r->data, o, r->steps, options, r->grid);
    esp_model_batch_init(&r->batch, m, options.max_samples, options.max_tok);
    r->batch.chunk_tok = options.chunk_tok;
    esp_pass_init(&r->pass, m, options);
    r->pass.adapter = r->adapter;
    r->pass.teaching = r->teacher.keeps ? &r->teacher.teaching : NULL;
    esp_exchange_init(&r->exchange, r->params, r->grid->world);
    esp_gradient_init(&r->gradient, &r->exchange, m, !r->adapter);
    r->checkpoint = (esp_checkpoint){ .dir = o->dir,
                                      .settings = o->settings,
                                      .keep = o->keep,
                                      .params = r->params,
                                      .grid = r->grid,
                                      .io = o->checkpoint_io,
                                      .hints = o->mpi_io_hints,
                                      .waits = !o->checkpoint_overlap };
}

static void loop_free(loop *r)
{
    esp_data_free(&r->data);
    esp_teacher_free(&r->teacher);
    esp_pass_free(&r->pass);
    esp_batch_free(&r->batch);
    esp_exchange_free(&r->exchange);
    free(r->mine);
    free(r->loss);
    free(r->scale);
}

/* ---- one step ---- */

/* The share of this rank in n samples: those whose number is i_data modulo n_data. */
static size_t take_mine(loop *r, const size_t *pick, size_t n)
{
    size_t n_mine = 0;

    for (size_t i = (size_t)r->grid->i_data; i < n; i += (size_t)r->grid->n_data) {
        r->mine[n_mine++] = pick[i];
    }
    return n_mine;
}

/* Next batch of mine, from number `first` on; how many samples it has. */
static size_t fill_batch(loop *r, size_t first, size_t n_mine)
{
    size_t n = esp_min(r->n_pass, n_mine - first);

    esp_batch_fill(&r->batch, r->data.samples, r->mine + first, n);
    return n;
}

/* Loss and, with a weight of each target in the objective (0: none), gradients of a batch. */
static double run_batch(loop *r, double weight)
{
    const esp_sink *sink = weight > 0 ? &r->gradient.sink : NULL;
    double sum = 0;

    for (size_t j = 0; j < r->batch.n_samples; j++) {
        r->scale[j] = (float)weight;
    }
    esp_pass_forward(&r->pass, NULL, &r->batch);
    esp_pass_loss(&r->pass, r->loss, sink ? r->scale : NULL, sink, &r->batch);
    if (sink) {
        esp_pass_backward(&r->pass, sink, &r->batch);
    }
    for (size_t j = 0; j < r->batch.n_samples; j++) {
        sum += r->loss[j].sum;
    }
    return sum;
}

/* Sum over all ranks, in place. */
static void sum_over_ranks(double *sums, int n, const loop *r)
{
    double began = esp_now();

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, sums, n, MPI_DOUBLE, MPI_SUM, r->grid->world));
    esp_waited(began);
}

/* Gradient of the mean loss of n samples, summed over ranks, the loss, the gradient's norm and whether to
 * stop; the numbers come from one all-reduce. */
static void compute_gradient(loop *r, double *loss, double *norm, bool *stop, const size_t *pick,
                             size_t n)
{
    double targets = (double)esp_data_targets(&r->data, pick, n);
    double sums[3] = { 0, r->stop && *r->stop ? 1 : 0 };
    size_t n_mine = take_mine(r, pick, n);

    esp_teacher_bring(&r->teacher, pick, n);
    esp_gradient_begin(&r->gradient);
    for (size_t first = 0; first < n_mine;) {
        esp_teacher_turn(&r->teacher, first);
        first += fill_batch(r, first, n_mine);
        esp_gradient_take(&r->gradient, &r->batch, first == n_mine);
        sums[0] += run_batch(r, 1 / targets);
    }
    esp_gradient_finish(&r->gradient);
    sums[2] = esp_grad_squares(r->params);
    sum_over_ranks(sums, 3, r);
    *loss = sums[0] / targets;
    *stop = sums[1] > 0;
    *norm = sqrt(sums[2]);
}

static void set_dropout(loop *r, double p)
{
    if (r->adapter) {
        r->adapter->dropout = (float)p;
        r->adapter->seed = esp_rng_key(r->options->seed, DROPOUT, r->at.step);
    }
}

static void count_tokens(loop *r, const size_t *pick, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const size_t *start = r->data.samples->start + pick[i];

        r->tokens += (double)(start[1] - start[0]);
    }
}

static double clip_factor(double norm, double limit)
{
    return limit > 0 && norm > limit ? limit / norm : 1;
}

static void advance(loop *r, size_t n)
{
    r->at.step++;
    r->at.position += n;
    if (r->at.position == r->data.n_train) {
        r->at.epoch++;
        r->at.position = 0;
    }
}

/* What is being saved must be whole on disk before it changes. */
static esp_status finish_save(loop *r)
{
    double began = esp_now();
    esp_status st = esp_checkpoint_finish(&r->checkpoint);

    r->save_seconds += esp_now() - began;
    return st;
}

/* Whether AdamW can do with it: it squares gradients in f32. */
static bool is_usable(double loss, double norm, double clip)
{
    double largest = norm * clip_factor(norm, clip);

    return isfinite(loss) && largest * largest <= (double)FLT_MAX; /* not so for NaN */
}

/* What was saved just before the step is known to be good now. */
static esp_status take_step(loop *r)
{
    const esp_recover_options *o = r->options;

    ESP_TRY(finish_save(r));
    esp_adamw_step(&r->exchange, o, r->news.rate, clip_factor(r->news.grad_norm, o->clip),
                   r->at.step - r->at.skipped + 1);
    r->at.train_loss = r->news.loss;
    r->at.in_a_row = 0;
    r->at.good = r->at.saved;
    return ESP_OK;
}

static void skip_step(loop *r)
{
    r->news.event = ESP_STEP_SKIPPED;
    r->at.skipped++;
    r->at.in_a_row++;
}

/* One step, taken or skipped. Sets the news but for the validation. */
static esp_status train_step(loop *r, bool *stop)
{
    const esp_recover_options *o = r->options;
    const size_t *pick = esp_data_order(&r->data, r->at.epoch) + r->at.position;
    size_t left = r->data.n_train - r->at.position, n = esp_min(o->batch, left);
    double began = esp_now(), flops = r->pass.flops, saves = r->save_seconds;
    double waited = esp_traffic_now().waited;
    esp_recover_news *news = &r->news;

    *news = (esp_recover_news){ .steps = r->steps, .validation_loss = -1 };
    news->rate = ldexp(esp_schedule_rate(o, r->at.step, r->steps), -(int)r->at.rollbacks);
    set_dropout(r, o->dropout);
    compute_gradient(r, &news->loss, &news->grad_norm, stop, pick, n);
    if (is_usable(news->loss, news->grad_norm, o->clip)) {
        ESP_TRY(take_step(r));
    } else {
        skip_step(r);
    }
    count_tokens(r, pick, n);
    advance(r, n);
    news->step = r->at.step;
    news->in_a_row = r->at.in_a_row;
    r->seconds += esp_now() - began - (r->save_seconds - saves);
    r->waited += esp_traffic_now().waited - waited;
    r->flops += r->pass.flops - flops;
    return ESP_OK;
}

/* ---- validation ---- */

/* Mean loss of the targets of n samples. */
static double loss_of(loop *r, const size_t *pick, size_t n)
{
    size_t n_mine = take_mine(r, pick, n);
    double sum = 0;

    set_dropout(r, 0);
    for (size_t first = 0; first < n_mine;) {
        first += fill_batch(r, first, n_mine);
        sum += run_batch(r, 0);
    }
    sum_over_ranks(&sum, 1, r);
    return sum / (double)esp_data_targets(&r->data, pick, n);
}

/* Of the held-out samples; -1 where none are held out. */
static double validate(loop *r)
{
    return r->data.n_valid > 0 ? loss_of(r, r->data.valid, r->data.n_valid) : -1;
}

/* Whether it is time to go back. */
static bool is_lost(const loop *r)
{
    return r->at.in_a_row > 0 && r->at.in_a_row >= esp_min(r->options->max_skipped, r->steps);
}

static bool is_finished(const loop *r)
{
    size_t patience = r->options->patience;
    bool impatient = patience > 0 && r->at.bad_validations >= patience;

    return !is_lost(r) && (r->at.step >= r->steps || impatient);
}

/* At the end always; without validation samples only there, to keep the last values. */
static bool is_validation_due(const loop *r)
{
    size_t every = r->options->validate_every;

    if (r->at.step == r->steps || r->data.n_valid == 0) {
        return r->at.step == r->steps;
    }
    return every > 0 ? r->at.step % every == 0 : r->at.position == 0;
}

/* This rank's share of the values and of the best ones, one copied to the other. */
static void copy_best(esp_params *p, bool back)
{
    for (size_t k = 0; k < p->n_pieces; k++) {
        size_t begin, end;
        float *value, *best = p->best + p->own[k];

        esp_params_share(&begin, &end, p, k, p->rank);
        value = p->value + begin;
        memcpy(back ? value : best, back ? best : value, (end - begin) * sizeof *value);
    }
}

/* Keeps the values when they are the best so far; without validation the newest are. */
static void keep_best(loop *r, double loss)
{
    if (r->data.n_valid > 0 && !(loss < r->at.best_loss)) {
        r->at.bad_validations++;
        return;
    }
    copy_best(r->params, false);
    r->at.best_loss = loss;
    r->at.best_step = r->at.step;
    r->at.bad_validations = 0;
}

/* Of the batch of the last step that was taken, whose loss was finite before it. */
static double loss_of_last_batch(loop *r)
{
    size_t n_train = r->data.n_train, batch = r->options->batch;
    size_t an_epoch = (n_train + batch - 1) / batch, step = r->at.step - r->at.in_a_row - 1;
    size_t first = step % an_epoch * batch, left = n_train - first;

    return loss_of(r, esp_data_order(&r->data, step / an_epoch) + first, esp_min(left, batch));
}

/* Values whose loss is not finite are no better than steps that are skipped one after another. Where nothing
 * is held out, no step and no validation follows the last values. */
static void judge_values(loop *r)
{
    bool held_out = r->data.n_valid > 0;
    double loss = held_out ? validate(r) : loss_of_last_batch(r);

    if (isfinite(loss)) {
        r->news.validation_loss = held_out ? loss : -1;
        keep_best(r, r->news.validation_loss);
    } else {
        r->news.validation_loss = loss;
        r->at.in_a_row = esp_max(r->options->max_skipped, 1);
    }
}

/* ---- the whole training ---- */

/* Before the first step, with the values there are. */
static void start(loop *r, double first_loss)
{
    r->at = (esp_training){ .first_loss = first_loss, .best_loss = DBL_MAX };
    keep_best(r, first_loss);
}

static esp_status begin(loop *r)
{
    double first_loss;
    bool found;

    ESP_TRY(esp_checkpoint_load(&found, &r->at, &r->checkpoint, SIZE_MAX));
    if (found) {
        esp_info("recovery goes on after step %zu of %zu", r->at.step, r->steps);
        return ESP_OK;
    }
    first_loss = validate(r);
    if (!isfinite(first_loss)) {
        return esp_fail(ESP_EFAILED,
                        "recovery: the validation loss before the first step is %g: "
                        "weights of the model to recover are too large for f32 or broken; get or "
                        "make it anew",
                        fabs(first_loss));
    }
    start(r, first_loss);
    return ESP_OK;
}

/* Starts it; where the training ends here it is also finished here. */
static esp_status save(loop *r, bool last)
{
    double began = esp_now();
    esp_status st = esp_checkpoint_finish(&r->checkpoint); /* after steps that were skipped */

    if (st == ESP_OK) {
        st = esp_checkpoint_begin(&r->checkpoint, &r->at);
    }
    r->save_seconds += esp_now() - began;
    return st == ESP_OK && last ? finish_save(r) : st;
}

static void tell(const loop *r, const esp_recover_news *news)
{
    if (r->report) {
        r->report(r->report_ctx, news);
    }
}

/* To the last good checkpoint, or to the start, with half the rate. */
static esp_status go_back(loop *r)
{
    const esp_recover_options *o = r->options;
    esp_recover_news news = { .event = ESP_ROLLED_BACK,
                              .steps = r->steps,
                              .from = r->at.step,
                              .rollbacks = r->at.rollbacks + 1 };
    double first_loss = r->at.first_loss;
    bool found;

    if (news.rollbacks > o->max_rollbacks) {
        return esp_fail(ESP_EFAILED,
                        "recovery: step %zu of %zu: losses or gradients are not finite, after %zu "
                        "rollbacks (recover.max_rollbacks) to half the learning rate: lower "
                        "recover.learning_rate, and remove %s to start anew",
                        r->at.step, r->steps, r->at.rollbacks, o->dir);
    }
    ESP_TRY(finish_save(r));
    ESP_TRY(esp_checkpoint_load(&found, &r->at, &r->checkpoint, r->at.good));
    if (!found) {
        esp_params_restart(r->params);
        start(r, first_loss);
    }
    r->at.rollbacks = news.rollbacks;
    news.step = r->at.step;
    tell(r, &news);
    return ESP_OK;
}

/* A step with what may follow it: validation, report, checkpoint. */
static esp_status go_on(loop *r)
{
    size_t every = r->options->save_every;
    bool stop, regular;

    ESP_TRY(train_step(r, &stop));
    if (is_validation_due(r) && !is_lost(r)) {
        judge_values(r);
    }
    tell(r, &r->news);
    regular = every > 0 && r->at.step % every == 0;
    r->at.saved = regular ? r->at.step : r->at.saved;
    if (stop || is_finished(r) || regular) {
        ESP_TRY(save(r, stop || is_finished(r)));
    }
    if (stop && !is_finished(r)) {
        return esp_fail(ESP_ESTOPPED,
                        "recovery: stopped after step %zu of %zu, saved in %s: the same command "
                        "goes on from there",
                        r->at.step, r->steps, r->options->dir);
    }
    return ESP_OK;
}

/* The best values on all ranks. */
static void restore_best(loop *r)
{
    copy_best(r->params, true);
    for (size_t k = 0; k < r->params->n_pieces; k++) {
        esp_exchange_gather(&r->exchange, k);
    }
    esp_exchange_finish(&r->exchange);
}

static void conclude(loop *r, esp_recover_result *result)
{
    double most[2] = { r->seconds, r->save_seconds };
    double sums[3] = { r->flops, r->waited, r->seconds };

    set_dropout(r, 0);
    restore_best(r);
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_DOUBLE, MPI_MAX, r->grid->world));
    sum_over_ranks(sums, 3, r);
    *result = (esp_recover_result){ .steps = r->at.step,
                                    .train_loss = r->at.train_loss,
                                    .first_validation_loss = r->at.first_loss,
                                    .validation_loss = r->at.best_loss,
                                    .best_step = r->at.best_step,
                                    .skipped = r->at.skipped,
                                    .rollbacks = r->at.rollbacks,
                                    .seconds = most[0],
                                    .tok_per_second = most[0] > 0 ? r->tokens / most[0] : 0,
                                    .flops = sums[0],
                                    .wait_share = sums[2] > 0 ? sums[1] / sums[2] : 0,
                                    .save_seconds = most[1] };
}

esp_status esp_recover(esp_params *params, esp_recover_result *result, const esp_model *m,
                       esp_adapter *adapter, const esp_samples *samples,
                       const esp_recover_options *o, esp_recover_report report, void *ctx,
                       const volatile int *stop, const esp_grid *grid)
{
    loop r = { .options = o,
               .grid = grid,
               .stop = stop,
               .report = report,
               .report_ctx = ctx,
               .params = params,
               .adapter = adapter && adapter->lora ? adapter : NULL };
    esp_status saved,
        st = esp_agree(grid->world, esp_data_split(&r.data, samples, o->validation, o->seed));

    if (st == ESP_OK) {
        loop_init(&r, m);
        st = begin(&r);
        while (st == ESP_OK && !is_finished(&r)) {
            st = is_lost(&r) ? go_back(&r) : go_on(&r);
        }
        saved = finish_save(&r); /* good, also where a later step failed */
        st = esp_agree(grid->world, st == ESP_OK ? saved : st);
    }
    if (st == ESP_OK) {
        conclude(&r, result);
    }
    loop_free(&r);
    return st;
}
