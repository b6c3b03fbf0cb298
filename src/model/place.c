/* place.c - other places and formats of models, by name and content. */
#include "espalier/place.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "espalier/file.h"
#include "espalier/mem.h"

#define FOLDERS "models are folders with config.json and safetensors, as Hugging Face's"
#define CONVERT "convert it with from_pretrained and save_pretrained of transformers"
#define OF_META "convert it with convert_llama_weights_to_hf.py of transformers"
#define OF_GGUF "take the folder that it was made from"
#define MERGE   "merge it into its base model first, with merge_and_unload of PEFT"

/* What names of files say; the first that fits counts. */
typedef struct sign {
    const char *pattern; /* of fnmatch */
    const char *what, *remedy;
} sign;

static const sign weights[] = {
    { "consolidated*.pth", "a checkpoint in Meta's format", OF_META },
    { "consolidated*.safetensors", "weights in Mistral's own format",
      "take the folder of the model that has model.safetensors" },
    { "*.gguf", "a GGUF file", OF_GGUF },
    { "pytorch_model*.bin", "weights in PyTorch's format", CONVERT },
    { "*.pth", "a PyTorch checkpoint", CONVERT },
    { "*.pt", "a PyTorch checkpoint", CONVERT },
    { "*.bin", "weights in PyTorch's format", CONVERT },
    { "*.ckpt", "a checkpoint", CONVERT },
    { "*.msgpack", "weights in Flax's format", CONVERT },
    { "tf_model.h5", "weights in TensorFlow's format", CONVERT },
    { "adapter_model.safetensors", "an adapter of PEFT", MERGE },
    { "adapter_config.json", "an adapter of PEFT", MERGE },
};

#define N_WEIGHTS (sizeof weights / sizeof *weights)

/* ---- no folder ------------------------------------------------------------------------------------- */

/* What the hub would call it, "name" or "owner/name", also of an address; NULL where it is a path. */
static const char *hub_name(const char *path)
{
    const char *scheme = strstr(path, "://"), *name = scheme ? path + strlen(path) : path;
    int slashes = 0;

    while (scheme && name > scheme + 3 && !(name[-1] == '/' && ++slashes == 2)) {
        name--;
    }
    slashes = 0;
    for (const char *at = name; *at; at++) {
        slashes += *at == '/';
        if (!isalnum((unsigned char)*at) && !strchr("-_./", *at)) {
            return NULL;
        }
    }
    return isalnum((unsigned char)*name) && slashes <= 1 && name[strlen(name) - 1] != '/' ? name
                                                                                          : NULL;
}

static esp_status not_there(const char *path)
{
    const char *name = hub_name(path);

    if (errno != ENOENT && errno != ENOTDIR) {
        return esp_fail(ESP_EUSAGE, "%s: cannot open: %s", path, strerror(errno));
    }
    return name
               ? esp_fail(ESP_EUSAGE,
                          "%s: there is no such folder, and models of the Hugging Face hub are not "
                          "downloaded here: hf download %s --local-dir DIR, then model = DIR",
                          path, name)
               : esp_fail(ESP_EUSAGE, "%s: there is no such folder", path);
}

static bool begins_with(const char *path, const char *magic)
{
    char *head;
    FILE *in = fopen(path, "rb");
    bool is = false;

    if (in) {
        ESP_NEW(head, strlen(magic));
        is = fread(head, 1, strlen(magic), in) == strlen(magic) &&
             memcmp(head, magic, strlen(magic)) == 0;
        free(head);
        fclose(in);
    }
    return is;
}

