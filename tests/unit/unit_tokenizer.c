/* unit_tokenizer.c - tokenizer.json against the ids that the Hugging Face library gives for the same files,
 * and texts that go round. The small tokenizer files are written by the tests themselves; in their
 * pieces ` stands for the double quote of JSON. */
#include "tokenizer_checks.h"

/* Entries of a byte-level vocabulary, ids from 0 in the order of the alphabet: the printable bytes as
 * themselves, then the others as U+0100 and on. */
static void put_alphabet(page *p)
{
    unsigned n = 0, other = 256;

    for (int round = 0; round < 2; round++) {
        for (unsigned b = 0; b < 256; b++) {
            bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;

            if (printable == (round == 0)) {
                char *entry =
                    esp_format("%s`\\u%04x`: %u", n ? ", " : "", printable ? b : other++, n);

                put(p, entry);
                free(entry);
                n++;
            }
        }
    }
}

/* A byte-level tokenizer; \u0120 is the space. */
static void write_byte_level(const char *dir, const char *pre_tokenizer, const char *merges)
{
    page p = { 0 };

    put(&p, "{`added_tokens`: [{`id`: 270, `content`: `<|begin|>`, `special`: true, `normalized`: "
            "false,"
            " `single_word`: false, `lstrip`: false, `rstrip`: false}, {`id`: 271, `content`: "
            "`<|end|>`,"
            " `special`: true, `normalized`: true, `single_word`: false, `lstrip`: false, "
            "`rstrip`: false}, {`id`: 272, `content`: `<|begin|>s`,"
            " `special`: false, `normalized`: false, `single_word`: false, `lstrip`: true, "
            "`rstrip`: false}],"
            " `normalizer`: null, `decoder`: {`type`: `ByteLevel`, `add_prefix_space`: true, "
            "`trim_offsets`: true, `use_regex`: true}, `pre_tokenizer`: ");
    put(&p, pre_tokenizer);
    put(&p, ", `post_processor`: {`type`: `Sequence`, `processors`: [{`type`: `ByteLevel`,"
            " `add_prefix_space`: true, `trim_offsets`: false, `use_regex`: true},"
            " {`type`: `TemplateProcessing`, `single`: [{`SpecialToken`: {`id`: `<|begin|>`, "
            "`type_id`: 0}},"
            " {`Sequence`: {`id`: `A`, `type_id`: 0}}], `pair`: [{`Sequence`: {`id`: `A`, "
            "`type_id`: 0}},"
            " {`Sequence`: {`id`: `B`, `type_id`: 0}}],"
            " `special_tokens`: {`<|begin|>`: {`id`: `<|begin|>`, `ids`: [270], `tokens`: "
            "[`<|begin|>`]}}}]},"
            " `model`: {`type`: `BPE`, ");
    put(&p, merges);
    put(&p, ", `vocab`: {");
    put_alphabet(&p);
    put(&p, ", `he`: 256, `ll`: 257, `hell`: 258, `hello`: 259, `\\u0120w`: 260, `or`: 261,"
            " `\\u0120wor`: 262, `ld`: 263, `\\u0120world`: 264, `12`: 265, `123`: 266,"
            " `\\u0120\\u0120`: 267, `\\u00c3\\u00a9`: 268, `'s`: 269}}}");
    write_page(dir, "tokenizer.json", &p);
}

#define MERGES                                                                              \
    "`merges`: [`h e`, `l l`, `he ll`, `hell o`, `\\u0120 w`, `o r`, `\\u0120w or`, `l d`," \
    " `\\u0120wor ld`, `1 2`, `12 3`, `\\u0120 \\u0120`, `\\u00c3 \\u00a9`, `' s`]"
#define MERGE_PAIRS                                                                            \
    "`merges`: [[`h`, `e`], [`l`, `l`], [`he`, `ll`], [`hell`, `o`], [`\\u0120`, `w`], [`o`, " \
    "`r`],"                                                                                    \
    " [`\\u0120w`, `or`], [`l`, `d`], [`\\u0120wor`, `ld`], [`1`, `2`], [`12`, `3`],"          \
    " [`\\u0120`, `\\u0120`], [`\\u00c3`, `\\u00a9`], [`'`, `s`]]"
