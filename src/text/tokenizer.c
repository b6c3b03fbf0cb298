/* tokenizer.c - text to ids and back, whichever file the tokenizer came from. */
#include "espalier/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/kind.h"
#include "espalier/mem.h"
#include "tokenizer_impl.h"

/* ---- opening --------------------------------------------------------------------------------------- */

static esp_status digest_file(esp_digest *d, const char *dir, const char *name)
{
    char *path = esp_path(dir, name);
    esp_map m;
    esp_status st = esp_map_open(&m, path);

    if (st == ESP_OK) {
        st = esp_kind_refuse(m.data, m.n, path);
        esp_digest_add(d, m.data, m.n);
        esp_map_close(&m);
    }
    free(path);
    return st;
}

/* other: a second file, or NULL */
static esp_status digest_files(esp_tokenizer *t, const char *dir, const char *name,
                               const char *other)
{
    esp_digest d;
    esp_status st;

    esp_digest_init(&d);
    st = digest_file(&d, dir, name);
    st = st == ESP_OK && other ? digest_file(&d, dir, other) : st;
    esp_digest_end(&d, t->digest);
    return st;
}

static void add_steps(esp_digest *d, const esp_pretokenizer *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const int step[] = { (int)s->step[i].kind, (int)s->step[i].prefix, (int)s->step[i].split,
                             s->step[i].invert };

        esp_digest_add(d, step, sizeof step);
    }
}

/* What other files of the folder make of the same tokenizer's file counts as well. */
static void digest_reading(esp_tokenizer *t)
{
    const bool flags[] = { t->sp != NULL, t->prefixed, t->prefixed_every, t->prompt_first };
    esp_digest d;

    esp_digest_init(&d);
    esp_digest_add(&d, t->digest, strlen(t->digest));
    esp_digest_add(&d, flags, sizeof flags);
    add_steps(&d, &t->normalizer);
    add_steps(&d, &t->pre_tokenizer);
    for (size_t i = 0; i < t->added.n; i++) {
        const esp_added *a = &t->added.token[i];
        const int32_t token[] = { a->id, a->normalized, a->lstrip, a->rstrip, a->single_word };

        esp_digest_add(&d, a->content, strlen(a->content) + 1);
        esp_digest_add(&d, token, sizeof token);
    }
    esp_digest_add(&d, t->before.id, t->before.n * sizeof *t->before.id);
    esp_digest_add(&d, "", 1);
    esp_digest_add(&d, t->after.id, t->after.n * sizeof *t->after.id);
    esp_digest_end(&d, t->digest);
}

static esp_status read_folder(esp_tokenizer *t, const char *dir)
{
    static const struct {
        const char *name, *other;
        esp_status (*read)(esp_tokenizer *t, const char *dir);
    } kinds[] = { { "tokenizer.json", NULL, esp_tokenizer_read_json },
                  { "tokenizer.model", NULL, esp_tokenizer_read_model },
                  { "ice_text.model", NULL, esp_tokenizer_read_ice },
                  { "vocab.json", "merges.txt", esp_tokenizer_read_pair } };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *path = esp_path(dir, kinds[i].name);
        bool there = esp_file_exists(path);

        free(path);
        if (there) {
            ESP_TRY(digest_files(t, dir, kinds[i].name, kinds[i].other));
            return kinds[i].read(t, dir);
        }
    }
    return esp_fail(ESP_EUSAGE,
                    "%s: has no tokenizer.json, tokenizer.model, ice_text.model or vocab.json",
                    dir);
}

esp_status esp_tokenizer_open(esp_tokenizer **t, const char *model_dir)
{
    esp_tokenizer *made = esp_calloc(1, sizeof *made);
    esp_status st;

    made->bos = made->eos = -1;
    st = read_folder(made, model_dir);
    st = st == ESP_OK ? esp_tokenizer_prepare_added(made) : st;
    if (st == ESP_OK) {
        digest_reading(made);
    } else {
        esp_tokenizer_free(made);
        made = NULL;
    }
    *t = made;
    return st;
}

void esp_tokenizer_free(esp_tokenizer *t)
{
    if (!t) {
        return;
    }
    for (size_t i = 0; i < t->n_pieces; i++) {
        free(t->piece[i]);
    }
    for (size_t i = 0; i < t->n_tokens; i++) {
        free(t->token[i].text);
        free(t->token[i].first);
    }
    free(t->piece);
    free(t->token);
    esp_bpe_free(&t->bpe);
    esp_pretokenizer_free(&t->normalizer);
    esp_pretokenizer_free(&t->pre_tokenizer);
    esp_pretokenizer_free(&t->decoder.replace);
    esp_added_free(&t->added);
    esp_ids_free(&t->before);
    esp_ids_free(&t->after);
    esp_sp_close(t->sp);
    free(t);
}

