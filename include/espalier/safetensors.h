/* safetensors.h - reading and writing one .safetensors file. Bytes and descriptors, no model words.
 *
 * Format: u64 little-endian header size, JSON header {name: {dtype, shape, data_offsets}}, data.
 */
#ifndef ESPALIER_SAFETENSORS_H
#define ESPALIER_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "espalier/file.h"
#include "espalier/tensor.h"

#define ESP_MAX_RANK 4

typedef struct esp_tensor_info {
    char *name;       /* owned by the file or writer */
    const char *type; /* as the file spells it: "BF16", "I64"; static */
    esp_dtype dtype;  /* ESP_N_DTYPES: a known type that this program does not compute with */
    size_t n_dims;
    size_t shape[ESP_MAX_RANK]; /* the first sizes where n_dims is larger */
    size_t n_bytes;
    const void *data; /* into the mapping; may be unaligned; NULL in a writer */
    size_t offset;    /* bytes from the start of the file */
} esp_tensor_info;

typedef struct esp_safetensors {
    esp_map map;
    esp_tensor_info *tensors; /* [n] owned, in order of offset */
    size_t n;
} esp_safetensors;

/* Maps the file and checks the whole header: size within the file and 100 MB, JSON, types of the format,
 * shape times size equal to the range, ranges that neither overlap nor leave holes nor pass the end, unique
 * names. Buffers of types that nobody computes with (I64, BOOL, ...) are checked and listed too: the caller
 * looks at the dtype of what it needs. ESP_EFORMAT with file, tensor and value; ESP_EUSAGE and ESP_EIO as
 * esp_map_open; *f [out, owned] is {0} then. Local. */
esp_status esp_safetensors_open(esp_safetensors *f, const char *path);
void esp_safetensors_close(esp_safetensors *f); /* safe twice and on {0} */

/* The tensor of that name, NULL when absent. Borrowed. Local. */
const esp_tensor_info *esp_safetensors_find(const esp_safetensors *f, const char *name);

/* Writing: from {0}, all ranks plan the same tensors, create the file together, write parts of it each, and
 * finish it together. */
typedef struct esp_safetensors_writer {
    char *path;               /* final name; data goes to the part of path; owned */
    esp_tensor_info *tensors; /* [n] owned; offsets are known after create */
    size_t n;
    int fd;
} esp_safetensors_writer;

/* Declares a tensor, number w->n, of shape [n_dims], n_dims at most ESP_MAX_RANK. In the file the larger
 * types come first, then the order of declaration counts: so each tensor is aligned to its type. Local, with
 * the same calls on all ranks. */
void esp_safetensors_plan(esp_safetensors_writer *w, const char *name, esp_dtype dtype,
                          size_t n_dims, const size_t *shape);

/* Rank 0 creates the part of path with the header ({"format": "pt"}) and its full size, the others open it.
 * ESP_EIO; the part is removed and w freed then. The same status on all ranks. Collective on comm. */
esp_status esp_safetensors_create(esp_safetensors_writer *w, const char *path, MPI_Comm comm);

/* Writes data [n_bytes], whole numbers, to tensor i from byte `from` of it on. ESP_EFAILED, before any is
 * written, for a number that is NaN or infinite, naming tensor and index; ESP_EIO. Local. */
esp_status esp_safetensors_write(esp_safetensors_writer *w, size_t i, size_t from, const void *data,
                                 size_t n_bytes);

/* All ranks sync and close; rank 0 commits the part of path to path if st is ESP_OK on all ranks, else
 * removes it. Frees w. Returns what all ranks agreed on. Collective on comm. */
esp_status esp_safetensors_finish(esp_safetensors_writer *w, esp_status st, MPI_Comm comm);

#endif
