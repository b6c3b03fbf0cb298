/* rates.c - seconds of work, messages and files.
 *
 * The rate of a core is that of products with weights; other work runs at a fraction of it, and what moves
 * memory shares the bandwidth of the node with the other ranks. Measured by make bench.
 */
#include "estimate_impl.h"

#include <math.h>

#define ATTENTION 0.36  /* of that rate: scores, softmax and values, in blocks of queries    */
#define SUM_G     7.8   /* FLOP that a core would do while it adds an element of a sample to G */
#define SUM_GF    13.6  /* the same for G and F                                              */
#define SERIAL    0.005 /* of the work of a rank is done by one of its threads: assumed */

double esp_work_seconds(const esp_work *w, const esp_layout *l, const esp_cluster *c)
{
    double cores = fmin((double)l->threads, (double)c->cores / (double)l->ranks);
    double speed = cores / (1 + SERIAL * (cores - 1)); /* Amdahl */
    double flops = w->products + w->attention / ATTENTION + w->g * SUM_G + w->gf * SUM_GF;

    return flops / (c->core_flops * speed) + w->moved * (double)l->ranks / c->memory_bytes;
}

double esp_pipeline_seconds(const esp_work *w, const esp_layout *l, const esp_cluster *c)
{
    double chunks = fmax(1, w->chunks);

    return esp_work_seconds(w, l, c) * (chunks + (double)l->pipeline - 1) / chunks;
}

double esp_sending_seconds(double bytes, double calls, const esp_layout *l, const esp_cluster *c)
{
    double rate = l->nodes > 1 ? fmin(c->network_bytes, c->memory_bytes) : c->memory_bytes / 4;
    double latency = l->nodes > 1 ? c->latency : c->latency / 4;

    return bytes / (double)l->nodes / rate + calls * latency * log2(fmax(2, (double)n_ranks(l)));
}

double esp_file_seconds(const esp_prediction *p, const esp_layout *l, const esp_cluster *c)
{
    double node = c->network_bytes * (double)l->nodes; /* the network carries the files, too */

    return (c->read > 0 ? p->read / fmin(c->read, node) : 0) + p->written / fmin(c->write, node);
}
