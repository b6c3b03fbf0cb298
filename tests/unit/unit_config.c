/* unit_config.c - config.json: what is taken from it, what is refused, and what models then cost. */
#include "espalier/file.h"
#include "espalier/reshape.h"

#include "config_patch.h"

#define BLOOM                                                                             \
    "\"model_type\": \"bloom\", \"hidden_size\": \"-\", \"n_embed\": 32, \"n_head\": 4, " \
    "\"num_attention_heads\": \"-\""

/* ---- values -------------------------------------------------------------------------------------- */

static void test_plain_values(void)
{
    esp_model m = shape_of("{}");

    CU_ASSERT_STRING_EQUAL(m.arch->model_type, "llama");
    CU_ASSERT_EQUAL(m.dims.n_layers, 2);
    CU_ASSERT_EQUAL(m.dims.hidden, 64);
    CU_ASSERT_EQUAL(m.dims.head_dim, 16); /* 64 / 4 */
    CU_ASSERT_EQUAL(m.dims.vocab, 100);
    CU_ASSERT_EQUAL(m.dims.max_positions, 512);
    CU_ASSERT_EQUAL(m.dims.layer[1].heads, 4);
    CU_ASSERT_EQUAL(m.dims.layer[1].kv_heads, 2);
    CU_ASSERT_EQUAL(m.dims.layer[1].mlp, 96);
    CU_ASSERT_TRUE(m.tied);
    CU_ASSERT_EQUAL(m.norm_eps, 1e-5f);
    CU_ASSERT_EQUAL(m.bos, 1);
    CU_ASSERT_EQUAL(m.eos, 2);
    CU_ASSERT_EQUAL(m.dtype, ESP_BF16);
    esp_model_free(&m);
    esp_model_free(&m);
}

static void test_defaults(void)
{
    esp_model m =
        shape_of("{\"num_key_value_heads\": null, \"head_dim\": null, \"hidden_act\": \"-\","
                 "\"max_position_embeddings\": \"-\", \"rms_norm_eps\": \"-\","
                 "\"tie_word_embeddings\": \"-\", \"bos_token_id\": null, \"vocab_size\": \"-\","
                 "\"intermediate_size\": \"-\", \"rope_theta\": \"-\","
                 "\"eos_token_id\": [7, 8], \"torch_dtype\": null, \"dtype\": \"float16\"}");

    CU_ASSERT_EQUAL(m.dims.layer[0].kv_heads, 4);
    CU_ASSERT_EQUAL(m.dims.max_positions, 2048);
    CU_ASSERT_EQUAL(m.dims.vocab, 32000);
    CU_ASSERT_EQUAL(m.dims.layer[1].mlp, 11008);
    CU_ASSERT_EQUAL(m.norm_eps, 1e-6f);
    CU_ASSERT_FALSE(m.tied);
    CU_ASSERT_EQUAL(m.bos, -1);
    CU_ASSERT_EQUAL(m.eos, 7);
    CU_ASSERT_EQUAL(m.dtype, ESP_F16);
    /* What is written says it to classes with other defaults. */
    CU_ASSERT_TRUE(json_is_false(json_object_get(m.config, "tie_word_embeddings")));
    CU_ASSERT_EQUAL(json_real_value(json_object_get(m.config, "rms_norm_eps")), 1e-6);
    CU_ASSERT_EQUAL(json_real_value(json_object_get(m.config, "rope_theta")), 1e4);
    CU_ASSERT_TRUE(json_is_null(json_object_get(m.config, "bos_token_id")));
    esp_model_free(&m);
}

