/* unit_h5.c - HDF5 files of one process: what is written reads back, what is wrong is named. */
#include "espalier/h5.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/io.h"
#include "test.h"

static char *file_path(const char *name)
{
    char *dir = esp_test_dir("h5"), *path = esp_path(dir, name);

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    free(dir);
    return path;
}

static void check_says(const char *path, const char *says)
{
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), path));
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), says));
    if (!strstr(esp_error_message(), says)) {
        printf("  said: %s\n  not:  %s\n", esp_error_message(), says);
    }
    esp_error_clear();
}

/* A matrix of doubles, a vector of integers, an empty one, and attributes. */
static esp_status fill(esp_h5 *f)
{
    const size_t matrix[] = { 2, 3 }, four = 4, none = 0;
    const double values[] = { 1, 2, 3, 4, 5, 6.5 };
    const int32_t ids[] = { 7, -8, 9, 10 };

    ESP_TRY(esp_h5_write(f, "/layers/0/x", H5T_NATIVE_DOUBLE, 2, matrix, values));
    ESP_TRY(esp_h5_write(f, "/layers/1/ids", H5T_NATIVE_INT32, 1, &four, ids));
    ESP_TRY(esp_h5_write(f, "none", H5T_NATIVE_FLOAT, 1, &none, NULL));
    ESP_TRY(esp_h5_set_string(f, "/", "model", "abc \xc3\xa9"));
    ESP_TRY(esp_h5_set_string(f, "/", "empty", ""));
    ESP_TRY(esp_h5_set_double(f, "/layers/0", "loss", 0.1));
    return esp_h5_set_int(f, "/layers/0/x", "seed", INT64_MIN);
}

static char *write_file(void)
{
    char *path = file_path("a.h5");
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_test_remove(path), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_h5_create(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(fill(&f), ESP_OK);
    CU_ASSERT_FALSE(esp_file_exists(path)); /* not before it is whole */
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    CU_ASSERT_TRUE(esp_file_exists(path));
    return path;
}

static void test_datasets(void)
{
    char *path = write_file();
    size_t dims[ESP_H5_MAX_DIMS], n_dims;
    double x[6];
    float as_float[6];
    int64_t ids[2];
    esp_h5 f;

    CU_ASSERT_EQUAL_FATAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_size(&f, "/layers/0/x", dims, &n_dims), 6);
    CU_ASSERT_EQUAL(n_dims, 2);
    CU_ASSERT_EQUAL(dims[0], 2);
    CU_ASSERT_EQUAL(dims[1], 3);
    CU_ASSERT_EQUAL(esp_h5_size(&f, "none", dims, &n_dims), 0);
    CU_ASSERT_EQUAL(n_dims, 1);
    CU_ASSERT_EQUAL(esp_h5_size(&f, "/no/such", dims, &n_dims), 0);
    CU_ASSERT_EQUAL(n_dims, 0);
    CU_ASSERT_EQUAL(esp_h5_size(&f, "/layers", dims, &n_dims), 0);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/layers/0/x", H5T_NATIVE_DOUBLE, 0, 6, x), ESP_OK);
    CU_ASSERT_EQUAL(x[5], 6.5);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/layers/0/x", H5T_NATIVE_FLOAT, 0, 6, as_float), ESP_OK);
    CU_ASSERT_EQUAL(as_float[3], 4);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/layers/1/ids", H5T_NATIVE_INT64, 1, 3, ids), ESP_OK);
    CU_ASSERT_EQUAL(ids[0], -8);
    CU_ASSERT_EQUAL(ids[1], 9);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "none", H5T_NATIVE_FLOAT, 0, 0, NULL), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(path);
}

static void test_attributes(void)
{
    char *path = write_file(), *text = NULL;
    double loss = 0;
    int64_t seed = 0;
    esp_h5 f;

    CU_ASSERT_EQUAL_FATAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_get_string(&f, "/", "model", &text), ESP_OK);
    CU_ASSERT_STRING_EQUAL(text, "abc \xc3\xa9");
    free(text);
    CU_ASSERT_EQUAL(esp_h5_get_string(&f, "/", "empty", &text), ESP_OK);
    CU_ASSERT_STRING_EQUAL(text, "");
    free(text);
    CU_ASSERT_EQUAL(esp_h5_get_double(&f, "/layers/0", "loss", &loss), ESP_OK);
    CU_ASSERT_EQUAL(loss, 0.1);
    CU_ASSERT_EQUAL(esp_h5_get_int(&f, "/layers/0/x", "seed", &seed), ESP_OK);
    CU_ASSERT_EQUAL(seed, INT64_MIN);

    CU_ASSERT_EQUAL(esp_h5_get_int(&f, "/", "seed", &seed), ESP_EFORMAT);
    check_says(path, "/: cannot read attribute seed");
    CU_ASSERT_EQUAL(esp_h5_get_double(&f, "/nowhere", "loss", &loss), ESP_EFORMAT);
    check_says(path, "/nowhere: cannot read attribute loss");
    CU_ASSERT_EQUAL(esp_h5_get_string(&f, "/layers/0", "loss", &text), ESP_EFORMAT);
    CU_ASSERT_PTR_NULL(text);
    CU_ASSERT_EQUAL(esp_h5_get_int(&f, "/", "model", &seed), ESP_EFORMAT);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(path);
}

