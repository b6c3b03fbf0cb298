/* cmd_score.c - the stage that makes importance.h5. */
#include "command_impl.h"
#include "espalier/run.h"

esp_status cmd_score(const esp_invocation *in)
{
    return esp_run_stages(in->config, 1u << ESP_STAGE_SCORE, in->force, in->stop, in->grid);
}
