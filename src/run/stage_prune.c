/* stage_prune.c - the cut that plan.json says: pruned/. */
#include "stages_impl.h"

#include <stdlib.h>

#include "espalier/exporters.h"
#include "espalier/log.h"
#include "espalier/surgery.h"

esp_status esp_stage_prune(esp_run *run)
{
    char *dir = esp_run_path(run, "pruned");
    esp_plan plan = { 0 };
    esp_groups groups;
    esp_status st;

    esp_groups_find(&groups, &run->model);
    st = esp_run_load_plan(&plan, run, "plan.json");
    if (st == ESP_OK) {
        st = esp_surgery(run->made, esp_export_to(dir, "huggingface"), &run->model, &groups, &plan,
                         run->grid->world);
    }
    esp_plan_free(&plan);
    esp_groups_free(&groups);
    free(dir);
    return st;
}
