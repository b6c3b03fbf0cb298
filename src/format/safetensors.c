/* safetensors.c - reading with every check of the format, and collective writing. */
#include "espalier/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/folder.h"
#include "espalier/io.h"
#include "espalier/kind.h"
#include "espalier/mem.h"

#define PREFIX     ((size_t)8)         /* bytes of the header's size                 */
#define MAX_HEADER ((size_t)100000000) /* the reference implementation's own limit   */
#define METADATA   "__metadata__"

/* The types of the format; those we do not compute with are only measured. */
static const struct type {
    const char *name;
    size_t bits;
    esp_dtype dtype;
} types[] = {
    { "F32", 32, ESP_F32 },
    { "F16", 16, ESP_F16 },
    { "BF16", 16, ESP_BF16 },
    { "BOOL", 8, ESP_N_DTYPES },
    { "U8", 8, ESP_N_DTYPES },
    { "I8", 8, ESP_N_DTYPES },
    { "U16", 16, ESP_N_DTYPES },
    { "I16", 16, ESP_N_DTYPES },
    { "U32", 32, ESP_N_DTYPES },
    { "I32", 32, ESP_N_DTYPES },
    { "U64", 64, ESP_N_DTYPES },
    { "I64", 64, ESP_N_DTYPES },
    { "F64", 64, ESP_N_DTYPES },
    { "C64", 64, ESP_N_DTYPES },
    { "F8_E4M3", 8, ESP_N_DTYPES },
    { "F8_E5M2", 8, ESP_N_DTYPES },
    { "F8_E8M0", 8, ESP_N_DTYPES },
    { "F8_E4M3FNUZ", 8, ESP_N_DTYPES },
    { "F8_E5M2FNUZ", 8, ESP_N_DTYPES },
    { "F6_E2M3", 6, ESP_N_DTYPES },
    { "F6_E3M2", 6, ESP_N_DTYPES },
    { "F4", 4, ESP_N_DTYPES },
};

static const struct type *find_type(const char *name)
{
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) == 0) {
            return &types[i];
        }
    }
    return NULL;
}

/* ---- reading ----------------------------------------------------------------------------------- */

static bool get_size(size_t *v, const json_t *number)
{
    if (!json_is_integer(number) || json_integer_value(number) < 0) {
        return false;
    }
    *v = (size_t)json_integer_value(number);
    return true;
}

/* Messages here lack file and tensor: read_tensor puts them in front. */
static esp_status read_shape(esp_tensor_info *t, size_t *n_elements, const json_t *shape)
{
    if (!json_is_array(shape)) {
        return esp_fail(ESP_EFORMAT, "has no list \"shape\"");
    }
    t->n_dims = json_array_size(shape);
    *n_elements = 1;
    for (size_t i = 0; i < t->n_dims; i++) {
        size_t size;

        if (!get_size(&size, json_array_get(shape, i))) {
            return esp_fail(ESP_EFORMAT, "size %zu of its shape is not a whole number >= 0", i);
        }
        if (i < ESP_MAX_RANK) {
            t->shape[i] = size;
        }
        if (__builtin_mul_overflow(*n_elements, size, n_elements)) {
            return esp_fail(ESP_EFORMAT, "its shape has more elements than 64 bits can count");
        }
    }
    return ESP_OK;
}

static esp_status read_range(esp_tensor_info *t, const json_t *range)
{
    size_t begin, end;

    if (json_array_size(range) != 2 || !get_size(&begin, json_array_get(range, 0)) ||
        !get_size(&end, json_array_get(range, 1)) || begin > end) {
        return esp_fail(ESP_EFORMAT, "\"data_offsets\" is not a range [begin, end]");
    }
    t->offset = begin;
    t->n_bytes = end - begin;
    return ESP_OK;
}

