/* mpi_checkpoint.c - a training saved by all ranks comes back whole on any number, or not at all. */
#include "espalier/checkpoint.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/rng.h"
#include "recover/writer_impl.h"
#include "test.h"

#define SETTINGS "0123456789abcdef0123456789abcdef"

enum { N = 25003, KEEP = 3 };

/* How the files of a test are written: each of the ways where that matters. */
static const struct way {
    esp_file_io io;
    bool waits;
} ways[] = { { ESP_IO_MPIO, false }, { ESP_IO_MPIO, true }, { ESP_IO_DIRECT, false } };

static struct way way;

static void with_all_ways(void (*test)(void))
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        way = ways[i];
        test();
    }
    way = ways[0];
}

/* ---- the MPI library between HDF5 and the file -------------------------------------------------- */

static struct {
    int n_opened, n_hinted; /* files; those whose hints had HINT           */
    int n_collective;       /* transfers                                   */
} library;

#define HINT "cb_buffer_size"

int MPI_File_open(MPI_Comm comm, const char *path, int mode, MPI_Info info, MPI_File *file)
{
    char value[MPI_MAX_INFO_VAL + 1];
    int found = 0;

    if (info != MPI_INFO_NULL) {
        MPI_Info_get(info, HINT, MPI_MAX_INFO_VAL, value, &found);
    }
    library.n_opened++;
    library.n_hinted += found && strcmp(value, "1048576") == 0;
    return PMPI_File_open(comm, path, mode, info, file);
}

int MPI_File_write_at_all(MPI_File file, MPI_Offset at, const void *data, int n, MPI_Datatype type,
                          MPI_Status *status)
{
    library.n_collective++;
    return PMPI_File_write_at_all(file, at, data, n, type, status);
}

/* ---- trainings ----------------------------------------------------------------------------------- */

/* Two stages, the second in pieces; m, v and best are the same functions of the place on any rank. */
static void make_params(esp_params *p, uint64_t seed, const esp_grid *grid)
{
    esp_rng r = { .key = esp_rng_key(seed, 0, 0) };

    *p = (esp_params){ .n = N, .n_stages = 2, .piece_limit = 9000 };
    ESP_NEW(p->value, N);
    ESP_NEW(p->stage, 3);
    p->stage[1] = 1500;
    p->stage[2] = N;
    esp_params_train(p, NULL, grid->rank, grid->size);
    CU_ASSERT_EQUAL(p->n_pieces, 4);
    for (size_t i = 0; i < N; i++) {
        p->value[i] = (float)esp_rng_normal(&r);
    }
    for (size_t k = 0, own = 0; k < p->n_pieces; k++) {
        size_t begin, end;

        esp_params_share(&begin, &end, p, k, grid->rank);
        for (size_t i = begin; i < end; i++, own++) {
            p->m[own] = p->value[i] + 1;
            p->v[own] = p->value[i] * 2;
            p->best[own] = 1 - p->value[i];
        }
    }
}

static esp_checkpoint checkpoint_of(const char *dir, size_t keep, esp_params *p,
                                    const esp_grid *grid)
{
    return (esp_checkpoint){ .dir = dir,
                             .settings = SETTINGS,
                             .keep = keep,
                             .params = p,
                             .grid = grid,
                             .io = way.io,
                             .waits = way.waits };
}

static esp_training training_at(size_t step)
{
    return (esp_training){ .step = step,
                           .epoch = 2,
                           .position = 100 + step,
                           .best_step = 3,
                           .bad_validations = 1,
                           .skipped = 5,
                           .in_a_row = 2,
                           .rollbacks = 1,
                           .saved = step / 2,
                           .good = step / 3,
                           .train_loss = 1.0 / 3,
                           .first_loss = 4.25,
                           .best_loss = 0.1 };
}

static char *fresh_dir(const char *name, const esp_grid *grid)
{
    char *root = esp_test_dir("checkpoint"), *dir = esp_format("%s-%s", root, name);

    ESP_REQUIRE(esp_agree(grid->world, grid->rank == 0 ? esp_test_remove(dir) : ESP_OK) == ESP_OK);
    free(root);
    return dir;
}

static char *file_of(const char *dir, size_t step)
{
    return esp_format("%s/step-%06zu.h5", dir, step);
}

static void save(const char *dir, size_t step, size_t keep, const esp_grid *grid)
{
    esp_training t = training_at(step);
    esp_checkpoint c;
    esp_params p;

    make_params(&p, step, grid);
    c = checkpoint_of(dir, keep, &p, grid);
    CU_ASSERT_EQUAL(esp_checkpoint_begin(&c, &t), ESP_OK);
    CU_ASSERT_EQUAL(esp_checkpoint_finish(&c), ESP_OK);
    CU_ASSERT_EQUAL(esp_checkpoint_finish(&c), ESP_OK); /* nothing more to do */
    esp_params_free(&p);
}

