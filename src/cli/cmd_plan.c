/* cmd_plan.c - the stage that makes plan.json. */
#include "command_impl.h"
#include "espalier/run.h"

esp_status cmd_plan(const esp_invocation *in)
{
    return esp_run_stages(in->config, 1u << ESP_STAGE_PLAN, in->force, in->stop, in->grid);
}
