/* unit_text.c - files of text, and those that are none: named by kind, or by the place of the first byte that
 * text does not have. */
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/corpus.h"
#include "espalier/file.h"
#include "espalier/kind.h"
#include "espalier/text.h"
#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Writes a file of this test's folder; the caller frees its path. */
static char *write_bytes(const char *name, const char *bytes, size_t n)
{
    char *dir = esp_test_dir("text"), *path = esp_path(dir, name);

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, bytes, n), ESP_OK);
    free(dir);
    return path;
}

static void says(const char *part)
{
    if (!strstr(esp_error_message(), part)) {
        printf("  \"%s\" is not in \"%s\"\n", part, esp_error_message());
        CU_FAIL("message");
    }
}

/* ---- kinds ----------------------------------------------------------------------------------------- */

#define BYTES(text) text, sizeof(text) - 1

/* How files of these kinds begin; the first bytes of real ones. */
static const struct {
    const char *bytes;
    size_t n;
    const char *kind; /* NULL: none */
} files[] = {
    { BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n"), "Git LFS" },
    { BYTES("\x1f\x8b\x08\0\0\0\0\0\0\3"), "gzip" },
    { BYTES("\x28\xb5\x2f\xfd\4\x58"), "zstd" },
    { BYTES("\xfd\x37zXZ\0\0\4"), "xz" },
    { BYTES("BZh91AY&SY\1\2"), "bzip2" },
    { BYTES("\4\"M\x18\x64\x40"), "lz4" },
    { BYTES("PK\3\4\x14\0\0\0"), "zip" },
    { BYTES("PAR1\x15\4\x15\x10"), "Parquet" },
    { BYTES("ARROW1\0\0\xff\xff\xff\xff"), "Arrow" },
    { BYTES("\xff\xff\xff\xff\xb0\0\0\0"), "Arrow stream" },
    { BYTES("FEA1\0\0\0\0"), "Feather" },
    { BYTES("%PDF-1.7\n%\xe2\xe3"), "PDF" },
    { BYTES("\x93NUMPY\1\0v\0"), "NumPy" },
    { BYTES("\x80\4\x95\x0c\0\0\0"), "pickle" },
    { BYTES("SQLite format 3\0\x10\0"), "SQLite" },
    { BYTES("\x89PNG\r\n\x1a\n"), "PNG" },
    { BYTES("\xff\xd8\xff\xe0\0\x10JFIF"), "JPEG" },
    { BYTES("GGUF\3\0\0\0"), "GGUF" },
    { BYTES("\x40\0\0\0\0\0\0\0{\"a\":{}}"), "safetensors" },
    { BYTES("\x89HDF\r\n\x1a\n\0"), "HDF5" },
    { BYTES("\xff\xfeh\0i\0"), "UTF-16" },
    { BYTES("\xfe\xff\0h\0i"), "UTF-16" },
    { BYTES("\xff\xfe\0\0h\0\0\0"), "UTF-32" },
    { BYTES("\0\0\xfe\xff\0\0\0h"), "UTF-32" },
    { BYTES("t\0w\0o\0\n\0w\0o\0r\0d\0s\0"), "UTF-16LE" },
    { BYTES("\0t\0w\0o\0\n\0w\0o\0r\0d\0s"), "UTF-16BE" },
    { BYTES("a\0\0\0\n\0\0\0"), "UTF-32LE" },
    { BYTES("\0\0\0a\0\0\0\n"), "UTF-32BE" },
    /* text that begins like a signature, and none */
    { BYTES(""), NULL },
    { BYTES("PAR1 is a receptor"), NULL },
    { BYTES("GGUF is a format"), NULL },
    { BYTES("BZh, he said"), NULL },
    { BYTES("version 1\n"), NULL },
    { BYTES("{\"text\": \"a\"}\n"), NULL },
    { BYTES("\1\0\2\0\3\0\4\0"), NULL }, /* numbers of 16 bits */
};

static void kinds(void)
{
    esp_corpus c;
    esp_samples s;

    for (size_t i = 0; i < COUNT(files); i++) {
        const esp_kind *kind = esp_kind_of(files[i].bytes, files[i].n);
        char *path = write_bytes("a.jsonl", files[i].bytes, files[i].n);

        if (!files[i].kind) {
            CU_ASSERT_PTR_NULL(kind);
        } else {
            CU_ASSERT_PTR_NOT_NULL(kind);
            CU_ASSERT_EQUAL(esp_corpus_read(&c, path, NULL), ESP_EFORMAT);
            says(files[i].kind);
            says(path);
            esp_error_clear();
            CU_ASSERT_EQUAL(esp_samples_read_ids(&s, path, 100, 100), ESP_EFORMAT);
            says(files[i].kind);
        }
        free(path);
    }
}

/* ---- places ---------------------------------------------------------------------------------------- */

static void bytes_that_are_no_text(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } cases[] = {
        { BYTES("one\ntwo\0three\n"), "line 2, byte offset 7: a 0 byte, which" },
        { BYTES("one\ntw\xf6\n"), "line 2, byte offset 6: 0xF6 is not UTF-8" },
        { BYTES("\n\ncaf\xc3"), "line 3, byte offset 5: 0xC3" },               /* cut off */
        { BYTES("12345678\xed\xa0\x80"), "line 1, byte offset 8: 0xED" },      /* a surrogate */
        { BYTES("1234567812345678\xc0\x80"), "line 1, byte offset 16: 0xC0" }, /* overlong */
        { BYTES("\xef\xbb\xbf"
                "a\xff"),
          "line 1, byte offset 4: 0xFF" }, /* the mark counts */
        { BYTES("{\"text\": \"a\"}\n{\"text\": \"\xe9t\xe9\"}\n"), "line 2, byte offset 24: 0xE9" },
        { BYTES("\1\0\2\0"), "line 1, byte offset 1: a 0 byte" },
    };
    char *text;
    size_t n;

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = write_bytes("a.jsonl", cases[i].bytes, cases[i].n);

        CU_ASSERT_EQUAL(esp_text_read(&text, &n, path), ESP_EFORMAT);
        CU_ASSERT_PTR_NULL(text);
        says(cases[i].says);
        free(path);
    }
}

