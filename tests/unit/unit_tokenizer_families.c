/* unit_tokenizer_families.c - tokenizer files as ChatGLM, OPT and BLOOM have them, each written by the test
 * itself. The ids are those of sentencepiece and tokenizers for the same files. */
#include "espalier/corpus.h"
#include "text/samples_impl.h"
#include "tokenizer_checks.h"

/* ---- SentencePiece --------------------------------------------------------------------------------- */

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER = 4 };

/* A piece in the message format of tokenizer.model: field 1 of the file, of piece 1, score 2, type 3. */
static void put_piece(esp_ids *file, const char *piece, float score, int type)
{
    size_t n = strlen(piece);
    uint8_t bytes[4];

    memcpy(bytes, &score, sizeof bytes);
    esp_ids_add(file, 0x0A);
    esp_ids_add(file, (int32_t)(n + 9));
    esp_ids_add(file, 0x0A);
    esp_ids_add(file, (int32_t)n);
    for (size_t i = 0; i < n; i++) {
        esp_ids_add(file, (uint8_t)piece[i]);
    }
    esp_ids_add(file, 0x15);
    for (size_t i = 0; i < sizeof bytes; i++) {
        esp_ids_add(file, bytes[i]);
    }
    esp_ids_add(file, 0x18);
    esp_ids_add(file, type);
}

/* A unigram model that puts a space before a text and normalizes nothing. */
static void write_sentencepiece(const char *dir, const char *name, const char *const *user,
                                size_t n_user)
{
    static const char *const normal[] = { "\xE2\x96\x81", "a", "sop",
                                          "\xE2\x96\x81"
                                          "a" };
    static const uint8_t specs[] = {
        0x12, 2, 0x18, 1, /* trainer: unigram       */
        0x1A, 6, 0x18, 1, 0x20, 0, 0x28, 1
    }; /* normalizer: prefix, escape */
    esp_ids file = { 0 };
    char *path = esp_path(dir, name), *bytes;

    put_piece(&file, "<unk>", 0, UNKNOWN);
    put_piece(&file, "<s>", 0, CONTROL);
    put_piece(&file, "</s>", 0, CONTROL);
    for (size_t i = 0; i < n_user; i++) {
        put_piece(&file, user[i], 0, USER);
    }
    for (size_t i = 0; i < COUNT(normal); i++) {
        put_piece(&file, normal[i], -1, NORMAL);
    }
    for (size_t i = 0; i < sizeof specs; i++) {
        esp_ids_add(&file, specs[i]);
    }
    bytes = esp_calloc(file.n, 1);
    for (size_t i = 0; i < file.n; i++) {
        bytes[i] = (char)file.id[i];
    }
    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, bytes, file.n), ESP_OK);
    free(bytes);
    free(path);
    esp_ids_free(&file);
}

