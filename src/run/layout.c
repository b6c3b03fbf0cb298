/* layout.c - the grid that needs the least time. */
#include <float.h>

#include "estimate_impl.h"

#define SYSTEM 0.9 /* of the memory of a node that ranks may fill */

/* Seconds of the stages; the anonymous memory of the rank that needs the most in any of them. */
static double seconds_of(double *most, const esp_job *j, unsigned stages, const esp_layout *l,
                         const esp_cluster *c)
{
    double seconds = 0;

    *most = 0;
    for (esp_stage s = 0; s < ESP_N_STAGES; s++) {
        if (stages >> s & 1) {
            esp_prediction p = esp_predict(j, s, l, c, 0);

            *most = p.anonymous > *most ? p.anonymous : *most;
            seconds += p.seconds;
        }
    }
    return seconds;
}

static bool fits(double anonymous, const esp_job *j, const esp_layout *l, const esp_cluster *c)
{
    double limit = (double)j->config->memory_limit;

    return (limit <= 0 || anonymous <= limit) && anonymous * (double)l->ranks <= SYSTEM * c->memory;
}

typedef struct search {
    const esp_job *job;
    const esp_cluster *cluster;
    unsigned stages;
    esp_layout *best;
    double seconds, least; /* of the best; memory of a rank that any layout needs at least */
} search;

static void try_layout(search *at, const esp_layout *l)
{
    double most, seconds = seconds_of(&most, at->job, at->stages, l, at->cluster);

    at->least = most < at->least ? most : at->least;
    if (fits(most, at->job, l, at->cluster) && seconds < at->seconds) {
        at->seconds = seconds;
        *at->best = *l;
    }
}

esp_status esp_best_layout(esp_layout *best, const esp_job *j, unsigned stages,
                           const esp_cluster *c, size_t ranks, size_t layers)
{
    search at = {
        .job = j, .cluster = c, .stages = stages, .best = best, .seconds = DBL_MAX, .least = DBL_MAX
    };

    for (size_t r = 1; r <= (ranks ? ranks : c->cores); r++) {
        if (ranks ? r != ranks : c->cores % r != 0) {
            continue;
        }
        for (size_t s = 1; s <= c->nodes * r && s <= j->pruned.dims.n_layers; s++) {
            size_t threads = c->cores / r ? c->cores / r : 1;

            if ((c->nodes * r) % s == 0 && (layers == 0 || layers == s)) {
                try_layout(&at, &(esp_layout){ c->nodes, r, threads, s });
            }
        }
    }
    if (at.seconds < DBL_MAX) {
        return ESP_OK;
    }
    return esp_fail(ESP_EUSAGE,
                    "no grid of %zu nodes with %zu cores and %.1f GiB fits: a rank needs %.1f GiB "
                    "at least%s; give more nodes, shorter or fewer samples, or a smaller "
                    "recover.micro_batch",
                    c->nodes, c->cores, c->memory / 1073741824, at.least / 1073741824,
                    j->config->memory_limit ? ", and memory_limit counts, too" : "");
}
