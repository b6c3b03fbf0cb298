/* unit_corpus.c - documents and samples. The tokenizer of these tests has one token a character, its id
 * the character's code, BOS 1 and EOS 2, so that what samples hold can be read. */
#include "test.h"

#include <stdbool.h>

#include "espalier/corpus.h"
#include "espalier/file.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define VOCAB        ((size_t)128)
#define POSITIONS    ((size_t)1000)

/* ---- files ----------------------------------------------------------------------------------------- */

/* Writes a file of this test's folder; the caller frees its path. */
static char *write_file(const char *name, const char *text)
{
    char *dir = esp_test_dir("corpus"), *path = esp_path(dir, name);

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    free(dir);
    return path;
}

static esp_tokenizer *open_tokenizer(const char *rules)
{
    char *dir = esp_test_dir("corpus"), *text = esp_strdup(""), *path;
    esp_tokenizer *t = NULL;

    for (int c = ' '; c <= '~'; c++) {
        char *longer = esp_format("%s, \"\\u%04x\": %d", text, (unsigned)c, c);

        free(text);
        text = longer;
    }
    path = esp_format(
        "{\"decoder\": {\"type\": \"Fuse\"}, \"model\": {\"vocab\": {\"<s>\": 1, \"</s>\": 2,"
        " \"\\n\": 10%s}, \"merges\": []}}",
        text);
    free(write_file("tokenizer.json", path));
    free(write_file("tokenizer_config.json", rules));
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_OK);
    free(path);
    free(text);
    free(dir);
    return t;
}

#define BOS_ONLY "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_bos_token\": true}"
#define NEITHER  "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}"

/* ---- documents ------------------------------------------------------------------------------------- */

static void documents_are(const char *name, const char *text, const char *field, size_t n,
                          const char *const *want)
{
    char *path = write_file(name, text);
    esp_corpus c;

    if (esp_corpus_read(&c, path, field) != ESP_OK) {
        printf("  %s\n", esp_error_message());
        CU_FAIL("the corpus is not read");
    }
    CU_ASSERT_EQUAL(c.n, n);
    for (size_t i = 0; i < c.n && i < n; i++) {
        CU_ASSERT_STRING_EQUAL(c.documents[i].text, want[i]);
        CU_ASSERT_EQUAL(c.documents[i].n, strlen(want[i]));
    }
    esp_corpus_free(&c);
    esp_corpus_free(&c);
    free(path);
}
#define DOCUMENTS(name, text, field, ...)                                           \
    documents_are(name, text, field, COUNT(((const char *const[]){ __VA_ARGS__ })), \
                  (const char *const[]){ __VA_ARGS__ })

static void plain_text(void)
{
    DOCUMENTS("a.txt", "one\ntwo\n\nthree\n", NULL, "one\ntwo", "three");
    DOCUMENTS("a.txt", "\n\n one \r\n\r\n\r\n\r\ntwo", NULL, " one ", "two");
    DOCUMENTS("a.txt", " \n = Title = \n \n text \n", NULL, " \n = Title = \n \n text ");
    DOCUMENTS("a.txt", "one\n\nstill<|endoftext|>\ntwo\n<|endoftext|>\n<|endoftext|>", NULL,
              "one\n\nstill", "two");
    DOCUMENTS("noname", "[1]", NULL, "[1]");
}

static void objects(void)
{
    DOCUMENTS("a.jsonl", "{\"text\": \"one\\n\\ntwo\"}\n\n  {\"id\": 4, \"text\": \"three\"}\r\n",
              NULL, "one\n\ntwo", "three");
    DOCUMENTS("a.jsonl", "{\"story\": \"one\"}\n{\"content\": \"two\"}\n{\"text\": \"\"}", NULL,
              "one", "two");
    DOCUMENTS("a.jsonl", "{\"text\": \"no\", \"body\": \"yes\"}", "body", "yes");
    DOCUMENTS("a.json", "{\"text\": \"a line\"}\n{\"text\": \"another\"}\n", NULL, "a line",
              "another");
    DOCUMENTS("a.json", " [{\"text\": \"one\"},\n {\"text\": \"two\"}]", NULL, "one", "two");
}

