/* folder.c - the marker of a folder, and walks that believe nothing else. */
#include "espalier/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/mem.h"

#define FIRST_LINE \
    "Made by espalier, which replaces or removes the files named here and no others:\n"

/* ---- marker ------------------------------------------------------------------------------------ */

typedef struct marker {
    char **names; /* [n] owned, each owned     */
    size_t n;
    bool there; /* else the folder has none of ours */
} marker;

static void marker_free(marker *k)
{
    for (size_t i = 0; i < k->n; i++) {
        free(k->names[i]);
    }
    free(k->names);
    *k = (marker){ 0 };
}

static void add_name(marker *k, const char *name)
{
    k->names = esp_grow(k->names, k->n + 1, sizeof *k->names);
    k->names[k->n++] = esp_strdup(name);
}

static esp_status read_marker(marker *k, const char *dir)
{
    char *path = esp_path(dir, ESP_MARKER), *text = NULL, *line, *rest;
    size_t n, first = strlen(FIRST_LINE);
    esp_status st = ESP_OK;

    *k = (marker){ 0 };
    if (esp_file_exists(path)) {
        st = esp_file_read(&text, &n, path);
    }
    if (text && strncmp(text, FIRST_LINE, first) == 0) {
        k->there = true;
        for (line = strtok_r(text + first, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            add_name(k, line);
        }
    }
    free(text);
    free(path);
    return st;
}

static esp_status write_marker(const char *dir, const char *const *names, size_t n)
{
    char *path = esp_path(dir, ESP_MARKER), *text = esp_strdup(FIRST_LINE);
    esp_status st;

    for (size_t i = 0; i < n; i++) {
        char *longer = esp_format("%s%s\n", text, names[i]);

        free(text);
        text = longer;
    }
    st = esp_file_write(path, text, strlen(text));
    free(text);
    free(path);
    return st;
}

/* ---- what is in a folder ----------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n > m && strcmp(name + n - m, end) == 0;
}

static bool is_named(const marker *k, const char *name)
{
    for (size_t i = 0; i < k->n; i++) {
        if (strcmp(k->names[i], name) == 0 || fnmatch(k->names[i], name, FNM_PATHNAME) == 0) {
            return true;
        }
    }
    return ends_with(name, ESP_PART);
}

static bool is_folder(const char *path)
{
    struct stat s;

    return lstat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

typedef esp_status (*visitor)(const char *path);

static esp_status walk(const char *dir, const char *under, const marker *k, visitor leave);

/* An entry of a folder: a file that is named, a folder whose files are, or one with a marker of its own. */
static esp_status walk_entry(const char *path, const char *name, const marker *k, visitor leave)
{
    marker own = { 0 };
    esp_status st;

    if (!is_folder(path)) {
        if (!is_named(k, name)) {
            return esp_fail(ESP_EUSAGE, "%s", path);
        }
        return leave ? leave(path) : ESP_OK;
    }
    st = read_marker(&own, path);
    if (st == ESP_OK) {
        st = own.there ? walk(path, NULL, &own, leave) : walk(path, name, k, leave);
    }
    marker_free(&own);
    return st;
}

static int not_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

/* All that is in a folder, then the folder, each left by `leave` (NULL: by nobody); the marker goes last of
 * the files, so that what is left of an interrupted removal can still be told. under: name of the folder
 * below the one with the marker, NULL for that one itself. The message is a path alone. */
static esp_status walk(const char *dir, const char *under, const marker *k, visitor leave)
{
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, not_dots, alphasort);
    esp_status st = n < 0 ? esp_fail(ESP_EIO, "%s: %s", dir, strerror(errno)) : ESP_OK;
    char *last = under || !k->there ? NULL : esp_path(dir, ESP_MARKER);

    for (int i = 0; i < n; i++) {
        char *path = esp_path(dir, entries[i]->d_name);
        char *name = under ? esp_path(under, entries[i]->d_name) : esp_strdup(entries[i]->d_name);

        if (st == ESP_OK && !(last && strcmp(path, last) == 0)) {
            st = walk_entry(path, name, k, leave);
        }
        free(path);
        free(name);
        free(entries[i]);
    }
    free(entries);
    if (st == ESP_OK && leave) {
        st = last ? leave(last) : ESP_OK;
        st = st == ESP_OK ? leave(dir) : st;
    }
    free(last);
    return st;
}

static esp_status remove_one(const char *path)
{
    return remove(path) == 0 || errno == ENOENT
               ? ESP_OK
               : esp_fail(ESP_EIO, "%s: cannot remove: %s", path, strerror(errno));
}

/* ---- the folders ------------------------------------------------------------------------------- */

