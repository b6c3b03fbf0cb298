/* ids.c - a list of token ids. */
#include <stdlib.h>

#include "espalier/bytes.h"
#include "espalier/tokenizer.h"

void esp_ids_add(esp_ids *ids, int32_t id)
{
    ids->id = esp_grow_array(ids->id, &ids->capacity, ids->n + 1, sizeof *ids->id);
    ids->id[ids->n++] = id;
}

void esp_ids_free(esp_ids *ids)
{
    free(ids->id);
    *ids = (esp_ids){ 0 };
}
