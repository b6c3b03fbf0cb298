/* unit_model.c - model folders: what loads, and what is refused with which line. */
#include "espalier/exporters.h"
#include "espalier/model.h"
#include "espalier/reshape.h"
#include "stderr_capture.h"
#include "tiny_model.h"

static char *dir; /* of the model under test */

/* A fresh folder with the tiny model. */
static void fresh(const esp_synth_options *o)
{
    free(dir);
    dir = esp_test_dir("model");
    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_synth(esp_export_to(dir, "huggingface"), o, MPI_COMM_WORLD), ESP_OK);
}

/* The same text of equal length everywhere in a file, so that nothing moves. */
static void substitute(const char *file, const char *from, const char *to)
{
    char *path = esp_path(dir, file), *text;
    size_t n, found = 0, len = strlen(from);

    CU_ASSERT_EQUAL(strlen(to), len);
    CU_ASSERT_EQUAL_FATAL(esp_file_read(&text, &n, path), ESP_OK);
    for (size_t i = 0; i + len <= n; i++) {
        if (memcmp(text + i, from, len) == 0) {
            memcpy(text + i, to, len);
            found++;
        }
    }
    CU_ASSERT(found > 0);
    CU_ASSERT_EQUAL(esp_file_write(path, text, n), ESP_OK);
    free(text);
    free(path);
}

static void set_config(const char *key, json_t *value)
{
    char *path = esp_path(dir, "config.json");
    json_t *config = json_load_file(path, 0, NULL);

    json_object_set_new(config, key, value);
    CU_ASSERT_EQUAL(json_dump_file(config, path, 0), 0);
    json_decref(config);
    free(path);
}

/* The same file with another shape of as many elements for one tensor. */
static void set_shape(const char *name, size_t n_dims, const size_t *shape)
{
    char *path = esp_path(dir, "model.safetensors");
    esp_safetensors_writer w = { 0 };
    esp_safetensors f;

    CU_ASSERT_EQUAL_FATAL(esp_safetensors_open(&f, path), ESP_OK);
    for (size_t i = 0; i < f.n; i++) {
        const esp_tensor_info *t = &f.tensors[i];
        bool other = strcmp(t->name, name) == 0;

        esp_safetensors_plan(&w, t->name, t->dtype, other ? n_dims : t->n_dims,
                             other ? shape : t->shape);
    }
    CU_ASSERT_EQUAL_FATAL(esp_safetensors_create(&w, path, MPI_COMM_WORLD), ESP_OK);
    for (size_t i = 0; i < f.n; i++) {
        CU_ASSERT_EQUAL(esp_safetensors_write(&w, i, 0, f.tensors[i].data, f.tensors[i].n_bytes),
                        ESP_OK);
    }
    CU_ASSERT_EQUAL(esp_safetensors_finish(&w, ESP_OK, MPI_COMM_WORLD), ESP_OK);
    esp_safetensors_close(&f);
    free(path);
}

static esp_status load(esp_model *m)
{
    int kept = listen_begin();
    esp_status st = esp_model_load(m, dir, MPI_COMM_WORLD);

    listen_end(kept);
    return st;
}

static void check_refused(esp_status wanted, const char *says)
{
    esp_model m;

    CU_ASSERT_EQUAL(load(&m), wanted);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, dir));
    CU_ASSERT_PTR_NOT_NULL(strstr(said, says));
    CU_ASSERT_PTR_EQUAL(strchr(said, '\n'), said + strlen(said) - 1); /* one line */
    if (!strstr(said, says)) {
        printf("  said: %s  not:  %s\n", said, says);
    }
    CU_ASSERT_PTR_NULL(m.files);
    esp_model_free(&m);
}

static void check_loads(void)
{
    esp_model m;

    CU_ASSERT_EQUAL(load(&m), ESP_OK);
    esp_model_free(&m);
}

/* ---- what loads ---------------------------------------------------------------------------------- */

