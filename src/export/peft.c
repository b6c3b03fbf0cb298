/* peft.c - writing and reading the two files of a PEFT adapter. */
#include "espalier/peft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/mem.h"
#include "espalier/par.h"

#define CONFIG  "adapter_config.json"
#define TENSORS "adapter_model.safetensors"

typedef struct matrix {
    char *key;   /* name in the file; owned  */
    float *data; /* [rows, cols] borrowed    */
    size_t shape[2];
} matrix;

typedef struct matrices {
    matrix *list; /* [n] owned */
    size_t n;
} matrices;

static void add_matrix(matrices *s, const char *tensor, char letter, float *data, size_t rows,
                       size_t cols)
{
    s->list = esp_grow(s->list, s->n + 1, sizeof *s->list);
    s->list[s->n++] =
        (matrix){ .key = esp_format("base_model.model.%s.lora_%c.weight", tensor, letter),
                  .data = data,
                  .shape = { rows, cols } };
}

/* The matrices of an adapter in the order of the file. */
static matrices matrices_of(const esp_adapter *a, const esp_model *m)
{
    matrices s = { .n = 0 };

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
            const esp_lora *lora = esp_adapter_at(a, l, slot);
            const esp_weight *w = esp_model_weight(m, l, slot);
            char *tensor = lora ? esp_model_tensor_name(m, l, slot) : NULL;

            if (lora) {
                add_matrix(&s, tensor, 'A', lora->a, a->rank, w->cols);
                add_matrix(&s, tensor, 'B', lora->b, w->rows, a->rank);
            }
            free(tensor);
        }
    }
    return s;
}

static void matrices_free(matrices *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->list[i].key);
    }
    free(s->list);
}

/* ---- writing ---- */

/* Each rank has a run of the tensors, so that the lowest one with a failure has the first. */
static esp_status write_tensors(const char *path, const esp_adapter *a, const esp_model *m,
                                MPI_Comm comm)
{
    esp_safetensors_writer file = { .n = 0 };
    matrices s = matrices_of(a, m);
    size_t begin, end;
    int rank, size;
    esp_status st;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    ESP_MPI(MPI_Comm_size(comm, &size));
    esp_share(&begin, &end, s.n, rank, size);
    for (size_t i = 0; i < s.n; i++) {
        esp_safetensors_plan(&file, s.list[i].key, ESP_F32, 2, s.list[i].shape);
    }
    st = esp_safetensors_create(&file, path, comm);
    if (st == ESP_OK) {
        for (size_t i = begin; i < end && st == ESP_OK; i++) {
            const matrix *x = &s.list[i];

            st = esp_safetensors_write(&file, i, 0, x->data,
                                       x->shape[0] * x->shape[1] * sizeof *x->data);
        }
        st = esp_safetensors_finish(&file, st, comm);
    }
    matrices_free(&s);
    return st;
}

/* Names of the adapted weights, as in PEFT's target_modules. */
static json_t *target_modules(const esp_adapter *a, const esp_model *m)
{
    json_t *list = json_array();

    for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
        if (esp_adapter_at(a, 0, slot)) {
            json_array_append_new(list, json_string(esp_slot_role(&m->arch->slots[slot])));
        }
    }
    return list;
}

static esp_status write_config(const char *path, const esp_adapter *a, const esp_model *m,
                               double dropout, const char *base)
{
    double alpha = (double)(a->scale * (float)a->rank);
    json_t *number = alpha == floor(alpha) ? json_integer((json_int_t)alpha) : json_real(alpha);
    json_t *config = json_pack(
        "{s:s, s:s, s:s, s:I, s:o, s:f, s:o, s:s, s:b, s:b, s:n}", "peft_type", "LORA", "task_type",
        "CAUSAL_LM", "base_model_name_or_path", base, "r", (json_int_t)a->rank, "lora_alpha",
        number, "lora_dropout", dropout, "target_modules", target_modules(a, m), "bias", "none",
        "fan_in_fan_out", 0, "inference_mode", 1, "modules_to_save");
    char *text;
    esp_status st;

    ESP_REQUIRE(config);
    text = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    st = esp_file_write(path, text, strlen(text));
    free(text);
    json_decref(config);
    return st;
}

