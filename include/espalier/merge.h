/* merge.h - a recovered model as a model folder: trained numbers back in the types of the base. */
#ifndef ESPALIER_MERGE_H
#define ESPALIER_MERGE_H

#include "espalier/params.h"

/* Writes folder dir: W + scale B A where the adapter a (NULL or empty: none) has matrices, else the weight
 * itself, in the type it has in m, or had before p (NULL: none) trained it; tokenizer copied from m's
 * folder; digest (NULL: not wanted) is that of the model written. ESP_EIO; ESP_EFAILED for a number that is
 * NaN or infinite as written. Collective on comm. */
esp_status esp_merge(char digest[ESP_DIGEST_SIZE], const char *dir, const esp_model *m,
                     const esp_params *p, const esp_adapter *a, MPI_Comm comm);

/* Bytes of memory that it takes, m as before it was trained. Local. */
size_t esp_merge_bytes(const esp_model *m);

#endif
