/* model.c - the weights of a model as tables, and what names and sizes they have. */
#include "espalier/model.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/place.h"
#include "espalier/kind.h"
#include "espalier/mem.h"
#include "model/model_impl.h"

static size_t block_slots(const esp_model *m)
{
    return m->arch->n_slots - ESP_SLOT_BLOCK;
}

static esp_status parse_config(json_t **config, const char *path)
{
    char *text;
    size_t n;
    json_error_t error;
    esp_status st;

    ESP_TRY(esp_file_read(&text, &n, path));
    *config = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    st = *config ? ESP_OK : esp_kind_refuse(text, n, path);
    free(text);
    return *config || st != ESP_OK
               ? st
               : esp_fail(ESP_EFORMAT, "%s: line %d: %s", path, error.line, error.text);
}

esp_status esp_model_from_config(esp_model *m, json_t *config, const char *dir)
{
    char *path = esp_path(dir, "config.json");
    esp_status st;

    *m = (esp_model){ .config = config, .dir = esp_strdup(dir) };
    st = esp_config_read(m, path);
    free(path);
    if (st != ESP_OK) {
        esp_model_free(m);
        return st;
    }
    esp_model_make_weights(m);
    return ESP_OK;
}

esp_status esp_model_shape(esp_model *m, const char *dir)
{
    char *path = esp_path(dir, "config.json");
    json_t *config = NULL;
    esp_status st = esp_place_check(dir);

    *m = (esp_model){ 0 };
    if (st == ESP_OK) {
        st = esp_file_exists(path) ? parse_config(&config, path) : esp_place_no_config(dir);
    }
    free(path);
    return st == ESP_OK ? esp_model_from_config(m, config, dir) : st;
}

void esp_model_free(esp_model *m)
{
    for (size_t i = 0; i < m->n_files; i++) {
        esp_safetensors_close(&m->files[i]);
    }
    free(m->files);
    free(m->head_and_norm);
    free(m->block);
    esp_rope_free(&m->rope);
    free(m->slopes);
    free(m->dims.layer);
    free(m->dir);
    json_decref(m->config);
    *m = (esp_model){ 0 };
}

esp_weight *esp_model_weight_at(const esp_model *m, size_t layer, int slot)
{
    ESP_REQUIRE(slot >= 0 && (size_t)slot < m->arch->n_slots);
    if (slot < ESP_SLOT_BLOCK) {
        return &m->head_and_norm[slot == ESP_SLOT_HEAD && m->tied ? ESP_SLOT_EMBED : slot];
    }
    ESP_REQUIRE(layer < m->dims.n_layers);
    return &m->block[layer * block_slots(m) + (size_t)slot - ESP_SLOT_BLOCK];
}

const esp_weight *esp_model_weight(const esp_model *m, size_t layer, int slot)
{
    return esp_model_weight_at(m, layer, slot);
}

char *esp_model_tensor_name(const esp_model *m, size_t layer, int slot)
{
    static const char place[] = "%zu";
    const char *name = m->arch->slots[slot].name, *at = strstr(name, place);

    return at ? esp_format("%.*s%zu%s", (int)(at - name), name, layer, at + strlen(place))
              : esp_strdup(name);
}

size_t esp_model_width(const esp_model *m, size_t layer, esp_width w)
{
    const esp_dims *d = &m->dims;

    switch (w) {
    case ESP_W_NONE:
        return 0;
    case ESP_W_ONE:
        return 1;
    case ESP_W_HIDDEN:
        return d->hidden;
    case ESP_W_VOCAB:
        return d->vocab;
    case ESP_W_QUERY:
        return d->layer[layer].heads * d->head_dim;
    case ESP_W_KV:
        return d->layer[layer].kv_heads * d->head_dim;
    case ESP_W_MLP:
        return d->layer[layer].mlp;
    case ESP_W_HEAD:
        return d->head_dim;
    case ESP_W_QKV:
        return (d->layer[layer].heads + 2 * d->layer[layer].kv_heads) * d->head_dim;
    case ESP_W_GATE_UP:
        return 2 * d->layer[layer].mlp;
    case ESP_W_POSITIONS:
        return d->max_positions + m->arch->position_offset;
    }
    esp_bug(__FILE__, __LINE__, "width %d", (int)w);
}

esp_slice esp_model_slice(const esp_model *m, size_t layer, const esp_op *op)
{
    const esp_part_of *p = &op->part;
    size_t d = m->dims.head_dim;

    if (p->parts > 0) {
        return (esp_slice){ p->part * d, d, p->parts * d };
    }
    return (esp_slice){ .start = esp_model_width(m, layer, p->before[0]) +
                                 esp_model_width(m, layer, p->before[1]),
                        .run = esp_model_width(m, layer, m->arch->values[op->out]) };
}

size_t esp_slice_index(esp_slice s, size_t i)
{
    return s.start + i / s.run * s.step + i % s.run;
}

const esp_prefix_rule *esp_model_prefix_rule(const esp_model *m)
{
    return m->prefix.start >= 0 ? &m->prefix : NULL;
}

void esp_model_batch_init(esp_batch *b, const esp_model *m, size_t max_samples, size_t max_tok)
{
    esp_batch_init(b, max_samples, max_tok);
    b->rule = esp_model_prefix_rule(m);
}

