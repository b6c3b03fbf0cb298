/* tool_defaults.c - what the families' classes mean by keys that are missing, for comparison with them.
 *
 *     tool_defaults > JSON
 *
 * {family: {key: {"default": value, "takes_null": whether}}}; families that share a model_type have names of
 * their own.
 */
#include <jansson.h>
#include <stdio.h>

#include "espalier/arch.h"
#include "espalier/log.h"
#include "espalier/status.h"

static json_t *rows_of(const esp_arch *a)
{
    json_t *rows = json_object();

    for (size_t i = 0; i < a->n_defaults; i++) {
        const esp_config_default *d = &a->defaults[i];
        json_t *value = json_loads(d->value, JSON_DECODE_ANY, NULL);

        ESP_REQUIRE(value && !json_object_get(rows, d->key));
        json_object_set_new(rows, d->key,
                            json_pack("{s:o, s:b}", "default", value, "takes_null", d->takes_null));
    }
    return rows;
}

int main(void)
{
    json_t *families = json_object();
    const esp_arch *a;

    for (size_t i = 0; (a = esp_arch_at(i)); i++) {
        json_object_set_new(families, a->name ? a->name : a->model_type, rows_of(a));
    }
    json_dumpf(families, stdout, JSON_INDENT(2));
    json_decref(families);
    return 0;
}