static void test_weights_and_names(void)
{
    esp_model m;
    const esp_weight *q;
    char *name;

    fresh(&tiny);
    CU_ASSERT_EQUAL_FATAL(load(&m), ESP_OK);
    q = esp_model_weight(&m, 1, esp_arch_slot(m.arch, "q_proj"));
    CU_ASSERT_EQUAL(q->rows, 32);
    CU_ASSERT_EQUAL(q->cols, 32);
    CU_ASSERT_TRUE(q->has_bias);
    CU_ASSERT_PTR_EQUAL(
        q->data, esp_safetensors_find(&m.files[0], "model.layers.1.self_attn.q_proj.weight")->data);
    CU_ASSERT_PTR_EQUAL(
        q->bias, esp_safetensors_find(&m.files[0], "model.layers.1.self_attn.q_proj.bias")->data);
    CU_ASSERT_PTR_NOT_NULL(esp_model_weight(&m, ESP_NO_LAYER, ESP_SLOT_HEAD)->data);
    CU_ASSERT_PTR_NOT_EQUAL(esp_model_weight(&m, ESP_NO_LAYER, ESP_SLOT_HEAD),
                            esp_model_weight(&m, ESP_NO_LAYER, ESP_SLOT_EMBED));
    name = esp_model_tensor_name(&m, 1, esp_arch_slot(m.arch, "q_proj"));
    CU_ASSERT_STRING_EQUAL(name, "model.layers.1.self_attn.q_proj");
    free(name);
    name = esp_model_tensor_name(&m, ESP_NO_LAYER, ESP_SLOT_HEAD);
    CU_ASSERT_STRING_EQUAL(name, "lm_head");
    free(name);
    esp_model_free(&m);
}

static void test_random_weights(void)
{
    esp_model m;
    const float *w;
    double sum = 0, squares = 0, norms = 0;

    fresh(&tiny);
    CU_ASSERT_EQUAL_FATAL(load(&m), ESP_OK);
    w = esp_model_weight(&m, 0, esp_arch_slot(m.arch, "up_proj"))->data;
    for (size_t i = 0; i < 48 * 32; i++) {
        sum += (double)w[i];
        squares += (double)w[i] * (double)w[i];
    }
    CU_ASSERT_DOUBLE_EQUAL(sum / (48 * 32), 0, 0.01);
    CU_ASSERT_DOUBLE_EQUAL(sqrt(squares / (48 * 32)), 0.1, 0.005);
    w = m.head_and_norm[ESP_SLOT_FINAL_NORM].data;
    for (size_t i = 0; i < 32; i++) {
        norms += (double)w[i] / 32;
    }
    CU_ASSERT_DOUBLE_EQUAL(norms, 1, 0.1);
    esp_model_free(&m);
}

static void test_tied_head(void)
{
    esp_synth_options o = tiny;
    esp_model m;

    o.tied = true;
    fresh(&o);
    CU_ASSERT_EQUAL_FATAL(load(&m), ESP_OK);
    CU_ASSERT_PTR_EQUAL(esp_model_weight(&m, ESP_NO_LAYER, ESP_SLOT_HEAD),
                        esp_model_weight(&m, ESP_NO_LAYER, ESP_SLOT_EMBED));
    CU_ASSERT_PTR_NULL(esp_safetensors_find(&m.files[0], "lm_head.weight"));
    esp_model_free(&m);
}

