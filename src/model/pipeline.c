/* pipeline.c - the layers of a pipeline stage, and non-blocking messages between neighbouring stages. */
#include "pipeline_impl.h"

#include <stdbool.h>
#include <stdlib.h>

#include "espalier/clock.h"
#include "espalier/mem.h"
#include "espalier/pass.h"
#include "espalier/traffic.h"

/* ---- the layers of a rank ----------------------------------------------------------------------- */

esp_pipeline_stage esp_pipeline_stage_of(const esp_model *m, const esp_grid *grid)
{
    esp_pipeline_stage s = { .end = m->dims.n_layers, .at_once = 1, .first = true, .last = true };

    if (grid && grid->n_pipeline > 1) {
        esp_share(&s.begin, &s.end, m->dims.n_layers, grid->i_pipeline, grid->n_pipeline);
        s.at_once = s.end - s.begin;
        s.first = grid->i_pipeline == 0;
        s.last = grid->i_pipeline + 1 == grid->n_pipeline;
    }
    return s;
}

typedef struct stage_tally {
    const esp_model *model;
    esp_pipeline_stage stage;
    size_t bytes;
} stage_tally;

/* A tied embedding is the head, too. */
static void add_weight(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    stage_tally *t = ctx;
    const esp_pipeline_stage *s = &t->stage;
    bool head = t->model->tied && slot == ESP_SLOT_EMBED;
    bool here = layer != ESP_NO_LAYER        ? layer >= s->begin && layer < s->end
                : slot < ESP_SLOT_FINAL_NORM ? s->first || (s->last && head)
                                             : s->last;

    t->bytes += here ? esp_weight_numbers(w) * esp_dtype_size(w->dtype) : 0;
}

size_t esp_pipeline_stage_bytes(const esp_model *m, const esp_grid *grid)
{
    stage_tally t = { m, esp_pipeline_stage_of(m, grid), 0 };

    esp_model_visit(m, add_weight, &t);
    return t.bytes;
}

size_t esp_pass_chunks(const esp_grid *grid, size_t per_stage)
{
    return grid->n_pipeline > 1 ? per_stage * (size_t)grid->n_pipeline : 1;
}

/* ---- messages ----------------------------------------------------------------------------------- */

/* Hidden states, and on the way back their gradients. */
double esp_pass_sent(const esp_model *m, const esp_grid *grid, double n_tok, esp_pass_way way)
{
    double ways = way == ESP_PASS_FORWARD ? 1 : 2;

    return ways * (double)(grid->n_pipeline - 1) * sizeof(float) * (double)m->dims.hidden * n_tok;
}

static void make_pipeline(esp_pipeline *p, const esp_grid *grid, size_t max_chunks, size_t *bytes)
{
    *p = (esp_pipeline){ .grid = grid && grid->n_pipeline > 1 ? grid : NULL };
    if (p->grid) {
        ESP_MAKE(p->recvs, max_chunks, bytes);
        ESP_MAKE(p->sends, max_chunks, bytes);
    }
}

void esp_pipeline_init(esp_pipeline *p, const esp_grid *grid, size_t max_chunks)
{
    make_pipeline(p, grid, max_chunks, NULL);
}

size_t esp_pipeline_bytes(const esp_grid *grid, size_t max_chunks)
{
    esp_pipeline p;
    size_t bytes = 0;

    make_pipeline(&p, grid, max_chunks, &bytes);
    return bytes;
}

void esp_pipeline_free(esp_pipeline *p)
{
    esp_pipeline_wait_sends(p);
    free(p->recvs);
    free(p->sends);
    *p = (esp_pipeline){ 0 };
}

/* The pipeline stage that rows go to (or come from); -1: none. */
static int neighbour(const esp_pipeline *p, esp_pipeline_way way, bool to)
{
    int i;

    if (!p->grid) {
        return -1;
    }
    i = p->grid->i_pipeline + ((way == ESP_PIPELINE_FORWARD) == to ? 1 : -1);
    return i < p->grid->n_pipeline ? i : -1;
}

/* Rows of chunk c: where they begin, and how many numbers. */
static size_t place_of(int *n, size_t D, size_t c, const esp_batch *batch)
{
    size_t begin = batch->start[batch->chunk[c]], end = batch->start[batch->chunk[c + 1]];

    *n = esp_count((end - begin) * D);
    return begin * D;
}

void esp_pipeline_post_recvs(esp_pipeline *p, esp_pipeline_way way, float *rows, size_t D,
                             const esp_batch *batch)
{
    int from = neighbour(p, way, false), n;

    p->n_recvs = 0;
    if (from < 0) {
        return;
    }
    for (size_t c = 0; c < batch->n_chunks; c++) {
        size_t at = place_of(&n, D, c, batch);

        ESP_MPI(MPI_Irecv(rows + at, n, MPI_FLOAT, from, (int)way, p->grid->pipeline,
                          &p->recvs[p->n_recvs++]));
    }
}

void esp_pipeline_wait_recv(esp_pipeline *p, size_t c)
{
    double began = esp_now();

    if (c < p->n_recvs) {
        ESP_MPI(MPI_Wait(&p->recvs[c], MPI_STATUS_IGNORE));
        esp_waited(began);
    }
}

void esp_pipeline_send(esp_pipeline *p, esp_pipeline_way way, const float *rows, size_t D, size_t c,
                       const esp_batch *batch)
{
    int to = neighbour(p, way, true), n;
    size_t at;

    if (to >= 0) {
        at = place_of(&n, D, c, batch);
        esp_sent(ESP_SENT_ACTIVATIONS, ESP_COST_P2P, (size_t)n * sizeof *rows, p->grid->pipeline);
        ESP_MPI(MPI_Isend(rows + at, n, MPI_FLOAT, to, (int)way, p->grid->pipeline,
                          &p->sends[p->n_sends++]));
    }
}

void esp_pipeline_progress(esp_pipeline *p)
{
    double began = esp_now();
    int all;

    if (p->n_sends > 0) {
        ESP_MPI(MPI_Testall(esp_count(p->n_sends), p->sends, &all, MPI_STATUSES_IGNORE));
        esp_waited(began);
    }
}

void esp_pipeline_wait_sends(esp_pipeline *p)
{
    double began = esp_now();

    if (p->n_sends > 0) {
        ESP_MPI(MPI_Waitall(esp_count(p->n_sends), p->sends, MPI_STATUSES_IGNORE));
        esp_waited(began);
    }
    p->n_sends = 0;
}
