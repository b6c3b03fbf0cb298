/* unit_safetensors.c - files that are refused, with what the message says, and files that are not. */
#include "espalier/safetensors.h"

#include <unistd.h>

#include "test.h"

#define ONE "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"

static char *file_path(void)
{
    char *dir = esp_test_dir("");
    char *path = esp_format("%sx.safetensors", dir);

    free(dir);
    return path;
}

/* A file that says its header has header_size bytes, with n_data bytes 0, 1, 2, ... behind it. */
static char *put(const char *header, size_t header_size, size_t n_data)
{
    char *path = file_path();
    FILE *f = fopen(path, "wb");

    for (int i = 0; i < 8; i++) {
        fputc((int)(header_size >> 8 * i & 0xff), f);
    }
    fputs(header, f);
    for (size_t i = 0; i < n_data; i++) {
        fputc((int)(i & 0xff), f);
    }
    fclose(f);
    return path;
}

static void check_refused(const char *path, esp_status wanted, const char *says)
{
    esp_safetensors f;

    esp_error_clear();
    CU_ASSERT_EQUAL(esp_safetensors_open(&f, path), wanted);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), path));
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), says));
    if (!strstr(esp_error_message(), says)) {
        printf("  said: %s\n  not:  %s\n", esp_error_message(), says);
    }
    CU_ASSERT_PTR_NULL(f.tensors);
    CU_ASSERT_EQUAL(f.n, 0);
    esp_safetensors_close(&f);
}

static void check_header(const char *header, size_t n_data, const char *says)
{
    char *path = put(header, strlen(header), n_data);

    check_refused(path, ESP_EFORMAT, says);
    free(path);
}

static void test_reads_every_field(void)
{
    const char *header =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[25,31]},"
        "\"m\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[24,25]}," ONE "}   ";
    char *path = put(header, strlen(header), 31);
    const esp_tensor_info *a, *b, *m;
    esp_safetensors f;

    CU_ASSERT_EQUAL_FATAL(esp_safetensors_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(f.n, 3);
    CU_ASSERT_STRING_EQUAL(f.tensors[0].name, "a"); /* by offset */
    CU_ASSERT_STRING_EQUAL(f.tensors[1].name, "m");
    a = esp_safetensors_find(&f, "a");
    b = esp_safetensors_find(&f, "b");
    m = esp_safetensors_find(&f, "m");
    CU_ASSERT_PTR_NULL(esp_safetensors_find(&f, "c"));
    CU_ASSERT_EQUAL(a->dtype, ESP_F32);
    CU_ASSERT_EQUAL(a->n_dims, 2);
    CU_ASSERT_EQUAL(a->shape[0], 2);
    CU_ASSERT_EQUAL(a->shape[1], 3);
    CU_ASSERT_EQUAL(a->n_bytes, 24);
    CU_ASSERT_EQUAL(a->offset, 8 + strlen(header));
    CU_ASSERT_EQUAL(*(const uint8_t *)a->data, 0);
    CU_ASSERT_EQUAL(b->dtype, ESP_BF16);
    CU_ASSERT_EQUAL(*(const uint8_t *)b->data, 25);
    CU_ASSERT_EQUAL(m->dtype, ESP_N_DTYPES); /* listed, of no use in computing */
    CU_ASSERT_STRING_EQUAL(m->type, "BOOL");
    CU_ASSERT_EQUAL(m->n_dims, 0);
    esp_safetensors_close(&f);
    esp_safetensors_close(&f);
    free(path);
}

