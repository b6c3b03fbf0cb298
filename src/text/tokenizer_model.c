/* tokenizer_model.c - tokenizer.model and ice_text.model (SentencePiece) and the classes that use them. */
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "json_impl.h"
#include "tokenizer_impl.h"

#define MAX_SPACES 80 /* of a run that is one piece */

/* An id of SentencePiece (-1: none) as one of the model. */
static int32_t id_in(const esp_tokenizer *t, int32_t id)
{
    return id < 0 ? -1 : t->first_id + id;
}

/* Control and unknown pieces are found in text, as other programs do: they are added tokens. */
static esp_status add_control(esp_tokenizer *t, int32_t id, const char *path)
{
    const char *piece = esp_sp_piece(t->sp, id - t->first_id);
    json_t *token = json_pack("{s:s, s:b}", "content", piece, "special", 1);
    esp_status st = token ? esp_tokenizer_add_token(t, token, id, path, "a control piece")
                          : esp_fail(ESP_EFORMAT, "%s: piece %d is not UTF-8", path, id);

    json_decref(token);
    return st;
}

static esp_status read_pieces(esp_tokenizer *t, const char *path)
{
    esp_status st = ESP_OK;

    for (int32_t i = 0; (size_t)i < esp_sp_size(t->sp) && st == ESP_OK; i++) {
        const char *piece = esp_sp_piece(t->sp, i);
        int32_t id = t->first_id + i;

        esp_sp_kind kind = esp_sp_kind_of(t->sp, i);

        if (kind == ESP_SP_CONTROL || kind == ESP_SP_UNKNOWN) {
            st = add_control(t, id, path);
            continue;
        }
        st = esp_tokenizer_set_piece(t, id, piece, strlen(piece));
        if (st == ESP_OK) {
            t->token[id].byte = esp_byte_piece(piece, strlen(piece)) >= 0;
        }
    }
    return st;
}

static void note_first(void *to, int32_t id)
{
    int32_t *first = to;

    *first = *first < 0 ? id : *first;
}

/* Whether the model puts a space before a text: the library does not say, an encoded letter does. */
static bool has_dummy_prefix(const esp_sp *sp)
{
    int32_t first = -1;
    char why[16];

    return esp_sp_encode(sp, "a", 1, note_first, &first, why, sizeof why) == 0 && first >= 0 &&
           strncmp(esp_sp_piece(sp, first), ESP_METASPACE, strlen(ESP_METASPACE)) == 0;
}

static void read_decoder(esp_tokenizer *t)
{
    t->decoder.byte_fallback = true;
    t->prefixed = t->prefixed_every = has_dummy_prefix(t->sp);
    t->decoder.first_spaces = t->prefixed;
    esp_pretokenizer_add_replace(&t->decoder.replace, ESP_METASPACE, " ");
}

/* ---- classes of tokenizers ------------------------------------------------------------------------- */

/* What a folder's Python class does beyond SentencePiece, where no file says it. */
typedef struct class_rule {
    const char *file;
    const char *name;       /* tokenizer_class of tokenizer_config.json; NULL: any                */
    const char *special[6]; /* pieces that the class knows, ended by NULL                         */
    bool appended;          /* they follow the vocabulary and are not sought in text, else they
                             * are pieces of it                                                   */
    const char *before[3];  /* what a text begins with, ended by NULL; NULL: as the files say     */
    bool prompt_first;      /* before goes between a prompt and its answer                        */
    bool stand_ins;         /* <n>, <|tab|> and <|blank_N|> stand for white space                 */
    int first_id;           /* num_image_tokens where tokenizer_config.json does not say          */
    esp_merges_class merges;
    bool add_bos; /* where tokenizer_config.json does not say */
} class_rule;

static const class_rule plain = { .file = "tokenizer.model" };
static const class_rule classes[] = {
    { .file = "tokenizer.model", .name = "LlamaTokenizer", .merges = ESP_MERGES_LLAMA },
    { .file = "tokenizer.model",
      .name = "CodeLlamaTokenizer",
      .merges = ESP_MERGES_CODE_LLAMA,
      .add_bos = true },
    { .file = "tokenizer.model", .name = "GemmaTokenizer", .merges = ESP_MERGES_GEMMA },
    { .file = "tokenizer.model", /* ChatGLM2, ChatGLM3 */
      .name = "ChatGLMTokenizer",
      .special = { "[MASK]", "[gMASK]", "[sMASK]", "sop", "eop" },
      .appended = true,
      .before = { "[gMASK]", "sop" } },
    { .file = "ice_text.model", /* ChatGLM-6B */
      .special = { "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>" },
      .before = { "[gMASK]", "<sop>" },
      .prompt_first = true,
      .stand_ins = true,
      .first_id = 20000 },
};

