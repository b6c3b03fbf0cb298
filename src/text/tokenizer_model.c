/* tokenizer_model.c - tokenizer.model (SentencePiece) and the files beside it. */
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "json_impl.h"
#include "tokenizer_impl.h"

/* Control and unknown pieces are found in text, as other programs do: they are added tokens. */
static esp_status add_control(esp_tokenizer *t, int32_t id, const char *path)
{
    json_t *token = json_pack("{s:s, s:b}", "content", esp_sp_piece(t->sp, id), "special", 1);
    esp_status st = token ? esp_tokenizer_add_token(t, token, id, path, "a control piece")
                          : esp_fail(ESP_EFORMAT, "%s: piece %d is not UTF-8", path, id);

    json_decref(token);
    return st;
}

static esp_status read_pieces(esp_tokenizer *t, const char *path)
{
    esp_pieces text = { 0 };
    esp_status st = ESP_OK;

    for (int32_t id = 0; (size_t)id < esp_sp_size(t->sp) && st == ESP_OK; id++) {
        const char *piece = esp_sp_piece(t->sp, id);

        if (esp_sp_kind_of(t->sp, id) != ESP_SP_NORMAL) {
            st = add_control(t, id, path);
            continue;
        }
        st = esp_tokenizer_decode_piece(t, &text, piece, strlen(piece));
        st = st == ESP_OK ? esp_tokenizer_set(t, id, text.text.data, text.text.n) : st;
    }
    esp_pieces_free(&text);
    return st;
}

static void note_first(void *to, int32_t id)
{
    int32_t *first = to;

    *first = *first < 0 ? id : *first;
}

/* Whether the model puts a blank before a text: the library does not say, an encoded letter does. */
static bool has_dummy_prefix(const esp_sp *sp)
{
    int32_t first = -1;
    char why[16];

    return esp_sp_encode(sp, "a", 1, note_first, &first, why, sizeof why) == 0 && first >= 0 &&
           strncmp(esp_sp_piece(sp, first), ESP_METASPACE, strlen(ESP_METASPACE)) == 0;
}

static esp_status read_decoder(esp_tokenizer *t)
{
    esp_step *blank = esp_steps_add(&t->decoder.replace, ESP_STEP_REPLACE);

    blank->text = esp_strdup(" ");
    t->decoder.byte_fallback = true;
    t->prefixed = t->prefixed_every = has_dummy_prefix(t->sp);
    return esp_pattern_compile(&blank->pattern, ESP_METASPACE, true);
}

/* Added tokens that SentencePiece does not know itself. */
static esp_status add_beyond(esp_tokenizer *t, const json_t *token, int32_t id, const char *path)
{
    bool known =
        id >= 0 && (size_t)id < esp_sp_size(t->sp) && esp_sp_kind_of(t->sp, id) != ESP_SP_NORMAL;

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

/* Both files list the same tokens where both are there; the first one says more. */
static esp_status read_added(esp_tokenizer *t, const char *dir)
{
    static const struct {
        const char *name;
        esp_status (*read)(esp_tokenizer *t, const json_t *root, const char *path);
    } files[] = { { "tokenizer_config.json", read_added_decoder },
                  { "added_tokens.json", read_added_plain } };

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = esp_path(dir, files[i].name);
        json_t *root = NULL;
        esp_status st = esp_file_exists(path) ? esp_json_read(&root, path) : ESP_OK;

        st = st == ESP_OK ? files[i].read(t, root, path) : st;
        json_decref(root);
        free(path);
        ESP_TRY(st);
    }
    return ESP_OK;
}

esp_status esp_tokenizer_read_model(esp_tokenizer *t, const char *dir)
{
    char *path = esp_path(dir, "tokenizer.model"), why[256];
    esp_status st = ESP_OK;

    if (esp_sp_open(&t->sp, path, why, sizeof why) != 0) {
        st = esp_fail(ESP_EFORMAT, "%s: %s", path, why);
    }
    st = st == ESP_OK ? read_decoder(t) : st;
    st = st == ESP_OK ? read_pieces(t, path) : st;
    free(path);
    ESP_TRY(st);
    t->bos = esp_sp_bos(t->sp);
    t->eos = esp_sp_eos(t->sp);
    ESP_TRY(read_added(t, dir));
    return esp_tokenizer_read_rules(t, dir, false, true);
}
