/* mpi_model.c - model folders written and digested by any number of ranks are the same. */
#include "espalier/exporters.h"
#include "espalier/file.h"
#include "espalier/reshape.h"
#include "espalier/synth.h"

#include "test.h"

static const esp_synth_options small = {
    .model_type = "qwen2",
    .hidden = 64,
    .mlp = 100,
    .layers = 3,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 8,
    .vocab = 70,
    .max_positions = 64,
    .dtype = ESP_F16,
    .std = 0.1,
    .rope_theta = 10000,
    .seed = 9,
};

static int rank_of(MPI_Comm comm)
{
    int rank;

    MPI_Comm_rank(comm, &rank);
    return rank;
}

static int size_of(MPI_Comm comm)
{
    int size;

    MPI_Comm_size(comm, &size);
    return size;
}

static char *folder(const char *name)
{
    char *root = esp_test_dir("models"), *path = esp_path(root, name);

    free(root);
    return path;
}

/* A folder with the small model, written by all ranks, and the model in it. */
static char *make(esp_model *m, const char *name)
{
    char *dir = folder(name);

    CU_ASSERT_EQUAL(esp_synth(esp_export_to(dir, "huggingface"), &small, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(m, dir, MPI_COMM_WORLD), ESP_OK);
    return dir;
}

/* ---- sources ------------------------------------------------------------------------------------- */

typedef struct source {
    const esp_model *from, *to;
    int fails_on; /* rank, -1: none */
    int asked;    /* times          */
} source;

/* The upper left part of each tensor. */
static esp_status corner(void *ctx, void *out, const esp_tensor_ref *t, size_t first, size_t n)
{
    source *s = ctx;
    const esp_weight *from = esp_model_weight(s->from, t->layer, t->slot);
    const esp_weight *to = esp_model_weight(s->to, t->layer, t->slot);
    bool bias = t->part == ESP_PART_BIAS;
    size_t size = esp_dtype_size(from->dtype), cols = t->shape[1];
    size_t from_cols = bias ? 1 : from->cols;
    const char *data = bias ? from->bias : from->data;

    if (s->fails_on == rank_of(MPI_COMM_WORLD) && ++s->asked == 2) {
        return esp_fail(ESP_EFAILED, "the source is dry (as the test wants)");
    }
    CU_ASSERT(first + n <= to->rows);
    for (size_t i = 0; i < n; i++) {
        memcpy((char *)out + i * cols * size, data + (first + i) * from_cols * size, cols * size);
    }
    return ESP_OK;
}

typedef struct comparison {
    const esp_model *other;
    size_t n;
    bool same;
} comparison;

/* Whether the other model's weight begins with this one. */
static void compare(void *ctx, size_t layer, int slot, const esp_weight *w)
{
    comparison *c = ctx;
    const esp_weight *o = esp_model_weight(c->other, layer, slot);
    size_t size = esp_dtype_size(w->dtype);

    c->n++;
    c->same = c->same && w->dtype == o->dtype && w->has_bias == o->has_bias;
    for (size_t i = 0; i < w->rows; i++) {
        c->same =
            c->same && memcmp((const char *)w->data + i * w->cols * size,
                              (const char *)o->data + i * o->cols * size, w->cols * size) == 0;
    }
    c->same = c->same && (!w->has_bias || memcmp(w->bias, o->bias, w->rows * size) == 0);
}

static void check_corner(const esp_model *m, const esp_model *of)
{
    comparison c = { .other = of, .same = true };

    esp_model_visit(m, compare, &c);
    CU_ASSERT_TRUE(c.same);
    CU_ASSERT_EQUAL(c.n, 3 + 9 * m->dims.n_layers);
}

/* ---- tests --------------------------------------------------------------------------------------- */

static void test_same_bytes_by_any_number_of_ranks(void)
{
    char *all = folder("all"), *alone = folder("alone");
    char *name[2] = { esp_path(all, "model.safetensors"), esp_path(alone, "model.safetensors") };
    esp_map map[2];

    CU_ASSERT_EQUAL(esp_synth(esp_export_to(all, "huggingface"), &small, MPI_COMM_WORLD), ESP_OK);
    if (rank_of(MPI_COMM_WORLD) == 0) {
        CU_ASSERT_EQUAL(esp_synth(esp_export_to(alone, "huggingface"), &small, MPI_COMM_SELF),
                        ESP_OK);
        for (int i = 0; i < 2; i++) {
            CU_ASSERT_EQUAL(esp_map_open(&map[i], name[i]), ESP_OK);
        }
        CU_ASSERT_EQUAL(map[0].n, map[1].n);
        CU_ASSERT(map[0].n == map[1].n && memcmp(map[0].data, map[1].data, map[0].n) == 0);
        for (int i = 0; i < 2; i++) {
            esp_map_close(&map[i]);
            free(name[i]);
        }
    } else {
        free(name[0]);
        free(name[1]);
    }
    free(all);
    free(alone);
}

static void test_digest(void)
{
    char by_all[ESP_DIGEST_SIZE], by_one[ESP_DIGEST_SIZE], shapes[ESP_DIGEST_SIZE];
    esp_model m, shape;
    char *dir = make(&m, "digest");

    CU_ASSERT_EQUAL(esp_model_digest(by_all, &m, 0, m.dims.n_layers, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_digest(by_one, &m, 0, m.dims.n_layers, MPI_COMM_SELF), ESP_OK);
    CU_ASSERT_STRING_EQUAL(by_all, by_one);
    CU_ASSERT_EQUAL(strlen(by_all), 32);

    CU_ASSERT_EQUAL(esp_model_shape(&shape, dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_digest(shapes, &shape, 0, shape.dims.n_layers, MPI_COMM_WORLD),
                    ESP_OK);
    CU_ASSERT_STRING_NOT_EQUAL(shapes, by_all);
    json_object_set_new(shape.config, "bos_token_id", json_integer(3));
    CU_ASSERT_EQUAL(esp_model_digest(by_one, &shape, 0, shape.dims.n_layers, MPI_COMM_WORLD),
                    ESP_OK);
    CU_ASSERT_STRING_NOT_EQUAL(shapes, by_one);
    esp_model_free(&shape);
    esp_model_free(&m);
    free(dir);
}

/* One bit anywhere is another digest: here in the last byte of the last tensor. */
static void test_digest_of_other_weights(void)
{
    char before[ESP_DIGEST_SIZE], after[ESP_DIGEST_SIZE];
    esp_model m;
    char *dir = make(&m, "other"), *path = esp_path(dir, "model.safetensors"), *text;
    size_t n;

    CU_ASSERT_EQUAL(esp_model_digest(before, &m, 0, m.dims.n_layers, MPI_COMM_WORLD), ESP_OK);
    esp_model_free(&m);
    if (rank_of(MPI_COMM_WORLD) == 0) {
        CU_ASSERT_EQUAL(esp_file_read(&text, &n, path), ESP_OK);
        text[n - 1] ^= 1;
        CU_ASSERT_EQUAL(esp_file_write(path, text, n), ESP_OK);
        free(text);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(esp_model_load(&m, dir, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_digest(after, &m, 0, m.dims.n_layers, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_STRING_NOT_EQUAL(before, after);
    esp_model_free(&m);
    free(path);
    free(dir);
}

/* Overwrites the n-th number from the end of a file of F16, by rank 0. */
static void put_last(const char *path, size_t n, const char *number)
{
    FILE *f = rank_of(MPI_COMM_WORLD) == 0 ? fopen(path, "r+b") : NULL;

    if (f) {
        fseek(f, -2 * (long)n, SEEK_END);
        fwrite(number, 1, 2, f);
        fclose(f);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

/* The last rank has a copy of its own, with one other bit: nobody takes that for the same model. A copy
 * with the same bytes is fine. */
static void test_ranks_with_other_bytes(void)
{
    char hex[ESP_DIGEST_SIZE];
    int last;
    bool own;
    esp_model m;
    char *dir = make(&m, "mine"), *other = folder("theirs");
    char *path = esp_path(other, "model.safetensors");

    MPI_Comm_size(MPI_COMM_WORLD, &last);
    own = rank_of(MPI_COMM_WORLD) == last - 1;
    esp_model_free(&m);
    CU_ASSERT_EQUAL(esp_synth(esp_export_to(other, "huggingface"), &small, MPI_COMM_WORLD), ESP_OK);
    for (int changed = 0; changed < 2; changed++) {
        esp_status want = changed && last > 1 ? ESP_EUSAGE : ESP_OK;

        CU_ASSERT_EQUAL(esp_model_load(&m, own ? other : dir, MPI_COMM_WORLD), ESP_OK);
        CU_ASSERT_EQUAL(esp_model_digest(hex, &m, 0, m.dims.n_layers, MPI_COMM_WORLD), want);
        esp_model_free(&m);
        put_last(path, 3, "\1\1");
    }
    free(path);
    free(other);
    free(dir);
}

/* Whoever reads it, in whatever tensor it lies. */
static void test_numbers_that_are_none(void)
{
    static const char *const numbers[] = { "\x00\x7e", "\x00\x7c", "\x00\xfc" };
    char hex[ESP_DIGEST_SIZE];
    esp_model m;
    char *dir = make(&m, "broken"), *path = esp_path(dir, "model.safetensors");

    esp_model_free(&m);
    for (size_t i = 0; i < 3; i++) {
        put_last(path, 1 + 1000 * i, numbers[i]);
        CU_ASSERT_EQUAL(esp_model_load(&m, dir, MPI_COMM_WORLD), ESP_OK);
        CU_ASSERT_EQUAL(esp_model_digest(hex, &m, 0, m.dims.n_layers, MPI_COMM_WORLD), ESP_EFORMAT);
        esp_model_free(&m);
        put_last(path, 1 + 1000 * i, "\0\0");
    }
    free(path);
    free(dir);
}

/* Saved in several files with the tokenizer, over a folder that is there, the model is the same. */
static void test_round_trip(void)
{
    char before[ESP_DIGEST_SIZE], after[ESP_DIGEST_SIZE], written[ESP_DIGEST_SIZE];
    esp_model m, again;
    char *dir = make(&m, "from"), *to = make(&again, "to"), *slash = esp_format("%s/", to);
    char *tokenizer = esp_path(dir, "tokenizer.json"), *copied = esp_path(to, "tokenizer.json");
    char *single = esp_path(to, "model.safetensors"), *part = esp_part_path(to);
    source s = { .from = &m, .to = &m, .fails_on = -1 };
    esp_output shards = esp_export_to(slash, "huggingface");

    shards.shard_bytes = 30000;
    esp_model_free(&again);
    if (rank_of(MPI_COMM_WORLD) == 0) {
        CU_ASSERT_EQUAL(esp_file_write(tokenizer, "{}", 2), ESP_OK);
    }
    CU_ASSERT_EQUAL(esp_model_save(written, shards, &m, corner, &s, dir, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&again, to, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT(again.n_files > 2);
    check_corner(&again, &m);
    CU_ASSERT_EQUAL(esp_model_digest(before, &m, 0, m.dims.n_layers, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_digest(after, &again, 0, again.dims.n_layers, MPI_COMM_WORLD),
                    ESP_OK);
    CU_ASSERT_STRING_EQUAL(before, after);
    CU_ASSERT_STRING_EQUAL(written, after);
    CU_ASSERT_TRUE(esp_file_exists(copied));
    CU_ASSERT_FALSE(esp_file_exists(single));
    CU_ASSERT_FALSE(esp_dir_exists(part));
    esp_model_free(&again);
    esp_model_free(&m);
    free(part);
    free(single);
    free(copied);
    free(tokenizer);
    free(slash);
    free(to);
    free(dir);
}

static void test_layers_that_differ(void)
{
    esp_layer_dims layers[] = { { 4, 2, 100, 0 }, { 2, 1, 7, 0 }, { 2, 2, 64, 0 } };
    esp_model m, shape, again;
    char *dir = make(&m, "dense"), *to = folder("uneven");
    esp_dims dims = m.dims;
    source s = { .from = &m, .to = &shape, .fails_on = -1 };

    dims.layer = layers;
    dims.hidden = 48;
    esp_model_reshape(&shape, &m, &dims);
    CU_ASSERT_EQUAL(esp_model_save(NULL, esp_export_to(to, "huggingface"), &shape, corner, &s, NULL,
                                   MPI_COMM_WORLD),
                    ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&again, to, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(again.dims.hidden, 48);
    CU_ASSERT_EQUAL(memcmp(again.dims.layer, layers, sizeof layers), 0);
    CU_ASSERT_EQUAL(esp_model_cost(&again, 8).macs, esp_model_cost(&shape, 8).macs);
    check_corner(&again, &m);
    esp_model_free(&again);
    esp_model_free(&shape);
    esp_model_free(&m);
    free(to);
    free(dir);
}

/* Whichever rank fails, all of them leave, and the folder is as it was. */
static void test_failing_source(void)
{
    esp_model m, again;
    char *dir = make(&m, "dry"), *part = esp_part_path(dir);

    for (int r = 0; r < size_of(MPI_COMM_WORLD); r++) {
        source s = { .from = &m, .to = &m, .fails_on = r };

        esp_error_clear();
        CU_ASSERT_EQUAL(esp_model_save(NULL, esp_export_to(dir, "huggingface"), &m, corner, &s,
                                       NULL, MPI_COMM_WORLD),
                        ESP_EFAILED);
        MPI_Barrier(MPI_COMM_WORLD); /* rank 0 tidies up */
        CU_ASSERT_FALSE(esp_dir_exists(part));
        MPI_Barrier(MPI_COMM_WORLD);
    }
    CU_ASSERT_EQUAL(esp_model_load(&again, dir, MPI_COMM_WORLD), ESP_OK);
    check_corner(&again, &m);
    esp_model_free(&again);
    esp_model_free(&m);
    free(part);
    free(dir);
}

/* A folder that only some ranks can read is refused by all of them. */
static void test_refused_by_all(void)
{
    char *dir = folder("nothing"), *mine = folder("all");
    esp_model m;

    esp_error_clear();
    CU_ASSERT_EQUAL(esp_model_load(&m, rank_of(MPI_COMM_WORLD) == 0 ? dir : mine, MPI_COMM_WORLD),
                    ESP_EUSAGE);
    CU_ASSERT_PTR_NULL(m.block);
    CU_ASSERT_EQUAL(
        esp_synth(esp_export_to("/proc/no/such/folder", "huggingface"), &small, MPI_COMM_WORLD),
        ESP_EUSAGE);
    free(mine);
    free(dir);
}

ESP_TEST_MAIN("model over ranks",
              { "same bytes by any number of ranks", test_same_bytes_by_any_number_of_ranks },
              { "digest", test_digest },
              { "digest of other weights", test_digest_of_other_weights },
              { "ranks with other bytes", test_ranks_with_other_bytes },
              { "numbers that are none", test_numbers_that_are_none },
              { "round trip", test_round_trip }, { "layers that differ", test_layers_that_differ },
              { "failing source", test_failing_source }, { "refused by all", test_refused_by_all })
