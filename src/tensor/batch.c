/* batch.c - samples, ragged batches, and their chunks. */
#include "espalier/batch.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/status.h"

/* Room for one more sample of n tokens; returns where they go. */
static size_t append(esp_samples *s, size_t n)
{
    size_t at = s->n ? s->start[s->n] : 0;

    s->start = esp_grow(s->start, s->n + 2, sizeof *s->start);
    s->ids = esp_grow(s->ids, at + n, sizeof *s->ids);
    s->targets = esp_grow(s->targets, at + n, sizeof *s->targets);
    if (s->back) {
        s->back = esp_grow(s->back, s->n + 1, sizeof *s->back);
        s->back[s->n] = 0;
    }
    s->start[s->n] = at;
    s->start[++s->n] = at + n;
    return at;
}

void esp_samples_append(esp_samples *s, const int32_t *ids, const int32_t *targets, size_t n,
                        size_t back)
{
    size_t at = append(s, n);

    memcpy(s->ids + at, ids, n * sizeof *ids);
    memcpy(s->targets + at, targets, n * sizeof *targets);
    if (back > 0) {
        ESP_REQUIRE(back < s->n);
        if (!s->back) {
            ESP_NEW(s->back, s->n);
        }
        s->back[s->n - 1] = back;
    }
}

void esp_samples_add(esp_samples *s, const int32_t *ids, const uint8_t *counts, size_t n)
{
    size_t at = append(s, n);

    for (size_t t = 0; t < n; t++) {
        s->ids[at + t] = ids[t];
        s->targets[at + t] = t + 1 < n && (!counts || counts[t + 1]) ? ids[t + 1] : ESP_NO_TARGET;
    }
}

void esp_samples_add_continuation(esp_samples *s, const int32_t *ids, size_t n, size_t first)
{
    size_t at = append(s, n);

    for (size_t t = 0; t < n; t++) {
        s->ids[at + t] = ids[t];
        s->targets[at + t] = t >= first ? ids[t + 1] : ESP_NO_TARGET;
    }
}

void esp_samples_free(esp_samples *s)
{
    free(s->start);
    free(s->ids);
    free(s->targets);
    free(s->back);
    *s = (esp_samples){ 0 };
}

void esp_samples_digest(uint64_t words[ESP_DIGEST_WORDS], const esp_samples *s)
{
    size_t n_tok = s->n ? s->start[s->n] : 0;
    esp_digest d;

    esp_digest_init(&d);
    esp_digest_add(&d, s->start, s->n ? (s->n + 1) * sizeof *s->start : 0);
    esp_digest_add(&d, s->ids, n_tok * sizeof *s->ids);
    esp_digest_add(&d, s->targets, n_tok * sizeof *s->targets);
    esp_digest_add(&d, s->back, s->back ? s->n * sizeof *s->back : 0);
    esp_digest_end_words(&d, words);
}

/* start [n + 1]; start is NULL for n = 0. */
static size_t longest_of(const size_t *start, size_t n)
{
    size_t longest = 0;

    for (size_t j = 0; j < n; j++) {
        longest = esp_max(longest, start[j + 1] - start[j]);
    }
    return longest;
}

size_t esp_samples_longest(const esp_samples *s)
{
    return longest_of(s->start, s->n);
}

esp_text_size esp_samples_size(const esp_samples *s)
{
    return (esp_text_size){ s->n, s->n ? s->start[s->n] : 0, esp_samples_longest(s) };
}

size_t esp_samples_bytes(esp_text_size t)
{
    return t.tokens * 2 * sizeof(int32_t) + t.samples * sizeof(size_t);
}

size_t esp_samples_of_rank(size_t **pick, esp_text_size *size, const esp_samples *s, int i, int n)
{
    size_t own = 0;

    ESP_NEW(*pick, s->n / (size_t)n + 1);
    for (size_t j = (size_t)i; j < s->n; j += (size_t)n) {
        (*pick)[own++] = j;
    }
    *size = (esp_text_size){ .samples = esp_max(own, 1) };
    for (size_t k = 0; k < size->samples; k++) {
        size_t j = (*pick)[k], length = s->start[j + 1] - s->start[j];

        size->tokens += length;
        size->longest = esp_max(size->longest, length);
    }
    return own;
}

