/* mpi_memory.c - memory that is predicted from shapes is what is allocated, byte by byte. */
#include "espalier/exporters.h"
#include "espalier/eval.h"
#include "espalier/merge.h"
#include "espalier/reshape.h"
#include "espalier/recover.h"
#include "espalier/surgery.h"
#include "espalier/synth.h"
#include "espalier/folder.h"
#include "heap_counter.h"
#include "small_model.h"

/* All families, with heads that share keys where the family has that. */
static const char *const families[] = {
    "llama",        "mistral",       "qwen2", "qwen3", "phi3",   "baichuan-7b", "baichuan2-7b",
    "baichuan-13b", "baichuan2-13b", "opt",   "bloom", "gemma2", "chatglm2",    "chatglm"
};
enum { N_FAMILIES = sizeof families / sizeof *families };

static esp_synth_options sizes_of(const char *family)
{
    bool narrow = strcmp(family, "phi3") == 0 || strcmp(family, "qwen2") == 0;
    bool bloom = strcmp(family, "bloom") == 0;

    return (esp_synth_options){ .model_type = family,
                                .layers = 6,
                                .hidden = 48,
                                .heads = 4,
                                .kv_heads = narrow ? 2 : 0,
                                .mlp = bloom ? 4 * 48 : 80,
                                .vocab = 300,
                                .max_positions = 64,
                                .dtype = ESP_BF16,
                                .std = 0.1,
                                .rope_theta = 10000,
                                .seed = 3 };
}

/* What a model of other shapes has of its own; all else it takes over. */
static void forget_own(esp_model *m)
{
    m->dims.layer = NULL;
    m->rope.inv_freq = m->rope.longer = NULL;
    m->slopes = NULL;
    m->head_and_norm = m->block = NULL;
    m->config = NULL;
    m->dir = NULL;
}

static void test_reshape(void)
{
    for (size_t i = 0; i < N_FAMILIES; i++) {
        esp_synth_options o = sizes_of(families[i]);
        esp_model m, same, seen[2];

        CU_ASSERT_EQUAL(esp_synth_shape(&m, &o), ESP_OK);
        m.precision = ESP_PRECISION_BF16;
        m.bare = true;
        esp_model_reshape(&same, &m, &m.dims);
        seen[0] = m;
        seen[1] = same;
        forget_own(&seen[0]);
        forget_own(&seen[1]);
        CU_ASSERT_EQUAL(memcmp(&seen[0], &seen[1], sizeof *seen), 0);
        esp_model_free(&same);
        esp_model_free(&m);
    }
}

/* ---- what is allocated --------------------------------------------------------------------------- */

/* A model of files, its samples and the ranks, in n_stages stages of layers. */
typedef struct job {
    small m;
    esp_samples samples;
    esp_grid grid;
    const char *name;
} job;

/* Every rank has one of the longest. */
static esp_samples samples_of(int n_ranks)
{
    esp_samples s = { 0 };
    int32_t ids[23];

    for (size_t t = 0; t < 23; t++) {
        ids[t] = (int32_t)(5 + t * t % 11);
    }
    for (size_t j = 0; j < 24; j++) {
        esp_samples_add(&s, ids, NULL, j / (size_t)n_ranks % 2 ? 12 : 23);
    }
    return s;
}

