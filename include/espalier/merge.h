/* merge.h - a recovered model as a model folder: trained numbers back in the types of the base. */
#ifndef ESPALIER_MERGE_H
#define ESPALIER_MERGE_H

#include "espalier/params.h"
#include "espalier/tensor_writer.h"

/* Writes W + scale B A where the adapter a (NULL or empty: none) has matrices, else the weight itself, in
 * the type it has in m, or had before p (NULL: none) trained it. All ranks must have the same numbers. digest
 * [out]: of the model written; NULL: not wanted. Errors are those of esp_model_save. Collective on comm. */
esp_status esp_merge(char digest[ESP_DIGEST_SIZE], esp_output to, const esp_model *m,
                     const esp_params *p, const esp_adapter *a, MPI_Comm comm);

/* Bytes of memory that esp_merge takes; m: the model before it was trained. Local. */
size_t esp_merge_bytes(const esp_model *m, const esp_writer *writer);

#endif
