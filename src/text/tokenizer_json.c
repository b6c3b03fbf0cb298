/* tokenizer_json.c - tokenizer.json: vocabulary, merges, added tokens, the template around a text. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "json_impl.h"
#include "tokenizer_impl.h"

/* ---- model ----------------------------------------------------------------------------------------- */

static bool is_unset(const json_t *value)
{
    return !value || json_is_null(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

static esp_status check_model(const json_t *model, const char *path)
{
    const char *type = esp_json_string(model, "type", "BPE"); /* old files of GPT-2 name none */

    if (strcmp(type, "BPE") != 0) {
        return esp_json_refuse(path, "model.type", json_object_get(model, "type"),
                               "only BPE is supported; " ESP_ELSEWHERE);
    }
    if (!is_unset(json_object_get(model, "dropout"))) {
        return esp_json_refuse(path, "model.dropout", json_object_get(model, "dropout"),
                               "ids by chance are not supported; set it to null");
    }
    return esp_json_known(model,
                          "vocab merges dropout unk_token continuing_subword_prefix "
                          "end_of_word_suffix fuse_unk byte_fallback ignore_merges ",
                          path, "model");
}

static esp_status read_vocabulary(esp_tokenizer *t, const json_t *vocab, const char *path)
{
    const char *piece;
    json_t *value;

    if (json_object_size(vocab) == 0) {
        return esp_json_refuse(path, "model.vocab", vocab, "is to be {piece: id, ...}");
    }
    t->piece = esp_calloc(json_object_size(vocab), sizeof *t->piece);
    json_object_foreach((json_t *)(uintptr_t)vocab, piece, value)
    {
        int32_t id = esp_json_id(value);
        size_t n = strlen(piece);
        esp_status st = esp_tokenizer_set_piece(t, id, piece, n);

        if (st == ESP_OK) {
            t->token[id].byte = t->decoder.byte_fallback && esp_byte_piece(piece, n) >= 0;
        }
        if (st != ESP_OK) {
            return esp_fail_in(st, "%s: model.vocab: \"%s\"", path, piece);
        }
        t->piece[t->n_pieces] = esp_strdup(piece);
        esp_dict_put(&t->bpe.ids, t->piece[t->n_pieces++], n, id);
    }
    return ESP_OK;
}

/* "a b" or ["a", "b"] */
static bool read_pair(const json_t *merge, esp_byte_string *both, size_t *n_left)
{
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;

    both->n = 0;
    if (space) {
        *n_left = (size_t)(space - text);
        esp_bytes_add(both, text, *n_left);
        esp_bytes_add(both, space + 1, strlen(space + 1));
        return true;
    }
    if (json_is_string(left) && json_is_string(right) && json_array_size(merge) == 2) {
        *n_left = json_string_length(left);
        esp_bytes_add(both, json_string_value(left), *n_left);
        esp_bytes_add(both, json_string_value(right), json_string_length(right));
        return true;
    }
    return false;
}

static esp_status read_merge(esp_bpe *b, const json_t *value, esp_byte_string *both,
                             const char *path)
{
    size_t n_left, n_prefix = b->prefix ? strlen(b->prefix) : 0;
    esp_bpe_merge *m = &b->merges[b->n_merges];

    if (!read_pair(value, both, &n_left)) {
        return esp_json_refuse(path, "model.merges", value, "is to be \"a b\" or [\"a\", \"b\"]");
    }
    m->pair[0] = esp_dict_get(&b->ids, both->data, n_left);
    m->pair[1] = esp_dict_get(&b->ids, both->data + n_left, both->n - n_left);
    if (n_prefix > 0 && both->n >= n_left + n_prefix) { /* the right part loses its prefix */
        memmove(both->data + n_left, both->data + n_left + n_prefix, both->n - n_left - n_prefix);
        both->n -= n_prefix;
    }
    m->made = esp_dict_get(&b->ids, both->data, both->n);
    if (m->pair[0] < 0 || m->pair[1] < 0 || m->made < 0) {
        return esp_json_refuse(path, "model.merges", value,
                               "a part or the whole is not in model.vocab");
    }
    esp_dict_put(&b->ranks, m->pair, sizeof m->pair, (int32_t)b->n_merges++);
    return ESP_OK;
}

static esp_status read_merges(esp_bpe *b, const json_t *merges, const char *path)
{
    esp_byte_string both = { 0 };
    esp_status st = ESP_OK;

    if (!json_is_array(merges) || json_array_size(merges) > INT32_MAX) {
        return esp_json_refuse(path, "model.merges", merges, "is to be a list");
    }
    ESP_NEW(b->merges, json_array_size(merges)); /* never moves: its pairs are keys */
    for (size_t i = 0; i < json_array_size(merges) && st == ESP_OK; i++) {
        st = read_merge(b, json_array_get(merges, i), &both, path);
    }
    esp_bytes_free(&both);
    return st;
}

static char *read_affix(const json_t *model, const char *field)
{
    const char *text = esp_json_string(model, field, "");

    return *text ? esp_strdup(text) : NULL;
}

static esp_status read_unknown(esp_bpe *b, const json_t *model, const char *path)
{
    const char *unk = esp_json_string(model, "unk_token", "");

    b->unk = esp_dict_get(&b->ids, unk, strlen(unk));
    if (*unk && b->unk < 0) {
        return esp_json_refuse(path, "model.unk_token", json_object_get(model, "unk_token"),
                               "is not in model.vocab");
    }
    b->fuse_unk = esp_json_bool(model, "fuse_unk", false);
    b->byte_fallback = esp_json_bool(model, "byte_fallback", false);
    for (int i = 0; i < 256; i++) {
        char name[8];

        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        b->byte[i] = esp_dict_get(&b->ids, name, 6);
    }
    return ESP_OK;
}

static esp_status read_model(esp_tokenizer *t, const json_t *model, const char *path)
{
    ESP_TRY(check_model(model, path));
    ESP_TRY(read_vocabulary(t, json_object_get(model, "vocab"), path));
    ESP_TRY(read_unknown(&t->bpe, model, path));
    t->bpe.prefix = read_affix(model, "continuing_subword_prefix");
    t->bpe.suffix = read_affix(model, "end_of_word_suffix");
    t->bpe.ignore_merges = esp_json_bool(model, "ignore_merges", false);
    return read_merges(&t->bpe, json_object_get(model, "merges"), path);
}

/* ---- added tokens ---------------------------------------------------------------------------------- */

static esp_status read_added(esp_tokenizer *t, const json_t *list, const char *path)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *token = json_array_get(list, i);
        char *where = esp_format("added_tokens[%zu]", i);
        esp_status st = esp_tokenizer_add_token(t, token, esp_json_id(json_object_get(token, "id")),
                                                path, where);

        free(where);
        ESP_TRY(st);
    }
    return ESP_OK;
}

