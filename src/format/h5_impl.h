/* h5_impl.h - what the two halves share: files (h5_file.c), and what is in them (h5.c). */
#ifndef ESPALIER_H5_IMPL_H
#define ESPALIER_H5_IMPL_H

#include "espalier/h5.h"

/* Of a file that is written. */
typedef struct esp_h5_part {
    int fd;      /* of the part                                                     */
    char *image; /* [room] owned; first n bytes of the file, as the library makes them */
    size_t n, room;
    uint64_t reserved; /* where the first reserved array begins; UINT64_MAX: there is none */
} esp_h5_part;

/* The reason that the library gives for its last failure; NULL: none. The caller frees. */
char *esp_h5_reason(void);

/* st, with file, object (NULL: the file as a whole), what could not be done, and the library's reason. */
esp_status esp_h5_fail(esp_status st, const esp_h5 *f, const char *object, const char *what);

#endif