#define LLAMA3                                                                                  \
    "{`type`: `Sequence`, `pretokenizers`: [{`type`: `Split`, `behavior`: `Isolated`,"          \
    " `invert`: false, `pattern`: {`Regex`: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|"                     \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "                                   \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"                                                  \
    "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+`}}, {`type`: `ByteLevel`, `add_prefix_space`: " \
    "false,"                                                                                    \
    " `trim_offsets`: true, `use_regex`: false}]}"
#define GPT2(prefix)                                                                            \
    "{`type`: `ByteLevel`, `add_prefix_space`: " prefix ", `trim_offsets`: true, `use_regex`: " \
    "true}"

/* A metaspace tokenizer: ids 0 .. 2 special, 3 .. 258 bytes, then pieces. */
static void write_metaspace(const char *dir, const char *normalizer, const char *pre_tokenizer,
                            const char *post_processor)
{
    page p = { 0 };

    put(&p,
        "{`added_tokens`: [{`id`: 0, `content`: `<unk>`, `special`: true, `normalized`: false,"
        " `single_word`: false, `lstrip`: false, `rstrip`: false}, {`id`: 1, `content`: `<s>`,"
        " `special`: true, `normalized`: false, `single_word`: false, `lstrip`: false, `rstrip`: "
        "false},"
        " {`id`: 2, `content`: `</s>`, `special`: true, `normalized`: false, `single_word`: false,"
        " `lstrip`: false, `rstrip`: false}, {`id`: 276, `content`: `<extra>`, `special`: false,"
        " `normalized`: true, `single_word`: false, `lstrip`: false, `rstrip`: false}], "
        "`normalizer`: ");
    put(&p, normalizer);
    put(&p, ", `pre_tokenizer`: ");
    put(&p, pre_tokenizer);
    put(&p, ", `post_processor`: ");
    put(&p, post_processor);
    put(&p,
        ", `decoder`: {`type`: `Sequence`, `decoders`: [{`type`: `Replace`, `pattern`: {`String`:"
        " `\\u2581`}, `content`: ` `}, {`type`: `ByteFallback`}, {`type`: `Fuse`}, {`type`: "
        "`Strip`,"
        " `content`: ` `, `start`: 1, `stop`: 0}]}, `model`: {`type`: `BPE`, `unk_token`: `<unk>`,"
        " `fuse_unk`: true, `byte_fallback`: true, `vocab`: {`<unk>`: 0, `<s>`: 1, `</s>`: 2");
    for (unsigned b = 0; b < 256; b++) {
        char *entry = esp_format(", `<0x%02X>`: %u", b, 3 + b);

        put(&p, entry);
        free(entry);
    }
    put(&p,
        ", `\\u2581`: 259, `a`: 260, `b`: 261, `c`: 262, `\\u2581a`: 263, `ab`: 264, `\\u2581ab`: "
        "265,"
        " `abc`: 266, `\\u2581abc`: 267, `\\u2581\\u2581`: 268, `bc`: 269, `aa`: 270, `aaaa`: 271,"
        " `<`: 272, `>`: 273, `e`: 274, `x`: 275}, `merges`: [`a b`, `\\u2581 a`, `\\u2581 ab`, "
        "`ab c`,"
        " `\\u2581ab c`, `\\u2581 \\u2581`, `b c`, `a a`, `aa aa`]}}");
    write_page(dir, "tokenizer.json", &p);
}

#define LLAMA2                                                                        \
    "{`type`: `Sequence`, `normalizers`: [{`type`: `Prepend`, `prepend`: `\\u2581`}," \
    " {`type`: `Replace`, `pattern`: {`String`: ` `}, `content`: `\\u2581`}]}"

/* ---- byte level ------------------------------------------------------------------------------------ */

