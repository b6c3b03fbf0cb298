/* h5.c - HDF5 with one voice: the library's own error output is off, its reason goes into ours. */
#include "espalier/h5.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"

#define LARGE ((hsize_t)1 << 16) /* bytes of an array that begins at a block of the file */

/* The deepest entry of the library's error stack says most. */
static herr_t take_reason(unsigned n, const H5E_error2_t *e, void *reason)
{
    if (n == 0 && e->desc) {
        *(char **)reason = esp_strdup(e->desc);
    }
    return 0;
}

/* object may be NULL: the file as a whole. */
static esp_status h5_fail(esp_status st, const esp_h5 *f, const char *object, const char *what)
{
    char *reason = NULL;

    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_reason, &reason);
    esp_fail(st, "%s: %s%s%s (HDF5: %s)", f->path, object ? object : "", object ? ": " : "", what,
             reason ? reason : "no reason given");
    free(reason);
    H5Eclear2(H5E_DEFAULT);
    return st;
}

/* ---- files ------------------------------------------------------------------------------------- */

static esp_h5 new_file(const char *path, bool writing)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return (esp_h5){ .path = esp_strdup(path), .writing = writing };
}

static void forget(esp_h5 *f)
{
    free(f->path);
    *f = (esp_h5){ 0 };
}

/* Whether the folder takes the file, found with a plain call: the library says less. */
static esp_status try_to_create(const char *part)
{
    FILE *out = fopen(part, "wb");

    if (!out) {
        return esp_fail(ESP_EIO, "%s: cannot create: %s", part, strerror(errno));
    }
    fclose(out);
    return ESP_OK;
}

/* What H5Fcreate or H5Fopen of the part gave. */
static esp_status check_part(esp_h5 *f, const char *what)
{
    esp_status st = ESP_OK;

    if (f->file < 0) {
        st = h5_fail(ESP_EIO, f, NULL, what);
        forget(f);
    }
    return st;
}

esp_status esp_h5_create(esp_h5 *f, const char *path)
{
    char *part = esp_part_path(path);
    esp_status st = try_to_create(part);

    *f = (esp_h5){ 0 };
    if (st == ESP_OK) {
        hid_t access = H5Pcreate(H5P_FILE_ACCESS);

        H5Pset_alignment(access, LARGE, ESP_H5_ALIGNMENT);
        *f = new_file(path, true);
        f->file = H5Fcreate(part, H5F_ACC_TRUNC, H5P_DEFAULT, access);
        H5Pclose(access);
        st = check_part(f, "cannot create");
    }
    free(part);
    return st;
}

esp_status esp_h5_resume(esp_h5 *f, const char *path)
{
    char *part = esp_part_path(path);

    *f = new_file(path, true);
    f->file = H5Fopen(part, H5F_ACC_RDWR, H5P_DEFAULT);
    free(part);
    return check_part(f, "cannot open again");
}

esp_status esp_h5_open(esp_h5 *f, const char *path)
{
    esp_status st = ESP_OK;

    *f = (esp_h5){ 0 };
    if (!esp_file_exists(path)) {
        return esp_fail(ESP_EUSAGE, "%s: no such file", path);
    }
    *f = new_file(path, false);
    f->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (f->file < 0) {
        st = h5_fail(ESP_EFORMAT, f, NULL, "cannot open as HDF5; it is damaged or something else");
        forget(f);
    }
    return st;
}

/* A file that cannot be flushed is left open: HDF5 1.10 cannot close it, and dies of it at its end. */
static esp_status close_handle(esp_h5 *f)
{
    if (f->writing && H5Fflush(f->file, H5F_SCOPE_GLOBAL) < 0) {
        return h5_fail(ESP_EIO, f, NULL, "cannot flush");
    }
    return H5Fclose(f->file) < 0 ? h5_fail(ESP_EIO, f, NULL, "cannot close") : ESP_OK;
}

static void remove_part(const char *path)
{
    char *part = esp_part_path(path);

    remove(part); /* after a failure that is told already */
    free(part);
}

static esp_status end_file(esp_h5 *f, esp_status st, bool commit)
{
    esp_status closed;

    if (!f->path) {
        return st;
    }
    closed = close_handle(f);
    st = st == ESP_OK ? closed : st;
    if (commit && st == ESP_OK) {
        st = esp_commit(f->path);
    }
    if (f->writing && st != ESP_OK) {
        remove_part(f->path);
    }
    forget(f);
    return st;
}