/* The bytes of the embedding in the place of those of the head. */
static void make_head_equal(void)
{
    char *path = esp_path(dir, "model.safetensors"), *text, *at;
    esp_safetensors f;
    const esp_tensor_info *head, *embed;
    size_t n;

    CU_ASSERT_EQUAL_FATAL(esp_file_read(&text, &n, path), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_safetensors_open(&f, path), ESP_OK);
    head = esp_safetensors_find(&f, "lm_head.weight");
    embed = esp_safetensors_find(&f, "model.embed_tokens.weight");
    at = memmem(text, n, head->data, head->n_bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    memcpy(at, embed->data, embed->n_bytes);
    esp_safetensors_close(&f);
    CU_ASSERT_EQUAL(esp_file_write(path, text, n), ESP_OK);
    free(text);
    free(path);
}

/* Inference engines differ in which they take where the two are not one. */
static void test_tied_model_with_a_head(void)
{
    esp_model m;

    fresh(&tiny);
    set_config("tie_word_embeddings", json_true());
    check_refused(ESP_EFORMAT,
                  "tie_word_embeddings is true, but lm_head.weight is not the embedding");
    make_head_equal();
    CU_ASSERT_EQUAL_FATAL(load(&m), ESP_OK);
    CU_ASSERT_PTR_EQUAL(esp_model_weight(&m, ESP_NO_LAYER, ESP_SLOT_HEAD)->data,
                        esp_safetensors_find(&m.files[0], "model.embed_tokens.weight")->data);
    CU_ASSERT_STRING_EQUAL(said, "");
    esp_model_free(&m);
}

/* The head alone is the embedding, too. */
static void test_tied_model_without_embedding(void)
{
    esp_synth_options o = tiny;
    esp_model m;

    o.tied = true;
    fresh(&o);
    substitute("model.safetensors",
               "\"model.embed_tokens.weight\":", "\"lm_head.weight\":           ");
    CU_ASSERT_EQUAL_FATAL(load(&m), ESP_OK);
    CU_ASSERT_PTR_EQUAL(esp_model_weight(&m, ESP_NO_LAYER, ESP_SLOT_EMBED)->data,
                        esp_safetensors_find(&m.files[0], "lm_head.weight")->data);
    CU_ASSERT_STRING_EQUAL(said, "");
    esp_model_free(&m);
    set_config("tie_word_embeddings", json_false());
    check_refused(ESP_EFORMAT, "tensor model.embed_tokens.weight is missing");
}

/* What the files hold counts, not what config.json says of types. */
static void test_types_come_from_the_files(void)
{
    esp_synth_options o = tiny;
    esp_model m;

    o.dtype = ESP_BF16;
    fresh(&o);
    set_config("torch_dtype", json_string("float32"));
    CU_ASSERT_EQUAL_FATAL(load(&m), ESP_OK);
    CU_ASSERT_EQUAL(m.dtype, ESP_BF16);
    CU_ASSERT_EQUAL(esp_model_weight(&m, 1, ESP_SLOT_BLOCK)->dtype, ESP_BF16);
    CU_ASSERT_EQUAL(esp_model_cost(&m, 1).bytes, 2 * esp_model_cost(&m, 1).parameters);
    esp_model_free(&m);
}

/* Layers that config.json does not ask for are warned of, whatever type they have; other tensors are told. */
static void test_tensors_of_no_use(void)
{
    fresh(&tiny);
    set_config("num_hidden_layers", json_integer(1));
    substitute("model.safetensors", "\"model.layers.1.mlp.up_proj.weight\":{\"dtype\":\"F32\"",
               "\"model.layers.1.mlp.up_proj.weight\":{\"dtype\":\"U32\"");
    esp_log_init(ESP_LOG_NORMAL, true);
    check_loads();
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "warning: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(said,
                                  "num_hidden_layers is 1 in config.json, but the files have 2 "
                                  "layers: those from number 1 on are left out"));
    CU_ASSERT_PTR_NULL(strstr(said, "are not part of"));
    substitute("model.safetensors", "model.layers.1.input_layernorm.weight",
               "model.layers.0.aaaaa.rotary_emb.inv_freq" + 3);
    substitute("model.safetensors", "model.layers.1.mlp.up_proj", "model.layers.x.mlp.up_proj");
    check_loads();
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "1 tensors are not part of a qwen2 model"));
    esp_log_init(ESP_LOG_QUIET, true);
    check_loads();
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "the files have 2 layers")); /* warned whatever is hidden */
    CU_ASSERT_PTR_NULL(strstr(said, "are not part of"));
}

