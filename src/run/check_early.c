/* check_early.c - what settings, config.json and the sizes of texts tell, before anything is written. */
#include "espalier/clients.h"
#include "run_impl.h"

/* ---- the plan --------------------------------------------------------------------------------------- */

static esp_status check_plan(const esp_run *run, const esp_model *m)
{
    esp_plan_options o = esp_run_plan_options(run->config);
    esp_groups g;
    esp_status st;

    esp_groups_find(&g, m);
    st = esp_plan_foresee(m, &g, &o);
    st = st == ESP_OK ? esp_clients_foresee(m, &g, &o, run->config->prune.clients) : st;
    esp_groups_free(&g);
    return st;
}

/* ---- the whole -------------------------------------------------------------------------------------- */

static esp_status check_stages(const esp_run *run, const esp_model *m, unsigned stages)
{
    esp_plan_options o = esp_run_plan_options(run->config);

    if (stages & (1u << ESP_STAGE_SCORE | 1u << ESP_STAGE_PLAN)) {
        ESP_TRY(esp_plan_check_layers(m, &o));
    }
    return stages >> ESP_STAGE_PLAN & 1 ? check_plan(run, m) : ESP_OK;
}

esp_status esp_run_check_early(const esp_run *run, unsigned stages)
{
    esp_model m;
    esp_status st;

    ESP_TRY(esp_model_shape(&m, run->config->model));
    st = check_stages(run, &m, stages);
    esp_model_free(&m);
    return st;
}