esp_text_size esp_text_share(esp_text_size all, size_t n, size_t n_data)
{
    size_t most = (n + n_data - 1) / n_data;
    double mean = all.samples ? (double)all.tokens / (double)all.samples : 0;

    return (esp_text_size){ most, (size_t)ceil((double)most * mean), all.longest };
}

size_t esp_samples_targets(const esp_samples *s, size_t j)
{
    size_t n = 0;

    for (size_t t = s->start[j]; t < s->start[j + 1]; t++) {
        n += s->targets[t] != ESP_NO_TARGET;
    }
    return n;
}

static void make_batch(esp_batch *b, size_t *bytes)
{
    ESP_MAKE(b->start, b->max_samples + 1, bytes);
    ESP_MAKE(b->ids, b->max_tok, bytes);
    ESP_MAKE(b->targets, b->max_tok, bytes);
    ESP_MAKE(b->key, b->max_samples, bytes);
    ESP_MAKE(b->prefix, b->max_samples, bytes);
    ESP_MAKE(b->place, b->max_samples, bytes);
    ESP_MAKE(b->back, b->max_samples, bytes);
    ESP_MAKE(b->chunk, b->max_samples + 1, bytes);
}

void esp_batch_init(esp_batch *b, size_t max_samples, size_t max_tok)
{
    *b = (esp_batch){ .max_samples = max_samples, .max_tok = max_tok };
    make_batch(b, NULL);
}

size_t esp_batch_bytes(size_t max_samples, size_t max_tok)
{
    esp_batch b = { .max_samples = max_samples, .max_tok = max_tok };
    size_t bytes = 0;

    make_batch(&b, &bytes);
    return bytes;
}

void esp_batch_free(esp_batch *b)
{
    free(b->start);
    free(b->ids);
    free(b->targets);
    free(b->key);
    free(b->prefix);
    free(b->place);
    free(b->back);
    free(b->chunk);
    *b = (esp_batch){ 0 };
}

/* The sample after j and those that continue it. */
static size_t past_group(const esp_batch *b, size_t j)
{
    for (j++; j < b->n_samples && b->back[j] > 0; j++) {
    }
    return j;
}

/* Chunks, each with as many samples as fit. */
static void cut_chunks(esp_batch *b)
{
    b->n_chunks = 0;
    for (size_t j = 0; j < b->n_samples;) {
        size_t first = j;

        j = past_group(b, j);
        while (j < b->n_samples && (b->chunk_tok == 0 ||
                                    b->start[past_group(b, j)] - b->start[first] <= b->chunk_tok)) {
            j = past_group(b, j);
        }
        b->chunk[b->n_chunks++] = first;
    }
    b->chunk[b->n_chunks] = b->n_samples;
}

/* Id i of what sample j continues and of itself. */
static int32_t id_at(const esp_batch *b, size_t j, size_t i)
{
    size_t before = esp_batch_before(b, j);

    return i < before ? b->ids[b->start[j - b->back[j]] + i] : b->ids[b->start[j] + i - before];
}

/* Index of the first id among the first n, n when it is not there. */
static size_t index_of(int32_t id, const esp_batch *b, size_t j, size_t n)
{
    size_t i = 0;

    while (i < n && id_at(b, j, i) != id) {
        i++;
    }
    return i;
}

/* Prefix of sample j and the place of what follows. What it continues has that prefix, too. */
static void find_prefix(esp_batch *b, size_t j)
{
    size_t before = esp_batch_before(b, j), n = before + b->start[j + 1] - b->start[j];
    size_t prefix, place, back = b->back[j];

    b->prefix[j] = b->place[j] = 0;
    if (!b->rule || (prefix = index_of(b->rule->start, b, j, n)) == n || prefix == 0) {
        return;
    }
    place = index_of(b->rule->mask[0], b, j, prefix);
    if (place == prefix) {
        place = index_of(b->rule->mask[1], b, j, prefix);
    }
    b->prefix[j] = prefix;
    b->place[j] = place < prefix ? place : prefix - 1;
    if (back > 0) {
        ESP_REQUIRE(prefix <= before);
        b->prefix[j - back] = prefix;
        b->place[j - back] = b->place[j];
    }
}

