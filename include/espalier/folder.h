/* folder.h - folders that this program makes, and the proof that it made them.
 *
 * Such a folder holds a file .espalier that names what the program puts into it, written before anything
 * else. Only what is named there is ever replaced or removed: a folder without that file, or with anything
 * else in it, is its owner's. All of this is local.
 */
#ifndef ESPALIER_FOLDER_H
#define ESPALIER_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#include "espalier/status.h"

#define ESP_MARKER ".espalier"

/* Whether a folder is there with anything in it. */
bool esp_folder_has_files(const char *path);

/* Makes the folder, with its parents, and its marker; where both are there, names are added to it. names
 * [n]: files that will be in it, relative to it, as they are or as patterns of fnmatch. ESP_EUSAGE where a
 * folder without a marker, and not empty, is there; ESP_EIO. */
esp_status esp_folder_make(const char *path, const char *const *names, size_t n);

/* Adds a name to the marker of a folder; one without a marker stays without. ESP_EIO. */
esp_status esp_folder_add(const char *path, const char *name);

/* The names in a marker, in order; the caller frees each and the array. ESP_EUSAGE where there is no
 * marker. */
esp_status esp_folder_names(char ***names, size_t *n, const char *path);

/* ESP_OK where nothing is at path, or a folder that is empty or holds nothing but what its marker names,
 * partial files (ESP_PART) and folders of which the same is true. Else ESP_EUSAGE: what else is there. */
esp_status esp_folder_check(const char *path);

/* The same, but a folder with a marker may hold other things, too: for files to be put into it. */
esp_status esp_folder_check_made(const char *path);

/* Checks, then removes the folder with all that is in it. Nothing there is no error. ESP_EUSAGE: nothing was
 * removed; ESP_EIO. */
esp_status esp_folder_remove(const char *path);

/* Removes a file, or a folder with all that is in it if this program made that (esp_folder_remove); nothing
 * there is no error. ESP_EUSAGE: a folder of somebody else, not touched; ESP_EIO. */
esp_status esp_remove(const char *path);

/* The part of path, a file or a folder that is complete, becomes path; what was at path before goes when
 * the new one is in place. A folder there that this program did not make is ESP_EUSAGE and stays. ESP_EIO. */
esp_status esp_commit(const char *path);

#endif
