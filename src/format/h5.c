/* h5.c - datasets and attributes. What is read is measured first: class, dimensions and size. */
#include "espalier/h5.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "h5_impl.h"

#define MOST_TEXT ((size_t)1 << 16) /* bytes of a string */

/* ---- datasets ---------------------------------------------------------------------------------- */

/* A new dataset, groups on the way included; negative on a failure. */
static hid_t new_dataset(esp_h5 *f, const char *name, hid_t type, size_t n_dims,
                         const size_t *shape, bool reserve)
{
    hsize_t dims[ESP_H5_MAX_DIMS];
    hid_t links = H5Pcreate(H5P_LINK_CREATE), how = H5Pcreate(H5P_DATASET_CREATE), space, set;

    ESP_REQUIRE(n_dims >= 1 && n_dims <= ESP_H5_MAX_DIMS);
    for (size_t i = 0; i < n_dims; i++) {
        dims[i] = shape[i];
    }
    space = H5Screate_simple((int)n_dims, dims, NULL);
    H5Pset_create_intermediate_group(links, 1);
    H5Pset_obj_track_times(how, false); /* the same content is the same file */
    if (reserve) {
        H5Pset_layout(how, H5D_CONTIGUOUS);
        H5Pset_alloc_time(how, H5D_ALLOC_TIME_EARLY);
        H5Pset_fill_time(how, H5D_FILL_TIME_NEVER);
    }
    set = H5Dcreate2(f->file, name, type, space, links, how, H5P_DEFAULT);
    H5Sclose(space);
    H5Pclose(how);
    H5Pclose(links);
    return set;
}

esp_status esp_h5_write(esp_h5 *f, const char *name, hid_t type, size_t n_dims, const size_t *shape,
                        const void *data)
{
    hid_t set = new_dataset(f, name, type, n_dims, shape, false);
    esp_status st = ESP_OK;

    if (set < 0) {
        return esp_h5_fail(ESP_EIO, f, name, "cannot create the dataset");
    }
    if (H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) {
        st = esp_h5_fail(ESP_EIO, f, name, "cannot write");
    }
    H5Dclose(set);
    return st;
}

esp_status esp_h5_reserve(esp_h5 *f, const char *name, hid_t type, size_t n, uint64_t *offset)
{
    hid_t set = new_dataset(f, name, type, 1, &n, true);
    haddr_t at = HADDR_UNDEF;

    if (set >= 0) {
        at = H5Dget_offset(set);
        H5Dclose(set);
    }
    if (set < 0 || (n > 0 && at == HADDR_UNDEF)) {
        return esp_h5_fail(ESP_EIO, f, name, "cannot create the dataset");
    }
    *offset = at;
    if (n > 0 && at < f->part->reserved) {
        f->part->reserved = at;
    }
    return ESP_OK;
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
        if (__builtin_mul_overflow(n, dims[i], &n)) {
            return 0;
        }
    }
    return n;
}

static bool is_number(hid_t type)
{
    H5T_class_t class = H5Tget_class(type);

    return (class == H5T_INTEGER || class == H5T_FLOAT) && H5Tget_size(type) <= sizeof(double);
}

/* Numbers that are all in the file; the library makes up those that are not. */
static bool holds_numbers(hid_t set, size_t n)
{
    hid_t type = H5Dget_type(set);
    size_t bytes;
    bool good = is_number(type) && !__builtin_mul_overflow(n, H5Tget_size(type), &bytes) &&
                H5Dget_storage_size(set) == bytes;

    H5Tclose(type);
    return good;
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
    n = holds_numbers(set, n) ? n : 0;
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
    if (!holds_numbers(set, n)) {
        return esp_fail(ESP_EFORMAT, "%s: %s: does not hold %zu numbers", f->path, name, n);
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
    return code < 0 ? esp_h5_fail(ESP_EFORMAT, f, name, "cannot read") : ESP_OK;
}

esp_status esp_h5_read(const esp_h5 *f, const char *name, hid_t type, size_t begin, size_t end,
                       void *data)
{
    hid_t set = H5Dopen2(f->file, name, H5P_DEFAULT);
    esp_status st;

    ESP_REQUIRE(begin <= end);
    if (set < 0) {
        return esp_h5_fail(ESP_EFORMAT, f, name, "there is no such dataset");
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

    esp_h5_fail(st, f, object, what);
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

/* Whether it is one number, or one string of fixed length. */
static bool is_scalar(hid_t at, bool text)
{
    hid_t space = H5Aget_space(at), type = H5Aget_type(at);
    bool good = H5Sget_simple_extent_npoints(space) == 1 &&
                (text ? H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
                            H5Tget_size(type) <= MOST_TEXT
                      : is_number(type));

    H5Tclose(type);
    H5Sclose(space);
    return good;
}

static esp_status get_number(const esp_h5 *f, const char *object, const char *name, hid_t type,
                             void *value)
{
    hid_t at = H5Aopen_by_name(f->file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    bool done = at >= 0 && is_scalar(at, false) && H5Aread(at, type, value) >= 0;

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

static char *read_string(hid_t at)
{
    hid_t type = H5Aget_type(at);
    char *text = esp_calloc(H5Tget_size(type) + 1, 1);

    if (H5Aread(at, type, text) < 0) {
        free(text);
        text = NULL;
    }
    H5Tclose(type);
    return text;
}

esp_status esp_h5_get_string(const esp_h5 *f, const char *object, const char *name, char **value)
{
    hid_t at = H5Aopen_by_name(f->file, object, name, H5P_DEFAULT, H5P_DEFAULT);

    *value = at >= 0 && is_scalar(at, true) ? read_string(at) : NULL;
    if (at >= 0) {
        H5Aclose(at);
    }
    return *value ? ESP_OK : attribute_fail(ESP_EFORMAT, f, object, name, "read");
}
