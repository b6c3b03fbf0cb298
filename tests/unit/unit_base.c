/* unit_base.c - the base layer: statuses, memory, random streams, digests, files, shares. */
#include <unistd.h>

#include "espalier/digest.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/par.h"
#include "espalier/rng.h"
#include "test.h"

/* ---- status -------------------------------------------------------------------------------------- */

static void test_exit_codes(void)
{
    CU_ASSERT_EQUAL(esp_exit_code(ESP_OK), 0);
    CU_ASSERT_EQUAL(esp_exit_code(ESP_EUSAGE), 2);
    CU_ASSERT_EQUAL(esp_exit_code(ESP_EFORMAT), 2);
    CU_ASSERT_EQUAL(esp_exit_code(ESP_EIO), 1);
    CU_ASSERT_EQUAL(esp_exit_code(ESP_EFAILED), 1);
    CU_ASSERT_EQUAL(esp_exit_code(ESP_ESTOPPED), 75);
}

static void test_error_slot(void)
{
    esp_error_clear();
    CU_ASSERT_STRING_EQUAL(esp_error_message(), "");
    CU_ASSERT_EQUAL(esp_fail(ESP_EFORMAT, "heads: %d", 7), ESP_EFORMAT);
    CU_ASSERT_STRING_EQUAL(esp_error_message(), "heads: 7");
    CU_ASSERT_EQUAL(esp_fail_in(ESP_EUSAGE, "line %d", 3), ESP_EUSAGE);
    CU_ASSERT_STRING_EQUAL(esp_error_message(), "line 3: heads: 7");
    esp_fail(ESP_EIO, "new");
    CU_ASSERT_STRING_EQUAL(esp_error_message(), "new");
    esp_error_clear();
    CU_ASSERT_STRING_EQUAL(esp_error_message(), "");
}

static void test_error_longer_than_the_slot(void)
{
    char *text = esp_calloc(10001, 1);

    memset(text, 'x', 10000);
    esp_fail(ESP_EIO, "%s", text);
    CU_ASSERT(strlen(esp_error_message()) > 1000);
    esp_fail_in(ESP_EIO, "%s", text);
    CU_ASSERT(strlen(esp_error_message()) > 1000);
    esp_error_clear();
    free(text);
}

static esp_status reaches(int *last, int fails_at)
{
    for (*last = 0;; ++*last) {
        ESP_TRY(*last == fails_at ? ESP_EIO : ESP_OK);
    }
}

