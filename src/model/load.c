/* load.c - the tensors of a model folder: found, checked against config.json, and mapped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/place.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "model/model_impl.h"

#define SINGLE "model.safetensors"
#define INDEX  "model.safetensors.index.json"

/* Where tensors are looked up. */
typedef struct places {
    json_t *shard_of; /* {tensor: file name} of the index; NULL with a single file */
    char **names;     /* [n_files of the model] paths; owned                        */
} places;

/* ---- files ------------------------------------------------------------------------------------- */

static esp_status add_file(esp_model *m, places *p, const char *name)
{
    m->files = esp_grow(m->files, m->n_files + 1, sizeof *m->files);
    p->names = esp_grow(p->names, m->n_files + 1, sizeof *p->names);
    p->names[m->n_files] = esp_path(m->dir, name);
    m->n_files++;
    return esp_safetensors_open(&m->files[m->n_files - 1], p->names[m->n_files - 1]);
}

static bool has_file(const esp_model *m, const places *p, const char *name)
{
    for (size_t i = 0; i < m->n_files; i++) {
        if (strcmp(p->names[i] + strlen(m->dir) + 1, name) == 0) {
            return true;
        }
    }
    return false;
}

static esp_status open_shards(esp_model *m, places *p, const char *path)
{
    const char *tensor;
    json_t *file;

    json_object_foreach(p->shard_of, tensor, file)
    {
        const char *name = json_string_value(file);

        if (!name || strchr(name, '/')) {
            return esp_fail(ESP_EFORMAT, "%s: weight_map: %s has no file name in this folder", path,
                            tensor);
        }
        if (!has_file(m, p, name)) {
            esp_status st = add_file(m, p, name);

            if (st != ESP_OK) {
                return esp_fail_in(st, "%s: shard", path);
            }
        }
    }
    return ESP_OK;
}

static esp_status open_index(esp_model *m, places *p, const char *path)
{
    json_error_t error;
    json_t *index = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    json_t *map = json_object_get(index, "weight_map");
    esp_status st;

    if (!index) {
        return esp_fail(ESP_EFORMAT, "%s: line %d: %s", path, error.line, error.text);
    }
    if (json_is_object(map)) {
        p->shard_of = json_incref(map);
        st = open_shards(m, p, path);
    } else {
        st = esp_fail(ESP_EFORMAT, "%s: has no object weight_map", path);
    }
    json_decref(index);
    return st;
}

static esp_status open_files(esp_model *m, places *p)
{
    char *single = esp_path(m->dir, SINGLE), *index = esp_path(m->dir, INDEX);
    esp_status st;

    if (esp_file_exists(single)) {
        st = add_file(m, p, SINGLE);
    } else if (esp_file_exists(index)) {
        st = open_index(m, p, index);
    } else {
        st = esp_place_no_weights(m->dir);
    }
    free(single);
    free(index);
    return st;
}

/* ---- tensors ----------------------------------------------------------------------------------- */

/* The file that is to hold a tensor; n_files where the index does not name it. */
static size_t file_of(const esp_model *m, const places *p, const char *tensor)
{
    const char *name =
        p->shard_of ? json_string_value(json_object_get(p->shard_of, tensor)) : SINGLE;
    size_t i = 0;

    while (i < m->n_files && (!name || strcmp(p->names[i] + strlen(m->dir) + 1, name) != 0)) {
        i++;
    }
    return i;
}

static const esp_tensor_info *find_tensor(const esp_model *m, const places *p, const char *name)
{
    size_t i = file_of(m, p, name);

    return i < m->n_files ? esp_safetensors_find(&m->files[i], name) : NULL;
}

/* Which names the files have, by that of the embedding. */
static void find_prefix(esp_model *m, const places *p)
{
    const esp_tensor_ref embed = { .layer = ESP_NO_LAYER, .slot = ESP_SLOT_EMBED };
    char *full = esp_tensor_ref_name(m, &embed);

    m->bare = !find_tensor(m, p, full) && find_tensor(m, p, full + esp_arch_base(m->arch));
    free(full);
}