static void alpaca(void)
{
    static const char file[] =
        "[{\"instruction\": \"Add.\", \"input\": \"1 2\", \"output\": \"3\"},\n"
        " {\"instruction\": \"Greet.\", \"input\": \"\", \"output\": \"Hello.\"},\n"
        " {\"instruction\": \"Stop.\", \"output\": \"No.\"}]";
    static const char with_input[] =
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n"
        "### Input:\n1 2\n\n### Response:\n3";
    static const char without[] =
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\nGreet.\n\n"
        "### Response:\nHello.";
    char *path = write_file("alpaca.json", file);
    esp_corpus c;

    CU_ASSERT_EQUAL(esp_corpus_read(&c, path, NULL), ESP_OK);
    CU_ASSERT_TRUE(c.instructions);
    CU_ASSERT_EQUAL(c.n, 3);
    if (c.n == 3) {
        CU_ASSERT_STRING_EQUAL(c.documents[0].text, with_input);
        CU_ASSERT_STRING_EQUAL(c.documents[0].text + c.documents[0].n_prompt, "3");
        CU_ASSERT_STRING_EQUAL(c.documents[1].text, without);
        CU_ASSERT_STRING_EQUAL(c.documents[1].text + c.documents[1].n_prompt, "Hello.");
        CU_ASSERT_STRING_EQUAL(c.documents[2].text + c.documents[2].n_prompt, "No.");
    }
    esp_corpus_free(&c);
    free(path);
}

static void refused_corpora(void)
{
    static const struct {
        const char *name, *text, *says;
    } cases[] = {
        { "a.txt", "", "empty" },
        { "a.txt", " \n\n \n", "empty" },
        { "a.txt", "<|endoftext|>", "empty" },
        { "a.jsonl", "\n\n", "empty" },
        { "a.jsonl", "{\"text\": \"x\"}\n\n{\"text\": \n", "a.jsonl: line 3:" },
        { "a.jsonl", "{\"text\": \"x\"}\n{\"txt\": \"y\"}\n", "a.jsonl: line 2:" },
        { "a.jsonl", "{\"text\": 7}", "line 1: \"text\": 7: is to be a string" },
        { "a.jsonl", "{\"instruction\": null, \"output\": \"b\"}",
          "line 1: \"instruction\": null: " },
        { "a.jsonl", "{\"instruction\": \"a\", \"output\": 3}", "line 1: \"output\": 3: " },
        { "a.jsonl", "{\"instruction\": \"a\", \"input\": 1, \"output\": \"b\"}",
          "line 1: \"input\": 1: " },
        { "a.jsonl", "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"text\": \"c\"}", "line 2:" },
        { "a.json", "[{\"text\": \"x\"},\n,", "a.json: line 2:" },
        { "a.json", "[{\"text\": \"x\"}, 3]", "element 1:" },
        { "a.json", "[]", "empty" },
    };
    esp_corpus c;

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = write_file(cases[i].name, cases[i].text);

        CU_ASSERT_EQUAL(esp_corpus_read(&c, path, NULL), ESP_EFORMAT);
        if (!strstr(esp_error_message(), cases[i].says)) {
            printf("  %s\n", esp_error_message());
            CU_FAIL("the message does not say where");
        }
        CU_ASSERT_PTR_NULL(c.documents);
        free(path);
    }
    CU_ASSERT_EQUAL(esp_corpus_read(&c, "/nowhere/a.txt", NULL), ESP_EUSAGE);
}

/* ---- samples --------------------------------------------------------------------------------------- */

