/* peft.c - writing and reading the two files of a PEFT adapter. */
#include "espalier/peft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "espalier/par.h"
#include "export_impl.h"

#define STEM    "adapter_model"
#define CONFIG  "adapter_config.json"
#define TENSORS STEM ESP_SAFETENSORS

static char *key_of(const esp_model *m, const esp_tensor_ref *t)
{
    char *tensor = esp_model_tensor_name(m, t->layer, t->slot);
    char *key =
        esp_format("base_model.model.%s.lora_%c.weight", tensor, t->part == ESP_PART_A ? 'A' : 'B');

    free(tensor);
    return key;
}

/* ---- writing ---- */

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

static char *config_of(const esp_contents *c)
{
    const esp_adapter *a = c->adapter;
    double alpha = (double)(a->scale * (float)a->rank);
    json_t *number = alpha == floor(alpha) ? json_integer((json_int_t)alpha) : json_real(alpha);
    json_t *config = json_pack(
        "{s:s, s:s, s:s, s:I, s:o, s:f, s:o, s:s, s:b, s:b, s:n}", "peft_type", "LORA", "task_type",
        "CAUSAL_LM", "base_model_name_or_path", c->from, "r", (json_int_t)a->rank, "lora_alpha",
        number, "lora_dropout", c->dropout, "target_modules", target_modules(a, c->model), "bias",
        "none", "fan_in_fan_out", 0, "inference_mode", 1, "modules_to_save");
    char *text;

    ESP_REQUIRE(config);
    text = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(config);
    return text;
}

static esp_status begin(void **state, const esp_contents *c)
{
    esp_shards *s = esp_shards_make(c, STEM, key_of, SIZE_MAX);

    return esp_shards_begin(state, s, CONFIG, config_of(c), NULL);
}

static size_t bytes(const esp_contents *c)
{
    return esp_shards_bytes(c, SIZE_MAX);
}

const esp_writer esp_peft_writer = {
    .name = "peft",
    .adapters = true,
    .begin = begin,
    .rows = esp_shards_rows,
    .end = esp_shards_end,
    .bytes = bytes,
};

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
        char *key = key_of(m, &(esp_tensor_ref){ .slot = slot, .part = ESP_PART_A });

        if (esp_safetensors_find(file, key)) {
            targets |= UINT64_C(1) << slot;
        }
        free(key);
    }
    return targets;
}

static esp_status read_matrix(float *data, const esp_tensor_ref *x, const char *key,
                              const esp_safetensors *file, const char *path)
{
    const esp_tensor_info *t = esp_safetensors_find(file, key);
    size_t n = x->shape[0] * x->shape[1], bad;

    if (!t) {
        return esp_fail(ESP_EFORMAT, "%s: tensor %s is missing", path, key);
    }
    if (t->n_dims != 2 || t->shape[0] != x->shape[0] || t->shape[1] != x->shape[1]) {
        return esp_fail(ESP_EFORMAT,
                        "%s: %s: its shape is not [%zu, %zu], as the model and r want it", path,
                        key, x->shape[0], x->shape[1]);
    }
    if (t->dtype == ESP_N_DTYPES) {
        return esp_fail(ESP_EFORMAT, "%s: %s: is of type %s, must be F32, F16 or BF16", path, key,
                        t->type);
    }
    bad = esp_find_nonfinite(t->data, t->dtype, n);
    if (bad < n) {
        return esp_fail(ESP_EFORMAT, "%s: %s: number %zu of %zu is NaN or infinite", path, key, bad,
                        n);
    }
    esp_to_f32(data, t->data, t->dtype, n);
    return ESP_OK;
}

static esp_status read_matrices(const esp_adapter *a, const esp_model *m,
                                const esp_safetensors *file, const char *path)
{
    size_t n;
    esp_tensor_ref *refs = esp_adapter_tensors(&n, a, m);
    esp_status st = ESP_OK;

    for (size_t i = 0; i < n && st == ESP_OK; i++) {
        char *key = key_of(m, &refs[i]);

        st = read_matrix(esp_adapter_matrix(a, &refs[i]), &refs[i], key, file, path);
        free(key);
    }
    if (st == ESP_OK && n != file->n) {
        st = esp_fail(ESP_EFORMAT, "%s: %zu tensors, the model has a place for %zu of them", path,
                      file->n, n);
    }
    free(refs);
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
        st = read_matrices(a, m, &file, tensors);
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
