/* cmd_run.c - all stages; those that lack their text are left out. */
#include "command_impl.h"
#include "espalier/log.h"
#include "espalier/run.h"

static void leave_out(unsigned *stages, esp_stage s, const char *name, const char *why)
{
    *stages &= ~(1u << s);
    esp_info("without %s: %s", name, why);
}

unsigned cmd_run_stages(const esp_config *c)
{
    unsigned stages = ESP_ALL_STAGES;

    if (c->prune.criterion == ESP_RANDOM) {
        leave_out(&stages, ESP_STAGE_SCORE, "score", "criterion random needs no scores");
    }
    if (!*c->recover.corpus) {
        leave_out(&stages, ESP_STAGE_RECOVER, "recover", "recover.corpus is not set");
    }
    if (!*c->eval.corpus) {
        leave_out(&stages, ESP_STAGE_EVAL, "eval", "eval.corpus is not set");
    }
    return stages;
}

esp_status cmd_run(const esp_invocation *in)
{
    return esp_run_stages(in->config, cmd_run_stages(in->config), in->force, in->stop, in->grid);
}