/* Pieces 3 .. 11 stand for white space and are special, 12 .. 15 are text; the first has id 100. */
static void chatglm(void)
{
    static const char *const user[] = { "<n>",         "<|tab|>", "<|blank_2|>",
                                        "<|blank_3|>", "[MASK]",  "[gMASK]",
                                        "[sMASK]",     "<sop>",   "<eop>" };
    char *dir = esp_test_dir("chatglm");
    esp_document document = { .text = (char *)(uintptr_t) "aa sop", .n = 6, .n_prompt = 2 };
    esp_ids ids = { 0 };
    size_t n_prompt;
    esp_tokenizer *t;

    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    write_sentencepiece(dir, "ice_text.model", user, COUNT(user));
    write_text(dir, "tokenizer_config.json",
               "{`bos_token`: `<sop>`, `eos_token`: `<eop>`, `num_image_tokens`: 100}");
    t = open_dir(dir);
    CU_ASSERT_EQUAL(esp_tokenizer_size(t), 116);
    CU_ASSERT_EQUAL(esp_tokenizer_bos(t), 110);
    CU_ASSERT_EQUAL(esp_tokenizer_eos(t), 111);
    GIVES(t, "a", true, 108, 110, 115);
    GIVES(t, "a a\n\ta  a   a    a     a", false, 115, 115, 103, 104, 113, 105, 113, 106, 113, 106,
          115, 106, 105, 113);
    GIVES(t, "[gMASK]<sop>a<eop></s>", false, 108, 110, 115, 111, 102);
    GOES_ROUND(t, "a a\n\ta  a   a    a     a \n  <sop>sop\t");
    READS(t, "a\n", true, 108, 110, 115, 103, 111);

    CU_ASSERT(esp_tokenizer_prompt_first(t));
    CU_ASSERT_EQUAL(esp_document_encode(&document, true, t, &ids, &n_prompt), ESP_OK);
    CU_ASSERT_EQUAL(n_prompt, 4); /* a a [gMASK] <sop> | and two spaces, sop, <eop> */
    CU_ASSERT(ids.n == 8 && ids.id[2] == 108 && ids.id[3] == 110 && ids.id[7] == 111);
    ids.n = 0;
    CU_ASSERT_EQUAL(esp_tokenizer_encode_prompt(t, &ids, "aa", 2), ESP_OK);
    CU_ASSERT(ids.n == 4 && ids.id[0] == 115 && ids.id[2] == 108 && ids.id[3] == 110);
    document.n_prompt = 0;
    CU_ASSERT_EQUAL(esp_document_encode(&document, false, t, &ids, &n_prompt), ESP_OK);
    CU_ASSERT(n_prompt == 0 && ids.n > 2 && ids.id[0] == 108 && ids.id[1] == 110);
    esp_tokenizer_free(t);

    write_text(dir, "tokenizer_config.json", "{`num_image_tokens`: -1}");
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "num_image_tokens"));
    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    write_sentencepiece(dir, "ice_text.model", user, 4);
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "[gMASK]"));
    esp_ids_free(&ids);
    free(dir);
}

/* Seven pieces, and what the class appends: 7 [MASK], 8 [gMASK], 9 [sMASK], 10 sop, 11 eop. */
static void chatglm2(void)
{
    char *dir = esp_test_dir("chatglm2");
    esp_ids ids = { 0 };
    esp_tokenizer *t;

    write_sentencepiece(dir, "tokenizer.model", NULL, 0);
    write_text(dir, "tokenizer_config.json", "{`tokenizer_class`: `ChatGLMTokenizer`}");
    t = open_dir(dir);
    CU_ASSERT_EQUAL(esp_tokenizer_size(t), 12);
    CU_ASSERT_EQUAL(esp_tokenizer_eos(t), 2);
    CU_ASSERT_FALSE(esp_tokenizer_prompt_first(t));
    GIVES(t, "a", true, 8, 10, 6);
    GIVES(t, "asop sop", false, 6, 5, 3, 5); /* a word that is called as a token is none */
    READS(t, "asop", true, 8, 10, 6, 5, 11);
    READS(t, "[gMASK]sopa", false, 8, 10, 6);
    CU_ASSERT_EQUAL(esp_tokenizer_encode_prompt(t, &ids, "a", 1), ESP_OK);
    CU_ASSERT(ids.n == 3 && ids.id[0] == 8 && ids.id[1] == 10 && ids.id[2] == 6);
    esp_ids_free(&ids);
    esp_tokenizer_free(t);

    free(dir);
}

/* tokenizer.model alone: the class that transformers 5 takes, and what it does with the space before a
 * stretch of text. */
