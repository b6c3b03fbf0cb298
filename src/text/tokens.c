/* tokens.c - documents as ids, and the token file that keeps them. */
#include <stdlib.h>
#include <string.h>

#include "espalier/h5.h"
#include "espalier/limit.h"
#include "espalier/mem.h"
#include "samples_impl.h"
#include "text_impl.h"

/* Prompt, the tokens that the model's rule puts there, answer. */
static esp_status encode_apart(const esp_document *d, const esp_tokenizer *t, esp_ids *ids,
                               size_t *n_prompt)
{
    ESP_TRY(esp_tokenizer_encode_prompt(t, ids, d->text, d->n_prompt));
    *n_prompt = ids->n;
    return esp_tokenizer_encode(t, ids, d->text + d->n_prompt, d->n - d->n_prompt, false);
}

/* A prompt's ids are those that the document shares with its prompt alone: where the last piece of the
 * prompt reaches into the answer, that piece is answer. */
static esp_status encode_whole(const esp_document *d, const esp_tokenizer *t, esp_ids *ids,
                               size_t *n_prompt)
{
    esp_ids prompt = { 0 };
    esp_status st;

    ESP_TRY(esp_tokenizer_encode(t, ids, d->text, d->n, true));
    st = d->n_prompt > 0 ? esp_tokenizer_encode(t, &prompt, d->text, d->n_prompt, true) : ESP_OK;
    while (*n_prompt < prompt.n && *n_prompt < ids->n &&
           prompt.id[*n_prompt] == ids->id[*n_prompt]) {
        ++*n_prompt;
    }
    esp_ids_free(&prompt);
    return st;
}

esp_status esp_document_encode(const esp_document *d, bool instructions, const esp_tokenizer *t,
                               esp_ids *ids, size_t *n_prompt)
{
    bool apart = d->n_prompt > 0 && esp_tokenizer_prompt_first(t);
    int32_t eos = esp_tokenizer_eos(t);

    *n_prompt = ids->n = 0;
    ESP_TRY(apart ? encode_apart(d, t, ids, n_prompt) : encode_whole(d, t, ids, n_prompt));
    if (instructions && eos >= 0 && (ids->n == 0 || ids->id[ids->n - 1] != eos)) {
        esp_ids_add(ids, eos);
    }
    return ESP_OK;
}

void esp_tokens_free(esp_tokens *k)
{
    free(k->ids);
    free(k->start);
    free(k->prompt);
    *k = (esp_tokens){ 0 };
}

/* ---- writing --------------------------------------------------------------------------------------- */

static esp_status encode_all(esp_tokens *k, const esp_corpus *c, const esp_tokenizer *t,
                             const char *path)
{
    esp_ids ids = { 0 };
    esp_status st = ESP_OK;
    size_t capacity = 0;

    ESP_NEW(k->start, c->n + 1);
    ESP_NEW(k->prompt, c->n);
    for (size_t i = 0; i < c->n && st == ESP_OK; i++) {
        size_t at = (size_t)k->start[i], n_prompt;

        st = esp_limit_check(0, path);
        if (st != ESP_OK) {
            break;
        }
        st = esp_document_encode(&c->documents[i], c->instructions, t, &ids, &n_prompt);
        if (st != ESP_OK) {
            esp_fail_in(st, "%s: document %zu", path, i + 1);
            break;
        }
        k->ids = esp_grow_array(k->ids, &capacity, at + ids.n, sizeof *k->ids);
        memcpy(k->ids + at, ids.id, ids.n * sizeof *ids.id);
        k->start[i + 1] = (int64_t)(at + ids.n);
        k->prompt[i] = (int64_t)n_prompt;
        k->n++;
    }
    esp_ids_free(&ids);
    return st;
}

static esp_status write_file(esp_h5 *f, const esp_tokens *k, const esp_tokenizer *t,
                             const char *corpus_path)
{
    size_t n_ids = (size_t)k->start[k->n], n_start = k->n + 1;

    ESP_TRY(esp_h5_write(f, "/ids", H5T_NATIVE_INT32, 1, &n_ids, k->ids));
    ESP_TRY(esp_h5_write(f, "/start", H5T_NATIVE_INT64, 1, &n_start, k->start));
    ESP_TRY(esp_h5_write(f, "/prompt", H5T_NATIVE_INT64, 1, &k->n, k->prompt));
    ESP_TRY(esp_h5_set_string(f, "/", "corpus", corpus_path));
    return esp_h5_set_string(f, "/", "tokenizer", esp_tokenizer_digest(t));
}