/* Each class has its own; the values are those of transformers 5 and of the published code. */
static void test_defaults_of_families(void)
{
    esp_model m = shape_of("{\"model_type\": \"mistral\", \"num_key_value_heads\": \"-\","
                           "\"hidden_size\": 128, \"num_attention_heads\": 8}");

    CU_ASSERT_EQUAL(m.dims.layer[0].kv_heads, 8);
    CU_ASSERT_EQUAL(m.dims.layer[1].window, 4096);
    esp_model_free(&m);
    m = shape_of(
        "{\"model_type\": \"gemma2\", \"tie_word_embeddings\": \"-\", \"hidden_act\": \"gelu\","
        "\"num_key_value_heads\": \"-\", \"num_attention_heads\": 8, \"bos_token_id\": \"-\"}");
    CU_ASSERT_TRUE(m.tied);
    CU_ASSERT_EQUAL(m.dims.head_dim, 256);
    CU_ASSERT_EQUAL(m.dims.layer[1].kv_heads, 4);
    CU_ASSERT_EQUAL(m.attention_cap, 50);
    CU_ASSERT_EQUAL(m.logit_cap, 30);
    CU_ASSERT_EQUAL(m.attention_scale, 1.0f / 16);
    CU_ASSERT_EQUAL(m.dims.layer[0].window, 4096);
    CU_ASSERT_EQUAL(m.dims.layer[1].window, 0);
    CU_ASSERT_EQUAL(m.bos, 2);
    esp_model_free(&m);
    m = shape_of("{\"model_type\": \"gemma2\", \"attn_logit_softcapping\": null,"
                 "\"final_logit_softcapping\": null, \"query_pre_attn_scalar\": 64}");
    CU_ASSERT_EQUAL(m.attention_cap, 0);
    CU_ASSERT_EQUAL(m.logit_cap, 0);
    CU_ASSERT_EQUAL(m.attention_scale, 1.0f / 8);
    esp_model_free(&m);
    m = shape_of("{\"model_type\": \"qwen3\"}");
    CU_ASSERT_EQUAL(m.dims.head_dim, 128);
    CU_ASSERT_EQUAL(m.dims.layer[1].window, 0);
    esp_model_free(&m);
    m = shape_of("{\"model_type\": \"phi3\", \"rms_norm_eps\": \"-\", \"eos_token_id\": \"-\"}");
    CU_ASSERT_EQUAL(m.norm_eps, 1e-5f);
    CU_ASSERT_EQUAL(m.eos, -1); /* 32000 of 100 */
    CU_ASSERT_EQUAL(m.dims.layer[0].window, 0);
    esp_model_free(&m);
    m = shape_of("{\"model_type\": \"opt\", \"hidden_size\": \"-\", \"num_attention_heads\": \"-\","
                 "\"tie_word_embeddings\": \"-\"}");
    CU_ASSERT_EQUAL(m.dims.hidden, 768);
    CU_ASSERT_EQUAL(m.dims.head_dim, 64);
    CU_ASSERT_EQUAL(m.dims.layer[1].mlp, 3072);
    CU_ASSERT_TRUE(m.tied);
    esp_model_free(&m);
    m = shape_of("{" BLOOM ", \"tie_word_embeddings\": \"-\"}");
    CU_ASSERT_EQUAL(m.dims.hidden, 32);
    CU_ASSERT_TRUE(m.tied);
    CU_ASSERT_PTR_NULL(json_object_get(m.config, "hidden_size")); /* one name says it */
    esp_model_free(&m);
    m = shape_of("{" BLOOM ", \"seq_length\": null}");
    CU_ASSERT_EQUAL(m.dims.max_positions, 2048);
    CU_ASSERT_TRUE(json_is_null(json_object_get(m.config, "seq_length")));
    esp_model_free(&m);
    m = shape_of("{\"model_type\": \"baichuan\", \"rms_norm_eps\": \"-\", \"rope_theta\": \"-\"}");
    CU_ASSERT_EQUAL(m.norm_eps, 1e-6f);
    esp_model_free(&m);
    m = shape_of("{\"model_type\": \"chatglm\", \"tie_word_embeddings\": \"-\", \"num_layers\": 1,"
                 "\"rope_theta\": \"-\","
                 "\"gmask_token_id\": 5, \"mask_token_id\": 6}");
    CU_ASSERT_TRUE(m.tied);
    CU_ASSERT_EQUAL(m.dims.layer[0].mlp, 16384);
    CU_ASSERT_TRUE(json_is_true(json_object_get(m.config, "tie_word_embeddings")));
    esp_model_free(&m);
}

