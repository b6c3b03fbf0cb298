/* gates.c - room for the factors of heads and neurons, one number per channel. */
#include "espalier/gates.h"

#include <stdlib.h>

#include "espalier/mem.h"

bool esp_arch_has_gate(const esp_arch *a, int value)
{
    for (size_t i = 0; i < a->n_ops; i++) {
        const esp_op *op = &a->ops[i];

        if (op->kind == ESP_OP_LINEAR && op->in[0] == value) {
            esp_width cols = a->slots[op->slot].cols;

            return cols == ESP_W_QUERY || cols == ESP_W_MLP;
        }
    }
    return false;
}

static size_t place_of(const esp_model *m, size_t layer, int value)
{
    return layer * m->arch->n_values + (size_t)value;
}

static void make_gates(esp_gates *g, const esp_model *m, size_t *bytes)
{
    const esp_arch *a = m->arch;

    *g = (esp_gates){ .model = m };
    ESP_MAKE(g->at, m->dims.n_layers * a->n_values, bytes);
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (int v = 0; v < (int)a->n_values; v++) {
            if (esp_arch_has_gate(a, v)) {
                ESP_MAKE(g->at[place_of(m, l, v)], esp_model_width(m, l, a->values[v]), bytes);
            }
        }
    }
}

void esp_gates_init(esp_gates *g, const esp_model *m)
{
    make_gates(g, m, NULL);
    esp_gates_reset(g);
}

void esp_gates_reset(const esp_gates *g)
{
    const esp_model *m = g->model;

    for (size_t l = 0; l < m->dims.n_layers; l++) {
        for (int v = 0; v < (int)m->arch->n_values; v++) {
            float *gate = esp_gates_at(g, l, v);
            size_t n = gate ? esp_model_width(m, l, m->arch->values[v]) : 0;

            for (size_t c = 0; c < n; c++) {
                gate[c] = 1;
            }
        }
    }
}

size_t esp_gates_bytes(const esp_model *m)
{
    size_t bytes = 0;
    esp_gates g;

    make_gates(&g, m, &bytes);
    return bytes;
}

void esp_gates_free(esp_gates *g)
{
    size_t n = g->at ? g->model->dims.n_layers * g->model->arch->n_values : 0;

    for (size_t i = 0; i < n; i++) {
        free(g->at[i]);
    }
    free(g->at);
    *g = (esp_gates){ 0 };
}

float *esp_gates_at(const esp_gates *g, size_t layer, int value)
{
    return g->at[place_of(g->model, layer, value)];
}
