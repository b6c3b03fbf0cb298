/* h5.h - the few HDF5 calls this program makes, with its statuses. Names of objects are HDF5 paths; groups on
 * the way are created. Errors name file and object: ESP_EFORMAT for what is read, ESP_EIO for what is
 * written. All functions are Local, one process at a time has a file, and one thread at a time calls HDF5.
 */
#ifndef ESPALIER_H5_H
#define ESPALIER_H5_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "espalier/status.h"

#define ESP_H5_MAX_DIMS 4

typedef struct esp_h5 {
    hid_t file;               /* 0 when closed                        */
    char *path;               /* of the finished file; owned          */
    struct esp_h5_part *part; /* owned; NULL in a file that is read   */
} esp_h5;

/* From now on the library uses no locks of the file system, whatever the environment says. Once, by the
 * program, before its first call of the library and while it has one thread. */
void esp_h5_no_locks(void);

/* f [out, owned]: a new file, the part of path (file.h). All but reserved arrays stays in memory until
 * esp_h5_close. ESP_EIO; *f is {0} then. */
esp_status esp_h5_create(esp_h5 *f, const char *path);

/* f [out, owned]: a file that esp_h5_close has finished, for reading. ESP_EUSAGE when it is not there,
 * ESP_EFORMAT when it is damaged or another program's, ESP_EIO; *f is {0} then. */
esp_status esp_h5_open(esp_h5 *f, const char *path);

/* Closes f. A file that was written is synced and renamed to path when st is ESP_OK; otherwise, and when that
 * fails, it is removed, and path is as it was. Returns st, or the failure: ESP_EIO, ESP_EUSAGE for a device
 * or pipe at path. Safe twice and on {0}. */
esp_status esp_h5_close(esp_h5 *f, esp_status st);

/* Writes data [shape] as a new dataset: type is H5T_NATIVE_DOUBLE, _FLOAT, _INT32, _INT64 or _UINT8, shape
 * [n_dims], n_dims 1 to ESP_H5_MAX_DIMS. ESP_EIO, also where the name is there already. */
esp_status esp_h5_write(esp_h5 *f, const char *name, hid_t type, size_t n_dims, const size_t *shape,
                        const void *data);

/* Makes a vector of n elements whose bytes any process is to write at offset [out] of the part of path, by
 * esp_write_at, before esp_h5_close (native byte order; n = 0: no bytes). Large ones begin at a multiple of
 * ESP_H5_ALIGNMENT. Its content is not in the digest that esp_h5_open checks. A file that has such vectors
 * has at most 60 KB of all else. ESP_EIO. */
#define ESP_H5_ALIGNMENT 4096
esp_status esp_h5_reserve(esp_h5 *f, const char *name, hid_t type, size_t n, uint64_t *offset);

/* Writes what is in f into its part, but for the seal, and reserves the space of the n_bytes [out] of the
 * finished file: from now on others can fill reserved vectors, through the library too (h5_parallel.h). f is
 * empty again: the same calls, and attributes that come last, have to follow before esp_h5_close. After
 * ESP_EIO f can only be closed. */
esp_status esp_h5_lay_out(esp_h5 *f, uint64_t *n_bytes);

/* Elements of a dataset (product of its shape), 0 when it is absent, of more than ESP_H5_MAX_DIMS dimensions,
 * or not of numbers that are all in the file. dims [out] [*n_dims]: its shape. */
size_t esp_h5_size(const esp_h5 *f, const char *name, size_t dims[ESP_H5_MAX_DIMS], size_t *n_dims);

/* data [out] [end - begin]: elements begin .. end - 1, converted to type: any part of a vector, or the whole
 * of a dataset of more dimensions. ESP_EFORMAT when it is absent, shorter, not of numbers, or cannot be
 * read. */
esp_status esp_h5_read(const esp_h5 *f, const char *name, hid_t type, size_t begin, size_t end,
                       void *data);

/* Sets a scalar attribute (a string: of fixed length, UTF-8) of a group or dataset that is there ("/" for the
 * file), once each. ESP_EIO. */
esp_status esp_h5_set_string(esp_h5 *f, const char *object, const char *name, const char *value);
esp_status esp_h5_set_double(esp_h5 *f, const char *object, const char *name, double value);
esp_status esp_h5_set_int(esp_h5 *f, const char *object, const char *name, int64_t value);

/* value [out]: a scalar attribute; a string is the caller's to free, NULL after a failure. ESP_EFORMAT when
 * it is absent, no scalar, or of another class. */
esp_status esp_h5_get_string(const esp_h5 *f, const char *object, const char *name, char **value);
esp_status esp_h5_get_double(const esp_h5 *f, const char *object, const char *name, double *value);
esp_status esp_h5_get_int(const esp_h5 *f, const char *object, const char *name, int64_t *value);

#endif
