/* hand.c - non-blocking messages between neighbouring stages. */
#include "hand_impl.h"

#include <stdbool.h>
#include <stdlib.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"

static void make_hand(esp_hand *h, const esp_grid *grid, size_t max_chunks, size_t *bytes)
{
    *h = (esp_hand){ .grid = grid && grid->n_layers > 1 ? grid : NULL };
    if (h->grid) {
        ESP_MAKE(h->expected, max_chunks, bytes);
        ESP_MAKE(h->given, max_chunks, bytes);
    }
}

void esp_hand_init(esp_hand *h, const esp_grid *grid, size_t max_chunks)
{
    make_hand(h, grid, max_chunks, NULL);
}

size_t esp_hand_bytes(const esp_grid *grid, size_t max_chunks)
{
    esp_hand h;
    size_t bytes = 0;

    make_hand(&h, grid, max_chunks, &bytes);
    return bytes;
}

void esp_hand_free(esp_hand *h)
{
    esp_hand_finish(h);
    free(h->expected);
    free(h->given);
    *h = (esp_hand){ 0 };
}

/* The stage that rows go to (or come from); -1: none. */
static int neighbour(const esp_hand *h, esp_hand_way way, bool to)
{
    int i;

    if (!h->grid) {
        return -1;
    }
    i = h->grid->i_layers + ((way == ESP_HAND_ON) == to ? 1 : -1);
    return i < h->grid->n_layers ? i : -1;
}

/* Rows of chunk c: where they begin, and how many numbers. */
static size_t place_of(int *n, size_t D, size_t c, const esp_batch *batch)
{
    size_t begin = batch->start[batch->chunk[c]], end = batch->start[batch->chunk[c + 1]];

    *n = esp_count((end - begin) * D);
    return begin * D;
}

void esp_hand_expect(esp_hand *h, esp_hand_way way, float *rows, size_t D, const esp_batch *batch)
{
    int from = neighbour(h, way, false), n;

    h->n_expected = 0;
    if (from < 0) {
        return;
    }
    for (size_t c = 0; c < batch->n_chunks; c++) {
        size_t at = place_of(&n, D, c, batch);

        ESP_MPI(MPI_Irecv(rows + at, n, MPI_FLOAT, from, (int)way, h->grid->layers,
                          &h->expected[h->n_expected++]));
    }
}

void esp_hand_take(esp_hand *h, size_t c)
{
    double began = esp_now();

    if (c < h->n_expected) {
        ESP_MPI(MPI_Wait(&h->expected[c], MPI_STATUS_IGNORE));
        esp_waited(began);
    }
}

void esp_hand_give(esp_hand *h, esp_hand_way way, const float *rows, size_t D, size_t c,
                   const esp_batch *batch)
{
    int to = neighbour(h, way, true), n;
    size_t at;

    if (to >= 0) {
        at = place_of(&n, D, c, batch);
        esp_sent(ESP_SENT_ACTIVATIONS, ESP_MOVES_TO_ONE, (size_t)n * sizeof *rows, h->grid->layers);
        ESP_MPI(MPI_Isend(rows + at, n, MPI_FLOAT, to, (int)way, h->grid->layers,
                          &h->given[h->n_given++]));
    }
}

void esp_hand_progress(esp_hand *h)
{
    double began = esp_now();
    int all;

    if (h->n_given > 0) {
        ESP_MPI(MPI_Testall(esp_count(h->n_given), h->given, &all, MPI_STATUSES_IGNORE));
        esp_waited(began);
    }
}

void esp_hand_finish(esp_hand *h)
{
    double began = esp_now();

    if (h->n_given > 0) {
        ESP_MPI(MPI_Waitall(esp_count(h->n_given), h->given, MPI_STATUSES_IGNORE));
        esp_waited(began);
    }
    h->n_given = 0;
}
