/* h5.h - the few HDF5 calls this program makes, with its statuses. Names are HDF5 paths; groups on
 * the way are created. Errors name file and object (ESP_EFORMAT for content, ESP_EIO for the rest). */
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

/* From now on the library works where the file system has no locks, whatever the environment says of them.
 * Once, by the program, before its first call of the library and while it has one thread. Local. */
void esp_h5_no_locks(void);

/* Creates the part of path. All but reserved arrays stays in memory until esp_h5_close. ESP_EIO; *f is {0}
 * then. Local, as all here: one process at a time has a file. */
esp_status esp_h5_create(esp_h5 *f, const char *path);

/* Opens for reading a file that esp_h5_close has finished. ESP_EUSAGE when it is not there, ESP_EFORMAT when
 * it is not what was written, or another program's, ESP_EIO; *f is {0} then. */
esp_status esp_h5_open(esp_h5 *f, const char *path);

/* Closes; a file that was written is synced and renamed to path when st is ESP_OK, and removed otherwise and
 * when that fails. Returns st or the failure. Safe twice and on {0}. */
esp_status esp_h5_close(esp_h5 *f, esp_status st);

/* Whole arrays: type is H5T_NATIVE_DOUBLE, _FLOAT, _INT32, _INT64 or _UINT8, n_dims 1 to ESP_H5_MAX_DIMS. */
esp_status esp_h5_write(esp_h5 *f, const char *name, hid_t type, size_t n_dims, const size_t *shape,
                        const void *data);

/* A vector of n elements whose bytes are to be written at *offset of the part of path by esp_write_at, by any
 * process, before esp_h5_close (native byte order; n = 0: no bytes). Large ones begin at a multiple of
 * ESP_H5_ALIGNMENT. What it holds is not in the digest that esp_h5_open checks. No more than 60 KB of
 * anything else are in a file that has such arrays. */
#define ESP_H5_ALIGNMENT 4096
esp_status esp_h5_reserve(esp_h5 *f, const char *name, hid_t type, size_t n, uint64_t *offset);

/* Writes what is in f into its part, but the seal, and reserves the space of the *n_bytes of the finished
 * file: others can fill reserved arrays then, through the library too (h5_parallel.h). f is empty again: the
 * same calls, and attributes that come last, put into it what esp_h5_close makes final. ESP_EIO. */
esp_status esp_h5_lay_out(esp_h5 *f, uint64_t *n_bytes);

/* Elements of a dataset (product of its shape), 0 when it is absent, of more than ESP_H5_MAX_DIMS
 * dimensions, or not of numbers that are all in the file; its shape in dims. */
size_t esp_h5_size(const esp_h5 *f, const char *name, size_t dims[ESP_H5_MAX_DIMS], size_t *n_dims);

/* Elements begin .. end, converted to type: any part of a vector, or the whole of a dataset of more
 * dimensions. ESP_EFORMAT when it is absent, shorter or of another shape. */
esp_status esp_h5_read(const esp_h5 *f, const char *name, hid_t type, size_t begin, size_t end,
                       void *data);

/* Scalar attributes (strings of fixed length) of a group or dataset that is there ("/" for the file); each is
 * set once. Strings read are freed by the caller. */
esp_status esp_h5_set_string(esp_h5 *f, const char *object, const char *name, const char *value);
esp_status esp_h5_set_double(esp_h5 *f, const char *object, const char *name, double value);
esp_status esp_h5_set_int(esp_h5 *f, const char *object, const char *name, int64_t value);
esp_status esp_h5_get_string(const esp_h5 *f, const char *object, const char *name, char **value);
esp_status esp_h5_get_double(const esp_h5 *f, const char *object, const char *name, double *value);
esp_status esp_h5_get_int(const esp_h5 *f, const char *object, const char *name, int64_t *value);

#endif
