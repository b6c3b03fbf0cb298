/* h5_file.c - HDF5 files whose reading and writing does not depend on the library's.
 *
 * Writing: the library makes its structures in memory. They go to the file through the program's own writer,
 * which can fail, as the library cannot: HDF5 1.10 dies of a full disk.
 *
 * Reading: the library takes what it finds for granted, and a damaged file can make it read past its memory.
 * So a file ends with a line, its seal, that says how many of its first bytes the library has made, and their
 * digest. Nothing of a file is shown to the library before its seal has been checked.
 *
 * Locks: each file has one process that writes it, under another name until it is whole. The library's own
 * locks would only make it depend on file systems that have them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/digest.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/io.h"
#include "espalier/mem.h"
#include "h5_impl.h"

#define LARGE ((hsize_t)1 << 16) /* bytes of an array that begins at a block of the file */
#define PIECE ((size_t)1 << 20)  /* bytes that are read at a time                        */

/* The deepest entry of the library's error stack says most. */
static herr_t copy_reason(unsigned n, const H5E_error2_t *e, void *reason)
{
    if (n == 0 && e->desc) {
        *(char **)reason = esp_strdup(e->desc);
    }
    return 0;
}

char *esp_h5_reason(void)
{
    char *reason = NULL;

    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, copy_reason, &reason);
    H5Eclear2(H5E_DEFAULT);
    return reason;
}

esp_status esp_h5_fail(esp_status st, const esp_h5 *f, const char *object, const char *what)
{
    char *reason = esp_h5_reason();

    esp_fail(st, "%s: %s%s%s (HDF5: %s)", f->path, object ? object : "", object ? ": " : "", what,
             reason ? reason : "no reason given");
    free(reason);
    return st;
}

static esp_h5 new_file(const char *path)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return (esp_h5){ .path = esp_strdup(path) };
}

/* ---- the seal ---------------------------------------------------------------------------------- */

#define SEAL_SIZE \
    ((size_t)86) /* bytes: "espalier sealed <n bytes> of <bytes before the seal> <digest>\n" */

static void make_seal(char seal[SEAL_SIZE + 1], uint64_t n_sealed, uint64_t n_before,
                      const char *digest)
{
    int n = snprintf(seal, SEAL_SIZE + 1, "espalier sealed %016llx of %016llx %s\n",
                     (unsigned long long)n_sealed, (unsigned long long)n_before, digest);

    ESP_REQUIRE((size_t)n == SEAL_SIZE);
}

/* Digest of the first n bytes of a file; 0, errno or ESP_IO_SHORT. */
static int digest_file(char digest[ESP_DIGEST_SIZE], int fd, uint64_t n)
{
    size_t room = esp_min(n, PIECE);
    char *piece = esp_calloc(room, 1);
    esp_digest d;
    int error = 0;

    esp_digest_init(&d);
    for (uint64_t at = 0; at < n && !error; at += room) {
        size_t size = esp_min(room, n - at);

        error = esp_read_at(fd, piece, size, at);
        esp_digest_add(&d, piece, size);
    }
    esp_digest_end(&d, digest);
    free(piece);
    return error;
}

/* Whether the n bytes of a file are those that this program has sealed. */
static esp_status check_seal(int fd, size_t n, const char *path)
{
    char found[SEAL_SIZE + 1] = "", wanted[SEAL_SIZE + 1], digest[ESP_DIGEST_SIZE];
    unsigned long long n_sealed = 0;
    int error = n < SEAL_SIZE ? ESP_IO_SHORT : esp_read_at(fd, found, SEAL_SIZE, n - SEAL_SIZE);

    if (error == ESP_IO_SHORT || sscanf(found, "espalier sealed %16llx of ", &n_sealed) != 1 ||
        n_sealed > n - SEAL_SIZE) {
        return esp_fail(ESP_EFORMAT,
                        "%s: does not end as the HDF5 files of this program do: it is damaged, cut "
                        "short, or from another program or version; make it again",
                        path);
    }
    error = error ? error : digest_file(digest, fd, n_sealed);
    if (error) {
        return esp_fail(ESP_EIO, "%s: cannot read its %zu bytes: %s", path, n,
                        error == ESP_IO_SHORT ? "it became shorter" : strerror(error));
    }
    make_seal(wanted, n_sealed, n - SEAL_SIZE, digest);
    return strcmp(found, wanted) == 0
               ? ESP_OK
               : esp_fail(
                     ESP_EFORMAT,
                     "%s: is damaged: its bytes do not fit the digest at its end; make it again",
                     path);
}

/* ---- the image --------------------------------------------------------------------------------- */

/* The library's own structures are made in front of all reserved arrays. */
static void *image_room(esp_h5_part *p, size_t n)
{
    ESP_REQUIRE(n <= p->reserved);
    if (n > p->room) {
        p->room = n + n / 2;
        p->image = esp_grow(p->image, p->room, 1);
    }
    p->n = n;
    return p->image;
}

static void *image_malloc(size_t n, H5FD_file_image_op_t op, void *part)
{
    (void)op;
    return image_room(part, n);
}

static void *image_realloc(void *image, size_t n, H5FD_file_image_op_t op, void *part)
{
    (void)image;
    (void)op;
    return image_room(part, n);
}

static herr_t image_free(void *image, H5FD_file_image_op_t op, void *part)
{
    (void)image;
    (void)op;
    (void)part;
    return 0; /* it is the part's */
}

static void *part_itself(void *part)
{
    return part;
}

static herr_t part_stays(void *part)
{
    (void)part;
    return 0;
}

