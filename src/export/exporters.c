/* exporters.c - the table of formats. */
#include "espalier/exporters.h"

#include <string.h>

extern const esp_writer esp_hf_writer, esp_peft_writer;

const esp_writer *const esp_exporters[] = {
    &esp_hf_writer,
    &esp_peft_writer,
};

const size_t esp_n_exporters = sizeof esp_exporters / sizeof *esp_exporters;

const esp_writer *esp_exporter_find(const char *name)
{
    for (size_t i = 0; i < esp_n_exporters; i++) {
        if (strcmp(esp_exporters[i]->name, name) == 0) {
            return esp_exporters[i];
        }
    }
    return NULL;
}

esp_output esp_export_to(const char *dir, const char *format)
{
    esp_output to = { .writer = esp_exporter_find(format), .dir = dir };

    ESP_REQUIRE(to.writer);
    return to;
}