/* Windows of the four layers of a configuration, as digits. */
static void check_windows(const char *patch, const char *wanted)
{
    esp_model m = shape_of(patch);
    char found[5] = "";

    CU_ASSERT_EQUAL_FATAL(m.dims.n_layers, 4);
    for (size_t l = 0; l < 4; l++) {
        found[l] = (char)('0' + m.dims.layer[l].window);
    }
    CU_ASSERT_STRING_EQUAL(found, wanted);
    CU_ASSERT_EQUAL(m.dims.max_positions, 512);
    esp_model_free(&m);
}

static void test_windows(void)
{
#define OF(type, more) \
    "{\"num_hidden_layers\": 4, \"sliding_window\": 7, \"model_type\": \"" type "\"" more "}"
#define TYPES                                                                            \
    ", \"layer_types\": [\"sliding_attention\", \"full_attention\", \"full_attention\"," \
    "\"sliding_attention\"]"
    check_windows(OF("llama", ""), "0000");
    check_windows(OF("llama", TYPES), "0000");
    check_windows(OF("mistral", ""), "7777");
    check_windows(OF("mistral", TYPES), "7007");
    check_windows(OF("mistral", ", \"sliding_window\": null"), "0000");
    check_windows(OF("phi3", ""), "7777");
    check_windows(OF("qwen2", ""), "0000");
    check_windows(OF("qwen2", ", \"use_sliding_window\": true"), "0000");
    check_windows(OF("qwen2", ", \"use_sliding_window\": true, \"max_window_layers\": 1"), "0777");
    check_windows(OF("qwen2", ", \"use_sliding_window\": true, \"max_window_layers\": 0"), "7777");
    check_windows(OF("qwen3", ", \"use_sliding_window\": true" TYPES), "7007");
    check_windows(OF("qwen3", ", \"max_window_layers\": 1"), "0000");
    check_windows(OF("gemma2", ""), "7070");
    check_windows(OF("gemma2", TYPES), "7007");
    check_refused(OF("gemma2", ", \"layer_types\": [\"full_attention\"]"), "layer_types is");
    check_refused(OF("gemma2", ", \"layer_types\": [\"full_attention\", \"full_attention\","
                               "\"full_attention\", \"chunked_attention\"]"),
                  "must be of sliding_attention and full_attention");
    check_refused(OF("qwen2", TYPES),
                  "use_sliding_window is false, must be true where layer_types");
    check_refused(OF("qwen3", ", \"use_sliding_window\": false" TYPES),
                  "use_sliding_window is false");
    check_refused(OF("qwen3", ", \"use_sliding_window\": true, \"sliding_window\": null" TYPES),
                  "sliding_window is null, must be a whole number");
    check_refused(OF("gemma2", ", \"sliding_window\": null"), "sliding_window is null");
    check_refused(OF("mistral", ", \"sliding_window\": 0"), "sliding_window is 0");
    check_refused(OF("qwen2", ", \"max_window_layers\": -1"), "max_window_layers is -1");
#undef TYPES
#undef OF
}

/* Layers 0 and 3 go: the two that stay keep their windows, whether an inference engine counts layers or
 * not. */
static void test_windows_that_stay(void)
{
    esp_model m = shape_of(
                  "{\"num_hidden_layers\": 4, \"sliding_window\": 7, \"model_type\": \"qwen2\","
                  "\"use_sliding_window\": true, \"max_window_layers\": 2}"),
              to;
    esp_layer_dims left[2] = { m.dims.layer[1], m.dims.layer[2] };
    esp_dims dims = m.dims;
    const json_t *types;

    dims.n_layers = 2;
    dims.layer = left;
    esp_model_reshape(&to, &m, &dims);
    types = json_object_get(to.config, "layer_types");
    CU_ASSERT_EQUAL_FATAL(json_array_size(types), 2);
    CU_ASSERT_STRING_EQUAL(json_string_value(json_array_get(types, 0)), "full_attention");
    CU_ASSERT_STRING_EQUAL(json_string_value(json_array_get(types, 1)), "sliding_attention");
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(to.config, "max_window_layers")), 1);
    esp_model_free(&to);
    esp_model_free(&m);
}

static bool has_bias(const char *patch, const char *role)
{
    esp_model m = shape_of(patch);
    bool has = esp_model_weight(&m, 1, esp_arch_slot(m.arch, role))->has_bias;

    esp_model_free(&m);
    return has;
}