static void test_all_types_of_the_format(void)
{
    static const struct {
        const char *name;
        size_t bytes_of_8;
    } types[] = { { "BOOL", 8 },    { "F4", 4 },   { "F6_E2M3", 6 }, { "F6_E3M2", 6 },
                  { "U8", 8 },      { "I8", 8 },   { "F8_E5M2", 8 }, { "F8_E4M3", 8 },
                  { "F8_E8M0", 8 }, { "I16", 16 }, { "U16", 16 },    { "F16", 16 },
                  { "BF16", 16 },   { "I32", 32 }, { "U32", 32 },    { "F32", 32 },
                  { "F64", 64 },    { "I64", 64 }, { "U64", 64 },    { "C64", 64 } };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char *header =
            esp_format("{\"t\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%zu]}}",
                       types[i].name, types[i].bytes_of_8);
        char *path = put(header, strlen(header), types[i].bytes_of_8);
        esp_safetensors f;

        CU_ASSERT_EQUAL(esp_safetensors_open(&f, path), ESP_OK);
        esp_safetensors_close(&f);
        free(path);
        free(header);
    }
    check_header("{\"t\":{\"dtype\":\"F6_E2M3\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2,
                 "do not take"); /* 18 bits */
}

static void test_empty_tensors_and_many_dimensions(void)
{
    const char *header = "{\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]},"
                         "\"d\":{\"dtype\":\"U8\",\"shape\":[1,2,1,2,1],\"data_offsets\":[0,4]}}";
    char *path = put(header, strlen(header), 4);
    esp_safetensors f;

    CU_ASSERT_EQUAL_FATAL(esp_safetensors_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_safetensors_find(&f, "e")->n_bytes, 0);
    CU_ASSERT_EQUAL(esp_safetensors_find(&f, "d")->n_dims, 5);
    esp_safetensors_close(&f);
    free(path);
}

static void test_header_that_is_not_there(void)
{
    char *path = file_path();

    remove(path);
    check_refused(path, ESP_EUSAGE, "No such file");
    free(path);
    path = put("", 0, 0); /* eight bytes: a header of none */
    check_refused(path, ESP_EFORMAT, "header");
    CU_ASSERT_EQUAL(truncate(path, 5), 0);
    check_refused(path, ESP_EFORMAT, "5 bytes are too few");
    CU_ASSERT_EQUAL(truncate(path, 0), 0);
    check_refused(path, ESP_EFORMAT, "0 bytes are too few");
    free(path);
}

static void test_header_of_a_wrong_size(void)
{
    const char *header = "{" ONE "}";
    char *path = put(header, strlen(header) + 25, 24);

    check_refused(path, ESP_EFORMAT, "header of 82 bytes in a file of 89"); /* past the end */
    free(path);
    path = put(header, strlen(header) - 1, 24);
    check_refused(path, ESP_EFORMAT, "header, byte"); /* the last brace is missing */
    free(path);
    path = put(header, 100000001, 24);
    check_refused(path, ESP_EFORMAT, "header of 100000001 bytes");
    free(path);
    path = put(header, SIZE_MAX, 24); /* 8 + size wraps around */
    check_refused(path, ESP_EFORMAT, "header of 18446744073709551615 bytes");
    free(path);
}

static void test_header_that_is_no_list_of_tensors(void)
{
    check_header("not JSON", 0, "header, byte");
    check_header("{" ONE "} x", 24, "header, byte");
    check_header("[1, 2]", 0, "not a JSON object");
    check_header("{" ONE ", " ONE "}", 24, "duplicate");
    check_header("{\"a\xff\":1}", 0, "header, byte"); /* not UTF-8 */
    check_header("{\"a\": 5}", 0, "tensor a: dtype (none)");
}

