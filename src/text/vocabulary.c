/* vocabulary.c - tokens by id and by text. */
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "tokenizer_impl.h"

#define MAX_TOKENS \
    (1 << 24) /* an id beyond is a mistake in the file, not a reason to ask for memory */

esp_status esp_tokenizer_set(esp_tokenizer *t, int32_t id, const char *text, size_t n)
{
    esp_token *token;

    if (id < 0 || id >= MAX_TOKENS) {
        return esp_fail(ESP_EFORMAT, "id %d is not within 0 .. %d", id, MAX_TOKENS - 1);
    }
    if ((size_t)id >= t->n_tokens) {
        t->token = esp_grow(t->token, (size_t)id + 1, sizeof *t->token);
        memset(t->token + t->n_tokens, 0, ((size_t)id + 1 - t->n_tokens) * sizeof *t->token);
        t->n_tokens = (size_t)id + 1;
    }
    token = &t->token[id];
    free(token->text);
    token->text = esp_calloc(n + 1, 1);
    token->n = n;
    if (n > 0) {
        memcpy(token->text, text, n);
    }
    return ESP_OK;
}

esp_status esp_tokenizer_decode_piece(const esp_tokenizer *t, esp_pieces *out, const char *piece,
                                      size_t n)
{
    esp_pieces spare = { 0 };
    int byte = t->decoder.byte_fallback ? esp_byte_piece(piece, n) : -1;
    char c = (char)byte;
    bool at_start = false;
    esp_status st;

    esp_pieces_clear(out);
    if (byte >= 0) {
        esp_pieces_add(out, &c, 1);
        return ESP_OK;
    }
    esp_pieces_add(out, piece, n);
    st = esp_pretokenizer_run(&t->decoder.replace, out, &spare, &at_start);
    if (t->decoder.byte_level) {
        esp_bytes_free(&spare.text);
        esp_alphabet_back(&spare.text, out->text.data, out->text.n);
        out->text.n = 0;
        esp_bytes_add(&out->text, spare.text.data, spare.text.n);
    }
    esp_pieces_free(&spare);
    return st;
}

/* A piece without its U+2581. */
static void add_bare(esp_byte_string *out, const char *piece, size_t n)
{
    size_t n_mark = strlen(ESP_METASPACE);

    for (size_t at = 0; at < n;) {
        bool mark = n - at >= n_mark && memcmp(piece + at, ESP_METASPACE, n_mark) == 0;

        esp_bytes_add(out, piece + at, !mark);
        at += mark ? n_mark : 1;
    }
}

esp_status esp_tokenizer_set_piece(esp_tokenizer *t, int32_t id, const char *piece, size_t n)
{
    esp_pieces text = { 0 };
    esp_byte_string bare = { 0 };
    esp_status st = esp_tokenizer_decode_piece(t, &text, piece, n);

    st = st == ESP_OK ? esp_tokenizer_set(t, id, text.text.data, text.text.n) : st;
    if (t->decoder.first_bare) {
        add_bare(&bare, piece, n);
    }
    if (t->decoder.first_bare && st == ESP_OK && bare.n < n) {
        st = esp_tokenizer_decode_piece(t, &text, bare.data ? bare.data : "", bare.n);
        free(t->token[id].first);
        t->token[id].first =
            esp_format("%.*s", (int)text.text.n, text.text.n ? text.text.data : "");
    }
    esp_bytes_free(&bare);
    esp_pieces_free(&text);
    return st;
}

int32_t esp_tokenizer_find(const esp_tokenizer *t, const char *content)
{
    size_t n = strlen(content);

    for (size_t i = 0; i < t->added.n; i++) {
        if (strcmp(t->added.token[i].content, content) == 0) {
            return t->added.token[i].id;
        }
    }
    for (size_t id = t->sp ? t->n_tokens : 0;
         id-- > 0;) { /* what follows a vocabulary comes first */
        if (t->token[id].text && t->token[id].n == n &&
            memcmp(t->token[id].text, content, n) == 0) {
            return (int32_t)id;
        }
    }
    return esp_dict_get(&t->bpe.ids, content, n);
}