const char *esp_tokenizer_digest(const esp_tokenizer *t)
{
    return t->digest;
}

size_t esp_tokenizer_size(const esp_tokenizer *t)
{
    return t->n_tokens;
}

int32_t esp_tokenizer_bos(const esp_tokenizer *t)
{
    return t->bos;
}

int32_t esp_tokenizer_eos(const esp_tokenizer *t)
{
    return t->eos;
}

bool esp_tokenizer_prompt_first(const esp_tokenizer *t)
{
    return t->prompt_first;
}

bool esp_tokenizer_is_byte(const esp_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_tokens && t->token[id].byte;
}

/* ---- text to ids ----------------------------------------------------------------------------------- */

/* One call of encode: where the ids go, and room to work in. */
typedef struct work {
    const esp_tokenizer *t;
    esp_ids *ids;
    esp_pieces stretch, pieces, spare;
    esp_bpe_work bpe;
} work;

static void add_id(void *to, int32_t id)
{
    work *w = to;

    esp_ids_add(w->ids, w->t->first_id + id);
}

static esp_status encode_sentencepiece(work *w, const char *s, size_t n)
{
    size_t valid = esp_utf8_run(s, n);
    char why[256];

    if (valid < n) { /* the library would put U+FFFD in its place */
        return esp_fail(ESP_EFORMAT,
                        "byte 0x%02x is not UTF-8, and tokenizer.model has no token for it",
                        (uint8_t)s[valid]);
    }
    if (esp_sp_encode(w->t->sp, s, n, add_id, w, why, sizeof why) != 0) {
        return esp_fail(ESP_EFORMAT, "SentencePiece: %s", why);
    }
    return ESP_OK;
}

/* Normalized text without added tokens. */
static esp_status encode_pieces(work *w, const char *s, size_t n, bool at_start)
{
    esp_pieces_clear(&w->pieces);
    esp_pieces_add(&w->pieces, s, n);
    ESP_TRY(esp_pretokenizer_run(&w->t->pre_tokenizer, &w->pieces, &w->spare, &at_start));
    for (size_t i = 0; i < w->pieces.n; i++) {
        size_t length;
        const char *piece = esp_pieces_at(&w->pieces, i, &length);

        if (length > 0) {
            ESP_TRY(esp_bpe_encode(&w->t->bpe, &w->bpe, w->ids, piece, length));
        }
    }
    return ESP_OK;
}

/* Calls plain for the text between the added tokens of one kind, and adds the ids of those. */
static esp_status around_added(work *w, bool normalized, const char *s, size_t n, bool at_start,
                               esp_status (*plain)(work *w, const char *s, size_t n, bool at_start))
{
    size_t done = 0, seek = 0;
    esp_added_match m;

    do {
        m = esp_added_find(&w->t->added, normalized, s, n, seek, done);
        if (m.begin > done) {
            ESP_TRY(plain(w, s + done, m.begin - done, at_start && done == 0));
        }
        if (m.token) {
            esp_ids_add(w->ids, m.token->id);
        }
        done = m.end;
        seek = m.seek;
    } while (m.token);
    return ESP_OK;
}

/* Text between the added tokens that are sought in the text as it is. */
static esp_status encode_stretch(work *w, const char *s, size_t n, bool at_start)
{
    esp_pieces_clear(&w->stretch);
    esp_pieces_add(&w->stretch, s, n);
    ESP_TRY(esp_pretokenizer_run(&w->t->normalizer, &w->stretch, &w->spare, &at_start));
    s = esp_pieces_at(&w->stretch, 0, &n);
    if (w->t->sp) {
        return encode_sentencepiece(w, s, n);
    }
    return around_added(w, true, s, n, at_start, encode_pieces);
}

static void add_all(esp_ids *to, const esp_ids *from)
{
    for (size_t i = 0; i < from->n; i++) {
        esp_ids_add(to, from->id[i]);
    }
}

esp_status esp_tokenizer_encode(const esp_tokenizer *t, esp_ids *ids, const char *text, size_t n,
                                bool special)
{
    work w = { .t = t, .ids = ids };
    size_t before = ids->n;
    esp_status st;

    if (special) {
        add_all(ids, &t->before);
    }
    st = around_added(&w, false, text, n, true, encode_stretch);
    if (st == ESP_OK && special) {
        add_all(ids, &t->after);
    }
    if (st != ESP_OK) {
        ids->n = before;
    }
    esp_pieces_free(&w.stretch);
    esp_pieces_free(&w.pieces);
    esp_pieces_free(&w.spare);
    esp_bpe_work_free(&w.bpe);
    return st;
}

