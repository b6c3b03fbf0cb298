/* portion.c - the vectors of a checkpoint, and the share of a rank in them. */
#include "portion_impl.h"

#include "espalier/digest.h"
#include "espalier/mem.h"

const char *const esp_vector_names[ESP_N_VECTORS] = { "m", "v", "best", "value" };

esp_portion esp_portion_of(const esp_params *p, size_t i, size_t k)
{
    float *const own[ESP_N_VECTORS - 1] = { p->m, p->v, p->best };
    size_t begin, end;

    esp_params_share(&begin, &end, p, k, p->rank);
    return (esp_portion){ .data = i < ESP_N_VECTORS - 1 ? own[i] + p->own[k] : p->value + begin,
                          .begin = begin,
                          .n = end - begin };
}

uint64_t esp_portion_digest(size_t i, esp_portion e)
{
    uint64_t sum = 0;

    for (size_t at = 0; at < e.n; at += ESP_SHARE_BLOCK) {
        size_t n = esp_min(e.n - at, ESP_SHARE_BLOCK);

        sum +=
            esp_digest_block(e.data + at, n * sizeof *e.data, (uint64_t)i << 56 | (e.begin + at));
    }
    return sum;
}
