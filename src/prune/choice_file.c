/* choice_file.c - the groups of a projection that have been chosen to go, as a file: complete, or not
 * there.
 */
#include <stdlib.h>
#include <string.h>

#include "compensate_impl.h"
#include "espalier/log.h"
#include "espalier/mem.h"

_Static_assert(sizeof(esp_choice_head) % sizeof(double) == 0, "numbers behind it are aligned");

size_t esp_choice_bytes(size_t n_gone)
{
    return sizeof(esp_choice_head) + (n_gone + 1) * sizeof(double) + n_gone * sizeof(int32_t);
}

static char *path_of(const char *dir, const esp_model *left, const esp_projection *p)
{
    char *name = esp_format("%zu.%s.choice", p->layer, esp_slot_role(&left->arch->slots[p->slot]));
    char *path = esp_path(dir, name);

    free(name);
    return path;
}

static void digest_of(uint64_t words[ESP_DIGEST_WORDS], const void *choice, size_t bytes)
{
    size_t skip = sizeof(uint64_t) * ESP_DIGEST_WORDS;

    esp_digest_words(words, (const char *)choice + skip, bytes - skip);
}

esp_status esp_choice_write(esp_choice_head *choice, const char *dir, const esp_model *left,
                            const esp_projection *p)
{
    char *path = path_of(dir, left, p);
    size_t bytes = esp_choice_bytes(p->n_gone);
    esp_status st;

    digest_of(choice->digest, choice, bytes);
    st = esp_file_write(path, choice, bytes);
    free(path);
    return st;
}

/* Whether it is what was written, for as many groups of this unit. */
static bool is_choice(const esp_map *file, const esp_projection *p)
{
    uint64_t words[ESP_DIGEST_WORDS];
    const esp_choice_head *head = (const void *)file->data;

    if (file->n != esp_choice_bytes(p->n_gone)) {
        return false;
    }
    digest_of(words, file->data, file->n);
    return memcmp(words, head->digest, sizeof words) == 0 && head->n_gone == p->n_gone;
}

bool esp_choice_is_whole(const char *dir, const esp_model *left, const esp_projection *p)
{
    char *path = path_of(dir, left, p);
    esp_map file = { 0 };
    bool whole = false;

    if (esp_file_exists(path)) {
        whole = esp_map_open(&file, path) == ESP_OK && is_choice(&file, p);
        esp_error_clear();
        esp_map_close(&file);
        if (!whole) {
            esp_warn("%s: not what was written: it is made anew", path);
        }
    }
    free(path);
    return whole;
}

esp_status esp_choice_open(esp_map *file, const char *dir, const esp_model *left,
                           const esp_projection *p)
{
    char *path = path_of(dir, left, p);
    esp_status st = esp_map_open(file, path);

    if (st == ESP_OK && !is_choice(file, p)) {
        st = esp_fail(ESP_EFAILED, "%s: has changed since it was written", path);
    }
    free(path);
    return st;
}

esp_curve esp_choice_curve(const esp_map *file, const esp_unit *u)
{
    const esp_choice_head *head = (const void *)file->data;
    const double *error = (const void *)(head + 1);

    return (esp_curve){ .unit = u,
                        .n_gone = head->n_gone,
                        .error = error,
                        .order = (const void *)(error + head->n_gone + 1),
                        .squares = head->squares,
                        .tokens = head->tokens };
}

/* ---- groups --------------------------------------------------------------------------------------- */

void esp_choice_groups(esp_input_groups *g, const esp_unit *u, size_t lanes)
{
    const esp_structure *s = esp_unit_columns(u);
    size_t *filled;

    *g = (esp_input_groups){ .n = u->n_groups, .lanes = lanes };
    for (size_t i = 0; i < s->length; i++) {
        g->width += s->channel[i] >= 0;
    }
    g->width /= u->n_groups;
    ESP_NEW(g->input, g->n * g->width);
    ESP_NEW(filled, g->n);
    for (size_t i = 0; i < s->length; i++) {
        if (s->channel[i] >= 0) {
            size_t group = (size_t)s->channel[i] / u->channels_per_group;

            ESP_REQUIRE(filled[group] < g->width);
            g->input[group * g->width + filled[group]++] = i;
        }
    }
    free(filled);
}

size_t esp_selection_bytes(const esp_weight *whole, const esp_unit *u, size_t n_gone,
                           const esp_grid *grid)
{
    size_t n = whole->cols + whole->has_bias, begin, end;
    esp_input_groups g;
    size_t bytes;

    esp_share(&begin, &end, whole->rows, 0, grid->n_data);
    esp_choice_groups(&g, u, 1);
    bytes = esp_calloc_bytes(esp_choice_bytes(n_gone), 1) +
            esp_calloc_bytes(g.n * g.width, sizeof *g.input) +
            esp_reconstruction_bytes(n, end, &g) + esp_calloc_bytes(end * n, sizeof(double)) +
            esp_calloc_bytes(whole->cols, sizeof(float));
    free(g.input);
    return bytes;
}
