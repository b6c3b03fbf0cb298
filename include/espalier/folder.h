/* folder.h - folders that this program makes, and the proof that it made them.
 *
 * Such a folder holds a file .espalier, its marker, that names what the program puts into it, written before
 * anything else. Only what is named there is ever replaced or removed: a folder without that file, or with
 * anything else in it, belongs to somebody else. All functions are Local, and return ESP_EIO where a folder
 * or its marker cannot be read or changed.
 */
#ifndef ESPALIER_FOLDER_H
#define ESPALIER_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#include "espalier/status.h"

#define ESP_MARKER ".espalier"

/* Whether path is a folder with anything in it that can be listed. */
bool esp_folder_has_files(const char *path);

/* Makes the folder, with its parents, and its marker; where both are there, names are added to it. names
 * [n]: files that will be in it, relative to it, as they are or as patterns of fnmatch. ESP_EUSAGE where a
 * folder without a marker, and not empty, is there, or the path does not allow it. */
esp_status esp_folder_make(const char *path, const char *const *names, size_t n);

/* Adds a name to the marker of a folder; one without a marker stays without. */
esp_status esp_folder_add(const char *path, const char *name);

/* names [out] [*n]: the names in a marker, in order; the caller frees each and the array. ESP_EUSAGE where
 * there is no marker. */
esp_status esp_folder_names(char ***names, size_t *n, const char *path);

/* ESP_OK where nothing is at path, or a folder that is empty or holds nothing but what its marker names,
 * partial files (ESP_PART) and folders of which the same is true. Else ESP_EUSAGE, naming what else is
 * there. */
esp_status esp_folder_check(const char *path);

/* The same, but a folder with a marker may hold other things, too: for a folder that files are put into. */
esp_status esp_folder_check_made(const char *path);

/* Checks as esp_folder_check, then removes the folder with all that is in it. Nothing there is no error.
 * ESP_EUSAGE: nothing was removed. An interrupted removal leaves path.espalier-old, which the next one
 * takes. */
esp_status esp_folder_remove(const char *path);

/* Removes a file, or a folder with all that is in it if this program made that (esp_folder_remove); nothing
 * there is no error. ESP_EUSAGE: a folder of somebody else, not touched. */
esp_status esp_remove(const char *path);

/* The part of path, a complete file or folder, is synced and becomes path; what was at path before goes when
 * the new one is in place. ESP_EUSAGE: a folder would replace one that this program did not make, or a file a
 * device or pipe; that stays. ESP_EIO also for a file in the place of a folder, and the other way round. */
esp_status esp_commit(const char *path);

#endif
