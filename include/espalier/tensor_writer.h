/* tensor_writer.h - the seam between the makers of tensors and the formats they are written in.
 *
 *   source (surgery, merge, synth, an adapter)  ->  esp_model_save, esp_adapter_save  ->  writer (src/export)
 *
 * A source makes rows and knows no format. A writer knows the names and files of a format and no more of
 * the ranks than that its begin and end are collective. What is between them lists the tensors, cuts them
 * into chunks of whole rows, shares the chunks out over the ranks by bytes, digests them, and commits the
 * folder. Files are the same bytes on any number of ranks.
 */
#ifndef ESPALIER_TENSOR_WRITER_H
#define ESPALIER_TENSOR_WRITER_H

#include "espalier/adapter.h"
#include "espalier/work.h"

/* Numbers that a source makes or converts at once, in a buffer on the stack. */
#define ESP_SOURCE_NUMBERS ((size_t)4096)

/* Fills out [n, t->shape[1]] with rows first .. first + n - 1 of tensor t, in the type
 * esp_tensor_ref_dtype(t). Which rank asks for which rows depends on the number of ranks: each must be
 * able to make any. Local. */
typedef esp_status (*esp_tensor_source)(void *ctx, void *out, const esp_tensor_ref *t, size_t first,
                                        size_t n);

/* What a writer is given; all of it borrowed until its end. */
typedef struct esp_contents {
    const esp_model *model;        /* shapes and config.json, no data                     */
    const esp_adapter *adapter;    /* what is written; NULL: the model                    */
    double dropout;                /* with which the adapter was trained                  */
    const char *from;              /* folder of the model it was made from; NULL: of none */
    const esp_tensor_ref *tensors; /* [n] in the order of their rows                      */
    size_t n;
    const char *part;   /* folder that the files go to, with a marker (folder.h)    */
    size_t shard_bytes; /* of a file at most, where the format has several; 0: usual */
    MPI_Comm comm;
} esp_contents;

typedef struct esp_writer {
    const char *name; /* of the format                     */
    bool adapters;    /* it writes adapters, else models   */

    /* Makes the files in c->part, each named in its marker first, with all but the tensors. *state [out] is
     * for the two below; nothing is left to be freed after a failure. Collective on c->comm, the same status
     * on all ranks. */
    esp_status (*begin)(void **state, const esp_contents *c);

    /* Writes rows first .. first + n - 1 of tensor i from data, as a source gives them. Ranks write different
     * rows, in any order. ESP_EFAILED for a number that is NaN or infinite, naming it; ESP_EIO. Local. */
    esp_status (*rows)(void *state, size_t i, size_t first, size_t n, const void *data);

    /* Completes and syncs the files where st is ESP_OK on all ranks; frees the state. Returns what all ranks
     * agreed on. Collective on c->comm. */
    esp_status (*end)(void *state, esp_status st);

    /* Bytes of memory from begin to end. Local. */
    size_t (*bytes)(const esp_contents *c);
} esp_writer;

/* Where to write, and in which format. */
typedef struct esp_output {
    const esp_writer *writer; /* borrowed, as dir                              */
    const char *dir;          /* folder that is to be                          */
    size_t shard_bytes;       /* of a file at most; 0: what the format is used to */
} esp_output;

/* Writes the model of these shapes, its tensors from a source, and commits the folder. from: folder of the
 * model that it was made from, whose small files go along (tokenizer, code, licence); NULL: none. digest
 * [out]: of the model written; NULL: not wanted. On a failure the folder is as it was before: ESP_EIO,
 * ESP_EUSAGE where something else is in its place, what source or writer refuse. Collective on comm. */
esp_status esp_model_save(char digest[ESP_DIGEST_SIZE], esp_output to, const esp_model *shape,
                          esp_tensor_source source, void *ctx, const char *from, MPI_Comm comm);

/* Bytes of memory that esp_model_save takes, digest included; numbers that it asks a source for at most at a
 * time. Local. */
size_t esp_model_save_bytes(const esp_model *shape, const esp_writer *writer);
size_t esp_model_save_numbers(const esp_model *shape);

/* What all ranks together do for it, files left out: rows are read and written. Local. */
esp_work esp_model_save_work(const esp_model *shape);

/* The same for the adapter a of m; dropout is that of its training, for who trains on. Collective on comm. */
esp_status esp_adapter_save(esp_output to, const esp_adapter *a, const esp_model *m, double dropout,
                            MPI_Comm comm);

#endif