/* Types of models whose tokenizer transformers takes as SentencePiece has it, whichever class is named. */
static bool ignores_class(const char *model_type)
{
    static const char *const types[] = { "mistral", "mixtral", "phi3" };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(model_type, types[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* config: of tokenizer_config.json; model: of config.json; NULL where there is none. "...Fast" is the
 * same class. */
static const class_rule *class_of(const char *file, const json_t *config, const json_t *model)
{
    const char *type = esp_json_string(model, "model_type", "");
    const char *name =
        esp_json_string(config, "tokenizer_class",
                        esp_json_string(model, "tokenizer_class",
                                        strncmp(type, "gemma", 5) == 0 ? "GemmaTokenizer" : ""));
    size_t n = strlen(name);

    n -= n > 4 && strcmp(name + n - 4, "Fast") == 0 ? 4 : 0;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        const class_rule *c = &classes[i];
        bool named = !c->name || (strlen(c->name) == n && strncmp(c->name, name, n) == 0);

        if (strcmp(c->file, file) == 0 && named && !(c->merges && ignores_class(type))) {
            return c;
        }
    }
    return &plain;
}

static esp_status append(esp_tokenizer *t, const char *content)
{
    int32_t id = (int32_t)t->n_tokens;

    ESP_TRY(esp_tokenizer_set(t, id, content, strlen(content)));
    t->token[id].special = t->token[id].border = true;
    return ESP_OK;
}

static esp_status add_special(esp_tokenizer *t, const class_rule *c, const char *path)
{
    for (size_t i = 0; c->special[i]; i++) {
        int32_t id = c->appended ? -1 : esp_tokenizer_find(t, c->special[i]);

        if (c->appended) {
            ESP_TRY(append(t, c->special[i]));
        } else if (id >= 0) {
            ESP_TRY(add_control(t, id, path));
        }
    }
    for (size_t i = 0; c->before[i]; i++) {
        int32_t id = esp_tokenizer_find(t, c->before[i]);

        if (id < 0) {
            return esp_fail(ESP_EFORMAT,
                            "%s: has no piece %s, which a text of this model begins with", path,
                            c->before[i]);
        }
        esp_ids_add(&t->before, id);
    }
    return ESP_OK;
}

/* White space becomes the piece that stands for it, and reads back as what it was. */
static esp_status add_stand_in(esp_tokenizer *t, const char *piece, const char *space)
{
    int32_t id = esp_tokenizer_find(t, piece);

    if (id < 0) {
        return ESP_OK;
    }
    esp_pretokenizer_add_replace(&t->normalizer, space, piece);
    return esp_tokenizer_set(t, id, space, strlen(space));
}

/* Longest runs of spaces first. */
static esp_status add_stand_ins(esp_tokenizer *t)
{
    ESP_TRY(add_stand_in(t, "<n>", "\n"));
    ESP_TRY(add_stand_in(t, "<|tab|>", "\t"));
    for (int n = MAX_SPACES; n > 1; n--) {
        char *piece = esp_format("<|blank_%d|>", n), *space = esp_format("%*s", n, "");
        esp_status st = add_stand_in(t, piece, space);

        free(piece);
        free(space);
        ESP_TRY(st);
    }
    return ESP_OK;
}

/* ---- the file -------------------------------------------------------------------------------------- */

static int32_t first_id(const json_t *config, const class_rule *c)
{
    const json_t *value = json_object_get(config, "num_image_tokens");

    return c->first_id > 0 && value ? esp_json_id(value) : c->first_id;
}

static esp_status open_sentencepiece(esp_sp **sp, const char *path, const char *more, size_t n_more)
{
    char *file, why[256];
    size_t n;
    esp_status st;

    ESP_TRY(esp_file_read(&file, &n, path));
    file = esp_grow(file, n + n_more + 1, 1);
    if (n_more > 0) {
        memcpy(file + n, more, n_more);
    }
    st = esp_sp_open(sp, file, n + n_more, why, sizeof why) == 0
             ? ESP_OK
             : esp_fail(ESP_EFORMAT, "%s: %s", path, why);
    free(file);
    return st;
}

static void count_ids(void *to, int32_t id)
{
    (void)id;
    ++*(size_t *)to;
}

static bool folds_spaces(const esp_sp *sp)
{
    size_t n[2] = { 0, 0 };
    char why[16];

    return esp_sp_encode(sp, "a", 1, count_ids, &n[0], why, sizeof why) == 0 &&
           esp_sp_encode(sp, "a ", 2, count_ids, &n[1], why, sizeof why) == 0 && n[0] == n[1];
}

/* The space goes before the first stretch alone, and where none is there: the model is opened again
 * without its own. */
static esp_status prefix_first_alone(esp_tokenizer *t, const char *path)
{
    /* field 3 of the file, the normalizer: its field 3, add_dummy_prefix, is 0; the later one counts */
    static const char no_prefix[] = "\x1A\x02\x18\x00";
    esp_pretokenize_op *step;

    if (folds_spaces(t->sp)) {
        return esp_fail(ESP_EFORMAT,
                        "%s: \"legacy\" of tokenizer_config.json is false, and the model folds "
                        "spaces: not supported; " ESP_ELSEWHERE,
                        path);
    }
    esp_sp_close(t->sp);
    t->sp = NULL;
    ESP_TRY(open_sentencepiece(&t->sp, path, no_prefix, 4));
    esp_pretokenizer_add_replace(&t->normalizer, " ", ESP_METASPACE);
    step = esp_pretokenizer_add(&t->normalizer, ESP_PRETOKENIZE_PREFIX);
    step->prefix = ESP_PREFIX_AT_START;
    step->text = esp_strdup(ESP_METASPACE);
    t->prefixed_every = false;
    return ESP_OK;
}

/* Pieces, and what the class says about them. */
static esp_status read_sentencepiece(esp_tokenizer *t, const class_rule *c, const char *path,
                                     const json_t *config)
{
    t->prompt_first = c->prompt_first;
    t->first_id = first_id(config, c);
    if (t->first_id < 0) {
        return esp_json_refuse(path, "num_image_tokens of tokenizer_config.json",
                               json_object_get(config, "num_image_tokens"), "is to be a number");
    }
    read_decoder(t);
    if (t->prefixed && c == &plain && !esp_tokenizer_legacy(config, true)) {
        ESP_TRY(prefix_first_alone(t, path));
    }
    ESP_TRY(read_pieces(t, path));
    ESP_TRY(c->stand_ins ? add_stand_ins(t) : ESP_OK);
    return add_special(t, c, path);
}

static esp_status read_files(esp_tokenizer *t, const char *dir, const char *path,
                             const class_rule *c, const json_t *config)
{
    esp_status st;

    ESP_TRY(open_sentencepiece(&t->sp, path, NULL, 0));
    if (!c->merges) {
        ESP_TRY(read_sentencepiece(t, c, path, config));
        t->bos = id_in(t, esp_sp_bos(t->sp));
        t->eos = id_in(t, esp_sp_eos(t->sp));
        ESP_TRY(esp_tokenizer_read_added(t, dir));
    } else {
        esp_sp *sp = t->sp;

        t->sp = NULL;
        t->bos = esp_sp_bos(sp);
        t->eos = esp_sp_eos(sp);
        st = esp_tokenizer_read_merges(t, sp, c->merges, dir, path, config);
        esp_sp_close(sp);
        ESP_TRY(st);
    }
    if (t->bos >= 0 && !c->before[0] && !c->add_bos && !json_object_get(config, "add_bos_token")) {
        esp_info("%s: no BOS before a text, as add_bos_token is absent from tokenizer_config.json",
                 path);
    }
    return esp_tokenizer_read_rules(t, dir, c->before[0] != NULL, c->add_bos);
}

static esp_status read_folder(esp_tokenizer *t, const char *dir, const char *file)
{
    char *path = esp_path(dir, file), *config_path = esp_path(dir, "tokenizer_config.json"),
         *model_path = esp_path(dir, "config.json");
    json_t *config = NULL, *model = NULL;
    esp_status st = esp_json_read_optional(&config, config_path);

    st = st == ESP_OK ? esp_json_read_optional(&model, model_path) : st;
    st = st == ESP_OK ? read_files(t, dir, path, class_of(file, config, model), config) : st;
    json_decref(model);
    json_decref(config);
    free(model_path);
    free(config_path);
    free(path);
    return st;
}

esp_status esp_tokenizer_read_model(esp_tokenizer *t, const char *dir)
{
    return read_folder(t, dir, "tokenizer.model");
}

esp_status esp_tokenizer_read_ice(esp_tokenizer *t, const char *dir)
{
    return read_folder(t, dir, "ice_text.model");
}
