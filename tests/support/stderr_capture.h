/* stderr_capture.h - what is written to stderr, for tests of messages. */
#ifndef ESPALIER_TEST_STDERR_CAPTURE_H
#define ESPALIER_TEST_STDERR_CAPTURE_H

#include <fcntl.h>
#include <unistd.h>

#include "espalier/file.h"

#include "test.h"

static char *said; /* between the last listen_begin and listen_end; free it at the end */

/* From now on stderr goes to a file; gives what listen_end needs. */
static inline int listen_begin(void)
{
    char *path = esp_test_dir("stderr");
    int out = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), kept = dup(2);

    esp_error_clear();
    dup2(out, 2);
    close(out);
    free(path);
    return kept;
}

static inline void listen_end(int kept)
{
    char *path = esp_test_dir("stderr");
    size_t n;

    dup2(kept, 2);
    close(kept);
    free(said);
    CU_ASSERT_EQUAL(esp_file_read(&said, &n, path), ESP_OK);
    free(path);
}

#endif