/* A sample as text: its tokens, those that are no target in parentheses; BOS is ^, EOS is $. */
static char *show(const esp_samples *s, size_t j)
{
    char *text = esp_strdup("");

    for (size_t t = s->start[j]; t < s->start[j + 1]; t++) {
        int32_t id = s->ids[t];
        bool target = t > s->start[j] && s->targets[t - 1] == id;
        char c = id == 1 ? '^' : id == 2 ? '$' : id == '\n' ? '|' : (char)id;
        char *longer = esp_format(target ? "%s%c" : "%s(%c)", text, c);

        free(text);
        text = longer;
    }
    return text;
}

static void samples_are(const esp_samples *s, size_t n, const char *const *want)
{
    CU_ASSERT_EQUAL(s->n, n);
    for (size_t j = 0; j < s->n && j < n; j++) {
        char *got = show(s, j);

        CU_ASSERT_STRING_EQUAL(got, want[j]);
        if (strcmp(got, want[j]) != 0) {
            printf("  got %s\n", got);
        }
        free(got);
    }
}

static void draws(const esp_tokenizer *t, const char *name, const char *text, esp_sampling how,
                  size_t n, const char *const *want)
{
    char *path = write_file(name, text);
    esp_samples s = { 0 };

    if (esp_samples_load(&s, path, NULL, t, how, POSITIONS, VOCAB) != ESP_OK) {
        printf("  %s\n", esp_error_message());
        CU_FAIL("no samples");
    }
    samples_are(&s, n, want);
    esp_samples_free(&s);
    free(path);
}
#define DRAWS(t, name, text, how, ...)                                       \
    draws(t, name, text, how, COUNT(((const char *const[]){ __VA_ARGS__ })), \
          (const char *const[]){ __VA_ARGS__ })

static void windows(void)
{
    const esp_sampling four = { .cut = ESP_CUT_WINDOWS, .length = 4 };
    const esp_sampling two_of_four = { .cut = ESP_CUT_WINDOWS, .length = 4, .count = 2 };
    const esp_sampling sliding = { .cut = ESP_CUT_WINDOWS, .length = 4, .stride = 2 };
    const esp_sampling one_by_one = {
        .cut = ESP_CUT_WINDOWS, .length = 3, .stride = 1, .count = 3
    };
    esp_tokenizer *t = open_tokenizer(BOS_ONLY);

    DRAWS(t, "w.txt", "abc\n\ndefgh\n", four, "(^)abc", "(^)def", "(g)h");
    DRAWS(t, "w.txt", "abc\n\ndefg\n", four, "(^)abc",
          "(^)def"); /* one token alone predicts nothing */
    DRAWS(t, "w.txt", "abc\n\ndefgh\n", two_of_four, "(^)abc", "(^)def");
    DRAWS(t, "w.txt", "abcde", sliding, "(^)abc", "(b)(c)de");
    DRAWS(t, "w.txt", "abcdef", sliding, "(^)abc", "(b)(c)de", "(d)(e)f");
    DRAWS(t, "w.txt", "abcdef", one_by_one, "(^)ab", "(a)(b)c", "(b)(c)d");
    DRAWS(t, "w.txt", "ab\n\nc", ((esp_sampling){ .cut = ESP_CUT_WINDOWS, .length = 100 }),
          "(^)ab^c");
    esp_tokenizer_free(t);
    t = open_tokenizer(NEITHER);
    DRAWS(t, "w.txt", "abc\n\ndefgh", four, "(a)bcd", "(e)fgh");
    esp_tokenizer_free(t);
}

