/* option_words.c - what somebody meant by a name or value that is none: other names, slips, spellings. */
#include <stdlib.h>
#include <string.h>

#include "config_impl.h"
#include "espalier/distance.h"
#include "espalier/mem.h"

/* ---- names of settings --------------------------------------------------------------------------- */

static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot ? dot + 1 : path;
}

/* The authors' options (hf_prune.py, post_training.py) that are settings here. */
static const char *const theirs[][2] = {
    { "base_model", "model" },
    { "prune_model", "model" },
    { "save_ckpt_log_name", "run_dir" },
    { "output_dir", "run_dir" },
    { "pruning_ratio", "prune.ratio" },
    { "pruner_type", "prune.criterion" },
    { "taylor", "prune.criterion" },
    { "grouping_strategy", "prune.aggregation" },
    { "global_pruning", "prune.scope" },
    { "iterative_steps", "prune.steps" },
    { "channel_wise", "prune.mode" },
    { "block_wise", "prune.mode" },
    { "layer_wise", "prune.mode" },
    { "block_attention_layer_start", "prune.attention_layers" },
    { "block_attention_layer_end", "prune.attention_layers" },
    { "block_mlp_layer_start", "prune.mlp_layers" },
    { "block_mlp_layer_end", "prune.mlp_layers" },
    { "num_examples", "calibration.samples" },
    { "data_path", "recover.corpus" },
    { "lora_r", "recover.rank" },
    { "lora_alpha", "recover.alpha" },
    { "lora_dropout", "recover.dropout" },
    { "lora_target_modules", "recover.targets" },
    { "num_epochs", "recover.epochs" },
    { "batch_size", "recover.batch" },
    { "micro_batch_size", "recover.micro_batch" },
    { "cutoff_len", "recover.cutoff" },
    { "val_set_size", "recover.validation" },
    { "max_new_tokens", "generate.tokens" },
};

const esp_option *esp_option_meant(const char *word)
{
    const esp_option *found = NULL;
    char *name = esp_strdup(word + strspn(word, "-"));

    for (char *at = name; (at = strchr(at, '-'));) {
        *at = '_';
    }
    found = esp_option_find(name);
    for (size_t i = 0; !found && i < sizeof theirs / sizeof *theirs; i++) {
        found = strcmp(last_part(name), theirs[i][0]) == 0 ? esp_option_find(theirs[i][1]) : NULL;
    }
    for (size_t i = 0; !found && i < esp_n_options; i++) {
        found = strcmp(name, last_part(esp_options[i].path)) == 0 ? &esp_options[i] : NULL;
    }
    free(name);
    return found;
}

const esp_option *esp_option_nearest(const char *path)
{
    const esp_option *nearest = NULL;
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < esp_n_options; i++) {
        const char *other = esp_options[i].path;
        size_t whole = esp_distance(path, other);
        size_t name =
            esp_distance(last_part(path), last_part(other)) + 1; /* right name, wrong group */
        size_t d = esp_min(whole, name);

        if (d < least) {
            least = d;
            nearest = &esp_options[i];
        }
    }
    return nearest;
}

/* ---- what to write instead -------------------------------------------------------------------- */

/* 20 and 20% for 0.2, 0,2 for 0.2, "0.2" for 0.2. */
static char *number_advice(const esp_option *o, const char *text)
{
    char *end, *dotted = esp_strdup(text), *comma = strchr(dotted, ',');
    double v = strtod(text, &end), fits;
    bool percent = strcmp(end + strspn(end, " "), "%") == 0, whole = end != text && *end == '\0';
    char *advice;

    if (comma) {
        *comma = '.';
    }
    if (esp_option_number(&fits, o, dotted)) {
        advice = esp_format("; write %s%s", dotted, comma ? "" : " without quotes");
    } else if (end != text && (percent || (whole && o->type == ESP_O_SHARE)) && v / 100 >= o->min &&
               v / 100 <= o->max) {
        advice = esp_format("; %g %% is written as %g", v, v / 100);
    } else {
        advice = esp_strdup("");
    }
    free(dotted);
    return advice;
}

static char *choice_advice(const esp_option *o, const char *text)
{
    const char *nearest = NULL;
    size_t least = SIZE_MAX;

    if (strcasecmp(text, "taylor") == 0 && esp_option_choice(o, "element1") >= 0) {
        return esp_strdup(
            "; what the authors' program takes with taylor is element1 (their param_first), "
            "element2 (param_second), mix (param_mix) or vector (vectorize)");
    }
    for (unsigned i = 0; o->choice(i); i++) {
        size_t d = esp_distance(text, o->choice(i));

        if (d < least) {
            nearest = o->choice(i);
            least = d;
        }
    }
    return nearest && esp_is_slip(text, least) ? esp_format("; did you mean %s?", nearest)
                                               : esp_strdup("");
}

char *esp_option_advice(const esp_option *o, const char *text)
{
    switch (o->type) {
    case ESP_O_NUMBER:
    case ESP_O_SHARE:
        return number_advice(o, text);
    case ESP_O_CHOICE:
    case ESP_O_EITHER:
    case ESP_O_SET:
        return choice_advice(o, text);
    default:
        return esp_strdup("");
    }
}
