/* file.h - paths, whole files, mapped files, and results that appear complete or not at all.
 *
 * A result NAME is written to NAME.part and then committed: synced, renamed, and the folder synced.
 */
#ifndef ESPALIER_FILE_H
#define ESPALIER_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/status.h"

/* "a/b"; the caller frees. Local. */
char *esp_path(const char *dir, const char *name);

bool esp_file_exists(const char *path);
bool esp_dir_exists(const char *path);

/* Creates the folder and its parents. ESP_EIO. Local. */
esp_status esp_mkdirs(const char *path);

/* Removes a file or a whole folder; nothing there is no error. ESP_EIO. Local. */
esp_status esp_remove(const char *path);

/* Opens a regular file of *n bytes for reading; the caller closes *fd. ESP_EUSAGE when it is not there or
 * none, ESP_EIO. Local. */
esp_status esp_file_open(int *fd, size_t *n, const char *path);

/* Whole file into memory with a 0 byte after it; the caller frees *text.
 * ESP_EUSAGE when it is not there, ESP_EIO when it cannot be read. Local. */
esp_status esp_file_read(char **text, size_t *n, const char *path);

/* Writes path.part and commits it to path. ESP_EIO: path is as it was, path.part is gone. Local. */
esp_status esp_file_write(const char *path, const void *data, size_t n);

/* Copies a file to path.part and commits it. ESP_EIO. Local. */
esp_status esp_file_copy(const char *to, const char *from);

/* path.part, a file or a folder that is complete, becomes path; what was at path before goes when the
 * new one is in place. ESP_EIO. Local. */
esp_status esp_commit(const char *path);

/* A file mapped read-only; pages are shared by all ranks of a node. */
typedef struct esp_map {
    const uint8_t *data; /* [n] */
    size_t n;
} esp_map;

/* ESP_EUSAGE when the file is not there, ESP_EIO when it cannot be mapped. Local. */
esp_status esp_map_open(esp_map *m, const char *path);
void esp_map_close(esp_map *m); /* safe twice and on {0} */

/* From now on the job ends with one line that names the file and exit code 1, instead of a signal, when bytes
 * of a mapped file cannot be had: it became shorter, or its device failed. Once, by the program. Local. */
void esp_map_watch(void);

/* For other mappings of files, of n bytes: what to call them, and that they are no more. Local. */
void esp_map_note(const void *begin, size_t n, const char *name);
void esp_map_forget(const void *begin);

#endif
