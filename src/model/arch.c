/* arch.c - the families that there are. */
#include "espalier/arch.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "family_impl.h"

static const esp_arch *const families[] = {
    &esp_llama_family[0], &esp_llama_family[1], &esp_llama_family[2],       &esp_qwen3_family,
    &esp_phi3_family,     &esp_baichuan_family, &esp_baichuan_alibi_family, &esp_opt_family,
    &esp_bloom_family,    &esp_gemma2_family,   &esp_chatglm2_family,       &esp_chatglm_family,
};

const esp_arch *esp_arch_at(size_t i)
{
    return i < COUNT(families) ? families[i] : NULL;
}

const esp_arch *esp_arch_find(const char *model_type)
{
    for (size_t i = 0; i < COUNT(families); i++) {
        if (strcmp(families[i]->model_type, model_type) == 0) {
            return families[i];
        }
    }
    return NULL;
}

const esp_config_default *esp_arch_default(const esp_arch *a, const char *key)
{
    for (size_t i = 0; i < a->n_defaults; i++) {
        if (strcmp(a->defaults[i].key, key) == 0) {
            return &a->defaults[i];
        }
    }
    return NULL;
}

const char *esp_arch_list(void)
{
    return "llama, mistral, qwen2, qwen3, phi3, baichuan, opt, bloom, gemma2, chatglm";
}

static const char *name_of(const esp_arch *a)
{
    return a->name ? a->name : a->model_type;
}

const esp_arch *esp_arch_named(bool *normalized_head, const char *name)
{
    *normalized_head = false;
    for (size_t i = 0; i < COUNT(families); i++) {
        const esp_arch *a = families[i];

        *normalized_head = a->normalized_head_name && strcmp(a->normalized_head_name, name) == 0;
        if (*normalized_head || strcmp(name_of(a), name) == 0) {
            return a;
        }
    }
    return esp_arch_find(name);
}

char *esp_arch_names(void)
{
    char *names = esp_strdup("");

    for (size_t i = 0; i < COUNT(families); i++) {
        const char *also = families[i]->normalized_head_name;
        char *more = esp_format("%s%s%s%s%s", names, i ? ", " : "", name_of(families[i]),
                                also ? ", " : "", also ? also : "");

        free(names);
        names = more;
    }
    return names;
}

size_t esp_arch_base(const esp_arch *a)
{
    return strcspn(a->slots[ESP_SLOT_EMBED].name, ".") + 1;
}

const char *esp_slot_role(const esp_slot *s)
{
    const char *dot = strrchr(s->name, '.');

    return dot ? dot + 1 : s->name;
}

int esp_arch_slot(const esp_arch *a, const char *role)
{
    for (size_t i = 0; i < a->n_slots; i++) {
        if (a->slots[i].name && strcmp(esp_slot_role(&a->slots[i]), role) == 0) {
            return (int)i;
        }
    }
    return -1;
}

const esp_op *esp_arch_linear(const esp_arch *a, int slot)
{
    for (size_t i = 0; i < a->n_ops; i++) {
        if (a->ops[i].kind == ESP_OP_LINEAR && a->ops[i].slot == slot) {
            return &a->ops[i];
        }
    }
    return NULL;
}

float esp_slot_weight_offset(const esp_arch *a, int slot)
{
    return a->slots[slot].cols == ESP_W_ONE && a->norm == ESP_NORM_RMS_ONE ? 1 : 0;
}
