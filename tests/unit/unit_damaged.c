/* unit_damaged.c - what the program reads, damaged in thousands of ways, the same ones in each run: it is
 * refused, or read as something else, but nothing crashes, hangs or asks for more memory than there is. */
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "espalier/exporters.h"
#include "espalier/checkpoint.h"
#include "espalier/config.h"
#include "espalier/corpus.h"
#include "espalier/importance.h"
#include "espalier/io.h"
#include "espalier/peft.h"
#include "espalier/rng.h"
#include "espalier/safetensors.h"
#include "espalier/tokenizer.h"
#include "plan_subject.h"
#include "run/run_dir_impl.h"
#include "text/samples_impl.h"

enum { MUTANTS = 600, SECONDS = 60 };

/* ---- mutants ---- */

typedef struct bytes {
    char *data; /* [room] owned */
    size_t n, room;
} bytes;

/* Room for n bytes more. */
static char *grow(bytes *b, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n);
        b->data = esp_grow(b->data, b->room, 1);
    }
    return b->data;
}

static void replace(bytes *b, size_t at, size_t n_old, const void *text, size_t n_new)
{
    grow(b, n_new);
    memmove(b->data + at + n_new, b->data + at + n_old, b->n - at - n_old);
    memcpy(b->data + at, text, n_new);
    b->n += n_new - n_old;
}

/* Another number in the place of one that is there, in text; or another value. */
static void other_value(bytes *b, esp_rng *r, size_t at)
{
    static const char *const values[] = { "0",
                                          "-1",
                                          "1",
                                          "255",
                                          "65536",
                                          "2147483648",
                                          "4294967297",
                                          "1152921504606846976",
                                          "9223372036854775807",
                                          "-9223372036854775808",
                                          "18446744073709551616",
                                          "1e308",
                                          "-0.5",
                                          "null",
                                          "true",
                                          "{}",
                                          "[]",
                                          "\"\"",
                                          "\"x\"",
                                          "[[[[[[[[]]]]]]]]" };
    const char *value = values[esp_rng_below(r, sizeof values / sizeof *values)];
    size_t end;

    while (at < b->n && !strchr("0123456789", b->data[at])) {
        at++;
    }
    for (end = at; end < b->n && strchr("0123456789.eE+-", b->data[end]); end++) {
    }
    replace(b, at, end - at, value, strlen(value));
}

/* A length or offset of 8 bytes, or one of 4. */
static void other_length(bytes *b, esp_rng *r, size_t at)
{
    static const uint64_t values[] = { 0,
                                       1,
                                       UINT64_MAX,
                                       INT64_MAX,
                                       UINT64_C(1) << 60,
                                       UINT64_C(1) << 32,
                                       UINT64_C(1) << 31,
                                       UINT64_C(1) << 20 };
    uint64_t value = values[esp_rng_below(r, sizeof values / sizeof *values)];
    size_t size = esp_rng_below(r, 2) ? 8 : 4;

    at = esp_rng_below(r, 8) ? at & ~(size_t)7 : 0;
    replace(b, at, esp_min(size, b->n - at), &value, size);
}

static void mutate_once(bytes *b, esp_rng *r)
{
    size_t at = esp_rng_below(r, b->n), n = esp_min(b->n - at, 1 + esp_rng_below(r, 40));
    char piece[40], byte = (char)esp_rng_next(r);

    memcpy(piece, b->data + at, n);
    switch (esp_rng_below(r, 9)) {
    case 0: /* a bit */
        b->data[at] ^= (char)(1 << esp_rng_below(r, 8));
        break;
    case 1:
        replace(b, at, 1, &byte, 1);
        break;
    case 2: /* lost */
        replace(b, at, n, "", 0);
        break;
    case 3: /* twice */
        replace(b, at, 0, piece, n);
        break;
    case 4: /* elsewhere */
        replace(b, esp_rng_below(r, b->n - n + 1), n, piece, n);
        break;
    case 5: /* zeros */
        memset(b->data + at, 0, n);
        break;
    case 6:
        b->n = esp_rng_below(r, 4) ? b->n : at + 1; /* cut short, not too often */
        break;
    case 7:
        other_length(b, r, at);
        break;
    default:
        other_value(b, r, at);
    }
    if (b->n == 0) {
        replace(b, 0, 0, "x", 1);
    }
}

