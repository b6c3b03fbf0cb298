/* unit_questions.c - rows of data sets as questions: each published form, and what is none. */
#include "espalier/bytes.h"
#include "espalier/file.h"
#include "espalier/mem.h"
#include "espalier/questions.h"
#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void says(const char *part)
{
    if (!strstr(esp_error_message(), part)) {
        printf("  \"%s\" is not in \"%s\"\n", part, esp_error_message());
        CU_FAIL("message");
    }
}

/* ---- rows ------------------------------------------------------------------------------------------ */

#define MMLU                                                                                    \
    "The following are multiple choice questions (with answers) about high school physics.\n\n" \
    "What is\n it?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
#define ARC     "Question: Why is it so?\nAnswer:"
#define LETTERS " A", " B", " C", " D"

/* What the definitions of lm-evaluation-harness make of a row: description and context, continuations. */
static const struct good {
    const char *kind, *row;
    size_t gold;
    const char *context, *continuation[4];
    size_t characters[2]; /* of the first two choices; bytes where that is not the same */
} rows[] = {
    { "boolq",
      "{\"question\": \"is it so\", \"passage\": \"It is.\", \"idx\": 0, \"label\": true}",
      1,
      "It is.\nQuestion: is it so?\nAnswer:",
      { " no", " yes" },
      { 2, 3 } },
    { "boolq",
      "{\"question\": \"is it so\", \"passage\": \"It is.\", \"label\": 0}",
      0,
      "It is.\nQuestion: is it so?\nAnswer:",
      { " no", " yes" },
      { 2, 3 } },
    { "boolq",
      "{\"question\": \"is it\", \"title\": \"It\", \"answer\": false, \"passage\": \"It is.\"}",
      0,
      "It is.\nQuestion: is it?\nAnswer:",
      { " no", " yes" },
      { 2, 3 } },
    { "piqa",
      "{\"goal\": \"Open it\", \"sol1\": \"pull\", \"sol2\": \"na\\u00efve\", \"label\": 1}",
      1,
      "Question: Open it\nAnswer:",
      { " pull", " na\xC3\xAFve" },
      { 4, 5 } },
    { "hellaswag",
      "{\"activity_label\": \"Baking\", \"ctx_a\": \" [header] How to bake [title] Mix  it.\", "
      "\"ctx_b\": \"a MAN in \\u00c9vreux\", \"label\": \"2\", \"endings\": [\"mixes. [substeps] "
      "Then\", \" bakes [title] it\", \"waits   \", \"[a [b] c]\"]}",
      2,
      "Baking:  How to bake. Mix it. A man in \xC3\xA9vreux",
      { " mixes. Then", " bakes. it", " waits", "  c]" },
      { 11, 9 } },
    { "winogrande",
      "{\"sentence\": \"Ann saw Bea because _ looked up. _\", \"option1\": \"Ann\", \"option2\": "
      "\"Bea\", \"answer\": \"2\"}",
      1,
      "Ann saw Bea because Ann|Ann saw Bea because Bea",
      { " looked up. _", " looked up. _" },
      { 23, 23 } },
    { "arc_easy",
      "{\"id\": \"1\", \"question\": {\"stem\": \"Why is it so?\", \"choices\": [{\"text\": \"x\", "
      "\"label\": \"A\"}, {\"text\": \"yy\", \"label\": \"B\"}, {\"text\": \"z\", \"label\": "
      "\"C\"}]}, \"answerKey\": \"C\"}",
      2,
      ARC,
      { " x", " yy", " z" },
      { 1, 2 } },
    { "arc_challenge",
      "{\"question\": \"Why is it so?\", \"choices\": {\"text\": [\"x\", \"yy\"], \"label\": "
      "[\"1\", \"2\"]}, \"answerKey\": \"1\"}",
      0,
      ARC,
      { " x", " yy" },
      { 1, 2 } },
    { "openbookqa",
      "{\"question_stem\": \"It is\", \"choices\": {\"text\": [\"x\", \"yy\"], \"label\": [\"A\", "
      "\"B\"]}, \"answerKey\": \" B\"}",
      1,
      "It is",
      { " x", " yy" },
      { 1, 2 } },
    { "openbookqa",
      "{\"question\": {\"stem\": \"It is\", \"choices\": [{\"text\": \"x\", \"label\": \"A\"}, "
      "{\"text\": \"yy\", \"label\": \"B\"}]}, \"answerKey\": \"A\"}",
      0,
      "It is",
      { " x", " yy" },
      { 1, 2 } },
    { "mmlu",
      "{\"question\": \" What is\\n it? \", \"subject\": \"high_school_physics\", \"choices\": "
      "[\"1\", \"2\", \"3\", \"4\"], \"answer\": 3}",
      3,
      MMLU,
      { LETTERS },
      { 1, 1 } },
    { "question",
      "{\"query\": \"Is it?\", \"choices\": [\"no\", \"yes\"], \"gold\": 1}",
      1,
      "Is it?\nAnswer:",
      { " no", " yes" },
      { 2, 3 } },
    { "query",
      "{\"query\": \"It\", \"choices\": [\"is\", \"was\"], \"gold\": 0}",
      0,
      "It",
      { " is", " was" },
      { 2, 3 } },
};