static void cut_documents(void)
{
    const esp_sampling three = { .cut = ESP_CUT_DOCUMENTS, .length = 3 };
    const esp_sampling answers = { .cut = ESP_CUT_DOCUMENTS, .length = 300, .answer_only = true };
    const esp_sampling short_answers = { .cut = ESP_CUT_DOCUMENTS,
                                         .length = 150,
                                         .answer_only = true };
    static const char pairs[] = "{\"instruction\": \"a\", \"output\": \"xyz\"}\n"
                                "{\"instruction\": \"a\", \"input\": \"b\", \"output\": \"uv\"}\n";
    char *path = write_file("pairs.jsonl", pairs);
    esp_tokenizer *t = open_tokenizer(BOS_ONLY);
    esp_samples s = { 0 };

    DRAWS(t, "d.txt", "abc\n\nd\n\nefgh\n", three, "(^)ab", "(^)d", "(^)ef");
    DRAWS(t, "d.txt", "abc\n\nd",
          ((esp_sampling){ .cut = ESP_CUT_DOCUMENTS, .length = 3, .count = 1 }), "(^)ab");

    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, answers, POSITIONS, VOCAB), ESP_OK);
    CU_ASSERT_EQUAL(s.n, 2);
    if (s.n == 2) {
        char *first = show(&s, 0), *second = show(&s, 1);

        CU_ASSERT_STRING_EQUAL(strrchr(first, ')'), ")xyz$");
        CU_ASSERT_STRING_EQUAL(strrchr(second, ')'), ")uv$");
        CU_ASSERT_EQUAL(esp_samples_targets(&s, 0), 4);
        free(first);
        free(second);
    }
    esp_samples_free(&s);

    /* the second prompt alone is longer than 150 tokens: without a target it is no sample */
    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, short_answers, POSITIONS, VOCAB), ESP_OK);
    CU_ASSERT_EQUAL(s.n, 1);
    esp_samples_free(&s);
    esp_tokenizer_free(t);
    free(path);
}

static bool same_samples(const esp_samples *a, const esp_samples *b)
{
    return a->n == b->n && memcmp(a->start, b->start, (a->n + 1) * sizeof *a->start) == 0 &&
           memcmp(a->ids, b->ids, a->start[a->n] * sizeof *a->ids) == 0 &&
           memcmp(a->targets, b->targets, a->start[a->n] * sizeof *a->targets) == 0;
}

/* Documents of 1, 5, 10 and 20 tokens, each with its own first and last letter. */
static const char drawn_from[] = "z\n\na012w\n\nb01234567x\n\nc012345678901234567y\n";

static void random_windows(void)
{
    char *path = write_file("r.txt", drawn_from);
    esp_sampling how = { .cut = ESP_CUT_RANDOM, .length = 4, .count = 60, .seed = 5 };
    esp_tokenizer *t = open_tokenizer(NEITHER);
    esp_samples a = { 0 }, b = { 0 };
    int32_t seen[VOCAB] = { 0 };

    CU_ASSERT_EQUAL(esp_samples_load(&a, path, NULL, t, how, POSITIONS, VOCAB), ESP_OK);
    CU_ASSERT_EQUAL(esp_samples_load(&b, path, NULL, t, how, POSITIONS, VOCAB), ESP_OK);
    CU_ASSERT_EQUAL(a.n, 60);
    CU_ASSERT(same_samples(&a, &b));
    for (size_t j = 0; j < a.n; j++) {
        CU_ASSERT_EQUAL(a.start[j + 1] - a.start[j], 4);
        CU_ASSERT_EQUAL(esp_samples_targets(&a, j), 3);
        seen[a.ids[a.start[j]]]++;
        seen[a.ids[a.start[j] + 3]]++;
    }
    CU_ASSERT(seen['a'] > 0 && seen['b'] > 0 && seen['c'] > 0); /* starts of documents, */
    CU_ASSERT(seen['w'] > 0 && seen['x'] > 0 && seen['y'] > 0); /* and their ends */
    CU_ASSERT_EQUAL(seen['z'], 0);
    esp_samples_free(&b);
    how.seed = 6;
    CU_ASSERT_EQUAL(esp_samples_load(&b, path, NULL, t, how, POSITIONS, VOCAB), ESP_OK);
    CU_ASSERT(!same_samples(&a, &b));
    esp_samples_free(&a);
    esp_samples_free(&b);
    esp_tokenizer_free(t);
    free(path);
}