static void put(const char *path, const bytes *b)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    ESP_REQUIRE(fd >= 0 && esp_write_at(fd, b->data, b->n, 0) == 0);
    close(fd);
}

/* The first n bytes mutated, and the rest behind them. */
static void mutate(bytes *b, const bytes *whole, size_t n, uint64_t number)
{
    esp_rng r = { .key = esp_rng_key(whole->n, number, 1) };

    b->n = 0;
    memcpy(grow(b, n), whole->data, n);
    b->n = n;
    for (size_t k = esp_rng_below(&r, 3) + 1; k > 0; k--) {
        mutate_once(b, &r);
    }
    replace(b, b->n, 0, whole->data + n, whole->n - n);
}

/* Hands mutants of the first n_damaged bytes of the file to read_it, which says whether it took the file;
 * afterwards the file is as it was. sealed: no other file than the whole one is taken. */
static void damage(const char *path, size_t n_damaged, size_t n_mutants, bool sealed,
                   bool (*read_it)(void *ctx), void *ctx)
{
    const char *more = getenv("DAMAGED_MORE"); /* times as many, for a long look */
    bytes whole = { 0 }, b = { 0 };
    size_t refused = 0, same = 0;

    CU_ASSERT_EQUAL_FATAL(esp_file_read(&whole.data, &whole.n, path), ESP_OK);
    CU_ASSERT(read_it(ctx)); /* else the mutants show nothing */
    n_mutants *= more ? strtoul(more, NULL, 10) : 1;
    for (size_t i = 0; i < n_mutants; i++) {
        bool is_same, taken;

        mutate(&b, &whole, esp_min(n_damaged, whole.n), i);
        put(path, &b);
        alarm(SECONDS); /* for a mutant that hangs; it is in the file */
        taken = read_it(ctx);
        alarm(0);
        is_same = b.n == whole.n && memcmp(b.data, whole.data, b.n) == 0;
        CU_ASSERT(!is_same || taken);
        CU_ASSERT(!sealed || is_same == taken);
        same += is_same;
        refused += !taken;
        esp_error_clear();
    }
    put(path, &whole);
    printf("  %s: %zu mutants, %zu refused, %zu not damaged\n", strrchr(path, '/') + 1, n_mutants,
           refused, same);
    free(whole.data);
    free(b.data);
}

