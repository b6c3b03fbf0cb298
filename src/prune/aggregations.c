/* aggregations.c - a formula (docs/method.md, eq. 14) and a row of the table for each aggregation. */
#include "aggregations_impl.h"

static double sum(double before, double next)
{
    return before + next;
}

static double product(double before, double next)
{
    return before * next;
}

static double larger(double before, double next)
{
    return next > before ? next : before;
}

static double last(double before, double next)
{
    (void)before;
    return next;
}

const esp_aggregation_info esp_aggregations_table[ESP_N_AGGREGATIONS] = {
    [ESP_SUM] = { "sum", sum, 1 },
    [ESP_PROD] = { "prod", product, 4 },
    [ESP_MAX] = { "max", larger, 1 },
    [ESP_LAST] = { "last", last, 1 },
};

const char *esp_aggregation_name(esp_aggregation a)
{
    return a < ESP_N_AGGREGATIONS ? esp_aggregations_table[a].name : NULL;
}