/* Every document that is long enough serves once before one serves again, in an order of the seed. */
static void random_uses_all(void)
{
    char *path = write_file("r.txt", "aaaaaa\n\nz\n\nbbbbbbb\n\ncccccc\n\nzzzzz");
    esp_tokenizer *t = open_tokenizer(NEITHER);
    bool first[VOCAB] = { false };

    for (uint64_t seed = 0; seed < 20; seed++) {
        esp_sampling how = { .cut = ESP_CUT_RANDOM, .length = 5, .count = 6, .seed = seed };
        esp_samples s = { 0 };

        CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, how, POSITIONS, VOCAB), ESP_OK);
        CU_ASSERT_EQUAL(s.n, 6);
        for (size_t round = 0; s.n == 6 && round < 2; round++) {
            const int32_t *ids = s.ids + 15 * round;

            CU_ASSERT_EQUAL(ids[0] + ids[5] + ids[10], 'a' + 'b' + 'c');
            CU_ASSERT(ids[0] != ids[5] && ids[5] != ids[10]);
        }
        first[s.ids[0]] = true;
        esp_samples_free(&s);
    }
    CU_ASSERT(first['a'] && first['b'] && first['c']);
    esp_tokenizer_free(t);
    free(path);
}

static void refused_samples(void)
{
    char *path = write_file("r.txt", "abc\n\nde");
    esp_tokenizer *t = open_tokenizer(NEITHER);
    esp_sampling how = { .cut = ESP_CUT_RANDOM, .length = 3, .count = 1 };
    esp_samples s;

    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, how, POSITIONS, VOCAB), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "longest 3"));
    how.length = 2;
    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, how, POSITIONS, 'c'), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "the model's vocabulary has 99"));
    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, how, 1, VOCAB), ESP_EUSAGE);
    how.count = 0;
    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, how, POSITIONS, VOCAB), ESP_EUSAGE);
    how.cut = ESP_CUT_WINDOWS;
    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, NULL, how, POSITIONS, VOCAB), ESP_EUSAGE);
    free(path);
    path = write_file("r.txt", "a");
    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, how, POSITIONS, VOCAB), ESP_EUSAGE);
    free(path);
    path = write_file("r.txt", "a\n\nb\tc"); /* no token for the tab */
    CU_ASSERT_EQUAL(esp_samples_load(&s, path, NULL, t, how, POSITIONS, VOCAB), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "r.txt: document 2: "));
    CU_ASSERT_PTR_NULL(s.ids);
    esp_tokenizer_free(t);
    free(path);
}

/* ---- files of ids ---------------------------------------------------------------------------------- */

static void id_lines(void)
{
    static const struct {
        const char *text, *says;
    } refused[] = {
        { "", "empty" },
        { "1 2\n3 x4\n", "line 2: \"x4\"" },
        { "1 2\n\n3 4.5", "line 3: \"4.5\"" },
        { "1 2\n3 -4\n", "line 2: id -4" },
        { "1 128\n", "id 128" },
        { "1 99999999999999999999", "id " },
        { "7\n", "line 1: a sample of 1 token" },
        { "1 2\n1 2 3 4 5\n", "line 2: a sample of 5 tokens" },
    };
    char *path = write_file("ids.txt", "97 98  99\r\n\n\t100 101 \n");
    esp_samples s;

    CU_ASSERT_EQUAL(esp_samples_read_ids(&s, path, 4, VOCAB), ESP_OK);
    samples_are(&s, 2, (const char *const[]){ "(a)bc", "(d)e" });
    esp_samples_free(&s);
    free(path);
    for (size_t i = 0; i < COUNT(refused); i++) {
        path = write_file("ids.txt", refused[i].text);
        CU_ASSERT_EQUAL(esp_samples_read_ids(&s, path, 4, VOCAB), ESP_EFORMAT);
        if (!strstr(esp_error_message(), refused[i].says)) {
            printf("  %s\n", esp_error_message());
            CU_FAIL("the message does not say where");
        }
        CU_ASSERT_PTR_NULL(s.ids);
        free(path);
    }
}

