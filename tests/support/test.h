/* test.h - CUnit under MPI: rank 0 reports, the others run the same tests, all leave with one code. */
#ifndef ESPALIER_TEST_H
#define ESPALIER_TEST_H

#include <CUnit/Basic.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/bf16.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/isa.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/status.h"

typedef struct esp_test {
    const char *name;
    void (*run)(void);
} esp_test;

/* Where the shared models are, NULL (after a message) when they are not: the test then passes as skipped. */
static inline char *esp_test_shared(const char *below)
{
    const char *root = getenv("ESPALIER_SHARED");
    char *path = esp_format("%s/%s", root ? root : "../shared", below);
    FILE *f = fopen(path, "r");

    if (!f) {
        printf("skipped: %s is not here\n", path);
        free(path);
        return NULL;
    }
    fclose(f);
    return path;
}

/* False, after a message, when there are no products of bf16 here: the test then passes as skipped. */
static inline bool esp_test_bf16(void)
{
    if (esp_precision_check(ESP_PRECISION_BF16) == ESP_OK) {
        return true;
    }
    printf("skipped: %s\n", esp_error_message());
    esp_error_clear();
    return false;
}

/* Fresh folder for the files of this test program, the same name on all ranks. */
static inline char *esp_test_dir(const char *name)
{
    const char *root = getenv("ESPALIER_TEST_DIR");

    return esp_format("%s/%s", root ? root : "/tmp", name);
}

static inline int esp_test_remove_one(const char *path, const struct stat *s, int kind,
                                      struct FTW *f)
{
    (void)s;
    (void)kind;
    (void)f;
    return remove(path);
}

/* Removes a file or a folder, whoever made it: what esp_remove refuses to do. Nothing there is no error. */
static inline esp_status esp_test_remove(const char *path)
{
    nftw(path, esp_test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return ESP_OK;
}

/* esp_test_dir made anew, empty. For tests of one rank. */
static inline char *esp_test_fresh_dir(const char *name)
{
    char *dir = esp_test_dir(name);

    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    return dir;
}

/* stderr, while it goes to a file. */
typedef struct esp_ear {
    int before;
    FILE *said;
} esp_ear;

static inline esp_ear esp_test_hear(void)
{
    esp_ear e = { .said = tmpfile() };

    fflush(stderr);
    e.before = dup(2);
    dup2(fileno(e.said), 2);
    return e;
}

/* What was said since; the caller frees. */
static inline char *esp_test_heard(esp_ear *e)
{
    char *text = esp_calloc(8192, 1);

    fflush(stderr);
    dup2(e->before, 2);
    close(e->before);
    rewind(e->said);
    text[fread(text, 1, 8191, e->said)] = '\0';
    fclose(e->said);
    return text;
}

/* Under AddressSanitizer: looks for leaks while MPI's plugins are still loaded, so that theirs can be
 * told (lsan.supp) from ours. */
static inline void esp_test_leaks(void)
{
#ifdef __SANITIZE_ADDRESS__
    extern void __lsan_do_leak_check(void);

    __lsan_do_leak_check();
#endif
}

static inline int esp_test_main(int argc, char **argv, const char *suite_name,
                                const esp_test *tests, size_t n)
{
    int rank, provided, failed;
    CU_pSuite suite;

    (void)argc;
    (void)argv;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    esp_log_init(ESP_LOG_QUIET, rank == 0);
    if (esp_isa_choose(getenv("ESPALIER_ISA")) != ESP_OK) {
        printf("skipped: %s\n", esp_error_message());
        MPI_Finalize();
        return 0;
    }
    CU_initialize_registry();
    suite = CU_add_suite(suite_name, NULL, NULL);
    for (size_t i = 0; i < n; i++) {
        CU_add_test(suite, tests[i].name, tests[i].run);
    }
    if (rank == 0) {
        CU_basic_set_mode(CU_BRM_NORMAL);
        CU_basic_run_tests();
    } else {
        CU_run_all_tests();
    }
    failed = (int)CU_get_number_of_failures();
    if (failed && rank != 0) {
        for (CU_pFailureRecord f = CU_get_failure_list(); f; f = f->pNext) {
            printf("rank %d: %s:%u: %s\n", rank, f->strFileName, f->uiLineNumber, f->strCondition);
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    CU_cleanup_registry();
    esp_test_leaks();
    MPI_Finalize();
    return failed ? 1 : 0;
}

#define ESP_TEST_MAIN(suite, ...)                                                     \
    int main(int argc, char **argv)                                                   \
    {                                                                                 \
        static const esp_test tests[] = { __VA_ARGS__ };                              \
        return esp_test_main(argc, argv, suite, tests, sizeof tests / sizeof *tests); \
    }

/* |a - b| <= tol * scale over n numbers; prints the worst when it fails. */
static inline int esp_test_close(const double *a, const double *b, size_t n, double scale,
                                 double tol)
{
    double worst = 0;
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        double e = fabs(a[i] - b[i]);

        if (!(e <= worst)) {
            worst = e;
            at = i;
        }
    }
    if (!(worst <= tol * scale)) {
        printf("  [%zu] %.9g against %.9g, error %.3g of scale %.3g (allowed %.3g)\n", at, a[at],
               b[at], worst / scale, scale, tol);
        return 0;
    }
    return 1;
}

#endif
