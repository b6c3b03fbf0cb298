/* model_digest.c - the identity of a model: its config.json and every byte of its tensors, as read on every
 * node that uses them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "model/model_impl.h"

#define STRIDE ((size_t)128 << 10) /* bytes that are looked at twice while they are in the cache */

enum {
    WORDS = ESP_DIGEST_WORDS, /* of the digest of a chunk */
    PAIR = 2 * WORDS          /* and their complements    */
};

/* ---- chunks ------------------------------------------------------------------------------------ */

size_t esp_tensor_chunk_rows(const esp_tensor_ref *t)
{
    size_t fit = ESP_CHUNK_BYTES / esp_tensor_ref_row_bytes(t);

    return esp_min(esp_max(fit, 1), t->shape[0]);
}

size_t *esp_tensor_chunks(const esp_tensor_ref *refs, size_t n)
{
    size_t *first;

    ESP_NEW(first, n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t rows = esp_tensor_chunk_rows(&refs[i]);

        first[i + 1] = first[i] + (refs[i].shape[0] + rows - 1) / rows;
    }
    return first;
}

/* ---- from chunks to a model -------------------------------------------------------------------- */

static void add_text(esp_digest *d, char *text)
{
    ESP_REQUIRE(text);
    esp_digest_add(d, text, strlen(text));
    free(text);
}

/* The angles are those of config.json, but for what the code of a ChatGLM beside it or a setting says; to
 * as many digits as do not depend on a processor's library. */
static void add_rope(esp_digest *d, const esp_rope *r)
{
    add_text(d, esp_format("%zu %.6g %zu %.6g", r->n, r->gain, r->border, r->stretch));
    for (size_t i = 0; i < r->n / 2; i++) {
        add_text(d, esp_format("%.6g %.6g", r->inv_freq[i], r->longer ? r->longer[i] : 0));
    }
}

void esp_model_digest_of(char hex[ESP_DIGEST_SIZE], const esp_model *m, const uint64_t *chunks)
{
    size_t n = 0;
    esp_tensor_ref *refs = esp_model_tensors(&n, m);
    size_t *first = esp_tensor_chunks(refs, n);
    esp_digest d;

    esp_digest_init(&d);
    add_text(&d, json_dumps(m->config, JSON_COMPACT | JSON_SORT_KEYS));
    add_rope(&d, &m->rope);
    for (size_t i = 0; i < n; i++) {
        char *name = esp_tensor_ref_name(m, &refs[i]);

        add_text(&d, esp_format("%s %s %zu [%zu, %zu]", name, esp_dtype_name(refs[i].weight->dtype),
                                refs[i].n_dims, refs[i].shape[0], refs[i].shape[1]));
        if (chunks) {
            esp_digest_add(&d, chunks + WORDS * first[i],
                           WORDS * (first[i + 1] - first[i]) * sizeof *chunks);
        }
        free(name);
    }
    esp_digest_end(&d, hex);
    free(first);
    free(refs);
}

/* ---- reading ----------------------------------------------------------------------------------- */

typedef struct reading {
    const esp_model *m;
    esp_tensor_ref *refs; /* [n] owned */
    size_t n;
    size_t *first;    /* [n + 1] owned; number of a tensor's first chunk                       */
    uint8_t *used;    /* [n] owned; tensors that are read on this node                         */
    uint64_t *chunks; /* [first[n], PAIR] owned; all ones of what nobody has read              */
    uint64_t broken;  /* tensor << 48 | element of the first number that is not finite         */
} reading;

/* The first number in n bytes that is none is noted. */
static void digest_chunk(uint64_t words[PAIR], uint64_t *broken, const void *data, size_t n,
                         size_t element, esp_dtype type)
{
    size_t size = esp_dtype_size(type);
    esp_digest d;

    *broken = UINT64_MAX;
    esp_digest_init(&d);
    for (size_t at = 0; at < n; at += STRIDE) {
        const char *part = (const char *)data + at;
        size_t bytes = esp_min(STRIDE, n - at), found;

        esp_digest_add(&d, part, bytes);
        found = esp_find_nonfinite(part, type, bytes / size);
        if (found < bytes / size && *broken == UINT64_MAX) {
            *broken = element + at / size + found;
        }
    }
    esp_digest_end_words(&d, words);
    for (size_t i = 0; i < WORDS; i++) {
        words[WORDS + i] = ~words[i];
    }
}

