/* cmd_run.c - one stage, or all but those that lack their text. */
#include "command_impl.h"
#include "espalier/estimate.h"
#include "espalier/log.h"
#include "espalier/run.h"
#include "espalier/settings.h"

static const char *const why[ESP_N_STAGES] = {
    [ESP_STAGE_SCORE] = "score: criterion random needs no scores",
    [ESP_STAGE_RECOVER] = "recover: recover.corpus is not set",
    [ESP_STAGE_EVAL] = "eval: none of eval.corpus, eval.corpora and eval.tasks is set",
};

esp_status cmd_stages(const esp_invocation *in)
{
    return esp_run_stages(in->config, in->stages, in->force, in->stop, in->grid);
}

esp_status cmd_run(const esp_invocation *in)
{
    unsigned stages = in->stages & esp_settings_stages(in->config);

    for (esp_stage s = 0; s < ESP_N_STAGES; s++) {
        if (why[s] && !(stages >> s & 1)) {
            esp_info("run: without %s", why[s]);
        }
    }
    return esp_run_stages(in->config, stages, in->force, in->stop, in->grid);
}