static void byte_level(void)
{
    char *dir = esp_test_dir("llama3");
    esp_tokenizer *t;

    write_byte_level(dir, LLAMA3, MERGES);
    t = open_dir(dir);
    GIVES(t, "hello world", true, 270, 259, 264);
    GIVES(t, "hello  WORLD'S 12345\n\n x", false, 259, 220, 220, 54, 46, 49, 43, 35, 6, 50, 220,
          266, 19, 20, 198, 198, 220, 87);
    GIVES(t, "caf\xC3\xA9 \xF0\x9F\x98\x80\t!", false, 66, 64, 69, 268, 220, 172, 253, 246, 222,
          197, 0);
    GIVES(t, "<|begin|>hello<|end|> world", true, 270, 270, 259, 271, 264);
    GIVES(t, "hello \n<|begin|>s<|begin|>", false, 259, 272,
          270); /* the longer one, and the spaces */
    READS(t, "hello world", true, 270, 259, 264, 271);
    READS(t, "<|begin|>hello world<|end|>", false, 270, 259, 264, 271);
    READS(t, "\xEF\xBF\xBD!", true, 172, 253, 246, 0); /* three bytes of a character of four */
    READS(t, "\xEF\xBF\xBD\xEF\xBF\xBD", true, 253, 246);
    CU_ASSERT_EQUAL(esp_tokenizer_size(t), 273);
    GOES_ROUND(t, " two  blanks\tand\r\n\r\n\n lines <|end|>\xC3\xA9 \xF0\x9F\x98\x80 12345 ");
    GOES_ROUND(t, "not \xFF\xC3 UTF-8 \xE2\x82 \xF0\x9F\x98 \xED\xA0\x80 and\0nul");
    GOES_ROUND(t, "");
    esp_tokenizer_free(t);
    free(dir);
}

static void byte_level_gpt2(void)
{
    char *dir = esp_test_dir("gpt2"), *prefixed = esp_test_dir("gpt2-prefixed"),
         *whole = esp_test_dir("whole");
    esp_tokenizer *t;

    write_byte_level(dir, GPT2("false"), MERGE_PAIRS);
    t = open_dir(dir);
    GIVES(t, "hello  WORLD's 12345\n\n x", false, 259, 220, 220, 54, 46, 49, 43, 35, 269, 220, 266,
          19, 20, 198, 198, 220, 87);
    GOES_ROUND(t, " hello  world's 12345\n\n x\xFF ");
    esp_tokenizer_free(t);

    write_byte_level(prefixed, GPT2("true"), MERGES);
    t = open_dir(prefixed);
    GIVES(t, "world<|begin|>world", false, 264, 270, 264);
    GOES_ROUND(t, "world <|begin|>world  \n");
    esp_tokenizer_free(t);

    write_byte_level(whole, GPT2("false"), "`ignore_merges`: true, `merges`: [`h e`]");
    t = open_dir(whole);
    GIVES(t, "hello he hell", false, 259, 220, 256, 220, 256, 75, 75);
    esp_tokenizer_free(t);
    free(dir);
    free(prefixed);
    free(whole);
}

static void splits(void)
{
    static const struct {
        const char *behavior, *invert, *name;
        int32_t want[16];
        size_t n;
    } cases[] = {
        { "Isolated", "false", "split-0", { 258, 78, 220, 220, 86, 78, 81, 263, 220, 257 }, 10 },
        { "Removed", "false", "split-1", { 258, 86, 81, 263, 257 }, 5 },
        { "MergedWithPrevious",
          "false",
          "split-2",
          { 259, 220, 220, 86, 78, 81, 263, 220, 257 },
          9 },
        { "MergedWithNext", "false", "split-3", { 258, 78, 220, 260, 261, 263, 220, 257 }, 8 },
        { "Contiguous", "false", "split-4", { 258, 78, 267, 86, 78, 81, 263, 220, 257 }, 9 },
        { "Removed", "true", "split-5", { 78, 220, 220, 78, 220 }, 5 },
        { "MergedWithNext", "true", "split-6", { 259, 220, 220, 86, 78, 81, 263, 220, 257 }, 9 },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *dir = esp_test_dir(cases[i].name);
        char *pre =
            esp_format("{`type`: `Sequence`, `pretokenizers`: [{`type`: `Split`, `pattern`:"
                       " {`Regex`: `[ o]`}, `behavior`: `%s`, `invert`: %s}, {`type`: `ByteLevel`,"
                       " `add_prefix_space`: false, `trim_offsets`: true, `use_regex`: false}]}",
                       cases[i].behavior, cases[i].invert);
        esp_tokenizer *t;

        write_byte_level(dir, pre, MERGES);
        t = open_dir(dir);
        CU_ASSERT(gives(t, "hello  world ll", false, cases[i].want, cases[i].n));
        esp_tokenizer_free(t);
        free(pre);
        free(dir);
    }
}

/* ---- metaspace ------------------------------------------------------------------------------------- */

