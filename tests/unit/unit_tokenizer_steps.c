/* unit_tokenizer_steps.c - normalizers and pre-tokenizers of tokenizer.json against what the Hugging Face
 * library makes of the same text, and patterns that are refused. */
#include "text/tokenizer_impl.h"
#include "tokenizer_checks.h"

/* Of tokenizer.json ` for the double quote; a text; its pieces with | between them. */
static const struct steps_case {
    const char *json, *text, *pieces;
} cases[] = {
    { "`normalizer`:{`type`:`NFC`}",
      "Cafe\xCC\x81 \xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB o\xCC\xA3\xCC\x88",
      "Caf\xC3\xA9 \xED\x95\x9C \xE1\xBB\x8D\xCC\x88" },
    { "`normalizer`:{`type`:`NFC`}", "\xEC\xB1\x84\xE1\x86\xA7 a\xCC\x81\xCC\xA7\xCC\x80",
      "\xEC\xB1\x84\xE1\x86\xA7 \xC3\xA1\xCC\xA7\xCC\x80" },
    { "`normalizer`:{`type`:`Replace`,`pattern`:{`Regex`:`[\\\\w]`},`content`:`-`}",
      "a\xC2\xBD\xE2\x85\xA7", "-\xC2\xBD-" },
    { "`normalizer`:{`type`:`NFD`}", "Caf\xC3\xA9 \xED\x95\x9C",
      "Cafe\xCC\x81 \xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB" },
    { "`normalizer`:{`type`:`NFKC`}", "\xEF\xAC\x81 \xC2\xBD \xEF\xBC\xA1 \xE2\x85\xA7",
      "fi 1\xE2\x81\x84"
      "2 A VIII" },
    { "`normalizer`:{`type`:`NFKD`}", "\xC3\x85\xC2\xB2\xE2\x91\xA0",
      "A\xCC\x8A"
      "21" },
    { "`normalizer`:{`type`:`Lowercase`}",
      "\xC4\xB0\xC3\x89\xCE\xA3"
      "A",
      "i\xCC\x87\xC3\xA9\xCF\x83"
      "a" },
    { "`normalizer`:{`type`:`Sequence`,`normalizers`:[{`type`:`NFD`},{`type`:`StripAccents`}]}",
      "\xC3\xA9"
      "a\xCC\xA7\xE0\xA4\x83x",
      "eax" },
    { "`normalizer`:{`type`:`Strip`,`strip_left`:true,`strip_right`:false}", "\xE2\x80\x83 a \x0A",
      "a \x0A" },
    { "`normalizer`:{`type`:`Strip`,`strip_left`:false,`strip_right`:true}", " a\xC2\xA0\x0A",
      " a" },
    { "`normalizer`:{`type`:`Nmt`}",
      "a\x01"
      "b\x09"
      "c\xE2\x80\x8B"
      "d\xE2\x96\x81",
      "ab c d " },
    { "`normalizer`:{`type`:`Prepend`,`prepend`:`x`}", "a", "xa" },
    { "`normalizer`:{`type`:`Replace`,`pattern`:{`String`:`ab`},`content`:`-`}", "aabab", "a--" },
    { "`normalizer`:{`type`:`Replace`,`pattern`:{`Regex`:`\\\\s+`},`content`:`_`}",
      "a \x09\xE1\xA0\x8E"
      "b\xE2\x80\x83"
      "c",
      "a_\xE1\xA0\x8E"
      "b_c" },
    { "`normalizer`:{`type`:`BertNormalizer`,`clean_text`:true,`handle_chinese_chars`:true,`strip_"
      "accents`:null,`lowercase`:true}",
      "\xC3\x89"
      "A\x09\xE4\xB8\xAD\xC2\xAD\xCC\x81!",
      "ea  \xE4\xB8\xAD !" },
    { "`normalizer`:{`type`:`ByteLevel`}", "\xC3\xA9 \x0A", "\xC3\x83\xC2\xA9\xC4\xA0\xC4\x8A" },
    { "`pre_tokenizer`:{`type`:`Digits`,`individual_digits`:false}",
      "a12\xC2\xBD"
      "b3",
      "a|12\xC2\xBD|b|3" },
    { "`pre_tokenizer`:{`type`:`Digits`,`individual_digits`:true}",
      "a12\xC2\xBD"
      "b",
      "a|1|2|\xC2\xBD|b" },
    { "`pre_tokenizer`:{`type`:`Punctuation`,`behavior`:`Isolated`}", "a,b$\xE3\x80\x82\xC2\xA9!",
      "a|,|b|$|\xE3\x80\x82|\xC2\xA9|!" },
    { "`pre_tokenizer`:{`type`:`Punctuation`,`behavior`:`Contiguous`}", "a,!b", "a|,!|b" },
    { "`pre_tokenizer`:{`type`:`Whitespace`}", "ab! c\xCC\x81\xC2\xBD\xE2\x91\xA0x\xE2\x80\x8Dy",
      "ab|!|c\xCC\x81|\xC2\xBD\xE2\x91\xA0|x\xE2\x80\x8Dy" },
    { "`pre_tokenizer`:{`type`:`WhitespaceSplit`}",
      " a \xC2\xA0"
      "b\x0A",
      "a|b" },
    { "`pre_tokenizer`:{`type`:`BertPreTokenizer`}", "a b, c", "a|b|,|c" },
    { "`pre_tokenizer`:{`type`:`CharDelimiterSplit`,`delimiter`:`-`}", "a--b-", "a|b" },
    { "`pre_tokenizer`:{`type`:`FixedLength`,`length`:2}",
      "ab\xC3\xA9"
      "cd",
      "ab|\xC3\xA9"
      "c|d" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`Removed`,`invert`:false}",
      "hello  world", "hell|w|rld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`Isolated`,`invert`:false}",
      "hello  world", "hell|o| | |w|o|rld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`MergedWithPrevious`,`invert`:false}",
      "hello  world", "hello| | |wo|rld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`MergedWithNext`,`invert`:false}",
      "hello  world", "hell|o| | w|orld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`Contiguous`,`invert`:false}",
      "hello  world", "hell|o  |w|o|rld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`Removed`,`invert`:true}",
      "hello  world", "o| | |o" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`Isolated`,`invert`:true}",
      "hello  world", "hell|o| | |w|o|rld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`MergedWithPrevious`,`invert`:true}",
      "hello  world", "hell|o| | w|orld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`MergedWithNext`,`invert`:true}",
      "hello  world", "hello| | |wo|rld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[ "
      "o]`},`behavior`:`Contiguous`,`invert`:true}",
      "hello  world", "hell|o  |w|o|rld" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`\\\\s+$`},`behavior`:`Isolated`,`invert`"
      ":false}",
      "a  \x0A"
      "b ",
      "a|  |\x0A"
      "b| " },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`^.`},`behavior`:`Isolated`,`invert`:"
      "false}",
      "ab\x0A"
      "cd\x0A",
      "a|b\x0A|c|d\x0A" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`(?=(\\\\d{3})+(?!\\\\d))`},`behavior`:`"
      "Isolated`,`invert`:false}",
      "1234567 89", "1|234|567 89" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`\\\\b`},`behavior`:`Isolated`,`invert`:"
      "false}",
      "a\xCC\x81"
      "b cd",
      "a\xCC\x81"
      "b| |cd" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`\\\\p{Han}+`},`behavior`:`Isolated`,`"
      "invert`:false}",
      "a\xE6\xBC\xA2\xE3\x80\x81\xE5\xAD\x97", "a|\xE6\xBC\xA2|\xE3\x80\x81|\xE5\xAD\x97" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[[:punct:]]`},`behavior`:`Isolated`,`"
      "invert`:false}",
      "a+\xC2\xA9"
      "b",
      "a|+|\xC2\xA9|b" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`\\\\h+`},`behavior`:`Isolated`,`invert`:"
      "false}",
      "xff0 1", "x|ff0| |1" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`(?m:b.)`},`behavior`:`Isolated`,`invert`"
      ":false}",
      "b\x0A"
      "b",
      "b\x0A|b" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`\\\\w+`},`behavior`:`Isolated`,`invert`:"
      "false}",
      "\xC2\xB2\xE2\x91\xA0\xE2\x81\xB0"
      "a\xCC\x81",
      "\xC2\xB2|\xE2\x91\xA0\xE2\x81\xB0|a\xCC\x81" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`a{,2}`},`behavior`:`Isolated`,`invert`:"
      "false}",
      "aaab", "aa|a|b" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`\\\\u0061`},`behavior`:`Isolated`,`"
      "invert`:false}",
      "bab", "b|a|b" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[a[b]c]+`},`behavior`:`Isolated`,`"
      "invert`:false}",
      "xabcx", "x|abc|x" },
    { "`pre_tokenizer`:{`type`:`Split`,`pattern`:{`Regex`:`[!\\\\\\`#$%&'()*+,\\\\-./"
      ":;<=>?@\\\\[\\\\\\\\\\\\]^_\\u0060{|}~][A-Za-z]+|[^\\\\r\\\\n\\\\p{L}\\\\p{P}\\\\p{S}]?["
      "\\\\p{L}\\\\p{M}]+| "
      "?[\\\\p{P}\\\\p{S}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+`},`behavior`:`"
      "Isolated`,`invert`:false}",
      "it's f(x)  =1;\x0D\x0A\x0A e\xCC\x81", "it|'s| f|(x|)| | =|1|;\x0D\x0A\x0A| e\xCC\x81" },
    { "`pre_tokenizer`:{`type`:`Sequence`,`pretokenizers`:[{`type`:`WhitespaceSplit`},{`type`:`"
      "Metaspace`,`replacement`:`\\u2581`,`prepend_scheme`:`first`,`split`:true}]}",
      " a b", "a|b" },
    { "`pre_tokenizer`:{`type`:`Metaspace`,`replacement`:`\\u2581`,`prepend_scheme`:`first`,`split`"
      ":true}",
      " a  b",
      "\xE2\x96\x81"
      "a|\xE2\x96\x81|\xE2\x96\x81"
      "b" },
    { "`normalizer`:{`type`:`Strip`,`strip_left`:false,`strip_right`:true},`pre_tokenizer`:{`type`:"
      "`Metaspace`,`replacement`:`\\u2581`,`prepend_scheme`:`first`,`split`:false}",
      "\tX\n", "\xE2\x96\x81\tX" },
    { "`normalizer`:{`type`:`Strip`,`strip_left`:false,`strip_right`:true},`pre_tokenizer`:{`type`:"
      "`Metaspace`,`replacement`:`\\u2581`,`prepend_scheme`:`first`,`split`:false}",
      "\xE2\x80\x83X", "\xE2\x96\x81\xE2\x80\x83X" },
    { "`normalizer`:{`type`:`Strip`,`strip_left`:true,`strip_right`:true},`pre_tokenizer`:{`type`:`"
      "Metaspace`,`replacement`:`\\u2581`,`prepend_scheme`:`first`,`split`:false}",
      " a b",
      "a\xE2\x96\x81"
      "b" },
    { "`pre_tokenizer`:{`type`:`ByteLevel`,`add_prefix_space`:true,`trim_offsets`:true,`use_regex`:"
      "true}",
      "a \xE1\xA0\x8E b",
      "\xC4\xA0"
      "a|\xC4\xA0\xC3\xA1\xC5\x82\xC4\xB0|\xC4\xA0"
      "b" },
};

