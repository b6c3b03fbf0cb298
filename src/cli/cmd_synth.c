/* cmd_synth.c - a model folder of any shape with random weights. */
#include "command_impl.h"
#include "espalier/log.h"
#include "espalier/synth.h"

esp_status cmd_synth(const esp_invocation *in)
{
    const esp_config *c = in->config;
    esp_synth_options o = {
        .model_type = c->synth.model_type,
        .hidden = c->synth.hidden,
        .mlp = c->synth.mlp,
        .layers = c->synth.layers,
        .heads = c->synth.heads,
        .kv_heads = c->synth.kv_heads,
        .head_dim = c->synth.head_dim,
        .vocab = c->synth.vocab,
        .max_positions = c->synth.positions,
        .tied = c->synth.tied,
        .dtype = (esp_dtype)c->synth.dtype,
        .std = c->synth.std,
        .rope_theta = c->synth.rope_theta,
        .seed = c->seed,
    };

    ESP_TRY(esp_config_need(c, "synth.output"));
    ESP_TRY(esp_synth(c->synth.output, &o, in->grid->world));
    esp_info("synth: %s", c->synth.output);
    return ESP_OK;
}
