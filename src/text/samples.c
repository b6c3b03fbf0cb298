/* samples.c - samples of tokens, cut from documents of ids. */
#include <stdlib.h>
#include <string.h>

#include "espalier/limit.h"
#include "espalier/mem.h"
#include "espalier/rng.h"
#include "espalier/text.h"
#include "samples_impl.h"
#include "text_impl.h"

/* Documents by number: of a corpus, tokenized when asked for, or of a token file. */
typedef struct source {
    const esp_corpus *corpus;
    const esp_tokenizer *t;
    const esp_tokens *tokens; /* NULL: the corpus */
    size_t n, vocab;
    const char *path;
    bool answer_only;
} source;

/* Ids, and which of them the loss counts as targets. */
typedef struct stream {
    esp_ids ids;
    uint8_t *counts; /* [ids.n] owned */
    size_t capacity;
} stream;

static void stream_free(stream *s)
{
    esp_ids_free(&s->ids);
    free(s->counts);
}

static esp_status check_ids(const source *from, const esp_ids *ids, size_t document)
{
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->id[i] < 0 || (size_t)ids->id[i] >= from->vocab) {
            return esp_fail(ESP_EFORMAT,
                            "%s: document %zu: id %d, and the model's vocabulary has %zu tokens",
                            from->path, document + 1, ids->id[i], from->vocab);
        }
    }
    return ESP_OK;
}

static esp_status document_ids(const source *from, size_t i, esp_ids *ids, size_t *n_prompt)
{
    const esp_tokens *k = from->tokens;

    if (!k) {
        esp_status st = esp_document_encode(&from->corpus->documents[i], from->corpus->instructions,
                                            from->t, ids, n_prompt);

        return st == ESP_OK ? ESP_OK : esp_fail_in(st, "%s: document %zu", from->path, i + 1);
    }
    ids->n = 0;
    for (int64_t at = k->start[i]; at < k->start[i + 1]; at++) {
        esp_ids_add(ids, k->ids[at]);
    }
    *n_prompt = (size_t)k->prompt[i];
    return ESP_OK;
}

/* Appends document i to the stream; spare is room for its ids. */
static esp_status append_document(const source *from, size_t i, stream *s, esp_ids *spare)
{
    size_t n_prompt;

    ESP_TRY(document_ids(from, i, spare, &n_prompt));
    ESP_TRY(check_ids(from, spare, i));
    ESP_TRY(esp_limit_check(0, from->path));
    s->counts = esp_grow_array(s->counts, &s->capacity, s->ids.n + spare->n, 1);
    for (size_t t = 0; t < spare->n; t++) {
        s->counts[s->ids.n] = !from->answer_only || t >= n_prompt;
        esp_ids_add(&s->ids, spare->id[t]);
    }
    return ESP_OK;
}

/* A sample of n tokens of the stream, unless none of its targets counts. */
static void add_sample(esp_samples *samples, const stream *s, size_t begin, size_t n)
{
    if (n > 1 && memchr(s->counts + begin + 1, 1, n - 1)) {
        esp_samples_add(samples, s->ids.id + begin, s->counts + begin, n);
    }
}

/* ---- the three cuts -------------------------------------------------------------------------------- */

static esp_status cut_windows(esp_samples *samples, const source *from, const esp_sampling *how,
                              stream *s, esp_ids *spare)
{
    size_t stride = how->stride ? how->stride : how->length, begin = 0, end = 0;
    size_t wanted = how->count ? (how->count - 1) * stride + how->length : SIZE_MAX;

    for (size_t i = 0; i < from->n && s->ids.n < wanted; i++) {
        ESP_TRY(append_document(from, i, s, spare));
    }
    for (; end < s->ids.n && !(how->count && samples->n == how->count); begin += stride) {
        size_t seen = end; /* targets before it have counted in an earlier window */

        end = esp_min(begin + how->length, s->ids.n);
        add_sample(samples, s, begin, end - begin);
        ESP_TRY(esp_limit_check(0, from->path));
        memset(s->counts + seen, 0, end - seen);
    }
    return ESP_OK;
}