static void test_biases(void)
{
    CU_ASSERT_FALSE(has_bias("{}", "q_proj"));
    CU_ASSERT_TRUE(has_bias("{\"model_type\": \"qwen2\"}", "v_proj"));
    CU_ASSERT_FALSE(has_bias("{\"model_type\": \"qwen2\"}", "o_proj"));
    CU_ASSERT_TRUE(has_bias("{\"attention_bias\": true}", "k_proj"));
    CU_ASSERT_TRUE(has_bias("{\"attention_bias\": true}", "o_proj"));
    CU_ASSERT_FALSE(has_bias("{\"attention_bias\": true}", "up_proj"));
    CU_ASSERT_TRUE(has_bias("{\"mlp_bias\": true}", "down_proj"));
    CU_ASSERT_FALSE(has_bias("{\"mlp_bias\": true}", "q_proj"));
    /* Classes that do not know the keys have none. */
    CU_ASSERT_FALSE(has_bias("{\"model_type\": \"mistral\", \"attention_bias\": true}", "q_proj"));
    CU_ASSERT_FALSE(has_bias("{\"model_type\": \"qwen2\", \"attention_bias\": true}", "o_proj"));
    CU_ASSERT_FALSE(has_bias("{\"model_type\": \"qwen3\", \"mlp_bias\": true}", "up_proj"));
}

/* ---- refusals ------------------------------------------------------------------------------------ */

static void test_values_that_are_refused(void)
{
    check_refused("{\"model_type\": \"gpt2\"}",
                  "model_type is \"gpt2\", must be one of llama, mistral, qwen2");
    check_refused("{\"model_type\": null}", "model_type is null, must be one of");
    check_refused("{\"model_type\": \"-\"}", "model_type is missing, must be one of");
    check_refused("{\"hidden_act\": \"gelu\"}", "hidden_act is \"gelu\", must be \"silu\"");
    check_refused("{\"hidden_size\": null}",
                  "hidden_size is null, must be given, or left out for the default, 4096");
    check_refused("{\"model_type\": \"gemma2\", \"head_dim\": null}", "head_dim is null");
    check_refused("{\"model_type\": \"mistral\", \"num_key_value_heads\": null}",
                  "num_key_value_heads is null");
    check_refused("{\"model_type\": \"baichuan\", \"vocab_size\": \"-\"}", "vocab_size is missing");
    check_refused("{\"model_type\": \"baichuan\", \"max_position_embeddings\": \"-\"}",
                  "needs the key max_position_embeddings or model_max_length");
    check_refused("{\"model_type\": \"chatglm\"}",
                  "needs the key multi_query_attention or inner_hidden_size");
    check_refused("{\"model_type\": \"opt\", \"hidden_size\": \"-\", \"word_embed_proj_dim\": 512,"
                  "\"activation_function\": \"relu\"}",
                  "word_embed_proj_dim is 512, must be the same as hidden_size");
    check_refused("{\"model_type\": \"baichuan\", \"rope_theta\": \"-\", \"vocab_size\": 125696}",
                  "z_loss_weight is missing, must be 0 where the head is normalised");
    check_refused("{\"model_type\": \"baichuan\", \"rope_theta\": \"-\","
                  "\"architectures\": [\"BaichuanForCausalLM\"]}",
                  "z_loss_weight is missing");
    check_refused("{\"is_causal\": false}", "is_causal is false");
    check_refused("{\"model_type\": \"gemma2\", \"use_bidirectional_attention\": true}",
                  "use_bidirectional_attention is true, must be false");
    check_refused("{\"model_type\": \"opt\", \"hidden_size\": null, \"word_embed_proj_dim\": 64}",
                  "hidden_size is null");
    check_refused("{\"pre_seq_len\": 128}", "pre_seq_len is 128");
    check_refused("{\"pruned_heads\": {\"0\": [1]}}", "pruned_heads is");
    check_refused("{\"hidden_size\": 64.0}", "hidden_size is 64.0");
    check_refused("{\"hidden_size\": \"64\"}", "hidden_size is \"64\"");
    check_refused("{\"intermediate_size\": 0}", "intermediate_size is 0");
    check_refused("{\"vocab_size\": -5}", "vocab_size is -5");
    check_refused("{\"vocab_size\": 9999999999}", "vocab_size is 9999999999");
    check_refused("{\"num_hidden_layers\": 1000000}", "num_hidden_layers is 1000000");
    check_refused("{\"max_position_embeddings\": 0}", "max_position_embeddings is 0");
    check_refused("{\"num_attention_heads\": 5}", "head_dim is missing, must be given where");
    check_refused("{\"num_key_value_heads\": 3}",
                  "num_attention_heads 4 is not a multiple of num_key_value_heads 3");
    check_refused("{\"num_attention_heads\": 65536, \"head_dim\": 65536}", "are too many");
    check_refused("{\"tie_word_embeddings\": 1}",
                  "tie_word_embeddings is 1, must be true or false");
    check_refused("{\"attention_bias\": \"no\"}", "attention_bias is \"no\"");
    check_refused("{\"mlp_bias\": \"no\"}", "mlp_bias is \"no\"");
    check_refused("{\"rms_norm_eps\": -1e-5}", "rms_norm_eps is");
    check_refused("{\"bos_token_id\": 100}", "bos_token_id is 100, must be a token id below");
    check_refused("{\"eos_token_id\": [\"a\"]}", "eos_token_id is [\"a\"]");
}

