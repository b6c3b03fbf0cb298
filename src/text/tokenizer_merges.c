/* tokenizer_merges.c - tokenizer.model as the tokenizer.json that classes of transformers make of it: its
 * pieces are a vocabulary, every way to put a piece together from two others is a merge, and what the model
 * itself says of normalizing is left aside. */
#include <stdlib.h>
#include <string.h>

#include "json_impl.h"
#include "tokenizer_impl.h"

static esp_status read_vocabulary(json_t *vocab, esp_dict *ids, const esp_sp *sp, const char *path)
{
    for (int32_t id = 0; (size_t)id < esp_sp_size(sp); id++) {
        const char *piece = esp_sp_piece(sp, id);

        if (json_object_set_new(vocab, piece, json_integer(id)) != 0) {
            return esp_fail(ESP_EFORMAT, "%s: piece %d is not UTF-8", path, id);
        }
        esp_dict_put(ids, piece, strlen(piece), id);
    }
    return ESP_OK;
}

/* By the piece that they make, then by the length of the left part. */
static json_t *merges_of(const esp_sp *sp, const esp_dict *ids)
{
    json_t *merges = json_array();

    for (int32_t id = 0; (size_t)id < esp_sp_size(sp); id++) {
        const char *piece = esp_sp_piece(sp, id);
        size_t n = strlen(piece);

        for (size_t at = 0; at < n;) {
            at += esp_utf8_length(piece + at, n - at);
            if (at < n && esp_dict_get(ids, piece, at) >= 0 &&
                esp_dict_get(ids, piece + at, n - at) >= 0) {
                json_array_append_new(merges, json_pack("[s%, s%]", piece, at, piece + at, n - at));
            }
        }
    }
    return merges;
}

static json_t *metaspace(esp_merges_class class, const json_t *config)
{
    bool prefix = esp_json_bool(config, "add_prefix_space", true);
    bool every = class == ESP_MERGES_LLAMA && esp_tokenizer_legacy(config, false);

    return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", ESP_METASPACE,
                     "prepend_scheme",
                     !prefix ? "never"
                     : every ? "always"
                             : "first",
                     "split", 0);
}

/* Tokens lose the space before the text unless the class puts none there. */
static json_t *decoder_of(esp_merges_class class, const json_t *config)
{
    bool strip = class == ESP_MERGES_CODE_LLAMA ||
                 (class == ESP_MERGES_LLAMA && esp_json_bool(config, "add_prefix_space", true));

    return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}, {s:s, s:s, s:i, s:i}]}", "type",
                     "Sequence", "decoders", "type", "Replace", "pattern", "String", ESP_METASPACE,
                     "content", " ", "type", "ByteFallback", "type", "Fuse", "type", "Strip",
                     "content", " ", "start", (int)strip, "stop", 0);
}

static json_t *whole_file(esp_merges_class class, json_t *vocab, json_t *merges,
                          const json_t *config)
{
    json_t *root =
        json_pack("{s:{s:s, s:O, s:O, s:b, s:b, s:s?}, s:o}", "model", "type", "BPE", "vocab",
                  vocab, "merges", merges, "fuse_unk", 1, "byte_fallback", 1, "unk_token",
                  class == ESP_MERGES_LLAMA ? NULL : "<unk>", "decoder", decoder_of(class, config));

    if (class == ESP_MERGES_GEMMA) {
        json_object_set_new(root, "normalizer",
                            json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String",
                                      " ", "content", ESP_METASPACE));
        json_object_set_new(root, "pre_tokenizer",
                            json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern",
                                      "String", " ", "behavior", "MergedWithPrevious", "invert",
                                      0));
    } else {
        json_object_set_new(root, "pre_tokenizer", metaspace(class, config));
    }
    return root;
}

/* Pieces that are sought in text, whatever the folder's other files say. */
static esp_status add_tokens(esp_tokenizer *t, const esp_sp *sp, const char *path)
{
    for (int32_t id = 0; (size_t)id < esp_sp_size(sp); id++) {
        esp_sp_kind kind = esp_sp_kind_of(sp, id);

        if (kind != ESP_SP_NORMAL) {
            json_t *token = json_pack("{s:s, s:b}", "content", esp_sp_piece(sp, id), "special",
                                      kind != ESP_SP_USER);
            esp_status st = esp_tokenizer_add_token(t, token, id, path, "a control piece");

            json_decref(token);
            ESP_TRY(st);
        }
    }
    return ESP_OK;
}

esp_status esp_tokenizer_read_merges(esp_tokenizer *t, const esp_sp *sp, esp_merges_class class,
                                     const char *dir, const char *path, const json_t *config)
{
    json_t *vocab = json_object(), *merges = NULL, *root = NULL;
    esp_dict ids = { 0 };
    bool has_template = false;
    esp_status st = read_vocabulary(vocab, &ids, sp, path);

    if (st == ESP_OK && class == ESP_MERGES_GEMMA && esp_dict_get(&ids, "<bos>", 5) < 0) {
        st =
            esp_fail(ESP_EFORMAT, "%s: has no piece <bos>, as models of GemmaTokenizer have", path);
    }
    if (st == ESP_OK) {
        merges = merges_of(sp, &ids);
        root = whole_file(class, vocab, merges, config);
        st = esp_tokenizer_read_root(t, root, path, &has_template);
    }
    esp_dict_free(&ids);
    json_decref(root);
    json_decref(merges);
    json_decref(vocab);
    ESP_TRY(st);
    ESP_TRY(esp_tokenizer_read_added(t, dir));
    ESP_TRY(add_tokens(t, sp, path));
    return esp_tokenizer_add_named(t, dir);
}