void esp_batch_fill(esp_batch *b, const esp_samples *s, const size_t *pick, size_t n)
{
    size_t at = 0;

    ESP_REQUIRE(n > 0 && n <= b->max_samples);
    for (size_t i = 0; i < n; i++) {
        size_t from = s->start[pick[i]], len = s->start[pick[i] + 1] - from;

        ESP_REQUIRE(len > 0 && at + len <= b->max_tok);
        b->start[i] = at;
        b->key[i] = pick[i];
        b->back[i] = s->back ? s->back[pick[i]] : 0;
        ESP_REQUIRE(b->back[i] <= i && (b->back[i] == 0 || b->back[i - b->back[i]] == 0));
        memcpy(b->ids + at, s->ids + from, len * sizeof *b->ids);
        memcpy(b->targets + at, s->targets + from, len * sizeof *b->targets);
        at += len;
    }
    b->start[n] = at;
    b->n_samples = n;
    b->n_tok = at;
    b->position = 0;
    for (size_t i = 0; i < n; i++) {
        find_prefix(b, i);
    }
    cut_chunks(b);
}

void esp_batch_init_chunk(esp_batch *chunk, size_t max_samples, size_t max_tok)
{
    *chunk = (esp_batch){ .max_samples = max_samples, .max_tok = max_tok };
    ESP_NEW(chunk->start, max_samples + 1);
}

size_t esp_batch_chunk_bytes(size_t max_samples)
{
    return esp_calloc_bytes(max_samples + 1, sizeof(size_t));
}

void esp_batch_free_chunk(esp_batch *chunk)
{
    free(chunk->start);
    *chunk = (esp_batch){ 0 };
}

size_t esp_batch_chunk(esp_batch *chunk, const esp_batch *b, size_t c)
{
    size_t first = b->chunk[c], end = b->chunk[c + 1], row = b->start[first];

    chunk->n_samples = end - first;
    chunk->n_tok = b->start[end] - row;
    ESP_REQUIRE(chunk->n_samples <= chunk->max_samples && chunk->n_tok <= chunk->max_tok);
    for (size_t j = first; j <= end; j++) {
        chunk->start[j - first] = b->start[j] - row;
    }
    chunk->rule = b->rule;
    chunk->position = b->position;
    chunk->ids = b->ids + row;
    chunk->targets = b->targets + row;
    chunk->key = b->key + first;
    chunk->prefix = b->prefix + first;
    chunk->place = b->place + first;
    chunk->back = b->back + first;
    return row;
}

size_t esp_batch_before(const esp_batch *b, size_t j)
{
    size_t of = j - b->back[j];

    return b->position + (of < j ? b->start[of + 1] - b->start[of] : 0);
}

static bool behind_prefix(const esp_batch *b, size_t j, size_t index)
{
    return b->prefix[j] > 0 && index >= b->prefix[j];
}

size_t esp_batch_position(const esp_batch *b, size_t j, size_t t)
{
    size_t index = esp_batch_before(b, j) + t;

    return behind_prefix(b, j, index) ? b->place[j] : index;
}

size_t esp_batch_block_position(const esp_batch *b, size_t j, size_t t)
{
    size_t index = esp_batch_before(b, j) + t;

    return behind_prefix(b, j, index) ? index - b->prefix[j] + 1 : 0;
}

size_t esp_batch_longest(const esp_batch *b)
{
    return longest_of(b->start, b->n_samples);
}

size_t esp_batch_reach(const esp_batch *b)
{
    size_t most = 0;

    for (size_t j = 0; j < b->n_samples; j++) {
        most = esp_max(most, esp_batch_before(b, j) + b->start[j + 1] - b->start[j]);
    }
    return most;
}
