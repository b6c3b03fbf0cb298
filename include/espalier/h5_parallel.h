/* h5_parallel.h - vectors of one HDF5 file, written by all ranks at once: parallel HDF5 over MPI-IO.
 *
 * Flow: rank 0 lays the file out (esp_h5_create, esp_h5_reserve, esp_h5_lay_out) -> all ranks: open, write,
 * close -> rank 0 makes it final (esp_h5_close).
 *
 * HDF5 1.10 crashes at its end when it could not write its own structures. Here it has none to write: they
 * are in the file when it is opened, and the bytes of the vectors are the only ones that go through it.
 *
 * These functions may run in a thread beside the one that computes, where MPI gives MPI_THREAD_MULTIPLE, as
 * long as no other thread calls HDF5 or uses comm. So they leave the error slot alone.
 *
 * When a collective transfer fails on one rank the others may wait in it for ever (ROMIO), and HDF5 cannot
 * close the file any more. Then the file is removed and the job ends, with one line that says why. OMPIO of
 * Open MPI 4 does not even tell of it, and may hang in closing the file: the caller looks for its bytes and
 * confirms that they are there.
 */
#ifndef ESPALIER_H5_PARALLEL_H
#define ESPALIER_H5_PARALLEL_H

#include <hdf5.h>
#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct esp_h5_parallel {
    const char *path;     /* borrowed                                  */
    MPI_Comm comm;        /* borrowed; carries nothing else meanwhile  */
    hid_t file, transfer; /* owned; transfer: of collective transfers  */
} esp_h5_parallel;

/* Opens f->path, laid out before, on f->comm, both set by the caller, with hints (mpi_io.h). NULL; or, where
 * no rank can open it, why, for the caller to free. Ends the job where some can and others cannot. Collective
 * on f->comm, as all here. */
char *esp_h5_parallel_open(esp_h5_parallel *f, const char *hints);

/* Writes data [n] to elements begin .. begin + n - 1 of the f32 vector `name`, which is the same on all
 * ranks; n = 0: this rank has none. One collective transfer; ends the job when it fails. */
void esp_h5_parallel_write(esp_h5_parallel *f, const char *name, size_t begin, size_t n,
                           const float *data);

/* Before the file is closed. good: this rank has found its bytes in it. Where any rank has not, the file is
 * removed, and the job ends with the message `failed` of the lowest of those. */
void esp_h5_parallel_confirm(const esp_h5_parallel *f, bool good, const char *failed);

/* Closes what esp_h5_parallel_open has opened; ends the job when that fails. */
void esp_h5_parallel_close(esp_h5_parallel *f);

#endif