/* No mutant gets more memory than this; agreed messages of thousands of files are for nobody. */
static void limit_memory(void)
{
#ifndef __SANITIZE_ADDRESS__
    struct rlimit limit;

    CU_ASSERT_EQUAL(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = (rlim_t)4 << 30;
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
#endif
    CU_ASSERT_PTR_NOT_NULL(freopen("/dev/null", "w", stderr));
}

/* ---- HDF5 ---- */

static bool read_tokens(void *path)
{
    esp_tokens k;
    bool taken = esp_tokens_read(&k, path, NULL) == ESP_OK;

    if (taken) {
        CU_ASSERT(k.start[0] == 0 && k.start[k.n] >= 0);
        for (size_t i = 0; i < k.n; i++) {
            CU_ASSERT(k.start[i] <= k.start[i + 1] && k.prompt[i] >= 0);
            CU_ASSERT(k.prompt[i] <= k.start[i + 1] - k.start[i]);
        }
        esp_tokens_free(&k);
    }
    return taken;
}

static void write_tokens(const char *path, size_t n_ids, size_t n, const int64_t *start,
                         const int64_t *prompt)
{
    static const int32_t ids[] = { 5, 6, 7, 8, 9, 10 };
    size_t n_start = n + 1;
    esp_h5 f;

    CU_ASSERT_EQUAL_FATAL(esp_h5_create(&f, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_write(&f, "/ids", H5T_NATIVE_INT32, 1, &n_ids, ids), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_write(&f, "/start", H5T_NATIVE_INT64, 1, &n_start, start), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_write(&f, "/prompt", H5T_NATIVE_INT64, 1, &n, prompt), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_set_string(&f, "/", "tokenizer", "none"), ESP_OK);
    CU_ASSERT_EQUAL(esp_h5_close(&f, ESP_OK), ESP_OK);
}

static void test_tokens(void)
{
    static const int64_t start[] = { 0, 3, 6 }, prompt[] = { 1, 0 };
    char *dir = esp_test_fresh_dir("damaged"), *path = esp_path(dir, "tokens.h5");

    limit_memory();
    write_tokens(path, 6, 2, start, prompt);
    damage(path, SIZE_MAX, MUTANTS, true, read_tokens, path);
    free(path);
    free(dir);
}

/* Borders that no writer writes, in files whose digest is right. */
static void test_borders(void)
{
    static const int64_t values[] = { 0, 1, 3, 6, 7, -1, INT64_MIN, INT64_MAX, INT64_MIN + 1, 4 };
    enum { N = sizeof values / sizeof *values };
    char *dir = esp_test_fresh_dir("damaged"), *path = esp_path(dir, "borders.h5");
    size_t taken = 0;

    for (size_t i = 0; i < 120; i++) {
        esp_rng r = { .key = i };
        int64_t start[3], prompt[2];

        for (size_t k = 0; k < 5; k++) {
            int64_t value = values[esp_rng_below(&r, N)];

            *(k < 3 ? &start[k] : &prompt[k - 3]) = value;
        }
        start[0] = i % 2 ? 0 : start[0];
        start[2] = i % 2 ? 6 : start[2];
        write_tokens(path, 6, 2, start, prompt);
        taken += read_tokens(path);
    }
    CU_ASSERT(taken > 0 && taken < 40);
    esp_error_clear();
    free(path);
    free(dir);
}

typedef struct scored {
    subject x;
    char *path;
} scored;

static bool read_scores(void *ctx)
{
    scored *c = ctx;
    esp_scores s;
    bool taken = esp_scores_load(&s, &c->x.g, c->path, "digest") == ESP_OK;

    if (taken) {
        esp_scores_free(&s);
    }
    return taken;
}

static void test_scores(void)
{
    char *dir = esp_test_fresh_dir("damaged");
    esp_importance_options o = { .seed = 1 };
    scored c = { .path = esp_path(dir, "importance.h5") };

    subject_init(&c.x, &small);
    give_scores(&c.x, ESP_L1, ESP_SUM);
    c.x.scores.loss = NAN;
    CU_ASSERT_EQUAL(esp_scores_save(&c.x.scores, c.path, "digest", &o), ESP_OK);
    damage(c.path, SIZE_MAX, MUTANTS, true, read_scores, &c);
    subject_free(&c.x);
    free(c.path);
    free(dir);
}

enum { N_NUMBERS = 3000 };

static bool read_checkpoint(void *checkpoint)
{
    esp_training t;
    bool found;

    CU_ASSERT_EQUAL(esp_checkpoint_load(&found, &t, checkpoint, SIZE_MAX), ESP_OK);
    return found;
}

static void test_checkpoint(void)
{
    char *dir = esp_test_fresh_dir("checkpoints"), *path = esp_path(dir, "step-000007.h5");
    esp_params p = { .n = N_NUMBERS, .n_stages = 1 };
    esp_checkpoint c = { .dir = dir, .settings = "settings", .keep = 2, .params = &p };
    esp_grid grid;

    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    c.grid = &grid;
    ESP_NEW(p.value, N_NUMBERS);
    ESP_NEW(p.stage, 2);
    p.stage[1] = N_NUMBERS;
    esp_params_train(&p, NULL, 0, 1);
    CU_ASSERT_EQUAL(esp_checkpoint_begin(&c, &(esp_training){ .step = 7 }), ESP_OK);
    CU_ASSERT_EQUAL(esp_checkpoint_finish(&c), ESP_OK);
    damage(path, SIZE_MAX, MUTANTS, true, read_checkpoint, &c);
    esp_params_free(&p);
    esp_grid_free(&grid);
    free(path);
    free(dir);
}

/* ---- models ---- */

static bool read_tensors(void *path)
{
    esp_safetensors f;
    bool taken = esp_safetensors_open(&f, path) == ESP_OK;
    unsigned sum = 0;

    for (size_t i = 0; taken && i < f.n; i++) {
        for (size_t k = 0; k < f.tensors[i].n_bytes; k++) {
            sum += ((const unsigned char *)f.tensors[i].data)[k];
        }
    }
    if (taken) {
        esp_safetensors_close(&f);
    }
    return taken || sum == 1; /* they are read */
}

/* A folder with a copy of some files of another. */
static char *copy_folder(const char *name, const char *from, const char *const *files)
{
    char *dir = esp_test_fresh_dir(name);

    for (; *files; files++) {
        char *a = esp_path(from, *files), *b = esp_path(dir, *files);

        CU_ASSERT_EQUAL(esp_file_copy(b, a), ESP_OK);
        free(a);
        free(b);
    }
    return dir;
}

static void test_safetensors(void)
{
    static const char *const files[] = { "model.safetensors", NULL };
    char *dir = copy_folder("tensors", "tests/golden/qwen2", files);
    char *path = esp_path(dir, "model.safetensors"), *text;
    size_t n, n_header;

    CU_ASSERT_EQUAL_FATAL(esp_file_read(&text, &n, path), ESP_OK);
    n_header = 8 + (size_t)(unsigned char)text[0] + 256 * (size_t)(unsigned char)text[1];
    CU_ASSERT_FATAL(n_header < n);
    damage(path, n_header, MUTANTS, false, read_tensors, path);
    damage(path, 8, MUTANTS / 10, false, read_tensors, path);
    free(text);
    free(path);
    free(dir);
}

static bool read_model(void *dir)
{
    esp_model m;
    bool taken = esp_model_load(&m, dir, MPI_COMM_WORLD) == ESP_OK;

    if (taken) {
        esp_model_free(&m);
    }
    return taken;
}

static void test_config(void)
{
    static const char *const files[] = { "config.json", "model.safetensors", NULL };
    static const char *const models[] = { "qwen2",  "baichuan2", "bloom", "chatglm", "chatglm2",
                                          "gemma2", "opt",       "phi3",  "qwen3",   "dynamic" };

    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char *from = esp_path("tests/golden", models[i]), *dir = copy_folder("model", from, files);
        char *path = esp_path(dir, "config.json");

        damage(path, SIZE_MAX, MUTANTS / 3, false, read_model, dir);
        free(path);
        free(dir);
        free(from);
    }
}

static bool read_plan(void *ctx)
{
    scored *c = ctx;
    esp_plan p;
    bool taken = esp_plan_load(&p, &c->x.m, c->path) == ESP_OK;

    if (taken) {
        esp_dims d;

        esp_plan_dims(&d, &p, &c->x.m);
        free(d.layer);
        esp_plan_free(&p);
    }
    return taken;
}

static void test_plan(void)
{
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.5, .target_tokens = 64 };
    char *dir = esp_test_fresh_dir("damaged");
    scored c = { .path = esp_path(dir, "plan.json") };

    subject_init(&c.x, &small);
    CU_ASSERT_EQUAL(make(&c.x, &o), ESP_OK);
    CU_ASSERT_EQUAL(esp_plan_save(&c.x.p, &o, NULL, c.path), ESP_OK);
    damage(c.path, SIZE_MAX, MUTANTS, false, read_plan, &c);
    subject_free(&c.x);
    free(c.path);
    free(dir);
}

