/* measure_cost.c - what a model costs: parameters, multiply-accumulates, bytes (docs/method.md, eq. 19). */
#include "measures_impl.h"

static esp_status run(json_t *fields, const esp_eval_input *in)
{
    esp_cost c = esp_model_cost(in->model, ESP_MACS_TOKENS);

    json_object_update_new(fields,
                           json_pack("{s:I, s:I, s:I}", "parameters", (json_int_t)c.parameters,
                                     "macs", (json_int_t)c.macs, "bytes", (json_int_t)c.bytes));
    return ESP_OK;
}

const esp_eval_measure esp_measure_cost = { .run = run,
                                            .columns = { { "parameters", "parameters", 15, 0 },
                                                         { "MACs (64 tokens)", "macs", 18, 0 } } };