static esp_status make(esp_question *q, const char *kind, const char *text)
{
    json_t *value = json_loads(text, 0, NULL);
    esp_row row = { .value = value, .path = "a/file.jsonl", .kind = "line", .number = 7 };
    esp_status st;

    CU_ASSERT_PTR_NOT_NULL_FATAL(value);
    *q = (esp_question){ 0 };
    st = esp_question_kind_find(kind)->make(q, &row);
    json_decref(value);
    return st;
}

/* The part of a list "a|b" that is number i; all of it where there is one. The caller frees. */
static char *part_of(const char *list, size_t i)
{
    for (; i > 0 && strchr(list, '|'); i--) {
        list = strchr(list, '|') + 1;
    }
    return esp_format("%.*s", esp_count(strcspn(list, "|")), list);
}

static void check_question(const struct good *g, const esp_question *q)
{
    CU_ASSERT_EQUAL(q->gold, g->gold);
    for (size_t i = 0; i < q->n; i++) {
        char *context =
            esp_format("%s%s", q->description ? q->description : "", q->choice[i].context);
        char *wanted = part_of(g->context, i);

        CU_ASSERT_STRING_EQUAL(context, wanted);
        CU_ASSERT_PTR_NOT_NULL_FATAL(g->continuation[i]);
        CU_ASSERT_STRING_EQUAL(q->choice[i].continuation, g->continuation[i]);
        if (i < 2) {
            CU_ASSERT_EQUAL(q->choice[i].characters, g->characters[i]);
            CU_ASSERT_EQUAL(q->choice[i].bytes, strlen(q->choice[i].continuation) - 1 +
                                                    (strcmp(g->kind, "winogrande") == 0 ? 11 : 0));
        }
        free(context);
        free(wanted);
    }
    CU_ASSERT(q->n == 4 || !g->continuation[q->n]);
}

static void test_rows(void)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        esp_question q;

        CU_ASSERT_EQUAL(make(&q, rows[i].kind, rows[i].row), ESP_OK);
        check_question(&rows[i], &q);
        esp_question_free(&q);
        esp_question_free(&q);
    }
}

