/* h5_parallel.c - collective transfers of parallel HDF5. */
#include "espalier/h5_parallel.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "espalier/mem.h"
#include "espalier/mpi_io.h"
#include "espalier/status.h"
#include "h5_impl.h"

/* What failed, with the library's reason. */
static char *failure(const char *what, const char *object)
{
    char *reason = esp_h5_reason();
    char *text = esp_format("parallel HDF5: cannot %s%s%s: %s", what, *object ? " " : "", object,
                            reason ? reason : "no reason given");

    free(reason);
    return text;
}

/* Others may wait for this rank for ever. */
static _Noreturn void end_job(const esp_h5_parallel *f, const char *failed)
{
    char host[MPI_MAX_PROCESSOR_NAME];
    int rank, n;

    MPI_Comm_rank(f->comm, &rank);
    MPI_Get_processor_name(host, &n);
    fprintf(stderr, "espalier: error: rank %d (host %s): %s: %s\n", rank, host, f->path, failed);
    fflush(stderr);
    unlink(f->path);
    esp_end_job();
}

/* Ranks of all that have it: all, none, or what cannot be mended. */
static bool is_everywhere(bool here, const esp_h5_parallel *f, char *failed)
{
    int least[2] = { here, !here };

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, least, 2, MPI_INT, MPI_MIN, f->comm));
    if (least[0] == 0 && least[1] == 0) { /* to close it takes all ranks */
        if (!here) {
            end_job(f, failed);
        }
        MPI_Barrier(f->comm); /* until the job ends */
    }
    return least[0] != 0;
}

char *esp_h5_parallel_open(esp_h5_parallel *f, const char *hints)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    MPI_Info info = esp_hints_info(hints);
    char *failed;

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5Pset_fapl_mpio(access, f->comm, info);
    f->file = H5Fopen(f->path, H5F_ACC_RDWR, access);
    failed = f->file < 0 ? failure("open the file with MPI-IO", "") : NULL;
    H5Pclose(access);
    esp_hints_free(&info);
    if (is_everywhere(!failed, f, failed)) {
        f->transfer = H5Pcreate(H5P_DATASET_XFER);
        H5Pset_dxpl_mpio(f->transfer, H5FD_MPIO_COLLECTIVE);
    }
    return failed;
}

/* Elements of a one-dimensional space; none of them for n = 0. */
static void select_range(hid_t space, size_t begin, size_t n)
{
    hsize_t start = begin, count = n;

    if (n > 0) {
        H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &count, NULL);
    } else {
        H5Sselect_none(space);
    }
}

void esp_h5_parallel_write(esp_h5_parallel *f, const char *name, size_t begin, size_t n,
                           const float *data)
{
    hid_t set = H5Dopen2(f->file, name, H5P_DEFAULT), in_file, in_memory;
    hsize_t count = n > 0 ? n : 1;

    if (set < 0) {
        end_job(f, failure("open the dataset", name));
    }
    in_file = H5Dget_space(set);
    in_memory = H5Screate_simple(1, &count, NULL);
    select_range(in_file, begin, n);
    select_range(in_memory, 0, n);
    if (H5Dwrite(set, H5T_NATIVE_FLOAT, in_memory, in_file, f->transfer, data) < 0) {
        end_job(f, failure("write the dataset", name));
    }
    H5Sclose(in_memory);
    H5Sclose(in_file);
    H5Dclose(set);
}

void esp_h5_parallel_confirm(const esp_h5_parallel *f, bool good, const char *failed)
{
    int rank, size, first;

    ESP_MPI(MPI_Comm_rank(f->comm, &rank));
    ESP_MPI(MPI_Comm_size(f->comm, &size));
    first = good ? size : rank;
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, f->comm));
    if (first == rank) {
        end_job(f, failed);
    } else if (first < size) {
        MPI_Barrier(f->comm); /* until the job ends */
    }
}

void esp_h5_parallel_close(esp_h5_parallel *f)
{
    H5Pclose(f->transfer);
    if (H5Fclose(f->file) < 0) {
        end_job(f, failure("close the file", ""));
    }
}