static void test_try_leaves_at_the_first_failure(void)
{
    int last;

    CU_ASSERT_EQUAL(reaches(&last, 3), ESP_EIO);
    CU_ASSERT_EQUAL(last, 3);
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void test_calloc(void)
{
    for (size_t n = 0; n < 300; n += 7) {
        double *p = esp_calloc(n, sizeof *p);
        size_t set = 0;

        CU_ASSERT_PTR_NOT_NULL(p);
        CU_ASSERT_EQUAL((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < n; i++) {
            set += p[i] != 0;
        }
        CU_ASSERT_EQUAL(set, 0);
        free(p);
    }
}

static void test_grow_keeps(void)
{
    int *p;

    ESP_NEW(p, 3);
    p[0] = 1, p[1] = 2, p[2] = 3;
    p = esp_grow(p, 100000, sizeof *p);
    CU_ASSERT(p[0] == 1 && p[1] == 2 && p[2] == 3);
    p[99999] = 4;
    free(p);
}

static void test_strings(void)
{
    char *s = esp_format("%s-%03d", "step", 7), *t = esp_strdup(s);

    CU_ASSERT_STRING_EQUAL(s, "step-007");
    CU_ASSERT_STRING_EQUAL(t, s);
    CU_ASSERT_PTR_NOT_EQUAL(t, s);
    CU_ASSERT_PTR_NULL(esp_strdup(NULL));
    free(s);
    free(t);
}

static void test_resident(void)
{
    size_t n = (size_t)32 << 20, before = esp_anonymous_resident();
    char *p = esp_calloc(n, 1);

    CU_ASSERT(esp_anonymous_resident() >= before + n / 2);
    CU_ASSERT(esp_peak_resident() >= n);
    free(p);
}

/* ---- random numbers ------------------------------------------------------------------------------ */

static void test_rng_values(void)
{
    esp_rng r = { .key = 0 };

    /* the published sequence of splitmix64 from 0 */
    CU_ASSERT_EQUAL(esp_rng_at(0, 0), UINT64_C(0xE220A8397B1DCDAF));
    CU_ASSERT_EQUAL(esp_rng_at(0, 1), UINT64_C(0x6E789E6AA1B965F4));
    for (uint64_t i = 0; i < 100; i++) {
        CU_ASSERT_EQUAL(esp_rng_next(&r), esp_rng_at(0, i));
    }
}

static void test_rng_keys_differ(void)
{
    CU_ASSERT_NOT_EQUAL(esp_rng_key(1, 2, 3), esp_rng_key(1, 3, 2));
    CU_ASSERT_NOT_EQUAL(esp_rng_key(1, 2, 3), esp_rng_key(2, 1, 3));
    CU_ASSERT_NOT_EQUAL(esp_rng_key(0, 0, 0), esp_rng_key(0, 0, 1));
    CU_ASSERT_EQUAL(esp_rng_key(1, 2, 3), esp_rng_key(1, 2, 3));
}

/* Mean and variance of n draws, and the largest in size. */
static void moments(double (*draw)(esp_rng *), size_t n, double *mean, double *variance,
                    double range[2])
{
    esp_rng r = { .key = esp_rng_key(5, 0, 0) };
    double s = 0, s2 = 0;

    range[0] = INFINITY, range[1] = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        double x = draw(&r);

        s += x;
        s2 += x * x;
        range[0] = x < range[0] ? x : range[0];
        range[1] = x > range[1] ? x : range[1];
    }
    *mean = s / (double)n;
    *variance = s2 / (double)n - *mean * *mean;
}

static void test_rng_distributions(void)
{
    double mean, variance, range[2];

    moments(esp_rng_uniform, 100000, &mean, &variance, range);
    CU_ASSERT_DOUBLE_EQUAL(mean, 0.5, 0.005);
    CU_ASSERT_DOUBLE_EQUAL(variance, 1.0 / 12, 0.002);
    CU_ASSERT(range[0] >= 0 && range[1] < 1);
    moments(esp_rng_normal, 100000, &mean, &variance, range);
    CU_ASSERT_DOUBLE_EQUAL(mean, 0, 0.02);
    CU_ASSERT_DOUBLE_EQUAL(variance, 1, 0.03);
    CU_ASSERT(range[0] < -3 && range[1] > 3);
}

static void test_rng_below(void)
{
    esp_rng r = { .key = 9 };
    size_t count[7] = { 0 };

    for (size_t i = 0; i < 7000; i++) {
        size_t x = esp_rng_below(&r, 7);

        CU_ASSERT_FATAL(x < 7);
        count[x]++;
    }
    for (size_t x = 0; x < 7; x++) {
        CU_ASSERT(count[x] > 800 && count[x] < 1200);
    }
}

static void test_rng_shuffle(void)
{
    enum { N = 1000 };
    size_t a[N], b[N], seen[N] = { 0 }, in_place = 0, missing = 0;
    esp_rng r = { .key = 3 }, same = { .key = 3 };

    for (size_t i = 0; i < N; i++) {
        a[i] = b[i] = i;
    }
    esp_rng_shuffle(&r, a, N);
    esp_rng_shuffle(&same, b, N);
    CU_ASSERT_EQUAL(memcmp(a, b, sizeof a), 0);
    for (size_t i = 0; i < N; i++) {
        seen[a[i]]++;
        in_place += a[i] == i;
    }
    for (size_t i = 0; i < N; i++) {
        missing += seen[i] != 1;
    }
    CU_ASSERT_EQUAL(missing, 0);
    CU_ASSERT(in_place < 20);
}

/* ---- digests ------------------------------------------------------------------------------------- */

static void test_digest(void)
{
    char whole[ESP_DIGEST_SIZE], parts[ESP_DIGEST_SIZE], text[5000];
    esp_digest d;

    esp_digest_bytes(whole, "", 0);
    CU_ASSERT_STRING_EQUAL(whole, "99aa06d3014798d86001c324468d497f"); /* published for no input */
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (char)(i * i);
    }
    esp_digest_bytes(whole, text, sizeof text);
    esp_digest_init(&d);
    for (size_t at = 0, n = 1; at < sizeof text; at += n, n = n * 2 + 1) {
        esp_digest_add(&d, text + at, n < sizeof text - at ? n : sizeof text - at);
    }
    esp_digest_end(&d, parts);
    CU_ASSERT_STRING_EQUAL(parts, whole);
    text[4999] ^= 1;
    esp_digest_bytes(parts, text, sizeof text);
    CU_ASSERT_STRING_NOT_EQUAL(parts, whole);
}

/* ---- files --------------------------------------------------------------------------------------- */

static bool holds(const char *path, const char *text)
{
    char *got = NULL;
    size_t n = 0;
    bool same = esp_file_read(&got, &n, path) == ESP_OK && n == strlen(text) &&
                memcmp(got, text, n + 1) == 0;

    free(got);
    return same;
}

static void put(const char *dir, const char *name, const char *text)
{
    char *path = esp_path(dir, name);
    FILE *f = fopen(path, "w");

    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
    free(path);
}

static void test_write_and_read(void)
{
    char *dir = esp_test_fresh_dir("write"), *path = esp_path(dir, "a"),
         *part = esp_path(dir, "a" ESP_PART);

    put(dir, "a" ESP_PART, "left by a job that died, longer than what comes");
    CU_ASSERT_EQUAL(esp_file_write(path, "one", 3), ESP_OK);
    CU_ASSERT(holds(path, "one"));
    CU_ASSERT_FALSE(esp_file_exists(part));
    CU_ASSERT_EQUAL(esp_file_write(path, "", 0), ESP_OK);
    CU_ASSERT(holds(path, ""));
    free(part);
    free(path);
    free(dir);
}

