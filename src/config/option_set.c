/* option_set.c - a setting gets a value, or the user is told what to write instead. */
#include <stdlib.h>

#include "config_impl.h"
#include "espalier/text.h"

static esp_status refuse_value(const esp_option *o, const char *text)
{
    char *wants = esp_option_wants(o), *advice = esp_option_advice(o, text);
    esp_status st = esp_fail(ESP_EUSAGE, "%s = %s: must be %s%s", o->path, text, wants, advice);

    free(advice);
    free(wants);
    return st;
}

/* Paths as the user wrote them are written out. */
static esp_status expand_files(esp_named_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        char *text = files->item[i].path;
        esp_status st = esp_path_expand(&files->item[i].path, text);

        if (st != ESP_OK) {
            files->item[i].path = text;
            return st;
        }
        free(text);
    }
    return ESP_OK;
}

esp_status esp_option_set(esp_config *c, const esp_option *o, const char *text)
{
    esp_option_clear(c, o);
    if (!esp_text_is_utf8(text)) {
        return esp_fail(ESP_EUSAGE, "%s: %s is not UTF-8", o->path, text);
    }
    if (o->type == ESP_O_PATH) {
        esp_status st = esp_path_expand(esp_option_at(c, o), text);

        return st == ESP_OK ? ESP_OK : esp_fail_in(st, "%s = %s", o->path, text);
    }
    if (!esp_option_parse(c, o, text)) {
        return refuse_value(o, text);
    }
    if (o->type == ESP_O_FILES && expand_files(esp_option_at(c, o)) != ESP_OK) {
        return esp_fail_in(ESP_EUSAGE, "%s = %s", o->path, text);
    }
    return ESP_OK;
}

static void clear_strings(esp_strings *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->item[i]);
    }
    free(s->item);
    *s = (esp_strings){ 0 };
}

static void clear_layers(esp_layer_ranges *r)
{
    free(r->range);
    *r = (esp_layer_ranges){ 0 };
}

void esp_option_clear(esp_config *c, const esp_option *o)
{
    void *v = esp_option_at(c, o);

    switch (o->type) {
    case ESP_O_STRING:
    case ESP_O_PATH:
        free(*(char **)v);
        *(char **)v = NULL;
        break;
    case ESP_O_SET:
        *(unsigned *)v = 0;
        break;
    case ESP_O_LIST:
        clear_strings(v);
        break;
    case ESP_O_FILES:
        esp_named_files_free(v);
        break;
    case ESP_O_LAYERS:
        clear_layers(v);
        break;
    default: /* plain values are overwritten */
        break;
    }
}