static void test_quantised_weights_are_refused(void)
{
    check_refused("{\"quantization_config\": {\"bits\": 4, \"quant_method\": \"gptq\"}}",
                  "quantization_config (gptq): quantised weights are not read");
    check_refused("{\"quantization_config\": {\"load_in_4bit\": true}}",
                  "quantization_config (bitsandbytes)");
    check_refused("{\"quantization_config\": {\"bits\": 4}}", "no quant_method");
    check_refused("{\"compression_config\": {\"quant_method\": \"compressed-tensors\"}}",
                  "compression_config (compressed-tensors)");
    check_refused("{\"load_in_8bit\": true}", "load_in_8bit (is set)");
    check_refused("{\"quantization_bit\": 8}", "quantization_bit");
    for (size_t i = 0; i < 2; i++) {
        esp_model m = shape_of(i ? "{\"quantization_config\": null, \"load_in_4bit\": false}"
                                 : "{\"quantization_bit\": 0, \"pre_seq_len\": null,"
                                   "\"pruned_heads\": {}, \"is_causal\": true}");

        esp_model_free(&m);
    }
}

static void test_files_that_are_refused(void)
{
    char *dir = put("{}"), *path = esp_path(dir, "config.json");
    esp_model m;

    CU_ASSERT_EQUAL(esp_file_write(path, "{\"a\": 1,\n \"a\": 2}", 17), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_shape(&m, dir), ESP_EFORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "config.json: line 2: duplicate"));
    CU_ASSERT_EQUAL(esp_file_write(path, "[]", 2), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_shape(&m, dir), ESP_EFORMAT);
    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_shape(&m, dir), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), dir));
    esp_model_free(&m);
    esp_error_clear();
    free(path);
    free(dir);
}

/* ---- layers that differ -------------------------------------------------------------------------- */

static void test_sizes_of_each_layer(void)
{
    esp_model m = shape_of("{\"head_dim\": 16, \"espalier\": {\"num_attention_heads\": [4, 2],"
                           "\"num_key_value_heads\": [2, 1], \"intermediate_size\": [96, 33]}}");
    const esp_weight *down = esp_model_weight(&m, 1, esp_arch_slot(m.arch, "down_proj"));
    const esp_weight *k = esp_model_weight(&m, 1, esp_arch_slot(m.arch, "k_proj"));

    CU_ASSERT_EQUAL(m.dims.layer[0].heads, 4);
    CU_ASSERT_EQUAL(m.dims.layer[1].heads, 2);
    CU_ASSERT_EQUAL(down->rows, 64);
    CU_ASSERT_EQUAL(down->cols, 33);
    CU_ASSERT_EQUAL(k->rows, 16);
    CU_ASSERT_EQUAL(esp_model_width(&m, 1, ESP_W_QUERY), 32);
    CU_ASSERT_EQUAL(esp_model_width(&m, 0, ESP_W_QUERY), 64);
    esp_model_free(&m);
}

