/* compensate_file.c - the results of a compensation as files: complete, and what they were, or not there. */
#include <stdlib.h>
#include <string.h>

#include "compensate_impl.h"
#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"

_Static_assert(sizeof(esp_projection_head) == 64, "numbers behind it are aligned");

static size_t weight_bytes(const esp_weight *w)
{
    return w->rows * w->cols * esp_dtype_size(w->dtype);
}

size_t esp_projection_bytes(const esp_weight *w)
{
    return sizeof(esp_projection_head) + esp_weight_numbers(w) * esp_dtype_size(w->dtype);
}

void *esp_projection_make(char **data, char **bias, const esp_weight *w)
{
    char *result = esp_calloc(esp_projection_bytes(w), 1);

    *data = result + sizeof(esp_projection_head);
    *bias = w->has_bias ? *data + weight_bytes(w) : NULL;
    return result;
}

char *esp_projection_path(const char *dir, const esp_model *left, const esp_projection *p)
{
    char *name =
        esp_format("%zu.%s.projection", p->layer, esp_slot_role(&left->arch->slots[p->slot]));
    char *path = esp_path(dir, name);

    free(name);
    return path;
}

static void digest_of(uint64_t words[ESP_DIGEST_WORDS], const void *result, size_t bytes)
{
    size_t skip = sizeof(uint64_t) * ESP_DIGEST_WORDS;

    esp_digest_words(words, (const char *)result + skip, bytes - skip);
}

esp_status esp_projection_write(void *result, const char *dir, const esp_model *left,
                                const esp_projection *p, const esp_damping *d)
{
    char *path = esp_projection_path(dir, left, p);
    esp_projection_head *head = result;
    size_t bytes = esp_projection_bytes(esp_model_weight(left, p->layer, p->slot));
    esp_status st;

    head->damping = *d;
    digest_of(head->digest, result, bytes);
    st = esp_file_write(path, result, bytes);
    free(path);
    return st;
}

bool esp_projection_is_whole(const char *dir, const esp_model *left, const esp_projection *p)
{
    char *path = esp_projection_path(dir, left, p);
    uint64_t words[ESP_DIGEST_WORDS];
    esp_map file = { 0 };
    bool whole = false;

    if (esp_file_exists(path)) {
        if (esp_map_open(&file, path) == ESP_OK &&
            file.n == esp_projection_bytes(esp_model_weight(left, p->layer, p->slot))) {
            digest_of(words, file.data, file.n);
            whole = memcmp(words, file.data, sizeof words) == 0;
        }
        esp_error_clear();
        esp_map_close(&file);
        if (!whole) {
            esp_warn("%s: not what was written: it is made anew", path);
        }
    }
    free(path);
    return whole;
}

esp_status esp_projection_use(esp_map *file, esp_remnant *remnant, const char *dir,
                              const esp_projection *p)
{
    const esp_weight *w = esp_model_weight(&remnant->left, p->layer, p->slot);
    char *path = esp_projection_path(dir, &remnant->left, p);
    esp_status st = esp_map_open(file, path);
    esp_replaced by = { NULL, NULL };

    if (st == ESP_OK && file->n != esp_projection_bytes(w)) {
        st = esp_fail(ESP_EFAILED, "%s: has changed since it was written", path);
    }
    if (st == ESP_OK) {
        by.data = file->data + sizeof(esp_projection_head);
        by.bias = w->has_bias ? (const char *)by.data + weight_bytes(w) : NULL;
        esp_remnant_replace(remnant, p->layer, p->slot, by);
    }
    free(path);
    return st;
}
