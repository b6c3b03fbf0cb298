/* data_impl.h - which samples train, which validate, and in what order: all from the seed. */
#ifndef ESPALIER_DATA_IMPL_H
#define ESPALIER_DATA_IMPL_H

#include "espalier/batch.h"
#include "espalier/status.h"

typedef struct esp_data {
    const esp_samples *samples; /* borrowed                                           */
    size_t *index;              /* [n_train + n_valid] owned: training, then held out */
    size_t n_train, n_valid;
    const size_t *valid; /* [n_valid] into index                               */
    size_t *order;       /* [n_train] owned: training samples as `epoch` takes them */
    size_t epoch;
    uint64_t seed;
} esp_data;

/* Splits the samples that have a target. validation: samples held out, < 1: fraction (at least one
 * sample unless 0). ESP_EUSAGE when nothing is left to train on. Local. */
esp_status esp_data_split(esp_data *d, const esp_samples *s, double validation, uint64_t seed);
size_t esp_data_bytes(size_t n); /* that it takes for n samples */

void esp_data_free(esp_data *d); /* safe twice and on {0} */

/* The samples of an epoch in its order, [n_train], borrowed until the next call. Local. */
const size_t *esp_data_order(esp_data *d, size_t epoch);

/* Targets of n samples. Local. */
size_t esp_data_targets(const esp_data *d, const size_t *pick, size_t n);

#endif