static void test_models_that_others_wrote(void)
{
    static const struct {
        const char *name;
        size_t layers, hidden, head_dim, heads, kv_heads, mlp, vocab;
        bool tied;
        esp_dtype dtype;
        uint64_t parameters;
    } known[] = {
        { "stories260K", 5, 64, 8, 8, 4, 172, 512, true, ESP_F32, 260032 },
        { "tinystories656k-bf16", 2, 128, 16, 8, 4, 384, 2048, true, ESP_BF16, 656000 },
        { "tiny-gqa-bf16", 3, 64, 8, 8, 2, 176, 320, true, ESP_BF16, 153024 },
        { "tiny-mha-f16", 4, 64, 8, 8, 8, 176, 320, false, ESP_F16, 242240 },
        { "tiny-qwen2-f32", 3, 64, 16, 8, 4, 176, 320, false, ESP_F32, 217280 },
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char *below = esp_format("models/%s", known[i].name), *path = esp_test_shared(below);
        esp_model m;

        free(below);
        if (!path) {
            continue;
        }
        CU_ASSERT_EQUAL_FATAL(esp_model_load(&m, path, MPI_COMM_WORLD), ESP_OK);
        CU_ASSERT_EQUAL(m.dims.n_layers, known[i].layers);
        CU_ASSERT_EQUAL(m.dims.hidden, known[i].hidden);
        CU_ASSERT_EQUAL(m.dims.head_dim, known[i].head_dim);
        CU_ASSERT_EQUAL(m.dims.layer[0].heads, known[i].heads);
        CU_ASSERT_EQUAL(m.dims.layer[0].kv_heads, known[i].kv_heads);
        CU_ASSERT_EQUAL(m.dims.layer[0].mlp, known[i].mlp);
        CU_ASSERT_EQUAL(m.dims.vocab, known[i].vocab);
        CU_ASSERT_EQUAL(m.tied, known[i].tied);
        CU_ASSERT_EQUAL(m.dtype, known[i].dtype);
        CU_ASSERT_EQUAL(esp_model_cost(&m, 1).parameters, known[i].parameters);
        CU_ASSERT_EQUAL(esp_model_weight(&m, 1, esp_arch_slot(m.arch, "q_proj"))->has_bias, i == 4);
        esp_model_free(&m);
        free(path);
    }
}

/* ---- what is refused ----------------------------------------------------------------------------- */

static void test_missing_tensors(void)
{
    fresh(&tiny);
    substitute("model.safetensors", "model.norm.weight", "model.gone.weight");
    check_refused(ESP_EFORMAT, "model.safetensors: tensor model.norm.weight is missing");
    fresh(&tiny);
    substitute("model.safetensors", "lm_head.weight", "my_head.weight");
    check_refused(ESP_EFORMAT, "lm_head.weight is missing; if the head is the embedding");
    fresh(&tiny);
    substitute("model.safetensors", "1.self_attn.v_proj.bias", "1.self_attn.v_proj.bear");
    check_refused(ESP_EFORMAT, "v_proj.bias is missing; this model_type has biases");
    fresh(&tiny);
    set_config("num_hidden_layers", json_integer(3));
    check_refused(ESP_EFORMAT, "tensor model.layers.2.input_layernorm.weight is missing");
}

static void test_shapes_that_do_not_fit(void)
{
    fresh(&tiny);
    set_config("vocab_size", json_integer(41));
    check_refused(
        ESP_EFORMAT,
        "tensor model.embed_tokens.weight has shape [40, 32], config.json asks for [41, 32]");
    fresh(&tiny);
    set_config("intermediate_size", json_integer(32));
    check_refused(ESP_EFORMAT,
                  "gate_proj.weight has shape [48, 32], config.json asks for [32, 32]");
    fresh(&tiny);
    set_shape("model.norm.weight", 2, (const size_t[]){ 32, 1 });
    check_refused(ESP_EFORMAT, "model.norm.weight has shape [32, 1], config.json asks for [32]");
    fresh(&tiny);
    set_shape("lm_head.weight", 3, (const size_t[]){ 40, 32, 1 });
    check_refused(ESP_EFORMAT,
                  "lm_head.weight has shape [40, 32, 1], config.json asks for [40, 32]");
}

