/* commands.c - the table behind dispatch and help. */
#include <string.h>

#include "command_impl.h"

#define COMMON "model run_dir seed precision rope_ratio memory_limit parallel"

const esp_command esp_commands[] = {
    { "inspect", "print architecture, parameters, MACs and groups of a model", cmd_inspect, "model",
      false },
    { "tokenize", "turn a corpus into a token file", cmd_tokenize, "model run_dir tokenize",
      false },
    { "score", "estimate the importance of all groups", cmd_score, COMMON " calibration importance",
      true },
    { "plan", "decide which groups go", cmd_plan, COMMON " calibration importance prune", true },
    { "prune", "cut the weights as planned", cmd_prune, COMMON, true },
    { "recover", "train the pruned model", cmd_recover, COMMON " recover", true },
    { "eval", "measure the dense, the pruned and the recovered model", cmd_eval, COMMON " eval",
      true },
    { "generate", "continue a prompt", cmd_generate, "model seed rope_ratio parallel generate",
      false },
    { "run", "do all stages from score to eval that are not done yet", cmd_run,
      COMMON " calibration importance prune recover eval", true },
    { "estimate", "predict memory, time and bytes of a run on a cluster, and its best grid",
      cmd_estimate, COMMON " calibration importance prune recover eval synth cluster estimate",
      false },
    { "synth", "write a model of any shape with random weights, or a corpus", cmd_synth,
      "seed synth", false },
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
