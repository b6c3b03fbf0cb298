/* estimate_panels.c - what the gradients of a stage's weights take on their way to the scores: which of them
 * are made from all samples on each rank and which are summed over the ranks (prune/gather_impl.h). */
#include <string.h>

#include "espalier/importance.h"
#include "espalier/packed.h"
#include "estimate_impl.h"

/* Whether a unit asked for owns the indices of a side of that kind. */
static bool is_side_scored(const esp_job *j, size_t layer, esp_width side)
{
    unsigned units = j->config->importance.units;

    switch (side) {
    case ESP_W_HIDDEN:
        return units >> ESP_UNIT_HIDDEN & 1;
    case ESP_W_QUERY:
    case ESP_W_KV:
    case ESP_W_QKV:
        return layer != ESP_NO_LAYER && units >> ESP_UNIT_ATTENTION & 1;
    case ESP_W_MLP:
    case ESP_W_GATE_UP:
        return layer != ESP_NO_LAYER && units >> ESP_UNIT_MLP & 1;
    default:
        return false;
    }
}

bool esp_is_scored(const esp_job *j, const esp_model *m, size_t layer, int slot)
{
    const esp_slot *s = &m->arch->slots[slot];

    return is_side_scored(j, layer, s->rows) || is_side_scored(j, layer, s->cols);
}

typedef struct walk {
    const esp_job *job;
    const esp_model *model;
    size_t n_data;
    int x; /* value whose rows of all ranks are there, -1: none */
    size_t dy_room, x_room, dx_room;
    esp_panel_work work;
} walk;

/* The value that a linear weight of a block multiplies. */
static int input_of(const esp_arch *a, int slot)
{
    for (size_t i = 0; i < a->n_ops; i++) {
        if (a->ops[i].kind == ESP_OP_LINEAR && a->ops[i].slot == slot) {
            return a->ops[i].in[0];
        }
    }
    return -1;
}

static void gather(walk *at, const esp_weight *w, bool product, bool looked_up, int x)
{
    const esp_text_size *t = &at->job->calibration;
    size_t T = t->tokens, dy = T * esp_packed_width(ESP_FACTOR_DY, w->rows);
    size_t from_x = T * esp_packed_width(ESP_FACTOR_X, w->cols);

    if (product) {
        at->work.bytes += 4.0 * (double)dy;
        at->work.bytes += x >= 0 && x == at->x ? 0 : 4.0 * (double)from_x;
        at->dy_room = esp_max(at->dy_room, dy);
        at->x_room = esp_max(at->x_room, from_x);
        at->x = x;
        at->work.gathered += (double)w->rows * (double)w->cols;
    }
    if (looked_up) {
        at->work.bytes += 4.0 * (double)(T * (1 + w->cols));
        at->dx_room = esp_max(at->dx_room, T * (1 + w->cols));
    }
}

static void reduce(walk *at, const esp_weight *w, bool product, size_t sum_bytes)
{
    double n = (double)w->rows * (double)w->cols;

    at->work.bytes += n * (double)sum_bytes;
    at->work.summed += product ? n : 0;
}

static void add_matrix(walk *at, size_t layer, int slot)
{
    const esp_model *m = at->model;
    const esp_weight *w = esp_model_weight(m, layer, slot);
    bool head = slot == ESP_SLOT_HEAD || (m->tied && slot == ESP_SLOT_EMBED);
    bool looked_up = slot == ESP_SLOT_EMBED || slot == ESP_SLOT_POSITION;
    bool product = head || !looked_up;
    size_t a_token = (product ? w->rows + w->cols : 0) + (looked_up ? w->cols : 0);
    size_t sum_bytes = esp_needs_fisher(at->job) ? 16 : 8;

    at->work.numbers += (double)w->rows * (double)w->cols;
    if (at->n_data == 1) {
        at->work.gathered += product ? (double)w->rows * (double)w->cols : 0;
    } else if (esp_importance_gathers(at->job->calibration.tokens, a_token, w->rows * w->cols,
                                      sum_bytes)) {
        gather(at, w, product, looked_up, head ? -1 : input_of(m->arch, slot));
        at->work.bytes +=
            head && m->normal_head ? 4.0 * (double)(at->job->calibration.samples * w->rows) : 0;
    } else {
        reduce(at, w, product, sum_bytes);
    }
}

static void add_weight(walk *at, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(at->model, layer, slot);
    bool rows = is_side_scored(at->job, layer, at->model->arch->slots[slot].rows);

    if (w->rows == 0 || !esp_is_scored(at->job, at->model, layer, slot)) {
        return;
    }
    if (w->cols > 1) {
        add_matrix(at, layer, slot);
    } else if (rows) {
        at->work.bytes += 16.0 * (double)w->rows;
    }
    at->work.bytes += rows && w->has_bias ? 16.0 * (double)w->rows : 0;
}

/* In the order of the backward: head, layers from the last one, tables. */
esp_panel_work esp_panel_work_of(const esp_job *j, const esp_extent *e, size_t n_data)
{
    walk at = { .job = j, .model = e->model, .n_data = n_data, .x = -1 };
    bool tied = e->model->tied;

    if (e->of.last) {
        add_weight(&at, ESP_NO_LAYER, ESP_SLOT_FINAL_NORM);
        add_weight(&at, ESP_NO_LAYER, tied ? ESP_SLOT_EMBED : ESP_SLOT_HEAD);
    }
    for (size_t l = e->of.begin; l < e->of.end; l++) {
        at.x = -1;
        for (int slot = ESP_SLOT_BLOCK; slot < (int)e->model->arch->n_slots; slot++) {
            add_weight(&at, l, slot);
        }
    }
    for (int slot = ESP_SLOT_EMBED; e->of.first && slot < ESP_SLOT_FINAL_NORM; slot++) {
        if (!(tied && slot == ESP_SLOT_EMBED)) {
            add_weight(&at, ESP_NO_LAYER, slot);
        }
    }
    at.work.room = 4 * (at.dy_room + at.x_room + at.dx_room);
    return at.work;
}
