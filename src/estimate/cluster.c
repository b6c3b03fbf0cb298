/* cluster.c - what a machine gives: from the settings, or measured here. */
#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/estimate.h"
#include "espalier/log.h"
#include "espalier/mem.h"

#define ROWS    ((size_t)512)  /* of x: enough for sgemm to run at its speed               */
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

/* FLOP/s of a core while every core multiplies rows by weights in turn. */
static double measure_products(size_t cores)
{
    double flops = 0, began = esp_now();

#pragma omp parallel num_threads((int)cores) reduction(+ : flops)
    {
        size_t n = WIDTH * WIDTH;
        float *w, *x, *y;

        ESP_NEW(w, WEIGHTS * n);
        ESP_NEW(x, ROWS * WIDTH);
        ESP_NEW(y, ROWS * WIDTH);
        for (size_t i = 0; i == 0 || esp_now() - began < SECONDS; i++) {
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)ROWS, (int)WIDTH, (int)WIDTH,
                        1, x, (int)WIDTH, w + i % WEIGHTS * n, (int)WIDTH, 0, y, (int)WIDTH);
            flops += 2.0 * (double)ROWS * (double)n;
        }
        free(w);
        free(x);
        free(y);
    }
    return flops / (esp_now() - began) / (double)cores;
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

    openblas_set_num_threads(1);
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
