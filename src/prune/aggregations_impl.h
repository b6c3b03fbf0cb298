/* aggregations_impl.h - the table of aggregations: from a channel of several structures to one number. */
#ifndef ESPALIER_AGGREGATIONS_IMPL_H
#define ESPALIER_AGGREGATIONS_IMPL_H

#include "espalier/importance.h"

typedef struct esp_aggregation_info {
    const char *name; /* in settings, importance.h5 and plan.json */
    /* Of one more structure and those before it, in order of execution. */
    double (*combine)(double before, double next);
    double
        error_factor; /* times a structure's relative error is a group's (docs/method.md, eq. 21) */
} esp_aggregation_info;

extern const esp_aggregation_info esp_aggregations_table[ESP_N_AGGREGATIONS];

#endif
