/* perplexity.c - loss, accuracy and speed of a model over samples.
 *
 * docs/method.md, eq. 28. A sample's loss does not depend on the other samples of its batch, and
 * the losses are summed in the order of the samples: the result has the same bits on any rank count.
 */
#include "espalier/clock.h"
#include "espalier/eval.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/log.h"
#include "espalier/mem.h"

#define CHUNKS_PER_STAGE 4 /* of a batch, where there are several pipeline stages */

enum { SUM, COUNT, HITS, N_NUMBERS }; /* of a sample */

/* This rank's samples from *next on, as many as fit a batch. Moves *next past them. */
static size_t pick_samples(size_t *pick, size_t *next, const esp_samples *s, size_t max_tok,
                           const esp_grid *grid)
{
    size_t n = 0, n_tok = 0;

    for (; *next < s->n; *next += (size_t)grid->n_data) {
        size_t len = s->start[*next + 1] - s->start[*next];

        if (n_tok + len > max_tok) {
            break;
        }
        pick[n++] = *next;
        n_tok += len;
    }
    return n;
}

static esp_pass_options pass_options(esp_text_size t, size_t rank, size_t max_tok,
                                     const esp_grid *grid)
{
    size_t chunk = esp_max(t.longest, max_tok);

    return (esp_pass_options){ .max_samples = t.samples,
                               .max_tok = chunk * esp_pass_chunks(grid, CHUNKS_PER_STAGE),
                               .chunk_tok = chunk,
                               .rank = rank,
                               .longest = t.longest,
                               .grid = grid };
}

/* numbers [samples->n, N_NUMBERS]: rows of this rank's samples are set, on the last pipeline stage. Returns
 * the tokens processed, there. A batch has chunks of max_tok tokens, so many that all stages have one to work
 * on. */
static int64_t evaluate_local(double *numbers, const esp_model *m, const esp_adapter *adapter,
                              const esp_samples *samples, size_t max_tok, const esp_grid *grid)
{
    size_t *pick, next = (size_t)grid->i_data, n, rank = adapter ? adapter->rank : 0;
    esp_pass_options options = pass_options(esp_samples_size(samples), rank, max_tok, grid);
    int64_t n_tok = 0;
    esp_pass pass;
    esp_batch batch;
    esp_loss *loss;

    ESP_NEW(pick, samples->n);
    ESP_NEW(loss, samples->n);
    esp_model_batch_init(&batch, m, samples->n, options.max_tok);
    batch.chunk_tok = options.chunk_tok;
    esp_pass_init(&pass, m, options);
    pass.adapter = adapter;
    while ((n = pick_samples(pick, &next, samples, options.max_tok, grid)) > 0) {
        esp_batch_fill(&batch, samples, pick, n);
        esp_pass_forward(&pass, NULL, &batch);
        esp_pass_loss(&pass, loss, NULL, NULL, &batch);
        for (size_t i = 0; i < n; i++) {
            double *row = numbers + pick[i] * N_NUMBERS;

            row[SUM] = loss[i].sum;
            row[COUNT] = (double)loss[i].count;
            row[HITS] = (double)loss[i].hits;
        }
        n_tok += pass.stage.last ? (int64_t)batch.n_tok : 0;
        esp_progress("eval", esp_min(next, samples->n), samples->n);
    }
    esp_pass_free(&pass);
    esp_batch_free(&batch);
    free(loss);
    free(pick);
    return n_tok;
}

size_t esp_evaluate_bytes(const esp_model *m, size_t rank, esp_text_size t, size_t max_tok,
                          const esp_grid *grid)
{
    esp_pass_options o = pass_options(t, rank, max_tok, grid);

    return esp_calloc_bytes(t.samples * N_NUMBERS, sizeof(double)) +
           esp_calloc_bytes(t.samples, sizeof(size_t)) +
           esp_calloc_bytes(t.samples, sizeof(esp_loss)) +
           esp_batch_bytes(o.max_samples, o.max_tok) + esp_pass_bytes(m, o) +
           esp_pass_scratch_bytes(m, o).blocks;
}

esp_work esp_evaluate_work(const esp_model *m, esp_text_size t, size_t max_tok,
                           const esp_grid *grid)
{
    esp_text_size own = esp_text_share(t, t.samples, (size_t)grid->n_data);

    return esp_pass_work(m, grid, own, ceil((double)own.tokens / fmax(1, (double)max_tok)),
                         ESP_PASS_FORWARD);
}

/* Sums over samples in their order. */
static esp_status summarize(esp_eval *e, const double *numbers, size_t n_samples)
{
    double total[N_NUMBERS] = { 0 };

    for (size_t j = 0; j < n_samples; j++) {
        const double *row = numbers + j * N_NUMBERS;

        if (!isfinite(row[SUM])) {
            return esp_fail(ESP_EFAILED,
                            "evaluation: sample %zu of %zu: the loss is %g: weights are too large "
                            "for f32 or broken; get the model anew, or leave that text out",
                            j, n_samples, fabs(row[SUM])); /* a NaN may have a sign */
        }
        for (int i = 0; i < N_NUMBERS; i++) {
            total[i] += row[i];
        }
    }
    if (total[COUNT] == 0) {
        return esp_fail(ESP_EUSAGE,
                        "evaluation: %zu samples give no token to predict; "
                        "samples need two tokens at least",
                        n_samples);
    }
    e->loss = total[SUM] / total[COUNT];
    e->perplexity = exp(e->loss);
    e->accuracy = total[HITS] / total[COUNT];
    e->tokens = (int64_t)total[COUNT];
    return ESP_OK;
}

esp_status esp_evaluate(esp_eval *e, const esp_model *m, const esp_adapter *adapter,
                        const esp_samples *samples, size_t max_tok, const esp_grid *grid)
{
    size_t n = samples->n * N_NUMBERS;
    double *numbers, began, largest[2];
    int64_t n_tok;
    esp_status st;

    *e = (esp_eval){ 0 };
    ESP_NEW(numbers, n);
    ESP_MPI(MPI_Barrier(grid->world));
    began = esp_now();
    n_tok = evaluate_local(numbers, m, adapter, samples, max_tok, grid);

    /* a sample's numbers come from one rank; the others add zero */
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, numbers, esp_count(n), MPI_DOUBLE, MPI_SUM, grid->world));
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &n_tok, 1, MPI_INT64_T, MPI_SUM, grid->world));
    largest[0] = esp_now() - began;
    largest[1] = (double)esp_peak_resident();
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, largest, 2, MPI_DOUBLE, MPI_MAX, grid->world));
    e->seconds = largest[0];
    e->tok_per_second = (double)n_tok / e->seconds;
    e->peak_resident = (size_t)largest[1];
    st = summarize(e, numbers, samples->n);
    free(numbers);
    return st;
}
