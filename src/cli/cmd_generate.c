/* cmd_generate.c - text from a model, as it comes. */
#include <stdlib.h>
#include <string.h>

#include "command_impl.h"
#include "espalier/eval.h"

typedef struct printer {
    const esp_tokenizer *tokenizer;
    esp_ids ids;     /* prompt and what was made                */
    size_t n_prompt; /* ids of the prompt, once it is printed   */
    size_t from;     /* first id of the text                    */
    char *text;      /* owned; of the ids, when it was printed  */
    size_t printed;  /* bytes of it                             */
} printer;

#define UNREADABLE "\xEF\xBF\xBD" /* U+FFFD, for bytes that are no character yet */

static esp_status text_of(const printer *p, char **text, size_t *n)
{
    return esp_tokenizer_decode(p->tokenizer, text, n, p->ids.id + p->from, p->ids.n - p->from,
                                true);
}

/* Prints what the text of all ids has beyond that printed so far; unless it is the last, without what
 * more ids may still make a character of. */
static void print_text(printer *p, bool last)
{
    char *text;
    size_t n;

    if (p->ids.n == p->from ||
        (!last && esp_tokenizer_is_byte(p->tokenizer, p->ids.id[p->ids.n - 1])) ||
        text_of(p, &text, &n) != ESP_OK) { /* an id that the tokenizer does not have: no text */
        return;
    }
    if (n < p->printed || (p->printed > 0 && memcmp(text, p->text, p->printed) != 0)) {
        /* bytes that make no character spoil those of the prompt before them: its text stands */
        free(text);
        p->from = p->n_prompt;
        p->printed = 0;
        print_text(p, last);
        return;
    }
    while (!last && n >= 3 && memcmp(text + n - 3, UNREADABLE, 3) == 0) {
        n -= 3;
    }
    if (n > p->printed) {
        fwrite(text + p->printed, 1, n - p->printed, stdout);
        fflush(stdout);
        p->printed = n;
    }
    free(p->text);
    p->text = text;
}

static void print_id(void *ctx, int32_t id)
{
    printer *p = ctx;

    esp_ids_add(&p->ids, id);
    print_text(p, false);
}

static esp_status generate(const esp_config *c, const esp_model *m, const esp_tokenizer *t)
{
    const char *prompt = c->generate_prompt;
    printer p = { .tokenizer = t };
    esp_ids ids = { 0 };
    esp_status st = esp_tokenizer_encode_prompt(t, &ids, prompt, strlen(prompt));

    for (size_t i = 0; st == ESP_OK && i < ids.n; i++) {
        esp_ids_add(&p.ids, ids.id[i]);
    }
    print_text(&p, true);
    p.n_prompt = p.ids.n;
    if (st == ESP_OK) {
        st = esp_generate(&ids, m, &c->generate, print_id, &p);
        print_text(&p, true);
        putchar('\n');
        fflush(stdout); /* before an error is told */
    }
    free(p.text);
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
    st = esp_agree(in->grid->world, esp_model_use_ratio(&m, c->rope_ratio));
    st = st == ESP_OK ? esp_tokenizer_open(&t, c->model) : st;
    if (st == ESP_OK && in->grid->rank == 0) {
        st = generate(c, &m, t);
    }
    esp_tokenizer_free(t);
    esp_model_free(&m);
    return st;
}