static void test_descriptor_that_is_wrong(void)
{
#define TENSOR(dtype, shape, range) \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}}"
    check_header(TENSOR("Q4_K", "[2]", "[0,8]"), 8, "tensor a: dtype Q4_K");
    check_header(TENSOR("F32", "2", "[0,8]"), 8, "tensor a: has no list \"shape\"");
    check_header(TENSOR("F32", "[2,-1]", "[0,8]"), 8, "size 1 of its shape");
    check_header(TENSOR("F32", "[2.0]", "[0,8]"), 8, "size 0 of its shape");
    check_header(TENSOR("F32", "[2]", "[0]"), 8, "tensor a: \"data_offsets\" is not a range");
    check_header(TENSOR("F32", "[2]", "[8,0]"), 8, "tensor a: \"data_offsets\" is not a range");
    check_header(TENSOR("F32", "[2]", "[-8,0]"), 8, "tensor a: \"data_offsets\" is not a range");
    check_header(TENSOR("F32", "[2]", "[0,12]"), 12, "2 elements of F32 do not take the 12 bytes");
    check_header(TENSOR("BF16", "[2]", "[0,8]"), 8, "2 elements of BF16 do not take the 8 bytes");
    check_header(TENSOR("F32", "[4294967296,4294967296]", "[0,0]"), 0, "more elements than");
    check_header(TENSOR("F32", "[4611686018427387904]", "[0,0]"), 0, "do not take"); /* bits wrap */
    check_header(TENSOR("F32", "[99999999999999999999]", "[0,8]"), 8, "header, byte");
#undef TENSOR
}

#define PAIR(begin, end) \
    "{" ONE ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" begin "," end "]}}"

static void test_ranges_that_do_not_tile_the_data(void)
{
    check_header(PAIR("20", "28"), 32, "tensor b begins at byte 20 of the data, overlapping");
    check_header(PAIR("0", "8"), 24, "tensor a begins at byte 0 of the data, overlapping");
    check_header(PAIR("28", "36"), 36,
                 "tensor b begins at byte 28 of the data, leaving a hole from 24");
    check_header(PAIR("24", "32"), 31,
                 "tensor b ends at byte 32 of the data, the file has only 31");
    check_header(PAIR("24", "32"), 0, "tensor a ends at byte 24 of the data, the file has only 0");
    check_header(PAIR("24", "32"), 35, "3 bytes after the last tensor's 32");
    check_header("{}", 1, "1 bytes after the last tensor's 0");
}

static void test_any_cut_of_a_good_file_is_refused(void)
{
    const char *header = PAIR("24", "32");
    char *path = put(header, strlen(header), 32);
    esp_safetensors f;

    for (size_t n = 8 + strlen(header) + 32; n-- > 0;) {
        CU_ASSERT_EQUAL(truncate(path, (off_t)n), 0);
        CU_ASSERT_EQUAL(esp_safetensors_open(&f, path), ESP_EFORMAT);
    }
    free(path);
}

