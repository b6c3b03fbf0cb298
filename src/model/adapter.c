/* adapter.c - the low-rank path beside a linear weight. */
#include "espalier/adapter.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/tensor.h"

void esp_adapter_init(esp_adapter *a, const esp_model *m, size_t rank, float alpha)
{
    *a = (esp_adapter){ .rank = rank, .scale = alpha / (float)rank, .n_slots = m->arch->n_slots };
    ESP_NEW(a->lora, m->dims.n_layers * a->n_slots);
}

size_t esp_adapter_bytes(const esp_model *m)
{
    return esp_calloc_bytes(m->dims.n_layers * m->arch->n_slots, sizeof(esp_lora));
}

void esp_adapter_free(esp_adapter *a)
{
    free(a->lora);
    *a = (esp_adapter){ 0 };
}

esp_lora *esp_adapter_at(const esp_adapter *a, size_t layer, int slot)
{
    esp_lora *lora =
        a && layer != ESP_NO_LAYER ? &a->lora[esp_slot_index(a->n_slots, layer, slot)] : NULL;

    return lora && lora->a ? lora : NULL;
}

static esp_tensor_ref matrix_of(size_t layer, int slot, esp_part part, size_t rows, size_t cols)
{
    return (esp_tensor_ref){
        .layer = layer, .slot = slot, .part = part, .n_dims = 2, .shape = { rows, cols }
    };
}

esp_tensor_ref *esp_adapter_tensors(size_t *n, const esp_adapter *a, const esp_model *m)
{
    esp_tensor_ref *refs;

    *n = 0;
    ESP_NEW(refs, 2 * m->dims.n_layers * a->n_slots);
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
            const esp_weight *w = esp_model_weight(m, l, slot);

            if (esp_adapter_at(a, l, slot)) {
                refs[(*n)++] = matrix_of(l, slot, ESP_PART_A, a->rank, w->cols);
                refs[(*n)++] = matrix_of(l, slot, ESP_PART_B, w->rows, a->rank);
            }
        }
    }
    return refs;
}

float *esp_adapter_matrix(const esp_adapter *a, const esp_tensor_ref *t)
{
    const esp_lora *lora = esp_adapter_at(a, t->layer, t->slot);

    return t->part == ESP_PART_A ? lora->a : lora->b;
}

static esp_dropout_rule dropout_of(const esp_adapter *a, size_t layer, int slot)
{
    ESP_REQUIRE(a->dropout > 0 && a->dropout < 1);
    return (esp_dropout_rule){ .seed = a->seed,
                               .stream = esp_slot_index(a->n_slots, layer, slot),
                               .share = a->dropout };
}

static void scale_by(float *u, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        u[i] *= scale;
    }
}

/* u = scale * A dropout(x); returns dropout(x), which is x itself without dropout. */
static const float *project(float *u, float *dropped, const esp_adapter *a, size_t layer, int slot,
                            const float *x, size_t n_in, const esp_batch *batch)
{
    if (a->dropout > 0) {
        esp_dropout_rule rule = dropout_of(a, layer, slot);

        esp_dropout(dropped, x, false, &rule, n_in, batch);
        x = dropped;
    }
    esp_linear_forward(u, x, esp_array_f32(esp_adapter_at(a, layer, slot)->a), NULL, n_in, a->rank,
                       batch);
    scale_by(u, a->scale, batch->n_tok * a->rank);
    return x;
}

void esp_lora_forward(float *y, float *u, float *dropped, const esp_adapter *a, size_t layer,
                      int slot, const float *x, const esp_weight *w, const esp_batch *batch)
{
    const esp_lora *lora = esp_adapter_at(a, layer, slot);

    if (lora) {
        project(u, dropped, a, layer, slot, x, w->cols, batch);
        esp_linear_accumulate(y, u, esp_array_f32(lora->b), a->rank, w->rows, batch);
    }
}

/* dx += dropout(du A); dropped is scratch */
static void backward_input(float *dx, float *dropped, const esp_adapter *a, size_t layer, int slot,
                           const float *du, size_t n_in, const esp_batch *batch)
{
    const esp_lora *lora = esp_adapter_at(a, layer, slot);

    if (a->dropout > 0) {
        esp_dropout_rule rule = dropout_of(a, layer, slot);

        memset(dropped, 0, batch->n_tok * n_in * sizeof *dropped);
        esp_linear_backward_input(dropped, du, esp_array_f32(lora->a), n_in, a->rank, batch);
        esp_dropout(dx, dropped, true, &rule, n_in, batch);
    } else {
        esp_linear_backward_input(dx, du, esp_array_f32(lora->a), n_in, a->rank, batch);
    }
}

void esp_lora_backward(float *dx, float *u, float *du, float *dropped, const esp_adapter *a,
                       size_t layer, int slot, const float *dy, const float *x, const esp_weight *w,
                       const esp_batch *batch)
{
    const esp_lora *lora = esp_adapter_at(a, layer, slot);

    if (!lora) {
        return;
    }
    memset(du, 0, batch->n_tok * a->rank * sizeof *du);
    esp_linear_backward_input(du, dy, esp_array_f32(lora->b), a->rank, w->rows, batch);
    scale_by(du, a->scale, batch->n_tok * a->rank);
    if (lora->da) {
        x = project(u, dropped, a, layer, slot, x, w->cols, batch);
        esp_linear_backward_weight(lora->da, NULL, du, x, batch->n_tok, w->cols, a->rank);
        esp_linear_backward_weight(lora->db, NULL, dy, u, batch->n_tok, a->rank, w->rows);
    }
    backward_input(dx, dropped, a, layer, slot, du, w->cols, batch);
}
