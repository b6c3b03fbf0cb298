/* losses.c - the loss of every sample, on all ranks alike.
 *
 * A sample's loss does not depend on the other samples of its batch, and one rank has it: what all ranks
 * end up with has the same bits on any number of them. */
#include "losses_impl.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/clock.h"
#include "espalier/log.h"
#include "espalier/mem.h"

#define CHUNKS_PER_STAGE 4 /* of a batch, where there are several pipeline stages */

enum { SUM, COUNT, HITS, N_NUMBERS }; /* of a sample */

static size_t first_of(const esp_units *u, size_t i)
{
    return u->first ? u->first[i] : i;
}

static size_t tokens_of(const esp_units *u, size_t i)
{
    const size_t *start = u->samples->start;

    return start[first_of(u, i + 1)] - start[first_of(u, i)];
}

static size_t longest_of(const esp_units *u)
{
    size_t longest = 0;

    for (size_t i = 0; i < u->n; i++) {
        longest = esp_max(longest, tokens_of(u, i));
    }
    return longest;
}

/* Samples of this rank's units from *next on, as many as fit a batch. Moves *next past them. */
static size_t pick_samples(size_t *pick, size_t *next, const esp_units *u, size_t max_tok,
                           const esp_grid *grid)
{
    size_t n = 0, n_tok = 0;

    for (; *next < u->n; *next += (size_t)grid->n_data) {
        size_t len = tokens_of(u, *next);

        if (n_tok + len > max_tok) {
            break;
        }
        for (size_t j = first_of(u, *next); j < first_of(u, *next + 1); j++) {
            pick[n++] = j;
        }
        n_tok += len;
    }
    return n;
}

static esp_pass_options pass_options(esp_text_size t, size_t rank, size_t max_tok,
                                     const esp_grid *grid)
{
    size_t chunk = esp_max(t.longest, esp_min(max_tok, t.tokens));

    return (esp_pass_options){ .max_samples = t.samples,
                               .max_tok = chunk * esp_pass_chunks(grid, CHUNKS_PER_STAGE),
                               .chunk_tok = chunk,
                               .rank = rank,
                               .longest = t.longest,
                               .grid = grid };
}

/* numbers [samples, N_NUMBERS]: rows of this rank's samples are set, on the last stage. Returns the tokens
 * processed, there. A batch has chunks of max_tok tokens, so many that all stages have one to work on; a
 * short text takes no more room than it has tokens. */
static int64_t compute_local(double *numbers, const esp_model *m, const esp_adapter *adapter,
                             const esp_units *u, size_t max_tok, const char *what,
                             const esp_grid *grid)
{
    size_t *pick, next = (size_t)grid->i_data, n, rank = adapter ? adapter->rank : 0;
    esp_text_size size = esp_samples_size(u->samples);
    esp_pass_options options;
    int64_t n_tok = 0;
    esp_pass pass;
    esp_batch batch;
    esp_loss *loss;

    size.longest = longest_of(u);
    options = pass_options(size, rank, max_tok, grid);
    ESP_NEW(pick, u->samples->n);
    ESP_NEW(loss, u->samples->n);
    esp_model_batch_init(&batch, m, u->samples->n, options.max_tok);
    batch.chunk_tok = options.chunk_tok;
    esp_pass_init(&pass, m, options);
    pass.adapter = adapter;
    while ((n = pick_samples(pick, &next, u, options.max_tok, grid)) > 0) {
        esp_batch_fill(&batch, u->samples, pick, n);
        esp_pass_forward(&pass, NULL, &batch);
        esp_pass_loss(&pass, loss, NULL, NULL, &batch);
        for (size_t i = 0; i < n; i++) {
            double *row = numbers + pick[i] * N_NUMBERS;

            row[SUM] = loss[i].sum;
            row[COUNT] = (double)loss[i].count;
            row[HITS] = (double)loss[i].hits;
        }
        n_tok += pass.stage.last ? (int64_t)batch.n_tok : 0;
        esp_progress(what, esp_min(next, u->n), u->n);
    }
    esp_pass_free(&pass);
    esp_batch_free(&batch);
    free(loss);
    free(pick);
    return n_tok;
}

void esp_losses(esp_loss *loss, esp_losses_cost *cost, const esp_model *m,
                const esp_adapter *adapter, const esp_units *u, size_t max_tok, const char *what,
                const esp_grid *grid)
{
    size_t n = u->samples->n * N_NUMBERS;
    double *numbers, began, largest[2];

    ESP_NEW(numbers, n);
    ESP_MPI(MPI_Barrier(grid->world));
    began = esp_now();
    cost->n_tok = compute_local(numbers, m, adapter, u, max_tok, what, grid);

    /* a sample's numbers come from one rank; the others add zero */
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, numbers, esp_count(n), MPI_DOUBLE, MPI_SUM, grid->world));
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &cost->n_tok, 1, MPI_INT64_T, MPI_SUM, grid->world));
    largest[0] = esp_now() - began;
    largest[1] = (double)esp_peak_resident();
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, largest, 2, MPI_DOUBLE, MPI_MAX, grid->world));
    cost->seconds = largest[0];
    cost->peak_resident = (size_t)largest[1];
    for (size_t j = 0; j < u->samples->n; j++) {
        const double *row = numbers + j * N_NUMBERS;

        loss[j] = (esp_loss){ row[SUM], (int64_t)row[COUNT], (int64_t)row[HITS] };
    }
    free(numbers);
}

size_t esp_evaluate_bytes(const esp_model *m, size_t rank, esp_text_size t, size_t max_tok,
                          const esp_grid *grid)
{
    esp_pass_options o = pass_options(t, rank, max_tok, grid);

    return esp_calloc_bytes(t.samples * N_NUMBERS, sizeof(double)) +
           esp_calloc_bytes(t.samples, sizeof(size_t)) +
           2 * esp_calloc_bytes(t.samples, sizeof(esp_loss)) +
           esp_batch_bytes(o.max_samples, o.max_tok) + esp_pass_bytes(m, o) +
           esp_pass_scratch_bytes(m, o).blocks;
}

esp_work esp_evaluate_work(const esp_model *m, esp_text_size t, size_t max_tok,
                           const esp_grid *grid)
{
    esp_text_size own = esp_text_share(t, t.samples, (size_t)grid->n_data);

    return esp_pass_work(m, grid, own, ceil((double)own.tokens / fmax(1, (double)max_tok)),
                         ESP_PASS_FORWARD, 0);
}