static esp_status cut_documents(esp_samples *samples, const source *from, const esp_sampling *how,
                                stream *s, esp_ids *spare)
{
    for (size_t i = 0; i < from->n && !(how->count && samples->n == how->count); i++) {
        s->ids.n = 0;
        ESP_TRY(append_document(from, i, s, spare));
        add_sample(samples, s, 0, esp_min(s->ids.n, how->length));
    }
    return ESP_OK;
}

/* Documents in an order drawn by seed, again from the first when all were used: order[0 .. n) are those
 * still in question, after a round those that gave a sample. */
static esp_status cut_random(esp_samples *samples, const source *from, const esp_sampling *how,
                             stream *s, esp_ids *spare)
{
    size_t *order = esp_calloc(from->n, sizeof *order), n = from->n, longest = 0;
    esp_status st = ESP_OK;

    for (size_t i = 0; i < n; i++) {
        order[i] = i;
    }
    for (uint64_t round = 0; st == ESP_OK && n > 0 && samples->n < how->count; round++) {
        esp_rng r = { esp_rng_key(how->seed, round, 0), 0 };
        size_t kept = 0;

        esp_rng_shuffle(&r, order, n);
        for (size_t i = 0; i < n && samples->n < how->count && st == ESP_OK; i++) {
            size_t before = samples->n;

            s->ids.n = 0;
            st = append_document(from, order[i], s, spare);
            longest = esp_max(longest, s->ids.n);
            if (st == ESP_OK && s->ids.n > how->length) {
                add_sample(samples, s, esp_rng_below(&r, s->ids.n - how->length + 1), how->length);
            }
            order[kept] = order[i];
            kept += samples->n > before;
        }
        n = kept;
    }
    free(order);
    if (st == ESP_OK && samples->n < how->count) {
        st = esp_fail(
            ESP_EUSAGE,
            "%s: no document has more than %zu tokens, the longest %zu: take a shorter sequence",
            from->path, how->length, longest);
    }
    return st;
}

/* ---- drawing --------------------------------------------------------------------------------------- */

static esp_status check_sampling(const esp_sampling *how, size_t max_positions, const char *path)
{
    ESP_REQUIRE(how->stride <= how->length);
    if (how->length < 2 || how->length > max_positions) {
        return esp_fail(ESP_EUSAGE, "%s: samples of %zu tokens, and the model takes 2 to %zu", path,
                        how->length, max_positions);
    }
    if (how->cut == ESP_CUT_RANDOM && how->count == 0) {
        return esp_fail(ESP_EUSAGE, "%s: 0 samples wanted; say how many", path);
    }
    return ESP_OK;
}

static esp_status draw(esp_samples *samples, const source *from, const esp_sampling *how,
                       size_t max_positions)
{
    static esp_status (*const cuts[])(esp_samples * samples, const source *from,
                                      const esp_sampling *how, stream *s, esp_ids *spare) = {
        [ESP_CUT_WINDOWS] = cut_windows,
        [ESP_CUT_RANDOM] = cut_random,
        [ESP_CUT_DOCUMENTS] = cut_documents,
    };
    stream s = { 0 };
    esp_ids spare = { 0 };
    esp_status st = check_sampling(how, max_positions, from->path);

    *samples = (esp_samples){ 0 };
    st = st == ESP_OK ? cuts[how->cut](samples, from, how, &s, &spare) : st;
    if (st == ESP_OK && samples->n == 0) {
        st = esp_fail(ESP_EUSAGE, "%s: no sample of at least 2 tokens with a target", from->path);
    }
    if (st != ESP_OK) {
        esp_samples_free(samples);
    }
    stream_free(&s);
    esp_ids_free(&spare);
    return st;
}

esp_status esp_samples_draw(esp_samples *s, const esp_corpus *c, const esp_tokenizer *t,
                            esp_sampling how, size_t max_positions, size_t vocab, const char *path)
{
    source from = { c, t, NULL, c->n, vocab, path, how.answer_only };

    return draw(s, &from, &how, max_positions);
}

