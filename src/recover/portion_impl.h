/* portion_impl.h - the vectors of a checkpoint, and the share of a rank in them. */
#ifndef ESPALIER_PORTION_IMPL_H
#define ESPALIER_PORTION_IMPL_H

#include "espalier/params.h"

enum { ESP_N_VECTORS = 4 }; /* m, v, best, value */

/* Numbers begin .. begin + n of a vector: the share of this rank in a piece of it. */
typedef struct esp_portion {
    float *data; /* [n] borrowed */
    size_t begin, n;
} esp_portion;

extern const char *const esp_vector_names[ESP_N_VECTORS];

/* The share of piece k in vector i. Local. */
esp_portion esp_portion_of(const esp_params *p, size_t i, size_t k);

/* Sum of the digests of the blocks of a portion of vector i. Summed over all portions and ranks it is the
 * same whatever the number of ranks. Local. */
uint64_t esp_portion_digest(size_t i, esp_portion e);

#endif
