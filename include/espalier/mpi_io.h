/* mpi_io.h - what MPI-IO is told of a file: hints of the site, such as stripes and aggregators.
 *
 * Hints are one string, "striping_factor=8;cb_nodes=4": keys and values as the MPI library names them
 * (ROMIO's user guide, or ompi_info). Blanks around them do not count. An MPI library ignores keys that it
 * does not know.
 */
#ifndef ESPALIER_MPI_IO_H
#define ESPALIER_MPI_IO_H

#include "espalier/status.h"

/* How the ranks write one file. */
typedef enum esp_file_io {
    ESP_IO_MPIO,  /* collective transfers over MPI-IO                                        */
    ESP_IO_DIRECT /* each its own part by plain writes, past the page cache where that can be */
} esp_file_io;

/* ESP_EUSAGE naming the first item that is not key=value, is too long for MPI, sets a key again, or gives one
 * that is known to be a number another value; and for control characters. "" and NULL are no hints. Local. */
esp_status esp_hints_check(const char *hints);

/* Hints that esp_hints_check has passed, for esp_hints_free; MPI_INFO_NULL where there are none. Local. */
MPI_Info esp_hints_info(const char *hints);
void esp_hints_free(MPI_Info *info); /* also of MPI_INFO_NULL */

/* Where MPI-IO cannot even open a file. */
#define ESP_MPI_IO_REMEDY                                                                        \
    "try another component of MPI-IO (Open MPI: OMPI_MCA_io=romio321 or ompio), or do without, " \
    "by recover.checkpoint_io = direct"

/* Makes a new empty file at path, in the place of an older one, through MPI-IO with hints: file systems lay a
 * file out in stripes when it is made. ESP_EIO; ESP_EUSAGE for a folder at path, or where nothing can be
 * written in the folder that path is in. Local. */
esp_status esp_mpi_io_create(const char *path, const char *hints);

#endif
