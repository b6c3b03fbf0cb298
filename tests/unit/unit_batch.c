/* unit_batch.c - samples, and batches with their chunks. */
#include "espalier/batch.h"
#include "espalier/rng.h"
#include "test.h"

static void test_samples(void)
{
    const int32_t a[] = { 5, 6, 7, 8 }, b[] = { 9 };
    const uint8_t counts[] = { 1, 0, 1, 0 };
    const int32_t targets[] = { 6, 7, 8, -1, -1, 7, -1, -1, -1 };
    esp_samples s = { 0 };

    esp_samples_add(&s, a, NULL, 4);
    esp_samples_add(&s, a, counts,
                    4); /* of the positions 1 .. 3 only 2 counts: t = 1 predicts it */
    esp_samples_add(&s, b, NULL, 1);
    CU_ASSERT_EQUAL(s.n, 3);
    CU_ASSERT(s.start[0] == 0 && s.start[1] == 4 && s.start[2] == 8 && s.start[3] == 9);
    CU_ASSERT_EQUAL(memcmp(s.ids + 4, a, sizeof a), 0);
    CU_ASSERT_EQUAL(memcmp(s.targets, targets, sizeof targets), 0);
    CU_ASSERT_EQUAL(esp_samples_longest(&s), 4);
    CU_ASSERT_EQUAL(esp_samples_targets(&s, 0), 3);
    CU_ASSERT_EQUAL(esp_samples_targets(&s, 1), 1);
    CU_ASSERT_EQUAL(esp_samples_targets(&s, 2), 0);
    esp_samples_free(&s);
    esp_samples_free(&s);
}

enum { MANY = 12 };

/* Samples of random lengths, some longer than a chunk; id t of sample j is 1000 j + t. */
static void random_samples(esp_samples *s, esp_rng *r)
{
    int32_t ids[400];

    for (int32_t j = 0; j < MANY; j++) {
        size_t n = 1 + esp_rng_below(r, esp_rng_below(r, 4) == 0 ? 399 : 40);

        for (size_t t = 0; t < n; t++) {
            ids[t] = 1000 * j + (int32_t)t;
        }
        esp_samples_add(s, ids, NULL, n);
    }
}

/* The rows of a batch are the picked samples one after another. */
static bool batch_is_picked(const esp_batch *b, const esp_samples *s, const size_t *pick, size_t n)
{
    bool same = b->n_samples == n && b->start[0] == 0 && b->start[n] == b->n_tok;

    for (size_t i = 0; i < n && same; i++) {
        size_t from = s->start[pick[i]], len = s->start[pick[i] + 1] - from;

        same = b->key[i] == pick[i] && b->start[i + 1] - b->start[i] == len &&
               memcmp(b->ids + b->start[i], s->ids + from, len * sizeof *b->ids) == 0 &&
               memcmp(b->targets + b->start[i], s->targets + from, len * sizeof *b->ids) == 0;
    }
    return same;
}

/* Chunks follow each other; each has as many samples as fit, one at least. */
static bool chunks_are_lawful(const esp_batch *b, size_t n)
{
    bool good = b->chunk[0] == 0 && b->chunk[b->n_chunks] == n;

    for (size_t c = 0; c < b->n_chunks && good; c++) {
        size_t first = b->chunk[c], end = b->chunk[c + 1], row = b->start[first];

        good = end > first && (end == first + 1 || b->start[end] - row <= b->chunk_tok) &&
               (end == n || b->start[end + 1] - row > b->chunk_tok);
    }
    return good;
}

/* A chunk as a batch of its own has the rows of its samples. */
static bool chunk_is_part(const esp_batch *b, size_t c, esp_batch *chunk)
{
    size_t row = esp_batch_chunk(chunk, b, c), first = b->chunk[c];
    bool same = row == b->start[first] && chunk->n_samples == b->chunk[c + 1] - first &&
                chunk->n_tok == b->start[b->chunk[c + 1]] - row && chunk->start[0] == 0;

    for (size_t j = 0; j < chunk->n_samples && same; j++) {
        same = chunk->key[j] == b->key[first + j] &&
               chunk->start[j + 1] == b->start[first + j + 1] - row &&
               chunk->ids[chunk->start[j]] == b->ids[b->start[first + j]];
    }
    return same;
}

