/* measure_perplexity.c - perplexity, accuracy and speed over the windows of a text. */
#include <inttypes.h>
#include <math.h>

#include "espalier/log.h"
#include "measures_impl.h"

static esp_status run(json_t *fields, const esp_eval_input *in)
{
    json_t *perplexity;
    esp_eval e;

    if (in->texts->samples.n == 0 && in->texts->n_tasks > 0) {
        return ESP_OK;
    }
    ESP_TRY(esp_evaluate(&e, in->model, NULL, &in->texts->samples, in->max_tok, in->grid));
    esp_info("eval: %s: perplexity %.4f over %" PRId64 " tokens", in->name, e.perplexity, e.tokens);
    perplexity = isfinite(e.perplexity) ? json_real(e.perplexity) : json_null();
    json_object_update_new(fields, json_pack("{s:f, s:o, s:f, s:I, s:f, s:f, s:I}", "loss", e.loss,
                                             "perplexity", perplexity, "accuracy", e.accuracy,
                                             "tokens", (json_int_t)e.tokens, "seconds", e.seconds,
                                             "tokens_per_second", e.tok_per_second, "peak_resident",
                                             (json_int_t)e.peak_resident));
    return ESP_OK;
}

const esp_eval_measure esp_measure_perplexity = { .run = run,
                                                  .columns = {
                                                      { "perplexity", "perplexity", 12, 4 },
                                                      { "accuracy", "accuracy", 9, 4 },
                                                      { "seconds", "seconds", 9, 2 } } };
