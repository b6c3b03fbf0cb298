/* cost.c - parameters, multiply-accumulates and bytes of a model from its shapes (docs/method.md, eq. 19). */
#include "espalier/model.h"

typedef struct tally {
    const esp_model *model;
    esp_cost cost;
    size_t n_tok;
} tally;

static void add_weight(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    tally *t = ctx;
    size_t n = w->rows * w->cols, all = esp_weight_numbers(w);
    bool table = slot == ESP_SLOT_EMBED || slot == ESP_SLOT_POSITION;
    bool linear = t->model->arch->slots[slot].cols != ESP_W_ONE && !table;

    (void)layer;
    t->cost.parameters += all;
    t->cost.bytes += all * esp_dtype_size(w->dtype);
    if (linear || (slot == ESP_SLOT_EMBED && t->model->tied)) { /* a tied embedding is the head */
        t->cost.macs += n * t->n_tok;
    }
}

esp_cost esp_model_cost(const esp_model *m, size_t n_tok)
{
    tally t = { .model = m, .n_tok = n_tok };

    esp_model_visit(m, add_weight, &t);
    for (size_t l = 0; l < m->dims.n_layers; l++) { /* queries with keys, weights with values */
        t.cost.macs += 2 * n_tok * n_tok * esp_model_width(m, l, ESP_W_QUERY);
    }
    return t.cost;
}
