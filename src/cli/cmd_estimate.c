/* cmd_estimate.c - what a run would need on a cluster, from the shapes of the model alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command_impl.h"
#include "espalier/estimate.h"
#include "espalier/file.h"
#include "espalier/mem.h"
#include "espalier/run.h"
#include "espalier/settings.h"

#define GIB 1073741824.0

static void print_job(const esp_job *j, const esp_cluster *c)
{
    esp_cost dense = esp_model_cost(j->dense, 1), pruned = esp_model_cost(&j->pruned, 1);
    char *memory = esp_bytes_text(c->memory);

    printf("model: %s, %zu layers, hidden %zu, %.4g parameters in %.2f GB; pruned to %.4g in "
           "%.2f GB\n",
           j->dense->arch->model_type, j->dense->dims.n_layers, j->dense->dims.hidden,
           (double)dense.parameters, (double)dense.bytes / 1e9, (double)pruned.parameters,
           (double)pruned.bytes / 1e9);
    printf("texts: calibration %zu x %zu tokens, recovery %zu x %zu, evaluation %zu x %zu\n",
           j->calibration.samples, j->calibration.longest, j->training.samples, j->training.longest,
           j->evaluation.samples, j->evaluation.longest);
    printf("cluster: %zu nodes of %zu cores and %s; a core %.1f GFLOP/s; a node %.1f GB/s in "
           "memory, %.1f GB/s and %.1f us on the network; files ",
           c->nodes, c->cores, memory, c->core_flops / 1e9, c->memory_bytes / 1e9,
           c->network_bytes / 1e9, c->latency * 1e6);
    if (c->read > 0) {
        printf("%.1f GB/s read, ", c->read / 1e9);
    } else {
        printf("in memory, ");
    }
    printf("%.1f GB/s written\n", c->write / 1e9);
    free(memory);
}

static void print_row(const char *name, const esp_prediction *p)
{
    double sent = 0;

    for (esp_traffic_kind k = 0; k < ESP_N_SENT; k++) {
        sent += p->sent[k];
    }
    printf("%-9s %12.2f %12.3f %12.2f %12.3f %10.2f %10.2f\n", name, p->seconds, p->anonymous / GIB,
           p->mapped / GIB, sent / 1e9, p->read / 1e9, p->written / 1e9);
}

static void add(esp_prediction *sum, const esp_prediction *p)
{
    sum->seconds += p->seconds;
    sum->read += p->read;
    sum->written += p->written;
    sum->anonymous = fmax(sum->anonymous, p->anonymous);
    sum->mapped = fmax(sum->mapped, p->mapped);
    for (esp_traffic_kind k = 0; k < ESP_N_SENT; k++) {
        sum->sent[k] += p->sent[k];
    }
}

/* {"seconds", "anonymous", "mapped", "chunk", "sent": {kind: bytes}, "read", "written"} */
static json_t *prediction_json(const esp_prediction *p)
{
    json_t *sent = json_object();

    for (esp_traffic_kind k = 0; k < ESP_N_SENT; k++) {
        json_object_set_new(sent, esp_traffic_name(k), json_real(p->sent[k]));
    }
    return json_pack("{s:f, s:f, s:f, s:I, s:o, s:f, s:f}", "seconds", p->seconds, "anonymous",
                     p->anonymous, "mapped", p->mapped, "chunk", (json_int_t)p->chunk_tok, "sent",
                     sent, "read", p->read, "written", p->written);
}

/* Whether the file is what write_json writes. */
static bool is_prediction(const char *path)
{
    json_t *o = json_load_file(path, 0, NULL);
    bool is = json_is_object(json_object_get(o, "grid")) &&
              json_is_number(json_object_get(json_object_get(o, "all"), "seconds"));

    json_decref(o);
    return is;
}

/* Takes o. */
static esp_status write_json(const char *path, json_t *o)
{
    char *text = json_dumps(o, JSON_INDENT(2));
    esp_status st = *path ? esp_file_write(path, text, strlen(text)) : ESP_OK;

    free(text);
    json_decref(o);
    return st;
}

/* Prints one row per stage, and writes the same to estimate.output. */
static esp_status print_stages(const esp_job *j, unsigned stages, const esp_layout *l,
                               const esp_cluster *c)
{
    esp_prediction all = { 0 };
    json_t *o = json_pack("{s:{s:I, s:I, s:I, s:I}}", "grid", "nodes", (json_int_t)l->nodes,
                          "ranks", (json_int_t)l->ranks, "threads", (json_int_t)l->threads,
                          "pipeline", (json_int_t)l->pipeline);

    printf("grid: %zu nodes x %zu ranks x %zu threads; %zu pipeline stages x %zu data ranks\n\n",
           l->nodes, l->ranks, l->threads, l->pipeline, l->nodes * l->ranks / l->pipeline);
    printf("%-9s %12s %12s %12s %12s %10s %10s\n", "stage", "seconds", "GiB per rank", "GiB mapped",
           "GB sent", "GB read", "GB written");
    for (esp_stage s = 0; s < ESP_N_STAGES; s++) {
        if (stages >> s & 1) {
            esp_prediction p = esp_predict(j, s, l, c, 0);

            print_row(esp_stage_name(s), &p);
            json_object_set_new(o, esp_stage_name(s), prediction_json(&p));
            add(&all, &p);
        }
    }
    print_row("all", &all);
    json_object_set_new(o, "all", prediction_json(&all));
    return write_json(j->config->estimate.output, o);
}

static esp_status estimate(const esp_config *c, const esp_model *m, bool replace)
{
    const char *output = c->estimate.output;
    esp_cluster cluster = esp_cluster_of(c);
    unsigned stages = esp_settings_stages(c);
    esp_layout best;
    esp_job job;
    esp_status st;

    ESP_TRY(*output ? esp_output_check(output, "a prediction that espalier made",
                                       replace && is_prediction(output))
                    : ESP_OK);
    ESP_TRY(esp_run_check_shape(c, m, stages));
    esp_cluster_measure(&cluster);
    esp_job_init(&job, m, c);
    st = esp_best_layout(&best, &job, stages, &cluster,
                         &(esp_layout){ .ranks = c->estimate.ranks,
                                        .threads = c->parallel.threads,
                                        .pipeline = c->parallel.pipeline });
    if (st == ESP_OK) {
        print_job(&job, &cluster);
        st = print_stages(&job, stages, &best, &cluster);
    }
    esp_job_free(&job);
    return st;
}

/* Of the model folder, of which config.json is enough; without one, of what the settings of synth say. */
static esp_status read_shape(esp_model *m, const esp_config *c)
{
    ESP_TRY(*c->model ? esp_model_shape(m, c->model) : esp_synth_shape(m, &c->synth));
    m->precision = c->precision;
    return ESP_OK;
}

esp_status cmd_estimate(const esp_invocation *in)
{
    esp_model m = { 0 };
    esp_status st = read_shape(&m, in->config);

    if (st == ESP_OK && in->grid->rank == 0) {
        st = estimate(in->config, &m, in->force);
    }
    esp_model_free(&m);
    return st;
}