static esp_tokenizer *read_steps(const char *json)
{
    page p = { 0 };
    esp_tokenizer *t = esp_calloc(1, sizeof *t);
    json_t *root;

    put(&p, "{`decoder`: {`type`: `Fuse`}, ");
    put(&p, json);
    put(&p, "}");
    root = json_loads(p.text, 0, NULL);
    if (!root || esp_tokenizer_read_steps(t, root, "tokenizer.json") != ESP_OK) {
        printf("  %s: %s\n", json, root ? esp_error_message() : "no JSON");
        esp_tokenizer_free(t);
        t = NULL;
    }
    json_decref(root);
    free(p.text);
    return t;
}

/* All pieces of a text with | between them, the caller frees. */
static char *pieces_of(const esp_tokenizer *t, const char *text, size_t n)
{
    esp_pieces p = { 0 }, spare = { 0 };
    esp_byte_string joined = { 0 };
    bool at_start = true;

    esp_pieces_add(&p, text, n);
    CU_ASSERT_EQUAL(esp_pretokenizer_run(&t->normalizer, &p, &spare, &at_start), ESP_OK);
    CU_ASSERT_EQUAL(esp_pretokenizer_run(&t->pre_tokenizer, &p, &spare, &at_start), ESP_OK);
    for (size_t i = 0; i < p.n; i++) {
        size_t length;
        const char *piece = esp_pieces_at(&p, i, &length);

        esp_bytes_add(&joined, "|", i > 0);
        esp_bytes_add(&joined, piece, length);
    }
    esp_bytes_add(&joined, "", 1);
    esp_pieces_free(&p);
    esp_pieces_free(&spare);
    return joined.data;
}

