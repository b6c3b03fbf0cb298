/* cmd_tokenize.c - a corpus as a token file, read faster and without a tokenizer later. */
#include <stdlib.h>

#include "command_impl.h"
#include "espalier/corpus.h"
#include "espalier/estimate.h"
#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/place.h"

static esp_status tokenize(const esp_config *c, const char *output, bool replace)
{
    const char *corpus_path = c->tokenize.corpus;
    esp_corpus corpus = { 0 };
    esp_tokenizer *tokenizer = NULL;
    esp_status st = esp_place_check(c->model);

    if (st == ESP_OK && esp_tokens_made(corpus_path)) {
        st = esp_fail(ESP_EUSAGE,
                      "tokenize.corpus: %s: is a token file already: give it to "
                      "calibration.corpus, recover.corpus or eval.corpus",
                      corpus_path);
    }
    if (st == ESP_OK) {
        st = *c->tokenize.output || esp_dir_exists(c->run_dir)
                 ? esp_output_check(output, "a token file that espalier made",
                                    replace && esp_tokens_made(output))
                 : esp_dir_check(c->run_dir);
    }
    if (st == ESP_OK) {
        st = esp_tokenizer_open(&tokenizer, c->model);
    }
    if (st == ESP_OK) {
        st = esp_corpus_read(&corpus, corpus_path, *c->tokenize.field ? c->tokenize.field : NULL);
    }
    if (st == ESP_OK && !*c->tokenize.output) {
        st = esp_mkdirs(c->run_dir);
    }
    if (st == ESP_OK) {
        st = esp_tokens_save(output, &corpus, tokenizer, corpus_path);
    }
    if (st == ESP_OK) {
        esp_info("tokenize: %zu documents of %s in %s", corpus.n, corpus_path, output);
    }
    esp_corpus_free(&corpus);
    esp_tokenizer_free(tokenizer);
    return st;
}

esp_status cmd_tokenize(const esp_invocation *in)
{
    const esp_config *c = in->config;
    esp_limit limit;
    char *output;
    esp_status st;

    ESP_TRY(esp_config_need(c, "model"));
    ESP_TRY(esp_config_need(c, "tokenize.corpus"));
    ESP_TRY(esp_config_need(c, *c->tokenize.output ? "tokenize.output" : "run_dir"));
    output =
        *c->tokenize.output ? esp_strdup(c->tokenize.output) : esp_path(c->run_dir, "tokens.h5");
    esp_limit_begin(&limit, c, in->grid->world);
    st = in->grid->rank == 0 ? tokenize(c, output, in->force) : ESP_OK;
    esp_limit_hold(NULL);
    free(output);
    return st;
}