static esp_status read_descriptor(esp_tensor_info *t, const json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    const struct type *type = find_type(name);
    size_t n_elements = 0, bits;

    if (!type) {
        return esp_fail(ESP_EFORMAT, "dtype %s is not a type of this format",
                        name ? name : "(none)");
    }
    t->type = type->name;
    t->dtype = type->dtype;
    ESP_TRY(read_shape(t, &n_elements, json_object_get(entry, "shape")));
    ESP_TRY(read_range(t, json_object_get(entry, "data_offsets")));
    if (__builtin_mul_overflow(n_elements, type->bits, &bits) || bits % 8 != 0 ||
        bits / 8 != t->n_bytes) {
        return esp_fail(ESP_EFORMAT, "%zu elements of %s do not take the %zu bytes of its range",
                        n_elements, t->type, t->n_bytes);
    }
    return ESP_OK;
}

static esp_status read_tensors(esp_safetensors *f, json_t *header, const char *path)
{
    const char *name;
    json_t *entry;

    ESP_NEW(f->tensors, json_object_size(header));
    json_object_foreach(header, name, entry)
    {
        esp_tensor_info *t = &f->tensors[f->n];

        if (strcmp(name, METADATA) == 0) {
            continue;
        }
        t->name = esp_strdup(name);
        f->n++;
        esp_status st = read_descriptor(t, entry);
        if (st != ESP_OK) {
            return esp_fail_in(st, "%s: tensor %s", path, name);
        }
    }
    return ESP_OK;
}

static int by_range(const void *a, const void *b)
{
    const esp_tensor_info *x = a, *y = b;

    if (x->offset != y->offset) {
        return x->offset < y->offset ? -1 : 1;
    }
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* Ranges must cover the n_data bytes exactly; then they are made to point into the mapping. */
static esp_status place_tensors(esp_safetensors *f, size_t data_at, const char *path)
{
    size_t n_data = f->map.n - data_at, at = 0;

    qsort(f->tensors, f->n, sizeof *f->tensors, by_range);
    for (size_t i = 0; i < f->n; i++) {
        esp_tensor_info *t = &f->tensors[i];

        if (t->offset != at) {
            return esp_fail(ESP_EFORMAT, "%s: tensor %s begins at byte %zu of the data, %s %zu",
                            path, t->name, t->offset,
                            t->offset < at ? "overlapping one that ends at" : "leaving a hole from",
                            at);
        }
        if (t->n_bytes > n_data - at) {
            return esp_fail(
                ESP_EFORMAT,
                "%s: tensor %s ends at byte %zu of the data, the file has only %zu; it is "
                "truncated, fetch it again",
                path, t->name, at + t->n_bytes, n_data);
        }
        at += t->n_bytes;
        t->offset += data_at;
        t->data = f->map.data + t->offset;
    }
    return at == n_data
               ? ESP_OK
               : esp_fail(ESP_EFORMAT, "%s: %zu bytes after the last tensor's %zu belong to none",
                          path, n_data - at, at);
}

static esp_status read_header(json_t **header, size_t *data_at, const esp_map *map,
                              const char *path)
{
    size_t n = 0;
    json_error_t error;

    if (map->n < PREFIX) {
        return esp_fail(ESP_EFORMAT, "%s: %zu bytes are too few for a safetensors file", path,
                        map->n);
    }
    if (map->n > PREFIX && map->data[PREFIX] != '{') {
        ESP_TRY(esp_kind_refuse(map->data, map->n, path));
    }
    for (size_t i = PREFIX; i-- > 0;) {
        n = n << 8 | map->data[i];
    }
    if (n > MAX_HEADER || n > map->n - PREFIX) {
        return esp_fail(
            ESP_EFORMAT,
            "%s: header of %zu bytes in a file of %zu (at most %zu); it is truncated or no "
            "safetensors file",
            path, n, map->n, MAX_HEADER);
    }
    *data_at = PREFIX + n;
    *header = json_loadb((const char *)map->data + PREFIX, n, JSON_REJECT_DUPLICATES, &error);
    if (!*header) {
        return esp_fail(ESP_EFORMAT, "%s: header, byte %d: %s", path, error.position, error.text);
    }
    if (!json_is_object(*header)) {
        return esp_fail(ESP_EFORMAT, "%s: the header is not a JSON object", path);
    }
    return ESP_OK;
}

esp_status esp_safetensors_open(esp_safetensors *f, const char *path)
{
    json_t *header = NULL;
    size_t data_at;
    esp_status st;

    *f = (esp_safetensors){ 0 };
    st = esp_map_open(&f->map, path);
    if (st == ESP_OK) {
        st = read_header(&header, &data_at, &f->map, path);
    }
    if (st == ESP_OK) {
        st = read_tensors(f, header, path);
    }
    if (st == ESP_OK) {
        st = place_tensors(f, data_at, path);
    }
    json_decref(header);
    if (st != ESP_OK) {
        esp_safetensors_close(f);
    }
    return st;
}

static void free_tensors(esp_tensor_info *tensors, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(tensors[i].name);
    }
    free(tensors);
}

