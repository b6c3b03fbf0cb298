/* cmd_config.c - settings without a run: works on login nodes. */
#include <stdlib.h>

#include "command_impl.h"

esp_status cmd_config(const esp_arguments *a)
{
    esp_config c;
    char *text;

    if (a->reference) {
        esp_config_reference(stdout);
        return ESP_OK;
    }
    ESP_TRY(esp_config_load(&c, a->file, a->sets, a->n_sets));
    if (a->check) {
        printf("%s: settings are right\n", a->file);
    } else {
        text = esp_config_text(&c);
        fputs(text, stdout);
        free(text);
    }
    esp_config_free(&c);
    return ESP_OK;
}