static void make_weight(const esp_model *m, size_t layer, int slot)
{
    const esp_slot *s = &m->arch->slots[slot];

    *esp_model_weight_at(m, layer, slot) = (esp_weight){ .rows = esp_model_width(m, layer, s->rows),
                                                         .cols = esp_model_width(m, layer, s->cols),
                                                         .dtype = m->dtype,
                                                         .has_bias = esp_config_has_bias(m, slot) };
}

static void make_weights(esp_model *m, size_t *bytes)
{
    ESP_MAKE(m->head_and_norm, ESP_SLOT_BLOCK, bytes);
    ESP_MAKE(m->block, m->dims.n_layers * block_slots(m), bytes);
}

size_t esp_model_bytes(const esp_model *m)
{
    esp_model of = *m;
    size_t n = m->dims.n_layers, slopes = n * m->slope_step, half = m->rope.n / 2;
    size_t bytes = n ? esp_calloc_bytes(n, sizeof *m->dims.layer) : 0;

    make_weights(&of, &bytes);
    bytes += m->slopes ? esp_calloc_bytes(slopes, sizeof *m->slopes) : 0;
    bytes += m->rope.inv_freq ? esp_calloc_bytes(half, sizeof *m->rope.inv_freq) : 0;
    return bytes + (m->rope.longer ? esp_calloc_bytes(half, sizeof *m->rope.longer) : 0);
}

void esp_model_make_weights(esp_model *m)
{
    make_weights(m, NULL);
    for (int slot = 0; slot < ESP_SLOT_BLOCK; slot++) {
        make_weight(m, ESP_NO_LAYER, slot);
    }
    for (size_t layer = 0; layer < m->dims.n_layers; layer++) {
        for (size_t i = 0; i < block_slots(m); i++) {
            make_weight(m, layer, ESP_SLOT_BLOCK + (int)i);
        }
    }
}

void esp_model_visit(const esp_model *m, esp_weight_visitor visit, void *ctx)
{
    for (int slot = ESP_SLOT_EMBED; slot < ESP_SLOT_FINAL_NORM; slot++) {
        if (m->head_and_norm[slot].rows > 0) {
            visit(ctx, ESP_NO_LAYER, slot, &m->head_and_norm[slot]);
        }
    }
    for (size_t layer = 0; layer < m->dims.n_layers; layer++) {
        for (size_t i = 0; i < block_slots(m); i++) {
            int slot = ESP_SLOT_BLOCK + (int)i;

            visit(ctx, layer, slot, esp_model_weight(m, layer, slot));
        }
    }
    visit(ctx, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM, &m->head_and_norm[ESP_SLOT_FINAL_NORM]);
    if (!m->tied) {
        visit(ctx, ESP_NO_LAYER, ESP_SLOT_HEAD, &m->head_and_norm[ESP_SLOT_HEAD]);
    }
}

/* ---- tensors of the files ---------------------------------------------------------------------- */

typedef struct ref_list {
    const esp_model *model;
    esp_tensor_ref *refs;
    size_t n;
} ref_list;

static void add_refs(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    ref_list *list = ctx;
    bool vector = list->model->arch->slots[slot].cols == ESP_W_ONE;

    list->refs[list->n++] = (esp_tensor_ref){ .layer = layer,
                                              .slot = slot,
                                              .weight = w,
                                              .n_dims = vector ? 1 : 2,
                                              .shape = { w->rows, w->cols } };
    if (w->has_bias) {
        list->refs[list->n++] = (esp_tensor_ref){ .layer = layer,
                                                  .slot = slot,
                                                  .part = ESP_PART_BIAS,
                                                  .weight = w,
                                                  .n_dims = 1,
                                                  .shape = { w->rows, 1 } };
    }
}

static size_t most_refs(const esp_model *m)
{
    return 2 * (ESP_SLOT_BLOCK + m->dims.n_layers * block_slots(m));
}

size_t esp_tensors_bytes(const esp_model *m)
{
    return esp_calloc_bytes(most_refs(m), sizeof(esp_tensor_ref));
}

esp_tensor_ref *esp_model_tensors(size_t *n, const esp_model *m)
{
    ref_list list = { .model = m };

    ESP_NEW(list.refs, most_refs(m));
    esp_model_visit(m, add_refs, &list);
    *n = list.n;
    return list.refs;
}

char *esp_tensor_ref_name(const esp_model *m, const esp_tensor_ref *t)
{
    char *embedding = esp_model_tensor_name(m, t->layer, t->slot);
    size_t n = m->bare ? esp_arch_base(m->arch) : 0;
    size_t from = strncmp(embedding, m->arch->slots[ESP_SLOT_EMBED].name, n) == 0 ? n : 0;
    char *name =
        esp_format("%s.%s", embedding + from, t->part == ESP_PART_BIAS ? "bias" : "weight");

    free(embedding);
    return name;
}

esp_dtype esp_tensor_ref_dtype(const esp_tensor_ref *t)
{
    return t->part < ESP_PART_A ? t->weight->dtype : ESP_F32;
}

size_t esp_tensor_ref_row_bytes(const esp_tensor_ref *t)
{
    return t->shape[1] * esp_dtype_size(esp_tensor_ref_dtype(t));
}

size_t esp_tensor_ref_bytes(const esp_tensor_ref *t)
{
    return t->shape[0] * esp_tensor_ref_row_bytes(t);
}
