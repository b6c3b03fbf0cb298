/* tokenizer_pair.c - vocab.json and merges.txt, the byte-level BPE of GPT-2 before tokenizer.json. */
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "json_impl.h"
#include "tokenizer_impl.h"

#define GPT2_END "<|endoftext|>" /* BOS and EOS where no file names them */

/* Lines "a b" as a list of strings; a first line "#version: ..." is none of them. */
static esp_status read_merges(json_t *list, const char *path)
{
    char *text;
    size_t n;
    esp_status st = ESP_OK;

    ESP_TRY(esp_file_read(&text, &n, path));
    for (size_t at = 0, line = 1; at < n && st == ESP_OK; line++) {
        size_t length = strcspn(text + at, "\r\n");
        bool counts = length > 0 && !(line == 1 && strncmp(text, "#version", 8) == 0);

        if (counts && json_array_append_new(list, json_stringn(text + at, length)) != 0) {
            st = esp_fail(ESP_EFORMAT, "%s: line %zu: is not UTF-8", path, line);
        }
        at += length + 1;
    }
    free(text);
    return st;
}

/* The two files and the setting as the tokenizer.json that they amount to. */
static json_t *whole_file(json_t *vocab, json_t *merges, const json_t *config)
{
    return json_pack("{s:{s:s, s:O, s:O}, s:{s:s, s:b}, s:{s:s}}", "model", "type", "BPE", "vocab",
                     vocab, "merges", merges, "pre_tokenizer", "type", "ByteLevel",
                     "add_prefix_space", (int)esp_json_bool(config, "add_prefix_space", false),
                     "decoder", "type", "ByteLevel");
}

static esp_status read_both(esp_tokenizer *t, const json_t *config, const char *vocab_path,
                            const char *merges_path)
{
    json_t *vocab = NULL, *merges = json_array(), *root = NULL;
    bool has_template = false;
    esp_status st = esp_json_read(&vocab, vocab_path);

    st = st == ESP_OK ? read_merges(merges, merges_path) : st;
    if (st == ESP_OK) {
        root = whole_file(vocab, merges, config);
        st = esp_tokenizer_read_root(t, root, vocab_path, &has_template);
    }
    json_decref(root);
    json_decref(merges);
    json_decref(vocab);
    return st;
}

static esp_status read_end(esp_tokenizer *t, const char *path)
{
    int32_t id = esp_tokenizer_find(t, GPT2_END);
    json_t *token = json_pack("{s:s, s:b}", "content", GPT2_END, "special", 1);
    esp_status st = id < 0 ? ESP_OK : esp_tokenizer_add_token(t, token, id, path, GPT2_END);

    t->bos = t->eos = id;
    json_decref(token);
    return st;
}

esp_status esp_tokenizer_read_pair(esp_tokenizer *t, const char *dir)
{
    char *vocab = esp_path(dir, "vocab.json"), *merges = esp_path(dir, "merges.txt"),
         *path = esp_path(dir, "tokenizer_config.json");
    json_t *config = NULL;
    esp_status st = esp_json_read_optional(&config, path);

    st = st == ESP_OK ? read_both(t, config, vocab, merges) : st;
    st = st == ESP_OK ? read_end(t, vocab) : st;
    json_decref(config);
    free(vocab);
    free(merges);
    free(path);
    ESP_TRY(st);
    ESP_TRY(esp_tokenizer_read_added(t, dir));
    ESP_TRY(esp_tokenizer_add_named(t, dir));
    return esp_tokenizer_read_rules(t, dir, false, false);
}