static bool read_run_dir(void *dir)
{
    esp_run_dir d;
    bool taken = esp_run_dir_open(&d, dir) == ESP_OK;

    if (taken) {
        esp_run_dir_record(&d, "score");
    }
    esp_run_dir_close(&d);
    return taken;
}

static void test_manifest(void)
{
    char *dir = esp_test_fresh_dir("manifest"), *path = esp_path(dir, "manifest.json");
    json_t *record = json_pack("{s:{s:i}, s:{s:s}, s:s, s:f}", "settings", "seed", 1, "inputs",
                               "model", "abc", "finished", "2026", "duration", 1.5);
    esp_run_dir d;

    CU_ASSERT_EQUAL_FATAL(esp_run_dir_open(&d, dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_run_dir_set_record(&d, "score", record), ESP_OK);
    esp_run_dir_close(&d);
    damage(path, SIZE_MAX, MUTANTS, false, read_run_dir, dir);
    free(path);
    free(dir);
}

/* ---- adapters, configurations, texts ---- */

typedef struct adapted {
    subject x;
    char *dir;
} adapted;

static bool read_adapter(void *ctx)
{
    adapted *c = ctx;
    esp_params p;
    esp_adapter a;
    bool taken = esp_peft_load(&p, &a, &c->x.m, c->dir, MPI_COMM_WORLD) == ESP_OK;

    if (taken) {
        esp_params_free(&p);
        esp_adapter_free(&a);
    }
    return taken;
}

static void test_adapter(void)
{
    char *root = esp_test_fresh_dir("adapters"), *path;
    adapted c = { .dir = esp_path(root, "adapter") };
    esp_params p;
    esp_adapter a;

    subject_init(&c.x, &small);
    esp_adapter_init(&a, &c.x.m, 2, 4);
    esp_params_lora(&p, &a, &c.x.m, UINT64_MAX, 1);
    CU_ASSERT_EQUAL(esp_adapter_save(esp_export_to(c.dir, "peft"), &a, &c.x.m, 0, MPI_COMM_WORLD),
                    ESP_OK);
    path = esp_path(c.dir, "adapter_config.json");
    damage(path, SIZE_MAX, MUTANTS, false, read_adapter, &c);
    free(path);
    path = esp_path(c.dir, "adapter_model.safetensors");
    damage(path, 4000, MUTANTS, false, read_adapter, &c);
    esp_params_free(&p);
    esp_adapter_free(&a);
    subject_free(&c.x);
    free(path);
    free(c.dir);
    free(root);
}

static bool read_settings(void *path)
{
    esp_config c;
    bool taken = esp_config_load(&c, path, NULL, 0) == ESP_OK;

    if (taken) {
        esp_config_free(&c);
    }
    return taken;
}

static bool read_corpus(void *path)
{
    esp_corpus c;
    bool taken = esp_corpus_read(&c, path, NULL) == ESP_OK;

    if (taken) {
        esp_corpus_free(&c);
    }
    return taken;
}

static void test_texts(void)
{
    static const struct {
        const char *name, *text;
        bool (*read_it)(void *path);
    } files[] = {
        { "my.cfg",
          "model = \"m\"; # as in the README\nprune: { ratio = 0.25; attention_layers = [\"0-1\"]; "
          "};\n"
          "recover = { steps = 100; learning_rate = 1e-4; };\n",
          read_settings },
        { "a.jsonl", "{\"text\": \"one \\u20ac\"}\n\n{\"text\": \"two\", \"n\": [1]}\n",
          read_corpus },
        { "a.json",
          "[{\"instruction\": \"add\", \"input\": \"1 2\", \"output\": \"3\"}, {\"instruction\": "
          "\"say\","
          " \"input\": \"\", \"output\": \"it\"}]",
          read_corpus },
        { "a.txt", "One.\n\nTwo caf\xc3\xa9s.<|endoftext|>Three.\r\n", read_corpus },
    };
    char *dir = esp_test_fresh_dir("texts");

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = esp_path(dir, files[i].name);

        CU_ASSERT_EQUAL(esp_file_write(path, files[i].text, strlen(files[i].text)), ESP_OK);
        damage(path, SIZE_MAX, MUTANTS, false, files[i].read_it, path);
        free(path);
    }
    free(dir);
}

