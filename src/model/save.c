/* save.c - a model of other shapes, and the one writer of model folders. */
#include "espalier/model_save.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/folder.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "model/model_impl.h"

#define SHARD_BYTES ((size_t)5000000000) /* of a file where the caller has no opinion */
#define INDEX       "model.safetensors.index.json"

/* ---- shapes ------------------------------------------------------------------------------------ */

static void *copy_of(const void *p, size_t n, size_t size)
{
    return n ? memcpy(esp_calloc(n, size), p, n * size) : NULL;
}

void esp_model_reshape(esp_model *to, const esp_model *from, const esp_dims *dims)
{
    size_t n;
    esp_tensor_ref *refs;

    ESP_REQUIRE(dims->n_layers <= from->dims.n_layers && dims->head_dim == from->dims.head_dim);
    *to = *from;
    to->head_and_norm = to->block = NULL; /* what is owned is made anew, all else is the same */
    to->files = NULL;
    to->n_files = 0;
    to->slopes = NULL;
    to->dims = *dims;
    to->embed_scale = sqrtf((float)dims->hidden);
    to->residual_scale = esp_residual_scale(from->arch, dims->n_layers);
    to->config = json_deep_copy(from->config);
    to->dir = esp_strdup(from->dir);
    to->dims.layer = copy_of(dims->layer, dims->n_layers, sizeof *dims->layer);
    esp_rope_copy(&to->rope, &from->rope);
    esp_config_write(to->config, from->arch, dims);
    to->arch = esp_config_arch(to->config);
    esp_model_keep_heads(to, from, NULL, NULL);
    esp_model_make_weights(to);
    refs = esp_model_tensors(&n, to);
    for (size_t i = 0; i < n; i++) {
        esp_model_weight_at(to, refs[i].layer, refs[i].slot)->dtype =
            esp_model_weight(from, refs[i].layer, refs[i].slot)->dtype;
    }
    free(refs);
}

/* ---- the plan of the files --------------------------------------------------------------------- */

typedef struct save {
    const esp_model *model;
    esp_tensor_source source;
    void *ctx;
    esp_tensor_ref *refs; /* [n] owned; in file order                              */
    size_t n;
    size_t *start; /* [n_files + 1] owned; file f holds refs start[f] ..    */
    size_t n_files;
    size_t *first;      /* [n + 1] owned; number of a tensor's first chunk      */
    uint64_t *chunks;   /* [first[n], ESP_DIGEST_WORDS] owned; of those written here */
    char *dir, *part;   /* owned; where the folder will be, and is written  */
    char *buffer;       /* owned; of the largest chunk                      */
    size_t total, done; /* bytes of all tensors; written by this rank      */
    int rank, size;
    MPI_Comm comm;
} save;

static size_t ref_bytes(const esp_tensor_ref *t)
{
    return t->shape[0] * esp_tensor_ref_row_bytes(t);
}

static size_t largest_chunk(const esp_tensor_ref *refs, size_t n)
{
    size_t largest = 0;

    for (size_t i = 0; i < n; i++) {
        size_t rows = esp_tensor_chunk_rows(&refs[i]);

        largest = esp_max(largest, rows * esp_tensor_ref_row_bytes(&refs[i]));
    }
    return largest;
}

/* Beside refs and first. */
static void make_save(save *s, size_t *bytes)
{
    ESP_MAKE(s->chunks, ESP_DIGEST_WORDS * s->first[s->n], bytes);
    ESP_MAKE(s->start, s->n + 1, bytes);
    ESP_MAKE(s->buffer, largest_chunk(s->refs, s->n), bytes);
}

static void find_tensors(save *s)
{
    s->refs = esp_model_tensors(&s->n, s->model);
    s->first = esp_tensor_chunks(s->refs, s->n);
}

/* The list of what is written has the tensors once more, their digest the lists of them. */
size_t esp_model_save_bytes(const esp_model *shape)
{
    save s = { .model = shape };
    size_t bytes = esp_tensors_bytes(shape), lists;

    find_tensors(&s);
    bytes += esp_calloc_bytes(s.n + 1, sizeof *s.first);
    lists = esp_max(bytes, s.n * sizeof(esp_tensor_info));
    make_save(&s, &bytes);
    free(s.refs);
    free(s.first);
    return bytes + lists;
}

