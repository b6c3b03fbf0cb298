/* tiny_model.h - options of a tiny model folder for tests of what is read and written. */
#ifndef ESPALIER_TEST_TINY_MODEL_H
#define ESPALIER_TEST_TINY_MODEL_H

#include "espalier/synth.h"

static const esp_synth_options tiny = {
    .model_type = "qwen2",
    .hidden = 32,
    .mlp = 48,
    .layers = 2,
    .heads = 4,
    .kv_heads = 2,
    .vocab = 40,
    .max_positions = 64,
    .dtype = ESP_F32,
    .std = 0.1,
    .rope_theta = 10000,
    .seed = 5,
};

#endif