static void test_types_that_do_not_fit(void)
{
    esp_synth_options o = tiny;

    fresh(&tiny);
    substitute("model.safetensors", "\"lm_head.weight\":{\"dtype\":\"F32\"",
               "\"lm_head.weight\":{\"dtype\":\"I32\"");
    check_refused(ESP_EFORMAT, "tensor lm_head.weight is of type I32, a weight must be");
    o.dtype = ESP_BF16;
    fresh(&o);
    substitute("model.safetensors", "0.self_attn.k_proj.bias\":{\"dtype\":\"BF16\"",
               "0.self_attn.k_proj.bias\":{\"dtype\": \"F16\"");
    check_refused(ESP_EFORMAT, "k_proj.bias is of type F16, its weight of type BF16");
}

static void test_damaged_files(void)
{
    char *path;

    fresh(&tiny);
    path = esp_path(dir, "model.safetensors");
    CU_ASSERT_EQUAL(truncate(path, 9000), 0);
    check_refused(ESP_EFORMAT, "it is truncated");
    CU_ASSERT_EQUAL(esp_test_remove(path), ESP_OK);
    check_refused(ESP_EUSAGE, "holds neither model.safetensors nor model.safetensors.index.json");
    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    check_refused(ESP_EUSAGE, "there is no such folder");
    free(path);
}

/* The tiny model in several files. */
static esp_status copy_rows(void *from, void *out, const esp_tensor_ref *t, size_t first, size_t n)
{
    const esp_weight *w = esp_model_weight(from, t->layer, t->slot);
    const char *data = t->part == ESP_PART_BIAS ? w->bias : w->data;
    size_t row = esp_tensor_ref_row_bytes(t);

    memcpy(out, data + first * row, n * row);
    return ESP_OK;
}

static esp_output in_shards(const char *folder, size_t bytes)
{
    esp_output to = esp_export_to(folder, "huggingface");

    to.shard_bytes = bytes;
    return to;
}

static void fresh_shards(void)
{
    esp_model m;

    fresh(&tiny);
    CU_ASSERT_EQUAL_FATAL(load(&m), ESP_OK);
    CU_ASSERT_EQUAL(
        esp_model_save(NULL, in_shards(dir, 18000), &m, copy_rows, &m, NULL, MPI_COMM_WORLD),
        ESP_OK);
    esp_model_free(&m);
}

static void test_damaged_shards(void)
{
    static const char index[] = "model.safetensors.index.json",
                      second[] = "model-00002-of-00005.safetensors";
    char *path;

    fresh_shards();
    check_loads();
    substitute(index, "\"model.norm.weight\"", "\"model.gone.weight\"");
    check_refused(ESP_EFORMAT, "tensor model.norm.weight is missing");
    fresh_shards();
    substitute(index, "\"lm_head.weight\": \"model-00005", "\"lm_head.weight\": \"model-00001");
    check_refused(ESP_EFORMAT,
                  "model-00001-of-00005.safetensors: tensor lm_head.weight is missing");
    fresh_shards();
    path = esp_path(dir, second);
    CU_ASSERT_EQUAL(truncate(path, 500), 0);
    check_refused(ESP_EFORMAT, second);
    CU_ASSERT_EQUAL(esp_test_remove(path), ESP_OK);
    check_refused(ESP_EUSAGE, second);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "index.json: shard: "));
    free(path);
    fresh_shards();
    substitute(index, "model-00005-of", "../mo-00005-of");
    check_refused(ESP_EFORMAT, "has no file name in this folder");
    fresh_shards();
    substitute(index, "weight_map", "weight_lap");
    check_refused(ESP_EFORMAT, "has no object weight_map");
    substitute(index, "{", "[");
    check_refused(ESP_EFORMAT, "index.json: line ");
}

