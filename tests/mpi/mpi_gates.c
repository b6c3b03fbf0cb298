/* mpi_gates.c - losses and gradients of gates have the same bits on any grid, with any chunks and threads. */
#include "espalier/pass.h"
#include "golden_groups.h"

#include <omp.h>

typedef struct layout { /* of the work over ranks and time */
    int threads;
    size_t stages, chunk_tok;
} layout;

/* Of each sample its loss, and sums of x dx over the tokens of each channel with a gate, layer by layer. */
typedef struct outcome {
    size_t n, n_channels;
    double *loss; /* [n] */
    double *gate; /* [n, n_channels] */
} outcome;

typedef struct job {
    const esp_model *model;
    outcome *out;
} job;

/* Numbers of all values with gates that come before a value of a layer; layer n_layers: of all. */
static size_t place_of(const esp_model *m, size_t layer, int value)
{
    size_t n = 0;

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (int v = 0; v < (int)m->arch->n_values; v++) {
            if (l == layer && v == value) {
                return n;
            }
            n += esp_arch_has_gate(m->arch, v) ? esp_model_width(m, l, m->arch->values[v]) : 0;
        }
    }
    return n;
}

static void add_value(void *ctx, size_t layer, int value, const float *x, const float *dx,
                      const esp_batch *chunk)
{
    const job *j = ctx;
    size_t width = esp_model_width(j->model, layer, j->model->arch->values[value]);

    for (size_t i = 0; esp_arch_has_gate(j->model->arch, value) && i < chunk->n_samples; i++) {
        double *sum =
            j->out->gate + chunk->key[i] * j->out->n_channels + place_of(j->model, layer, value);

        for (size_t k = chunk->start[i] * width; k < chunk->start[i + 1] * width; k++) {
            sum[k % width] += (double)x[k] * (double)dx[k];
        }
    }
}

/* Factors between 0 and 2, some of them 0 and 1. */
static void set_gates(esp_gates *gates)
{
    const esp_model *m = gates->model;

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (int v = 0; v < (int)m->arch->n_values; v++) {
            float *at = esp_gates_at(gates, l, v);
            size_t n = at ? esp_model_width(m, l, m->arch->values[v]) : 0;

            for (size_t c = 0; c < n; c++) {
                at[c] = (float)((c * 7 + l) % 9) / 4;
            }
        }
    }
}

static void run_batch(esp_pass *p, job *j, const esp_samples *samples, const esp_batch *batch)
{
    const esp_sink sink = { .ctx = j, .value = add_value };
    esp_loss *loss;
    float *scale;

    ESP_NEW(loss, batch->n_samples);
    ESP_NEW(scale, batch->n_samples);
    for (size_t i = 0; i < batch->n_samples; i++) {
        scale[i] = 1.0f / (float)esp_samples_targets(samples, batch->key[i]);
    }
    esp_pass_forward(p, NULL, batch);
    esp_pass_loss(p, loss, scale, NULL, batch);
    esp_pass_backward(p, &sink, batch);
    for (size_t i = 0; i < batch->n_samples; i++) {
        j->out->loss[batch->key[i]] = loss[i].sum;
    }
    free(scale);
    free(loss);
}

static void run_own(job *j, const esp_samples *samples, const esp_gates *gates, size_t chunk_tok,
                    const esp_grid *grid)
{
    size_t *pick, n;
    esp_text_size own;
    esp_batch batch;
    esp_pass p;

    n = esp_samples_of_rank(&pick, &own, samples, grid->i_data, grid->n_data);
    ESP_REQUIRE(n > 0);
    esp_model_batch_init(&batch, j->model, own.samples, own.tokens);
    batch.chunk_tok = chunk_tok;
    esp_batch_fill(&batch, samples, pick, own.samples);
    esp_pass_init(&p, j->model,
                  (esp_pass_options){ .max_samples = own.samples,
                                      .max_tok = own.tokens,
                                      .backward = true,
                                      .gates = true,
                                      .grid = grid });
    p.gates = gates;
    run_batch(&p, j, samples, &batch);
    esp_pass_free(&p);
    esp_batch_free(&batch);
    free(pick);
}

/* Each number is one rank's, and 0 on the others: their sums are exact. */
static void share(outcome *o, MPI_Comm comm)
{
    MPI_Allreduce(MPI_IN_PLACE, o->loss, (int)o->n, MPI_DOUBLE, MPI_SUM, comm);
    MPI_Allreduce(MPI_IN_PLACE, o->gate, (int)(o->n * o->n_channels), MPI_DOUBLE, MPI_SUM, comm);
}

static outcome run(const fixture *t, layout how, MPI_Comm comm)
{
    const esp_model *m = &t->golden.model;
    outcome o = { .n = t->golden.samples.n, .n_channels = place_of(m, m->dims.n_layers, 0) };
    job j = { m, &o };
    int before = omp_get_max_threads();
    esp_gates gates;
    esp_grid grid;

    ESP_NEW(o.loss, o.n);
    ESP_NEW(o.gate, o.n * o.n_channels);
    esp_gates_init(&gates, m);
    set_gates(&gates);
    esp_grid_init(&grid, how.threads, comm);
    CU_ASSERT_EQUAL(esp_grid_shape(&grid, how.stages), ESP_OK);
    run_own(&j, &t->golden.samples, &gates, how.chunk_tok, &grid);
    share(&o, comm);
    esp_grid_free(&grid);
    esp_gates_free(&gates);
    omp_set_num_threads(before);
    return o;
}

static void outcome_free(outcome *o)
{
    free(o->loss);
    free(o->gate);
}

static void check_layout(const fixture *t, layout how, const outcome *alone)
{
    outcome o = run(t, how, MPI_COMM_WORLD);
    bool good = memcmp(o.loss, alone->loss, o.n * sizeof *o.loss) == 0 &&
                memcmp(o.gate, alone->gate, o.n * o.n_channels * sizeof *o.gate) == 0;

    if (!good) {
        printf("  %s, %zu stages, chunks of %zu\n", t->golden.model.dir, how.stages, how.chunk_tok);
    }
    CU_ASSERT(good);
    outcome_free(&o);
}

/* All grids of the ranks, against this process alone. */
static void check_model(const fixture *t)
{
    size_t longest = esp_samples_longest(&t->golden.samples);
    outcome alone = run(t, (layout){ 1, 1, 0 }, MPI_COMM_SELF);
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (size_t stages = 1; stages <= (size_t)size; stages++) {
        if ((size_t)size % stages == 0 && stages <= t->golden.model.dims.n_layers) {
            check_layout(t, (layout){ 1, stages, 0 }, &alone);
            check_layout(t, (layout){ 2, stages, longest }, &alone);
        }
    }
    CU_ASSERT(golden_largest(alone.gate, alone.n * alone.n_channels) > 0);
    outcome_free(&alone);
}

static void test_own(void)
{
    fixture_each(false, check_model);
}

static void test_shared(void)
{
    fixture_each(true, check_model);
}

ESP_TEST_MAIN("gates on grids", { "repository's model", test_own }, { "other models", test_shared })
