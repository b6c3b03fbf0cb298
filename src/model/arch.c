/* arch.c - the families that there are. */
#include "espalier/arch.h"

#include <string.h>

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

const char *esp_arch_list(void)
{
    return "llama, mistral, qwen2, qwen3, phi3, baichuan, opt, bloom, gemma2, chatglm";
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

float esp_slot_plus(const esp_arch *a, int slot)
{
    return a->slots[slot].cols == ESP_W_ONE && a->norm == ESP_NORM_RMS_ONE ? 1 : 0;
}