static void job_init(job *j, const char *family, esp_dtype dtype, esp_precision p, size_t n_stages)
{
    esp_synth_options o = sizes_of(family);
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    *j = (job){ .name = family, .samples = samples_of(size) };
    esp_grid_init(&j->grid, strcmp(family, "gemma2") == 0 ? 2 : 1, MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(esp_grid_shape(&j->grid, n_stages), ESP_OK);
    CU_ASSERT_EQUAL(esp_synth_shape(&j->m.model, &o), ESP_OK);
    small_weights(&j->m, dtype);
    j->m.model.precision = p;
    free(j->m.model.dir);
    j->m.model.dir = esp_test_dir("empty"); /* no small files to be copied */
    CU_ASSERT_EQUAL(esp_mkdirs(j->m.model.dir), ESP_OK);
}

static void job_free(job *j)
{
    esp_samples_free(&j->samples);
    small_free(&j->m);
    esp_grid_free(&j->grid);
}

static void compare(const job *j, const char *what, size_t predicted, size_t allocated)
{
    CU_ASSERT_EQUAL(allocated, predicted);
    if (allocated != predicted) {
        printf("  %s of %s, %s in %s, rank %d: predicted %zu, allocated %zu\n", what, j->name,
               esp_dtype_name(j->m.dtype), j->m.model.precision ? "bf16" : "f32", j->grid.rank,
               predicted, allocated);
    }
}

/* With all families, types of the files and precisions; on several ranks with some, half of them in stages of
 * layers. */
static void with_all(void (*check)(const job *))
{
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (size_t i = 0; i < N_FAMILIES; i++) {
        for (int k = 0; k < 4; k++) {
            esp_precision p = k < 2 ? ESP_PRECISION_F32 : ESP_PRECISION_BF16;
            job j;

            if (size > 1 && k != (int)(i % 4)) {
                continue;
            }
            if (esp_precision_check(p) != ESP_OK) {
                esp_error_clear();
                continue;
            }
            job_init(&j, families[i], k % 2 ? ESP_BF16 : ESP_F32, p, i % 2 ? (size_t)size : 1);
            check(&j);
            job_free(&j);
        }
    }
}

static void check_eval(const job *j)
{
    esp_eval e;

    heap_begin();
    CU_ASSERT_EQUAL(esp_evaluate(&e, &j->m.model, NULL, &j->samples, 50, &j->grid), ESP_OK);
    compare(j, "eval",
            esp_evaluate_bytes(&j->m.model, 0, esp_samples_size(&j->samples), 50, &j->grid),
            heap_peak());
}

/* The last step's is before anything is saved. */
static void note_peak(void *ctx, const esp_recover_news *news)
{
    (void)news;
    *(size_t *)ctx = heap_peak();
}

static void check_recover_by(const job *j, esp_method method)
{
    char *dir = esp_test_dir("checkpoints");
    esp_recover_options o = { .method = method,
                              .rank = 4,
                              .alpha = 8,
                              .dropout = 0.1,
                              .learning_rate = 1e-3,
                              .beta1 = 0.9,
                              .beta2 = 0.99,
                              .epsilon = 1e-8,
                              .steps = 2,
                              .batch = 14,
                              .micro_batch = 2,
                              .validation = 5,
                              .max_skipped = 1,
                              .keep = 1,
                              .dir = dir,
                              .settings = "" };
    size_t predicted, allocated = 0;
    esp_recover_result result;
    esp_adapter adapter;
    esp_params params;

    for (int slot = ESP_SLOT_BLOCK; slot < (int)j->m.model.arch->n_slots; slot++) {
        bool matrix = j->m.model.arch->slots[slot].cols != ESP_W_ONE;

        o.targets |= matrix ? UINT64_C(1) << slot : 0;
    }
    predicted = esp_recover_bytes(&j->m.model, &o, esp_samples_size(&j->samples), &j->grid);
    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    heap_begin();
    esp_recover_prepare(&params, &adapter, (esp_model *)&j->m.model, &o);
    CU_ASSERT_EQUAL(esp_recover(&params, &result, &j->m.model, &adapter, &j->samples, &o, note_peak,
                                &allocated, NULL, &j->grid),
                    ESP_OK);
    compare(j, method == ESP_METHOD_LORA ? "recover, LoRA" : "recover, full", predicted, allocated);
    esp_adapter_free(&adapter);
    esp_params_free(&params);
    free(dir);
}

static void check_recover(const job *j)
{
    bool same = (j->m.dtype == ESP_BF16) == (j->m.model.precision == ESP_PRECISION_BF16);

    check_recover_by(j, same ? ESP_METHOD_LORA : ESP_METHOD_FULL);
}

static void test_recover(void)
{
    with_all(check_recover);
}

static void check_merge(const job *j)
{
    char *dir = esp_test_dir("merged"), digest[ESP_DIGEST_SIZE];
    esp_recover_options o = { .method = ESP_METHOD_LORA, .rank = 2, .alpha = 1, .targets = ~0u };
    esp_adapter adapter;
    esp_params params;

    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    esp_recover_prepare(&params, &adapter, (esp_model *)&j->m.model, &o);
    heap_begin();
    CU_ASSERT_EQUAL(esp_merge(digest, esp_export_to(dir, "huggingface"), &j->m.model, NULL,
                              &adapter, j->grid.world),
                    ESP_OK);
    compare(j, "merge", esp_merge_bytes(&j->m.model, esp_exporter_find("huggingface")),
            heap_peak());
    esp_adapter_free(&adapter);
    esp_params_free(&params);
    free(dir);
}

static void check_prune(const job *j)
{
    char *dir = esp_test_dir("pruned"), digest[ESP_DIGEST_SIZE];
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.5, .min_keep = 1, .round_to = 1 };
    esp_dims dims;
    esp_groups groups;
    esp_model to;
    esp_plan plan = { 0 };
    size_t predicted;

    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    esp_groups_find(&groups, &j->m.model);
    CU_ASSERT_EQUAL(esp_plan_make(&plan, &j->m.model, &groups, NULL, &o), ESP_OK);
    esp_plan_dims(&dims, &plan, &j->m.model);
    esp_model_reshape(&to, &j->m.model, &dims);
    predicted = esp_surgery_bytes(&j->m.model, &groups, &to, esp_exporter_find("huggingface"));
    esp_model_free(&to);
    free(dims.layer);
    heap_begin();
    CU_ASSERT_EQUAL(esp_surgery(digest, esp_export_to(dir, "huggingface"), &j->m.model, &groups,
                                &plan, j->grid.world),
                    ESP_OK);
    compare(j, "prune", predicted, heap_peak());
    esp_plan_free(&plan);
    esp_groups_free(&groups);
    free(dir);
}