/* Files in memory are told apart by name. */
static hid_t create_in_memory(esp_h5_part *p, const char *path)
{
    H5FD_file_image_callbacks_t calls = { .image_malloc = image_malloc,
                                          .image_realloc = image_realloc,
                                          .image_free = image_free,
                                          .udata_copy = part_itself,
                                          .udata_free = part_stays,
                                          .udata = p };
    char *name = esp_format("%s %p", path, (void *)p);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file;

    H5Pset_fapl_core(access, ESP_H5_ALIGNMENT, 0);
    H5Pset_file_image_callbacks(access, &calls);
    H5Pset_alignment(access, LARGE, ESP_H5_ALIGNMENT);
    H5Pset_meta_block_size(access, LARGE);
    file = H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    free(name);
    return file;
}

/* ---- files ------------------------------------------------------------------------------------- */

static void forget(esp_h5 *f)
{
    if (f->part) {
        free(f->part->image);
        free(f->part);
    }
    free(f->path);
    *f = (esp_h5){ 0 };
}

esp_status esp_h5_create(esp_h5 *f, const char *path)
{
    char *part = esp_part_path(path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    esp_status st = ESP_OK;

    *f = (esp_h5){ 0 };
    if (fd < 0) {
        st = esp_fail(ESP_EIO, "%s: cannot create: %s", part, strerror(errno));
    } else {
        *f = new_file(path);
        ESP_NEW(f->part, 1);
        *f->part = (esp_h5_part){ .fd = fd, .reserved = UINT64_MAX };
        f->file = create_in_memory(f->part, path);
        if (f->file < 0) {
            st = esp_h5_fail(ESP_EIO, f, NULL, "cannot be laid out in memory");
            esp_close(fd);
            unlink(part);
            forget(f);
        }
    }
    free(part);
    return st;
}

void esp_h5_no_locks(void)
{
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
}

esp_status esp_h5_open(esp_h5 *f, const char *path)
{
    size_t n;
    esp_status st;
    int fd;

    *f = (esp_h5){ 0 };
    if (!esp_file_exists(path)) {
        return esp_fail(ESP_EUSAGE, "%s: no such file", path);
    }
    ESP_TRY(esp_file_open(&fd, &n, path));
    st = check_seal(fd, n, path);
    close(fd);
    ESP_TRY(st);
    *f = new_file(path);
    f->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (f->file < 0) {
        st = esp_h5_fail(ESP_EFORMAT, f, NULL, "cannot open as HDF5");
        forget(f);
    }
    return st;
}

static uint64_t bytes_before_seal(const esp_h5_part *p, uint64_t n_file)
{
    return n_file > p->n ? n_file : p->n;
}

/* The image with zeros up to the first reserved array, or the end, and the seal. */
static esp_status write_image(const esp_h5 *f, uint64_t n_file)
{
    esp_h5_part *p = f->part;
    uint64_t n_before = bytes_before_seal(p, n_file), n = p->n;
    uint64_t n_sealed = esp_min(p->reserved, n_before);
    char digest[ESP_DIGEST_SIZE], seal[SEAL_SIZE + 1];
    int error;

    memset((char *)image_room(p, n_sealed) + n, 0, n_sealed - n);
    esp_digest_bytes(digest, p->image, n_sealed);
    make_seal(seal, n_sealed, n_before, digest);
    error = esp_write_at(p->fd, p->image, n_sealed, 0);
    error = error ? error : esp_write_at(p->fd, seal, SEAL_SIZE, n_before);
    return error ? esp_write_failed(f->path, n_sealed + SEAL_SIZE, error) : ESP_OK;
}

/* Ends the library's file in memory: the image is complete. *n_file: bytes with what is reserved. */
static esp_status end_library_file(hsize_t *n_file, esp_h5 *f)
{
    hid_t file = f->file;

    *n_file = 0;
    H5Fget_filesize(file, n_file);
    f->file = 0;
    return H5Fclose(file) < 0 ? esp_h5_fail(ESP_EIO, f, NULL, "cannot close") : ESP_OK;
}

esp_status esp_h5_lay_out(esp_h5 *f, uint64_t *n_bytes)
{
    esp_h5_part *p = f->part;
    hsize_t n_file;
    int error;

    ESP_TRY(end_library_file(&n_file, f));
    *n_bytes = bytes_before_seal(p, n_file) + SEAL_SIZE;
    error = esp_reserve(p->fd, *n_bytes);
    error = error ? error : esp_write_at(p->fd, p->image, p->n, 0);
    if (error) {
        return esp_write_failed(f->path, *n_bytes, error);
    }
    p->n = 0;
    p->reserved = UINT64_MAX;
    f->file = create_in_memory(p, f->path);
    return f->file < 0 ? esp_h5_fail(ESP_EIO, f, NULL, "cannot be laid out in memory") : ESP_OK;
}

static esp_status end_part(const esp_h5 *f, uint64_t n_file, esp_status st)
{
    char *part = esp_part_path(f->path);
    int error;

    if (st == ESP_OK) {
        st = write_image(f, n_file);
    }
    error = esp_close(f->part->fd);
    if (st == ESP_OK && error) {
        st = esp_write_failed(f->path, n_file, error);
    }
    if (st == ESP_OK) {
        st = esp_commit(f->path);
    }
    if (st != ESP_OK) {
        unlink(part); /* what failed is told already */
    }
    free(part);
    return st;
}

esp_status esp_h5_close(esp_h5 *f, esp_status st)
{
    hsize_t n_file = 0;
    esp_status closed;

    if (!f->path) {
        return st;
    }
    closed = f->file > 0 ? end_library_file(&n_file, f) : ESP_OK;
    st = st == ESP_OK ? closed : st;
    if (f->part) {
        st = end_part(f, n_file, st);
    }
    forget(f);
    return st;
}
