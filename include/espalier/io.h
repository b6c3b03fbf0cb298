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

/* All n bytes at that offset of a file. 0, or the errno of what failed; touches nothing but its arguments, so
 * that threads may call them. Local. */
int esp_write_at(int fd, const void *data, size_t n, uint64_t offset);
int esp_read_at(int fd, void *data, size_t n, uint64_t offset); /* or ESP_IO_SHORT */

/* Has the file system keep n bytes for the file, which becomes that long, so that later writes into them find
 * room. Where the file system cannot, only the limits of this process are checked. 0 or errno. Local. */
int esp_reserve(int fd, uint64_t n);

/* fsync, tried again where it was interrupted; file systems that have no such thing for this kind of file are
 * none to complain of. 0 or errno. Local. */
int esp_sync(int fd);

/* close, whose errors are those of writes that were put off. 0 or errno. Local. */
int esp_close(int fd);

/* ESP_EIO with file, bytes, reason and, for full disks, quotas and limits, what to do. Local. */
esp_status esp_write_failed(const char *path, uint64_t n_bytes, int error);

#endif