static const struct {
    const char *type, *config;
    int32_t want[9];
    size_t n;
    const char *shown;
} classes[] = {
    { "", "{}", { 6, 4, 2, 6, 3, 2, 3, 6 }, 8, "aa a   a" },
    { "", "{`tokenizer_class`: `LlamaTokenizer`}", { 6, 4, 2, 4, 3, 2, 6 }, 7, "aaa  a" },
    { "",
      "{`tokenizer_class`: `LlamaTokenizerFast`, `legacy`: false, `add_bos_token`: true,"
      " `add_eos_token`: true}",
      { 1, 6, 4, 2, 4, 3, 2, 6, 2 },
      9,
      "aaa  a" },
    { "",
      "{`tokenizer_class`: `LlamaTokenizer`, `legacy`: true}",
      { 6, 4, 2, 6, 3, 2, 6 },
      7,
      "aa a  a" },
    { "",
      "{`tokenizer_class`: `LlamaTokenizer`, `legacy`: null}",
      { 6, 4, 2, 4, 3, 2, 6 },
      7,
      "aaa  a" },
    { "",
      "{`tokenizer_class`: `LlamaTokenizer`, `add_prefix_space`: false}",
      { 4, 4, 2, 4, 3, 2, 6 },
      7,
      "aaa  a" },
    { "",
      "{`tokenizer_class`: `CodeLlamaTokenizer`, `legacy`: true}",
      { 1, 6, 4, 2, 4, 3, 2, 6 },
      8,
      "aaa  a" },
    { "mistral",
      "{`tokenizer_class`: `LlamaTokenizer`}",
      { 6, 4, 2, 6, 3, 2, 3, 6 },
      8,
      "aa a   a" },
    { "mistral",
      "{`tokenizer_class`: `LlamaTokenizer`, `legacy`: false}",
      { 6, 4, 2, 4, 3, 2, 6 },
      7,
      "aaa  a" },
    { "", "{`legacy`: false, `add_bos_token`: true}", { 1, 6, 4, 2, 4, 3, 2, 6 }, 8, "aaa  a" },
};

static void legacy(void)
{
    char *dir = esp_test_dir("legacy"), digest[COUNT(classes)][64];

    write_sentencepiece(dir, "tokenizer.model", NULL, 0);
    for (size_t i = 0; i < COUNT(classes); i++) {
        char *model = esp_format("{`model_type`: `%s`}", classes[i].type);
        esp_tokenizer *t;

        write_text(dir, "config.json", model);
        write_text(dir, "tokenizer_config.json", classes[i].config);
        t = open_dir(dir);
        CU_ASSERT(gives(t, "aa</s>a </s> a", true, classes[i].want, classes[i].n));
        CU_ASSERT(reads(t, classes[i].shown, true, classes[i].want, classes[i].n));
        CU_ASSERT_EQUAL(esp_tokenizer_size(t), 7);
        snprintf(digest[i], sizeof digest[i], "%s", esp_tokenizer_digest(t));
        esp_tokenizer_free(t);
        free(model);
    }
    for (size_t i = 0; i < COUNT(classes); i++) { /* other ids, another digest */
        for (size_t j = 0; j < i; j++) {
            CU_ASSERT((classes[i].n == classes[j].n &&
                       memcmp(classes[i].want, classes[j].want, sizeof classes[i].want) == 0) ||
                      strcmp(digest[i], digest[j]) != 0);
        }
    }
    write_text(dir, "tokenizer_config.json", "{`tokenizer_class`: `GemmaTokenizer`}");
    CU_ASSERT_EQUAL(esp_tokenizer_open(&(esp_tokenizer *){ NULL }, dir), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "<bos>"));
    free(dir);
}

/* ---- byte-level BPE -------------------------------------------------------------------------------- */

#define VOCAB                                                                           \
    "{`<s>`: 0, `<pad>`: 1, `</s>`: 2, `a`: 3, `b`: 4, `(`: 5, `\\u0120`: 6, `ab`: 7, " \
    "`\\u0120a`: 8,"                                                                    \
    " `,`: 9, `[`: 10, `|`: 11, `<|endoftext|>`: 12, `ba`: 13}"

