/* measure_perplexity.c - perplexity, accuracy and speed over the windows of a text; of further texts, too. */
#include <inttypes.h>
#include <math.h>

#include "espalier/log.h"
#include "measures_impl.h"

static json_t *fields_of(const esp_eval *e)
{
    json_t *perplexity = isfinite(e->perplexity) ? json_real(e->perplexity) : json_null();

    return json_pack("{s:f, s:o, s:f, s:I}", "loss", e->loss, "perplexity", perplexity, "accuracy",
                     e->accuracy, "tokens", (json_int_t)e->tokens);
}

/* name: of the text; "" for that of eval.corpus. */
static esp_status evaluate(json_t **fields, esp_eval *e, const esp_eval_input *in, const char *name,
                           const esp_samples *s)
{
    ESP_TRY(esp_evaluate(e, in->model, NULL, s, in->max_tok, in->grid));
    esp_info("eval: %s: %s%sperplexity %.4f over %" PRId64 " tokens", in->name, name,
             *name ? ": " : "", e->perplexity, e->tokens);
    *fields = fields_of(e);
    return ESP_OK;
}

static esp_status run_corpora(json_t *fields, const esp_eval_input *in)
{
    const esp_eval_texts *t = in->texts;
    json_t *corpora = json_object(), *own;
    esp_status st = ESP_OK;
    esp_eval e;

    for (size_t i = 0; i < t->n_corpora && st == ESP_OK; i++) {
        st = evaluate(&own, &e, in, t->corpus[i].name, &t->corpus[i].samples);
        if (st == ESP_OK) {
            json_object_set_new(corpora, t->corpus[i].name, own);
        }
    }
    if (st == ESP_OK && t->n_corpora > 0) {
        json_object_set(fields, "corpora", corpora);
    }
    json_decref(corpora);
    return st;
}

static esp_status run(json_t *fields, const esp_eval_input *in)
{
    const esp_eval_texts *t = in->texts;
    json_t *own;
    esp_eval e;

    if (t->samples.n > 0 || t->n_tasks + t->n_corpora == 0) {
        ESP_TRY(evaluate(&own, &e, in, "", &t->samples));
        json_object_update_new(fields, own);
        json_object_update_new(fields, json_pack("{s:f, s:f, s:I}", "seconds", e.seconds,
                                                 "tokens_per_second", e.tok_per_second,
                                                 "peak_resident", (json_int_t)e.peak_resident));
    }
    return run_corpora(fields, in);
}

/* ---- table ---------------------------------------------------------------------------------------- */

static void print(FILE *to, const json_t *results, const char *const *names, size_t n)
{
    json_t *corpora = json_object_get(json_object_get(results, names[0]), "corpora"), *first;
    const char *corpus;

    if (corpora) {
        esp_print_titles(to, "perplexity", "tokens", results, names, n);
    }
    json_object_foreach(corpora, corpus, first)
    {
        fprintf(to, "%-26s %9.0f", corpus, json_number_value(json_object_get(first, "tokens")));
        for (size_t i = 0; i < n; i++) {
            const json_t *own = json_object_get(json_object_get(results, names[i]), "corpora");
            const json_t *value = json_object_get(json_object_get(own, corpus), "perplexity");

            if (value) {
                fprintf(to, "  %16.4f", json_is_null(value) ? INFINITY : json_number_value(value));
            }
        }
        fputc('\n', to);
    }
}

const esp_eval_measure esp_measure_perplexity = { .run = run,
                                                  .columns = { { "perplexity", "perplexity", 12,
                                                                 4 },
                                                               { "accuracy", "accuracy", 9, 4 },
                                                               { "seconds", "seconds", 9, 2 } },
                                                  .print = print };