size_t esp_model_save_numbers(const esp_model *shape)
{
    save s = { .model = shape };
    size_t most = 0;

    find_tensors(&s);
    for (size_t i = 0; i < s.n; i++) {
        most = esp_max(most, esp_tensor_chunk_rows(&s.refs[i]) * s.refs[i].shape[1]);
    }
    free(s.refs);
    free(s.first);
    return most;
}

/* Fills files in order; a tensor that no longer fits opens the next one. */
static void plan_files(save *s, size_t shard_bytes)
{
    size_t held = 0;

    find_tensors(s);
    make_save(s, NULL);
    for (size_t i = 0; i < s->n; i++) {
        size_t n = ref_bytes(&s->refs[i]);

        if (i == 0 || held + n > shard_bytes) {
            s->start[s->n_files++] = i;
            held = 0;
        }
        held += n;
        s->total += n;
    }
    s->start[s->n_files] = s->n;
}

static void save_init(save *s, const char *dir, const esp_model *shape, size_t shard_bytes,
                      MPI_Comm comm)
{
    size_t n = strlen(dir);

    while (n > 1 && dir[n - 1] == '/') { /* as shells complete folders */
        n--;
    }
    *s = (save){ .model = shape, .comm = comm };
    s->dir = esp_format("%.*s", esp_count(n), dir);
    s->part = esp_part_path(s->dir);
    ESP_MPI(MPI_Comm_rank(comm, &s->rank));
    ESP_MPI(MPI_Comm_size(comm, &s->size));
    plan_files(s, shard_bytes ? shard_bytes : SHARD_BYTES);
}

static void save_free(save *s)
{
    free(s->refs);
    free(s->start);
    free(s->first);
    free(s->chunks);
    free(s->dir);
    free(s->part);
    free(s->buffer);
}

static char *file_name(const save *s, size_t f)
{
    return s->n_files == 1 ? esp_strdup("model.safetensors")
                           : esp_format("model-%05zu-of-%05zu.safetensors", f + 1, s->n_files);
}

/* ---- all but the tensors, by rank 0 ------------------------------------------------------------ */

/* Short numbers (1e-05) where they say the same, all digits where they do not. */
static char *dump_config(const json_t *config)
{
    char *text = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_t *again = json_loads(text, 0, NULL);

    if (!json_equal(config, again)) {
        free(text);
        text = json_dumps(config, JSON_INDENT(2));
    }
    json_decref(again);
    ESP_REQUIRE(text);
    return text;
}

/* Takes text. */
static esp_status write_text(const save *s, const char *name, char *text)
{
    char *path = esp_path(s->part, name);
    esp_status st = esp_file_write(path, text, strlen(text));

    free(path);
    free(text);
    return st;
}

static esp_status write_index(const save *s)
{
    json_t *map = json_object();
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)s->total,
                              "weight_map", map);
    char *text;

    for (size_t f = 0; f < s->n_files; f++) {
        char *file = file_name(s, f);

        for (size_t i = s->start[f]; i < s->start[f + 1]; i++) {
            char *name = esp_tensor_ref_name(s->model, &s->refs[i]);

            json_object_set_new(map, name, json_string(file));
            free(name);
        }
        free(file);
    }
    text = json_dumps(index, JSON_INDENT(2));
    ESP_REQUIRE(text);
    json_decref(index);
    return write_text(s, INDEX, text);
}

/* All that will be in the folder but the companions is named before the first of it is written. */
static esp_status make_folder(const save *s)
{
    const char *own[] = { "config.json", INDEX };
    esp_status st;

    ESP_TRY(esp_folder_check(s->dir));
    ESP_TRY(esp_folder_remove(s->part));
    st = esp_folder_make(s->part, own, s->n_files > 1 ? 2 : 1);
    for (size_t f = 0; f < s->n_files && st == ESP_OK; f++) {
        char *name = file_name(s, f);

        st = esp_folder_add(s->part, name);
        free(name);
    }
    return st;
}

static esp_status prepare(const save *s, const char *files_from)
{
    ESP_TRY(make_folder(s));
    ESP_TRY(write_text(s, "config.json", dump_config(s->model->config)));
    if (s->n_files > 1) {
        ESP_TRY(write_index(s));
    }
    return files_from ? esp_companions_copy(s->part, files_from) : ESP_OK;
}