static void pair(void)
{
    char *dir = esp_test_dir("pair"), *first;
    esp_tokenizer *t;

    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    write_text(dir, "vocab.json", VOCAB);
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_EUSAGE); /* no merges.txt */
    write_text(dir, "merges.txt", "#version: 0.2\na b\n\xC4\xA0 a\n");
    t = open_dir(dir);
    first = esp_strdup(esp_tokenizer_digest(t));
    CU_ASSERT_EQUAL(esp_tokenizer_eos(t), 12);
    GIVES(t, "ab a", true, 7, 8); /* no BOS where no file asks for it */
    GIVES(t, "a<|endoftext|>", false, 3, 12);
    esp_tokenizer_free(t);

    write_text(dir, "tokenizer_config.json",
               "{`bos_token`: {`content`: `</s>`}, `eos_token`: `</s>`, `pad_token`: `<pad>`,"
               " `add_bos_token`: true, `tokenizer_class`: `GPT2Tokenizer`}");
    t = open_dir(dir);
    GIVES(t, "ab a<pad> b</s>", true, 2, 7, 8, 1, 6, 4, 2);
    GOES_ROUND(t, "ab a<pad> b</s>(a");
    esp_tokenizer_free(t);

    write_text(dir, "merges.txt", "\xC4\xA0 a\nb a\n");
    t = open_dir(dir);
    GIVES(t, "aba", false, 3, 13);
    CU_ASSERT_STRING_NOT_EQUAL(first, esp_tokenizer_digest(t)); /* merges count */
    esp_tokenizer_free(t);
    write_text(dir, "tokenizer_config.json", "{`tokenizer_class`: `Qwen2TokenizerFast`}");
    write_text(dir, "vocab.json", "{`a`: 0, `b`: 1, `ba`: 2, `,`: 3, `,b`: 4}");
    write_text(dir, "merges.txt", ", b\nb a\n");
    t = open_dir(dir);
    GIVES(t, ",ba", false, 4,
          0); /* the comma is apart by GPT-2's split, with the word by this one */
    esp_tokenizer_free(t);
    write_text(dir, "tokenizer_config.json", "{`tokenizer_class`: `OddTokenizer`}");
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "OddTokenizer"));
    write_text(dir, "tokenizer_config.json", "{`tokenizer_class`: `GPT2Tokenizer`}");
    t = open_dir(dir);
    GIVES(t, ",ba", false, 3, 2);
    esp_tokenizer_free(t);
    write_text(dir, "merges.txt", "a q\n");
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_EFORMAT);
    write_text(dir, "merges.txt", "a \xFF\n");
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "line 1"));
    free(first);
    free(dir);
}

/* BLOOM's pattern has a class in a class: words end at any of ( | . , ] but not at a lone [. */
static void nested_class(void)
{
    char *dir = esp_test_dir("nested");
    esp_tokenizer *t;

    write_text(
        dir, "tokenizer.json",
        "{`added_tokens`: [{`id`: 12, `content`: `<|endoftext|>`, `rstrip`: true,"
        " `lstrip`: true}], `decoder`: {`type`: `ByteLevel`}, `pre_tokenizer`: {`type`: "
        "`Sequence`, `pretokenizers`: [{`type`: `Split`, `behavior`: `Isolated`, `pattern`: "
        "{`Regex`: ` ?[^(\\\\s|[.,!?])]+`}}, {`type`: `ByteLevel`, `add_prefix_space`: false,"
        " `use_regex`: false}]}, `model`: {`vocab`: " VOCAB ", `merges`: [`a b`, `b a`, "
        "`\\u0120 a`]}}");
    t = open_dir(dir);
    GIVES(t, "ab(ba|a,ab a[b", false, 7, 5, 13, 11, 3, 9, 7, 8, 10, 4);
    GIVES(t,
          "a\xC2\xA0\xE2\x80\x83<|endoftext|> \xE3\x80\x80\t\xC2\x85"
          "b",
          false, 3, 12, 4);
    esp_tokenizer_free(t);
    free(dir);
}

ESP_TEST_MAIN("tokenizers of families", { "ChatGLM-6B", chatglm }, { "ChatGLM2", chatglm2 },
              { "tokenizer.model alone", legacy }, { "vocab.json and merges.txt", pair },
              { "a class in a class", nested_class })
