/* tensor_writer.c - from a source to a writer: chunks of tensors over the ranks, their digest, the commit. */
#include "espalier/tensor_writer.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "model/model_impl.h"

typedef struct writing {
    const esp_writer *writer;
    esp_contents contents;
    void *state; /* of the writer, between begin and end */
    esp_tensor_source source;
    void *ctx;
    esp_tensor_ref *refs; /* [contents.n] owned                                       */
    size_t *first;        /* [contents.n + 1] owned; number of a tensor's first chunk */
    uint64_t *chunks;     /* [first[n], ESP_DIGEST_WORDS] owned; of those written here */
    char *buffer;         /* owned; of the largest chunk                              */
    size_t total, done;   /* bytes of all tensors; written by this rank               */
    int rank, size;
} writing;

static size_t largest_chunk(const esp_tensor_ref *refs, size_t n)
{
    size_t largest = 0;

    for (size_t i = 0; i < n; i++) {
        size_t rows = esp_tensor_chunk_rows(&refs[i]);

        largest = esp_max(largest, rows * esp_tensor_ref_row_bytes(&refs[i]));
    }
    return largest;
}

/* ---- what is written --------------------------------------------------------------------------- */

/* Takes refs [n]. */
static void take_tensors(writing *w, esp_tensor_ref *refs, size_t n)
{
    w->refs = refs;
    w->first = esp_tensor_chunks(refs, n);
    w->contents.tensors = refs;
    w->contents.n = n;
    for (size_t i = 0; i < n; i++) {
        w->total += esp_tensor_ref_bytes(&refs[i]);
    }
}

/* Beside refs and first. */
static void make_writing(writing *w, size_t *bytes)
{
    ESP_MAKE(w->chunks, ESP_DIGEST_WORDS * w->first[w->contents.n], bytes);
    ESP_MAKE(w->buffer, largest_chunk(w->refs, w->contents.n), bytes);
}

static void writing_free(writing *w)
{
    free(w->refs);
    free(w->first);
    free(w->chunks);
    free(w->buffer);
}

/* The digest, after the writer's end, lists the tensors once more. */
size_t esp_model_save_bytes(const esp_model *shape, const esp_writer *writer)
{
    writing w = { .contents = { .model = shape } };
    size_t n, bytes, lists;
    esp_tensor_ref *refs = esp_model_tensors(&n, shape);

    take_tensors(&w, refs, n);
    bytes = esp_tensors_bytes(shape) + esp_calloc_bytes(n + 1, sizeof *w.first);
    lists = esp_max(bytes, writer->bytes(&w.contents));
    make_writing(&w, &bytes);
    writing_free(&w);
    return bytes + lists;
}

esp_work esp_model_save_work(const esp_model *shape)
{
    return (esp_work){ .moved = 2 * (double)esp_model_cost(shape, 1).bytes };
}

size_t esp_model_save_numbers(const esp_model *shape)
{
    size_t n, most = 0;
    esp_tensor_ref *refs = esp_model_tensors(&n, shape);

    for (size_t i = 0; i < n; i++) {
        most = esp_max(most, esp_tensor_chunk_rows(&refs[i]) * refs[i].shape[1]);
    }
    free(refs);
    return most;
}

/* ---- rows, by all ranks ------------------------------------------------------------------------ */

/* Rows first .. first + n - 1 of tensor i, one of its chunks. */
static esp_status write_chunk(writing *w, size_t i, size_t first, size_t n)
{
    const esp_tensor_ref *t = &w->refs[i];
    size_t bytes = n * esp_tensor_ref_row_bytes(t);
    size_t chunk = w->first[i] + first / esp_tensor_chunk_rows(t);

    ESP_TRY(w->source(w->ctx, w->buffer, t, first, n));
    ESP_TRY(w->writer->rows(w->state, i, first, n, w->buffer));
    esp_digest_words(w->chunks + ESP_DIGEST_WORDS * chunk, w->buffer, bytes);
    w->done += bytes;
    esp_progress("write (MB)", w->done / 1000000, w->total / (size_t)w->size / 1000000);
    return ESP_OK;
}

/* The bytes of all tensors are cut into equal parts, one per rank; a chunk belongs to the part that it begins
 * in. So the lowest rank with a failure has the first one. */
