/* merge.c - a tensor source of W + scale B A, computed row by row as the writer asks for it. */
#include "espalier/merge.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/reshape.h"

typedef struct merge {
    const esp_model *model;
    const esp_adapter *adapter; /* NULL: none */
    esp_model shape;            /* model as written: the types its weights had before training */
    float *rows;                /* [esp_model_save_numbers] scratch, owned */
} merge;

/* rows += scale * B A for rows first .. first + n of a weight with `cols` columns. */
static void add_product(float *rows, const esp_adapter *a, const esp_lora *lora, size_t first,
                        size_t n, size_t cols)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < a->rank; k++) {
            float b = a->scale * lora->b[(first + i) * a->rank + k];

            for (size_t c = 0; c < cols; c++) {
                rows[i * cols + c] += b * lora->a[k * cols + c];
            }
        }
    }
}

static esp_status merged_rows(void *ctx, void *out, const esp_tensor_ref *t, size_t first, size_t n)
{
    merge *g = ctx;
    bool bias = t->part == ESP_PART_BIAS;
    const esp_weight *w = esp_model_weight(g->model, t->layer, t->slot);
    const esp_lora *lora = bias ? NULL : esp_adapter_at(g->adapter, t->layer, t->slot);
    size_t cols = t->shape[1], n_all = n * cols;
    const char *from = bias ? w->bias : w->data;

    from += first * cols * esp_dtype_size(w->dtype);
    esp_to_f32(g->rows, from, w->dtype, n_all);
    if (lora) {
        add_product(g->rows, g->adapter, lora, first, n, cols);
    }
    esp_from_f32(out, esp_tensor_ref_dtype(t), g->rows, n_all);
    return ESP_OK;
}

esp_status esp_merge(char digest[ESP_DIGEST_SIZE], esp_output to, const esp_model *m,
                     const esp_params *p, const esp_adapter *a, MPI_Comm comm)
{
    merge g = { .model = m, .adapter = a && a->lora ? a : NULL };
    esp_status st;

    esp_model_reshape(&g.shape, m, &m->dims);
    if (p) {
        esp_params_restore_types(&g.shape, p);
    }
    ESP_NEW(g.rows, esp_model_save_numbers(&g.shape));
    st = esp_model_save(digest, to, &g.shape, merged_rows, &g, m->dir, comm);
    esp_model_free(&g.shape);
    free(g.rows);
    return st;
}

size_t esp_merge_bytes(const esp_model *m, const esp_writer *writer)
{
    return esp_model_bytes(m) + esp_calloc_bytes(esp_model_save_numbers(m), sizeof(float)) +
           esp_model_save_bytes(m, writer);
}
