/* settings.c - what the settings say to each part of the program. */
#include "espalier/settings.h"

#include <stdlib.h>

#include "espalier/mem.h"

esp_importance_options esp_settings_importance(const esp_config *c)
{
    return (esp_importance_options){
        .criteria = c->importance.criteria,
        .aggregations = c->importance.aggregations,
        .units = c->importance.units,
        .fisher_sum = c->importance.fisher,
        .seed = c->seed,
        .scratch = c->parallel.scratch,
    };
}

static void set_target(esp_plan_options *o, const esp_config *c)
{
    const double targets[] = {
        [ESP_TARGET_PARAMETERS] = c->prune.target.parameters,
        [ESP_TARGET_MACS] = c->prune.target.macs,
        [ESP_TARGET_BYTES] = c->prune.target.bytes,
    };

    for (int k = ESP_TARGET_PARAMETERS; k <= ESP_TARGET_BYTES; k++) {
        if (targets[k] > 0) {
            o->target_kind = (esp_target_kind)k;
            o->target = targets[k];
        }
    }
}

esp_plan_options esp_settings_plan(const esp_config *c)
{
    esp_plan_options o = {
        .mode = (esp_prune_mode)c->prune.mode,
        .criterion = (esp_criterion)c->prune.criterion,
        .aggregation = (esp_aggregation)c->prune.aggregation,
        .ratio = c->prune.ratio,
        .target_tokens = ESP_MACS_TOKENS,
        .global = c->prune.scope,
        .attention_layers = c->prune.attention_layers.range,
        .n_attention_layers = c->prune.attention_layers.n,
        .mlp_layers = c->prune.mlp_layers.range,
        .n_mlp_layers = c->prune.mlp_layers.n,
        .round_to = c->prune.round_to,
        .min_keep = c->prune.min_keep,
        .seed = c->seed,
        .precision = (esp_precision)c->precision,
    };

    set_target(&o, c);
    return o;
}

esp_recover_options esp_settings_recover(const esp_config *c, uint64_t targets)
{
    return (esp_recover_options){
        .method = (esp_method)c->recover.method,
        .rank = c->recover.rank,
        .alpha = c->recover.alpha,
        .dropout = c->recover.dropout,
        .targets = targets,
        .learning_rate = c->recover.learning_rate,
        .min_learning_rate = c->recover.min_learning_rate,
        .warmup = c->recover.warmup,
        .beta1 = c->recover.beta1,
        .beta2 = c->recover.beta2,
        .epsilon = c->recover.epsilon,
        .weight_decay = c->recover.weight_decay,
        .clip = c->recover.clip,
        .epochs = c->recover.epochs,
        .steps = c->recover.steps,
        .batch = c->recover.batch,
        .micro_batch = c->recover.micro_batch,
        .scratch = c->parallel.scratch,
        .validation = c->recover.validation,
        .validate_every = c->recover.validate_every,
        .patience = c->recover.patience,
        .save_every = c->recover.save_every,
        .keep = c->recover.keep,
        .max_skipped = c->recover.max_skipped,
        .max_rollbacks = c->recover.max_rollbacks,
        .seed = c->seed,
    };
}

static bool is_projection(const esp_arch *a, int slot)
{
    return slot >= ESP_SLOT_BLOCK && a->slots[slot].cols != ESP_W_ONE;
}

/* The projections of a block by name, with commas between; the caller frees. */
static char *projections(const esp_arch *a)
{
    char *names = esp_strdup("");

    for (int slot = 0; (size_t)slot < a->n_slots; slot++) {
        if (is_projection(a, slot) && a->slots[slot].name) {
            char *more =
                esp_format("%s%s%s", names, *names ? ", " : "", esp_slot_role(&a->slots[slot]));

            free(names);
            names = more;
        }
    }
    return names;
}

esp_status esp_settings_targets(uint64_t *targets, const esp_config *c, const esp_arch *arch)
{
    const esp_strings *names = &c->recover.targets;

    *targets = 0;
    for (size_t i = 0; i < names->n; i++) {
        int slot = esp_arch_slot(arch, names->item[i]);

        if (!is_projection(arch, slot)) {
            char *known = projections(arch);

            esp_fail(ESP_EUSAGE, "recover.targets: %s is no projection of a %s block, which has %s",
                     names->item[i], arch->model_type, known);
            free(known);
            return ESP_EUSAGE;
        }
        *targets |= UINT64_C(1) << slot;
    }
    for (int slot = 0; names->n == 0 && (size_t)slot < arch->n_slots; slot++) {
        *targets |= is_projection(arch, slot) ? UINT64_C(1) << slot : 0;
    }
    return ESP_OK;
}

bool esp_settings_need_calibration(const esp_config *c, unsigned stages)
{
    bool scores = stages & 1u << ESP_STAGE_SCORE;
    bool again =
        stages & 1u << ESP_STAGE_PLAN && c->prune.steps > 1 && c->prune.criterion != ESP_RANDOM;

    return (scores || again) && esp_criteria_need(c->importance.criteria, ESP_NEEDS_GRADIENT);
}

unsigned esp_settings_stages(const esp_config *c)
{
    unsigned stages = ESP_ALL_STAGES;

    stages &= c->prune.criterion == ESP_RANDOM ? ~(1u << ESP_STAGE_SCORE) : ESP_ALL_STAGES;
    stages &= *c->recover.corpus ? ESP_ALL_STAGES : ~(1u << ESP_STAGE_RECOVER);
    return stages & (*c->eval.corpus ? ESP_ALL_STAGES : ~(1u << ESP_STAGE_EVAL));
}

const char *esp_stage_name(esp_stage s)
{
    static const char *const names[ESP_N_STAGES] = {
        [ESP_STAGE_SCORE] = "score",     [ESP_STAGE_PLAN] = "plan", [ESP_STAGE_PRUNE] = "prune",
        [ESP_STAGE_RECOVER] = "recover", [ESP_STAGE_EVAL] = "eval",
    };

    return names[s];
}