static void same_pieces(void)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        esp_tokenizer *t = read_steps(cases[i].json);
        char *got = t ? pieces_of(t, cases[i].text, strlen(cases[i].text)) : NULL;

        if (!got || strcmp(got, cases[i].pieces) != 0) {
            printf("  %s: got %s, want %s\n", cases[i].json, got ? got : "nothing",
                   cases[i].pieces);
            CU_FAIL("other pieces");
        }
        free(got);
        esp_tokenizer_free(t);
    }
}

/* Bytes that are no UTF-8 pass, and what is around them is changed. */
static void not_utf8(void)
{
    static const struct steps_case odd[] = {
        { "`normalizer`: {`type`: `NFC`}",
          "e\xCC\x81\xFF"
          "e\xCC\x81\xC3",
          "\xC3\xA9\xFF\xC3\xA9\xC3" },
        { "`normalizer`: {`type`: `Lowercase`}",
          "A\xFF"
          "B\xE2\x82",
          "a\xFF"
          "b\xE2\x82" },
        { "`normalizer`: {`type`: `Strip`, `strip_left`: true, `strip_right`: true}", " \xFF ",
          "\xFF" },
        { "`pre_tokenizer`: {`type`: `Whitespace`}", "a\xFF!", "a|!" },
    };

    for (size_t i = 0; i < COUNT(odd); i++) {
        esp_tokenizer *t = read_steps(odd[i].json);
        char *got = t ? pieces_of(t, odd[i].text, strlen(odd[i].text)) : NULL;

        CU_ASSERT(got && strcmp(got, odd[i].pieces) == 0);
        free(got);
        esp_tokenizer_free(t);
    }
}

