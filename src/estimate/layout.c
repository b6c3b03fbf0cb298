/* layout.c - the grid that needs the least time. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "espalier/log.h"
#include "estimate_impl.h"
#include "espalier/settings.h"

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
    double seconds; /* of the best                                                              */
    double
        least_node; /* memory that the ranks of a node need, of all layouts the least           */
    double
        least_rank; /* memory that a rank needs, of the layouts that fit the memory of the node */
} search;

static void try_layout(search *at, const esp_layout *l)
{
    double most, mapped, most_of_node, room = ESP_NODE_SHARE * at->cluster->memory;
    double seconds = seconds_of(&most, &mapped, at->job, at->stages, l, at->cluster);
    double limit = at->job->limit.bytes;

    most_of_node = most * (double)l->ranks;
    if (most_of_node + mapped * stages_of_node(l) > room) {
        seconds *= REREAD;
    }
    at->least_node = fmin(at->least_node, most_of_node);
    if (most_of_node > room) {
        return;
    }
    at->least_rank = fmin(at->least_rank, most);
    if ((limit <= 0 || most <= limit) &&
        seconds < at->seconds * (l->pipeline > at->best->pipeline ? WORTH : 1)) {
        at->seconds = seconds;
        *at->best = *l;
    }
}

/* Pipeline stages that divide the ranks: the one number that is fixed, or all that leave no stage without
 * layers. */
static void try_ranks(search *at, size_t ranks, const esp_layout *fixed)
{
    const esp_cluster *c = at->cluster;
    esp_layout l = { .nodes = c->nodes,
                     .ranks = ranks,
                     .threads = fixed->threads ? fixed->threads : esp_max(c->cores / ranks, 1) };
    size_t first = esp_max(fixed->pipeline, 1);
    size_t last = fixed->pipeline ? first : esp_min(n_ranks(&l), at->job->pruned.dims.n_layers);

    for (l.pipeline = first; l.pipeline <= last; l.pipeline++) {
        if (n_ranks(&l) % l.pipeline == 0) {
            try_layout(at, &l);
        }
    }
}

static size_t greatest_divisor(size_t a, size_t b)
{
    while (b > 0) {
        size_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* Whether ranks of all nodes can be shared out to the pipeline stages that are fixed: ranks of a node are
 * multiples of `unit` then. */
static esp_status check_fixed(const esp_layout *fixed, size_t unit, size_t most,
                              const esp_cluster *c)
{
    if (fixed->ranks % unit != 0) {
        return esp_fail(ESP_EUSAGE,
                        "parallel.pipeline = %zu: %zu ranks cannot be shared out to so many "
                        "pipeline stages; take a divisor of the number of ranks",
                        fixed->pipeline, c->nodes * fixed->ranks);
    }
    return most >= unit ? ESP_OK
                        : esp_fail(ESP_EUSAGE,
                                   "parallel.pipeline = %zu: no number of ranks up to %zu on each "
                                   "of %zu nodes can be shared out to so many pipeline stages",
                                   fixed->pipeline, most, c->nodes);
}

static esp_status refuse_node(const search *at)
{
    const esp_cluster *c = at->cluster;
    bool here = *c->here.source;
    char *memory = esp_bytes_text(c->memory), *least = esp_bytes_text(at->least_node);
    esp_status st = esp_fail(
        ESP_EUSAGE,
        "no grid of %zu nodes with %zu cores and %s%s%s%s fits: the ranks of a node need %s at "
        "least, and may fill %.0f %% of its memory; give more nodes, shorter or fewer samples, a "
        "smaller recover.micro_batch, or parallel.scratch",
        c->nodes, c->cores, memory, here ? " (" : "", c->here.source, here ? ")" : "", least,
        100 * ESP_NODE_SHARE);

    free(memory);
    free(least);
    return st;
}

static esp_status refuse_limit(const search *at)
{
    const esp_cluster *c = at->cluster;
    char *limit = esp_bytes_text(at->job->limit.bytes), *least = esp_bytes_text(at->least_rank);
    esp_status st =
        esp_fail(ESP_EUSAGE,
                 "memory_limit = %s: no grid of %zu nodes with %zu cores fits; a rank needs %s: "
                 "set that or more, give shorter or fewer samples, a smaller "
                 "recover.micro_batch, or parallel.scratch",
                 limit, c->nodes, c->cores, least);

    free(limit);
    free(least);
    return st;
}

esp_status esp_best_layout(esp_layout *best, const esp_job *j, unsigned stages,
                           const esp_cluster *c, const esp_layout *fixed)
{
    search at = { .job = j,
                  .cluster = c,
                  .stages = stages,
                  .best = best,
                  .seconds = DBL_MAX,
                  .least_node = DBL_MAX,
                  .least_rank = DBL_MAX };
    size_t most = fixed->ranks ? fixed->ranks : esp_max(c->cores / esp_max(fixed->threads, 1), 1);
    size_t unit =
        fixed->pipeline ? fixed->pipeline / greatest_divisor(fixed->pipeline, c->nodes) : 1;

    *best = (esp_layout){ 0 };
    ESP_TRY(check_fixed(fixed, unit, most, c));
    for (size_t i = fixed->ranks ? most / unit : 1; i <= most / unit; i++) {
        if (most / unit % i == 0) { /* no core is left over */
            try_ranks(&at, i * unit, fixed);
        }
    }
    if (at.seconds < DBL_MAX) {
        return ESP_OK;
    }
    return at.least_rank < DBL_MAX ? refuse_limit(&at) : refuse_node(&at);
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
    st = esp_best_layout(&best, &job, esp_settings_stages(c), &cluster,
                         &(esp_layout){ .ranks = ranks, .threads = (size_t)g->n_threads });
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
        esp_debug("grid: %zu pipeline stages x %zu data ranks", (size_t)n_pipeline,
                  (size_t)g->size / (size_t)n_pipeline);
    }
    return esp_grid_shape(g, (size_t)n_pipeline);
}
