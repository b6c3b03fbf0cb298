/* embedding.c - the steps of a family before its blocks. */
#include "embedding_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

static void make_embedding(esp_embedding *s, const esp_model *m, esp_pass_options o, size_t *bytes)
{
    const esp_weight *norm = esp_model_weight(m, ESP_NO_LAYER, ESP_SLOT_EMBED_NORM);

    *s = (esp_embedding){ 0 };
    ESP_MAKE(s->row, o.max_tok, bytes);
    ESP_MAKE(s->add, m->dims.hidden, bytes);
    if (norm->rows > 0) {
        ESP_MAKE(s->normed, o.max_tok * m->dims.hidden, bytes);
        esp_f32_fit_vector(&s->norm, norm);
        esp_f32_make(&s->norm, bytes);
    }
}

size_t esp_embedding_bytes(const esp_model *m, esp_pass_options o)
{
    esp_embedding s;
    size_t bytes = 0;

    make_embedding(&s, m, o, &bytes);
    return bytes;
}

void esp_embedding_init(esp_embedding *s, const esp_model *m, esp_pass_options o)
{
    const esp_weight *norm = esp_model_weight(m, ESP_NO_LAYER, ESP_SLOT_EMBED_NORM);

    make_embedding(s, m, o, NULL);
    if (norm->rows > 0) {
        esp_f32_load(&s->norm, norm, esp_slot_weight_offset(m->arch, ESP_SLOT_EMBED_NORM));
    }
}

void esp_embedding_free(esp_embedding *s)
{
    esp_f32_free(&s->norm);
    free(s->normed);
    free(s->row);
    free(s->add);
    *s = (esp_embedding){ 0 };
}

/* The rows of a table that the tokens look up. */
static const int32_t *rows_of(const esp_pass *p, int slot, const esp_batch *batch)
{
    size_t offset = p->model->arch->position_offset;

    if (slot == ESP_SLOT_EMBED) {
        return batch->ids;
    }
    for (size_t j = 0; j < batch->n_samples; j++) {
        for (size_t t = batch->start[j]; t < batch->start[j + 1]; t++) {
            p->embedding->row[t] =
                (int32_t)(esp_batch_before(batch, j) + (t - batch->start[j]) + offset);
        }
    }
    return p->embedding->row;
}

/* x += rows of a table; add is scratch of a row. */
static void look_up(float *x, const esp_weight *w, const int32_t *row, const esp_batch *batch,
                    float *add)
{
    size_t D = w->cols, bytes = D * esp_dtype_size(w->dtype);

    for (size_t t = 0; t < batch->n_tok; t++) {
        ESP_REQUIRE((size_t)row[t] < w->rows);
        esp_to_f32(add, (const char *)w->data + (size_t)row[t] * bytes, w->dtype, D);
        esp_accumulate(x + t * D, add, D);
    }
}

static void scale_by(float *x, float by, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] *= by;
    }
}

void esp_embedding_forward(float *x, esp_pass *p, const esp_batch *batch)
{
    const esp_model *m = p->model;
    size_t D = m->dims.hidden, n = batch->n_tok * D;

    memset(x, 0, n * sizeof *x);
    for (size_t i = 0; i < m->arch->n_embedding; i++) {
        const esp_op *op = &m->arch->embedding[i];

        if (op->kind == ESP_OP_LOOKUP) {
            look_up(x, esp_model_weight(m, ESP_NO_LAYER, op->slot), rows_of(p, op->slot, batch),
                    batch, p->embedding->add);
        } else if (op->kind == ESP_OP_SCALE) {
            scale_by(x, m->embed_scale, n);
        } else {
            memcpy(p->embedding->normed, x, n * sizeof *x);
            esp_norm_forward(x, p->embedding->normed, &p->embedding->norm, m, batch->n_tok, D);
        }
    }
}

/* dx becomes the gradient of the norm's input. */
static void norm_backward(float *dx, float *spare, esp_pass *p, const esp_sink *sink,
                          const esp_batch *batch)
{
    size_t D = p->model->dims.hidden, bytes = batch->n_tok * D * sizeof *dx;
    float *buffer = sink && sink->norm ? p->block->norm_grad : NULL;

    memset(spare, 0, bytes);
    esp_norm_backward(spare, buffer, dx, p->embedding->normed, &p->embedding->norm, p->model, D,
                      batch);
    esp_norm_to_sink(sink, ESP_NO_LAYER, ESP_SLOT_EMBED_NORM, buffer, &p->embedding->norm, D,
                     batch);
    memcpy(dx, spare, bytes);
}

void esp_embedding_backward(float *dx, float *spare, esp_pass *p, const esp_sink *sink,
                            const esp_batch *batch)
{
    const esp_model *m = p->model;

    for (size_t i = m->arch->n_embedding; i-- > 0;) {
        const esp_op *op = &m->arch->embedding[i];

        if (op->kind == ESP_OP_SCALE) {
            scale_by(dx, m->embed_scale, batch->n_tok * m->dims.hidden);
        } else if (op->kind == ESP_OP_NORM) {
            norm_backward(dx, spare, p, sink, batch);
        } else if (sink && sink->lookup) {
            sink->lookup(sink->ctx, op->slot, rows_of(p, op->slot, batch), dx);
        }
    }
}