/* Chunk c of tensor i. */
static uint64_t read_chunk(reading *r, size_t i, size_t c)
{
    const esp_tensor_ref *t = &r->refs[i];
    size_t rows = esp_tensor_chunk_rows(t), row = (c - r->first[i]) * rows;
    size_t bytes = esp_tensor_ref_row_bytes(t), size = esp_dtype_size(t->weight->dtype);
    const char *data = t->part == ESP_PART_BIAS ? t->weight->bias : t->weight->data;
    uint64_t broken;

    digest_chunk(r->chunks + PAIR * c, &broken, data + row * bytes,
                 esp_min(rows, t->shape[0] - row) * bytes, row * bytes / size, t->weight->dtype);
    return broken == UINT64_MAX ? broken : (uint64_t)i << 48 | broken;
}

/* Of the used chunks every n_ranks-th, over threads. */
static void read_share(reading *r, size_t rank, size_t n_ranks)
{
    size_t n = 0, *tensor, *chunk;
    uint64_t broken = UINT64_MAX;

    ESP_NEW(tensor, r->first[r->n]);
    ESP_NEW(chunk, r->first[r->n]);
    for (size_t i = 0, at = 0; i < r->n; i++) {
        for (size_t c = r->first[i]; r->used[i] && c < r->first[i + 1]; c++, at++) {
            if (at % n_ranks == rank) {
                tensor[n] = i;
                chunk[n++] = c;
            }
        }
    }
#pragma omp parallel for schedule(dynamic) reduction(min : broken)
    for (size_t k = 0; k < n; k++) {
        uint64_t at = read_chunk(r, tensor[k], chunk[k]);

        broken = at < broken ? at : broken;
    }
    r->broken = broken;
    free(tensor);
    free(chunk);
}

static void reading_init(reading *r, const esp_model *m, size_t begin, size_t end)
{
    bool head_and_norm = begin == 0 || end == m->dims.n_layers;

    *r = (reading){ .m = m };
    r->refs = esp_model_tensors(&r->n, m);
    r->first = esp_tensor_chunks(r->refs, r->n);
    ESP_NEW(r->used, r->n);
    ESP_NEW(r->chunks, PAIR * r->first[r->n]);
    memset(r->chunks, 0xff, PAIR * r->first[r->n] * sizeof *r->chunks);
    for (size_t i = 0; i < r->n; i++) {
        size_t l = r->refs[i].layer;

        r->used[i] = l == ESP_NO_LAYER ? head_and_norm : l >= begin && l < end;
    }
}

static void reading_free(reading *r)
{
    free(r->refs);
    free(r->first);
    free(r->used);
    free(r->chunks);
}

/* The ranks of a node that have the same files mapped: each reads its share for all of them. A copy of the
 * model on another file system of the node is another one. The caller frees. */
static MPI_Comm ranks_of_same_files(const esp_model *m, MPI_Comm comm)
{
    MPI_Comm node, same;
    uint64_t id = 0;
    int rank;

    for (size_t f = 0; f < m->n_files; f++) {
        id = esp_digest_block(&m->files[f].map.id, sizeof m->files[f].map.id, id);
    }
    ESP_MPI(MPI_Comm_rank(comm, &rank));
    ESP_MPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node));
    ESP_MPI(MPI_Comm_split(node, (int)(id >> 33), rank, &same));
    ESP_MPI(MPI_Comm_free(&node));
    return same;
}

