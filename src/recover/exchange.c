/* exchange.c - the collectives of a training on what is trained; no others send those numbers. */
#include "exchange_impl.h"

#include <stdlib.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"

void esp_exchange_init(esp_exchange *x, esp_params *p, MPI_Comm comm)
{
    size_t size = (size_t)p->size;

    *x = (esp_exchange){ .params = p, .comm = comm };
    ESP_NEW(x->count, p->n_pieces * size);
    ESP_NEW(x->place, p->n_pieces * size);
    ESP_NEW(x->requests, p->n_pieces);
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
    free(x->requests);
    *x = (esp_exchange){ 0 };
}

static size_t piece_bytes(const esp_params *p, size_t k)
{
    return (p->piece[k + 1] - p->piece[k]) * sizeof *p->value;
}

void esp_exchange_sum(esp_exchange *x, size_t k)
{
    esp_params *p = x->params;
    double began = esp_now();

    esp_sent(ESP_SENT_GRADIENTS, ESP_MOVES_ONCE, piece_bytes(p, k), x->comm);
    ESP_MPI(MPI_Ireduce_scatter(MPI_IN_PLACE, p->grad + p->piece[k], x->count + k * (size_t)p->size,
                                MPI_FLOAT, MPI_SUM, x->comm, &x->requests[x->started++]));
    esp_waited(began);
}

void esp_exchange_gather(esp_exchange *x, size_t k)
{
    esp_params *p = x->params;
    size_t first = k * (size_t)p->size;
    double began = esp_now();

    esp_sent(ESP_SENT_VALUES, ESP_MOVES_ONCE, piece_bytes(p, k), x->comm);
    ESP_MPI(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, p->value + p->piece[k],
                            x->count + first, x->place + first, MPI_FLOAT, x->comm,
                            &x->requests[x->started++]));
    esp_waited(began);
}

void esp_exchange_progress(esp_exchange *x)
{
    double began = esp_now();
    int all;

    ESP_MPI(MPI_Testall(esp_count(x->started), x->requests, &all, MPI_STATUSES_IGNORE));
    esp_waited(began);
}

void esp_exchange_finish(esp_exchange *x)
{
    double began = esp_now();

    ESP_MPI(MPI_Waitall(esp_count(x->started), x->requests, MPI_STATUSES_IGNORE));
    x->started = 0;
    esp_waited(began);
}
