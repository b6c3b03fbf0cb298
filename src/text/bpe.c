/* bpe.c - merging with a heap of candidate pairs over a linked list of symbols. */
#include "bpe_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

#define NONE UINT32_MAX

typedef struct esp_symbol {
    int32_t id; /* -1: merged into the one before it */
    uint32_t before, after;
} esp_symbol;

void esp_bpe_free(esp_bpe *b)
{
    esp_dict_free(&b->ids);
    esp_dict_free(&b->ranks);
    free(b->merges);
    free(b->prefix);
    free(b->suffix);
    *b = (esp_bpe){ 0 };
}

void esp_bpe_work_free(esp_bpe_work *w)
{
    esp_bytes_free(&w->character);
    free(w->symbol);
    free(w->heap);
    *w = (esp_bpe_work){ 0 };
}

static void add_symbol(esp_bpe_work *w, int32_t id)
{
    uint32_t at = (uint32_t)w->n_symbols;

    w->symbol = esp_grow_array(w->symbol, &w->symbol_capacity, w->n_symbols + 1, sizeof *w->symbol);
    w->symbol[w->n_symbols++] = (esp_symbol){ id, at ? at - 1 : NONE, at + 1 };
}

static bool add_bytes(const esp_bpe *b, esp_bpe_work *w, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (b->byte[(uint8_t)s[i]] < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        add_symbol(w, b->byte[(uint8_t)s[i]]);
    }
    return true;
}

/* The character at s[at] as the vocabulary writes it there; *n bytes. */
static const char *character(const esp_bpe *b, esp_bpe_work *w, const char *s, size_t at, size_t *n,
                             bool ends)
{
    const char *prefix = b->prefix && at > 0 ? b->prefix : "";
    const char *suffix = b->suffix && ends ? b->suffix : "";

    if (!*prefix && !*suffix) {
        return s + at;
    }
    w->character.n = 0;
    esp_bytes_add(&w->character, prefix, strlen(prefix));
    esp_bytes_add(&w->character, s + at, *n);
    esp_bytes_add(&w->character, suffix, strlen(suffix));
    *n = w->character.n;
    return w->character.data;
}

/* The characters of the piece as symbols. */
static esp_status spell(const esp_bpe *b, esp_bpe_work *w, const char *s, size_t n)
{
    bool after_unknown = false;

    w->n_symbols = 0;
    for (size_t at = 0; at < n;) {
        size_t length = esp_utf8_length(s + at, n - at);
        size_t step = length ? length : 1, n_key = step;
        const char *key = character(b, w, s, at, &n_key, at + step == n);
        int32_t id = esp_dict_get(&b->ids, key, n_key);
        bool unknown = id < 0 && !(b->byte_fallback && add_bytes(b, w, key, n_key));

        if (id >= 0) {
            add_symbol(w, id);
        } else if (unknown && b->unk < 0) {
            return esp_fail(ESP_EFORMAT,
                            "the tokenizer has no token for \"%.*s\" (first byte 0x%02x)",
                            (int)step, s + at, (uint8_t)s[at]);
        } else if (unknown && !(after_unknown && b->fuse_unk)) {
            add_symbol(w, b->unk);
        }
        after_unknown = unknown;
        at += step;
    }
    if (w->n_symbols > 0) {
        w->symbol[w->n_symbols - 1].after = NONE;
    }
    return ESP_OK;
}

/* ---- candidates: rank in the high half, position in the low one; the smallest comes first ---------- */

static void push(esp_bpe_work *w, uint64_t candidate)
{
    size_t at = w->n_heap++;

    w->heap = esp_grow_array(w->heap, &w->heap_capacity, w->n_heap, sizeof *w->heap);
    for (; at > 0 && w->heap[(at - 1) / 2] > candidate; at = (at - 1) / 2) {
        w->heap[at] = w->heap[(at - 1) / 2];
    }
    w->heap[at] = candidate;
}

static uint64_t pop(esp_bpe_work *w)
{
    uint64_t top = w->heap[0], last = w->heap[--w->n_heap];
    size_t at = 0, child;

    while ((child = 2 * at + 1) < w->n_heap) {
        child += child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child];
        if (last <= w->heap[child]) {
            break;
        }
        w->heap[at] = w->heap[child];
        at = child;
    }
    w->heap[at] = last;
    return top;
}

/* Rank of the pair that begins at symbol at, -1 when it is not to be merged. */
static int32_t rank_at(const esp_bpe *b, const esp_bpe_work *w, uint32_t at)
{
    const esp_symbol *s = &w->symbol[at];
    int32_t pair[2];

    if (s->id < 0 || s->after == NONE) {
        return -1;
    }
    pair[0] = s->id;
    pair[1] = w->symbol[s->after].id;
    return esp_dict_get(&b->ranks, pair, sizeof pair);
}

static void consider(const esp_bpe *b, esp_bpe_work *w, uint32_t at)
{
    int32_t rank = at == NONE ? -1 : rank_at(b, w, at);

    if (rank >= 0) {
        push(w, (uint64_t)rank << 32 | at);
    }
}

static void merge(esp_bpe_work *w, uint32_t at, int32_t made)
{
    esp_symbol *left = &w->symbol[at], *right = &w->symbol[left->after];

    left->id = made;
    left->after = right->after;
    right->id = -1;
    if (left->after != NONE) {
        w->symbol[left->after].before = at;
    }
}

esp_status esp_bpe_encode(const esp_bpe *b, esp_bpe_work *w, esp_ids *ids, const char *s, size_t n)
{
    int32_t whole = b->ignore_merges ? esp_dict_get(&b->ids, s, n) : -1;

    if (whole >= 0) {
        esp_ids_add(ids, whole);
        return ESP_OK;
    }
    if (n >= NONE) {
        return esp_fail(ESP_EFORMAT, "a piece of %zu bytes; split the text into documents", n);
    }
    ESP_TRY(spell(b, w, s, n));
    w->n_heap = 0;
    for (uint32_t at = 0; at < w->n_symbols; at++) {
        consider(b, w, at);
    }
    while (w->n_heap > 0) {
        uint64_t candidate = pop(w);
        uint32_t at = (uint32_t)candidate;
        int32_t rank = (int32_t)(candidate >> 32);

        if (rank_at(b, w, at) == rank) { /* else a neighbour was merged away meanwhile */
            merge(w, at, b->merges[rank].made);
            consider(b, w, w->symbol[at].before);
            consider(b, w, at);
        }
    }
    for (uint32_t at = w->n_symbols ? 0 : NONE; at != NONE; at = w->symbol[at].after) {
        esp_ids_add(ids, w->symbol[at].id);
    }
    return ESP_OK;
}