esp_status esp_h5_close(esp_h5 *f, esp_status st)
{
    return end_file(f, st, f->writing);
}

esp_status esp_h5_leave(esp_h5 *f, esp_status st)
{
    return end_file(f, st, false);
}

/* ---- datasets ---------------------------------------------------------------------------------- */

/* A new dataset, groups on the way included; negative on a failure. */
static hid_t new_dataset(esp_h5 *f, const char *name, hid_t type, size_t n_dims,
                         const size_t *shape, hid_t how)
{
    hsize_t dims[ESP_H5_MAX_DIMS];
    hid_t links = H5Pcreate(H5P_LINK_CREATE), space, set;

    ESP_REQUIRE(n_dims >= 1 && n_dims <= ESP_H5_MAX_DIMS);
    for (size_t i = 0; i < n_dims; i++) {
        dims[i] = shape[i];
    }
    space = H5Screate_simple((int)n_dims, dims, NULL);
    H5Pset_create_intermediate_group(links, 1);
    set = H5Dcreate2(f->file, name, type, space, links, how, H5P_DEFAULT);
    H5Sclose(space);
    H5Pclose(links);
    return set;
}

esp_status esp_h5_write(esp_h5 *f, const char *name, hid_t type, size_t n_dims, const size_t *shape,
                        const void *data)
{
    hid_t set = new_dataset(f, name, type, n_dims, shape, H5P_DEFAULT);
    esp_status st = ESP_OK;

    if (set < 0) {
        return h5_fail(ESP_EIO, f, name, "cannot create the dataset");
    }
    if (H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) {
        st = h5_fail(ESP_EIO, f, name, "cannot write");
    }
    H5Dclose(set);
    return st;
}

esp_status esp_h5_reserve(esp_h5 *f, const char *name, hid_t type, size_t n, uint64_t *offset)
{
    hid_t how = H5Pcreate(H5P_DATASET_CREATE), set;
    haddr_t at = HADDR_UNDEF;

    H5Pset_layout(how, H5D_CONTIGUOUS);
    H5Pset_alloc_time(how, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(how, H5D_FILL_TIME_NEVER);
    set = new_dataset(f, name, type, 1, &n, how);
    H5Pclose(how);
    if (set >= 0) {
        at = H5Dget_offset(set);
        H5Dclose(set);
    }
    *offset = at;
    return set < 0 || (n > 0 && at == HADDR_UNDEF)
               ? h5_fail(ESP_EIO, f, name, "cannot create the dataset")
               : ESP_OK;
}

static size_t dataset_size(hid_t set, size_t dims[ESP_H5_MAX_DIMS], size_t *n_dims)
{
    hsize_t sizes[H5S_MAX_RANK];
    hid_t space = H5Dget_space(set);
    int rank = H5Sget_simple_extent_dims(space, sizes, NULL);
    size_t n = 1;

    H5Sclose(space);
    if (rank < 0 || rank > ESP_H5_MAX_DIMS) {
        return 0;
    }
    *n_dims = (size_t)rank;
    for (size_t i = 0; i < *n_dims; i++) {
        dims[i] = (size_t)sizes[i];
        n *= dims[i];
    }
    return n;
}

size_t esp_h5_size(const esp_h5 *f, const char *name, size_t dims[ESP_H5_MAX_DIMS], size_t *n_dims)
{
    hid_t set = H5Dopen2(f->file, name, H5P_DEFAULT);
    size_t n;

    *n_dims = 0;
    if (set < 0) {
        H5Eclear2(H5E_DEFAULT);
        return 0;
    }
    n = dataset_size(set, dims, n_dims);
    H5Dclose(set);
    return n;
}

static esp_status read_range(const esp_h5 *f, const char *name, hid_t set, hid_t type, size_t begin,
                             size_t end, void *data)
{
    size_t dims[ESP_H5_MAX_DIMS], n_dims = 0, n = dataset_size(set, dims, &n_dims);
    hsize_t start = begin, count = end - begin;
    hid_t file_space, memory_space;
    herr_t code;

    if (end > n || (n_dims != 1 && count != n)) {
        return esp_fail(ESP_EFORMAT,
                        "%s: %s: elements %zu to %zu are wanted, it has %zu in %zu dimensions",
                        f->path, name, begin, end, n, n_dims);
    }
    if (count == 0) {
        return ESP_OK;
    }
    file_space = H5Dget_space(set);
    memory_space = H5Screate_simple(1, &count, NULL);
    if (n_dims == 1) {
        H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &start, NULL, &count, NULL);
    }
    code = H5Dread(set, type, memory_space, file_space, H5P_DEFAULT, data);
    H5Sclose(memory_space);
    H5Sclose(file_space);
    return code < 0 ? h5_fail(ESP_EFORMAT, f, name, "cannot read") : ESP_OK;
}

