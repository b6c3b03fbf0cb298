/* cmd_synth.c - made-up inputs: a model folder of any shape with random weights, a corpus, a tokenizer. */
#include "command_impl.h"
#include "espalier/corpus.h"
#include "espalier/exporters.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/grammar.h"
#include "espalier/log.h"
#include "espalier/run.h"

enum { MODEL, CORPUS, TOKENIZER }; /* synth.kind */

static esp_status write_model(const esp_invocation *in)
{
    const char *dir = in->config->synth_output;
    esp_status st = ESP_OK;

    if (in->grid->rank == 0 && !in->force && esp_folder_has_files(dir)) {
        st = esp_fail(
            ESP_EUSAGE,
            "%s: is there already: take another name, or -f to replace what espalier made", dir);
    }
    ESP_TRY(esp_agree(in->grid->world, st));
    return esp_synth(esp_export_to(dir, "huggingface"), &in->config->synth, in->grid->world);
}

/* One rank writes, for all. */
static esp_status write_corpus(const esp_invocation *in)
{
    const esp_config *c = in->config;
    double nats_per_byte;

    if (in->grid->rank != 0) {
        return ESP_OK;
    }
    ESP_TRY(esp_output_check(c->synth_output, "stories that espalier made of the same seed",
                             in->force && esp_grammar_made(c->synth_output, c->seed)));
    ESP_TRY(esp_grammar_write(c->synth_output, c->synth_stories, c->seed, &nats_per_byte));
    esp_info("synth: %zu stories, entropy %.5f nats per byte", c->synth_stories, nats_per_byte);
    return ESP_OK;
}

static esp_status write_tokenizer(const esp_invocation *in)
{
    const esp_config *c = in->config;

    ESP_TRY(esp_config_need(c, "synth.corpus"));
    return in->grid->rank == 0
               ? esp_tokenizer_train(c->synth_output, c->synth_corpus, c->synth.vocab, in->force)
               : ESP_OK;
}

static esp_status check_output(const esp_invocation *in)
{
    const char *output = in->config->synth_output;
    esp_status st = in->grid->rank == 0 ? esp_run_check_apart(output) : ESP_OK;

    if (st == ESP_OK && in->grid->rank == 0 && in->config->synth_kind != CORPUS) {
        st = esp_dir_check(output);
    }
    return st == ESP_OK ? ESP_OK : esp_fail_in(st, "synth.output");
}

esp_status cmd_synth(const esp_invocation *in)
{
    static esp_status (*const write[])(const esp_invocation *) = {
        [MODEL] = write_model, [CORPUS] = write_corpus, [TOKENIZER] = write_tokenizer
    };

    ESP_TRY(esp_config_need(in->config, "synth.output"));
    ESP_TRY(esp_agree(in->grid->world, check_output(in)));
    ESP_TRY(esp_agree(in->grid->world, write[in->config->synth_kind](in)));
    esp_info("synth: %s", in->config->synth_output);
    return ESP_OK;
}