static esp_status is_file(const char *path, bool regular)
{
    char *copy = esp_strdup(path), *other = esp_strdup(path);
    const char *dir = dirname(copy), *name = basename(other);
    esp_status st = ESP_OK;

    if (regular && begins_with(path, "GGUF")) {
        st = esp_fail(ESP_EUSAGE, "%s: is a GGUF file: %s", path, OF_GGUF);
    }
    for (size_t i = 0; i < N_WEIGHTS && st == ESP_OK; i++) {
        if (fnmatch(weights[i].pattern, name, 0) == 0) {
            st = esp_fail(ESP_EUSAGE, "%s: is %s: %s; " FOLDERS, path, weights[i].what,
                          weights[i].remedy);
        }
    }
    if (st == ESP_OK &&
        (fnmatch("*.safetensors", name, 0) == 0 || fnmatch("*.json", name, 0) == 0)) {
        st =
            esp_fail(ESP_EUSAGE, "%s: is a file of a model folder: name the folder, %s", path, dir);
    }
    if (st == ESP_OK) {
        st = esp_fail(ESP_EUSAGE, "%s: is a file; " FOLDERS, path);
    }
    free(other);
    free(copy);
    return st;
}

esp_status esp_place_check(const char *path)
{
    struct stat s;

    if (stat(path, &s) != 0) {
        return not_there(path);
    }
    return S_ISDIR(s.st_mode) ? ESP_OK : is_file(path, S_ISREG(s.st_mode));
}

/* ---- other folders --------------------------------------------------------------------------------- */

/* The first name in the folder, by the alphabet, that fits the pattern and, with below, holds a file of that
 * name; NULL when there is none. The caller frees. */
static char *find(const char *dir, const char *pattern, const char *below)
{
    DIR *d = opendir(dir);
    char *first = NULL;

    for (struct dirent *e; d && (e = readdir(d));) {
        bool fits = *e->d_name != '.' && fnmatch(pattern, e->d_name, 0) == 0;

        if (fits && below) {
            char *path = esp_format("%s/%s/%s", dir, e->d_name, below);

            fits = esp_file_exists(path);
            free(path);
        }
        if (fits && (!first || strcmp(e->d_name, first) < 0)) {
            free(first);
            first = esp_strdup(e->d_name);
        }
    }
    if (d) {
        closedir(d);
    }
    return first;
}

/* ESP_OK where the folder holds no weights of another format. */
static esp_status other_weights(const char *dir)
{
    esp_status st = ESP_OK;

    for (size_t i = 0; i < N_WEIGHTS && st == ESP_OK; i++) {
        char *name = find(dir, weights[i].pattern, NULL);

        if (name) {
            st = esp_fail(ESP_EUSAGE, "%s: holds %s, %s: %s; " FOLDERS, dir, weights[i].what, name,
                          weights[i].remedy);
        }
        free(name);
    }
    return st;
}

esp_status esp_place_no_config(const char *dir)
{
    char *snapshots = esp_path(dir, "snapshots"), *rev = find(snapshots, "*", "config.json");
    char *model = find(dir, "*", "config.json");
    esp_status st;

    if (rev) {
        st = esp_fail(ESP_EUSAGE, "%s: is a folder of the hub's cache: set model = %s/%s", dir,
                      snapshots, rev);
    } else if (model) {
        st = esp_fail(ESP_EUSAGE, "%s: has no config.json, and %s/%s has: name that folder", dir,
                      dir, model);
    } else {
        st = other_weights(dir);
        st = st == ESP_OK ? esp_fail(ESP_EUSAGE, "%s: has no config.json; " FOLDERS, dir) : st;
    }
    free(model);
    free(rev);
    free(snapshots);
    return st;
}

esp_status esp_place_no_weights(const char *dir)
{
    char *shard = find(dir, "model-*.safetensors", NULL), *other = find(dir, "*.safetensors", NULL);
    esp_status st = shard ? ESP_OK : other_weights(dir);

    if (shard) {
        st = esp_fail(ESP_EUSAGE,
                      "%s: holds %s but no model.safetensors.index.json, which says what is where: "
                      "download it, too",
                      dir, shard);
    } else if (st == ESP_OK && other) {
        st = esp_fail(ESP_EUSAGE,
                      "%s: holds %s: where these are its weights, name them model.safetensors", dir,
                      other);
    } else if (st == ESP_OK) {
        st = esp_fail(
            ESP_EUSAGE,
            "%s: holds neither model.safetensors nor model.safetensors.index.json: the weights "
            "are missing",
            dir);
    }
    free(other);
    free(shard);
    return st;
}