static void test_batch_chunks(void)
{
    esp_rng r = { .key = 1 };

    for (size_t round = 0; round < 200; round++) {
        size_t pick[MANY], n = 1 + esp_rng_below(&r, MANY);
        esp_samples s = { 0 };
        esp_batch b, chunk;

        random_samples(&s, &r);
        for (size_t i = 0; i < MANY; i++) {
            pick[i] = i;
        }
        esp_rng_shuffle(&r, pick, MANY);
        esp_batch_init(&b, MANY, s.start[s.n]);
        esp_batch_init_chunk(&chunk, MANY, s.start[s.n]);
        esp_batch_fill(&b, &s, pick, n);
        CU_ASSERT(batch_is_picked(&b, &s, pick, n));
        CU_ASSERT_EQUAL(b.n_chunks, 1);
        b.chunk_tok = 1 + esp_rng_below(&r, 200);
        esp_batch_fill(&b, &s, pick, n);
        CU_ASSERT(chunks_are_lawful(&b, n));
        for (size_t c = 0; c < b.n_chunks; c++) {
            CU_ASSERT(chunk_is_part(&b, c, &chunk));
        }
        esp_batch_free_chunk(&chunk);
        esp_batch_free_chunk(&chunk);
        esp_batch_free(&b);
        esp_samples_free(&s);
    }
}

/* ids of a sample, and what it must give: token t has position[t] and block[t]. */
typedef struct prefixed {
    size_t n, prefix, place;
    int32_t ids[8];
    size_t position[8], block[8];
} prefixed;

enum { START = 4, MASK = 1, OTHER_MASK = 2 };
static const prefixed prefixed_samples[] = {
    /* the mask ends the prefix; a second start is a token like others */
    { 7,
      4,
      3,
      { 9, 8, 7, MASK, START, 5, START },
      { 0, 1, 2, 3, 3, 3, 3 },
      { 0, 0, 0, 0, 1, 2, 3 } },
    /* the other mask, in the middle; one behind the start does not count */
    { 6, 3, 1, { 9, OTHER_MASK, 7, START, MASK, 5 }, { 0, 1, 2, 1, 1, 1 }, { 0, 0, 0, 1, 2, 3 } },
    /* both: the first kind wins */
    { 5, 3, 2, { OTHER_MASK, 9, MASK, START, 5 }, { 0, 1, 2, 2, 2 }, { 0, 0, 0, 1, 2 } },
    /* none: the last of the prefix */
    { 4, 2, 1, { 9, 8, START, 5 }, { 0, 1, 1, 1 }, { 0, 0, 1, 2 } },
    /* no prefix: no start, or nothing before it */
    { 4, 0, 0, { 9, MASK, 8, 7 }, { 0, 1, 2, 3 }, { 0 } },
    { 3, 0, 0, { START, MASK, 8 }, { 0, 1, 2 }, { 0 } },
};
enum { N_PREFIXED = sizeof prefixed_samples / sizeof *prefixed_samples };

