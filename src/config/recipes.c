/* recipes.c - values of the settings that are not given: a row per setting, a column per recipe. */
#include "config_impl.h"

#include <string.h>

typedef enum recipe {
    RECIPE_DEFAULT,
    RECIPE_PAPER
} recipe; /* in the order of their names in options.c */

/* The defaults are in the table of all settings. paper names every setting that shapes a plan, its
 * compensation or its recovery (tests/unit/unit_recipes.c), also where the default is the same, so that it
 * stays what it is when the defaults change. It is what scripts/llama_prune.sh, hf_prune.py and
 * post_training.py of the authors do: of the 32 layers of LLaMA-7B the first four and the last two stay
 * whole. */
static const struct row {
    const char *path, *paper;
} rows[] = {
    { "calibration.samples", "10" },
    { "calibration.sequence", "64" },
    { "importance.fisher", "mean" },
    { "importance.labels", "data" },
    { "prune.mode", "block" },
    { "prune.attention", "groups" },
    { "prune.select", "importance" },
    { "prune.criterion", "element1" },
    { "prune.aggregation", "sum" },
    { "prune.ratio", "0.25" },
    { "prune.attention_ratio", "0" },
    { "prune.scope", "local" },
    { "prune.attention_layers", "4-n-3" },
    { "prune.mlp_layers", "4-n-3" },
    { "prune.round_to", "1" },
    { "prune.min_keep", "1" },
    { "prune.steps", "1" },
    { "prune.compensate", "none" },
    { "recover.method", "lora" },
    { "recover.cut", "documents" },
    { "recover.cutoff", "256" },
    { "recover.answer_only", "true" },
    { "recover.rank", "8" },
    { "recover.alpha", "16" },
    { "recover.dropout", "0.05" },
    { "recover.targets", "" },
    { "recover.kd_ratio", "0.5" },
    { "recover.kd_temperature", "1" },
    { "recover.learning_rate", "1e-4" },
    { "recover.min_learning_rate", "0" },
    { "recover.warmup", "100" },
    { "recover.beta1", "0.9" },
    { "recover.beta2", "0.999" },
    { "recover.epsilon", "1e-8" },
    { "recover.weight_decay", "0" },
    { "recover.clip", "1" },
    { "recover.epochs", "2" },
    { "recover.steps", "0" },
    { "recover.batch", "64" },
    { "recover.validation", "2000" },
    { "recover.validate_every", "100" },
    { "recover.patience", "0" },
};

static const char *by_paper(const esp_option *o)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].path, o->path) == 0) {
            return rows[i].paper;
        }
    }
    return NULL;
}

const char *esp_recipe_name(unsigned i)
{
    return esp_option_find("recipe")->choice(i);
}

bool esp_recipe_values(const char **value, const esp_option *o)
{
    value[RECIPE_DEFAULT] = o->preset;
    value[RECIPE_PAPER] = by_paper(o);
    return value[RECIPE_PAPER];
}

const char *esp_recipe_value(const esp_config *c, const esp_option *o)
{
    const char *paper = c->recipe == RECIPE_PAPER ? by_paper(o) : NULL;

    return paper ? paper : o->preset;
}

const char *esp_recipe_of(const esp_config *c, const esp_option *o)
{
    return by_paper(o) && !c->places[o - esp_options] ? esp_recipe_name(c->recipe) : NULL;
}

/* The ratio waits until it is known whether there is a target (config_check.c). */
void esp_recipe_apply(esp_config *c)
{
    for (size_t i = 0; c->recipe != RECIPE_DEFAULT && i < esp_n_options; i++) {
        const esp_option *o = &esp_options[i];

        if (esp_recipe_of(c, o) && strcmp(o->path, "prune.ratio") != 0) {
            ESP_REQUIRE(esp_option_set(c, o, esp_recipe_value(c, o)) == ESP_OK);
        }
    }
}
