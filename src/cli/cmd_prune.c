/* cmd_prune.c - the stage that makes pruned/. */
#include "command_impl.h"
#include "espalier/run.h"

esp_status cmd_prune(const esp_invocation *in)
{
    return esp_run_stages(in->config, 1u << ESP_STAGE_PRUNE, in->force, in->stop, in->grid);
}