static esp_status missing(const esp_model *m, const esp_tensor_ref *t, const char *where,
                          const char *name)
{
    return esp_fail(
        ESP_EFORMAT, "%s: tensor %s is missing%s", where, name,
        t->slot == ESP_SLOT_HEAD
            ? "; if the head is the embedding, set \"tie_word_embeddings\": true in config.json"
        : t->part == ESP_PART_BIAS && m->arch->always_qkv_bias
            ? "; this model_type has biases on q, k and v"
            : "");
}

static void write_shape(char *text, size_t n, size_t n_dims, const size_t *shape)
{
    size_t at = (size_t)snprintf(text, n, "[");

    for (size_t i = 0; i < n_dims && i < ESP_MAX_RANK && at < n; i++) {
        at += (size_t)snprintf(text + at, n - at, "%s%zu", i ? ", " : "", shape[i]);
    }
    if (at < n) {
        snprintf(text + at, n - at, "%s]", n_dims > ESP_MAX_RANK ? ", ..." : "");
    }
}

static esp_status check_shape(const esp_tensor_ref *t, const esp_tensor_info *info,
                              const char *file)
{
    char is[128], wanted[128];

    if (info->n_dims == t->n_dims && info->shape[0] == t->shape[0] &&
        (t->n_dims == 1 || info->shape[1] == t->shape[1])) {
        return ESP_OK;
    }
    write_shape(is, sizeof is, info->n_dims, info->shape);
    write_shape(wanted, sizeof wanted, t->n_dims, t->shape);
    return esp_fail(ESP_EFORMAT, "%s: tensor %s has shape %s, config.json asks for %s", file,
                    info->name, is, wanted);
}

/* A bias shares the dtype of its weight, which comes first. */
static esp_status check_dtype(const esp_tensor_ref *t, const esp_tensor_info *info,
                              const char *file)
{
    if (info->dtype == ESP_N_DTYPES) {
        return esp_fail(ESP_EFORMAT,
                        "%s: tensor %s is of type %s, a weight must be F32, F16 or BF16", file,
                        info->name, info->type);
    }
    if (t->part == ESP_PART_BIAS && info->dtype != t->weight->dtype) {
        return esp_fail(ESP_EFORMAT, "%s: tensor %s is of type %s, its weight of type %s", file,
                        info->name, info->type, esp_dtype_name(t->weight->dtype));
    }
    return ESP_OK;
}

/* Of a tied model the head's name, for the tensor that is both. */
static char *tied_name(const esp_model *m)
{
    const esp_tensor_ref head = { .layer = ESP_NO_LAYER, .slot = ESP_SLOT_HEAD };

    return esp_tensor_ref_name(m, &head);
}

/* The name under which the files have a tensor: of a tied model some have the head alone. */
static char *stored_name(const esp_model *m, const places *p, const esp_tensor_ref *t)
{
    char *name = esp_tensor_ref_name(m, t);

    if (m->tied && t->slot == ESP_SLOT_EMBED && !find_tensor(m, p, name)) {
        char *head = tied_name(m);

        if (find_tensor(m, p, head)) {
            free(name);
            return head;
        }
        free(head);
    }
    return name;
}

/* Two tensors that are said to be one: inference engines take one, the other or both where
 * they differ. */
static esp_status check_tied(const esp_model *m, const places *p)
{
    const esp_weight *w = &m->head_and_norm[ESP_SLOT_EMBED];
    char *name = tied_name(m);
    const esp_tensor_info *head = m->tied ? find_tensor(m, p, name) : NULL;
    esp_status st = ESP_OK;

    if (head && head->data != w->data &&
        (head->dtype != w->dtype || head->n_dims != 2 || head->shape[0] != w->rows ||
         head->shape[1] != w->cols ||
         memcmp(head->data, w->data, w->rows * w->cols * esp_dtype_size(w->dtype)) != 0)) {
        st = esp_fail(
            ESP_EFORMAT,
            "%s: tie_word_embeddings is true, but %s is not the embedding; set it to false "
            "in config.json to have both, as transformers 5 does, or take the tensor out to "
            "have the embedding alone, as transformers 4 does",
            m->dir, name);
    }
    free(name);
    return st;
}