static esp_status make_folder(const char *dir, const char *part)
{
    static const char *const names[] = { CONFIG, TENSORS };

    ESP_TRY(esp_folder_check(dir));
    ESP_TRY(esp_folder_remove(part));
    return esp_folder_make(part, names, 2);
}

esp_status esp_peft_save(const char *dir, const esp_adapter *a, const esp_model *m, double dropout,
                         const char *base, MPI_Comm comm)
{
    char *part = esp_part_path(dir), *config = esp_path(part, CONFIG);
    char *tensors = esp_path(part, TENSORS);
    int rank;
    esp_status st;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    st = esp_agree(comm, rank == 0 ? make_folder(dir, part) : ESP_OK);
    if (st == ESP_OK) {
        st = write_tensors(tensors, a, m, comm);
    }
    if (st == ESP_OK && rank == 0) {
        st = write_config(config, a, m, dropout, base);
        st = st == ESP_OK ? esp_commit(dir) : st;
    }
    st = esp_agree(comm, st);
    if (st != ESP_OK && rank == 0) {
        esp_folder_remove(part); /* the first failure is the one that is told */
        esp_error_clear();
    }
    free(part);
    free(config);
    free(tensors);
    return st;
}

/* ---- reading ---- */

/* Settings of PEFT that change what the matrices mean, with the only value taken here. */
static esp_status check_plain(const json_t *config, const char *path)
{
    static const char *const off[] = { "use_rslora", "use_dora", "fan_in_fan_out" };
    static const char *const empty[] = { "rank_pattern", "alpha_pattern", "modules_to_save" };
    const char *type = json_string_value(json_object_get(config, "peft_type"));

    if (!type || strcmp(type, "LORA") != 0) {
        return esp_fail(ESP_EFORMAT, "%s: peft_type is %s, only LORA is read", path,
                        type ? type : "missing");
    }
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        if (json_is_true(json_object_get(config, off[i]))) {
            return esp_fail(ESP_EFORMAT, "%s: %s is true, only plain LoRA is read", path, off[i]);
        }
    }
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        const json_t *value = json_object_get(config, empty[i]);

        if (json_object_size(value) > 0 || json_array_size(value) > 0) {
            return esp_fail(ESP_EFORMAT, "%s: %s is not empty, only plain LoRA is read", path,
                            empty[i]);
        }
    }
    return ESP_OK;
}

static esp_status parse_config(size_t *rank, double *alpha, const json_t *config, const char *path)
{
    json_int_t r = json_integer_value(json_object_get(config, "r"));

    ESP_TRY(check_plain(config, path));
    *alpha = json_number_value(json_object_get(config, "lora_alpha"));
    if (r < 1 || !(*alpha > 0)) {
        return esp_fail(ESP_EFORMAT, "%s: r and lora_alpha must be numbers above 0", path);
    }
    *rank = (size_t)r;
    return ESP_OK;
}

static esp_status read_config(size_t *rank, double *alpha, const char *path)
{
    json_error_t error;
    json_t *config;
    char *text;
    size_t n;
    esp_status st;

    ESP_TRY(esp_file_read(&text, &n, path));
    config = json_loadb(text, n, 0, &error);
    free(text);
    st = config ? parse_config(rank, alpha, config, path)
                : esp_fail(ESP_EFORMAT, "%s: line %d: %s", path, error.line, error.text);
    json_decref(config);
    return st;
}

/* Before there is room for such matrices: r is a side of all that are in the file. */
static esp_status check_rank(const esp_safetensors *file, size_t rank, const char *path)
{
    for (size_t i = 0; i < file->n; i++) {
        const esp_tensor_info *t = &file->tensors[i];

        if (t->n_dims != 2 || (t->shape[0] != rank && t->shape[1] != rank)) {
            return esp_fail(ESP_EFORMAT,
                            "%s: %s: is no matrix of an adapter with r = %zu, as %s says", path,
                            t->name, rank, CONFIG);
        }
    }
    return file->n > 0 ? ESP_OK : esp_fail(ESP_EFORMAT, "%s: has no tensors", path);
}