/* ESP_EFORMAT, the same on all ranks. */
static esp_status check_finite(const reading *r, MPI_Comm comm)
{
    uint64_t broken = r->broken, element;
    const esp_tensor_ref *t;
    const char *data;
    char *name, *at;
    float value;
    esp_status st;

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &broken, 1, MPI_UINT64_T, MPI_MIN, comm));
    if (broken == UINT64_MAX) {
        return ESP_OK;
    }
    t = &r->refs[broken >> 48];
    element = broken & (UINT64_MAX >> 16);
    data = t->part == ESP_PART_BIAS ? t->weight->bias : t->weight->data;
    esp_to_f32(&value, data + element * esp_dtype_size(t->weight->dtype), t->weight->dtype, 1);
    name = esp_tensor_ref_name(r->m, t);
    at = t->n_dims == 1 ? esp_format("%" PRIu64, element)
                        : esp_format("[%" PRIu64 ", %" PRIu64 "]", element / t->shape[1],
                                     element % t->shape[1]);
    st = esp_fail(ESP_EFORMAT,
                  "%s: %s: element %s is %g: such a model computes nothing; fetch its files again, "
                  "or make them anew",
                  r->m->dir, name, at, (double)value);
    free(at);
    free(name);
    return st;
}

/* Whether words and complements fit: those of a chunk that was read, and the least over ranks that have read
 * the same. */
static bool fits(const uint64_t *pair)
{
    return pair[0] == ~pair[WORDS] && pair[1] == ~pair[WORDS + 1];
}

/* ESP_EUSAGE where ranks have read different bytes; least [first[n], PAIR] over all of them. Collective. */
static esp_status check_same(uint64_t *least, const reading *r, MPI_Comm comm)
{
    size_t n = r->first[r->n], c = 0, i = 0;
    const uint64_t *own;
    char *name, *what;
    esp_status st;

    ESP_MPI(MPI_Allreduce(r->chunks, least, esp_count(PAIR * n), MPI_UINT64_T, MPI_MIN, comm));
    while (c < n && fits(least + PAIR * c)) {
        c++;
    }
    if (c == n) {
        return ESP_OK;
    }
    while (r->first[i + 1] <= c) {
        i++;
    }
    own = r->chunks + PAIR * c;
    name = esp_tensor_ref_name(r->m, &r->refs[i]);
    what = esp_format("%s: %s", r->m->dir, name);
    st = esp_agree_same(fits(own) ? own : NULL, what, comm);
    free(what);
    free(name);
    return st;
}

static esp_status read_tensors(char hex[ESP_DIGEST_SIZE], reading *r, MPI_Comm comm)
{
    MPI_Comm same = ranks_of_same_files(r->m, comm);
    size_t n = r->first[r->n];
    uint64_t *least;
    int rank, size;
    esp_status st;

    ESP_MPI(MPI_Comm_rank(same, &rank));
    ESP_MPI(MPI_Comm_size(same, &size));
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, r->used, esp_count(r->n), MPI_BYTE, MPI_BOR, same));
    read_share(r, (size_t)rank, (size_t)size);
    ESP_MPI(
        MPI_Allreduce(MPI_IN_PLACE, r->chunks, esp_count(PAIR * n), MPI_UINT64_T, MPI_MIN, same));
    ESP_MPI(MPI_Comm_free(&same));
    ESP_NEW(least, PAIR * n);
    st = check_same(least, r, comm);
    if (st == ESP_OK) {
        st = esp_agree(comm, check_finite(r, comm));
    }
    for (size_t c = 0; c < n; c++) { /* the complements have served */
        memmove(least + WORDS * c, least + PAIR * c, WORDS * sizeof *least);
    }
    esp_model_digest_of(hex, r->m, least);
    free(least);
    return st;
}

esp_status esp_model_digest(char hex[ESP_DIGEST_SIZE], const esp_model *m, size_t begin, size_t end,
                            MPI_Comm comm)
{
    uint64_t words[WORDS];
    char *what;
    reading r;
    esp_status st;

    esp_model_digest_of(hex, m, NULL);
    esp_digest_words(words, hex, ESP_DIGEST_SIZE);
    what = esp_format("%s: config.json, code beside it, or the types in its files,", m->dir);
    st = esp_agree_same(words, what, comm);
    free(what);
    if (st != ESP_OK || !m->head_and_norm[ESP_SLOT_EMBED].data) {
        return st;
    }
    reading_init(&r, m, begin, end);
    st = read_tensors(hex, &r, comm);
    reading_free(&r);
    return st;
}