static esp_status write_share(writing *w)
{
    size_t at = 0;

    for (size_t i = 0; i < w->contents.n; i++) {
        const esp_tensor_ref *t = &w->refs[i];
        size_t step = esp_tensor_chunk_rows(t);

        for (size_t row = 0; row < t->shape[0]; row += step) {
            size_t n = esp_min(step, t->shape[0] - row);

            if (at * (size_t)w->size / w->total == (size_t)w->rank) {
                ESP_TRY(write_chunk(w, i, row, n));
            }
            at += n * esp_tensor_ref_row_bytes(t);
        }
    }
    return ESP_OK;
}

/* ---- the folder -------------------------------------------------------------------------------- */

/* A path without the slashes that shells put behind a folder; the caller frees. */
static char *plain_path(const char *dir)
{
    size_t n = strlen(dir);

    while (n > 1 && dir[n - 1] == '/') {
        n--;
    }
    return esp_format("%.*s", esp_count(n), dir);
}

static esp_status make_part(const char *dir, const char *part)
{
    ESP_TRY(esp_folder_check(dir));
    ESP_TRY(esp_folder_remove(part));
    return esp_folder_make(part, NULL, 0);
}

/* Collective, the same status on all ranks. */
static esp_status write_part(writing *w)
{
    ESP_TRY(w->writer->begin(&w->state, &w->contents));
    return w->writer->end(w->state, write_share(w));
}

static esp_status write_folder(writing *w, esp_output to)
{
    char *dir = plain_path(to.dir), *part = esp_part_path(dir);
    MPI_Comm comm = w->contents.comm;
    esp_status st;

    w->contents.part = part;
    st = esp_agree(comm, w->rank == 0 ? make_part(dir, part) : ESP_OK);
    if (st == ESP_OK) {
        st = write_part(w);
    }
    if (st == ESP_OK) {
        st = esp_agree(comm, w->rank == 0 ? esp_commit(dir) : ESP_OK);
    }
    if (st != ESP_OK && w->rank == 0) {
        esp_folder_remove(part); /* the first failure is the one that is told */
        esp_error_clear();
    }
    free(part);
    free(dir);
    return st;
}

/* Takes refs [n]. */
static esp_status write_all(writing *w, esp_output to, esp_tensor_ref *refs, size_t n,
                            MPI_Comm comm)
{
    ESP_REQUIRE(to.writer->adapters == (w->contents.adapter != NULL));
    w->writer = to.writer;
    w->contents.shard_bytes = to.shard_bytes;
    w->contents.comm = comm;
    ESP_MPI(MPI_Comm_rank(comm, &w->rank));
    ESP_MPI(MPI_Comm_size(comm, &w->size));
    take_tensors(w, refs, n);
    make_writing(w, NULL);
    return write_folder(w, to);
}

/* ---- models ------------------------------------------------------------------------------------ */

/* Each chunk was digested by the rank that wrote it. Collective. */
static void digest_written(char hex[ESP_DIGEST_SIZE], const writing *w)
{
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, w->chunks,
                          esp_count(ESP_DIGEST_WORDS * w->first[w->contents.n]), MPI_UINT64_T,
                          MPI_BOR, w->contents.comm));
    esp_model_digest_of(hex, w->contents.model, w->chunks);
}

esp_status esp_model_save(char digest[ESP_DIGEST_SIZE], esp_output to, const esp_model *shape,
                          esp_tensor_source source, void *ctx, const char *from, MPI_Comm comm)
{
    writing w = { .contents = { .model = shape, .from = from }, .source = source, .ctx = ctx };
    size_t n;
    esp_tensor_ref *refs = esp_model_tensors(&n, shape);
    esp_status st = write_all(&w, to, refs, n, comm);

    if (st == ESP_OK && digest) {
        digest_written(digest, &w);
    }
    writing_free(&w);
    return st;
}

/* ---- adapters ---------------------------------------------------------------------------------- */

static esp_status adapter_rows(void *ctx, void *out, const esp_tensor_ref *t, size_t first,
                               size_t n)
{
    const esp_adapter *const *a = ctx;
    const float *from = esp_adapter_matrix(*a, t);

    memcpy(out, from + first * t->shape[1], n * t->shape[1] * sizeof *from);
    return ESP_OK;
}

esp_status esp_adapter_save(esp_output to, const esp_adapter *a, const esp_model *m, double dropout,
                            MPI_Comm comm)
{
    writing w = {
        .contents = { .model = m, .adapter = a, .dropout = dropout, .from = m->dir },
        .source = adapter_rows,
        .ctx = &a,
    };
    size_t n;
    esp_tensor_ref *refs = esp_adapter_tensors(&n, a, m);
    esp_status st = write_all(&w, to, refs, n, comm);

    writing_free(&w);
    return st;
}
