/* tokenizer_rules.c - BOS and EOS, and how added tokens are sought. */
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "json_impl.h"
#include "tokenizer_impl.h"

/* ---- BOS and EOS ----------------------------------------------------------------------------------- */

/* A token's name is a string, or an object with its content. */
static const char *name_of(const json_t *root, const char *field)
{
    return esp_json_string(json_object_get(root, field), "content",
                           esp_json_string(root, field, NULL));
}

static int32_t id_of(const esp_tokenizer *t, const char *content)
{
    for (size_t i = 0; i < t->added.n; i++) {
        if (strcmp(t->added.token[i].content, content) == 0) {
            return t->added.token[i].id;
        }
    }
    return esp_dict_get(&t->bpe.ids, content, strlen(content));
}

static esp_status read_name(const esp_tokenizer *t, int32_t *id, const json_t *root,
                            const char *field, const char *path)
{
    const char *name = name_of(root, field);

    if (name) {
        *id = id_of(t, name);
        if (*id < 0) {
            return esp_json_refuse(path, field, json_object_get(root, field),
                                   "the tokenizer has no such token");
        }
    }
    return ESP_OK;
}

static esp_status read_names(esp_tokenizer *t, const json_t *root, const char *path)
{
    ESP_TRY(read_name(t, &t->bos, root, "bos_token", path));
    return read_name(t, &t->eos, root, "eos_token", path);
}

/* The file's content, NULL where it is not there. */
static esp_status read_optional(json_t **root, const char *path)
{
    *root = NULL;
    return esp_file_exists(path) ? esp_json_read(root, path) : ESP_OK;
}

esp_status esp_tokenizer_read_rules(esp_tokenizer *t, const char *dir, bool has_template,
                                    bool add_bos)
{
    char *map_path = esp_path(dir, "special_tokens_map.json");
    char *path = esp_path(dir, "tokenizer_config.json");
    json_t *map = NULL, *config = NULL;
    esp_status st = read_optional(&map, map_path);

    st = st == ESP_OK ? read_names(t, map, map_path) : st;
    st = st == ESP_OK ? read_optional(&config, path) : st;
    st = st == ESP_OK ? read_names(t, config, path) : st; /* the later file counts */
    if (st == ESP_OK && !has_template && t->bos >= 0 &&
        esp_json_bool(config, "add_bos_token", add_bos)) {
        esp_ids_add(&t->before, t->bos);
    }
    if (st == ESP_OK && !has_template && t->eos >= 0 &&
        esp_json_bool(config, "add_eos_token", false)) {
        esp_ids_add(&t->after, t->eos);
    }
    json_decref(config);
    json_decref(map);
    free(path);
    free(map_path);
    return st;
}

/* ---- added tokens ---------------------------------------------------------------------------------- */

esp_status esp_tokenizer_add_token(esp_tokenizer *t, const json_t *token, int32_t id,
                                   const char *path, const char *where)
{
    const char *content = esp_json_string(token, "content", "");
    esp_added *a;

    if (!*content) {
        return esp_json_refuse(path, where, token, "needs a content");
    }
    if (esp_json_bool(token, "single_word", false)) {
        return esp_json_refuse(path, where, token, "single_word is not supported");
    }
    for (size_t i = 0; i < t->added.n; i++) {
        if (strcmp(t->added.token[i].content, content) == 0) {
            return ESP_OK; /* listed in two files */
        }
    }
    if (esp_tokenizer_set(t, id, content, strlen(content)) != ESP_OK) {
        return esp_fail_in(ESP_EFORMAT, "%s: %s", path, where);
    }
    a = esp_added_new(&t->added);
    a->content = esp_strdup(content);
    a->id = id;
    a->special = esp_json_bool(token, "special", false);
    a->normalized = esp_json_bool(token, "normalized", false) && !t->sp;
    a->lstrip = esp_json_bool(token, "lstrip", false);
    a->rstrip = esp_json_bool(token, "rstrip", false);
    return ESP_OK;
}

static char *to_string(const esp_bytes *b)
{
    return esp_format("%.*s", esp_count(b->n), b->n ? b->data : "");
}

/* A token sought in normalized text is sought by its own normalized form, and where that differs
 * (a blank before it) reads back as what it stood for. */
static esp_status normalize_token(esp_tokenizer *t, esp_added *a, esp_pieces *p, esp_pieces *spare)
{
    esp_pieces_clear(p);
    esp_pieces_add(p, a->content, strlen(a->content));
    ESP_TRY(esp_steps_run(&t->normalizer, p, spare, true));
    a->sought = to_string(&p->text);
    if (!*a->sought) {
        return esp_fail(ESP_EFORMAT, "added token \"%s\": the normalizer leaves nothing of it",
                        a->content);
    }
    if (strcmp(a->sought, a->content) == 0) {
        return ESP_OK;
    }
    ESP_TRY(esp_tokenizer_decode_piece(t, p, a->sought, strlen(a->sought)));
    return esp_tokenizer_set(t, a->id, p->text.data, p->text.n);
}

esp_status esp_tokenizer_settle(esp_tokenizer *t)
{
    esp_pieces p = { 0 }, spare = { 0 };
    esp_status st = ESP_OK;

    for (size_t i = 0; i < t->added.n && st == ESP_OK; i++) {
        esp_added *a = &t->added.token[i];

        if (a->normalized) {
            st = normalize_token(t, a, &p, &spare);
        } else {
            a->sought = esp_strdup(a->content);
        }
        t->token[a->id].special = a->special;
        t->token[a->id].border = !a->normalized;
    }
    esp_pieces_free(&p);
    esp_pieces_free(&spare);
    if (st == ESP_OK) {
        esp_added_sort(&t->added);
    }
    return st;
}