static const struct bad {
    const char *kind, *row, *part;
} bad_rows[] = {
    { "boolq", "{\"passage\": \"\", \"label\": 1}", "line 7: question: missing" },
    { "boolq", "{\"passage\": \"\", \"question\": \"\", \"label\": 2}", "line 7: label: 2" },
    { "boolq", "{\"passage\": \"\", \"question\": \"\"}", "line 7: answer: missing" },
    { "piqa", "{\"goal\": 1, \"sol1\": \"\", \"sol2\": \"\"}", "line 7: goal: 1" },
    { "piqa", "{\"goal\": \"\", \"sol1\": \"\", \"sol2\": \"\", \"label\": -1}", "label: -1" },
    { "hellaswag",
      "{\"activity_label\": \"\", \"ctx_a\": \"\", \"ctx_b\": \"\", \"endings\": [\"a\"], "
      "\"label\": 0}",
      "endings" },
    { "hellaswag",
      "{\"activity_label\": \"\", \"ctx_a\": \"\", \"ctx_b\": \"\", \"endings\": [\"a\", 2], "
      "\"label\": 0}",
      "endings: 2" },
    { "hellaswag",
      "{\"activity_label\": \"\", \"ctx_a\": \"\", \"ctx_b\": \"\", \"endings\": [\"a\", \"b\"], "
      "\"label\": \"\"}",
      "label: \"\"" },
    { "winogrande",
      "{\"sentence\": \"none\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"1\"}",
      "sentence: \"none\"" },
    { "winogrande",
      "{\"sentence\": \"_\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"0\"}",
      "answer: \"0\"" },
    { "arc_easy", "{\"question\": \"a\", \"choices\": [], \"answerKey\": \"A\"}", "choices: []" },
    { "arc_easy",
      "{\"question\": \"a\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\"]}, "
      "\"answerKey\": \"A\"}",
      "choices: {" },
    { "arc_easy",
      "{\"question\": \"a\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", \"B\"]}, "
      "\"answerKey\": \"E\"}",
      "answerKey: \"E\"" },
    { "openbookqa", "{\"question\": {\"choices\": []}, \"answerKey\": \"A\"}", "stem: missing" },
    { "mmlu", "[\"q\", \"a\", \"b\", \"c\", \"A\"]", "has 5 fields" },
    { "mmlu", "[\"q\", \"a\", \"b\", \"c\", \"d\", \"E\"]", "field 6: \"E\"" },
    { "mmlu", "{\"question\": \"\", \"choices\": [\"a\", \"b\", \"c\", \"d\"], \"answer\": 0}",
      "subject: missing" },
    { "question", "{\"query\": \"\", \"choices\": [\"a\", \"b\"], \"gold\": 2}", "gold: 2" },
    { "question", "{\"query\": \"\", \"choices\": [\"a\", \"b\"], \"gold\": \"x\"}",
      "gold: \"x\"" },
    { "query", "{\"query\": \"a\\u0000b\", \"choices\": [\"a\", \"b\"], \"gold\": 0}", "query: " },
};

static void test_refused_rows(void)
{
    for (size_t i = 0; i < COUNT(bad_rows); i++) {
        json_t *value = json_loads(bad_rows[i].row, JSON_ALLOW_NUL, NULL);
        esp_row row = { .value = value, .path = "a/file.jsonl", .kind = "line", .number = 7 };
        esp_question q = { 0 };

        CU_ASSERT_EQUAL(esp_question_kind_find(bad_rows[i].kind)->make(&q, &row), ESP_EFORMAT);
        says("a/file.jsonl: line 7: ");
        says(bad_rows[i].part);
        esp_error_clear();
        esp_question_free(&q);
        json_decref(value);
    }
    CU_ASSERT_PTR_NULL(esp_question_kind_find("none"));
}

/* ---- files ----------------------------------------------------------------------------------------- */

/* Writes a file of this test's folder; the caller frees its path. */
static char *write_file(const char *name, const char *text)
{
    char *dir = esp_test_dir("questions"), *path = esp_path(dir, name);

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    free(dir);
    return path;
}

/* Rows as one line of JSON each, with their numbers before. */
static esp_status note_row(void *ctx, const esp_row *row)
{
    char *text = json_dumps(row->value, JSON_COMPACT | JSON_ENCODE_ANY);
    char *line = esp_format("%zu %s\n", row->number, text);

    esp_bytes_add(ctx, line, strlen(line));
    free(text);
    free(line);
    return ESP_OK;
}

static void check_file(const char *name, const char *text, const char *wanted)
{
    char *path = write_file(name, text);
    esp_byte_string seen = { 0 };
    esp_status st = esp_rows_read(path, note_row, &seen);

    if (wanted) {
        CU_ASSERT_EQUAL(st, ESP_OK);
        esp_bytes_add(&seen, "", 1);
        CU_ASSERT_STRING_EQUAL(seen.data, wanted);
    } else {
        CU_ASSERT_EQUAL(st, ESP_EFORMAT);
        says(name);
        esp_error_clear();
    }
    esp_bytes_free(&seen);
    free(path);
}