static bool is_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (x[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool are_equal(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) == 0;
}

/* Loads and expects what save(step) wrote; step 0: nothing to be found. */
static void expect(const char *dir, size_t step, const esp_grid *grid)
{
    esp_training t = { 0 }, want_t = training_at(step);
    esp_params p, want;
    esp_checkpoint c;
    bool found;

    make_params(&p, 999, grid);
    make_params(&want, step ? step : 999, grid);
    c = checkpoint_of(dir, KEEP, &p, grid);
    CU_ASSERT_EQUAL(esp_checkpoint_load(&found, &t, &c, SIZE_MAX), ESP_OK);
    CU_ASSERT_EQUAL(found, step > 0);
    CU_ASSERT(are_equal(p.value, want.value, N));
    CU_ASSERT(is_zero(p.grad, N));
    if (step > 0) {
        CU_ASSERT(are_equal(p.m, want.m, p.n_own) && are_equal(p.v, want.v, p.n_own) &&
                  are_equal(p.best, want.best, p.n_own));
        CU_ASSERT(memcmp(&t, &want_t, sizeof t) == 0);
    } else {
        CU_ASSERT(is_zero(p.m, p.n_own) && is_zero(p.v, p.n_own) && is_zero(p.best, p.n_own));
    }
    esp_params_free(&p);
    esp_params_free(&want);
}

static size_t files_in(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    for (struct dirent *e; d && (e = readdir(d));) {
        n += e->d_name[0] != '.';
    }
    if (d) {
        closedir(d);
    }
    return n;
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void check_fewer_ranks(void)
{
    esp_grid all, some;
    MPI_Comm fewer;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("fewer", &all);
    save(dir, 7, KEEP, &all);
    expect(dir, 7, &all);
    for (int size = 1; size < all.size; size++) {
        MPI_Comm_split(MPI_COMM_WORLD, all.rank < size ? 0 : MPI_UNDEFINED, 0, &fewer);
        if (fewer != MPI_COMM_NULL) {
            esp_grid_init(&some, 1, fewer);
            expect(dir, 7, &some);
            esp_grid_free(&some);
            MPI_Comm_free(&fewer);
        }
    }
    free(dir);
    esp_grid_free(&all);
}

static void test_fewer_ranks(void)
{
    with_all_ways(check_fewer_ranks);
}

static void test_newest_stay(void)
{
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("newest", &all);
    expect(dir, 0, &all); /* no folder */
    for (size_t step = 8; step <= 12; step++) {
        save(dir, step, KEEP, &all);
    }
    CU_ASSERT_EQUAL(files_in(dir), KEEP);
    expect(dir, 12, &all);
    free(dir);
    esp_grid_free(&all);
}

/* Whether rank 0 says each of these words (NULL: no more) while all ranks find this step. */
static void expect_words(const char *dir, size_t step, const char *const *words,
                         const esp_grid *grid)
{
    esp_ear ear = esp_test_hear();
    char *said;

    expect(dir, step, grid);
    said = esp_test_heard(&ear);
    for (size_t i = 0; grid->rank == 0 && words[i]; i++) {
        CU_ASSERT_PTR_NOT_NULL(strstr(said, words[i]));
    }
    free(said);
}

/* Rank 0 puts bytes there, or cuts a file to half its size, or turns one bit in its middle. */
static void put(const char *path, const char *text)
{
    ESP_REQUIRE(esp_file_write(path, text, strlen(text)) == ESP_OK);
}

static void cut(const char *path)
{
    char *bytes;
    size_t n;

    ESP_REQUIRE(esp_file_read(&bytes, &n, path) == ESP_OK);
    ESP_REQUIRE(truncate(path, (off_t)(n / 2)) == 0);
    free(bytes);
}

static void turn_bit(const char *path)
{
    char *bytes;
    size_t n;

    ESP_REQUIRE(esp_file_read(&bytes, &n, path) == ESP_OK);
    bytes[n / 2] ^= 1;
    ESP_REQUIRE(esp_file_write(path, bytes, n) == ESP_OK);
    free(bytes);
}

/* What a run killed while it wrote, a full disk and a bad one leave. */
static void damage(const char *dir)
{
    char *part = esp_format("%s/step-000099.h5" ESP_PART, dir), *garbage = file_of(dir, 99);
    char *truncated = file_of(dir, 6), *turned = file_of(dir, 5);

    put(part, "half");
    put(garbage, "garbage");
    cut(truncated);
    turn_bit(turned);
    free(part);
    free(garbage);
    free(truncated);
    free(turned);
}

static void test_damage(void)
{
    static const char *const two[] = { "warning: checkpoint passed over: ", "step-000099.h5",
                                       "step-000006.h5", NULL };
    static const char *const all_of_them[] = { "step-000005.h5: its digest does not fit",
                                               "step-000004.h5: its digest does not fit",
                                               "no checkpoint is whole", "anew at step 0", NULL };
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("damage", &all);
    for (size_t step = 4; step <= 6; step++) {
        save(dir, step, KEEP, &all);
    }
    if (all.rank == 0) {
        damage(dir);
    }
    MPI_Barrier(all.world);
    expect_words(dir, 4, two, &all);
    save(dir, 5, KEEP, &all); /* over the damaged one; what claims to be newer goes */
    CU_ASSERT_EQUAL(files_in(dir), 2);
    expect(dir, 5, &all);
    if (all.rank == 0) {
        char *path = file_of(dir, 5), *old = file_of(dir, 4);

        turn_bit(path);
        turn_bit(old);
        free(path);
        free(old);
    }
    MPI_Barrier(all.world);
    expect_words(dir, 0, all_of_them, &all);
    free(dir);
    esp_grid_free(&all);
}

/* A run that is killed when all is written but nothing is final leaves the file before. */
static void check_killed(void)
{
    esp_training t = training_at(8);
    esp_checkpoint c;
    uint64_t digest;
    esp_params p;
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("killed", &all);
    save(dir, 7, KEEP, &all);
    make_params(&p, 8, &all);
    c = checkpoint_of(dir, KEEP, &p, &all);
    CU_ASSERT_EQUAL(esp_checkpoint_begin(&c, &t), ESP_OK);
    if (way.waits || way.io == ESP_IO_DIRECT) { /* else a thread is using HDF5 */
        expect(dir, 7, &all);
    }
    CU_ASSERT_EQUAL(esp_checkpoint_writer_join(c.writer, &digest), ESP_OK);
    c.writer = NULL;
    MPI_Barrier(all.world);
    CU_ASSERT_EQUAL(files_in(dir), 2);
    expect(dir, 7, &all);
    save(dir, 8, KEEP, &all);
    expect(dir, 8, &all);
    CU_ASSERT_EQUAL(files_in(dir), 2);
    esp_h5_close(&c.file, ESP_EFAILED);
    esp_params_free(&p);
    free(dir);
    esp_grid_free(&all);
}

static void test_killed(void)
{
    with_all_ways(check_killed);
}

static void limit_files(rlim_t n)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN); /* writing fails instead */
    ESP_REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = n;
    ESP_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* No file of step 8 is begun, or made: all ranks hear of it, nothing is left of it, and that of 7 stays. */
static void expect_failure(void (*prepare)(const char *, const esp_grid *), void (*repair)(void))
{
    esp_training t = training_at(8);
    esp_checkpoint c;
    esp_params p;
    esp_grid all;
    char *dir;
    esp_status st;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("lost", &all);
    save(dir, 7, KEEP, &all);
    make_params(&p, 8, &all);
    c = checkpoint_of(dir, KEEP, &p, &all);
    prepare(dir, &all);
    st = esp_checkpoint_begin(&c, &t);
    st = st == ESP_OK ? esp_checkpoint_finish(&c) : st;
    repair();
    CU_ASSERT_EQUAL(st, ESP_EIO);
    CU_ASSERT_PTR_NULL(c.writer);
    MPI_Barrier(all.world);
    CU_ASSERT_EQUAL(files_in(dir), 1);
    expect(dir, 7, &all);
    esp_params_free(&p);
    free(dir);
    esp_grid_free(&all);
}

/* The last rank's files may have a page, or a byte less than that of step 7. */
static void limit_much(const char *dir, const esp_grid *all)
{
    (void)dir;
    limit_files(all->rank == all->size - 1 ? 4096 : RLIM_INFINITY);
}

static void limit_little(const char *dir, const esp_grid *all)
{
    char *path = file_of(dir, 7), *bytes;
    size_t n;

    ESP_REQUIRE(esp_file_read(&bytes, &n, path) == ESP_OK);
    limit_files(all->rank == all->size - 1 ? n - 1 : RLIM_INFINITY);
    free(bytes);
    free(path);
}

static void no_limit(void)
{
    limit_files(RLIM_INFINITY);
}

static void check_no_room(void)
{
    expect_failure(limit_much, no_limit);
    expect_failure(limit_little, no_limit);
}

static void test_no_room(void)
{
    with_all_ways(check_no_room);
}

/* A collective transfer of each piece of each vector; hints where the file is made and where it is opened. */
static void test_mpi_io(void)
{
    esp_training t = training_at(1);
    char *dir;
    esp_checkpoint c;
    esp_params p;
    esp_grid all;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("hints", &all);
    make_params(&p, 1, &all);
    c = checkpoint_of(dir, KEEP, &p, &all);
    c.hints = "no_such_hint=1;" HINT "=1048576";
    memset(&library, 0, sizeof library);
    CU_ASSERT_EQUAL(esp_checkpoint_begin(&c, &t), ESP_OK);
    CU_ASSERT_EQUAL(esp_checkpoint_finish(&c), ESP_OK);
    CU_ASSERT_EQUAL(library.n_collective, ESP_N_VECTORS * (int)p.n_pieces);
    CU_ASSERT_EQUAL(library.n_opened, all.rank == 0 ? 2 : 1);
    CU_ASSERT_EQUAL(library.n_hinted, library.n_opened);
    expect(dir, 1, &all);

    c.io = ESP_IO_DIRECT;
    memset(&library, 0, sizeof library);
    CU_ASSERT_EQUAL(esp_checkpoint_begin(&c, &t), ESP_OK);
    CU_ASSERT_EQUAL(esp_checkpoint_finish(&c), ESP_OK);
    CU_ASSERT_EQUAL(library.n_collective + library.n_opened, 0);
    free(dir);
    esp_params_free(&p);
    esp_grid_free(&all);
}

/* Both ways make the same file, byte for byte. */
static void test_same_file(void)
{
    char *bytes[2] = { NULL, NULL };
    size_t n[2] = { 0, 0 };
    esp_grid all;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    for (int i = 0; i < 2; i++) {
        char *dir = fresh_dir(i == 0 ? "by-mpio" : "by-direct", &all), *path = file_of(dir, 5);

        way.io = i == 0 ? ESP_IO_MPIO : ESP_IO_DIRECT;
        save(dir, 5, KEEP, &all);
        CU_ASSERT_EQUAL(esp_file_read(&bytes[i], &n[i], path), ESP_OK);
        free(path);
        free(dir);
    }
    CU_ASSERT(n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0);
    way = ways[0];
    free(bytes[0]);
    free(bytes[1]);
    esp_grid_free(&all);
}

static void test_settings(void)
{
    esp_checkpoint c;
    esp_params p;
    esp_training t;
    esp_grid all;
    bool found;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("settings", &all);
    save(dir, 3, KEEP, &all);
    make_params(&p, 1, &all);
    c = checkpoint_of(dir, KEEP, &p, &all);
    c.settings = "others";
    CU_ASSERT_EQUAL(esp_checkpoint_load(&found, &t, &c, SIZE_MAX), ESP_EUSAGE);
    CU_ASSERT(!found);
    esp_params_free(&p);
    free(dir);
    esp_grid_free(&all);
}

static void test_no_folder(void)
{
    esp_training t = training_at(1);
    esp_checkpoint c;
    esp_params p;
    esp_grid all;
    char *dir;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("no-folder", &all);
    if (all.rank == 0) {
        put(dir, "a file");
    }
    make_params(&p, 1, &all);
    c = checkpoint_of(dir, KEEP, &p, &all);
    CU_ASSERT_EQUAL(esp_checkpoint_begin(&c, &t), ESP_EUSAGE); /* somebody's file is there */
    CU_ASSERT_EQUAL(esp_checkpoint_finish(&c), ESP_OK);        /* nothing is under way */
    esp_params_free(&p);
    free(dir);
    esp_grid_free(&all);
}

/* Told when the training begins, not when its step comes. */
static void test_folder_in_place(void)
{
    esp_training t;
    esp_checkpoint c;
    esp_params p;
    esp_grid all;
    bool found;
    char *dir, *path;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    dir = fresh_dir("in-place", &all);
    save(dir, 2, KEEP, &all);
    path = file_of(dir, 3);
    CU_ASSERT(all.rank != 0 || esp_mkdirs(path) == ESP_OK);
    MPI_Barrier(all.world);
    make_params(&p, 1, &all);
    c = checkpoint_of(dir, KEEP, &p, &all);
    CU_ASSERT_EQUAL(esp_checkpoint_load(&found, &t, &c, SIZE_MAX), ESP_EUSAGE);
    CU_ASSERT(!found);
    esp_error_clear();
    esp_params_free(&p);
    free(path);
    free(dir);
    esp_grid_free(&all);
}

ESP_TEST_MAIN("checkpoint", { "saved by all, loaded by fewer", test_fewer_ranks },
              { "the newest stay", test_newest_stay },
              { "damaged files are passed over", test_damage },
              { "killed before the end", test_killed }, { "no room on one rank", test_no_room },

              { "collective, with hints", test_mpi_io },
              { "the same file by all ways", test_same_file },
              { "other settings are refused", test_settings },
              { "no folder to write into", test_no_folder },
              { "a folder in the place of a file", test_folder_in_place })
