/* special_tokens.c - BOS and EOS, and how added tokens are sought. */
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "json_impl.h"
#include "tokenizer_impl.h"

bool esp_tokenizer_legacy(const json_t *config, bool fallback)
{
    const json_t *value = json_object_get(config, "legacy");

    return value ? json_is_true(value) : fallback;
}

/* ---- BOS and EOS ----------------------------------------------------------------------------------- */

/* A token's name is a string, or an object with its content. */
static const char *name_of(const json_t *root, const char *field)
{
    return esp_json_string(json_object_get(root, field), "content",
                           esp_json_string(root, field, NULL));
}

static esp_status read_name(const esp_tokenizer *t, int32_t *id, const json_t *root,
                            const char *field, const char *path)
{
    const char *name = name_of(root, field);

    if (name) {
        *id = esp_tokenizer_find(t, name);
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

esp_status esp_tokenizer_read_rules(esp_tokenizer *t, const char *dir, bool has_template,
                                    bool add_bos)
{
    char *map_path = esp_path(dir, "special_tokens_map.json");
    char *path = esp_path(dir, "tokenizer_config.json");
    json_t *map = NULL, *config = NULL;
    esp_status st = esp_json_read_optional(&map, map_path);

    st = st == ESP_OK ? read_names(t, map, map_path) : st;
    st = st == ESP_OK ? esp_json_read_optional(&config, path) : st;
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

/* Decoders see an added token as any other one. */
static esp_status set_content(esp_tokenizer *t, int32_t id, const char *content)
{
    return esp_tokenizer_set_piece(t, id, content, strlen(content));
}

esp_status esp_tokenizer_add_token(esp_tokenizer *t, const json_t *token, int32_t id,
                                   const char *path, const char *where)
{
    const char *content = esp_json_string(token, "content", "");
    esp_added *a;

    if (!*content) {
        return esp_json_refuse(path, where, token, "needs a content");
    }
    for (size_t i = 0; i < t->added.n; i++) {
        if (strcmp(t->added.token[i].content, content) == 0) {
            return ESP_OK; /* listed in two files */
        }
    }
    if (set_content(t, id, content) != ESP_OK) {
        return esp_fail_in(ESP_EFORMAT, "%s: %s", path, where);
    }
    a = esp_added_new(&t->added);
    a->content = esp_strdup(content);
    a->id = id;
    a->special = esp_json_bool(token, "special", false);
    a->normalized = esp_json_bool(token, "normalized", false) && !t->sp;
    a->lstrip = esp_json_bool(token, "lstrip", false);
    a->rstrip = esp_json_bool(token, "rstrip", false);
    a->single_word = esp_json_bool(token, "single_word", false);
    return ESP_OK;
}

/* Added tokens that SentencePiece does not know itself. */
static esp_status add_beyond(esp_tokenizer *t, const json_t *token, int32_t id, const char *path)
{
    int32_t i = id - t->first_id;
    bool known = t->sp && i >= 0 && (size_t)i < esp_sp_size(t->sp) &&
                 esp_sp_kind_of(t->sp, i) != ESP_SP_NORMAL &&
                 esp_sp_kind_of(t->sp, i) != ESP_SP_USER;

    return known ? ESP_OK : esp_tokenizer_add_token(t, token, id, path, "added token");
}

/* tokenizer_config.json: "added_tokens_decoder": {"32000": {"content": ...}} */
static esp_status read_added_decoder(esp_tokenizer *t, const json_t *root, const char *path)
{
    const char *key;
    json_t *token;

    json_object_foreach(json_object_get(root, "added_tokens_decoder"), key, token)
    {
        char *end;
        long id = strtol(key, &end, 10);

        ESP_TRY(add_beyond(t, token, *end || id < 0 || id > INT32_MAX ? -1 : (int32_t)id, path));
    }
    return ESP_OK;
}

/* added_tokens.json: {content: id} */
static esp_status read_added_plain(esp_tokenizer *t, const json_t *root, const char *path)
{
    const char *content;
    json_t *id;

    json_object_foreach((json_t *)(uintptr_t)root, content, id)
    {
        json_t *token = json_pack("{s:s}", "content", content);
        esp_status st = add_beyond(t, token, esp_json_id(id), path);

        json_decref(token);
        ESP_TRY(st);
    }
    return ESP_OK;
}

esp_status esp_tokenizer_read_added(esp_tokenizer *t, const char *dir)
{
    static const struct {
        const char *name;
        esp_status (*read)(esp_tokenizer *t, const json_t *root, const char *path);
    } files[] = { { "tokenizer_config.json", read_added_decoder },
                  { "added_tokens.json", read_added_plain } };

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = esp_path(dir, files[i].name);
        json_t *root = NULL;
        esp_status st = esp_json_read_optional(&root, path);

        st = st == ESP_OK ? files[i].read(t, root, path) : st;
        json_decref(root);
        free(path);
        ESP_TRY(st);
    }
    return ESP_OK;
}

/* The named tokens of one file that the vocabulary has. */
static esp_status add_named(esp_tokenizer *t, const json_t *root, const char *path)
{
    static const char *const fields[] = { "bos_token", "eos_token", "unk_token", "pad_token" };

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *name = name_of(root, fields[i]);
        int32_t id = name ? esp_tokenizer_find(t, name) : -1;

        if (id >= 0) {
            json_t *token = json_pack("{s:s, s:b}", "content", name, "special", 1);
            esp_status st = esp_tokenizer_add_token(t, token, id, path, fields[i]);

            json_decref(token);
            ESP_TRY(st);
        }
    }
    return ESP_OK;
}

esp_status esp_tokenizer_add_named(esp_tokenizer *t, const char *dir)
{
    static const char *const names[] = { "special_tokens_map.json", "tokenizer_config.json" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = esp_path(dir, names[i]);
        json_t *root = NULL;
        esp_status st = esp_json_read_optional(&root, path);

        st = st == ESP_OK ? add_named(t, root, path) : st;
        json_decref(root);
        free(path);
        ESP_TRY(st);
    }
    return ESP_OK;
}

static char *to_string(const esp_byte_string *b)
{
    return esp_format("%.*s", esp_count(b->n), b->n ? b->data : "");
}

/* A token sought in normalized text is sought by its own normalized form, and where that differs
 * (a space before it) reads back as what it stood for. */
static esp_status normalize_token(esp_tokenizer *t, esp_added *a, esp_pieces *p, esp_pieces *spare)
{
    bool at_start = true;

    esp_pieces_clear(p);
    esp_pieces_add(p, a->content, strlen(a->content));
    ESP_TRY(esp_pretokenizer_run(&t->normalizer, p, spare, &at_start));
    a->sought = to_string(&p->text);
    if (!*a->sought) {
        return esp_fail(ESP_EFORMAT, "added token \"%s\": the normalizer leaves nothing of it",
                        a->content);
    }
    if (strcmp(a->sought, a->content) == 0) {
        return ESP_OK;
    }
    return esp_tokenizer_set_piece(t, a->id, a->sought, strlen(a->sought));
}

esp_status esp_tokenizer_prepare_added(esp_tokenizer *t)
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
