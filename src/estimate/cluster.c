/* cluster.c - what a machine gives: from the settings, or measured here. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/clock.h"
#include "espalier/estimate.h"
#include "espalier/mem.h"
#include "espalier/tensor.h"

#define ROWS    ((size_t)512)  /* of x per core: enough for products to run at their speed */
#define WIDTH   ((size_t)1024) /* of a weight; several of them do not stay in a cache */
#define WEIGHTS ((size_t)6)
#define COPY    ((size_t)64 << 20)
#define SECONDS 0.2 /* of each measurement, at least */

esp_cluster esp_cluster_of(const esp_config *c)
{
    return (esp_cluster){ .nodes = c->cluster.nodes,
                          .cores = c->cluster.cores,
                          .memory = (double)c->cluster.memory,
                          .core_flops = c->cluster.core_gflops * 1e9,
                          .memory_bytes = c->cluster.memory_bandwidth * 1e9,
                          .network_bytes = c->cluster.network_bandwidth * 1e9,
                          .latency = c->cluster.latency * 1e-6,
                          .read = c->cluster.read_bandwidth * 1e9,
                          .write = c->cluster.write_bandwidth * 1e9 };
}

/* FLOP/s of a core while all cores multiply rows by one weight after another. */
static double measure_products(size_t cores)
{
    size_t n = WIDTH * WIDTH, start[] = { 0, cores * ROWS };
    const esp_batch batch = { .n_samples = 1, .n_tok = cores * ROWS, .start = start };
    double flops = 0, began, seconds = 0;
    float *w, *x, *y;

    ESP_NEW(w, WEIGHTS * n);
    ESP_NEW(x, batch.n_tok * WIDTH);
    ESP_NEW(y, batch.n_tok * WIDTH);
    omp_set_num_threads((int)cores);
    esp_linear_forward(y, x, esp_array_f32(w), NULL, WIDTH, WIDTH, &batch); /* pages of y */
    began = esp_now();
    for (size_t i = 0; seconds < SECONDS; i++) {
        esp_linear_forward(y, x, esp_array_f32(w + i % WEIGHTS * n), NULL, WIDTH, WIDTH, &batch);
        flops += 2.0 * (double)batch.n_tok * (double)n;
        seconds = esp_now() - began;
    }
    free(w);
    free(x);
    free(y);
    return flops / seconds / (double)cores;
}

/* Bytes/s read and written while every core copies. */
static double measure_copies(size_t cores)
{
    double bytes = 0, began = 0;

#pragma omp parallel num_threads((int)cores) reduction(+ : bytes)
    {
        char *from, *to;

        ESP_NEW(from, COPY);
        ESP_NEW(to, COPY);
#pragma omp barrier
#pragma omp single
        began = esp_now();
        while (esp_now() - began < SECONDS) {
            memcpy(to, from, COPY);
            bytes += 2.0 * (double)COPY;
        }
        free(from);
        free(to);
    }
    return bytes / (esp_now() - began);
}

void esp_cluster_measure(esp_cluster *c)
{
    int threads = omp_get_max_threads();
    size_t here = (size_t)sysconf(_SC_NPROCESSORS_ONLN);

    if (c->cores == 0) {
        c->cores = here;
    }
    if (c->memory <= 0) {
        esp_limit_of_node(&c->here, "");
        c->memory = c->here.bytes;
    }
    if (c->core_flops <= 0) {
        c->core_flops = measure_products(here);
    }
    if (c->memory_bytes <= 0) {
        c->memory_bytes = measure_copies(here);
    }
    omp_set_num_threads(threads);
}
