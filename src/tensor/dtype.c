/* dtype.c - names and sizes of the types of weights. */
#include "espalier/tensor.h"

static const struct {
    size_t size;
    const char *name;
} types[ESP_N_DTYPES] = {
    [ESP_F32] = { 4, "F32" },
    [ESP_F16] = { 2, "F16" },
    [ESP_BF16] = { 2, "BF16" },
};

size_t esp_dtype_size(esp_dtype t)
{
    return types[t].size;
}

const char *esp_dtype_name(esp_dtype t)
{
    return t < ESP_N_DTYPES ? types[t].name : NULL;
}
