/* companions.c - the files of a model folder that go along with its weights: tokenizer, code, licence. */
#include "export_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/log.h"
#include "espalier/mem.h"

#define LARGEST ((off_t)64 << 20) /* bytes; tokenizer.json of 256000 tokens has half of it */
#define TOLD    4                 /* names in the line about what stays behind */

/* What files of weights, and the lists of them, end in. */
static const char *const weights[] = {
    ".safetensors", ".bin",  ".pt",       ".pth",    ".ckpt",       ".gguf",
    ".ggml",        ".h5",   ".msgpack",  ".onnx",   ".onnx_data",  ".ot",
    ".npz",         ".nemo", ".pdparams", ".tflite", ".index.json",
};

typedef struct names {
    struct dirent **entry; /* [n] owned, sorted */
    int n;
} names;

typedef struct copying {
    const char *from, *to;
    char *left; /* owned; ", NAME" of the first TOLD that were not taken */
    size_t n_left;
} copying;

static int is_shown(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static esp_status list(names *l, const char *dir)
{
    l->n = scandir(dir, &l->entry, is_shown, alphasort);
    return l->n < 0 ? esp_fail(ESP_EIO, "%s: cannot list: %s", dir, strerror(errno)) : ESP_OK;
}

static void list_free(names *l)
{
    for (int i = 0; i < l->n; i++) {
        free(l->entry[i]);
    }
    free(l->entry);
}

static bool is_weights(const char *name)
{
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        size_t n = strlen(name), end = strlen(weights[i]);

        if (n > end && strcmp(name + n - end, weights[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void leave(copying *c, const char *name)
{
    if (c->n_left++ < TOLD) {
        char *more = esp_format("%s, %s", c->left ? c->left : "", name);

        free(c->left);
        c->left = more;
    }
}

/* A file, or what a link leads to. */
static esp_status copy_file(copying *c, const char *name)
{
    char *from = esp_path(c->from, name), *to = esp_path(c->to, name);
    struct stat s;
    esp_status st = ESP_OK;

    if (stat(from, &s) == 0 && S_ISREG(s.st_mode) && s.st_size <= LARGEST) {
        st = esp_folder_add(c->to, name);
        st = st == ESP_OK ? esp_file_copy(to, from) : st;
    } else {
        leave(c, name);
    }
    free(from);
    free(to);
    return st;
}

/* A folder with weights holds another form of the model, and its small files say the sizes of that. */
static bool holds_weights(const names *l)
{
    for (int i = 0; i < l->n; i++) {
        if (is_weights(l->entry[i]->d_name)) {
            return true;
        }
    }
    return false;
}

static esp_status copy_folder(copying *c, const char *name)
{
    char *from = esp_path(c->from, name), *to = esp_path(c->to, name);
    names l = { 0 };
    esp_status st = list(&l, from);

    if (st == ESP_OK && holds_weights(&l)) {
        leave(c, name);
    } else if (st == ESP_OK && l.n > 0) {
        st = esp_mkdirs(to);
        for (int i = 0; i < l.n && st == ESP_OK; i++) {
            char *file = esp_path(name, l.entry[i]->d_name);

            st = copy_file(c, file);
            free(file);
        }
    }
    list_free(&l);
    free(from);
    free(to);
    return st;
}

/* Whether a name is that of a folder itself; where a link leads to is not followed. */
static bool is_folder(const copying *c, const char *name)
{
    char *path = esp_path(c->from, name);
    struct stat s;
    bool is = lstat(path, &s) == 0 && S_ISDIR(s.st_mode);

    free(path);
    return is;
}

esp_status esp_companions_copy(const char *to, const char *from)
{
    copying c = { .from = from, .to = to };
    names l = { 0 };
    esp_status st = list(&l, from);

    for (int i = 0; i < l.n && st == ESP_OK; i++) {
        const char *name = l.entry[i]->d_name;

        if (!is_weights(name) && strcmp(name, "config.json") != 0) {
            st = is_folder(&c, name) ? copy_folder(&c, name) : copy_file(&c, name);
        }
    }
    if (st == ESP_OK && c.n_left > 0) {
        esp_info("%s: %zu of its files and folders stay behind (other weights, above %zu MB, or no "
                 "regular file): %s%s",
                 from, c.n_left, (size_t)LARGEST >> 20, c.left + 2, c.n_left > TOLD ? ", ..." : "");
    }
    list_free(&l);
    free(c.left);
    return st;
}