static void metaspace(void)
{
    char *dir = esp_test_dir("llama2");
    esp_tokenizer *t;

    write_metaspace(dir, LLAMA2, "null", "null");
    write_text(dir, "tokenizer_config.json",
               "{`bos_token`: {`content`: `<s>`}, `eos_token`: `</s>`, `add_bos_token`: true,"
               " `add_eos_token`: true, `model_max_length`: 1000000000000000019884624838656}");
    t = open_dir(dir);
    CU_ASSERT_EQUAL(esp_tokenizer_bos(t), 1);
    CU_ASSERT_EQUAL(esp_tokenizer_eos(t), 2);
    CU_ASSERT_EQUAL(esp_tokenizer_size(t), 277);
    GIVES(t, "abc aaaaa  ab", false, 267, 263, 271, 259, 265);
    GIVES(t, "abc", true, 1, 267, 2);
    GIVES(t, " q\n\xC3\xA9", false, 268, 116, 13, 198, 172);
    GIVES(t, "ab</s> abc<s>abc <extra> c<extra>", false, 265, 2, 259, 267, 1, 267, 276, 259, 262,
          272, 274, 275, 119, 117, 260, 273);
    READS(t, "abc abc", true, 1, 267, 267, 2);
    READS(t, "<s>abc</s>abc", false, 1, 267, 2, 267);
    READS(t, "abc abc", true, 1, 267, 2, 267); /* what is shown loses the first space alone */
    READS(t, "\xC3\xA9", true, 3 + 0xC3, 2, 3 + 0xA9);
    READS(t,
          "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
          "ab",
          true, 3 + 0xC3, 3 + 0xA9, 3 + 0xFF, 264);
    CU_ASSERT(esp_tokenizer_is_byte(t, 3 + 0xC3) && !esp_tokenizer_is_byte(t, 264));
    GOES_ROUND(t, "  abc</s> abc<s>abc <extra> c<extra>\n\n\t\r\n \xF0\x9F\x98\x80 ");
    GOES_ROUND(t, "<s>abc");
    GOES_ROUND(t, "<extra> abc");
    GOES_ROUND(t, "not \xFF\xC3 UTF-8 \xE2\x82 a\0b");
    GOES_ROUND(t, " ");
    esp_tokenizer_free(t);
    free(dir);
}

/* The first token loses each U+2581, wherever it is in it, and keeps its spaces. */
static void metaspace_shown(void)
{
    char *dir = esp_test_dir("shown");
    esp_tokenizer *t;

    write_text(dir, "tokenizer.json",
               "{`decoder`: {`type`: `Metaspace`, `replacement`: `\\u2581`}, `added_tokens`:"
               " [{`id`: 3, `content`: `  }`}, {`id`: 4, `content`: `<s>`, `special`: true}],"
               " `model`: {`type`: `BPE`, `vocab`: {`\\u2581`: 0, `\\u2581a\\u2581b`: 1, `x`: 2},"
               " `merges`: []}}");
    t = open_dir(dir);
    READS(t, "ab a b", true, 1, 1);
    READS(t, " x", true, 4, 0, 0, 2);
    READS(t, "  }x", true, 3, 2);
    READS(t, "x  } a b", true, 2, 3, 1);
    esp_tokenizer_free(t);
    free(dir);
}

static void metaspace_schemes(void)
{
    static const char *const schemes[] = { "always", "first", "never" };
    static const int32_t want[3][7] = { { 267, 259, 265, 1, 267, 2, 263 },
                                        { 267, 259, 265, 1, 266, 2, 263 },
                                        { 266, 259, 265, 1, 266, 2, 263 } };

    for (size_t i = 0; i < COUNT(schemes); i++) {
        char *dir = esp_test_dir(schemes[i]);
        char *pre =
            esp_format("{`type`: `Metaspace`, `replacement`: `\\u2581`, `prepend_scheme`: `%s`,"
                       " `split`: true}",
                       schemes[i]);
        esp_tokenizer *t;

        write_metaspace(dir, "null", pre, "null");
        t = open_dir(dir);
        CU_ASSERT(gives(t, "abc  ab<s>abc</s> a", false, want[i], COUNT(want[i])));
        GOES_ROUND(t, "abc  ab\n<s>abc\tx ");
        CU_ASSERT_EQUAL(esp_tokenizer_bos(t), -1);
        esp_tokenizer_free(t);
        free(pre);
        free(dir);
    }
}

