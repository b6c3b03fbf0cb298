/* params.h - the trained numbers of a recovery as one flat vector: the LoRA matrices, or all weights.
 *
 * Everything after the backward (sum over ranks, clipping, AdamW, checkpoint) works on flat arrays and
 * knows no names; the table of entries says which part is which.
 */
#ifndef ESPALIER_PARAMS_H
#define ESPALIER_PARAMS_H

#include "espalier/pass.h"

typedef struct esp_entry {
    char *name;   /* tensor name, owned: "model.layers.0.self_attn.q_proj.lora_A" or "...weight" */
    size_t layer; /* ESP_NO_LAYER outside the blocks */
    int slot;
    size_t begin, n; /* part of the vectors            */
    size_t shape[2]; /* shape[1] = 0 for a vector      */
    bool decays;     /* weight decay applies           */
} esp_entry;

typedef struct esp_params {
    esp_entry *
        entries; /* [n_entries] owned; by layer, so that a block's gradients lie together; then the rest */
    size_t n_entries;
    size_t n;                           /* numbers altogether */
    float *value, *grad, *m, *v, *best; /* [n] each, owned: AdamW's moments, best values so far */
} esp_params;

/* LoRA: A from a normal distribution of variance 1/n_in... as PEFT (Kaiming uniform, a = sqrt 5), B zero;
 * from the seed and the entry, the same on every rank. adapter points into the vectors afterwards.
 * targets: bit set of slots. Local. */
void esp_params_lora(esp_params *p, esp_adapter *adapter, const esp_model *m, uint64_t targets,
                     uint64_t seed);

/* All weights of m in f32; the model's weights point at p->value afterwards, which must outlive it. Local. */
void esp_params_full(esp_params *p, esp_model *m);

void esp_params_free(esp_params *p); /* safe twice and on {0} */

#endif
