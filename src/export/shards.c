/* shards.c - tensors as rows of one or several safetensors files in a folder. */
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/mem.h"
#include "export_impl.h"

struct esp_shards {
    const esp_contents *of; /* borrowed */
    const char *stem;
    esp_tensor_namer name;
    size_t *start; /* [n_files + 1] owned; file f holds tensors start[f] .. start[f + 1] - 1 */
    size_t n_files;
    esp_safetensors_writer *file; /* [n_files] owned */
    size_t n_open;                /* files that have been created */
};

/* ---- which tensor goes where --------------------------------------------------------------------- */

/* Fills files in order; a tensor that no longer fits opens the next one. */
static void cut(esp_shards *s, size_t limit)
{
    size_t held = 0;

    ESP_NEW(s->start, s->of->n + 2);
    s->n_files = 1;
    for (size_t i = 0; i < s->of->n; i++) {
        size_t bytes = esp_tensor_ref_bytes(&s->of->tensors[i]);

        if (i > 0 && held + bytes > limit) {
            s->start[s->n_files++] = i;
            held = 0;
        }
        held += bytes;
    }
    s->start[s->n_files] = s->of->n;
}

esp_shards *esp_shards_make(const esp_contents *c, const char *stem, esp_tensor_namer name,
                            size_t limit)
{
    esp_shards *s;

    ESP_NEW(s, 1);
    *s = (esp_shards){ .of = c, .stem = stem, .name = name };
    cut(s, limit);
    ESP_NEW(s->file, s->n_files);
    return s;
}

static void shards_free(esp_shards *s)
{
    free(s->start);
    free(s->file);
    free(s);
}

/* Each file lists its tensors. */
size_t esp_shards_bytes(const esp_contents *c, size_t limit)
{
    esp_shards *s = esp_shards_make(c, "", NULL, limit);
    size_t bytes = esp_calloc_bytes(1, sizeof *s) + esp_calloc_bytes(c->n + 2, sizeof *s->start) +
                   esp_calloc_bytes(s->n_files, sizeof *s->file) + c->n * sizeof(esp_tensor_info);

    shards_free(s);
    return bytes;
}

static char *file_name(const esp_shards *s, size_t f)
{
    return s->n_files == 1
               ? esp_format("%s" ESP_SAFETENSORS, s->stem)
               : esp_format("%s-%05zu-of-%05zu" ESP_SAFETENSORS, s->stem, f + 1, s->n_files);
}

static char *index_name(const esp_shards *s)
{
    return esp_format("%s" ESP_SAFETENSORS ".index.json", s->stem);
}

/* ---- all but the tensors, by rank 0 -------------------------------------------------------------- */

static json_t *make_index(const esp_shards *s)
{
    json_t *map = json_object();
    size_t total = 0;

    for (size_t f = 0; f < s->n_files; f++) {
        char *file = file_name(s, f);

        for (size_t i = s->start[f]; i < s->start[f + 1]; i++) {
            const esp_tensor_ref *t = &s->of->tensors[i];
            char *name = s->name(s->of->model, t);

            json_object_set_new(map, name, json_string(file));
            total += esp_tensor_ref_bytes(t);
            free(name);
        }
        free(file);
    }
    return json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map",
                     map);
}

static esp_status write_text(const esp_shards *s, const char *name, const char *text)
{
    char *path = esp_path(s->of->part, name);
    esp_status st = esp_file_write(path, text, strlen(text));

    free(path);
    return st;
}

static esp_status write_index(const esp_shards *s)
{
    json_t *index = make_index(s);
    char *text = json_dumps(index, JSON_INDENT(2)), *name = index_name(s);
    esp_status st;

    ESP_REQUIRE(text);
    st = write_text(s, name, text);
    free(name);
    free(text);
    json_decref(index);
    return st;
}

/* Adds a name (taken) to the marker. */
static esp_status mark(const esp_shards *s, char *name)
{
    esp_status st = esp_folder_add(s->of->part, name);

    free(name);
    return st;
}

/* All that will be in the folder but the companions is named before the first of it is written. */
static esp_status prepare(const esp_shards *s, const char *config_name, const char *config,
                          const char *from)
{
    ESP_TRY(mark(s, esp_strdup(config_name)));
    if (s->n_files > 1) {
        ESP_TRY(mark(s, index_name(s)));
    }
    for (size_t f = 0; f < s->n_files; f++) {
        ESP_TRY(mark(s, file_name(s, f)));
    }
    ESP_TRY(write_text(s, config_name, config));
    if (s->n_files > 1) {
        ESP_TRY(write_index(s));
    }
    return from ? esp_companions_copy(s->of->part, from) : ESP_OK;
}

/* ---- the tensors, by all ranks ------------------------------------------------------------------- */

static esp_status create(esp_shards *s, size_t f)
{
    char *name = file_name(s, f), *path = esp_path(s->of->part, name);
    esp_status st;

    for (size_t i = s->start[f]; i < s->start[f + 1]; i++) {
        const esp_tensor_ref *t = &s->of->tensors[i];
        char *tensor = s->name(s->of->model, t);

        esp_safetensors_plan(&s->file[f], tensor, esp_tensor_ref_dtype(t), t->n_dims, t->shape);
        free(tensor);
    }
    st = esp_safetensors_create(&s->file[f], path, s->of->comm);
    free(name);
    free(path);
    return st;
}

esp_status esp_shards_begin(void **state, esp_shards *s, const char *config_name, char *config,
                            const char *from)
{
    int rank;
    esp_status st;

    ESP_MPI(MPI_Comm_rank(s->of->comm, &rank));
    st = esp_agree(s->of->comm, rank == 0 ? prepare(s, config_name, config, from) : ESP_OK);
    free(config);
    while (st == ESP_OK && s->n_open < s->n_files) {
        st = create(s, s->n_open);
        s->n_open += st == ESP_OK;
    }
    *state = s;
    return st == ESP_OK ? ESP_OK : esp_shards_end(s, st);
}

esp_status esp_shards_rows(void *state, size_t i, size_t first, size_t n, const void *data)
{
    esp_shards *s = state;
    size_t row = esp_tensor_ref_row_bytes(&s->of->tensors[i]), f = 0;

    while (i >= s->start[f + 1]) {
        f++;
    }
    return esp_safetensors_write(&s->file[f], i - s->start[f], first * row, data, n * row);
}

esp_status esp_shards_end(void *state, esp_status st)
{
    esp_shards *s = state;

    for (size_t f = 0; f < s->n_open; f++) {
        st = esp_safetensors_finish(&s->file[f], st, s->of->comm);
    }
    shards_free(s);
    return st;
}
