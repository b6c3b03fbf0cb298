/* cmd_generate.c - text from a model, as it comes. */
#include <stdlib.h>
#include <string.h>

#include "command_impl.h"
#include "espalier/eval.h"

typedef struct printer {
    const esp_tokenizer *tokenizer;
    esp_ids ids;    /* prompt and what was made */
    size_t printed; /* bytes of their text      */
} printer;

/* The text of one more id: what the text of all ids has beyond that printed so far. */
static void print_id(void *ctx, int32_t id)
{
    printer *p = ctx;
    char *text;
    size_t n;

    esp_ids_add(&p->ids, id);
    if (esp_tokenizer_decode(p->tokenizer, &text, &n, p->ids.id, p->ids.n, true) != ESP_OK) {
        return; /* an id of the model that the tokenizer does not have: no text */
    }
    if (n > p->printed) {
        fwrite(text + p->printed, 1, n - p->printed, stdout);
        fflush(stdout);
        p->printed = n;
    }
    free(text);
}

static esp_status generate(const esp_config *c, const esp_model *m, const esp_tokenizer *t)
{
    const char *prompt = c->generate.prompt;
    esp_generate_options o = {
        .tokens = c->generate.tokens,
        .temperature = c->generate.temperature,
        .top_p = c->generate.top_p,
        .seed = c->seed,
    };
    printer p = { .tokenizer = t };
    esp_ids ids = { 0 };
    esp_status st = esp_tokenizer_encode_prompt(t, &ids, prompt, strlen(prompt));

    for (size_t i = 0; st == ESP_OK && i < ids.n; i++) {
        print_id(&p, ids.id[i]);
    }
    if (st == ESP_OK) {
        st = esp_generate(&ids, m, &o, print_id, &p);
        putchar('\n');
    }
    esp_ids_free(&p.ids);
    esp_ids_free(&ids);
    return st;
}

esp_status cmd_generate(const esp_invocation *in)
{
    const esp_config *c = in->config;
    esp_model m = { 0 };
    esp_tokenizer *t = NULL;
    esp_status st;

    ESP_TRY(esp_config_need(c, "model"));
    ESP_TRY(esp_model_load(&m, c->model, in->grid->world));
    st = esp_agree(in->grid->world, esp_model_use_ratio(&m, (esp_ratio_use)c->rope_ratio));
    st = st == ESP_OK ? esp_tokenizer_open(&t, c->model) : st;
    if (st == ESP_OK && in->grid->rank == 0) {
        st = generate(c, &m, t);
    }
    esp_tokenizer_free(t);
    esp_model_free(&m);
    return st;
}
