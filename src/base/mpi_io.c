/* mpi_io.c - hints of MPI-IO, and files that are made with them. */
#include "espalier/mpi_io.h"

#include <ctype.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/mem.h"

/* One key=value of a string of them, without the blanks around each; what points into it is not ended by a 0
 * byte. */
typedef struct hint {
    const char *key, *value;
    size_t n_key, n_value, n; /* n: bytes of the item, with its blanks */
} hint;

/* Hints of the MPI standard, ROMIO and OMPIO whose value is a number above 0. Libraries take any other value
 * for 0, divide by it, or pass over it. */
static const char *const numbers[] = {
    "cb_block_size",      "cb_buffer_size",     "cb_nodes",
    "ind_rd_buffer_size", "ind_wr_buffer_size", "nb_proc",
    "num_io_nodes",       "striping_factor",    "striping_unit",
};

enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Takes the blanks off both ends of n bytes. */
static const char *trim(size_t *n, const char *s)
{
    for (; *n > 0 && is_blank(*s); s++) {
        --*n;
    }
    while (*n > 0 && is_blank(s[*n - 1])) {
        --*n;
    }
    return s;
}

/* The item that begins at `at`; key is NULL in one without "=". */
static hint hint_at(const char *at)
{
    hint h = { .n = strcspn(at, ";") };
    const char *equals = memchr(at, '=', h.n);

    if (equals) {
        h.n_key = (size_t)(equals - at);
        h.n_value = h.n - h.n_key - 1;
        h.key = trim(&h.n_key, at);
        h.value = trim(&h.n_value, equals + 1);
    }
    return h;
}

static const char *next(const char *at, const hint *h)
{
    return at + h->n + (at[h->n] == ';');
}

/* Whether an item before the one at `end` has the key of h. */
static bool is_set_before(const char *hints, const char *end, const hint *h)
{
    for (const char *at = hints; at < end;) {
        hint other = hint_at(at);

        if (other.n_key == h->n_key && memcmp(other.key, h->key, h->n_key) == 0) {
            return true;
        }
        at = next(at, &other);
    }
    return false;
}

static bool has_control(const char *s)
{
    while (*s && (!iscntrl((unsigned char)*s) || *s == '\t')) {
        s++;
    }
    return *s != '\0';
}

/* Whether the n bytes of s are a whole number from 1 to INT_MAX, which is what MPI libraries read. */
static bool is_number(const char *s, size_t n)
{
    long long v = 0;

    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || (v = 10 * v + (s[i] - '0')) > INT_MAX) {
            return false;
        }
    }
    return v > 0;
}

/* A hint that MPI libraries know has the value and the spelling that they take. */
static esp_status check_known(const hint *h)
{
    for (size_t i = 0; i < N_NUMBERS; i++) {
        if (strlen(numbers[i]) != h->n_key || strncasecmp(numbers[i], h->key, h->n_key) != 0) {
            continue;
        }
        if (memcmp(numbers[i], h->key, h->n_key) != 0) {
            return esp_fail(ESP_EUSAGE, "\"%.*s\": MPI knows it as %s", esp_count(h->n_key), h->key,
                            numbers[i]);
        }
        if (!is_number(h->value, h->n_value)) {
            return esp_fail(ESP_EUSAGE, "%s=%.*s: must be a whole number above 0, and at most %d",
                            numbers[i], esp_count(h->n_value), h->value, INT_MAX);
        }
    }
    return ESP_OK;
}

esp_status esp_hints_check(const char *hints)
{
    if (hints && has_control(hints)) {
        return esp_fail(ESP_EUSAGE, "hints have no line ends or other control characters");
    }
    for (const char *at = hints ? hints : ""; *at;) {
        hint h = hint_at(at);

        if (h.n_key == 0 || h.n_value == 0) {
            return esp_fail(ESP_EUSAGE, "\"%.*s\" is not key=value; hints are key=value;key=value",
                            esp_count(h.n), at);
        }
        if (h.n_key >= MPI_MAX_INFO_KEY || h.n_value >= MPI_MAX_INFO_VAL) {
            return esp_fail(ESP_EUSAGE, "\"%.*s\" is longer than this MPI takes: %d and %d bytes",
                            esp_count(h.n), at, MPI_MAX_INFO_KEY - 1, MPI_MAX_INFO_VAL - 1);
        }
        if (is_set_before(hints, at, &h)) {
            return esp_fail(ESP_EUSAGE, "\"%.*s\" is there twice", esp_count(h.n_key), h.key);
        }
        ESP_TRY(check_known(&h));
        at = next(at, &h);
    }
    return ESP_OK;
}

MPI_Info esp_hints_info(const char *hints)
{
    MPI_Info info = MPI_INFO_NULL;

    for (const char *at = hints ? hints : ""; *at;) {
        hint h = hint_at(at);
        char *key = esp_format("%.*s", esp_count(h.n_key), h.key);
        char *value = esp_format("%.*s", esp_count(h.n_value), h.value);

        if (info == MPI_INFO_NULL) {
            ESP_MPI(MPI_Info_create(&info));
        }
        ESP_MPI(MPI_Info_set(info, key, value));
        free(key);
        free(value);
        at = next(at, &h);
    }
    return info;
}

void esp_hints_free(MPI_Info *info)
{
    if (*info != MPI_INFO_NULL) {
        ESP_MPI(MPI_Info_free(info));
    }
}

/* An error of a call of MPI-IO, which, unlike others of MPI, returns. */
static esp_status mpi_io_failed(const char *path, const char *what, int code)
{
    char reason[MPI_MAX_ERROR_STRING] = "";
    int n;

    MPI_Error_string(code, reason, &n);
    return esp_fail(ESP_EIO, "%s: MPI-IO cannot %s: %s; " ESP_MPI_IO_REMEDY, path, what, reason);
}

/* MPI tells of a folder that cannot be written in without the reason. */
static esp_status check_folder(const char *path)
{
    char *copy = esp_strdup(path);
    esp_status st = esp_dir_check(dirname(copy));

    free(copy);
    return st;
}

esp_status esp_mpi_io_create(const char *path, const char *hints)
{
    MPI_Info info;
    MPI_File file;
    int code;

    ESP_TRY(check_folder(path));
    ESP_TRY(esp_remove(path));
    info = esp_hints_info(hints);
    code = MPI_File_open(MPI_COMM_SELF, path, MPI_MODE_CREATE | MPI_MODE_EXCL | MPI_MODE_WRONLY,
                         info, &file);
    esp_hints_free(&info);
    if (code != MPI_SUCCESS) {
        return mpi_io_failed(path, "create the file", code);
    }
    code = MPI_File_close(&file);
    return code == MPI_SUCCESS ? ESP_OK : mpi_io_failed(path, "close the new file", code);
}
