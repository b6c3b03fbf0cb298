/* exchange.c - the messages of a training on what is trained; no others send those numbers. */
#include "exchange_impl.h"

#include <stdbool.h>
#include <stdlib.h>

#include "espalier/clock.h"
#include "espalier/mem.h"
#include "espalier/tensor.h"
#include "espalier/traffic.h"

/* Of all pieces: of each, the first rank has as much as any other. */
static size_t largest_share(const esp_params *p)
{
    size_t most = 0;

    for (size_t k = 0; k < p->n_pieces; k++) {
        size_t begin, end;

        esp_params_share(&begin, &end, p, k, 0);
        most = esp_max(most, end - begin);
    }
    return most;
}

static void make_exchange(esp_exchange *x, const esp_params *p, size_t *bytes)
{
    size_t size = (size_t)p->size;

    *x = (esp_exchange){ .capacity = (size - 1) * largest_share(p) };
    ESP_MAKE(x->count, p->n_pieces * size, bytes);
    ESP_MAKE(x->place, p->n_pieces * size, bytes);
    ESP_MAKE(x->gatherings, p->n_pieces, bytes);
    ESP_MAKE(x->buffer, ESP_PIECES_AT_ONCE * x->capacity, bytes);
    ESP_MAKE(x->messages, ESP_PIECES_AT_ONCE * 2 * size, bytes);
}

size_t esp_exchange_bytes(const esp_params *p)
{
    esp_exchange x;
    size_t bytes = 0;

    make_exchange(&x, p, &bytes);
    return bytes;
}

void esp_exchange_init(esp_exchange *x, esp_params *p, MPI_Comm comm)
{
    size_t size = (size_t)p->size;

    make_exchange(x, p, NULL);
    x->params = p;
    x->comm = comm;
    for (size_t i = 0; i < p->n_pieces * size; i++) {
        size_t begin, end;

        esp_params_share(&begin, &end, p, i / size, (int)(i % size));
        x->count[i] = esp_count(end - begin);
        x->place[i] = esp_count(begin - p->piece[i / size]);
    }
}

void esp_exchange_free(esp_exchange *x)
{
    free(x->count);
    free(x->place);
    free(x->gatherings);
    free(x->buffer);
    free(x->messages);
    *x = (esp_exchange){ 0 };
}

static size_t piece_bytes(const esp_params *p, size_t k)
{
    return (p->piece[k + 1] - p->piece[k]) * sizeof *p->value;
}

/* ---- sums -------------------------------------------------------------------------------------- */

static MPI_Request *messages_of(const esp_exchange *x, size_t k)
{
    return x->messages + k % ESP_PIECES_AT_ONCE * 2 * (size_t)x->params->size;
}

static float *buffer_of(const esp_exchange *x, size_t k)
{
    return x->buffer + k % ESP_PIECES_AT_ONCE * x->capacity;
}

/* From and to every other rank. Messages between two ranks come in the order of the pieces. */
static void begin_sum(esp_exchange *x, size_t k)
{
    const esp_params *p = x->params;
    const int *count = x->count + k * (size_t)p->size, *place = x->place + k * (size_t)p->size;
    MPI_Request *message = messages_of(x, k);
    float *buffer = buffer_of(x, k);
    double began = esp_now();

    for (int r = 0; r < p->size; r++) {
        message[2 * r] = message[2 * r + 1] = MPI_REQUEST_NULL;
        if (r != p->rank) {
            ESP_MPI(MPI_Irecv(buffer, count[p->rank], MPI_FLOAT, r, 0, x->comm, &message[2 * r]));
            ESP_MPI(MPI_Isend(p->grad + p->piece[k] + place[r], count[r], MPI_FLOAT, r, 0, x->comm,
                              &message[2 * r + 1]));
            buffer += count[p->rank];
        }
    }
    esp_sent(ESP_SENT_GRADIENTS, ESP_COST_REDUCE_SCATTER, piece_bytes(p, k), x->comm);
    esp_waited(began);
}

static void begin_sums(esp_exchange *x)
{
    while (x->begun < x->due && x->begun < x->added + ESP_PIECES_AT_ONCE) {
        begin_sum(x, x->begun++);
    }
}

/* All of its messages are through. */
static void add_shares(const esp_exchange *x, size_t k)
{
    const esp_params *p = x->params;
    size_t at = k * (size_t)p->size + (size_t)p->rank, n = (size_t)x->count[at];
    const float *buffer = buffer_of(x, k);

    for (int i = 1; i < p->size; i++) {
        esp_accumulate(p->grad + p->piece[k] + x->place[at], buffer, n);
        buffer += n;
    }
}

/* Whether the messages of piece k are through, now or after waiting. */
static bool is_through(const esp_exchange *x, size_t k, bool wait)
{
    double began = esp_now();
    int n = 2 * x->params->size, done = 1;

    if (wait) {
        ESP_MPI(MPI_Waitall(n, messages_of(x, k), MPI_STATUSES_IGNORE));
    } else {
        ESP_MPI(MPI_Testall(n, messages_of(x, k), &done, MPI_STATUSES_IGNORE));
    }
    esp_waited(began);
    return done;
}

static void go_on(esp_exchange *x, bool wait)
{
    begin_sums(x);
    while (x->added < x->begun && is_through(x, x->added, wait)) {
        add_shares(x, x->added++);
        begin_sums(x);
    }
}

void esp_exchange_sum(esp_exchange *x, size_t k)
{
    ESP_REQUIRE(k == x->due);
    x->due++;
    begin_sums(x);
}

/* ---- values ------------------------------------------------------------------------------------ */

void esp_exchange_gather(esp_exchange *x, size_t k)
{
    esp_params *p = x->params;
    size_t first = k * (size_t)p->size;
    double began = esp_now();

    esp_sent(ESP_SENT_VALUES, ESP_COST_REDUCE_SCATTER, piece_bytes(p, k), x->comm);
    ESP_MPI(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, p->value + p->piece[k],
                            x->count + first, x->place + first, MPI_FLOAT, x->comm,
                            &x->gatherings[x->n_gatherings++]));
    esp_waited(began);
}

/* ---- both -------------------------------------------------------------------------------------- */

void esp_exchange_progress(esp_exchange *x)
{
    double began = esp_now();
    int all;

    ESP_MPI(MPI_Testall(esp_count(x->n_gatherings), x->gatherings, &all, MPI_STATUSES_IGNORE));
    esp_waited(began);
    go_on(x, false);
}

void esp_exchange_finish(esp_exchange *x)
{
    double began = esp_now();

    ESP_MPI(MPI_Waitall(esp_count(x->n_gatherings), x->gatherings, MPI_STATUSES_IGNORE));
    esp_waited(began);
    go_on(x, true);
    x->n_gatherings = x->due = x->begun = x->added = 0;
}
