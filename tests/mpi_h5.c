/* mpi_h5.c - one HDF5 file written by all ranks through MPI-IO, read by each for itself. */
#include "espalier/h5.h"

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

/* Writes 0, 1, 2, ... n - 1 as float, this rank begin .. end. */
static void write_counts(esp_h5 *f, const char *name, size_t n, size_t begin, size_t end)
{
    float *data = esp_calloc(end - begin, sizeof *data);

    for (size_t i = begin; i < end; i++) {
        data[i - begin] = (float)i;
    }
    CU_ASSERT_EQUAL(esp_h5_write_share(f, name, H5T_NATIVE_FLOAT, n, begin, end, data), ESP_OK);
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

static void test_shares(void)
{
    char *path = file_path("shares.h5");
    size_t begin, end, last;
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_h5_create(&f, path, MPI_COMM_WORLD), ESP_OK);
    last = (size_t)(size - 1);
    esp_share(&begin, &end, 100003, rank, size);
    write_counts(&f, "/value", 100003, begin, end);
    write_counts(&f, "/all/by/last", 50, 0, (size_t)rank == last ? 50 : 0);
    write_counts(&f, "/all/by/first", 50, rank ? 50 : 0, 50); /* empty at the end */
    esp_share(&begin, &end, 2, rank, size);                   /* fewer elements than ranks */
    write_counts(&f, "/two", 2, begin, end);
    write_counts(&f, "/none", 0, 0, 0);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);

    CU_ASSERT_EQUAL(esp_h5_open(&f, path), ESP_OK);
    CU_ASSERT_TRUE(reads_counts(&f, "/value", 100003));
    CU_ASSERT_TRUE(reads_counts(&f, "/all/by/last", 50));
    CU_ASSERT_TRUE(reads_counts(&f, "/all/by/first", 50));
    CU_ASSERT_TRUE(reads_counts(&f, "/two", 2));
    CU_ASSERT_TRUE(reads_counts(&f, "/none", 0));
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
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
    size_t begin, end;
    esp_h5 f;

    CU_ASSERT_EQUAL(esp_h5_create(&f, path, MPI_COMM_WORLD), ESP_OK);
    esp_share(&begin, &end, 10, rank, size);
    write_counts(&f, "/old", 10, begin, end);
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