static void test_reads_that_are_refused(void)
{
    char *path = write_file();
    double x[8];
    esp_h5 f;

    CU_ASSERT_EQUAL_FATAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/layers/7/x", H5T_NATIVE_DOUBLE, 0, 6, x), ESP_EFORMAT);
    check_says(path, "/layers/7/x: there is no such dataset");
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/layers", H5T_NATIVE_DOUBLE, 0, 6, x), ESP_EFORMAT);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/layers/1/ids", H5T_NATIVE_DOUBLE, 2, 5, x), ESP_EFORMAT);
    check_says(path, "/layers/1/ids: elements 2 to 5 are wanted, it has 4 in 1 dimensions");
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/layers/0/x", H5T_NATIVE_DOUBLE, 0, 3, x), ESP_EFORMAT);
    check_says(path, "/layers/0/x: elements 0 to 3 are wanted, it has 6 in 2 dimensions");
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(path);
}

static void test_files_that_are_refused(void)
{
    char *path = write_file(), *text;
    size_t n;
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_file_read(&text, &n, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, text, n / 2), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_EFORMAT);
    check_says(path, "cut short");
    CU_ASSERT_PTR_NULL(f.path);
    CU_ASSERT_EQUAL(esp_file_write(path, "no HDF5", 7), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_EFORMAT);
    check_says(path, "another program");
    CU_ASSERT_EQUAL(esp_test_remove(path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_EUSAGE);
    check_says(path, "no such file");
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(text);
    free(path);
}

static void test_writes_that_are_refused(void)
{
    const size_t one = 1;
    const double x = 1;
    char *path = file_path("b.h5");
    esp_h5 f;

    CU_ASSERT_EQUAL_FATAL(esp_h5_create(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_write(&f, "/x", H5T_NATIVE_DOUBLE, 1, &one, &x), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_write(&f, "/x", H5T_NATIVE_DOUBLE, 1, &one, &x), ESP_EIO);
    check_says(path, "/x: cannot create the dataset (HDF5: ");
    CU_ASSERT_EQUAL(esp_h5_set_int(&f, "/y", "a", 1), ESP_EIO);
    check_says(path, "/y: cannot write attribute a (HDF5: ");
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(path);
}

static void test_failed_stage_leaves_the_old_file(void)
{
    char *path = write_file(), *part = esp_part_path(path);
    size_t dims[ESP_H5_MAX_DIMS], n_dims;
    esp_h5 f;

    CU_ASSERT_EQUAL_FATAL(esp_h5_create(&f, path), ESP_OK);
    CU_ASSERT_TRUE(esp_file_exists(part));
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_EFAILED), ESP_EFAILED);
    CU_ASSERT_FALSE(esp_file_exists(part));
    CU_ASSERT_EQUAL_FATAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_size(&f, "/layers/1/ids", dims, &n_dims), 4);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_create(&f, "/nowhere/c.h5"), ESP_EIO);
    check_says("/nowhere/c.h5" ESP_PART, "cannot create: No such file or directory");
    CU_ASSERT_PTR_NULL(f.path);
    free(part);
    free(path);
}

/* Numbers 0, 1, 2, ... at a place of a file that was left. */
static void put_counts(const char *part, uint64_t offset, size_t n)
{
    int fd = open(part, O_WRONLY);

    CU_ASSERT(fd >= 0);
    for (size_t i = 0; i < n; i++) {
        float x = (float)i;

        CU_ASSERT_EQUAL(pwrite(fd, &x, sizeof x, (off_t)(offset + i * sizeof x)), sizeof x);
    }
    CU_ASSERT_EQUAL(close(fd), 0);
}

