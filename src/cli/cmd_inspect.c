/* cmd_inspect.c - what a model is, from its config.json alone. */
#include <inttypes.h>

#include "command_impl.h"
#include "espalier/groups.h"
#include "espalier/run.h"

static bool same_dims(const esp_layer_dims *a, const esp_layer_dims *b)
{
    return a->heads == b->heads && a->kv_heads == b->kv_heads && a->mlp == b->mlp;
}

/* One line for each range of layers of the same sizes. */
static void print_layers(const esp_model *m)
{
    const esp_layer_dims *layer = m->dims.layer;

    for (size_t l = 0, end; l < m->dims.n_layers; l = end) {
        for (end = l + 1; end < m->dims.n_layers && same_dims(&layer[l], &layer[end]); end++) {
        }
        printf("layers %zu-%zu: %zu heads, %zu key/value heads, %zu intermediate channels\n", l,
               end - 1, layer[l].heads, layer[l].kv_heads, layer[l].mlp);
    }
}

static void print_model(const esp_model *m)
{
    esp_cost cost = esp_model_cost(m, ESP_MACS_TOKENS);

    printf("%s: %s\n", m->dir, m->arch->architecture);
    printf("%zu layers, hidden %zu, head_dim %zu, vocabulary %zu%s, positions %zu, %s\n",
           m->dims.n_layers, m->dims.hidden, m->dims.head_dim, m->dims.vocab,
           m->tied ? " (tied)" : "", m->dims.max_positions, esp_dtype_name(m->dtype));
    print_layers(m);
    printf("parameters %" PRIu64 ", MACs of %zu tokens %" PRIu64 ", bytes %" PRIu64 "\n",
           cost.parameters, ESP_MACS_TOKENS, cost.macs, cost.bytes);
}

/* How many groups there are to cut, and how many structures one of them ties together. */
static void print_groups(const esp_model *m)
{
    size_t units[ESP_N_UNITS] = { 0 }, groups[ESP_N_UNITS] = { 0 }, parts[ESP_N_UNITS] = { 0 };
    esp_groups g;

    esp_groups_find(&g, m);
    for (size_t i = 0; i < g.n_units; i++) {
        esp_unit_kind k = g.units[i].kind;

        units[k]++;
        groups[k] += g.units[i].n_groups;
        parts[k] = g.units[i].n_structures;
    }
    for (esp_unit_kind k = 0; k < ESP_N_UNITS; k++) {
        if (units[k] > 0) {
            printf("%s: %zu groups in %zu units, %zu structures each\n", esp_unit_name(k),
                   groups[k], units[k], parts[k]);
        }
    }
    esp_groups_free(&g);
}

esp_status cmd_inspect(const esp_invocation *in)
{
    esp_model m = { 0 };

    ESP_TRY(esp_config_need(in->config, "model"));
    ESP_TRY(esp_model_shape(&m, in->config->model));
    if (in->grid->rank == 0) {
        print_model(&m);
        print_groups(&m);
    }
    esp_model_free(&m);
    return ESP_OK;
}
