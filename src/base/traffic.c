/* traffic.c - counters of bytes sent and of seconds waited. A piece of global state. */
#include "espalier/traffic.h"

#include "espalier/clock.h"

static esp_traffic counted;

const char *esp_traffic_name(esp_traffic_kind k)
{
    static const char *const names[ESP_N_SENT] = { "weight_gradients", "sums",    "activations",
                                                   "gradients",        "teacher", "values" };

    return names[k];
}

double esp_moved_bytes(esp_moves how, double n, int size)
{
    if (size == 1) {
        return 0;
    }
    return how == ESP_COST_P2P ? n : (how == ESP_COST_ALLREDUCE ? 2 : 1) * (double)(size - 1) * n;
}

void esp_sent(esp_traffic_kind k, esp_moves how, size_t n, MPI_Comm comm)
{
    int size;

    ESP_MPI(MPI_Comm_size(comm, &size));
    if (size == 1) {
        return;
    }
    counted.bytes[k] += esp_moved_bytes(how, (double)n, size) / (how == ESP_COST_P2P ? 1 : size);
    counted.calls[k]++;
}

void esp_waited(double began)
{
    counted.waited += esp_now() - began;
}

esp_traffic esp_traffic_now(void)
{
    return counted;
}

esp_traffic esp_traffic_since(const esp_traffic *then, MPI_Comm comm)
{
    esp_traffic t = { .waited = counted.waited - then->waited };

    for (int k = 0; k < ESP_N_SENT; k++) {
        t.bytes[k] = counted.bytes[k] - then->bytes[k];
        t.calls[k] = counted.calls[k] - then->calls[k];
    }
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, t.bytes, ESP_N_SENT, MPI_DOUBLE, MPI_SUM, comm));
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, t.calls, ESP_N_SENT, MPI_DOUBLE, MPI_SUM, comm));
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &t.waited, 1, MPI_DOUBLE, MPI_SUM, comm));
    return t;
}