/* ---- post-processor -------------------------------------------------------------------------------- */

static esp_status add_template_token(esp_ids *ids, const json_t *special, const json_t *tokens,
                                     const char *path)
{
    const json_t *token = json_object_get(tokens, esp_json_string(special, "id", ""));
    const json_t *list = json_object_get(token, "ids");

    if (json_array_size(list) == 0) {
        return esp_json_refuse(path, "post_processor.single", special, "is not in special_tokens");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        int32_t id = esp_json_id(json_array_get(list, i));

        if (id < 0) {
            return esp_json_refuse(path, "post_processor.special_tokens", list, "no ids");
        }
        esp_ids_add(ids, id);
    }
    return ESP_OK;
}

static esp_status read_template(esp_tokenizer *t, const json_t *node, const char *path)
{
    const json_t *single = json_object_get(node, "single"),
                 *tokens = json_object_get(node, "special_tokens");
    esp_ids *ids = &t->before;

    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *part = json_array_get(single, i),
                     *special = json_object_get(part, "SpecialToken");

        if (special) {
            ESP_TRY(add_template_token(ids, special, tokens, path));
        } else if (json_object_get(part, "Sequence") && ids == &t->before) {
            ids = &t->after;
        } else {
            return esp_json_refuse(path, "post_processor.single", part, "not supported");
        }
    }
    return ESP_OK;
}

/* "cls": [content, id] */
static esp_status add_named_id(esp_ids *ids, const json_t *node, const char *field,
                               const char *path)
{
    const json_t *pair = json_object_get(node, field);
    int32_t id = esp_json_id(json_array_get(pair, 1));
    char *where = esp_format("post_processor.%s", field);
    esp_status st = id >= 0 ? ESP_OK : esp_json_refuse(path, where, pair, "is to be [content, id]");

    free(where);
    if (st == ESP_OK) {
        esp_ids_add(ids, id);
    }
    return st;
}

static esp_status read_post_processor(esp_tokenizer *t, const json_t *node, const char *path,
                                      bool *has_template)
{
    const char *type = esp_json_string(node, "type", "");
    const json_t *members = json_object_get(node, "processors");

    if (!node || json_is_null(node) || strcmp(type, "ByteLevel") == 0) { /* moves offsets only */
        return ESP_OK;
    }
    if (strcmp(type, "TemplateProcessing") == 0 && !*has_template) {
        *has_template = true;
        return read_template(t, node, path);
    }
    if ((strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) &&
        !*has_template) {
        *has_template = true;
        ESP_TRY(add_named_id(&t->before, node, "cls", path));
        return add_named_id(&t->after, node, "sep", path);
    }
    if (strcmp(type, "Sequence") != 0) {
        return esp_json_refuse(path, "post_processor.type", json_object_get(node, "type"),
                               "not supported; " ESP_ELSEWHERE);
    }
    for (size_t i = 0; i < json_array_size(members); i++) {
        ESP_TRY(read_post_processor(t, json_array_get(members, i), path, has_template));
    }
    return ESP_OK;
}

/* ---- the file -------------------------------------------------------------------------------------- */

esp_status esp_tokenizer_read_root(esp_tokenizer *t, const json_t *root, const char *path,
                                   bool *has_template)
{
    const json_t *added = json_object_get(root, "added_tokens");

    ESP_TRY(esp_json_known(root,
                           "version truncation padding added_tokens normalizer pre_tokenizer "
                           "post_processor decoder model ",
                           path, "the file"));
    ESP_TRY(esp_tokenizer_read_steps(t, root, path));
    ESP_TRY(read_model(t, json_object_get(root, "model"), path));
    ESP_TRY(read_added(t, added, path));
    return read_post_processor(t, json_object_get(root, "post_processor"), path, has_template);
}

esp_status esp_tokenizer_read_json(esp_tokenizer *t, const char *dir)
{
    char *path = esp_path(dir, "tokenizer.json");
    bool has_template = false;
    json_t *root;
    esp_status st = esp_json_read(&root, path);

    if (st == ESP_OK) {
        st = esp_tokenizer_read_root(t, root, path, &has_template);
        json_decref(root);
    }
    free(path);
    return st == ESP_OK ? esp_tokenizer_read_rules(t, dir, has_template, false) : st;
}
