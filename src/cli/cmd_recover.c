/* cmd_recover.c - the stage that makes adapter/ and recovered/. */
#include "command_impl.h"
#include "espalier/run.h"

esp_status cmd_recover(const esp_invocation *in)
{
    return esp_run_stages(in->config, 1u << ESP_STAGE_RECOVER, in->force, in->stop, in->grid);
}
