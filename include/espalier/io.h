/* io.h - bytes into and out of open files: the only loops around read and write in this program.
 *
 * Short transfers go on, interrupted ones are tried again, and neither of them for ever.
 */
#ifndef ESPALIER_IO_H
#define ESPALIER_IO_H

#include <stddef.h>
#include <stdint.h>

#include "espalier/status.h"

#define ESP_IO_SHORT (-1) /* the file ends before the bytes that were asked for */

/* Transfers all n bytes of data at that offset of a file. 0, or the errno of what failed; the error slot is
 * not touched, so that threads may call them. Local. */
int esp_write_at(int fd, const void *data, size_t n, uint64_t offset);
int esp_read_at(int fd, void *data, size_t n, uint64_t offset); /* or ESP_IO_SHORT */

/* Reserves n bytes of the file system for the file, which becomes that long, so that later writes into them
 * find room. Where the file system cannot, only the limits of this process are checked. 0 or errno. Local. */
int esp_reserve(int fd, uint64_t n);

/* fsync, tried again where it was interrupted; 0 also where there is no fsync for this kind of file. 0 or
 * errno. Local. */
int esp_sync(int fd);

/* close, which reports errors of delayed writes; fd is closed in any case. 0 or errno. Local. */
int esp_close(int fd);

/* ESP_EIO with file, bytes, the reason by errno `error` and, for full disks, quotas and limits, what to do.
 * Local. */
esp_status esp_write_failed(const char *path, uint64_t n_bytes, int error);

#endif