/* Laid out, filled with plain calls, an attribute added and made final; memory has no part of it. */
static void test_reserved(void)
{
    char *path = file_path("reserved.h5"), *part = esp_part_path(path);
    uint64_t big, deep, none, huge;
    float x[1003], y[50];
    int64_t sealed = 0;
    esp_h5 f;

    CU_ASSERT_EQUAL_FATAL(esp_h5_create(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_reserve(&f, "/big", H5T_NATIVE_FLOAT, 100003, &big), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_reserve(&f, "/a/b/deep", H5T_NATIVE_FLOAT, 50, &deep), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_reserve(&f, "/none", H5T_NATIVE_FLOAT, 0, &none), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_reserve(&f, "/huge", H5T_NATIVE_FLOAT, 100000000000, &huge), ESP_OK);
    CU_ASSERT(!esp_file_exists(path));
    put_counts(part, deep, 50);
    put_counts(part, big, 100003);
    CU_ASSERT_EQUAL(esp_h5_set_int(&f, "/", "sealed", 7), ESP_OK);
    CU_ASSERT(big % ESP_H5_ALIGNMENT == 0 && huge % ESP_H5_ALIGNMENT == 0);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    CU_ASSERT_FALSE(esp_file_exists(part));

    CU_ASSERT_EQUAL_FATAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/big", H5T_NATIVE_FLOAT, 99000, 100003, x), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/a/b/deep", H5T_NATIVE_FLOAT, 0, 50, y), ESP_OK);
    CU_ASSERT(x[0] == 99000 && x[1002] == 100002 && y[0] == 0 && y[49] == 49);
    CU_ASSERT_EQUAL(esp_h5_get_int(&f, "/", "sealed", &sealed), ESP_OK);
    CU_ASSERT_EQUAL(sealed, 7);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(part);
    free(path);
}

static void limit_files(rlim_t n)
{
    struct rlimit limit;

    CU_ASSERT_EQUAL(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = n;
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* However much of the file finds room, the old one stays, and the library knows of nothing. */
static void test_full_disk(void)
{
    char *path = write_file(), *part = esp_part_path(path), *before, *after;
    size_t n_before, n_after;

    signal(SIGXFSZ, SIG_IGN); /* writing fails instead */
    CU_ASSERT_EQUAL(esp_file_read(&before, &n_before, path), ESP_OK);
    for (size_t room = 0; room < n_before; room += 997) {
        esp_h5 f;
        esp_status st;

        limit_files(room);
        CU_ASSERT_EQUAL_FATAL(esp_h5_create(&f, path), ESP_OK);
        st = fill(&f);
        CU_ASSERT_EQUAL(st, ESP_OK);
        CU_ASSERT_EQUAL(esp_h5_close(&f, st), ESP_EIO);
        limit_files(RLIM_INFINITY);
        check_says(path, "ulimit -f");
        CU_ASSERT_FALSE(esp_file_exists(part));
    }
    CU_ASSERT_EQUAL(esp_file_read(&after, &n_after, path), ESP_OK);
    CU_ASSERT(n_before == n_after && memcmp(before, after, n_before) == 0);
    free(before);
    free(after);
    free(part);
    free(path);
}

/* The same content twice is the same file. */
static void test_same_bytes(void)
{
    char *path = write_file(), *before, *after;
    size_t n_before, n_after;

    CU_ASSERT_EQUAL(esp_file_read(&before, &n_before, path), ESP_OK);
    free(path);
    sleep(1); /* times in it would differ */
    path = write_file();
    CU_ASSERT_EQUAL(esp_file_read(&after, &n_after, path), ESP_OK);
    CU_ASSERT(n_before == n_after && memcmp(before, after, n_before) == 0);
    free(before);
    free(after);
    free(path);
}

/* Another byte anywhere, or less or more of them: seen before the library sees the file. */
static void test_damaged_files(void)
{
    char *path = write_file(), *bytes;
    int fd = open(path, O_RDWR);
    size_t n;
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_file_read(&bytes, &n, path), ESP_OK);
    for (size_t at = 0; at < n; at += at < 2048 || n - at < 128 ? 1 : 509) {
        char other = (char)(bytes[at] ^ 16);

        CU_ASSERT_EQUAL(esp_write_at(fd, &other, 1, at), 0);
        CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_EFORMAT);
        CU_ASSERT_EQUAL(esp_write_at(fd, bytes + at, 1, at), 0);
    }
    check_says(path, "make it again");
    CU_ASSERT_EQUAL_FATAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    CU_ASSERT_EQUAL(esp_write_at(fd, bytes, n, n), 0); /* twice the same */
    CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_EFORMAT);
    for (size_t left = n - 1; left > 331; left -= 331) {
        CU_ASSERT_EQUAL(ftruncate(fd, (off_t)left), 0);
        CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_EFORMAT);
    }
    close(fd);
    esp_error_clear();
    free(bytes);
    free(path);
}

static void test_file_of_another_program(void)
{
    char *path = esp_test_shared("models/stories260K/golden.h5");
    esp_h5 f;

    if (path) {
        CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_EFORMAT);
        check_says(path, "another program");
        CU_ASSERT_PTR_NULL(f.path);
    }
    free(path);
}

ESP_TEST_MAIN("h5", { "datasets", test_datasets }, { "attributes", test_attributes },
              { "reads that are refused", test_reads_that_are_refused },
              { "files that are refused", test_files_that_are_refused },
              { "writes that are refused", test_writes_that_are_refused },
              { "failed stage leaves the old file", test_failed_stage_leaves_the_old_file },
              { "filled with plain calls", test_reserved }, { "full disk", test_full_disk },
              { "same bytes", test_same_bytes }, { "damaged files", test_damaged_files },
              { "file of another program", test_file_of_another_program })