static void test_files(void)
{
    check_file("a.jsonl", "{\"a\":1}\n\n [2]\n", "1 {\"a\":1}\n3 [2]\n");
    check_file("a.json", " [{\"a\":1},\n{}]", "0 {\"a\":1}\n1 {}\n");
    check_file("b.json", "{\"a\":1}\n{}", "1 {\"a\":1}\n2 {}\n");
    check_file("a.csv", "a,\"b,\"\"c\"\"\",d\r\n\"two\nlines\",,x\nlast,",
               "1 [\"a\",\"b,\\\"c\\\"\",\"d\"]\n"
               "2 [\"two\\nlines\",\"\",\"x\"]\n"
               "4 [\"last\",\"\"]\n");
    check_file("b.csv", "a,\"b\nc\n", NULL);
    check_file("bad.jsonl", "{\"a\":1}\n{\n", NULL);
    check_file("a.parquet", "{}", NULL);
}

/* ---- ids ------------------------------------------------------------------------------------------- */

/* Of stories260K; NULL, after a message, when that is not here. */
static esp_tokenizer *open_tokenizer(void)
{
    char *path = esp_test_shared("models/stories260K/config.json");
    esp_tokenizer *t = NULL;

    if (path) {
        *strrchr(path, '/') = '\0';
        CU_ASSERT_EQUAL_FATAL(esp_tokenizer_open(&t, path), ESP_OK);
    }
    free(path);
    return t;
}

static esp_status load(esp_questions *q, const char *kind, esp_asking how, const esp_tokenizer *t,
                       size_t max_positions)
{
    return esp_questions_load(q, "name", esp_question_kind_find(kind), &how, t, max_positions, 512);
}

