/* reshape.c - the shapes and config.json of a model with other sizes. */
#include "espalier/reshape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "model/model_impl.h"

static void *copy_of(const void *p, size_t n, size_t size)
{
    return n ? memcpy(esp_calloc(n, size), p, n * size) : NULL;
}

void esp_model_reshape(esp_model *to, const esp_model *from, const esp_dims *dims)
{
    size_t n;
    esp_tensor_ref *refs;

    ESP_REQUIRE(dims->n_layers <= from->dims.n_layers && dims->head_dim == from->dims.head_dim);
    *to = *from;
    to->head_and_norm = to->block = NULL; /* what is owned is made anew, all else is the same */
    to->files = NULL;
    to->n_files = 0;
    to->slopes = NULL;
    to->dims = *dims;
    to->embed_scale = sqrtf((float)dims->hidden);
    to->residual_scale = esp_residual_scale(from->arch, dims->n_layers);
    to->config = json_deep_copy(from->config);
    to->dir = esp_strdup(from->dir);
    to->dims.layer = copy_of(dims->layer, dims->n_layers, sizeof *dims->layer);
    esp_rope_copy(&to->rope, &from->rope);
    esp_config_write(to->config, from->arch, dims);
    to->arch = esp_config_arch(to->config);
    esp_model_keep_heads(to, from, NULL, NULL);
    esp_model_make_weights(to);
    refs = esp_model_tensors(&n, to);
    for (size_t i = 0; i < n; i++) {
        esp_model_weight_at(to, refs[i].layer, refs[i].slot)->dtype =
            esp_model_weight(from, refs[i].layer, refs[i].slot)->dtype;
    }
    free(refs);
}