static void check_writers(const job *j)
{
    if (j->m.model.precision == ESP_PRECISION_F32) { /* they multiply nothing */
        (j->m.dtype == ESP_BF16 ? check_merge : check_prune)(j);
    }
}

static void test_writers(void)
{
    with_all(check_writers);
}

static void check_score_by(const job *j, unsigned criteria, unsigned units)
{
    esp_importance_options o = { .criteria = criteria,
                                 .aggregations = 1u << ESP_SUM | 1u << ESP_MAX,
                                 .units = units,
                                 .chunk_tok = 60 };
    esp_text_size all = esp_samples_size(&j->samples), own = { .longest = all.longest };
    esp_importance_work work;
    esp_scores scores;
    esp_groups groups;

    for (size_t i = (size_t)j->grid.i_data; i < all.samples; i += (size_t)j->grid.n_data) {
        own.samples++;
        own.tokens += j->samples.start[i + 1] - j->samples.start[i];
    }
    esp_groups_find(&groups, &j->m.model);
    esp_importance_work_of(&work, &j->m.model, &groups, &o, all, own, &j->grid);
    heap_begin();
    CU_ASSERT_EQUAL(
        esp_importance_estimate(&scores, &j->m.model, &groups, &j->samples, &o, &j->grid), ESP_OK);
    compare(j, units >> ESP_UNIT_HIDDEN & 1 ? "score" : "score without hidden", work.bytes,
            heap_peak());
    esp_scores_free(&scores);
    esp_groups_free(&groups);
}

static void check_score(const job *j)
{
    unsigned blocks = 1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_MLP;

    check_score_by(j, 1u << ESP_ELEMENT1 | 1u << ESP_MIX, blocks | 1u << ESP_UNIT_HIDDEN);
    check_score_by(j, 1u << ESP_VECTOR | 1u << ESP_L1, blocks);
    check_score_by(j, 1u << ESP_L2, blocks);
}

static void test_score(void)
{
    with_all(check_score);
}

static void test_eval(void)
{
    with_all(check_eval);
}

ESP_TEST_MAIN("memory", { "a reshaped model keeps its properties", test_reshape },
              { "eval", test_eval }, { "score", test_score }, { "recover", test_recover },
              { "merge and prune", test_writers })