static esp_status map_tensor(esp_model *m, const places *p, const esp_tensor_ref *t,
                             const char *name)
{
    size_t i = file_of(m, p, name);
    const char *file = i < m->n_files ? p->names[i] : m->dir;
    const esp_tensor_info *info = find_tensor(m, p, name);
    esp_weight *w = esp_model_weight_at(m, t->layer, t->slot);

    if (!info) {
        return missing(m, t, file, name);
    }
    ESP_TRY(check_shape(t, info, file));
    ESP_TRY(check_dtype(t, info, file));
    if (t->part == ESP_PART_BIAS) {
        w->bias = info->data;
    } else {
        w->data = info->data;
        w->dtype = info->dtype;
    }
    return ESP_OK;
}

/* The layer that a tensor is of by its name; ESP_NO_LAYER where it is of none. */
static size_t layer_of(const esp_model *m, const char *name)
{
    const char *known =
        m->arch->slots[ESP_SLOT_BLOCK].name + (m->bare ? esp_arch_base(m->arch) : 0);
    size_t n = strcspn(known, "%");
    char *end;
    size_t layer;

    if (strncmp(name, known, n) != 0 || name[n] < '0' || name[n] > '9') {
        return ESP_NO_LAYER;
    }
    layer = strtoul(name + n, &end, 10);
    return *end == '.' ? layer : ESP_NO_LAYER;
}

/* Tensors that no weight takes are usually old buffers: told, not refused. Layers are more than that. */
static void tell_unused(const esp_model *m, json_t *used)
{
    static const char rotary[] = ".rotary_emb.inv_freq";
    const char *first = NULL;
    size_t n = 0, lowest = ESP_NO_LAYER, highest = 0;

    if (m->tied) {
        char *name = tied_name(m);

        json_object_set_new(used, name, json_true());
        free(name);
    }
    for (size_t i = 0; i < m->n_files; i++) {
        for (size_t k = 0; k < m->files[i].n; k++) {
            const char *name = m->files[i].tensors[k].name, *end = strstr(name, rotary);
            size_t layer = layer_of(m, name);

            if (layer != ESP_NO_LAYER && layer >= m->dims.n_layers) {
                lowest = esp_min(lowest, layer);
                highest = esp_max(highest, layer);
            } else if (!json_object_get(used, name) && (!end || end[strlen(rotary)] != '\0')) {
                first = first ? first : name;
                n++;
            }
        }
    }
    if (lowest != ESP_NO_LAYER) {
        esp_warn(
            "%s: %s is %zu in config.json, but the files have %zu layers: those from number %zu on "
            "are left out, and missing in all results",
            m->dir, m->arch->keys->layers, m->dims.n_layers, highest + 1, lowest);
    }
    if (n > 0) {
        esp_info("%s: %zu tensors are not part of a %s model and are left out, the first is %s",
                 m->dir, n, m->arch->model_type, first);
    }
}

static esp_status map_tensors(esp_model *m, const places *p)
{
    size_t n;
    esp_tensor_ref *refs = esp_model_tensors(&n, m);
    json_t *used = json_object();
    esp_status st = ESP_OK;

    for (size_t i = 0; i < n && st == ESP_OK; i++) {
        char *name = stored_name(m, p, &refs[i]);

        st = map_tensor(m, p, &refs[i], name);
        json_object_set_new(used, name, json_true());
        free(name);
    }
    if (st == ESP_OK) {
        m->dtype = m->head_and_norm[ESP_SLOT_EMBED].dtype;
        tell_unused(m, used);
    }
    json_decref(used);
    free(refs);
    return st;
}

static esp_status load(esp_model *m, const char *dir, bool first)
{
    places p = { 0 };
    esp_status st;

    ESP_TRY(esp_model_shape(m, dir));
    st = open_files(m, &p);
    if (st == ESP_OK) {
        find_prefix(m, &p);
        st = map_tensors(m, &p);
    }
    if (st == ESP_OK && first) { /* reads both, so one rank is enough */
        st = check_tied(m, &p);
    }
    for (size_t i = 0; i < m->n_files; i++) {
        free(p.names[i]);
    }
    free(p.names);
    json_decref(p.shard_of);
    return st;
}

esp_status esp_model_load(esp_model *m, const char *dir, MPI_Comm comm)
{
    int rank;
    esp_status st;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    st = esp_agree(comm, load(m, dir, rank == 0));

    if (st != ESP_OK) {
        esp_model_free(m);
    }
    return st;
}