/* ---- token files ----------------------------------------------------------------------------------- */

/* Samples of a token file are those of the corpus that it was made from. */
static void token_file_gives_the_same(const char *name, const char *text)
{
    static const esp_cut cuts[] = { ESP_CUT_WINDOWS, ESP_CUT_RANDOM, ESP_CUT_DOCUMENTS };
    char *path = write_file(name, text), *dir = esp_test_dir("corpus"),
         *tokens = esp_path(dir, "tokens.h5");
    esp_tokenizer *t = open_tokenizer(BOS_ONLY);
    esp_corpus c = { 0 };

    CU_ASSERT_EQUAL(esp_corpus_read(&c, path, NULL), ESP_OK);
    CU_ASSERT_EQUAL(esp_tokens_save(tokens, &c, t, path), ESP_OK);
    for (size_t i = 0; i < COUNT(cuts); i++) {
        esp_sampling how = {
            .cut = cuts[i], .length = 5, .count = 4, .answer_only = c.instructions
        };
        esp_samples a = { 0 }, b = { 0 };

        how.length = c.instructions ? 150 : 5;
        CU_ASSERT_EQUAL(esp_samples_draw(&a, &c, t, how, POSITIONS, VOCAB, path), ESP_OK);
        CU_ASSERT_EQUAL(esp_samples_load(&b, tokens, NULL, i ? t : NULL, how, POSITIONS, VOCAB),
                        ESP_OK);
        CU_ASSERT(a.n > 0 && same_samples(&a, &b));
        esp_samples_free(&a);
        esp_samples_free(&b);
    }
    esp_corpus_free(&c);
    esp_tokenizer_free(t);
    free(tokens);
    free(dir);
    free(path);
}

static void token_files(void)
{
    char *dir = esp_test_dir("corpus"), *tokens = esp_path(dir, "tokens.h5"), *notes;
    esp_sampling how = { .cut = ESP_CUT_WINDOWS, .length = 5 };
    esp_tokenizer *t;
    esp_samples s;

    token_file_gives_the_same("t.txt", drawn_from);
    token_file_gives_the_same("t.jsonl",
                              "{\"instruction\": \"a\", \"output\": \"xyz\"}\n"
                              "{\"instruction\": \"b\", \"output\": \"uvwuvwuvwuvw\"}\n");

    t = open_tokenizer(BOS_ONLY);
    CU_ASSERT_EQUAL(esp_samples_load(&s, tokens, NULL, t, how, POSITIONS, 'b'), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "vocabulary has 98"));
    esp_tokenizer_free(t);
    notes = write_file("tokenizer.json",
                       "{\"decoder\": {\"type\": \"Fuse\"}, \"model\": {\"vocab\": {\"<s>\": 1,"
                       " \"</s>\": 2}, \"merges\": []}}");
    CU_ASSERT_EQUAL(esp_tokenizer_open(&t, dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_samples_load(&s, tokens, NULL, t, how, POSITIONS, VOCAB), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "another tokenizer"));
    esp_tokenizer_free(t);
    free(notes);
    notes = write_file("no.h5", "text");
    s.n = 7; /* of an earlier use: a failure leaves nothing to free */
    CU_ASSERT_NOT_EQUAL(esp_samples_load(&s, notes, NULL, NULL, how, POSITIONS, VOCAB), ESP_OK);
    CU_ASSERT_EQUAL(s.n, 0);
    free(notes);
    free(tokens);
    free(dir);
}

/* ---- mixes ----------------------------------------------------------------------------------------- */

/* Texts of samples whose only target is the number of the text, with `tokens` that name the sample. */
static void make_texts(esp_samples *of, const size_t *n, size_t n_texts)
{
    for (size_t i = 0; i < n_texts; i++) {
        of[i] = (esp_samples){ 0 };
        for (size_t j = 0; j < n[i]; j++) {
            int32_t ids[] = { (int32_t)j, (int32_t)i };

            esp_samples_add(&of[i], ids, NULL, 2);
        }
    }
}

