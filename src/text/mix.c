/* mix.c - samples of several texts, in the proportion of their weights. */
#include <stdlib.h>

#include "espalier/corpus.h"
#include "espalier/mem.h"
#include "espalier/rng.h"

#define MIX UINT64_C(0x6d6978) /* names a random stream */

/* Text of sample k: the one that is furthest behind its share of k + 1 samples, of equal ones the first. */
static size_t next_text(const size_t *taken, const double *weight, size_t n, size_t k)
{
    double sum = 0, most = 0;
    size_t next = n;

    for (size_t i = 0; i < n; i++) {
        sum += weight[i];
    }
    for (size_t i = 0; i < n; i++) {
        double behind = weight[i] / sum * (double)(k + 1) - (double)taken[i];

        if (next == n || behind > most) {
            next = i;
            most = behind;
        }
    }
    return next;
}

void esp_mix_counts(size_t *take, const double *weight, size_t n, size_t count)
{
    for (size_t i = 0; i < n; i++) {
        take[i] = 0;
    }
    for (size_t k = 0; k < count; k++) {
        take[next_text(take, weight, n, k)]++;
    }
}

/* The samples of a text in an order of their own; the caller frees. */
static size_t *order_of(const esp_samples *s, uint64_t seed, size_t i, bool shuffled)
{
    esp_rng r = { .key = esp_rng_key(seed, MIX, i) };
    size_t *order;

    ESP_NEW(order, s->n);
    for (size_t j = 0; j < s->n; j++) {
        order[j] = j;
    }
    if (shuffled) {
        esp_rng_shuffle(&r, order, s->n);
    }
    return order;
}

void esp_samples_mix(esp_samples *mix, size_t *taken, const esp_samples *of, const double *weight,
                     size_t n, size_t count, uint64_t seed)
{
    size_t **order, next;

    *mix = (esp_samples){ 0 };
    ESP_NEW(order, n);
    for (size_t i = 0; i < n; i++) {
        order[i] = order_of(&of[i], seed, i, count == 0);
        taken[i] = 0;
    }
    next = next_text(taken, weight, n, 0);
    while (taken[next] < of[next].n && !(count > 0 && mix->n == count)) {
        const esp_samples *s = &of[next];
        size_t j = order[next][taken[next]++], at = s->start[j];

        esp_samples_append(mix, s->ids + at, s->targets + at, s->start[j + 1] - at, 0);
        next = next_text(taken, weight, n, mix->n);
    }
    for (size_t i = 0; i < n; i++) {
        free(order[i]);
    }
    free(order);
}