void esp_safetensors_close(esp_safetensors *f)
{
    free_tensors(f->tensors, f->n);
    esp_map_close(&f->map);
    *f = (esp_safetensors){ 0 };
}

const esp_tensor_info *esp_safetensors_find(const esp_safetensors *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->tensors[i].name, name) == 0) {
            return &f->tensors[i];
        }
    }
    return NULL;
}

/* ---- writing ----------------------------------------------------------------------------------- */

void esp_safetensors_plan(esp_safetensors_writer *w, const char *name, esp_dtype dtype,
                          size_t n_dims, const size_t *shape)
{
    esp_tensor_info t = { .name = esp_strdup(name),
                          .type = esp_dtype_name(dtype),
                          .dtype = dtype,
                          .n_dims = n_dims,
                          .n_bytes = esp_dtype_size(dtype) };

    ESP_REQUIRE(n_dims <= ESP_MAX_RANK);
    for (size_t i = 0; i < n_dims; i++) {
        t.shape[i] = shape[i];
        t.n_bytes *= shape[i];
    }
    w->tensors = esp_grow(w->tensors, w->n + 1, sizeof *w->tensors);
    w->tensors[w->n++] = t;
}

static json_t *describe(const esp_tensor_info *t)
{
    json_t *shape = json_array();

    for (size_t i = 0; i < t->n_dims; i++) {
        json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->type, "shape", shape, "data_offsets",
                     (json_int_t)t->offset, (json_int_t)(t->offset + t->n_bytes));
}

/* Gives every tensor its offset in the data; the header is padded so that the data is aligned too. */
static char *make_header(esp_safetensors_writer *w, size_t *n_data)
{
    json_t *header = json_pack("{s:{s:s}}", METADATA, "format", "pt");
    char *text, *padded;

    *n_data = 0;
    for (size_t size = sizeof(float); size > 0; size /= 2) {
        for (size_t i = 0; i < w->n; i++) {
            if (esp_dtype_size(w->tensors[i].dtype) == size) {
                w->tensors[i].offset = *n_data;
                *n_data += w->tensors[i].n_bytes;
                json_object_set_new(header, w->tensors[i].name, describe(&w->tensors[i]));
            }
        }
    }
    text = json_dumps(header, JSON_COMPACT);
    ESP_REQUIRE(text); /* names are UTF-8 */
    padded = esp_format("%s%*s", text, (int)((PREFIX - strlen(text) % PREFIX) % PREFIX), "");
    free(text);
    json_decref(header);
    return padded;
}

static esp_status write_at(int fd, const char *path, const void *data, size_t n, size_t at)
{
    int error = esp_write_at(fd, data, n, at);

    return error ? esp_write_failed(path, n, error) : ESP_OK;
}

static esp_status open_part(esp_safetensors_writer *w, int flags)
{
    char *part = esp_part_path(w->path);

    w->fd = open(part, O_WRONLY | O_CLOEXEC | flags, 0666);
    free(part);
    return w->fd >= 0
               ? ESP_OK
               : esp_fail(ESP_EIO, "%s" ESP_PART ": cannot open: %s", w->path, strerror(errno));
}

static esp_status write_header(const esp_safetensors_writer *w, const char *header, size_t n_data)
{
    size_t n = strlen(header);
    uint8_t prefix[PREFIX];

    for (size_t i = 0; i < PREFIX; i++) {
        prefix[i] = (uint8_t)(n >> 8 * i);
    }
    ESP_TRY(write_at(w->fd, w->path, prefix, PREFIX, 0));
    ESP_TRY(write_at(w->fd, w->path, header, n, PREFIX));
    if (ftruncate(w->fd, (off_t)(PREFIX + n + n_data)) != 0) {
        return esp_write_failed(w->path, PREFIX + n + n_data, errno);
    }
    return ESP_OK;
}

