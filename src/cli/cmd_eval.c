/* cmd_eval.c - the stage that makes eval.json. */
#include "command_impl.h"
#include "espalier/run.h"

esp_status cmd_eval(const esp_invocation *in)
{
    return esp_run_stages(in->config, 1u << ESP_STAGE_EVAL, in->force, in->stop, in->grid);
}