esp_status esp_tokens_save(const char *path, const esp_corpus *c, const esp_tokenizer *t,
                           const char *corpus_path)
{
    esp_tokens k = { 0 };
    esp_h5 f = { 0 };
    esp_status st = encode_all(&k, c, t, corpus_path);

    st = st == ESP_OK ? esp_h5_create(&f, path) : st;
    st = st == ESP_OK ? write_file(&f, &k, t, corpus_path) : st;
    st = esp_h5_close(&f, st);
    esp_tokens_free(&k);
    return st;
}

/* ---- reading --------------------------------------------------------------------------------------- */

static esp_status check_tokenizer(const esp_h5 *f, const char *path, const esp_tokenizer *t)
{
    char *made_with;
    bool same;

    if (esp_h5_get_string(f, "/", "tokenizer", &made_with) != ESP_OK) {
        return esp_fail_in(ESP_EFORMAT, "%s: is no token file, which espalier tokenize makes",
                           path);
    }
    same = !t || strcmp(made_with, esp_tokenizer_digest(t)) == 0;
    free(made_with);
    return same ? ESP_OK
                : esp_fail(ESP_EFORMAT,
                           "%s: was made with another tokenizer; make it again with this model",
                           path);
}

/* Borders of documents rise from 0 to the number of ids; prompts end within their documents. */
static esp_status check_borders(const esp_tokens *k, size_t n_ids, const char *path)
{
    for (size_t i = 0; i < k->n; i++) {
        int64_t begin = k->start[i], end = k->start[i + 1];

        if (begin < 0 || end < begin) {
            return esp_fail(ESP_EFORMAT,
                            "%s: /start[%zu]: %lld, then %lld: borders of documents do not rise",
                            path, i, (long long)begin, (long long)end);
        }
        if (k->prompt[i] < 0 || k->prompt[i] > end - begin) {
            return esp_fail(ESP_EFORMAT, "%s: /prompt[%zu]: %lld tokens, and its document has %lld",
                            path, i, (long long)k->prompt[i], (long long)(end - begin));
        }
    }
    if (k->start[0] != 0 || (uint64_t)k->start[k->n] != n_ids) {
        return esp_fail(ESP_EFORMAT, "%s: /start does not span the %zu ids", path, n_ids);
    }
    return ESP_OK;
}

static esp_status read_file(esp_tokens *k, const esp_h5 *f, const char *path)
{
    size_t dims[ESP_H5_MAX_DIMS], n_dims;
    size_t n_ids = esp_h5_size(f, "/ids", dims, &n_dims);
    size_t n_start = esp_h5_size(f, "/start", dims, &n_dims);
    size_t n_prompt = esp_h5_size(f, "/prompt", dims, &n_dims);

    if (n_ids == 0 || n_start < 2 || n_prompt != n_start - 1) {
        return esp_fail(ESP_EFORMAT,
                        "%s: is no token file: /ids has %zu, /start %zu and /prompt %zu elements",
                        path, n_ids, n_start, n_prompt);
    }
    k->n = n_prompt;
    ESP_TRY(esp_limit_check(n_ids * sizeof *k->ids + 2 * n_start * sizeof *k->start, path));
    ESP_NEW(k->ids, n_ids);
    ESP_NEW(k->start, n_start);
    ESP_NEW(k->prompt, n_prompt);
    ESP_TRY(esp_h5_read(f, "/ids", H5T_NATIVE_INT32, 0, n_ids, k->ids));
    ESP_TRY(esp_h5_read(f, "/start", H5T_NATIVE_INT64, 0, n_start, k->start));
    ESP_TRY(esp_h5_read(f, "/prompt", H5T_NATIVE_INT64, 0, n_prompt, k->prompt));
    return check_borders(k, n_ids, path);
}

bool esp_tokens_made(const char *path)
{
    esp_h5 f = { 0 };
    bool made = esp_h5_open(&f, path) == ESP_OK && check_tokenizer(&f, path, NULL) == ESP_OK;

    esp_h5_close(&f, ESP_OK);
    esp_error_clear();
    return made;
}

esp_status esp_tokens_read(esp_tokens *k, const char *path, const esp_tokenizer *t)
{
    esp_h5 f = { 0 };
    esp_status st;

    *k = (esp_tokens){ 0 };
    ESP_TRY(esp_h5_open(&f, path));
    st = check_tokenizer(&f, path, t);
    st = st == ESP_OK ? read_file(k, &f, path) : st;
    st = esp_h5_close(&f, st);
    if (st != ESP_OK) {
        esp_tokens_free(k);
    }
    return st;
}
