/* data.c - split and shuffles. */
#include "data_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/recover.h"
#include "espalier/rng.h"

/* Names of random streams. */
#define SPLIT UINT64_C(0x73706c6974)
#define ORDER UINT64_C(0x6f72646572)

#define NO_EPOCH ((size_t)-1)

size_t esp_recover_held_out(double validation, size_t n)
{
    double count = validation < 1 ? validation * (double)n : validation;

    return validation > 0 && count < 1 ? 1 : (size_t)count;
}

static void make_data(esp_data *d, size_t n, size_t *bytes)
{
    ESP_MAKE(d->index, n, bytes);
    ESP_MAKE(d->order, n, bytes);
}

size_t esp_data_bytes(size_t n)
{
    esp_data d;
    size_t bytes = 0;

    make_data(&d, n, &bytes);
    return bytes;
}

esp_status esp_data_split(esp_data *d, const esp_samples *s, double validation, uint64_t seed)
{
    esp_rng r = { .key = esp_rng_key(seed, SPLIT, 0) };
    size_t n = 0;

    *d = (esp_data){ .samples = s, .epoch = NO_EPOCH, .seed = seed };
    make_data(d, s->n, NULL);
    for (size_t j = 0; j < s->n; j++) {
        if (esp_samples_targets(s, j) > 0) {
            d->index[n++] = j;
        }
    }
    d->n_valid = esp_recover_held_out(validation, n);
    if (d->n_valid >= n) {
        return esp_fail(ESP_EUSAGE,
                        "recovery: of %zu samples %zu have a target and %zu are held out for "
                        "validation, none is left to train on: give a larger corpus or lower "
                        "recover.validation",
                        s->n, n, d->n_valid);
    }
    esp_rng_shuffle(&r, d->index, n);
    d->n_train = n - d->n_valid;
    d->valid = d->index + d->n_train;
    return ESP_OK;
}

void esp_data_free(esp_data *d)
{
    free(d->index);
    free(d->order);
    *d = (esp_data){ 0 };
}

const size_t *esp_data_order(esp_data *d, size_t epoch)
{
    if (d->epoch != epoch) {
        esp_rng r = { .key = esp_rng_key(d->seed, ORDER, epoch) };

        memcpy(d->order, d->index, d->n_train * sizeof *d->order);
        esp_rng_shuffle(&r, d->order, d->n_train);
        d->epoch = epoch;
    }
    return d->order;
}

size_t esp_data_targets(const esp_data *d, const size_t *pick, size_t n)
{
    size_t targets = 0;

    for (size_t i = 0; i < n; i++) {
        targets += esp_samples_targets(d->samples, pick[i]);
    }
    return targets;
}
