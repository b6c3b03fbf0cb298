/* settings.c - what settings say of a model, and of the stages of a run. */
#include "espalier/settings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

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
    const esp_strings *names = &c->recover_targets;

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

bool esp_settings_reconstruct(const esp_config *c)
{
    return c->prune.select == ESP_BY_RECONSTRUCTION;
}

bool esp_settings_rank(const esp_config *c)
{
    return c->prune.select == ESP_BY_IMPORTANCE && c->prune.criterion != ESP_RANDOM;
}

bool esp_settings_need_calibration(const esp_config *c, unsigned stages)
{
    bool scores = stages & 1u << ESP_STAGE_SCORE;
    bool again = stages & 1u << ESP_STAGE_PLAN && c->prune_steps > 1 && esp_settings_rank(c);

    return (scores || again) &&
           esp_criteria_need(c->importance.criteria, ESP_NEEDS_SAMPLES | ESP_NEEDS_TRAINING);
}

const esp_question_kind *esp_settings_task(char **name, const esp_named_file *entry)
{
    const char *colon = strchr(entry->name, ':');
    size_t n = colon ? (size_t)(colon - entry->name) : strlen(entry->name);

    *name = esp_format("%.*s", esp_count(n), entry->name);
    return esp_question_kind_find(colon ? colon + 1 : entry->name);
}

/* What follows the last colon of NAME:REST, NULL where there is none; name [out]: NAME, the caller frees. */
static const char *split_name(char **name, const esp_named_file *entry)
{
    const char *colon = strrchr(entry->name, ':');
    size_t n = colon ? (size_t)(colon - entry->name) : strlen(entry->name);

    *name = esp_format("%.*s", esp_count(n), entry->name);
    return colon ? colon + 1 : NULL;
}

bool esp_settings_corpus(char **name, size_t *window, const esp_config *c,
                         const esp_named_file *entry)
{
    const char *rest = split_name(name, entry);
    char *end = NULL;

    *window = rest ? strtoul(rest, &end, 10) : c->eval.window;
    return **name && *window >= 2 && (!rest || (*end == '\0' && *rest != '-'));
}

const char *esp_settings_teacher(const esp_config *c)
{
    return *c->recover_teacher && c->recover.kd_ratio > 0 ? c->recover_teacher : NULL;
}

const char *esp_settings_examples(const esp_config *c, const char *task)
{
    for (size_t i = 0; i < c->eval.examples.n; i++) {
        if (strcmp(c->eval.examples.item[i].name, task) == 0) {
            return c->eval.examples.item[i].path;
        }
    }
    return NULL;
}

bool esp_settings_compensate(const esp_config *c, unsigned stages)
{
    bool fits = stages >> ESP_STAGE_PRUNE & 1 && c->prune_compensate != ESP_COMPENSATE_NONE;

    return fits || (stages >> ESP_STAGE_PLAN & 1 && esp_settings_reconstruct(c));
}

bool esp_settings_has_text(const esp_text_source *t)
{
    return *t->corpus || t->corpora->n > 0;
}

esp_text_source esp_settings_text(const esp_config *c, esp_stage s)
{
    esp_text_source calibration = { c->calibration.corpus, c->calibration.field,
                                    &c->calibration.corpora, "calibration.corpora" };
    esp_text_source own = { c->compensate_corpus, c->compensate_field, &c->compensate_corpora,
                            "compensate.corpora" };
    esp_text_source training = { c->recover_corpus, c->recover_field, &c->recover_corpora,
                                 "recover.corpora" };

    if (s == ESP_STAGE_RECOVER) {
        return training;
    }
    return s == ESP_STAGE_PRUNE && esp_settings_has_text(&own) ? own : calibration;
}

bool esp_settings_mixed(char **name, double *weight, const esp_named_file *entry)
{
    const char *rest = split_name(name, entry);
    char *end = NULL;

    *weight = rest ? strtod(rest, &end) : 1;
    return **name && *weight > 0 && isfinite(*weight) && (!rest || (*rest && *end == '\0'));
}

unsigned esp_settings_stages(const esp_config *c)
{
    esp_text_source training = esp_settings_text(c, ESP_STAGE_RECOVER);
    unsigned stages = ESP_ALL_STAGES;

    stages &= esp_settings_rank(c) ? ESP_ALL_STAGES : ~(1u << ESP_STAGE_SCORE);
    stages &= esp_settings_has_text(&training) ? ESP_ALL_STAGES : ~(1u << ESP_STAGE_RECOVER);
    return stages & (*c->eval.corpus || c->eval.corpora.n > 0 || c->eval.tasks.n > 0
                         ? ESP_ALL_STAGES
                         : ~(1u << ESP_STAGE_EVAL));
}

const char *esp_stage_name(esp_stage s)
{
    static const char *const names[] = ESP_STAGE_NAMES;

    _Static_assert(sizeof names / sizeof *names == ESP_N_STAGES, "a name for each stage");
    return names[s];
}