/* Without byte fallback: the unknown token where there is one, fused or not, else a refusal. */
static void unknown(void)
{
    static const char *const fields[] = { "`unk_token`: `?`, `fuse_unk`: true",
                                          "`unk_token`: `?`, `fuse_unk`: false",
                                          "`unk_token`: null" };
    char *dir = esp_test_dir("unknown");

    for (size_t i = 0; i < COUNT(fields); i++) {
        char *text = esp_format(
            "{`decoder`: {`type`: `Fuse`}, `model`: {`type`: `BPE`, %s, `vocab`: {`?`: 0,"
            " `a`: 1, `b`: 2, `ab`: 3}, `merges`: [`a b`]}}",
            fields[i]);
        esp_ids ids = { 0 };
        esp_tokenizer *t;

        write_text(dir, "tokenizer.json", text);
        t = open_dir(dir);
        if (i == 0) {
            GIVES(t, "abxyzab\xC3\xA9", false, 3, 0, 3, 0);
        } else if (i == 1) {
            GIVES(t, "abxyzab\xC3\xA9", false, 3, 0, 0, 0, 3, 0);
        } else {
            esp_ids_add(&ids, 7);
            CU_ASSERT_EQUAL(esp_tokenizer_encode(t, &ids, "ab?\xC3\xA9", 5, false), ESP_EFORMAT);
            CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "0xc3"));
            CU_ASSERT_EQUAL(ids.n, 1); /* as it was */
        }
        esp_ids_free(&ids);
        esp_tokenizer_free(t);
        free(text);
    }
    free(dir);
}

/* Characters are written otherwise within a piece or at its end; ids of the library. */
static void affixes(void)
{
    static const struct {
        const char *fields;
        int32_t want[9];
        size_t n;
    } cases[] = {
        { "`continuing_subword_prefix`: `##`, `merges`: [`a ##b`, `##a ##b`]",
          { 4, 0, 10, 1, 4, 8, 0 },
          7 },
        { "`end_of_word_suffix`: `</w>`, `merges`: [`a b</w>`, `a b`]",
          { 7, 0, 7, 5, 4, 8, 9 },
          7 },
        { "`continuing_subword_prefix`: `##`, `end_of_word_suffix`: `</w>`,"
          " `merges`: [`a ##b</w>`]",
          { 7, 0, 2, 6, 5, 0, 3, 8, 9 },
          9 },
    };
    char *dir = esp_test_dir("affixes");

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *text =
            esp_format("{`decoder`: {`type`: `Fuse`}, `pre_tokenizer`: {`type`:"
                       " `WhitespaceSplit`}, `model`: {`type`: `BPE`, `unk_token`: `?`,"
                       " `vocab`: {`a`: 0, `b`: 1, `##a`: 2, `##b`: 3, `ab`: 4, `b</w>`: 5,"
                       " `##b</w>`: 6, `ab</w>`: 7, `?`: 8, `a</w>`: 9, `##ab`: 10}, %s}}",
                       cases[i].fields);
        esp_tokenizer *t;

        write_text(dir, "tokenizer.json", text);
        t = open_dir(dir);
        CU_ASSERT(gives(t, "ab aab b abc a", false, cases[i].want, cases[i].n));
        esp_tokenizer_free(t);
        free(text);
    }
    free(dir);
}

/* An added token that is found as a word of its own alone; one that takes white space after it, which is
 * a token, too; ids of the library. */
static void added_words(void)
{
    char *dir = esp_test_dir("words");
    esp_tokenizer *t;

    write_text(dir, "tokenizer.json",
               "{`decoder`: {`type`: `Fuse`}, `added_tokens`: [{`id`: 6, `content`: `cat`,"
               " `single_word`: true}, {`id`: 7, `content`: `<s>`, `rstrip`: true}, {`id`: 8,"
               " `content`: `\\n\\n`}], `model`: {`type`: `BPE`, `merges`: [], `vocab`: {`a`: 0,"
               " `b`: 1, `c`: 2, `t`: 3, ` `: 4, `_`: 5, `\\n`: 9}}}");
    t = open_dir(dir);
    GIVES(t, "cat acat cata a cat_cat cat", false, 6, 4, 0, 2, 0, 3, 4, 2, 0, 3, 0, 4, 0, 4, 2, 0,
          3, 5, 2, 0, 3, 4, 6);
    GIVES(t, "<s> \n\n\n\na", false, 7, 8, 8, 0);
    GIVES(t, "<s> \n\n a", false, 7, 8, 4, 0);
    esp_tokenizer_free(t);
    free(dir);
}

