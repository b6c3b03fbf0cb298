/* mpi_h5.c - one HDF5 file laid out by all ranks through MPI-IO, filled and read by each for itself. */
#include "espalier/h5.h"

#include <fcntl.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/par.h"
#include "test.h"

static int rank, size;

static char *file_path(const char *name)
{
    char *dir = esp_test_dir("h5"), *path = esp_path(dir, name);

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    MPI_Barrier(MPI_COMM_WORLD);
    free(dir);
    return path;
}

/* Writes 0, 1, 2, ... n - 1 as float. */
static void write_counts(esp_h5 *f, const char *name, size_t n)
{
    float *data = esp_calloc(n, sizeof *data);

    for (size_t i = 0; i < n; i++) {
        data[i] = rank == 0 ? (float)i : -1; /* rank 0's are written */
    }
    CU_ASSERT_EQUAL(esp_h5_write(f, name, H5T_NATIVE_FLOAT, 1, &n, data), ESP_OK);
    free(data);
}

static bool reads_counts(const esp_h5 *f, const char *name, size_t n)
{
    float *data = esp_calloc(n, sizeof *data);
    bool same = esp_h5_read(f, name, H5T_NATIVE_FLOAT, 0, n, data) == ESP_OK;

    for (size_t i = 0; i < n; i++) {
        same = same && data[i] == (float)i;
    }
    free(data);
    return same;
}

/* Numbers begin .. end of 0, 1, 2, ... at a place of the file that was left. */
static void put_counts(const char *part, uint64_t offset, size_t begin, size_t end)
{
    int fd = open(part, O_WRONLY);

    CU_ASSERT(fd >= 0);
    for (size_t i = begin; i < end; i++) {
        float x = (float)i;

        CU_ASSERT_EQUAL(pwrite(fd, &x, sizeof x, (off_t)(offset + i * sizeof x)), sizeof x);
    }
    CU_ASSERT_EQUAL(close(fd), 0);
}

/* Laid out by all, filled by each, an attribute added and made final by rank 0. */
static void test_shares(void)
{
    char *path = file_path("shares.h5"), *part = esp_format("%s.part", path);
    uint64_t one, two, none;
    size_t begin, end;
    int64_t sealed;
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_h5_create(&f, path, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_reserve(&f, "/value", H5T_NATIVE_FLOAT, 10003, &one), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_reserve(&f, "/all/by/last", H5T_NATIVE_FLOAT, 50, &two), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_reserve(&f, "/none", H5T_NATIVE_FLOAT, 0, &none), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_leave(&f, ESP_OK), ESP_OK);
    CU_ASSERT(!esp_file_exists(path));
    esp_share(&begin, &end, 10003, rank, size);
    put_counts(part, one, begin, end);
    put_counts(part, two, 0, rank == size - 1 ? 50 : 0);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        CU_ASSERT_EQUAL(esp_h5_resume(&f, path), ESP_OK);
        CU_ASSERT_EQUAL(esp_h5_set_int(&f, "/", "sealed", 7), ESP_OK);
        CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
        CU_ASSERT_EQUAL(esp_h5_resume(&f, path), ESP_EIO); /* there is none any more */
    }
    MPI_Barrier(MPI_COMM_WORLD);

    CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_TRUE(reads_counts(&f, "/value", 10003));
    CU_ASSERT_TRUE(reads_counts(&f, "/all/by/last", 50));
    CU_ASSERT_TRUE(reads_counts(&f, "/none", 0));
    CU_ASSERT_EQUAL(esp_h5_get_int(&f, "/", "sealed", &sealed), ESP_OK);
    CU_ASSERT_EQUAL(sealed, 7);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(part);
    free(path);
}

static void test_whole_arrays_and_attributes(void)
{
    const size_t shape[] = { 2, 2 };
    const double x[] = { 1, 2, 3, 4 };
    char *path = file_path("whole.h5"), *text = NULL;
    double y[4] = { 0 };
    int64_t step = 0;
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_h5_create(&f, path, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_write(&f, "/a/x", H5T_NATIVE_DOUBLE, 2, shape, x), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_set_int(&f, "/", "step", 200), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_set_string(&f, "/a", "settings", "{\"rank\": 8}"), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);

    CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_read(&f, "/a/x", H5T_NATIVE_DOUBLE, 0, 4, y), ESP_OK);
    CU_ASSERT_EQUAL(memcmp(x, y, sizeof x), 0);
    CU_ASSERT_EQUAL(esp_h5_get_int(&f, "/", "step", &step), ESP_OK);
    CU_ASSERT_EQUAL(step, 200);
    CU_ASSERT_EQUAL(esp_h5_get_string(&f, "/a", "settings", &text), ESP_OK);
    CU_ASSERT_STRING_EQUAL(text, "{\"rank\": 8}");
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(text);
    free(path);
}

/* Whichever rank fails between create and close: all hear of it, and the old file stays. */
static void test_failure_of_one_rank(void)
{
    char *path = file_path("old.h5"), *part = esp_format("%s.part", path);
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_h5_create(&f, path, MPI_COMM_WORLD), ESP_OK);
    write_counts(&f, "/old", 10);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    for (int bad = 0; bad < size; bad++) {
        esp_error_clear();
        CU_ASSERT_EQUAL(esp_h5_create(&f, path, MPI_COMM_WORLD), ESP_OK);
        CU_ASSERT_EQUAL(esp_h5_close(&f, rank == bad ? ESP_EFORMAT : ESP_OK), ESP_EFORMAT);
    }
    MPI_Barrier(MPI_COMM_WORLD); /* rank 0 tidies up */
    CU_ASSERT_FALSE(esp_file_exists(part));
    CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_TRUE(reads_counts(&f, "/old", 10));
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
    free(part);
    free(path);
}

static void test_folder_that_is_not_there(void)
{
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_h5_create(&f, "/nowhere/x.h5", MPI_COMM_WORLD), ESP_EIO);
    CU_ASSERT_PTR_NULL(f.path);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
}

ESP_TEST_MAIN("h5 over ranks", { "shares", test_shares },
              { "whole arrays and attributes", test_whole_arrays_and_attributes },
              { "failure of one rank", test_failure_of_one_rank },
              { "folder that is not there", test_folder_that_is_not_there })
