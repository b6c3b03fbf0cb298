/* reference_rope.h - rotary frequencies by their definition. */
#ifndef ESPALIER_TEST_REFERENCE_ROPE_H
#define ESPALIER_TEST_REFERENCE_ROPE_H

#include <math.h>

#include "espalier/tensor.h"

/* The frequency of pair c in a sequence of T tokens. */
static inline double plain_frequency(const esp_rope *r, size_t c, size_t T)
{
    double s = r->border ? r->stretch * (double)T / (double)r->border - r->stretch + 1 : 1;

    if (r->border == 0 || T <= r->border) {
        return r->inv_freq[c];
    }
    return r->longer ? r->longer[c]
                     : r->inv_freq[c] * pow(s, -2.0 * (double)c / ((double)r->n - 2));
}

#endif
