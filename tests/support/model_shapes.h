/* model_shapes.h - models without weights for tests: a config.json, read as the program reads it. */
#ifndef ESPALIER_TEST_MODEL_SHAPES_H
#define ESPALIER_TEST_MODEL_SHAPES_H

#include "espalier/file.h"
#include "espalier/model.h"
#include "test.h"

typedef struct shape {
    const char *type;
    size_t layers, hidden, heads, kv_heads, head_dim, mlp, vocab;
    bool tied;
    const char *more; /* further members of config.json, each after a comma; NULL: none */
} shape;

/* The sizes of a shape once more, under the names that these families have for them. */
#define BLOOM_KEYS(layers, heads) \
    ", \"n_layer\": " #layers ", \"n_head\": " #heads ", \"seq_length\": 64"
#define OPT_KEYS(mlp) ", \"ffn_dim\": " #mlp
#define CHATGLM_KEYS(layers, mlp)                                 \
    ", \"num_layers\": " #layers ", \"inner_hidden_size\": " #mlp \
    ", \"max_sequence_length\": 64, "                             \
    "\"bos_token_id\": 1, \"eos_token_id\": 2, \"mask_token_id\": 3, \"gmask_token_id\": 4"
#define CHATGLM2_KEYS(layers, kv_heads, head_dim, mlp, vocab)                  \
    ", \"num_layers\": " #layers ", \"add_qkv_bias\": true"                    \
    ", \"multi_query_attention\": true, \"multi_query_group_num\": " #kv_heads \
    ", \"kv_channels\": " #head_dim ", \"ffn_hidden_size\": " #mlp             \
    ", \"padded_vocab_size\": " #vocab ", \"seq_length\": 64"

/* A model from the text of a config.json. Every rank writes and reads a file of its own. */
static inline void config_model(esp_model *m, const char *config)
{
    char *root = esp_test_dir("shape"), *dir, *path;
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    dir = esp_format("%s-%d", root, rank);
    path = esp_path(dir, "config.json");
    ESP_REQUIRE(esp_mkdirs(dir) == ESP_OK);
    ESP_REQUIRE(esp_file_write(path, config, strlen(config)) == ESP_OK);
    if (esp_model_shape(m, dir) != ESP_OK) {
        esp_bug(__FILE__, __LINE__, "%s", esp_error_message());
    }
    free(path);
    free(dir);
    free(root);
}

static inline void shape_model(esp_model *m, const shape *s)
{
    char *text =
        esp_format("{\"model_type\": \"%s\", \"num_hidden_layers\": %zu, \"hidden_size\": %zu, "
                   "\"num_attention_heads\": %zu, \"num_key_value_heads\": %zu, "
                   "\"head_dim\": %zu, \"intermediate_size\": %zu, \"vocab_size\": %zu, "
                   "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, "
                   "\"tie_word_embeddings\": %s, \"torch_dtype\": \"bfloat16\"%s}",
                   s->type, s->layers, s->hidden, s->heads, s->kv_heads, s->head_dim, s->mlp,
                   s->vocab, s->tied ? "true" : "false", s->more ? s->more : "");

    config_model(m, text);
    free(text);
}

#endif