static void test_lists_that_are_refused(void)
{
    check_refused("{\"espalier\": {\"intermediate_size\": [96]}}",
                  "intermediate_size is [96], must be a list with one number per layer");
    check_refused("{\"espalier\": {\"intermediate_size\": [96, 0]}}",
                  "intermediate_size is [96,0]");
    check_refused("{\"espalier\": {\"num_attention_heads\": \"all\"}}",
                  "num_attention_heads is \"all\"");
    check_refused("{\"espalier\": {\"num_attention_heads\": [4, 3]}}",
                  "layer 1: num_attention_heads 3 is not a multiple of num_key_value_heads 2");
}

static json_int_t number(const esp_model *m, const char *key)
{
    return json_integer_value(json_object_get(m->config, key));
}

static void test_reshape_to_equal_layers(void)
{
    esp_model m = shape_of(
        "{\"espalier\": {\"intermediate_size\": [96, 95]}, \"layer_types\": [\"a\", \"b\"]}");
    esp_layer_dims layer = { 2, 1, 40, 0 };
    esp_dims dims = m.dims;
    esp_model to;

    dims.n_layers = 1;
    dims.hidden = 48;
    dims.layer = &layer;
    esp_model_reshape(&to, &m, &dims);
    CU_ASSERT_EQUAL(number(&to, "hidden_size"), 48);
    CU_ASSERT_EQUAL(number(&to, "num_hidden_layers"), 1);
    CU_ASSERT_EQUAL(number(&to, "head_dim"), 16);
    CU_ASSERT_EQUAL(number(&to, "num_attention_heads"), 2);
    CU_ASSERT_EQUAL(number(&to, "num_key_value_heads"), 1);
    CU_ASSERT_EQUAL(number(&to, "intermediate_size"), 40);
    CU_ASSERT_PTR_NULL(json_object_get(to.config, "espalier"));
    CU_ASSERT_PTR_NULL(json_object_get(to.config, "layer_types"));
    CU_ASSERT_EQUAL(number(&m, "hidden_size"), 64); /* the old one is as it was */
    CU_ASSERT_PTR_NOT_NULL(json_object_get(m.config, "espalier"));
    CU_ASSERT_EQUAL(to.block[0].rows, 48);
    CU_ASSERT_EQUAL(to.dtype, ESP_BF16);
    CU_ASSERT_PTR_NULL(to.block[0].data);
    esp_model_free(&to);
    esp_model_free(&m);
}

static void test_reshape_to_layers_that_differ(void)
{
    esp_model m = shape_of("{}"), to;
    esp_layer_dims layers[] = { { 4, 2, 96, 0 }, { 2, 1, 96, 0 } };
    esp_dims dims = m.dims;
    json_t *own;

    dims.layer = layers;
    esp_model_reshape(&to, &m, &dims);
    own = json_object_get(to.config, "espalier");
    CU_ASSERT_EQUAL(number(&to, "num_attention_heads"), 4);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(own, "num_key_value_heads")), 2);
    CU_ASSERT_EQUAL(
        json_integer_value(json_array_get(json_object_get(own, "num_attention_heads"), 1)), 2);
    CU_ASSERT_PTR_NULL(json_object_get(own, "intermediate_size")); /* the same in both */
    CU_ASSERT_EQUAL(esp_model_weight(&to, 1, esp_arch_slot(to.arch, "o_proj"))->cols, 32);
    esp_model_free(&to);
    esp_model_free(&m);
}

static const char *reshaped_type(const char *patch, size_t heads)
{
    esp_model m = shape_of(patch), to;
    esp_layer_dims layers[] = { { heads, 1, 96, 0 }, { heads, 1, 96, 0 } };
    esp_dims dims = m.dims;
    const char *type;

    dims.layer = layers;
    esp_model_reshape(&to, &m, &dims);
    type = to.arch->model_type;
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(to.config, "model_type")), type);
    esp_model_free(&to);
    esp_model_free(&m);
    return type;
}

