/* kind.c - signatures of files, and the two encodings of text that are told by their 0 bytes. */
#include "espalier/kind.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "espalier/mem.h"

#define TO_LINES  "write its text as JSON lines or plain text first"
#define NO_TEXT   "give a file of text"
#define TO_UTF8   "convert it to UTF-8 first, with iconv -f "
#define OF_MODELS "it belongs into a model folder, which the setting model names"

#define MAGIC(at, magic) at, sizeof(magic) - 1, magic

/* clang-format off */
static const struct signature {
    size_t at, n;
    const char *magic;
    esp_kind kind;
} signatures[] = {
    { MAGIC(0, "version https://git-lfs.github.com/spec/"),
      { "a Git LFS pointer, not the file itself", "run git lfs pull in its folder" } },
    { MAGIC(0, "version https://hawser.github.com/spec/"),
      { "a Git LFS pointer, not the file itself", "run git lfs pull in its folder" } },
    /* packed */
    { MAGIC(0, "\x1f\x8b"), { "a gzip file", "unpack it first, with gzip -d" } },
    { MAGIC(0, "\x1f\x9d"), { "a compress file", "unpack it first, with gzip -d" } },
    { MAGIC(0, "\x28\xb5\x2f\xfd"), { "a zstd file", "unpack it first, with zstd -d" } },
    { MAGIC(1, "\x2a\x4d\x18"), { "a zstd or lz4 file", "unpack it first, with zstd -d or lz4 -d" } },
    { MAGIC(0, "\xfd" "7zXZ\0"), { "an xz file", "unpack it first, with xz -d" } },
    { MAGIC(0, "\x5d\0\0"), { "an lzma file", "unpack it first, with xz -d" } },
    { MAGIC(0, "LZIP\1"), { "an lzip file", "unpack it first, with lzip -d" } },
    { MAGIC(4, "\x31\x41\x59\x26\x53\x59"), { "a bzip2 file", "unpack it first, with bzip2 -d" } },
    { MAGIC(4, "\x17\x72\x45\x38\x50\x90"), { "a bzip2 file", "unpack it first, with bzip2 -d" } },
    { MAGIC(0, "\x04\x22\x4d\x18"), { "an lz4 file", "unpack it first, with lz4 -d" } },
    { MAGIC(0, "\x02\x21\x4c\x18"), { "an lz4 file", "unpack it first, with lz4 -d" } },
    { MAGIC(0, "\xff\x06\0\0sNaPpY"), { "a snappy file", "unpack it first" } },
    { MAGIC(0, "PK\3\4"), { "a zip file (PyTorch's .pt, .npz and office documents are some, too)",
                            "unpack it first, with unzip, where it holds text" } },
    { MAGIC(0, "PK\5\6"), { "an empty zip file", NO_TEXT } },
    { MAGIC(0, "7z\xbc\xaf\x27\x1c"), { "a 7z file", "unpack it first, with 7z x" } },
    { MAGIC(0, "Rar!\x1a\x07"), { "a rar file", "unpack it first, with unrar x" } },
    { MAGIC(257, "ustar"), { "a tar file", "unpack it first, with tar xf" } },
    /* tables and arrays */
    { MAGIC(0, "PAR1\x15"), { "a Parquet file", TO_LINES } },
    { MAGIC(0, "ARROW1\0\0"), { "an Arrow (Feather) file", TO_LINES } },
    { MAGIC(0, "FEA1\0"), { "a Feather file", TO_LINES } },
    { MAGIC(0, "\xff\xff\xff\xff"), { "an Arrow stream", TO_LINES } },
    { MAGIC(0, "Obj\1"), { "an Avro file", TO_LINES } },
    { MAGIC(0, "SQLite format 3\0"), { "an SQLite database", TO_LINES } },
    { MAGIC(0, "\x93NUMPY"), { "a NumPy array", "write token ids as text, one sample per line" } },
    { MAGIC(0, "MMIDIDX\0"), { "an index of Megatron's token files",
                               "write token ids as text, one sample per line" } },
    { MAGIC(0, "\x80\2"), { "a Python pickle", TO_LINES } },
    { MAGIC(0, "\x80\3"), { "a Python pickle", TO_LINES } },
    { MAGIC(0, "\x80\4"), { "a Python pickle", TO_LINES } },
    { MAGIC(0, "\x80\5"), { "a Python pickle", TO_LINES } },
    { MAGIC(0, "\x89HDF\r\n\x1a\n"),
      { "an HDF5 file", "a token file of espalier tokenize is named *.h5 and goes into a corpus setting; of "
                        "another one, " TO_LINES } },
    /* weights */
    { MAGIC(0, "GGUF\1\0"), { "a GGUF file", OF_MODELS } },
    { MAGIC(0, "GGUF\2\0"), { "a GGUF file", OF_MODELS } },
    { MAGIC(0, "GGUF\3\0"), { "a GGUF file", OF_MODELS } },
    { MAGIC(0, "GGUF\0\0"), { "a GGUF file", OF_MODELS } },
    { MAGIC(3, "\0\0\0\0\0{\""), { "a safetensors file", OF_MODELS } },
    /* documents, pictures, sound, programs */
    { MAGIC(0, "%PDF-"), { "a PDF document", "extract its text first, with pdftotext" } },
    { MAGIC(0, "%!PS-"), { "a PostScript document", "extract its text first, with ps2ascii" } },
    { MAGIC(0, "{\\rtf"), { "an RTF document", "save it as plain text first" } },
    { MAGIC(0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), { "an office document", "save it as plain text first" } },
    { MAGIC(0, "\x89PNG\r\n"), { "a PNG picture", NO_TEXT } },
    { MAGIC(0, "\xff\xd8\xff"), { "a JPEG picture", NO_TEXT } },
    { MAGIC(0, "GIF87a"), { "a GIF picture", NO_TEXT } },
    { MAGIC(0, "GIF89a"), { "a GIF picture", NO_TEXT } },
    { MAGIC(0, "II*\0"), { "a TIFF picture", NO_TEXT } },
    { MAGIC(0, "MM\0*"), { "a TIFF picture", NO_TEXT } },
    { MAGIC(8, "WEBPVP8"), { "a WebP picture", NO_TEXT } },
    { MAGIC(8, "WAVEfmt"), { "a WAVE file", NO_TEXT } },
    { MAGIC(0, "OggS\0"), { "an Ogg file", NO_TEXT } },
    { MAGIC(0, "fLaC\0"), { "a FLAC file", NO_TEXT } },
    { MAGIC(0, "\x7f" "ELF"), { "a program or library", NO_TEXT } },
    /* encodings: the longer mark first, it begins with the shorter one */
    { MAGIC(0, "\xff\xfe\0\0"), { "text in UTF-32", TO_UTF8 "UTF-32" } },
    { MAGIC(0, "\0\0\xfe\xff"), { "text in UTF-32", TO_UTF8 "UTF-32" } },
    { MAGIC(0, "\xff\xfe"), { "text in UTF-16", TO_UTF8 "UTF-16" } },
    { MAGIC(0, "\xfe\xff"), { "text in UTF-16", TO_UTF8 "UTF-16" } },
};
/* clang-format on */

