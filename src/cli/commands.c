/* commands.c - the table behind dispatch and help. */
#include <string.h>

#include "command_impl.h"

#define COMMON "model run_dir recipe seed precision rope_ratio memory_limit parallel"

#define SCORE   (1u << ESP_STAGE_SCORE)
#define PLAN    (1u << ESP_STAGE_PLAN)
#define PRUNE   (1u << ESP_STAGE_PRUNE)
#define RECOVER (1u << ESP_STAGE_RECOVER)
#define EVAL    (1u << ESP_STAGE_EVAL)

const esp_command esp_commands[] = {
    { "inspect", "print architecture, parameters, MACs and groups of a model", cmd_inspect, "model",
      0 },
    { "tokenize", "turn a corpus into a token file", cmd_tokenize, "model run_dir tokenize", 0 },
    { "score", "estimate the importance of all groups", cmd_stages,
      COMMON " calibration importance masks", SCORE },
    { "plan", "decide which groups go", cmd_stages, COMMON " calibration importance masks prune",
      PLAN },
    { "prune", "cut the weights as planned", cmd_stages, COMMON " prune compensate", PRUNE },
    { "recover", "train the pruned model", cmd_stages, COMMON " recover", RECOVER },
    { "eval", "measure the dense, the pruned and the recovered model", cmd_stages, COMMON " eval",
      EVAL },
    { "generate", "continue a prompt", cmd_generate, "model seed rope_ratio parallel generate", 0 },
    { "run", "do all stages from score to eval that are not done yet", cmd_run,
      COMMON " calibration importance masks prune compensate recover eval", ESP_ALL_STAGES },
    { "estimate", "predict memory, time and bytes of a run on a cluster, and its best grid",
      cmd_estimate,
      COMMON " calibration importance masks prune compensate recover eval synth cluster estimate",
      0 },
    { "synth", "write a model of any shape with random weights, or a corpus", cmd_synth,
      "seed synth", 0 },
};

const size_t esp_n_commands = sizeof esp_commands / sizeof *esp_commands;

const esp_command *esp_command_find(const char *name)
{
    for (size_t i = 0; i < esp_n_commands; i++) {
        if (strcmp(esp_commands[i].name, name) == 0) {
            return &esp_commands[i];
        }
    }
    return NULL;
}

const esp_local_command esp_local_commands[] = {
    { "compare", cmd_compare,
      "  compare    RUN... [--format table|csv|markdown] [-o FILE]: what runs found, in one "
      "table" },
    { "config", cmd_config,
      "  config     --check [-c] FILE: are its settings right;  --show [-c FILE]: all settings in "
      "effect;\n"
      "             --reference: docs/settings.md, all settings as Markdown" },
};

const size_t esp_n_local_commands = sizeof esp_local_commands / sizeof *esp_local_commands;

const esp_local_command *esp_local_command_find(const char *name)
{
    for (size_t i = 0; i < esp_n_local_commands; i++) {
        if (strcmp(esp_local_commands[i].name, name) == 0) {
            return &esp_local_commands[i];
        }
    }
    return NULL;
}
