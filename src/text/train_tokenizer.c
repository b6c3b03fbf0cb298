/* train_tokenizer.c - a tokenizer of one's own from a corpus. */
#include <stdlib.h>
#include <string.h>

#include "espalier/corpus.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/mem.h"
#include "sentencepiece_shim.h"
#include "text_impl.h"

/* The three special tokens are in tokenizer.model already; these files say how they are used. */
#define NAMES \
    "  \"bos_token\": \"<s>\",\n  \"eos_token\": \"</s>\",\n  \"unk_token\": \"<unk>\"\n}\n"
#define CONFIG                                                  \
    "{\n  \"tokenizer_class\": \"LlamaTokenizer\",\n"           \
    "  \"add_bos_token\": true,\n  \"add_eos_token\": false,\n" \
    "  \"legacy\": true,\n  \"clean_up_tokenization_spaces\": false,\n" NAMES

/* Lines of the documents, which a line end never joins: it is a byte of its own in the vocabulary. */
typedef struct lines {
    const char **line; /* [n] owned array of places in the corpus */
    size_t *length;    /* [n] owned */
    size_t n, line_capacity, length_capacity;
} lines;

static void add_lines(lines *l, const esp_document *d)
{
    for (size_t at = 0; at < d->n;) {
        const char *newline = memchr(d->text + at, '\n', d->n - at);
        size_t end = newline ? (size_t)(newline - d->text) : d->n;

        if (end > at) {
            l->line = esp_grow_array(l->line, &l->line_capacity, l->n + 1, sizeof *l->line);
            l->length = esp_grow_array(l->length, &l->length_capacity, l->n + 1, sizeof *l->length);
            l->line[l->n] = d->text + at;
            l->length[l->n++] = end - at;
        }
        at = end + 1;
    }
}

enum { N_FILES = 3 };

static const char *const names[N_FILES] = { "tokenizer.model", "tokenizer_config.json",
                                            "special_tokens_map.json" };

/* Whether the marker of the folder names the file. */
static bool is_made(const char *dir, const char *name)
{
    char **made = NULL;
    size_t n = 0;
    bool is = false;

    esp_folder_names(&made, &n, dir);
    esp_error_clear();
    for (size_t i = 0; i < n; i++) {
        is = is || strcmp(made[i], name) == 0;
        free(made[i]);
    }
    free(made);
    return is;
}

static esp_status check_files(const char *dir, bool replace)
{
    esp_status st = ESP_OK;

    for (size_t i = 0; i < N_FILES && st == ESP_OK && esp_dir_exists(dir); i++) {
        char *path = esp_path(dir, names[i]);

        st = esp_output_check(path, "files that espalier made", replace && is_made(dir, names[i]));
        free(path);
    }
    return st;
}

static esp_status write_files(const char *dir, const char *model, size_t n_model)
{
    const char *data[N_FILES] = { model, CONFIG, "{\n" NAMES };

    ESP_TRY(esp_folder_has_files(dir) ? ESP_OK : esp_folder_make(dir, NULL, 0));
    for (size_t i = 0; i < N_FILES; i++) {
        char *path = esp_path(dir, names[i]);
        esp_status st = esp_folder_add(dir, names[i]);

        st = st == ESP_OK ? esp_file_write(path, data[i], i == 0 ? n_model : strlen(data[i])) : st;
        free(path);
        ESP_TRY(st);
    }
    return ESP_OK;
}

esp_status esp_tokenizer_train(const char *model_dir, const char *corpus_path, size_t vocab,
                               bool replace)
{
    esp_corpus c;
    lines l = { 0 };
    char *model, why[256];
    size_t n_model;
    esp_status st;

    ESP_TRY(check_files(model_dir, replace));
    ESP_TRY(esp_corpus_read(&c, corpus_path, NULL));
    for (size_t i = 0; i < c.n; i++) {
        add_lines(&l, &c.documents[i]);
    }
    st = esp_sp_train(&model, &n_model, vocab, l.line, l.length, l.n, why, sizeof why) == 0
             ? write_files(model_dir, model, n_model)
             : esp_fail(ESP_EUSAGE, "%s: no tokenizer of %zu pieces from this corpus: %s",
                        corpus_path, vocab, why);
    free(model);
    free(l.line);
    free(l.length);
    esp_corpus_free(&c);
    return st;
}