/* ---- tokenizers ---- */

static const char words[] =
    "Once 12 caf\xc3\xa9s, \xe2\x82\xac 3.\n\n  <s>of  the\t\xf0\x9f\x99\x82 it's\xe2\x96\x81!";

static bool read_tokenizer(void *dir)
{
    esp_tokenizer *t;
    esp_ids ids = { 0 };
    bool taken = esp_tokenizer_open(&t, dir) == ESP_OK;
    char *text;

    if (taken && esp_tokenizer_encode(t, &ids, words, strlen(words), true) == ESP_OK &&
        esp_tokenizer_decode(t, &text, NULL, ids.id, ids.n, true) == ESP_OK) {
        free(text);
    }
    if (taken) {
        esp_tokenizer_free(t);
    }
    esp_ids_free(&ids);
    return taken;
}

static const char tokenizer_json[] =
    "{\"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"special\": true, \"lstrip\": true,"
    "\"rstrip\": false, \"normalized\": false, \"single_word\": false}],"
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", "
    "\"prepend\":"
    "\"\xe2\x96\x81\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\":"
    "\"\xe2\x96\x81\"}]}, \"pre_tokenizer\": null,"
    "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
    "{\"id\":"
    "\"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [],"
    "\"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}},"
    "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\":"
    "{\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\":"
    "\"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]},"
    "\"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true, "
    "\"byte_fallback\":"
    "false, \"merges\": [\"t h\", \"th e\", [\"o\", \"f\"]], \"vocab\": {\"<unk>\": 0, \"<s>\": 1,"
    "\"t\": 2, \"h\": 3, \"th\": 4, \"e\": 5, \"the\": 6, \"o\": 7, \"f\": 8, \"of\": 9,"
    "\"\xe2\x96\x81\": 10}}}";