/* The slots that have a matrix A in layer 0. */
static uint64_t targets_in(const esp_safetensors *file, const esp_model *m)
{
    uint64_t targets = 0;

    for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
        char *tensor = esp_model_tensor_name(m, 0, slot);
        char *key = esp_format("base_model.model.%s.lora_A.weight", tensor);

        if (esp_safetensors_find(file, key)) {
            targets |= UINT64_C(1) << slot;
        }
        free(key);
        free(tensor);
    }
    return targets;
}

static esp_status take_matrix(const matrix *x, const esp_safetensors *file, const char *path)
{
    const esp_tensor_info *t = esp_safetensors_find(file, x->key);
    size_t n = x->shape[0] * x->shape[1], bad;

    if (!t) {
        return esp_fail(ESP_EFORMAT, "%s: tensor %s is missing", path, x->key);
    }
    if (t->n_dims != 2 || t->shape[0] != x->shape[0] || t->shape[1] != x->shape[1]) {
        return esp_fail(ESP_EFORMAT,
                        "%s: %s: its shape is not [%zu, %zu], as the model and r want it", path,
                        x->key, x->shape[0], x->shape[1]);
    }
    if (t->dtype == ESP_N_DTYPES) {
        return esp_fail(ESP_EFORMAT, "%s: %s: is of type %s, must be F32, F16 or BF16", path,
                        x->key, t->type);
    }
    bad = esp_find_nonfinite(t->data, t->dtype, n);
    if (bad < n) {
        return esp_fail(ESP_EFORMAT, "%s: %s: number %zu of %zu is NaN or infinite", path, x->key,
                        bad, n);
    }
    esp_to_f32(x->data, t->data, t->dtype, n);
    return ESP_OK;
}

static esp_status take_matrices(const esp_adapter *a, const esp_model *m,
                                const esp_safetensors *file, const char *path)
{
    matrices s = matrices_of(a, m);
    esp_status st = ESP_OK;

    for (size_t i = 0; i < s.n && st == ESP_OK; i++) {
        st = take_matrix(&s.list[i], file, path);
    }
    if (st == ESP_OK && s.n != file->n) {
        st = esp_fail(ESP_EFORMAT, "%s: %zu tensors, the model has a place for %zu of them", path,
                      file->n, s.n);
    }
    matrices_free(&s);
    return st;
}

static esp_status read_adapter(esp_params *p, esp_adapter *a, const esp_model *m, const char *dir)
{
    char *config = esp_path(dir, CONFIG), *tensors = esp_path(dir, TENSORS);
    esp_safetensors file = { .n = 0 };
    size_t rank = 0;
    double alpha = 0;
    esp_status st = read_config(&rank, &alpha, config);

    if (st == ESP_OK) {
        st = esp_safetensors_open(&file, tensors);
    }
    if (st == ESP_OK) {
        st = check_rank(&file, rank, tensors);
    }
    if (st == ESP_OK) {
        esp_adapter_init(a, m, rank, (float)alpha);
        esp_params_lora(p, a, m, targets_in(&file, m), 0);
        st = take_matrices(a, m, &file, tensors);
    }
    esp_safetensors_close(&file);
    free(config);
    free(tensors);
    return st;
}

esp_status esp_peft_load(esp_params *p, esp_adapter *a, const esp_model *m, const char *dir,
                         MPI_Comm comm)
{
    esp_status st;

    *p = (esp_params){ 0 };
    *a = (esp_adapter){ 0 };
    st = esp_agree(comm, read_adapter(p, a, m, dir));
    if (st != ESP_OK) {
        esp_params_free(p);
        esp_adapter_free(a);
    }
    return st;
}
