/* hf.c - a Hugging Face model folder: config.json, the tensors, the small files of the model it came from. */
#include <stdlib.h>

#include "export_impl.h"

#define SHARD_BYTES ((size_t)5000000000) /* of a file where the caller has no opinion */

/* Short numbers (1e-05) where they say the same, all digits where they do not. */
static char *config_of(const esp_model *m)
{
    char *text = json_dumps(m->config, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_t *again = json_loads(text, 0, NULL);

    if (!json_equal(m->config, again)) {
        free(text);
        text = json_dumps(m->config, JSON_INDENT(2));
    }
    json_decref(again);
    ESP_REQUIRE(text);
    return text;
}

static size_t limit(const esp_contents *c)
{
    return c->shard_bytes ? c->shard_bytes : SHARD_BYTES;
}

static esp_status begin(void **state, const esp_contents *c)
{
    esp_shards *s = esp_shards_make(c, "model", esp_tensor_ref_name, limit(c));

    return esp_shards_begin(state, s, "config.json", config_of(c->model), c->from);
}

static size_t bytes(const esp_contents *c)
{
    return esp_shards_bytes(c, limit(c));
}

const esp_writer esp_hf_writer = {
    .name = "huggingface",
    .begin = begin,
    .rows = esp_shards_rows,
    .end = esp_shards_end,
    .bytes = bytes,
};