/* One piece of a million bytes: what would be quadratic does not end within the test's time limit. */
static void long_piece(void)
{
    char *dir = esp_test_dir("long"), *text;
    size_t n = 1000000;
    esp_ids ids = { 0 };
    esp_tokenizer *t;

    write_metaspace(dir, LLAMA2, "null", "null");
    t = open_dir(dir);
    text = esp_calloc(n, 1);
    memset(text, 'a', n);
    CU_ASSERT(t && esp_tokenizer_encode(t, &ids, text, n, false) == ESP_OK);
    CU_ASSERT_EQUAL(ids.n,
                    1 + (n - 1) / 4 + 2); /* "_a", then fours, and 999 999 = 4 * 249 999 + 3 */
    CU_ASSERT(goes_round(t, text, n));
    for (size_t i = 0; i < n; i++) {
        text[i] = "ab c\n"[i * i % 5];
    }
    CU_ASSERT(goes_round(t, text, n));
    esp_ids_free(&ids);
    esp_tokenizer_free(t);

    write_byte_level(dir, LLAMA3, MERGES);
    t = open_dir(dir);
    memset(text, ' ', n);
    CU_ASSERT(goes_round(t, text, n));
    memset(text, '\xFF', n);
    CU_ASSERT(goes_round(t, text, n));
    esp_tokenizer_free(t);
    free(text);
    free(dir);
}

/* ---- what is refused ------------------------------------------------------------------------------- */

#define MODEL   "`model`: {`type`: `BPE`, `vocab`: {`a`: 0, `b`: 1}, `merges`: []}"
#define DECODER "`decoder`: {`type`: `Fuse`}"

/* Files, and what the message about each says. */
static const struct refused {
    const char *file, *says[2];
} refused[] = {
    { "{`model`: ", { "tokenizer.json:1" } },
    { "{" MODEL "}", { "decoder", "missing" } },
    { "{" DECODER ", `model`: {`type`: `WordPiece`, `vocab`: {}}}", { "model.type", "WordPiece" } },
    { "{" DECODER ", `model`: {`vocab`: {`a`: 0}, `merges`: [], `dropout`: 0.5}}",
      { "model.dropout", "0.5" } },
    { "{" DECODER ", `model`: {`vocab`: {`a`: 0}, `merges`: [`a b`]}}",
      { "model.merges", "\"a b\"" } },
    { "{" DECODER ", `model`: {`vocab`: {`a`: -1}, `merges`: []}}", { "model.vocab", "-1" } },
    { "{" DECODER ", `model`: {`vocab`: {`a`: 99999999}, `merges`: []}}",
      { "model.vocab", "99999999" } },
    { "{" DECODER ", `model`: {`vocab`: {`a`: 0}, `merges`: [], `unk_token`: `u`}}",
      { "unk_token", "\"u\"" } },
    { "{" DECODER ", `model`: {`vocab`: {`a`: 0}, `merges`: [], `odd`: 1}}", { "model.odd", "1" } },
    { "{" DECODER "," MODEL ", `odd`: true}", { "odd", "true" } },
    { "{" DECODER "," MODEL ", `normalizer`: {`type`: `Precompiled`, `precompiled_charsmap`: ``}}",
      { "normalizer.type", "Precompiled" } },
    { "{" DECODER "," MODEL ", `normalizer`: {`type`: `NFC`, `odd`: 1}}",
      { "normalizer.odd", "1" } },
    { "{" DECODER "," MODEL
      ", `pre_tokenizer`: {`type`: `Sequence`, `pretokenizers`: [{`type`: `Digits`},"
      " {`type`: `UnicodeScripts`}]}}",
      { "pre_tokenizer.pretokenizers[1].type", "UnicodeScripts" } },
    { "{" DECODER "," MODEL
      ", `pre_tokenizer`: {`type`: `Split`, `pattern`: {`Regex`: `(a`}, `behavior`:"
      " `Isolated`}}",
      { "pre_tokenizer", "(a" } },
    { "{" DECODER "," MODEL
      ", `pre_tokenizer`: {`type`: `Split`, `pattern`: {`String`: `a`}, `behavior`:"
      " `Odd`}}",
      { "pre_tokenizer.behavior", "Odd" } },
    { "{`decoder`: {`type`: `WordPiece`}, " MODEL "}", { "decoder.type", "WordPiece" } },
    { "{`decoder`: {`type`: `Strip`, `content`: ` `, `start`: 1, `stop`: 0}, " MODEL "}",
      { "decoder.type", "Strip" } }, /* of each token, nothing fuses them */
    { "{" DECODER "," MODEL ", `post_processor`: {`type`: `BertProcessing`}}",
      { "post_processor.cls", "missing" } },
    { "{" DECODER "," MODEL ", `post_processor`: {`type`: `OddProcessing`}}",
      { "post_processor", "OddProcessing" } },
    { "{" DECODER "," MODEL ", `added_tokens`: [{`content`: `x`}]}", { "added_tokens[0]", "-1" } },
};

