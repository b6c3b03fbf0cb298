/* tokenizer_pair.c - vocab.json and merges.txt, the byte-level BPE of GPT-2 and Qwen2 without
 * tokenizer.json. */
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

/* The split of Qwen2. */
#define QWEN2_PATTERN                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| " \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"                                      \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static json_t *byte_level(bool prefix, bool regex)
{
    return json_pack("{s:s, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", (int)prefix,
                     "use_regex", (int)regex);
}

/* The two files and the setting as the tokenizer.json that they amount to. */
static json_t *whole_file(json_t *vocab, json_t *merges, const json_t *config, bool qwen2)
{
    bool prefix = esp_json_bool(config, "add_prefix_space", false);
    json_t *root = json_pack("{s:{s:s, s:O, s:O}, s:{s:s}}", "model", "type", "BPE", "vocab", vocab,
                             "merges", merges, "decoder", "type", "ByteLevel");

    if (qwen2) {
        json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
        json_object_set_new(root, "pre_tokenizer",
                            json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence",
                                      "pretokenizers", "type", "Split", "pattern", "Regex",
                                      QWEN2_PATTERN, "behavior", "Isolated", "invert", 0,
                                      byte_level(prefix, false)));
    } else {
        json_object_set_new(root, "pre_tokenizer", byte_level(prefix, true));
    }
    return root;
}

/* Which class of transformers the folder means; those that the files alone do not tell about are
 * refused. */
static esp_status read_class(bool *qwen2, const json_t *config, const json_t *model,
                             const char *path)
{
    bool qwen = strncmp(esp_json_string(model, "model_type", ""), "qwen", 4) == 0;
    const char *name =
        esp_json_string(config, "tokenizer_class", qwen ? "Qwen2Tokenizer" : "GPT2Tokenizer");
    size_t n = strlen(name);

    n -= n > 4 && strcmp(name + n - 4, "Fast") == 0 ? 4 : 0;
    *qwen2 = n == 14 && strncmp(name, "Qwen2Tokenizer", n) == 0;
    if (!*qwen2 && !(n == 13 && strncmp(name, "GPT2Tokenizer", n) == 0)) {
        return esp_json_refuse(path, "tokenizer_class", json_object_get(config, "tokenizer_class"),
                               "vocab.json and merges.txt are read for GPT2Tokenizer and "
                               "Qwen2Tokenizer; for others tokenizer.json is needed");
    }
    return ESP_OK;
}

static esp_status read_both(esp_tokenizer *t, const json_t *config, bool qwen2,
                            const char *vocab_path, const char *merges_path)
{
    json_t *vocab = NULL, *merges = json_array(), *root = NULL;
    bool has_template = false;
    esp_status st = esp_json_read(&vocab, vocab_path);

    st = st == ESP_OK ? read_merges(merges, merges_path) : st;
    if (st == ESP_OK) {
        root = whole_file(vocab, merges, config, qwen2);
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
         *path = esp_path(dir, "tokenizer_config.json"), *model_path = esp_path(dir, "config.json");
    json_t *config = NULL, *model = NULL;
    bool qwen2 = false;
    esp_status st = esp_json_read_optional(&config, path);

    st = st == ESP_OK ? esp_json_read_optional(&model, model_path) : st;
    st = st == ESP_OK ? read_class(&qwen2, config, model, path) : st;
    st = st == ESP_OK ? read_both(t, config, qwen2, vocab, merges) : st;
    st = st == ESP_OK ? read_end(t, vocab) : st;
    json_decref(model);
    json_decref(config);
    free(model_path);
    free(vocab);
    free(merges);
    free(path);
    ESP_TRY(st);
    ESP_TRY(esp_tokenizer_read_added(t, dir));
    ESP_TRY(esp_tokenizer_add_named(t, dir));
    return esp_tokenizer_read_rules(t, dir, false, false);
}
