/* layout.c - the grid that needs the least time. */
#include <float.h>
#include <math.h>
#include <stdint.h>

#include "espalier/log.h"
#include "estimate_impl.h"
#include "espalier/settings.h"

#define SYSTEM 0.9 /* of the memory of a node that ranks may fill                     */
#define REREAD \
    10 /* times longer: weights that a node cannot keep come from the file system again */
#define WORTH  0.9  /* more pipeline stages are taken for this much of the time of fewer */
#define FLOPS  4e10 /* of a core, and bytes/s of a node, where a run would have to measure */
#define COPIES 1e11

/* Seconds of the stages; the anonymous memory and the mapped weights of the rank that needs the most in any
 * of them. */
static double seconds_of(double *most, double *mapped, const esp_job *j, unsigned stages,
                         const esp_layout *l, const esp_cluster *c)
{
    double seconds = 0;

    *most = *mapped = 0;
    for (esp_stage s = 0; s < ESP_N_STAGES; s++) {
        if (stages >> s & 1) {
            esp_prediction p = esp_predict(j, s, l, c, 0);

            *most = fmax(*most, p.anonymous);
            *mapped = fmax(*mapped, p.mapped);
            seconds += p.seconds;
        }
    }
    return seconds;
}

static bool fits(double anonymous, const esp_job *j, const esp_layout *l, const esp_cluster *c)
{
    double limit = j->limit.bytes;

    return (limit <= 0 || anonymous <= limit) && anonymous * (double)l->ranks <= SYSTEM * c->memory;
}

/* Pipeline stages that the ranks of a node have between them. */
static double stages_of_node(const esp_layout *l)
{
    size_t n_data = data_ranks(l);

    return (double)((l->ranks + n_data - 1) / n_data);
}

typedef struct search {
    const esp_job *job;
    const esp_cluster *cluster;
    unsigned stages;
    esp_layout *best;
    double seconds, least; /* of the best; memory of a node that any layout needs at least */
} search;

static void try_layout(search *at, const esp_layout *l)
{
    double most, mapped, most_of_node;
    double seconds = seconds_of(&most, &mapped, at->job, at->stages, l, at->cluster);

    most_of_node = most * (double)l->ranks;
    if (most_of_node + mapped * stages_of_node(l) > SYSTEM * at->cluster->memory) {
        seconds *= REREAD;
    }
    at->least = fmin(at->least, most_of_node);
    if (fits(most, at->job, l, at->cluster) &&
        seconds < at->seconds * (l->pipeline > at->best->pipeline ? WORTH : 1)) {
        at->seconds = seconds;
        *at->best = *l;
    }
}

esp_status esp_best_layout(esp_layout *best, const esp_job *j, unsigned stages,
                           const esp_cluster *c, size_t ranks, size_t pipeline)
{
    search at = {
        .job = j, .cluster = c, .stages = stages, .best = best, .seconds = DBL_MAX, .least = DBL_MAX
    };

    *best = (esp_layout){ 0 };
    for (size_t r = 1; r <= (ranks ? ranks : c->cores); r++) {
        if (ranks ? r != ranks : c->cores % r != 0) {
            continue;
        }
        for (size_t s = 1; s <= c->nodes * r && s <= j->pruned.dims.n_layers; s++) {
            size_t threads = esp_max(c->cores / r, 1);

            if ((c->nodes * r) % s == 0 && (pipeline == 0 || pipeline == s)) {
                try_layout(&at, &(esp_layout){ c->nodes, r, threads, s });
            }
        }
    }
    if (at.seconds < DBL_MAX) {
        return ESP_OK;
    }
    return esp_fail(
        ESP_EUSAGE,
        "no grid of %zu nodes with %zu cores and %.1f GiB%s%s%s fits: the ranks of a "
        "node need %.1f GiB at least%s; give more nodes, shorter or fewer samples, a smaller "
        "recover.micro_batch, or parallel.scratch",
        c->nodes, c->cores, c->memory / 1073741824, *c->here.source ? " (" : "", c->here.source,
        *c->here.source ? ")" : "", at.least / 1073741824,
        j->limit.bytes > 0 ? ", and memory_limit counts, too" : "");
}

/* ---- the grid of a run ------------------------------------------------------------------------ */

/* Ranks of the node of this rank. */
static size_t ranks_of_node(MPI_Comm world)
{
    MPI_Comm node;
    int n;

    ESP_MPI(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
    ESP_MPI(MPI_Comm_size(node, &n));
    ESP_MPI(MPI_Comm_free(&node));
    return (size_t)n;
}

/* Pipeline stages for so many ranks per node; 1 where nothing is known of the model yet: the stage that reads
 * it will say why. */
static size_t choose_pipeline(const esp_grid *g, const esp_config *c, size_t ranks)
{
    esp_cluster cluster = esp_cluster_of(c);
    esp_layout best;
    esp_model m = { 0 };
    esp_job job;
    esp_status st;

    cluster.nodes = ((size_t)g->size + ranks - 1) / ranks;
    cluster.cores = ranks * (size_t)g->n_threads;
    cluster.core_flops = cluster.core_flops > 0 ? cluster.core_flops : FLOPS;
    cluster.memory_bytes = cluster.memory_bytes > 0 ? cluster.memory_bytes : COPIES;
    esp_cluster_measure(&cluster);
    if (esp_model_shape(&m, c->model) != ESP_OK) {
        esp_error_clear();
        return 1;
    }
    m.precision = c->precision;
    esp_job_init(&job, &m, c);
    st = esp_best_layout(&best, &job, esp_settings_stages(c), &cluster, ranks, 0);
    esp_job_free(&job);
    esp_model_free(&m);
    esp_error_clear();
    return st == ESP_OK ? best.pipeline : 1;
}

esp_status esp_choose_grid(esp_grid *g, const esp_config *c)
{
    size_t ranks = ranks_of_node(g->world);
    uint64_t n_pipeline = c->parallel.pipeline ? c->parallel.pipeline : 1;

    if (c->parallel.pipeline == 0 && g->size > 1) {
        if (g->rank == 0 && (size_t)g->size % ranks == 0) {
            n_pipeline = choose_pipeline(g, c, ranks);
        }
        ESP_MPI(MPI_Bcast(&n_pipeline, 1, MPI_UINT64_T, 0, g->world));
        esp_debug("grid: %zu stages of layers x %zu data ranks", (size_t)n_pipeline,
                  (size_t)g->size / (size_t)n_pipeline);
    }
    return esp_grid_shape(g, (size_t)n_pipeline);
}