static void test_written_file_reads_back(void)
{
    const size_t odd[] = { 3 }, matrix[] = { 2, 2 };
    const uint16_t half[] = { 1, 2, 3 };
    const float full[] = { 1, -2, 3, -4 };
    char *path = file_path();
    esp_safetensors_writer w = { 0 };
    esp_safetensors f;

    esp_safetensors_plan(&w, "half", ESP_F16, 1, odd);
    esp_safetensors_plan(&w, "full", ESP_F32, 2, matrix);
    CU_ASSERT_EQUAL_FATAL(esp_safetensors_create(&w, path, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_safetensors_write(&w, 1, 8, full + 2, 8), ESP_OK);
    CU_ASSERT_EQUAL(esp_safetensors_write(&w, 0, 0, half, 6), ESP_OK);
    CU_ASSERT_EQUAL(esp_safetensors_write(&w, 1, 0, full, 8), ESP_OK);
    CU_ASSERT_EQUAL(esp_safetensors_finish(&w, ESP_OK, MPI_COMM_WORLD), ESP_OK);

    CU_ASSERT_EQUAL_FATAL(esp_safetensors_open(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(f.n, 2);
    CU_ASSERT_STRING_EQUAL(f.tensors[0].name, "full"); /* larger types first ... */
    CU_ASSERT_EQUAL(f.tensors[0].offset % 8, 0);       /* ... so that all are aligned */
    CU_ASSERT_EQUAL(memcmp(f.tensors[0].data, full, sizeof full), 0);
    CU_ASSERT_EQUAL(memcmp(f.tensors[1].data, half, sizeof half), 0);
    CU_ASSERT_EQUAL(f.tensors[0].n_dims, 2);
    CU_ASSERT_EQUAL(f.tensors[1].shape[0], 3);
    esp_safetensors_close(&f);
    free(path);
}

static void test_failed_write_leaves_the_old_file(void)
{
    const size_t shape[] = { 2 };
    const char *header = "{" ONE "}";
    char *path = put(header, strlen(header), 24), *part = esp_part_path(path);
    esp_safetensors_writer w = { 0 };
    esp_safetensors f;

    esp_error_clear();
    esp_safetensors_plan(&w, "new", ESP_F32, 1, shape);
    CU_ASSERT_EQUAL_FATAL(esp_safetensors_create(&w, path, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_TRUE(esp_file_exists(part));
    CU_ASSERT_EQUAL(esp_safetensors_finish(&w, ESP_EFAILED, MPI_COMM_WORLD), ESP_EFAILED);
    CU_ASSERT_FALSE(esp_file_exists(part));
    CU_ASSERT_EQUAL(esp_safetensors_open(&f, path), ESP_OK);
    CU_ASSERT_PTR_NOT_NULL(esp_safetensors_find(&f, "a"));
    esp_safetensors_close(&f);
    free(path);
    free(part);
}

/* What the message says of the fourth number of a matrix and the third of a vector. */
static void test_numbers_that_are_none(void)
{
    const size_t odd[] = { 3 }, matrix[] = { 2, 2 };
    const uint16_t half[] = { 1, 2, 0xfc00 };
    const float full[] = { 1, -2, 3, NAN };
    char *path = file_path();
    esp_safetensors_writer w = { 0 };

    esp_safetensors_plan(&w, "half", ESP_F16, 1, odd);
    esp_safetensors_plan(&w, "full", ESP_F32, 2, matrix);
    CU_ASSERT_EQUAL_FATAL(esp_safetensors_create(&w, path, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_safetensors_write(&w, 1, 8, full + 2, 8), ESP_EFAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "full[1, 1] would be NaN"));
    CU_ASSERT_EQUAL(esp_safetensors_write(&w, 1, 8, full, 8), ESP_OK);
    CU_ASSERT_EQUAL(esp_safetensors_write(&w, 0, 2, half + 1, 4), ESP_EFAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "half[2] would be -inf"));
    CU_ASSERT_EQUAL(esp_safetensors_finish(&w, ESP_EFAILED, MPI_COMM_WORLD), ESP_EFAILED);
    esp_error_clear();
    free(path);
}

static void test_folder_that_is_not_there(void)
{
    esp_safetensors_writer w = { 0 };

    esp_error_clear();
    CU_ASSERT_EQUAL(esp_safetensors_create(&w, "/nowhere/at/all", MPI_COMM_WORLD), ESP_EIO);
    CU_ASSERT_PTR_NULL(w.path);
}

ESP_TEST_MAIN("safetensors", { "reads every field", test_reads_every_field },
              { "all types of the format", test_all_types_of_the_format },
              { "empty tensors, many dimensions", test_empty_tensors_and_many_dimensions },
              { "header that is not there", test_header_that_is_not_there },
              { "header of a wrong size", test_header_of_a_wrong_size },
              { "header that is no list of tensors", test_header_that_is_no_list_of_tensors },
              { "descriptor that is wrong", test_descriptor_that_is_wrong },
              { "ranges that do not tile the data", test_ranges_that_do_not_tile_the_data },
              { "any cut of a good file", test_any_cut_of_a_good_file_is_refused },
              { "written file reads back", test_written_file_reads_back },
              { "numbers that are none", test_numbers_that_are_none },
              { "failed write leaves the old file", test_failed_write_leaves_the_old_file },
              { "folder that is not there", test_folder_that_is_not_there })