/* ---- names without the base model's prefix ------------------------------------------------------- */

/* The golden model of a family, its tensors renamed as those of a base model saved alone. */
static void fresh_bare(const char *golden, const char *prefix)
{
    char *from = esp_path(golden, "model.safetensors"), *to, *config;
    size_t n = strlen(prefix);
    esp_safetensors_writer w = { 0 };
    esp_safetensors f;

    free(dir);
    dir = esp_test_dir("bare");
    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_safetensors_open(&f, from), ESP_OK);
    for (size_t i = 0; i < f.n; i++) {
        const esp_tensor_info *t = &f.tensors[i];

        esp_safetensors_plan(&w, t->name + (strncmp(t->name, prefix, n) == 0 ? n : 0), t->dtype,
                             t->n_dims, t->shape);
    }
    free(from);
    to = esp_path(dir, "model.safetensors");
    CU_ASSERT_EQUAL_FATAL(esp_safetensors_create(&w, to, MPI_COMM_WORLD), ESP_OK);
    for (size_t i = 0; i < f.n; i++) {
        CU_ASSERT_EQUAL(esp_safetensors_write(&w, i, 0, f.tensors[i].data, f.tensors[i].n_bytes),
                        ESP_OK);
    }
    CU_ASSERT_EQUAL(esp_safetensors_finish(&w, ESP_OK, MPI_COMM_WORLD), ESP_OK);
    esp_safetensors_close(&f);
    free(to);
    from = esp_path(golden, "config.json");
    config = esp_path(dir, "config.json");
    CU_ASSERT_EQUAL(esp_file_copy(config, from), ESP_OK);
    free(from);
    free(config);
}

typedef struct same_weights {
    const esp_model *other;
    bool same;
} same_weights;

static void compare_weight(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    same_weights *s = ctx;
    const esp_weight *o = esp_model_weight(s->other, layer, slot);
    size_t n = esp_dtype_size(w->dtype) * w->rows;

    s->same = s->same && o->rows == w->rows && o->cols == w->cols &&
              memcmp(o->data, w->data, n * w->cols) == 0 && o->has_bias == w->has_bias &&
              (!w->has_bias || memcmp(o->bias, w->bias, n) == 0);
}

static bool same_weights_in(const esp_model *a, const esp_model *b)
{
    same_weights s = { .other = b, .same = true };

    esp_model_visit(a, compare_weight, &s);
    return s.same;
}

/* No name in the files, nor in their index, has the prefix; modules have it whatever the files say. */
static void check_names(const esp_model *m, const char *prefix)
{
    char *module = esp_model_tensor_name(m, 1, ESP_SLOT_BLOCK);
    char *path = esp_path(m->dir, "model.safetensors.index.json"), *index = NULL;
    char *quoted = esp_format("\"%s", prefix);
    size_t n;

    CU_ASSERT_EQUAL(strncmp(module, prefix, strlen(prefix)), 0);
    for (size_t f = 0; f < m->n_files; f++) {
        for (size_t i = 0; i < m->files[f].n; i++) {
            CU_ASSERT_NOT_EQUAL(strncmp(m->files[f].tensors[i].name, prefix, strlen(prefix)), 0);
        }
    }
    if (m->n_files > 1) {
        CU_ASSERT_EQUAL_FATAL(esp_file_read(&index, &n, path), ESP_OK);
        CU_ASSERT_PTR_NOT_NULL(strstr(index, module + strlen(prefix)));
        CU_ASSERT_PTR_NULL(strstr(index, quoted));
    }
    free(module);
    free(path);
    free(index);
    free(quoted);
}