static void mixes(void)
{
    static const double weight[] = { 3, 1, 0.5 };
    static const size_t n[] = { 40, 40, 2 };
    size_t take[3], taken[3], again[3], seen[3] = { 0 };
    esp_samples of[3], mix, same, other;
    bool used[40] = { false };

    make_texts(of, n, 3);
    esp_mix_counts(take, weight, 3, 9);
    CU_ASSERT(take[0] == 6 && take[1] == 2 && take[2] == 1);
    esp_samples_mix(&mix, taken, of, weight, 3, 9, 1);
    CU_ASSERT(mix.n == 9 && memcmp(take, taken, sizeof take) == 0);
    for (size_t k = 0; k < mix.n; k++) { /* never a sample or more away from its share */
        size_t text = (size_t)mix.targets[2 * k];

        CU_ASSERT_EQUAL(mix.ids[2 * k], (int32_t)seen[text]); /* in their order */
        seen[text]++;
        for (size_t i = 0; i < 3; i++) {
            CU_ASSERT(fabs((double)seen[i] - (double)(k + 1) * weight[i] / 4.5) < 1);
        }
    }
    esp_samples_free(&mix);

    /* to the end of the third text, the same by the same seed, no sample twice */
    esp_samples_mix(&mix, taken, of, weight, 3, 0, 1);
    esp_samples_mix(&same, again, of, weight, 3, 0, 1);
    esp_samples_mix(&other, again, of, weight, 3, 0, 2);
    CU_ASSERT(taken[2] == 2 && taken[0] + taken[1] + 2 == mix.n && mix.n < 27);
    CU_ASSERT(memcmp(taken, again, sizeof taken) == 0);
    CU_ASSERT(memcmp(mix.ids, same.ids, 2 * mix.n * sizeof *mix.ids) == 0);
    CU_ASSERT(memcmp(mix.ids, other.ids, 2 * mix.n * sizeof *mix.ids) != 0);
    for (size_t k = 0; k < mix.n; k++) {
        if (mix.targets[2 * k] == 0) {
            CU_ASSERT(!used[mix.ids[2 * k]]);
            used[mix.ids[2 * k]] = true;
        }
    }
    esp_samples_free(&mix);
    esp_samples_free(&same);
    esp_samples_free(&other);
    for (size_t i = 0; i < 3; i++) {
        esp_samples_free(&of[i]);
    }
}

/* ---- shared data ----------------------------------------------------------------------------------- */

static void shared_corpora(void)
{
    static const struct {
        const char *below;
        size_t n;
        bool instructions;
    } files[] = { { "text/stories-valid.jsonl", 130, false },
                  { "text/wikitext2-test.txt", 1, false },
                  { "text/alpaca_en_demo.json", 999, true } };

    for (size_t i = 0; i < COUNT(files); i++) {
        char *path = esp_test_shared(files[i].below);
        esp_corpus c = { 0 };

        if (path) {
            CU_ASSERT_EQUAL(esp_corpus_read(&c, path, NULL), ESP_OK);
            CU_ASSERT_EQUAL(c.n, files[i].n);
            CU_ASSERT_EQUAL(c.instructions, files[i].instructions);
            esp_corpus_free(&c);
        }
        free(path);
    }
}

ESP_TEST_MAIN("corpus", { "plain text", plain_text }, { "objects", objects }, { "Alpaca", alpaca },
              { "refused corpora", refused_corpora }, { "windows", windows },
              { "one sample a document", cut_documents }, { "random windows", random_windows },
              { "random windows use all documents", random_uses_all },
              { "refused samples", refused_samples }, { "files of ids", id_lines },
              { "token files", token_files }, { "mixes", mixes },
              { "shared corpora", shared_corpora })