static void test_prefixes(void)
{
    const esp_prefix_rule rule = { .start = START, .mask = { MASK, OTHER_MASK } };
    esp_samples s = { 0 };
    size_t pick[N_PREFIXED];
    esp_batch b;

    for (size_t j = 0; j < N_PREFIXED; j++) {
        esp_samples_add(&s, prefixed_samples[j].ids, NULL, prefixed_samples[j].n);
        pick[j] = j;
    }
    esp_batch_init(&b, N_PREFIXED, s.start[s.n]);
    b.rule = &rule;
    esp_batch_fill(&b, &s, pick, N_PREFIXED);
    for (size_t j = 0; j < N_PREFIXED; j++) {
        const prefixed *p = &prefixed_samples[j];

        CU_ASSERT_EQUAL(b.prefix[j], p->prefix);
        CU_ASSERT_EQUAL(b.place[j], p->place);
        for (size_t t = 0; t < p->n; t++) {
            CU_ASSERT_EQUAL(esp_batch_position(&b, j, t), p->position[t]);
            CU_ASSERT_EQUAL(esp_batch_block_position(&b, j, t), p->block[t]);
        }
    }
    b.position = 5; /* decoding goes on behind the first sample's five tokens */
    CU_ASSERT_EQUAL(esp_batch_position(&b, 0, 1), 3);
    CU_ASSERT_EQUAL(esp_batch_block_position(&b, 0, 1), 3);
    CU_ASSERT_EQUAL(esp_batch_position(&b, 4, 0), 5);
    b.rule = NULL;
    esp_batch_fill(&b, &s, pick, N_PREFIXED);
    CU_ASSERT_EQUAL(b.prefix[0], 0);
    CU_ASSERT_EQUAL(esp_batch_position(&b, 0, 6), 6);
    CU_ASSERT_EQUAL(esp_batch_block_position(&b, 0, 6), 0);
    esp_batch_free(&b);
    esp_samples_free(&s);
}

/* Those that continue another one count on from there, have its prefix, and stay in its chunk. */
static void test_branches(void)
{
    const esp_prefix_rule rule = { .start = START, .mask = { MASK, OTHER_MASK } };
    const int32_t trunk[] = { 5, MASK, 7 }, one[] = { START, 8 }, two[] = { START, 9, 9, 9 };
    const int32_t none[] = { ESP_NO_TARGET, ESP_NO_TARGET, ESP_NO_TARGET, 9 };
    const size_t pick[] = { 0, 1, 2, 3, 4 };
    esp_samples s = { 0 };
    esp_batch b;

    esp_samples_add(&s, trunk, NULL, 2);
    esp_samples_append(&s, trunk, none, 3, 0);
    esp_samples_append(&s, one, none, 2, 1);
    esp_samples_append(&s, two, none, 4, 2);
    esp_samples_add(&s, trunk, NULL, 3);
    CU_ASSERT(s.back[0] == 0 && s.back[1] == 0 && s.back[2] == 1 && s.back[3] == 2 &&
              s.back[4] == 0);
    CU_ASSERT_EQUAL(esp_samples_targets(&s, 3), 1);
    esp_batch_init(&b, 5, s.start[s.n]);
    b.rule = &rule;
    b.chunk_tok = 4;
    esp_batch_fill(&b, &s, pick, 5);
    CU_ASSERT(b.n_chunks == 3 && b.chunk[1] == 1 && b.chunk[2] == 4 && b.chunk[3] == 5);
    CU_ASSERT(esp_batch_before(&b, 1) == 0 && esp_batch_before(&b, 3) == 3);
    CU_ASSERT(esp_batch_longest(&b) == 4 && esp_batch_reach(&b) == 7);
    CU_ASSERT(b.prefix[0] == 0 && b.prefix[1] == 3 && b.prefix[2] == 3 && b.prefix[3] == 3);
    CU_ASSERT(esp_batch_position(&b, 1, 2) == 2 && esp_batch_position(&b, 3, 1) == 1);
    CU_ASSERT(esp_batch_block_position(&b, 3, 1) == 2 && b.prefix[4] == 0);
    b.rule = NULL;
    b.chunk_tok = 11;
    esp_batch_fill(&b, &s, pick, 5);
    CU_ASSERT(b.n_chunks == 2 && b.chunk[1] == 4);
    CU_ASSERT(esp_batch_position(&b, 3, 1) == 4 && b.prefix[1] == 0);
    esp_batch_free(&b);
    esp_samples_free(&s);
}

ESP_TEST_MAIN("batch", { "samples", test_samples }, { "chunks", test_batch_chunks },
              { "prefixes and positions", test_prefixes }, { "branches", test_branches })