static const struct {
    const char *golden, *prefix;
} bare_models[] = {
    { "tests/golden/qwen2", "model." },         { "tests/golden/qwen3", "model." },
    { "tests/golden/phi3", "model." },          { "tests/golden/baichuan2-13b", "model." },
    { "tests/golden/opt", "model." },           { "tests/golden/bloom", "transformer." },
    { "tests/golden/gemma2", "model." },        { "tests/golden/chatglm2", "transformer." },
    { "tests/golden/chatglm", "transformer." },
};

/* Every family is read with bare names, and written with them: in one file and in shards. */
static void test_bare_names(void)
{
    for (size_t i = 0; i < sizeof bare_models / sizeof *bare_models; i++) {
        const char *prefix = bare_models[i].prefix;
        char *shards = esp_test_dir("bare-shards");
        esp_model full, bare, again, shape;

        fresh_bare(bare_models[i].golden, prefix);
        CU_ASSERT_EQUAL_FATAL(esp_model_load(&full, bare_models[i].golden, MPI_COMM_WORLD), ESP_OK);
        esp_log_init(ESP_LOG_NORMAL, true);
        CU_ASSERT_EQUAL_FATAL(load(&bare), ESP_OK);
        esp_log_init(ESP_LOG_QUIET, true);
        CU_ASSERT_STRING_EQUAL(said, ""); /* no tensor is left out */
        CU_ASSERT_FALSE(full.bare);
        CU_ASSERT_TRUE(bare.bare);
        check_names(&bare, prefix);
        CU_ASSERT_TRUE(same_weights_in(&full, &bare));
        esp_model_reshape(&shape, &bare, &bare.dims);
        CU_ASSERT_EQUAL(esp_model_save(NULL, in_shards(shards, 9000), &shape, copy_rows, &bare,
                                       NULL, MPI_COMM_WORLD),
                        ESP_OK);
        CU_ASSERT_EQUAL_FATAL(esp_model_load(&again, shards, MPI_COMM_WORLD), ESP_OK);
        CU_ASSERT(again.n_files > 1);
        check_names(&again, prefix);
        CU_ASSERT_TRUE(same_weights_in(&full, &again));
        esp_model_free(&full);
        esp_model_free(&bare);
        esp_model_free(&again);
        esp_model_free(&shape);
        CU_ASSERT_EQUAL(esp_test_remove(shards), ESP_OK);
        free(shards);
    }
}

/* Layers that config.json does not ask for are seen under their bare names, a missing tensor as well. */
static void test_bare_names_of_no_use(void)
{
    fresh_bare("tests/golden/bloom", "transformer.");
    set_config("n_layer", json_integer(1));
    esp_log_init(ESP_LOG_NORMAL, true);
    check_loads();
    esp_log_init(ESP_LOG_QUIET, true);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(said, "n_layer is 1 in config.json, but the files have 2 layers"));
    substitute("model.safetensors", "ln_f.weight", "ln_g.weight");
    check_refused(ESP_EFORMAT, "tensor ln_f.weight is missing");
}

