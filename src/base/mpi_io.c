/* mpi_io.c - hints of MPI-IO, and files that are made with them. */
#include "espalier/mpi_io.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/mem.h"

/* One key=value of a string of them; what points into it is not ended by a 0. */
typedef struct hint {
    const char *key, *value;
    size_t n_key, n_value, n; /* n: bytes of the item */
} hint;

/* The item that begins at `at`; key is NULL in one without "=". */
static hint hint_at(const char *at)
{
    hint h = { .n = strcspn(at, ";") };
    const char *equals = memchr(at, '=', h.n);

    if (equals) {
        h.key = at;
        h.n_key = (size_t)(equals - at);
        h.value = equals + 1;
        h.n_value = h.n - h.n_key - 1;
    }
    return h;
}

static const char *next(const char *at, const hint *h)
{
    return at + h->n + (at[h->n] == ';');
}

/* Whether an item before h has its key. */
static bool is_set_before(const char *hints, const hint *h)
{
    for (const char *at = hints; at < h->key;) {
        hint other = hint_at(at);

        if (other.n_key == h->n_key && memcmp(other.key, h->key, h->n_key) == 0) {
            return true;
        }
        at = next(at, &other);
    }
    return false;
}

esp_status esp_hints_check(const char *hints)
{
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
        if (is_set_before(hints, &h)) {
            return esp_fail(ESP_EUSAGE, "\"%.*s\" is there twice", esp_count(h.n_key), at);
        }
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

esp_status esp_mpi_io_create(const char *path, const char *hints)
{
    MPI_Info info;
    MPI_File file;
    int code;

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