esp_status esp_h5_read(const esp_h5 *f, const char *name, hid_t type, size_t begin, size_t end,
                       void *data)
{
    hid_t set = H5Dopen2(f->file, name, H5P_DEFAULT);
    esp_status st;

    ESP_REQUIRE(begin <= end);
    if (set < 0) {
        return h5_fail(ESP_EFORMAT, f, name, "there is no such dataset");
    }
    st = read_range(f, name, set, type, begin, end, data);
    H5Dclose(set);
    return st;
}

/* ---- attributes -------------------------------------------------------------------------------- */

static esp_status attribute_fail(esp_status st, const esp_h5 *f, const char *object,
                                 const char *name, const char *verb)
{
    char *what = esp_format("cannot %s attribute %s", verb, name);

    h5_fail(st, f, object, what);
    free(what);
    return st;
}

static esp_status set_attribute(esp_h5 *f, const char *object, const char *name, hid_t type,
                                const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t at = H5Acreate_by_name(f->file, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT,
                                 H5P_DEFAULT);
    esp_status st = ESP_OK;

    if (at < 0 || H5Awrite(at, type, value) < 0) {
        st = attribute_fail(ESP_EIO, f, object, name, "write");
    }
    if (at >= 0) {
        H5Aclose(at);
    }
    H5Sclose(space);
    return st;
}

esp_status esp_h5_set_string(esp_h5 *f, const char *object, const char *name, const char *value)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    esp_status st;

    H5Tset_size(type, strlen(value) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    st = set_attribute(f, object, name, type, value);
    H5Tclose(type);
    return st;
}

esp_status esp_h5_set_double(esp_h5 *f, const char *object, const char *name, double value)
{
    return set_attribute(f, object, name, H5T_NATIVE_DOUBLE, &value);
}

esp_status esp_h5_set_int(esp_h5 *f, const char *object, const char *name, int64_t value)
{
    return set_attribute(f, object, name, H5T_NATIVE_INT64, &value);
}

/* Reads one value of the given type; anything but a scalar is refused. */
static bool read_scalar(hid_t at, hid_t type, void *value)
{
    hid_t space = H5Aget_space(at);
    bool one = H5Sget_simple_extent_npoints(space) == 1;

    H5Sclose(space);
    return one && H5Aread(at, type, value) >= 0;
}

static esp_status get_number(const esp_h5 *f, const char *object, const char *name, hid_t type,
                             void *value)
{
    hid_t at = H5Aopen_by_name(f->file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    bool done = at >= 0 && read_scalar(at, type, value);

    if (at >= 0) {
        H5Aclose(at);
    }
    return done ? ESP_OK : attribute_fail(ESP_EFORMAT, f, object, name, "read");
}

esp_status esp_h5_get_double(const esp_h5 *f, const char *object, const char *name, double *value)
{
    return get_number(f, object, name, H5T_NATIVE_DOUBLE, value);
}

esp_status esp_h5_get_int(const esp_h5 *f, const char *object, const char *name, int64_t *value)
{
    return get_number(f, object, name, H5T_NATIVE_INT64, value);
}

/* Strings of fixed length, as this program writes, and of variable length, as h5py does. */
static char *read_string(hid_t at)
{
    hid_t type = H5Aget_type(at);
    char *text = NULL;

    if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0) {
        char *borrowed = NULL;

        if (read_scalar(at, type, &borrowed)) {
            text = esp_strdup(borrowed ? borrowed : "");
            H5free_memory(borrowed);
        }
    } else if (H5Tget_class(type) == H5T_STRING) {
        text = esp_calloc(H5Tget_size(type) + 1, 1);
        if (!read_scalar(at, type, text)) {
            free(text);
            text = NULL;
        }
    }
    H5Tclose(type);
    return text;
}

esp_status esp_h5_get_string(const esp_h5 *f, const char *object, const char *name, char **value)
{
    hid_t at = H5Aopen_by_name(f->file, object, name, H5P_DEFAULT, H5P_DEFAULT);

    *value = at >= 0 ? read_string(at) : NULL;
    if (at >= 0) {
        H5Aclose(at);
    }
    return *value ? ESP_OK : attribute_fail(ESP_EFORMAT, f, object, name, "read");
}
