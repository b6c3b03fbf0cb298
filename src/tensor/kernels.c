/* kernels.c - the table of one width: compiled with the kernel files, ESP_TABLE is its name. */
#include "tensor/kernels_impl.h"

#define PROCEDURE_ENTRY(name, parameters, arguments)      .name = name,
#define FUNCTION_ENTRY(type, name, parameters, arguments) .name = name,

extern const esp_kernels ESP_TABLE;

const esp_kernels ESP_TABLE = { ESP_KERNELS(PROCEDURE_ENTRY, FUNCTION_ENTRY) };