/* What PCRE2 would read as something else, or cannot say. */
static void refused_patterns(void)
{
    static const char *const patterns[] = {
        "a{1,3}+", "[a&&b]", "[a[^b]]", "[\\W]",    "\\Qa", "\\C",       "\\y", "(*FAIL)",
        "(?x)a b", "(?R)",   "(a",      "\\p{Odd}", "\\pL", "[[:odd:]]", "a\\",
    };

    for (size_t i = 0; i < COUNT(patterns); i++) {
        pcre2_code *code = NULL;
        char *pcre = NULL;
        esp_status st = esp_pattern_translate(&pcre, patterns[i]);

        st = st == ESP_OK ? esp_pattern_compile(&code, pcre, false) : st;
        if (st != ESP_EFORMAT) {
            printf("  %s: taken as %s\n", patterns[i], pcre);
            CU_FAIL("a pattern is taken");
        }
        pcre2_code_free(code);
        free(pcre);
    }
}

/* A million bytes in one piece, for every normalizer and pre-tokenizer: what is quadratic does not end
 * within the test's time limit. */
static void long_texts(void)
{
    static const char *const more[] = { "a", " ", "\xFF", "\xCC\x81\xCC\xA7", "a\n" };
    size_t n = 1000000;
    char *text = esp_calloc(n + 1, 1);

    for (size_t i = 0; i < COUNT(cases); i++) {
        esp_tokenizer *t = read_steps(cases[i].json);

        for (size_t j = 0; t && j < COUNT(more); j++) {
            size_t step = strlen(more[j]);

            for (size_t at = 0; at < n; at++) {
                text[at] = more[j][at % step];
            }
            free(pieces_of(t, text, n));
        }
        esp_tokenizer_free(t);
    }
    free(text);
}

ESP_TEST_MAIN("tokenizer steps", { "pieces as the library's", same_pieces },
              { "bytes that are not UTF-8", not_utf8 }, { "refused patterns", refused_patterns },
              { "texts of a million bytes", long_texts })