static void test_random_models_that_cannot_be(void)
{
    esp_synth_options o = tiny;

    esp_error_clear();
    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    o.heads = 5;
    CU_ASSERT_EQUAL(esp_synth(esp_export_to(dir, "huggingface"), &o, MPI_COMM_WORLD), ESP_EUSAGE);
    o = tiny;
    o.model_type = "gpt2";
    CU_ASSERT_EQUAL(esp_synth(esp_export_to(dir, "huggingface"), &o, MPI_COMM_WORLD), ESP_EUSAGE);
    o = tiny;
    o.model_type = "bloom"; /* its config.json has no words for these */
    o.kv_heads = o.heads;
    CU_ASSERT_EQUAL(esp_synth(esp_export_to(dir, "huggingface"), &o, MPI_COMM_WORLD), ESP_EUSAGE);
    o.kv_heads = 2;
    o.mlp = 4 * o.hidden;
    CU_ASSERT_EQUAL(esp_synth(esp_export_to(dir, "huggingface"), &o, MPI_COMM_WORLD), ESP_EUSAGE);
    o = tiny;
    o.heads = 0;
    CU_ASSERT_EQUAL(esp_synth(esp_export_to(dir, "huggingface"), &o, MPI_COMM_WORLD), ESP_EUSAGE);
    CU_ASSERT_FALSE(esp_dir_exists(dir));
    o = tiny;
    o.hidden = 21 * o.heads;
    o.head_dim = 0;
    CU_ASSERT_EQUAL(esp_synth_shape(&(esp_model){ 0 }, &o),
                    ESP_EUSAGE); /* of no file, of settings */
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "head_dim = 0, "));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(esp_error_message(), ": head_dim is 21, must be a multiple of 2"));
    CU_ASSERT_PTR_NULL(strstr(esp_error_message(), "config.json"));
    esp_error_clear();
    free(dir);
    free(said);
}

/* ---- families ------------------------------------------------------------------------------------ */

/* Every family can be made by its name, and is read again as what it is. */
static void test_families(void)
{
    static const struct {
        const char *name, *type;
        size_t i_arch; /* of esp_arch_at */
        bool normalized_head;
    } families[] = {
        { "llama", "llama", 0, false },
        { "mistral", "mistral", 1, false },
        { "qwen2", "qwen2", 2, false },
        { "qwen3", "qwen3", 3, false },
        { "phi3", "phi3", 4, false },
        { "baichuan-7b", "baichuan", 5, false },
        { "baichuan2-7b", "baichuan", 5, true },
        { "baichuan-13b", "baichuan", 6, false },
        { "baichuan2-13b", "baichuan", 6, true },
        { "baichuan", "baichuan", 5, false },
        { "opt", "opt", 7, false },
        { "bloom", "bloom", 8, false },
        { "gemma2", "gemma2", 9, false },
        { "chatglm2", "chatglm", 10, false },
        { "chatglm", "chatglm", 11, false },
    };

    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        esp_synth_options o = tiny;
        esp_model m;

        o.model_type = families[i].name;
        o.hidden = 32;
        o.heads = o.kv_heads = 4;
        o.head_dim = 8;
        o.mlp = 128;
        fresh(&o);
        CU_ASSERT_EQUAL_FATAL(esp_model_load(&m, dir, MPI_COMM_SELF), ESP_OK);
        CU_ASSERT_STRING_EQUAL(m.arch->model_type, families[i].type);
        CU_ASSERT_PTR_EQUAL(m.arch, esp_arch_at(families[i].i_arch));
        CU_ASSERT_EQUAL(m.normalized_head, families[i].normalized_head);
        CU_ASSERT_EQUAL(m.dims.layer[0].mlp, 128);
        CU_ASSERT_EQUAL(m.dims.n_layers, o.layers);
        esp_model_free(&m);
    }
    CU_ASSERT_PTR_NULL(esp_arch_at(12));
}

ESP_TEST_MAIN("model", { "weights and names", test_weights_and_names },
              { "random weights", test_random_weights }, { "tied head", test_tied_head },
              { "tied model with a head", test_tied_model_with_a_head },
              { "tied model without embedding", test_tied_model_without_embedding },
              { "types come from the files", test_types_come_from_the_files },
              { "tensors of no use", test_tensors_of_no_use },
              { "models that others wrote", test_models_that_others_wrote },
              { "missing tensors", test_missing_tensors },
              { "shapes that do not fit", test_shapes_that_do_not_fit },
              { "types that do not fit", test_types_that_do_not_fit },
              { "damaged files", test_damaged_files }, { "damaged shards", test_damaged_shards },
              { "bare names", test_bare_names },
              { "bare names of no use", test_bare_names_of_no_use }, { "families", test_families },
              { "random models that cannot be", test_random_models_that_cannot_be })