static void test_tokenizer_json(void)
{
    char *dir = esp_test_fresh_dir("tokenizer"), *path = esp_path(dir, "tokenizer.json");

    CU_ASSERT_EQUAL(esp_file_write(path, tokenizer_json, strlen(tokenizer_json)), ESP_OK);
    damage(path, SIZE_MAX, 3 * MUTANTS, false, read_tokenizer, dir);
    free(path);
    free(dir);
}

/* Real ones, where they are. */
static void test_tokenizers(void)
{
    static const struct {
        const char *folder;
        const char *files[3];
        size_t mutants;
    } real[] = {
        { "models/tinystories656k-bf16", { "tokenizer.json" }, MUTANTS / 6 },
        { "models/stories260K", { "tokenizer.json" }, MUTANTS / 3 },
        { "models/stories260K", { "tokenizer.model" }, MUTANTS },
        { "models/stories260K", { "tokenizer_config.json", "tokenizer.model" }, MUTANTS / 2 },
    };

    for (size_t i = 0; i < sizeof real / sizeof *real; i++) {
        char *from = esp_test_shared(real[i].folder), *dir, *path;

        if (!from) {
            continue;
        }
        dir = copy_folder("real", from, real[i].files);
        path = esp_path(dir, real[i].files[0]);
        damage(path, SIZE_MAX, real[i].mutants, false, read_tokenizer, dir);
        free(path);
        free(dir);
        free(from);
    }
}

ESP_TEST_MAIN("damaged", { "token file", test_tokens }, { "borders", test_borders },
              { "importance", test_scores }, { "checkpoint", test_checkpoint },
              { "safetensors", test_safetensors }, { "config.json", test_config },
              { "plan.json", test_plan }, { "manifest.json", test_manifest },
              { "adapter", test_adapter }, { "texts", test_texts },
              { "tokenizer.json", test_tokenizer_json }, { "real tokenizers", test_tokenizers })