/* A sample is the ids of the text up to the last one, with targets behind those of the context. */
static void check_sample(const esp_questions *q, size_t c, const esp_tokenizer *t,
                         const char *context, const char *continuation)
{
    char *text = esp_format("%s%s", context, continuation);
    size_t at = q->samples.start[c], n = q->samples.start[c + 1] - at;
    esp_ids before = { 0 }, whole = { 0 };

    CU_ASSERT_EQUAL(esp_tokenizer_encode(t, &before, context, strlen(context), true), ESP_OK);
    CU_ASSERT_EQUAL(esp_tokenizer_encode(t, &whole, text, strlen(text), true), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(n, whole.n - 1);
    for (size_t i = 0; i < n; i++) {
        CU_ASSERT_EQUAL(q->samples.ids[at + i], whole.id[i]);
        CU_ASSERT_EQUAL(q->samples.targets[at + i],
                        i + 1 < before.n ? ESP_NO_TARGET : whole.id[i + 1]);
    }
    esp_ids_free(&before);
    esp_ids_free(&whole);
    free(text);
}

static const char three[] =
    "{\"query\": \"Once upon \", \"choices\": [\"a time\", \"the sea\"], \"gold\": 0}\n"
    "{\"query\": \"Lily saw\", \"choices\": [\"a cat\", \"the\", \"a dog\"], \"gold\": 2}\n"
    "{\"query\": \"\", \"choices\": [\"Tim\", \"Ben\"], \"gold\": 1}\n";

static void test_ids(void)
{
    char *path = write_file("three.jsonl", three);
    esp_questions q;
    esp_tokenizer *t = open_tokenizer();
    size_t longest;

    if (!t) {
        free(path);
        return;
    }
    CU_ASSERT_EQUAL_FATAL(load(&q, "query", (esp_asking){ .path = path }, t, 512), ESP_OK);
    CU_ASSERT_EQUAL(q.n, 3);
    CU_ASSERT_EQUAL(q.first[1], 2);
    CU_ASSERT_EQUAL(q.first[2], 5);
    CU_ASSERT_EQUAL(q.first[3], 7);
    CU_ASSERT_EQUAL(q.gold[1], 2);
    check_sample(&q, 1, t, "Once upon", "  the sea"); /* the blank goes over */
    check_sample(&q, 4, t, "Lily saw", " a dog");
    CU_ASSERT_EQUAL(q.samples.ids[q.samples.start[5]], esp_tokenizer_bos(t)); /* of nothing */
    CU_ASSERT_NOT_EQUAL(q.samples.targets[q.samples.start[5]], ESP_NO_TARGET);
    longest = esp_samples_longest(&q.samples);
    esp_questions_free(&q);

    CU_ASSERT_EQUAL_FATAL(
        load(&q, "query", (esp_asking){ .path = path, .limit = 2 }, t, longest - 1), ESP_OK);
    CU_ASSERT_EQUAL(q.n, 2);
    CU_ASSERT_EQUAL(esp_samples_longest(&q.samples), longest - 1); /* the first token goes */
    CU_ASSERT_NOT_EQUAL(q.samples.targets[q.samples.start[2] - 1], ESP_NO_TARGET);
    esp_questions_free(&q);
    CU_ASSERT_EQUAL(load(&q, "query", (esp_asking){ .path = path }, t, 1), ESP_EFORMAT);
    says("three.jsonl: question 1: choice 1: has");
    esp_error_clear();
    esp_tokenizer_free(t);
    free(path);
}

static void test_examples(void)
{
    char *path = write_file("three.jsonl", three);
    esp_asking how = { .path = path, .examples = path, .shots = 2, .limit = 2 };
    esp_questions q;
    esp_tokenizer *t = open_tokenizer();

    if (!t) {
        free(path);
        return;
    }
    CU_ASSERT_EQUAL_FATAL(load(&q, "question", how, t, 512), ESP_OK);
    check_sample(
        &q, 3, t,
        "Once upon \nAnswer: a time\n\nLily saw\nAnswer: a dog\n\nLily saw\nAnswer:", " the");
    esp_questions_free(&q);
    how.shots = 4;
    CU_ASSERT_EQUAL(load(&q, "question", how, t, 512), ESP_EUSAGE);
    says("has 3 examples, and eval.shots is 4");
    esp_error_clear();
    esp_tokenizer_free(t);
    free(path);
}

/* PIQA's labels are in a file beside that of the questions; examples of MMLU are those of its subject. */
static void test_beside(void)
{
    static const char goals[] = "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\"}\n"
                                "{\"goal\": \"d\", \"sol1\": \"e\", \"sol2\": \"f\"}\n";
    char *path = write_file("valid.jsonl", goals), *labels;
    esp_questions q;
    esp_tokenizer *t = open_tokenizer();

    if (!t) {
        free(path);
        return;
    }
    CU_ASSERT_EQUAL(load(&q, "piqa", (esp_asking){ .path = path }, t, 512), ESP_EFORMAT);
    says("valid-labels.lst is not there");
    labels = write_file("valid-labels.lst", "1\n2\n");
    CU_ASSERT_EQUAL(load(&q, "piqa", (esp_asking){ .path = path }, t, 512), ESP_EFORMAT);
    says("valid-labels.lst: line 2");
    free(labels);
    labels = write_file("valid-labels.lst", "1\n0\n");
    CU_ASSERT_EQUAL_FATAL(load(&q, "piqa", (esp_asking){ .path = path }, t, 512), ESP_OK);
    CU_ASSERT_EQUAL(q.gold[0], 1);
    CU_ASSERT_EQUAL(q.gold[1], 0);
    esp_questions_free(&q);
    free(labels);
    free(path);
    path = write_file("some_thing_test.csv", "q,1,2,3,4,B\n");
    labels = write_file("some_thing_dev.csv", "r,1,2,3,4,C\n");
    CU_ASSERT_EQUAL_FATAL(
        load(&q, "mmlu", (esp_asking){ .path = path, .examples = labels, .shots = 1 }, t, 512),
        ESP_OK);
    check_sample(&q, 1, t,
                 "The following are multiple choice questions (with answers) about some thing.\n\n"
                 "r\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: C\n\nq\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
                 " B");
    esp_questions_free(&q);
    esp_error_clear();
    esp_tokenizer_free(t);
    free(labels);
    free(path);
}

ESP_TEST_MAIN("questions", { "rows", test_rows }, { "refused rows", test_refused_rows },
              { "files", test_files }, { "ids", test_ids }, { "examples", test_examples },
              { "files beside", test_beside })