/* ---- text without a byte-order mark ---------------------------------------------------------------- */

/* Units of `width` bytes whose byte `low` alone is not 0: characters of ASCII in most texts. */
static const struct encoding {
    size_t width, low;
    esp_kind kind;
} encodings[] = {
    { 4, 0, { "text in UTF-32", TO_UTF8 "UTF-32LE" } },
    { 4, 3, { "text in UTF-32", TO_UTF8 "UTF-32BE" } },
    { 2, 0, { "text in UTF-16", TO_UTF8 "UTF-16LE" } },
    { 2, 1, { "text in UTF-16", TO_UTF8 "UTF-16BE" } },
};

static bool is_ascii_text(uint8_t c)
{
    return (c >= ' ' && c <= '~') || c == '\t' || c == '\n' || c == '\r';
}

/* Most of the first units are a character of ASCII, and none is a control character. */
static bool is_encoded(const struct encoding *e, const uint8_t *data, size_t n)
{
    size_t units = esp_min(n, 4096) / e->width, ascii = 0;

    for (size_t u = 0; u < units; u++) {
        const uint8_t *unit = data + u * e->width;
        bool narrow = true;

        for (size_t i = 0; i < e->width; i++) {
            narrow = narrow && (i == e->low || unit[i] == 0);
        }
        if (narrow && !is_ascii_text(unit[e->low])) {
            return false;
        }
        ascii += narrow;
    }
    return units > 0 && 2 * ascii > units;
}

/* ---- the kind -------------------------------------------------------------------------------------- */

const esp_kind *esp_kind_of(const void *data, size_t n)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const struct signature *s = &signatures[i];

        if (n >= s->at + s->n && memcmp(bytes + s->at, s->magic, s->n) == 0) {
            return &s->kind;
        }
    }
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++) {
        if (is_encoded(&encodings[i], bytes, n)) {
            return &encodings[i].kind;
        }
    }
    return NULL;
}

esp_status esp_kind_refuse(const void *data, size_t n, const char *path)
{
    const esp_kind *kind = esp_kind_of(data, n);

    return kind ? esp_fail(ESP_EFORMAT, "%s: is %s: %s", path, kind->name, kind->remedy) : ESP_OK;
}