static esp_status visit(const char *path, visitor leave)
{
    struct stat s;
    marker k;
    esp_status st;

    if (lstat(path, &s) != 0) {
        return errno == ENOENT ? ESP_OK : esp_fail(ESP_EUSAGE, "%s: %s", path, strerror(errno));
    }
    if (!S_ISDIR(s.st_mode)) {
        return esp_fail(ESP_EUSAGE,
                        "%s: is there and is no folder that espalier made: move it away, or choose "
                        "another place",
                        path);
    }
    ESP_TRY(read_marker(&k, path));
    st = walk(path, NULL, &k, leave);
    if (st == ESP_EUSAGE) {
        char *found = esp_strdup(esp_error_message());

        st = esp_fail(ESP_EUSAGE,
                      "%s: espalier did not make %s, which it would have to remove (%s): move it "
                      "away, or choose another place",
                      path, k.there ? "all that is in it" : "this folder", found);
        free(found);
    }
    marker_free(&k);
    return st;
}

bool esp_folder_has_files(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e = d ? readdir(d) : NULL;

    while (e && !not_dots(e)) {
        e = readdir(d);
    }
    if (d) {
        closedir(d);
    }
    return e != NULL;
}

esp_status esp_folder_check(const char *path)
{
    return visit(path, NULL);
}

/* It goes at once, under another name, and then bit by bit: who is interrupted leaves no half of it. */
esp_status esp_folder_remove(const char *path)
{
    char *old = esp_format("%s%s", path, ESP_OLD);
    esp_status st = visit(path, NULL);

    if (st == ESP_OK) {
        st = visit(old, NULL);
    }
    if (st == ESP_OK) {
        st = visit(old, remove_one);
    }
    if (st == ESP_OK && rename(path, old) != 0 && errno != ENOENT) {
        st = esp_fail(ESP_EIO, "%s: cannot rename to %s: %s", path, old, strerror(errno));
    }
    if (st == ESP_OK) {
        st = visit(old, remove_one);
    }
    free(old);
    return st;
}

esp_status esp_folder_check_made(const char *path)
{
    marker k;
    bool there;

    ESP_TRY(read_marker(&k, path));
    there = k.there;
    marker_free(&k);
    return there ? ESP_OK : visit(path, NULL);
}

/* Adds names to a marker that may be there. */
static esp_status add_names(const char *path, marker *k, const char *const *names, size_t n)
{
    bool changed = !k->there;

    for (size_t i = 0; i < n; i++) {
        if (!is_named(k, names[i])) {
            add_name(k, names[i]);
            changed = true;
        }
    }
    return changed ? write_marker(path, (const char *const *)k->names, k->n) : ESP_OK;
}

esp_status esp_folder_make(const char *path, const char *const *names, size_t n)
{
    marker k;
    esp_status st;

    ESP_TRY(esp_folder_check_made(path));
    ESP_TRY(esp_mkdirs(path));
    ESP_TRY(read_marker(&k, path));
    st = add_names(path, &k, names, n);
    marker_free(&k);
    return st;
}

esp_status esp_folder_add(const char *path, const char *name)
{
    marker k;
    esp_status st;

    ESP_TRY(read_marker(&k, path));
    st = k.there ? add_names(path, &k, &name, 1) : ESP_OK;
    marker_free(&k);
    return st;
}

esp_status esp_folder_names(char ***names, size_t *n, const char *path)
{
    marker k;

    ESP_TRY(read_marker(&k, path));
    if (!k.there) {
        return esp_fail(ESP_EUSAGE, "%s: has no file %s, so espalier did not make it", path,
                        ESP_MARKER);
    }
    *names = k.names;
    *n = k.n;
    return ESP_OK;
}

esp_status esp_remove(const char *path)
{
    struct stat s;

    if (lstat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
        return esp_folder_remove(path);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return esp_fail(ESP_EIO, "%s: cannot remove: %s", path, strerror(errno));
    }
    return ESP_OK;
}

/* ---- in place of what was there ------------------------------------------------------------------ */

/* A folder with files in it is not replaced by rename: it goes aside first. */
static esp_status replace(const char *path, const char *part)
{
    char *old = esp_format("%s%s", path, ESP_OLD);
    bool folder = esp_dir_exists(path);
    esp_status st = folder ? esp_folder_check(path) : ESP_OK;

    st = st == ESP_OK ? esp_folder_remove(old) : st; /* of a job that died */
    if (st == ESP_OK && folder && rename(path, old) != 0) {
        st = esp_fail(ESP_EIO, "%s: cannot rename: %s", path, strerror(errno));
    }
    if (st == ESP_OK && rename(part, path) != 0) {
        st = esp_fail(ESP_EIO, "%s: cannot rename to %s: %s", part, path, strerror(errno));
    }
    st = st == ESP_OK ? esp_folder_remove(old) : st;
    free(old);
    return st;
}

esp_status esp_commit(const char *path)
{
    char *part = esp_part_path(path);
    esp_status st;

    if (!esp_dir_exists(part)) {
        free(part);
        return esp_file_commit(path);
    }
    st = esp_sync_path(part);
    st = st == ESP_OK ? replace(path, part) : st;
    free(part);
    return st == ESP_OK ? esp_sync_parent(path) : st;
}