/* Wherever the byte is in the words that are read at once. */
static void every_place(void)
{
    static const char bad[] = { '\0', '\x80', '\xff' };
    char bytes[40], *text;
    size_t n;

    for (size_t at = 0; at < 3 * sizeof bytes; at++) {
        char *path, *place = esp_format("byte offset %zu:", at / 3);

        memset(bytes, 'a', sizeof bytes);
        bytes[at / 3] = bad[at % 3];
        path = write_bytes("a.txt", bytes, sizeof bytes);
        CU_ASSERT_EQUAL(esp_text_read(&text, &n, path), ESP_EFORMAT);
        says(place);
        free(place);
        free(path);
    }
}

/* A mark at the beginning is none of the text; one further on is a character. */
static void byte_order_mark(void)
{
    static const char with[] = "\xef\xbb\xbf"
                               "one\n\xef\xbb\xbf"
                               "two";
    char *path = write_bytes("a.txt", BYTES(with)), *text;
    esp_samples s;
    esp_corpus c;
    size_t n;

    CU_ASSERT_EQUAL(esp_text_read(&text, &n, path), ESP_OK);
    CU_ASSERT_EQUAL(n, sizeof with - 4);
    CU_ASSERT_STRING_EQUAL(text, with + 3);
    free(text);
    free(path);

    path = write_bytes("a.json", BYTES("\xef\xbb\xbf[{\"text\": \"one\"}]"));
    CU_ASSERT_EQUAL(esp_corpus_read(&c, path, NULL), ESP_OK);
    CU_ASSERT_STRING_EQUAL(c.documents[0].text, "one");
    esp_corpus_free(&c);
    free(path);

    path = write_bytes("ids", BYTES("\xef\xbb\xbf"
                                    "7 8\n"));
    CU_ASSERT_EQUAL(esp_samples_read_ids(&s, path, 100, 100), ESP_OK);
    CU_ASSERT_EQUAL(s.ids[0], 7);
    esp_samples_free(&s);
    free(path);

    path = write_bytes("a.txt", BYTES("\xef\xbb\xbf")); /* nothing but the mark */
    CU_ASSERT_EQUAL(esp_corpus_read(&c, path, NULL), ESP_EFORMAT);
    says("empty");
    free(path);
}

/* What is no file at all; a pipe without a writer is not waited for. */
static void no_files(void)
{
    char *dir = esp_test_dir("text"), *pipe = esp_path(dir, "pipe"), *text;
    size_t n;

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_text_read(&text, &n, dir), ESP_EUSAGE);
    says("is a folder");
    CU_ASSERT_EQUAL(mkfifo(pipe, 0600), 0);
    CU_ASSERT_EQUAL(esp_text_read(&text, &n, pipe), ESP_EUSAGE);
    says("is a pipe");
    CU_ASSERT_EQUAL(esp_text_read(&text, &n, "/dev/null"), ESP_EUSAGE);
    says("not a regular file");
    unlink(pipe);
    free(pipe);
    free(dir);
}

/* Wrong fields are told with those that there are. */
static void wrong_fields(void)
{
    static const struct {
        const char *name, *text, *field, *says;
    } cases[] = {
        { "a.jsonl", "{\"text\": \"x\"}\n{\"prompt\": \"y\", \"id\": 3}", NULL,
          "line 2: no string \"text\", nor instruction and output; its fields are prompt, id" },
        { "a.NDJSON", "{\"text\": \"x\"}", "body", "line 1: no string \"body\"" },
        { "a.jsonl", "{}", NULL, "its fields are none" },
        { "a.jsonl", "[1]", NULL, "line 1: is not an object with a field \"text\"; an array" },
        { "a.jsonl", "{\"text\": \"\\ud800\"}", NULL, "line 1:" }, /* half a surrogate pair */
    };
    esp_corpus c;

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = write_bytes(cases[i].name, cases[i].text, strlen(cases[i].text));

        CU_ASSERT_EQUAL(esp_corpus_read(&c, path, cases[i].field), ESP_EFORMAT);
        says(cases[i].says);
        free(path);
    }
}

ESP_TEST_MAIN("text", { "kinds", kinds }, { "bytes that are no text", bytes_that_are_no_text },
              { "every place", every_place }, { "byte-order mark", byte_order_mark },
              { "no files", no_files }, { "wrong fields", wrong_fields })