/* ---- the tensors, by all ranks ----------------------------------------------------------------- */

static esp_status write_chunk(save *s, esp_safetensors_writer *w, size_t i, size_t number,
                              size_t first, size_t n)
{
    const esp_tensor_ref *t = &s->refs[i];
    size_t row = esp_tensor_ref_row_bytes(t);

    ESP_TRY(s->source(s->ctx, s->buffer, t->layer, t->slot, t->bias, first, n));
    ESP_TRY(esp_safetensors_write(w, number, first * row, s->buffer, n * row));
    esp_digest_words(s->chunks +
                         ESP_DIGEST_WORDS * (s->first[i] + first / esp_tensor_chunk_rows(t)),
                     s->buffer, n * row);
    s->done += n * row;
    esp_progress("write model (MB)", s->done / 1000000, s->total / (size_t)s->size / 1000000);
    return ESP_OK;
}

/* The bytes of a file are cut into equal parts, one a rank; a chunk belongs to the part it begins in. */
static esp_status write_share(save *s, esp_safetensors_writer *w, size_t f)
{
    size_t at = 0, bytes = 0;

    for (size_t i = s->start[f]; i < s->start[f + 1]; i++) {
        bytes += ref_bytes(&s->refs[i]);
    }
    for (size_t i = s->start[f]; i < s->start[f + 1]; i++) {
        const esp_tensor_ref *t = &s->refs[i];
        size_t step = esp_tensor_chunk_rows(t);

        for (size_t row = 0; row < t->shape[0]; row += step) {
            size_t n = step < t->shape[0] - row ? step : t->shape[0] - row;

            if (at * (size_t)s->size / bytes == (size_t)s->rank) {
                ESP_TRY(write_chunk(s, w, i, i - s->start[f], row, n));
            }
            at += n * esp_tensor_ref_row_bytes(t);
        }
    }
    return ESP_OK;
}

static esp_status write_file(save *s, size_t f)
{
    esp_safetensors_writer w = { 0 };
    char *name = file_name(s, f), *path = esp_path(s->part, name);
    esp_status st;

    for (size_t i = s->start[f]; i < s->start[f + 1]; i++) {
        const esp_tensor_ref *t = &s->refs[i];
        char *tensor = esp_tensor_ref_name(s->model, t);

        esp_safetensors_plan(&w, tensor, t->weight->dtype, t->n_dims, t->shape);
        free(tensor);
    }
    st = esp_safetensors_create(&w, path, s->comm);
    if (st == ESP_OK) {
        st = esp_safetensors_finish(&w, write_share(s, &w, f), s->comm);
    }
    free(name);
    free(path);
    return st;
}

/* Each chunk was digested by the rank that wrote it. Collective. */
static void digest_written(char hex[ESP_DIGEST_SIZE], const save *s)
{
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, s->chunks, esp_count(ESP_DIGEST_WORDS * s->first[s->n]),
                          MPI_UINT64_T, MPI_BOR, s->comm));
    esp_model_digest_of(hex, s->model, s->chunks);
}

esp_status esp_model_save(char digest[ESP_DIGEST_SIZE], const char *dir, const esp_model *shape,
                          esp_tensor_source source, void *ctx, const char *files_from,
                          size_t shard_bytes, MPI_Comm comm)
{
    save s;
    esp_status st;

    save_init(&s, dir, shape, shard_bytes, comm);
    s.source = source;
    s.ctx = ctx;
    st = esp_agree(comm, s.rank == 0 ? prepare(&s, files_from) : ESP_OK);
    for (size_t f = 0; f < s.n_files && st == ESP_OK; f++) {
        st = write_file(&s, f);
    }
    if (st == ESP_OK) {
        st = esp_agree(comm, s.rank == 0 ? esp_commit(s.dir) : ESP_OK);
    }
    if (st != ESP_OK && s.rank == 0) {
        esp_folder_remove(s.part); /* the first failure is the one that is told */
        esp_error_clear();
    }
    if (st == ESP_OK && digest) {
        digest_written(digest, &s);
    }
    save_free(&s);
    return st;
}