esp_status esp_safetensors_create(esp_safetensors_writer *w, const char *path, MPI_Comm comm)
{
    size_t n_data;
    char *header = make_header(w, &n_data);
    esp_status st = ESP_OK;
    int rank;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    w->path = esp_strdup(path);
    w->fd = -1;
    for (size_t i = 0; i < w->n; i++) {
        w->tensors[i].offset += PREFIX + strlen(header);
    }
    if (rank == 0) {
        st = open_part(w, O_CREAT | O_TRUNC);
        if (st == ESP_OK) {
            st = write_header(w, header, n_data);
        }
    }
    free(header);
    st = esp_agree(comm, st);
    if (st == ESP_OK) { /* the file is there now */
        st = esp_agree(comm, rank == 0 ? ESP_OK : open_part(w, 0));
    }
    return st == ESP_OK ? ESP_OK : esp_safetensors_finish(w, st, comm);
}

/* Number `at` of a tensor, whose bytes are x. */
static esp_status refuse_number(const char *path, const esp_tensor_info *t, size_t at,
                                const void *x)
{
    size_t cols = t->n_dims > 1 ? t->shape[t->n_dims - 1] : 1;
    char *row = t->n_dims > 1 ? esp_format("%zu, ", at / cols) : esp_strdup("");
    size_t col = t->n_dims > 1 ? at % cols : at;
    float value;

    esp_to_f32(&value, x, t->dtype, 1);
    esp_fail(ESP_EFAILED, "%s: %s[%s%zu] would be %s and is not written: %s", path, t->name, row,
             col,
             isnan(value) ? "NaN"
             : value > 0  ? "inf"
                          : "-inf",
             t->dtype == ESP_F16 ? "F16 ends at 65504; start from the model in BF16 or F32"
                                 : "what it was made from is broken or too large");
    free(row);
    return ESP_EFAILED;
}

esp_status esp_safetensors_write(esp_safetensors_writer *w, size_t i, size_t from, const void *data,
                                 size_t n_bytes)
{
    const esp_tensor_info *t = &w->tensors[i];
    size_t size = esp_dtype_size(t->dtype), n = n_bytes / size, bad;

    ESP_REQUIRE(i < w->n && from <= t->n_bytes && n_bytes <= t->n_bytes - from);
    ESP_REQUIRE(from % size == 0 && n_bytes % size == 0);
    bad = esp_find_nonfinite(data, t->dtype, n);
    if (bad < n) {
        return refuse_number(w->path, t, from / size + bad, (const char *)data + bad * size);
    }
    return write_at(w->fd, w->path, data, n_bytes, t->offset + from);
}

/* Of the whole file, once the tensors have their places. */
static size_t file_bytes(const esp_safetensors_writer *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n; i++) {
        n = esp_max(n, w->tensors[i].offset + w->tensors[i].n_bytes);
    }
    return n;
}

static esp_status sync_and_close(esp_safetensors_writer *w)
{
    int error = esp_sync(w->fd), closed = esp_close(w->fd);

    error = error ? error : closed;
    return error ? esp_write_failed(w->path, file_bytes(w), error) : ESP_OK;
}

static void remove_part(const char *path)
{
    char *part = esp_part_path(path);

    unlink(part); /* what follows is a failure that is told already */
    free(part);
}

esp_status esp_safetensors_finish(esp_safetensors_writer *w, esp_status st, MPI_Comm comm)
{
    int rank;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    if (w->fd >= 0) {
        esp_status closed = sync_and_close(w);

        st = st == ESP_OK ? closed : st;
    }
    st = esp_agree(comm, st);
    if (st == ESP_OK) {
        st = esp_agree(comm, rank == 0 ? esp_commit(w->path) : ESP_OK);
    }
    if (st != ESP_OK && rank == 0) {
        remove_part(w->path);
    }
    free_tensors(w->tensors, w->n);
    free(w->path);
    *w = (esp_safetensors_writer){ .fd = -1 };
    return st;
}
