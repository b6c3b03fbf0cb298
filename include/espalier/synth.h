/* synth.h - a model folder of any shape with random weights, for scale tests and training from scratch. */
#ifndef ESPALIER_SYNTH_H
#define ESPALIER_SYNTH_H

#include "espalier/tensor_writer.h"

typedef struct esp_synth_options {
    const char
        *model_type; /* or the name of one of several families that share it, see esp_arch_names */
    size_t hidden, mlp, layers, heads;
    size_t kv_heads; /* 0: heads          */
    size_t head_dim; /* 0: hidden / heads */
    size_t vocab, max_positions;
    bool tied;
    esp_dtype dtype;
    double std; /* of matrices and biases, around 0; norms multiply by 1 + 0.1 normal */
    double rope_theta;
    uint64_t seed;
} esp_synth_options;

/* Writes config.json and weights to a folder, streamed: memory does not grow with the model. An element
 * depends on the seed, its tensor and its index alone, not on the number of ranks. "Normal" is the sum
 * of four 16-bit uniform numbers, made from one hash: it ends at 3.46 deviations. ESP_EUSAGE for a name
 * that is no family, or sizes that the family derives otherwise or that are no model; errors of
 * esp_model_save. Collective on comm. */
esp_status esp_synth(esp_output to, const esp_synth_options *o, MPI_Comm comm);

/* m [out, owned]: the model that esp_synth would write, shapes only. ESP_EUSAGE likewise, *m
 * is {0} then. Local. */
esp_status esp_synth_shape(esp_model *m, const esp_synth_options *o);

#endif
