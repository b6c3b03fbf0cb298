/* mpi_writer.c - what a source and a writer may rely on, with a writer that takes notes; then every format of
 * the table. */
#include "espalier/exporters.h"

#include <dirent.h>

#include "espalier/folder.h"
#include "espalier/params.h"
#include "small_model.h"

/* The widest matrix is written in three chunks. */
static const shape wide = { .type = "qwen2",
                            .layers = 2,
                            .hidden = 24,
                            .heads = 4,
                            .kv_heads = 2,
                            .head_dim = 6,
                            .mlp = 200000,
                            .vocab = 30 };

static int rank_of(MPI_Comm comm)
{
    int rank;

    MPI_Comm_rank(comm, &rank);
    return rank;
}

static int n_ranks(void)
{
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

/* A path that is not there, the same on all ranks. */
static char *nothing_at(const char *name)
{
    char *dir = esp_test_dir(name);

    if (rank_of(MPI_COMM_WORLD) == 0) {
        esp_test_remove(dir);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    return dir;
}

static esp_status rows_of_model(void *ctx, void *out, const esp_tensor_ref *t, size_t first,
                                size_t n)
{
    const esp_weight *w = esp_model_weight(ctx, t->layer, t->slot);
    const char *data = t->part == ESP_PART_BIAS ? w->bias : w->data;
    size_t row = esp_tensor_ref_row_bytes(t);

    memcpy(out, data + first * row, n * row);
    return ESP_OK;
}

/* ---- a writer that takes notes ------------------------------------------------------------------- */

enum { IN_BEGIN, IN_ROWS, IN_END, NOWHERE };

static struct {
    int fails_in, fails_on; /* where, on which rank */
    size_t n_begin, n_end;
    size_t times, n_rows; /* sum over rows of how often they were written; rows there are */
    bool same;            /* all were those of the source */
} notes;

typedef struct noting {
    const esp_contents *of;
    int32_t **times; /* [n][rows] owned: how often each row was written here */
} noting;

static esp_status fail_in(int where)
{
    return notes.fails_in == where && notes.fails_on == rank_of(MPI_COMM_WORLD)
               ? esp_fail(ESP_EFAILED, "as the test wants")
               : ESP_OK;
}

static void noting_free(noting *k)
{
    for (size_t i = 0; i < k->of->n; i++) {
        free(k->times[i]);
    }
    free(k->times);
    free(k);
}

static esp_status note_begin(void **state, const esp_contents *c)
{
    char *path = esp_path(c->part, "notes");
    noting *k;
    esp_status st = fail_in(IN_BEGIN);

    notes.n_begin++;
    if (rank_of(c->comm) == 0 && st == ESP_OK) {
        st = esp_folder_add(c->part, "notes");
        st = st == ESP_OK ? esp_file_write(path, "new", 3) : st;
    }
    free(path);
    ESP_TRY(esp_agree(c->comm, st));
    ESP_NEW(k, 1);
    k->of = c;
    ESP_NEW(k->times, c->n);
    for (size_t i = 0; i < c->n; i++) {
        ESP_NEW(k->times[i], c->tensors[i].shape[0]);
    }
    *state = k;
    return ESP_OK;
}

static esp_status note_rows(void *state, size_t i, size_t first, size_t n, const void *data)
{
    noting *k = state;
    const esp_tensor_ref *t = &k->of->tensors[i];
    const esp_weight *w = t->weight;
    const char *from = t->part == ESP_PART_BIAS ? w->bias : w->data;
    size_t row = esp_tensor_ref_row_bytes(t);

    ESP_REQUIRE(first + n <= t->shape[0] && n * row <= (size_t)8 << 20);
    notes.same = notes.same && memcmp(data, from + first * row, n * row) == 0;
    for (size_t r = first; r < first + n; r++) {
        k->times[i][r]++;
    }
    return fail_in(IN_ROWS);
}

static esp_status note_end(void *state, esp_status st)
{
    noting *k = state;

    notes.n_end++;
    st = esp_agree(k->of->comm, st == ESP_OK ? fail_in(IN_END) : st);
    for (size_t i = 0; i < k->of->n; i++) {
        const esp_tensor_ref *t = &k->of->tensors[i];

        MPI_Allreduce(MPI_IN_PLACE, k->times[i], (int)t->shape[0], MPI_INT32_T, MPI_SUM,
                      k->of->comm);
        for (size_t r = 0; r < t->shape[0]; r++) {
            notes.times += (size_t)k->times[i][r];
            notes.n_rows += k->times[i][r] == 1;
        }
    }
    noting_free(k);
    return st;
}

static const esp_writer note_writer = {
    .name = "notes", .begin = note_begin, .rows = note_rows, .end = note_end
};

/* ---- tests ----------------------------------------------------------------------------------------- */

static void test_each_row_once(void)
{
    char *dir = nothing_at("notes"), *file = esp_path(dir, "notes");
    esp_output to = { .writer = &note_writer, .dir = dir };
    size_t n, rows = 0;
    esp_tensor_ref *refs;
    small s;

    small_init(&s, &wide, ESP_F32);
    refs = esp_model_tensors(&n, &s.model);
    for (size_t i = 0; i < n; i++) {
        rows += refs[i].shape[0];
    }
    notes.fails_in = NOWHERE;
    notes.same = true;
    notes.times = notes.n_rows = notes.n_begin = notes.n_end = 0;
    CU_ASSERT_EQUAL(
        esp_model_save(NULL, to, &s.model, rows_of_model, &s.model, NULL, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(notes.n_rows, rows); /* written once */
    CU_ASSERT_EQUAL(notes.times, rows);  /* and no more  */
    CU_ASSERT_TRUE(notes.same);
    CU_ASSERT_EQUAL(notes.n_begin, 1);
    CU_ASSERT_EQUAL(notes.n_end, 1);
    CU_ASSERT_TRUE(esp_file_exists(file));
    free(refs);
    small_free(&s);
    free(file);
    free(dir);
}

/* Wherever a writer fails, on whichever rank: all ranks say so, and the folder of before stays. */
static void test_failing_writer(void)
{
    char *dir = nothing_at("failing"), *part = esp_part_path(dir), *file = esp_path(dir, "before");
    esp_output to = { .writer = &note_writer, .dir = dir };
    const char *name = "before";
    small s;

    small_init(&s, &wide, ESP_BF16);
    if (rank_of(MPI_COMM_WORLD) == 0) {
        CU_ASSERT_EQUAL(esp_folder_make(dir, &name, 1), ESP_OK);
        CU_ASSERT_EQUAL(esp_file_write(file, "old", 3), ESP_OK);
    }
    for (notes.fails_in = IN_BEGIN; notes.fails_in <= IN_END; notes.fails_in++) {
        for (notes.fails_on = 0; notes.fails_on < n_ranks(); notes.fails_on++) {
            notes.n_begin = notes.n_end = 0;
            esp_error_clear();
            CU_ASSERT_EQUAL(
                esp_model_save(NULL, to, &s.model, rows_of_model, &s.model, NULL, MPI_COMM_WORLD),
                ESP_EFAILED);
            MPI_Barrier(MPI_COMM_WORLD); /* rank 0 tidies up */
            CU_ASSERT_EQUAL(notes.n_begin, 1);
            CU_ASSERT_EQUAL(notes.n_end, notes.fails_in != IN_BEGIN);
            CU_ASSERT_TRUE(esp_file_exists(file));
            CU_ASSERT_FALSE(esp_dir_exists(part));
            MPI_Barrier(MPI_COMM_WORLD);
        }
    }
    small_free(&s);
    free(file);
    free(part);
    free(dir);
}

/* ---- the table ------------------------------------------------------------------------------------- */

/* A model and an adapter of it: a format takes one of them. */
typedef struct subject {
    small s;
    esp_params p;
    esp_adapter a;
} subject;

static void subject_init(subject *x)
{
    small_init(&x->s, &wide, ESP_BF16);
    esp_adapter_init(&x->a, &x->s.model, 3, 16);
    esp_params_lora(&x->p, &x->a, &x->s.model, UINT64_MAX, 1);
}

static void subject_free(subject *x)
{
    esp_adapter_free(&x->a);
    esp_params_free(&x->p);
    small_free(&x->s);
}

static esp_status export(subject *x, esp_output to, MPI_Comm comm)
{
    return to.writer->adapters
               ? esp_adapter_save(to, &x->a, &x->s.model, 0.05, comm)
               : esp_model_save(NULL, to, &x->s.model, rows_of_model, &x->s.model, NULL, comm);
}

static int no_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static bool same_file(const char *dir, const char *other, const char *name)
{
    char *path[] = { esp_path(dir, name), esp_path(other, name) };
    esp_map map[2];
    bool same;

    CU_ASSERT_EQUAL_FATAL(esp_map_open(&map[0], path[0]), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_map_open(&map[1], path[1]), ESP_OK);
    same = map[0].n == map[1].n && memcmp(map[0].data, map[1].data, map[0].n) == 0;
    esp_map_close(&map[0]);
    esp_map_close(&map[1]);
    free(path[0]);
    free(path[1]);
    return same;
}

/* Of rank 0. */
static void check_same_files(const char *dir, const char *other)
{
    struct dirent **entry, **again;
    int n = scandir(dir, &entry, no_dots, alphasort);
    int n_again = scandir(other, &again, no_dots, alphasort);

    CU_ASSERT(n > 1 && n == n_again); /* the marker and what it names */
    for (int i = 0; i < n && n == n_again; i++) {
        CU_ASSERT_STRING_EQUAL(entry[i]->d_name, again[i]->d_name);
        CU_ASSERT_TRUE(same_file(dir, other, entry[i]->d_name));
    }
    for (int i = 0; i < n; i++) {
        free(entry[i]);
    }
    for (int i = 0; i < n_again; i++) {
        free(again[i]);
    }
    free(entry);
    free(again);
}

static void test_same_bytes_in_every_format(void)
{
    subject x;

    subject_init(&x);
    for (size_t i = 0; i < 2 * esp_n_exporters; i++) {
        const char *format = esp_exporters[i / 2]->name;
        char *all = nothing_at("all"), *alone = nothing_at("alone");
        esp_output by_all = esp_export_to(all, format), by_one = esp_export_to(alone, format);

        CU_ASSERT_PTR_EQUAL(by_all.writer, esp_exporters[i / 2]); /* names are unique */
        by_all.shard_bytes = by_one.shard_bytes = i % 2 ? 1000000 : 0;
        CU_ASSERT_EQUAL(export(&x, by_all, MPI_COMM_WORLD), ESP_OK);
        if (rank_of(MPI_COMM_WORLD) == 0) {
            CU_ASSERT_EQUAL(export(&x, by_one, MPI_COMM_SELF), ESP_OK);
            check_same_files(all, alone);
            CU_ASSERT_EQUAL(esp_folder_check(all), ESP_OK); /* each file is named in the marker */
        }
        MPI_Barrier(MPI_COMM_WORLD);
        free(alone);
        free(all);
    }
    subject_free(&x);
}

/* In the first tensor, and in the last. */
static void test_broken_numbers_in_every_format(void)
{
    const float none = NAN;
    subject x;

    subject_init(&x);
    for (size_t i = 0; i < 2 * esp_n_exporters; i++) {
        char *dir = nothing_at("broken"), *part = esp_part_path(dir);
        size_t at = i % 2 ? x.p.n - 1 : 0;
        float value = x.p.value[at];
        char *number = x.s.bytes + (i % 2 ? x.s.n - 2 : 0), kept[2];

        memcpy(kept, number, 2);
        esp_from_f32(number, ESP_BF16, &none, 1);
        x.p.value[at] = none;
        esp_error_clear();
        CU_ASSERT_EQUAL(export(&x, esp_export_to(dir, esp_exporters[i / 2]->name), MPI_COMM_WORLD),
                        ESP_EFAILED);
        MPI_Barrier(MPI_COMM_WORLD); /* rank 0 tidies up */
        CU_ASSERT_FALSE(esp_dir_exists(dir));
        CU_ASSERT_FALSE(esp_dir_exists(part));
        MPI_Barrier(MPI_COMM_WORLD);
        x.p.value[at] = value;
        memcpy(number, kept, 2);
        free(part);
        free(dir);
    }
    subject_free(&x);
}

ESP_TEST_MAIN("sources, writers, formats", { "each row once", test_each_row_once },
              { "failing writer", test_failing_writer },
              { "same bytes in every format", test_same_bytes_in_every_format },
              { "broken numbers in every format", test_broken_numbers_in_every_format })