/* A name under which the class takes the number of heads, where there is one. */
static void test_reshape_to_heads_that_do_not_divide(void)
{
    CU_ASSERT_STRING_EQUAL(reshaped_type("{}", 2), "llama");
    CU_ASSERT_STRING_EQUAL(reshaped_type("{}", 3), "mistral");
    CU_ASSERT_STRING_EQUAL(reshaped_type("{\"attention_bias\": true}", 3), "llama");
    CU_ASSERT_STRING_EQUAL(reshaped_type("{\"model_type\": \"qwen2\"}", 3), "qwen2");
}

/* ---- keys with more than one name ---------------------------------------------------------------- */

/* Sizes of a small BLOOM that is cut. */
static void cut_bloom(esp_model *to, const char *patch)
{
    esp_model m = shape_of(patch);
    esp_layer_dims layer = { 2, 2, 192, 0 };
    esp_dims dims = m.dims;

    CU_ASSERT_EQUAL(m.dims.hidden, 64);
    CU_ASSERT_EQUAL(m.dims.n_layers, 2);
    CU_ASSERT_EQUAL(m.dims.layer[1].heads, 4);
    dims.n_layers = 1;
    dims.hidden = 48;
    dims.layer = &layer;
    esp_model_reshape(to, &m, &dims);
    esp_model_free(&m);
}

/* What is read under one name is written under it, and under both where both are there. */
static void test_synonyms(void)
{
    esp_model to;

    cut_bloom(&to, "{\"model_type\": \"bloom\", \"hidden_size\": null, \"n_embed\": 64}");
    CU_ASSERT_EQUAL(number(&to, "n_embed"), 48);
    CU_ASSERT_EQUAL(number(&to, "num_hidden_layers"), 1);
    CU_ASSERT_EQUAL(number(&to, "num_attention_heads"), 2);
    CU_ASSERT_FALSE(json_is_integer(json_object_get(to.config, "hidden_size")));
    CU_ASSERT_PTR_NULL(json_object_get(to.config, "n_layer"));
    CU_ASSERT_PTR_NULL(json_object_get(to.config, "n_head"));
    esp_model_free(&to);

    cut_bloom(&to, "{\"model_type\": \"bloom\", \"n_embed\": 64, \"n_head\": 4, \"n_layer\": 2,"
                   "\"num_attention_heads\": null, \"num_hidden_layers\": 2}");
    CU_ASSERT_EQUAL(number(&to, "n_embed"), 48);
    CU_ASSERT_EQUAL(number(&to, "hidden_size"), 48);
    CU_ASSERT_EQUAL(number(&to, "n_layer"), 1);
    CU_ASSERT_EQUAL(number(&to, "num_hidden_layers"), 1);
    CU_ASSERT_EQUAL(number(&to, "n_head"), 2);
    CU_ASSERT_FALSE(json_is_integer(json_object_get(to.config, "num_attention_heads")));
    esp_model_free(&to);
}

/* BLOOM's sums in slices leave out two biases; transformers does so where both keys ask for it. */
static void test_slow_but_exact(void)
{
    static const char *const accepted[] = { "\"slow_but_exact\": true",
                                            "\"slow_but_exact\": true, \"pretraining_tp\": 1",
                                            "\"slow_but_exact\": false, \"pretraining_tp\": 4" };

    for (size_t i = 0; i < 3; i++) {
        char *patch = esp_format("{" BLOOM ", %s}", accepted[i]);
        esp_model m = shape_of(patch);

        esp_model_free(&m);
        free(patch);
    }
    check_refused("{" BLOOM ", \"slow_but_exact\": true, \"pretraining_tp\": 2}",
                  "slow_but_exact is true, must be false with more than 1 pretraining_tp");
    check_refused("{" BLOOM ", \"slow_but_exact\": 1}",
                  "slow_but_exact is 1, must be true or false");
}

