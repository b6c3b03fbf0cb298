/* norm.c - the norm of a family, forward and backward. */
#include "block_impl.h"

void esp_norm_forward(float *y, const float *x, const esp_f32 *f, const esp_model *m, size_t n_rows,
                      size_t n)
{
    if (m->arch->norm == ESP_NORM_LAYER) {
        esp_layernorm_forward(y, x, f->w, f->b, n_rows, n, m->norm_eps);
    } else {
        esp_rmsnorm_forward(y, x, f->w, n_rows, n, m->norm_eps);
    }
}

void esp_norm_backward(float *dx, float *buffer, const float *dy, const float *x, const esp_f32 *f,
                       const esp_model *m, size_t n, const esp_batch *batch)
{
    if (m->arch->norm == ESP_NORM_LAYER) {
        float *db = buffer ? buffer + batch->n_samples * n : NULL;

        esp_layernorm_backward(dx, buffer, db, dy, x, f->w, n, m->norm_eps, batch);
    } else {
        esp_rmsnorm_backward(dx, buffer, dy, x, f->w, n, m->norm_eps, batch);
    }
}

void esp_norm_to_sink(const esp_sink *sink, size_t layer, int slot, const float *buffer,
                      const esp_f32 *f, size_t n, const esp_batch *batch)
{
    if (buffer) {
        sink->norm(sink->ctx, layer, slot, buffer, f->b ? buffer + batch->n_samples * n : NULL,
                   batch->n_samples);
    }
}
