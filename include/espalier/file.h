/* file.h - paths, whole files, mapped files, and results that appear complete or not at all.
 *
 * A result NAME is written to NAME.espalier-part and then committed: synced, renamed, and the folder synced.
 * The ending says whose it is: what has it may be replaced.
 */
#ifndef ESPALIER_FILE_H
#define ESPALIER_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/status.h"

#define ESP_PART ".espalier-part" /* of what is being written            */
#define ESP_OLD  ".espalier-old"  /* of a folder that is being replaced  */

/* "a/b"; the caller frees. Local. */
char *esp_path(const char *dir, const char *name);

/* Where path is written before it is committed; the caller frees. Local. */
char *esp_part_path(const char *path);

/* The absolute path without links, dots and doubled slashes, also where its last parts are not there yet; the
 * caller frees. Local. */
char *esp_path_real(const char *path);

/* Whether both lead to the same place. Local. */
bool esp_same_path(const char *a, const char *b);

bool esp_file_exists(const char *path); /* a regular file. Local. */
bool esp_dir_exists(const char *path);  /* a folder. Local.       */

/* ESP_OK for a regular file that can be opened for reading; else as esp_file_open. Local. */
esp_status esp_file_check(const char *path);

/* ESP_OK where there is a folder to write in, or one can be made: ESP_EUSAGE where the path does not allow
 * it, ESP_EIO. Makes nothing. Local. */
esp_status esp_dir_check(const char *path);

/* ESP_OK where a file that the user named can be written: ESP_EUSAGE where its folder is not there or cannot
 * be written in, or something is at path, other than a regular file with `replace`: that the user wants it,
 * and that the caller has seen that the program made it. made: for the message, what alone is replaced, as "a
 * token file that espalier made". Local. */
esp_status esp_output_check(const char *path, const char *made, bool replace);

/* Creates the folder and its parents, where they are not there. ESP_EUSAGE where the path does not allow it,
 * ESP_EIO. Local. */
esp_status esp_mkdirs(const char *path);

/* Opens a regular file for reading; n [out]: its bytes. The caller closes *fd [out]. ESP_EUSAGE when it is
 * not there, may not be read, or is no regular file; ESP_EIO. Local. */
esp_status esp_file_open(int *fd, size_t *n, const char *path);

/* text [out, owned]: the *n bytes of a whole file, with a 0 byte after them. ESP_EUSAGE as esp_file_open, and
 * when it does not fit the memory held to (limit.h); ESP_EIO when it cannot be read; *text is NULL then.
 * Local. */
esp_status esp_file_read(char **text, size_t *n, const char *path);

/* fsync of a file or folder by its path; of the folder that a path is in. ESP_EIO. Local. */
esp_status esp_sync_path(const char *path);
esp_status esp_sync_parent(const char *path);

/* Syncs the part of path, a complete file, and renames it to path, which is a file or not there. ESP_EUSAGE
 * for a device or pipe at path, ESP_EIO. Local. */
esp_status esp_file_commit(const char *path);

/* Writes data [n] to the part of path and commits it. A file at path is replaced: the caller knows whose it
 * is. ESP_EIO, and ESP_EUSAGE for a device or pipe at path: path is as it was, the part is gone. Local. */
esp_status esp_file_write(const char *path, const void *data, size_t n);

/* Copies a file to the part of `to` and commits it. Errors of esp_file_read and esp_file_write. Local. */
esp_status esp_file_copy(const char *to, const char *from);

/* A file mapped read-only; pages are shared by all ranks of a node. */
typedef struct esp_map {
    const uint8_t *data; /* [n] owned; NULL for an empty file */
    size_t n;
    uint64_t id; /* of the file: the same on ranks of a node that map the same one */
} esp_map;

/* Maps a file; m [out, owned] is {0} after a failure: ESP_EUSAGE as esp_file_open, ESP_EIO when it cannot be
 * mapped. Local. */
esp_status esp_map_open(esp_map *m, const char *path);
void esp_map_close(esp_map *m); /* safe twice and on {0} */

/* ESP_EFAILED where the file is not as it was when it was mapped: it is gone, another one, or of another size
 * or time. Local. */
esp_status esp_map_check(const esp_map *m);

/* From now on the job ends with one line that names the file and exit code 1, instead of a signal, when bytes
 * of a mapped file cannot be had: it became shorter, or its device failed. Once, by the program. Local. */
void esp_map_watch(void);

/* Tells the watch of a mapping of n bytes made otherwise, and what its file is called. Local. */
void esp_map_note(const void *begin, size_t n, const char *name);

/* Before such a mapping is unmapped. Local. */
void esp_map_forget(const void *begin);

#endif