static esp_status load_tokens(esp_samples *s, const char *path, const esp_tokenizer *t,
                              esp_sampling how, size_t max_positions, size_t vocab)
{
    esp_tokens k;
    esp_status st;

    ESP_TRY(esp_tokens_read(&k, path, t));
    source from = { NULL, NULL, &k, k.n, vocab, path, how.answer_only };
    st = draw(s, &from, &how, max_positions);
    esp_tokens_free(&k);
    return st;
}

esp_status esp_samples_load(esp_samples *s, const char *path, const char *field,
                            const esp_tokenizer *t, esp_sampling how, size_t max_positions,
                            size_t vocab)
{
    size_t n = strlen(path);
    esp_corpus c;
    esp_status st;

    *s = (esp_samples){ 0 };
    if (n > 3 && strcmp(path + n - 3, ".h5") == 0) {
        return load_tokens(s, path, t, how, max_positions, vocab);
    }
    if (!t) {
        return esp_fail(ESP_EUSAGE, "%s: is text, and there is no tokenizer", path);
    }
    ESP_TRY(esp_corpus_read(&c, path, field));
    st = esp_samples_draw(s, &c, t, how, max_positions, vocab, path);
    esp_corpus_free(&c);
    return st;
}

/* ---- files of ids ---------------------------------------------------------------------------------- */

static esp_status read_id(esp_ids *ids, char **at, size_t vocab, const char *path, size_t line)
{
    char *end;
    long value = strtol(*at, &end, 10);

    if (end == *at || !strchr(" \t\r\n", *end)) {
        return esp_fail(ESP_EFORMAT, "%s: line %zu: \"%.*s\" is no token id", path, line,
                        (int)strcspn(*at, " \t\r\n"), *at);
    }
    if (value < 0 || (unsigned long)value >= vocab) {
        return esp_fail(ESP_EFORMAT,
                        "%s: line %zu: id %ld, and the model's vocabulary has %zu tokens", path,
                        line, value, vocab);
    }
    esp_ids_add(ids, (int32_t)value);
    *at = end;
    return ESP_OK;
}

/* One line, from *at to past its end. */
static esp_status read_line(esp_ids *ids, char **at, size_t vocab, const char *path, size_t line)
{
    ids->n = 0;
    for (;;) {
        *at += strspn(*at, " \t\r");
        if (**at == '\n' || **at == '\0') {
            *at += **at == '\n';
            return ESP_OK;
        }
        ESP_TRY(read_id(ids, at, vocab, path, line));
    }
}

static esp_status read_id_lines(esp_samples *s, char *text, const char *path, size_t max_positions,
                                size_t vocab)
{
    esp_ids ids = { 0 };
    esp_status st = ESP_OK;

    for (size_t line = 1; *text && st == ESP_OK; line++) {
        st = read_line(&ids, &text, vocab, path, line);
        if (st != ESP_OK || ids.n == 0) {
            continue;
        }
        if (ids.n < 2 || ids.n > max_positions) {
            st = esp_fail(ESP_EFORMAT,
                          "%s: line %zu: a sample of %zu tokens, and the model takes 2 to %zu",
                          path, line, ids.n, max_positions);
        } else {
            esp_samples_add(s, ids.id, NULL, ids.n);
            st = esp_limit_check(0, path);
        }
    }
    esp_ids_free(&ids);
    return st;
}

esp_status esp_samples_read_ids(esp_samples *s, const char *path, size_t max_positions,
                                size_t vocab)
{
    char *text;
    size_t n;
    esp_status st;

    *s = (esp_samples){ 0 };
    ESP_TRY(esp_text_read(&text, &n, path));
    st = read_id_lines(s, text, path, max_positions, vocab);
    free(text);
    if (st == ESP_OK && s->n == 0) {
        st = esp_fail(ESP_EFORMAT, "%s: an empty file: no sample in it", path);
    }
    if (st != ESP_OK) {
        esp_samples_free(s);
    }
    return st;
}