static void test_synonyms_that_are_refused(void)
{
    check_refused("{\"model_type\": \"bloom\", \"n_layer\": 3}",
                  "num_hidden_layers is 2, must be the same as n_layer");
    check_refused("{\"model_type\": \"bloom\", \"num_attention_heads\": 0}",
                  "num_attention_heads is 0, must be a whole number");
    check_refused("{\"model_type\": \"bloom\", \"num_attention_heads\": null}",
                  "n_head is missing, must be a whole number");
    check_refused("{\"model_type\": \"opt\", \"ffn_dim\": 96, \"num_key_value_heads\": null,"
                  "\"hidden_act\": null, \"word_embed_proj_dim\": 32}",
                  "word_embed_proj_dim is 32, must be the same as hidden_size");
}

/* ---- cost ---------------------------------------------------------------------------------------- */

static void test_parameters_of_known_models(void)
{
    static const struct {
        const char *patch;
        uint64_t parameters;
    } known[] = {
        { "{\"hidden_size\": 4096, \"intermediate_size\": 11008, \"num_hidden_layers\": 32,"
          "\"num_attention_heads\": 32, \"num_key_value_heads\": null, \"vocab_size\": 32000,"
          "\"tie_word_embeddings\": false}",
          UINT64_C(6738415616) },
        { "{\"hidden_size\": 4096, \"intermediate_size\": 14336, \"num_hidden_layers\": 32,"
          "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"vocab_size\": 128256,"
          "\"tie_word_embeddings\": false}",
          UINT64_C(8030261248) },
        { "{\"hidden_size\": 2048, \"intermediate_size\": 5632, \"num_hidden_layers\": 22,"
          "\"num_attention_heads\": 32, \"num_key_value_heads\": 4, \"vocab_size\": 32000,"
          "\"tie_word_embeddings\": false}",
          UINT64_C(1100048384) },
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        esp_model m = shape_of(known[i].patch);
        esp_cost c = esp_model_cost(&m, 64);

        CU_ASSERT_EQUAL(c.parameters, known[i].parameters);
        CU_ASSERT_EQUAL(c.bytes, 2 * known[i].parameters);
        esp_model_free(&m);
    }
}

/* Everything by hand for the small base: widths 64, 64 (queries), 32 (keys), 96, vocabulary 100. */
static void test_cost_by_hand(void)
{
    const uint64_t linear = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64, norms = 2 * 64,
                   embed = 100 * 64;
    const uint64_t T = 10, attention = 2 * T * T * 64;
    esp_model m = shape_of("{\"torch_dtype\": \"float32\"}");
    esp_cost c = esp_model_cost(&m, T);

    CU_ASSERT_EQUAL(c.parameters, 2 * (linear + norms) + 64 + embed); /* tied: once */
    CU_ASSERT_EQUAL(c.bytes, 4 * c.parameters);
    CU_ASSERT_EQUAL(c.macs, T * (2 * linear + embed) + 2 * attention);
    esp_model_free(&m);

    m = shape_of("{\"tie_word_embeddings\": false, \"model_type\": \"qwen2\"}");
    CU_ASSERT_EQUAL(esp_model_cost(&m, T).parameters,
                    c.parameters + embed + 2 * (64 + 32 + 32)); /* head and biases */
    CU_ASSERT_EQUAL(esp_model_cost(&m, T).macs, c.macs);
    esp_model_free(&m);
}

ESP_TEST_MAIN("config.json", { "plain values", test_plain_values }, { "defaults", test_defaults },
              { "defaults of families", test_defaults_of_families }, { "windows", test_windows },
              { "windows that stay", test_windows_that_stay },
              { "quantised weights are refused", test_quantised_weights_are_refused },
              { "biases", test_biases },
              { "values that are refused", test_values_that_are_refused },
              { "files that are refused", test_files_that_are_refused },
              { "sizes of each layer", test_sizes_of_each_layer },
              { "lists that are refused", test_lists_that_are_refused },
              { "reshape to equal layers", test_reshape_to_equal_layers },
              { "reshape to layers that differ", test_reshape_to_layers_that_differ },
              { "reshape to heads that do not divide", test_reshape_to_heads_that_do_not_divide },
              { "synonyms", test_synonyms },
              { "synonyms that are refused", test_synonyms_that_are_refused },
              { "slow but exact", test_slow_but_exact },
              { "parameters of known models", test_parameters_of_known_models },
              { "cost by hand", test_cost_by_hand })
