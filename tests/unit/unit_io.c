/* unit_io.c - transfers that are short, interrupted or fail, and mapped files that become shorter. The calls
 * of the C library that this program writes with are replaced here. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/io.h"
#include "test.h"

static struct {
    size_t most;     /* bytes per call, 0: as many as asked for          */
    int interrupted; /* calls that end with EINTR before one that does not */
    int nothing;     /* ... that move 0 bytes                              */
    size_t room;     /* bytes of the disk that are left                    */
    int error;       /* errno when it is full                              */
    int sync_error, close_error;
    int calls, waited;
} faults;

static const size_t plenty = (size_t)1 << 40;

static void no_faults(void)
{
    memset(&faults, 0, sizeof faults);
    faults.room = plenty;
}

/* Whether a call moves nothing; *n becomes what it may move. */
static bool disturbed(size_t *n, ssize_t *result)
{
    faults.calls++;
    if (faults.waited < faults.interrupted + faults.nothing) {
        *result = faults.waited++ < faults.interrupted ? -1 : 0;
        errno = EINTR;
        return true;
    }
    faults.waited = 0;
    *n = faults.most && *n > faults.most ? faults.most : *n;
    return false;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    ssize_t result;

    if (disturbed(&n, &result)) {
        return result;
    }
    if (faults.room == 0) {
        errno = faults.error;
        return -1;
    }
    n = n > faults.room ? faults.room : n;
    faults.room -= n;
    return syscall(SYS_pwrite64, fd, data, n, at);
}

ssize_t pread(int fd, void *data, size_t n, off_t at)
{
    ssize_t result;

    return disturbed(&n, &result) ? result : syscall(SYS_pread64, fd, data, n, at);
}

int fsync(int fd)
{
    (void)fd;
    errno = faults.sync_error;
    return faults.sync_error ? -1 : 0;
}

int close(int fd)
{
    syscall(SYS_close, fd);
    errno = faults.close_error;
    return faults.close_error ? -1 : 0;
}

static const char text[] = "the bytes of a file that is written and read in pieces";

static char *fresh_file(void)
{
    char *dir = esp_test_dir("io"), *path = esp_path(dir, "a");

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    unlink(path);
    free(dir);
    return path;
}

static bool holds(const char *path, const char *wanted)
{
    char *got = NULL;
    size_t n = 0;
    bool same = esp_file_read(&got, &n, path) == ESP_OK && n == strlen(wanted) &&
                memcmp(got, wanted, n + 1) == 0;

    free(got);
    return same;
}

static void test_pieces(void)
{
    char *path = fresh_file();

    for (size_t most = 1; most < 8; most++) {
        no_faults();
        faults.most = most;
        faults.interrupted = 3;
        CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
        CU_ASSERT(holds(path, text));
        CU_ASSERT((size_t)faults.calls >= 2 * 4 * (strlen(text) / most));
    }
    faults.nothing = 2;
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    no_faults();
    CU_ASSERT(holds(path, text));
    free(path);
}

/* Interrupted, or moving nothing, for ever. */
static void test_an_end(void)
{
    char *path = fresh_file(), *got;
    size_t n;

    no_faults();
    CU_ASSERT_EQUAL(esp_file_write(path, "old", 3), ESP_OK);
    faults.nothing = 1000000;
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), strerror(EIO)));
    no_faults();
    faults.interrupted = 1000000;
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), strerror(EINTR)));
    CU_ASSERT(faults.calls < 100000);
    CU_ASSERT_EQUAL(esp_file_read(&got, &n, path), ESP_EIO);
    no_faults();
    CU_ASSERT(holds(path, "old"));
    esp_error_clear();
    free(path);
}

/* A disk with room for 0, 1, 2, ... bytes: the old file stays, and nothing beside it. */
static void test_full(void)
{
    static const struct {
        int error;
        const char *remedy;
    } kinds[] = { { ENOSPC, "make room" },
                  { EDQUOT, "your quota" },
                  { EFBIG, "ulimit -f" },
                  { EIO, "54 bytes: Input/output error" } };
    char *path = fresh_file(), *part = esp_part_path(path);

    no_faults();
    CU_ASSERT_EQUAL(esp_file_write(path, "old", 3), ESP_OK);
    for (size_t room = 0; room < strlen(text); room++) {
        no_faults();
        faults.room = room;
        faults.error = kinds[room % 4].error;
        CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_EIO);
        CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), path));
        CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), kinds[room % 4].remedy));
        CU_ASSERT(holds(path, "old"));
        CU_ASSERT_FALSE(esp_file_exists(part));
    }
    no_faults();
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    esp_error_clear();
    free(part);
    free(path);
}

/* What is told only when a file is synced or closed. */
static void test_late_errors(void)
{
    char *path = fresh_file();

    no_faults();
    CU_ASSERT_EQUAL(esp_file_write(path, "old", 3), ESP_OK);
    faults.close_error = EDQUOT;
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_EIO);
    no_faults();
    faults.sync_error = EIO;
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_EIO);
    CU_ASSERT(holds(path, "old"));
    faults.sync_error = EINVAL; /* no such thing there */
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    CU_ASSERT(holds(path, text));
    no_faults();
    esp_error_clear();
    free(path);
}

/* A pipe stays a pipe. */
static void test_pipe(void)
{
    char *path = fresh_file(), *part = esp_part_path(path);
    struct stat s;

    no_faults();
    CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_EUSAGE);
    CU_ASSERT(stat(path, &s) == 0 && S_ISFIFO(s.st_mode));
    CU_ASSERT_FALSE(esp_file_exists(part));
    unlink(path);
    esp_error_clear();
    free(part);
    free(path);
}

/* ---- mapped files ---- */

/* What a process that reads byte `at` of a file that has become shorter says. */
static int read_shrunk(char *said, size_t room, const char *path, size_t at)
{
    int ends[2], status;
    pid_t child;
    ssize_t n;

    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        esp_map m, other;

        dup2(ends[1], STDERR_FILENO);
        esp_map_watch();
        for (int i = 0; i < 3; i++) { /* entries are used again */
            esp_map_open(&other, path);
            esp_map_close(&other);
        }
        esp_map_open(&m, path);
        if (truncate(path, 10) != 0) {
            _exit(9);
        }
        _exit(m.data[at] == 0 ? 7 : 8);
    }
    close(ends[1]);
    n = read(ends[0], said, room - 1);
    said[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_shrunk(void)
{
    char *path = fresh_file(), *bytes = esp_calloc(20000, 1), said[512];

    no_faults();
    CU_ASSERT_EQUAL(esp_file_write(path, bytes, 20000), ESP_OK);
    CU_ASSERT_EQUAL(read_shrunk(said, sizeof said, path, 15000), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, path));
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "became shorter"));
    CU_ASSERT_EQUAL(esp_file_write(path, bytes, 20000), ESP_OK);
    CU_ASSERT_EQUAL(read_shrunk(said, sizeof said, path, 4000), 7); /* of the last page */
    free(bytes);
    free(path);
}

ESP_TEST_MAIN("io", { "pieces", test_pieces }, { "an end", test_an_end }, { "full", test_full },
              { "late errors", test_late_errors }, { "pipe", test_pipe }, { "shrunk", test_shrunk })