static void refusals(void)
{
    char *dir = esp_test_dir("refused"), *nothing = esp_test_dir("nothing");
    esp_tokenizer *t;

    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_test_remove(nothing), ESP_OK);
    for (size_t i = 0; i < COUNT(refused); i++) {
        write_text(dir, "tokenizer.json", refused[i].file);
        CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_EFORMAT);
        CU_ASSERT_PTR_NULL(t);
        for (size_t j = 0; j < 2 && refused[i].says[j]; j++) {
            if (!strstr(esp_error_message(), refused[i].says[j]) ||
                !strstr(esp_error_message(), "tokenizer.json")) {
                printf("  case %zu: %s\n", i, esp_error_message());
                CU_FAIL("the message does not say what is wrong");
            }
        }
    }
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, nothing), ESP_EUSAGE);
    write_text(dir, "tokenizer.json", "{" DECODER "," MODEL "}");
    write_text(dir, "tokenizer_config.json", "{`bos_token`: `<s>`}");
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "bos_token"));
    write_text(nothing, "tokenizer.model", "no model");
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, nothing), ESP_EFORMAT);
    free(dir);
    free(nothing);
}

static void bad_ids(void)
{
    char *dir = esp_test_dir("bad-ids"), *text;
    esp_tokenizer *t;

    write_text(dir, "tokenizer.json",
               "{`decoder`: {`type`: `Fuse`}, `model`: {`vocab`: {`a`: 0, `b`: 3}, `merges`: []}}");
    t = open_dir(dir);
    CU_ASSERT_EQUAL(esp_tokenizer_size(t), 4);
    READS(t, "aba", false, 0, 3, 0);
    CU_ASSERT_EQUAL(esp_tokenizer_decode(t, &text, NULL, IDS(0, 4), false), ESP_EFORMAT);
    CU_ASSERT_EQUAL(esp_tokenizer_decode(t, &text, NULL, IDS(-1), false), ESP_EFORMAT);
    CU_ASSERT_EQUAL(esp_tokenizer_decode(t, &text, NULL, IDS(0, 1), false),
                    ESP_EFORMAT); /* no piece has 1 */
    esp_tokenizer_free(t);
    free(dir);
}

/* ---- shared models --------------------------------------------------------------------------------- */

static void shared_json(void)
{
    char *dir = esp_test_shared("models/stories260K"),
         *other = esp_test_shared("models/tinystories656k-bf16");
    esp_tokenizer *t;

    if (dir) {
        t = open_dir(dir);
        GIVES(t, SENTENCE, true, 1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395,
              317, 426);
        file_goes_round(t, "text/stories-valid.jsonl");
        file_goes_round(t, "text/wikitext2-test.txt");
        file_goes_round(t, "text/alpaca_en_demo.json");
        esp_tokenizer_free(t);
    }
    if (other) {
        t = open_dir(other);
        GIVES(t, SENTENCE, true, 1, 80, 147, 201, 282, 215, 286, 598, 629, 10);
        GIVES(t, "A <unk> cat<|end_story|>", false, 80, 26, 0, 80, 476, 208, 183, 209, 210);
        GOES_ROUND(t, "One day, a <unk> <|end_story|> ran.");
        esp_tokenizer_free(t);
    }
    free(dir);
    free(other);
}

ESP_TEST_MAIN("tokenizer", { "byte level, LLaMA-3's pattern", byte_level },
              { "byte level, GPT-2's pattern", byte_level_gpt2 }, { "split behaviours", splits },
              { "metaspace as in LLaMA-2", metaspace }, { "metaspace shown", metaspace_shown },
              { "metaspace schemes", metaspace_schemes }, { "unknown characters", unknown },
              { "affixes", affixes }, { "added words", added_words },
              { "pieces of a million bytes", long_piece }, { "refused files", refusals },
              { "refused ids", bad_ids }, { "tokenizer.json of shared models", shared_json })