esp_status esp_tokenizer_encode_prompt(const esp_tokenizer *t, esp_ids *ids, const char *text,
                                       size_t n)
{
    if (!t->prompt_first) {
        return esp_tokenizer_encode(t, ids, text, n, true);
    }
    ESP_TRY(esp_tokenizer_encode(t, ids, text, n, false));
    return esp_tokenizer_encode(t, ids, "", 0, true);
}

/* ---- ids to text ----------------------------------------------------------------------------------- */

static const esp_token *token_of(const esp_tokenizer *t, const int32_t *ids, size_t i)
{
    const esp_token *token = ids[i] >= 0 && (size_t)ids[i] < t->n_tokens ? &t->token[ids[i]] : NULL;

    if (!token || !token->text) {
        esp_fail(ESP_EFORMAT, "id %d at position %zu is no token of the vocabulary", ids[i], i);
        return NULL;
    }
    return token;
}

static bool is_leading(const esp_tokenizer *t, const int32_t *ids, size_t i)
{
    return i < t->before.n && ids[i] == t->before.id[i];
}

/* The text that these are the ids of. */
static esp_status decode_back(const esp_tokenizer *t, esp_byte_string *out, const int32_t *ids,
                              size_t n)
{
    bool strip = t->prefixed;

    for (size_t i = 0; i < n; i++) {
        const esp_token *token = token_of(t, ids, i);
        size_t from;

        if (!token) {
            return ESP_EFORMAT;
        }
        from = strip && !token->border && token->n > 0 && token->text[0] == ' ';
        esp_bytes_add(out, token->text + from, token->n - from);
        strip = token->border ? t->prefixed_every || (strip && is_leading(t, ids, i))
                              : strip && token->n == 0;
    }
    return ESP_OK;
}

#define UNREADABLE "\xEF\xBF\xBD" /* U+FFFD */

/* What of n bytes is UTF-8; each longest piece of a character that it might have become is U+FFFD. */
static void add_readable(esp_byte_string *out, const char *s, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t run = esp_utf8_run(s + at, n - at);

        esp_bytes_add(out, s + at, run);
        at += run;
        if (at < n) {
            esp_bytes_add(out, UNREADABLE, strlen(UNREADABLE));
            at += esp_utf8_begun(s + at, n - at);
        }
    }
}

/* Bytes of byte tokens, one after another: all of them are UTF-8, or each is U+FFFD. */
static void end_bytes(esp_byte_string *out, esp_byte_string *run)
{
    bool good = esp_utf8_run(run->data, run->n) == run->n;

    for (size_t i = 0; !good && i < run->n; i++) {
        esp_bytes_add(out, UNREADABLE, strlen(UNREADABLE));
    }
    esp_bytes_add(out, run->data, good ? run->n : 0);
    run->n = 0;
}

/* The text to show, as the decoders of tokenizer.json have it. */
static esp_status decode_shown(const esp_tokenizer *t, esp_byte_string *out, const int32_t *ids,
                               size_t n)
{
    esp_byte_string all = { 0 }, run = { 0 };
    bool first = true;
    esp_status st = ESP_OK;

    for (size_t i = 0; i < n && st == ESP_OK; i++) {
        const esp_token *token = token_of(t, ids, i);
        if (!token) {
            st = ESP_EFORMAT;
        } else if (token->byte) {
            esp_bytes_add(&run, token->text, token->n);
        } else if (!token->special) {
            bool bare = first && token->first;

            end_bytes(&all, &run);
            esp_bytes_add(&all, bare ? token->first : token->text,
                          bare ? strlen(token->first) : token->n);
        }
        first = first && token && token->special;
    }
    end_bytes(&all, &run);
    if (st == ESP_OK) {
        size_t from = 0;

        while (from < t->decoder.first_spaces && from < all.n && all.data[from] == ' ') {
            from++;
        }
        add_readable(out, all.data + from, all.n - from);
    }
    esp_bytes_free(&all);
    esp_bytes_free(&run);
    return st;
}

esp_status esp_tokenizer_decode(const esp_tokenizer *t, char **text, size_t *n_bytes,
                                const int32_t *ids, size_t n, bool skip_special)
{
    esp_byte_string out = { 0 };
    esp_status st = (skip_special ? decode_shown : decode_back)(t, &out, ids, n);

    if (st != ESP_OK) {
        esp_bytes_free(&out);
        return st;
    }
    if (n_bytes) {
        *n_bytes = out.n;
    }
    esp_bytes_add(&out, "", 1);
    *text = out.data;
    return ESP_OK;
}