static void test_copy(void)
{
    char *dir = esp_test_fresh_dir("copy"), *from = esp_path(dir, "from"),
         *to = esp_path(dir, "to");

    put(dir, "from", "text");
    put(dir, "to", "older, longer text");
    CU_ASSERT_EQUAL(esp_file_copy(to, from), ESP_OK);
    CU_ASSERT(holds(to, "text"));
    put(dir, "from", "");
    CU_ASSERT_EQUAL(esp_file_copy(to, from), ESP_OK);
    CU_ASSERT(holds(to, ""));
    free(from);
    free(to);
    free(dir);
}

static void test_what_cannot_be_read(void)
{
    char *dir = esp_test_fresh_dir("unread"), *none = esp_path(dir, "none"), *text;
    size_t n;
    esp_map m;

    CU_ASSERT_EQUAL(esp_file_read(&text, &n, none), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), none));
    CU_ASSERT_EQUAL(esp_file_read(&text, &n, dir), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_map_open(&m, none), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_map_open(&m, dir), ESP_EUSAGE);
    esp_map_close(&m);
    CU_ASSERT_EQUAL(esp_file_copy(none, none), ESP_EUSAGE);
    CU_ASSERT_FALSE(esp_file_exists(none));
    esp_error_clear();
    free(none);
    free(dir);
}

static void test_what_cannot_be_written(void)
{
    char *dir = esp_test_fresh_dir("unwritten"), *below = esp_path(dir, "a/b"),
         *a = esp_path(dir, "a");

    put(dir, "a", "a file");
    CU_ASSERT_EQUAL(esp_file_write(below, "x", 1), ESP_EIO);
    CU_ASSERT_EQUAL(esp_mkdirs(below), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_mkdirs(a), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_dir_check(below), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_dir_check(a), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_dir_check(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_dir_check("no/such/folder"), ESP_OK); /* can be made */
    CU_ASSERT_EQUAL(esp_dir_check("/dev/null/none"), ESP_EUSAGE);

    CU_ASSERT_EQUAL(esp_commit(dir), ESP_EIO); /* nothing to commit */
    CU_ASSERT(holds(a, "a file"));
    esp_error_clear();
    free(below);
    free(a);
    free(dir);
}

static void test_map(void)
{
    char *dir = esp_test_fresh_dir("map"), *path = esp_path(dir, "a");
    esp_map m;

    put(dir, "a", "mapped");
    CU_ASSERT_EQUAL(esp_map_open(&m, path), ESP_OK);
    CU_ASSERT_EQUAL(m.n, 6);
    CU_ASSERT_EQUAL(memcmp(m.data, "mapped", 6), 0);
    esp_map_close(&m);
    esp_map_close(&m);
    CU_ASSERT_PTR_NULL(m.data);
    put(dir, "a", "");
    CU_ASSERT_EQUAL(esp_map_open(&m, path), ESP_OK);
    CU_ASSERT_EQUAL(m.n, 0);
    esp_map_close(&m);
    free(path);
    free(dir);
}

/* ---- progress ------------------------------------------------------------------------------------ */

/* Work that goes on at 60 of 100 and comes to 80 in 10 s needs 10 s more, whatever came before. */
static void test_time_left(void)
{
    CU_ASSERT_DOUBLE_EQUAL(esp_time_left(10, 60, 80, 100), 10, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(esp_time_left(10, 0, 80, 100), 2.5, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(esp_time_left(10, 1, 2, 12), 100, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(esp_time_left(10, 60, 100, 100), 0, 1e-12);
}

/* ---- shares -------------------------------------------------------------------------------------- */

static void test_share(void)
{
    for (size_t n = 0; n < 40; n++) {
        for (int parts = 1; parts < 9; parts++) {
            size_t at = 0, least = n, most = 0;

            for (int i = 0; i < parts; i++) {
                size_t begin, end;

                esp_share(&begin, &end, n, i, parts);
                CU_ASSERT_EQUAL(begin, at);
                CU_ASSERT(end >= begin);
                least = end - begin < least ? end - begin : least;
                most = end - begin > most ? end - begin : most;
                at = end;
            }
            CU_ASSERT_EQUAL(at, n);
            CU_ASSERT(most - least <= 1);
        }
    }
}

ESP_TEST_MAIN("base", { "exit codes", test_exit_codes }, { "error slot", test_error_slot },
              { "error longer than the slot", test_error_longer_than_the_slot },
              { "ESP_TRY", test_try_leaves_at_the_first_failure }, { "calloc", test_calloc },
              { "grow", test_grow_keeps }, { "strings", test_strings },
              { "resident memory", test_resident }, { "rng values", test_rng_values },
              { "rng keys", test_rng_keys_differ }, { "rng distributions", test_rng_distributions },
              { "rng below", test_rng_below }, { "rng shuffle", test_rng_shuffle },
              { "digest", test_digest }, { "write and read", test_write_and_read },
              { "copy", test_copy }, { "unreadable input", test_what_cannot_be_read },
              { "unwritable output", test_what_cannot_be_written }, { "map", test_map },
              { "share", test_share }, { "time left", test_time_left })
