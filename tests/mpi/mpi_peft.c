/* mpi_peft.c - adapters and merged models: what is written is read again and computes the same. */
#include "espalier/exporters.h"
#include "espalier/peft.h"

#include "espalier/file.h"
#include "espalier/merge.h"
#include "espalier/pass.h"
#include "small_model.h"

/* Its MLP matrices are written in more than one piece. */
static const shape many_rows = { .type = "llama",
                                 .layers = 1,
                                 .hidden = 8,
                                 .heads = 1,
                                 .kv_heads = 1,
                                 .head_dim = 8,
                                 .mlp = 270000,
                                 .vocab = 21,
                                 .tied = true };

static char *fresh_dir(const char *name)
{
    char *root = esp_test_dir("peft"), *dir = esp_format("%s-%s", root, name);
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    ESP_REQUIRE(esp_agree(MPI_COMM_WORLD, rank == 0 ? esp_test_remove(dir) : ESP_OK) == ESP_OK);
    free(root);
    return dir;
}

/* An adapter whose B is not zero. */
static void make_adapter(esp_params *p, esp_adapter *a, const esp_model *m, uint64_t targets)
{
    esp_rng r = { .key = 8 };

    esp_adapter_init(a, m, 3, 16);
    esp_params_lora(p, a, m, targets, 1);
    for (size_t i = 0; i < p->n; i++) {
        p->value[i] += 0.1f * ((float)esp_rng_uniform(&r) - 0.5f);
    }
}

/* Logits of a few samples; the caller frees. */
static double *logits_of(size_t *n, const esp_model *m, const esp_adapter *a)
{
    esp_samples samples = small_samples(4, 20, m->dims.vocab);
    size_t n_tok = samples.start[samples.n];
    const size_t pick[4] = { 0, 1, 2, 3 };
    esp_batch batch;
    esp_pass pass;
    float *logits;
    double *wide;

    *n = n_tok * m->dims.vocab;
    ESP_NEW(logits, *n);
    ESP_NEW(wide, *n);
    esp_batch_init(&batch, samples.n, n_tok);
    esp_batch_fill(&batch, &samples, pick, samples.n);
    esp_pass_init(
        &pass, m,
        (esp_pass_options){ .max_samples = samples.n, .max_tok = n_tok, .rank = a ? a->rank : 0 });
    pass.adapter = a;
    esp_pass_forward(&pass, NULL, &batch);
    esp_pass_logits(logits, &pass, 0, n_tok);
    for (size_t i = 0; i < *n; i++) {
        wide[i] = (double)logits[i];
    }
    esp_pass_free(&pass);
    esp_batch_free(&batch);
    esp_samples_free(&samples);
    free(logits);
    return wide;
}

static bool same_logits(const esp_model *m, const esp_adapter *a, const esp_model *other,
                        double tol)
{
    size_t n, n_other;
    double *x = logits_of(&n, m, a), *y = logits_of(&n_other, other, NULL);
    bool same = n == n_other && esp_test_close(x, y, n, 1, tol);

    free(x);
    free(y);
    return same;
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void test_adapter(void)
{
    uint64_t some = UINT64_C(1) << (ESP_SLOT_BLOCK + 1) | UINT64_C(1) << (ESP_SLOT_BLOCK + 8);
    char *dir = fresh_dir("adapter");
    esp_params p, q;
    esp_adapter a, b;
    small s;

    small_init(&s, &two_qwen2, ESP_BF16);
    make_adapter(&p, &a, &s.model, some);
    CU_ASSERT_EQUAL(
        esp_adapter_save(esp_export_to(dir, "peft"), &a, &s.model, 0.05, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(esp_peft_load(&q, &b, &s.model, dir, MPI_COMM_WORLD), ESP_OK);
    CU_ASSERT_EQUAL(b.rank, 3);
    CU_ASSERT_EQUAL(b.scale, a.scale);
    CU_ASSERT_EQUAL(q.n, p.n);
    CU_ASSERT(q.n == p.n && memcmp(q.value, p.value, p.n * sizeof *p.value) == 0);
    CU_ASSERT_PTR_NOT_NULL(esp_adapter_at(&b, 1, ESP_SLOT_BLOCK + 8));
    CU_ASSERT_PTR_NULL(esp_adapter_at(&b, 1, ESP_SLOT_BLOCK + 7));
    CU_ASSERT_EQUAL(
        esp_adapter_save(esp_export_to(dir, "peft"), &b, &s.model, 0.05, MPI_COMM_WORLD), ESP_OK);
    esp_params_free(&p);
    esp_params_free(&q);
    esp_adapter_free(&a);
    esp_adapter_free(&b);
    small_free(&s);
    free(dir);
}

static void expect_refused(const esp_model *m, const char *dir, esp_status want)
{
    esp_adapter a;
    esp_params p;

    CU_ASSERT_EQUAL(esp_peft_load(&p, &a, m, dir, MPI_COMM_WORLD), want);
    CU_ASSERT_PTR_NULL(p.value);
    CU_ASSERT_PTR_NULL(a.lora);
}

/* Rank 0 writes another adapter_config.json. */
static void put_config(const char *dir, const char *text)
{
    char *path = esp_path(dir, "adapter_config.json");
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    ESP_REQUIRE(rank != 0 || esp_file_write(path, text, strlen(text)) == ESP_OK);
    MPI_Barrier(MPI_COMM_WORLD);
    free(path);
}

/* The last number of the last matrix. */
static void put_nan(const char *dir)
{
    char *path = esp_path(dir, "adapter_model.safetensors");
    float none = NAN;
    int rank;
    FILE *f;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0) {
        f = fopen(path, "r+b");
        ESP_REQUIRE(f && fseek(f, -(long)sizeof none, SEEK_END) == 0);
        ESP_REQUIRE(fwrite(&none, sizeof none, 1, f) == 1 && fclose(f) == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    free(path);
}

static void test_refused(void)
{
    static const char *const bad[] = {
        "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\"",
        "{\"peft_type\": \"IA3\"}",
        "{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 16}",
        "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 16}", /* the matrices have 3 */
        "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 16, \"use_dora\": true}",
        "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 16, \"rank_pattern\": {\"q_proj\": "
        "2}}",
    };
    shape fewer_layers = two_qwen2;
    char *dir = fresh_dir("refused");
    esp_params p;
    esp_adapter a;
    small s, other, less;

    fewer_layers.layers--;
    small_init(&s, &two_qwen2, ESP_F32);
    small_init(&other, &three_llama_tied, ESP_F32);
    small_init(&less, &fewer_layers, ESP_F32);
    make_adapter(&p, &a, &s.model, UINT64_MAX);
    expect_refused(&s.model, dir, ESP_EUSAGE); /* no folder */
    CU_ASSERT_EQUAL(esp_adapter_save(esp_export_to(dir, "peft"), &a, &s.model, 0, MPI_COMM_WORLD),
                    ESP_OK);
    expect_refused(&other.model, dir, ESP_EFORMAT); /* of another model */
    expect_refused(&less.model, dir, ESP_EFORMAT);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_config(dir, bad[i]);
        expect_refused(&s.model, dir, ESP_EFORMAT);
    }
    CU_ASSERT_EQUAL(esp_adapter_save(esp_export_to(dir, "peft"), &a, &s.model, 0, MPI_COMM_WORLD),
                    ESP_OK);
    put_nan(dir);
    expect_refused(&s.model, dir, ESP_EFORMAT);
    esp_params_free(&p);
    esp_adapter_free(&a);
    small_free(&s);
    small_free(&other);
    small_free(&less);
    free(dir);
}

static void test_merged_adapter(void)
{
    const shape *shapes[] = { &two_qwen2, &three_llama_tied };

    for (int i = 0; i < 2; i++) {
        char *dir = fresh_dir("merged");
        esp_model merged;
        esp_params p;
        esp_adapter a;
        small s;

        small_init(&s, shapes[i], ESP_F32);
        make_adapter(&p, &a, &s.model, UINT64_MAX);
        CU_ASSERT(!same_logits(&s.model, &a, &s.model, 1e-2));
        CU_ASSERT_EQUAL(
            esp_merge(NULL, esp_export_to(dir, "huggingface"), &s.model, &p, &a, MPI_COMM_WORLD),
            ESP_OK);
        CU_ASSERT_EQUAL_FATAL(esp_model_load(&merged, dir, MPI_COMM_WORLD), ESP_OK);
        CU_ASSERT(same_logits(&s.model, &a, &merged, 1e-5));
        esp_model_free(&merged);
        esp_params_free(&p);
        esp_adapter_free(&a);
        small_free(&s);
        free(dir);
    }
}

/* First, middle and last row of a merged weight against W + scale B A. */
static void check_rows(const esp_weight *merged, const esp_weight *w, const esp_adapter *a,
                       const esp_lora *lora)
{
    const size_t rows[] = { 0, w->rows / 2, w->rows - 1 };
    const float *got = merged->data, *from = w->data;

    for (int i = 0; i < 3; i++) {
        for (size_t c = 0; c < w->cols; c++) {
            size_t at = rows[i] * w->cols + c;
            double want = (double)from[at];

            for (size_t k = 0; k < a->rank; k++) {
                want += (double)a->scale * (double)lora->b[rows[i] * a->rank + k] *
                        (double)lora->a[k * w->cols + c];
            }
            CU_ASSERT_DOUBLE_EQUAL((double)got[at], want, 1e-6);
        }
    }
}

static void test_merged_rows(void)
{
    char *dir = fresh_dir("rows");
    int up;
    esp_model merged;
    esp_params p;
    esp_adapter a;
    small s;

    small_init(&s, &many_rows, ESP_F32);
    up = esp_arch_slot(s.model.arch, "up_proj");
    make_adapter(&p, &a, &s.model, UINT64_C(1) << up);
    CU_ASSERT_EQUAL(
        esp_merge(NULL, esp_export_to(dir, "huggingface"), &s.model, &p, &a, MPI_COMM_WORLD),
        ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_model_load(&merged, dir, MPI_COMM_WORLD), ESP_OK);
    check_rows(esp_model_weight(&merged, 0, up), esp_model_weight(&s.model, 0, up), &a,
               esp_adapter_at(&a, 0, up));
    esp_model_free(&merged);
    esp_params_free(&p);
    esp_adapter_free(&a);
    small_free(&s);
    free(dir);
}

/* All weights trained in f32 come back in their type, rounded. */
static void test_merged_full(void)
{
    char *dir = fresh_dir("full");
    esp_model merged;
    esp_params p;
    small s;

    small_init(&s, &two_qwen2, ESP_BF16);
    esp_params_full(&p, &s.model);
    for (size_t i = 0; i < p.n; i++) {
        p.value[i] *= 1.1f;
    }
    CU_ASSERT_EQUAL(
        esp_merge(NULL, esp_export_to(dir, "huggingface"), &s.model, &p, NULL, MPI_COMM_WORLD),
        ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_model_load(&merged, dir, MPI_COMM_WORLD), ESP_OK);
    for (size_t i = 0; i < p.n_entries; i++) {
        const esp_entry *e = &p.entries[i];
        const esp_weight *w = esp_model_weight(&merged, e->layer, e->slot);
        uint16_t *want;

        ESP_NEW(want, e->n);
        esp_from_f32(want, ESP_BF16, p.value + e->begin, e->n);
        CU_ASSERT_EQUAL(w->dtype, ESP_BF16);
        CU_ASSERT(memcmp(e->part == ESP_PART_BIAS ? w->bias : w->data, want, e->n * 2) == 0);
        free(want);
    }
    esp_model_free(&merged);
    esp_params_free(&p);
    small_free(&s);
    free(dir);
}

/* Nothing of a folder that was refused is there. */
static void expect_nothing(char *dir, esp_status st)
{
    char *part = esp_part_path(dir);

    CU_ASSERT_EQUAL(st, ESP_EFAILED);
    MPI_Barrier(MPI_COMM_WORLD); /* rank 0 tidies up */
    CU_ASSERT_FALSE(esp_dir_exists(dir));
    CU_ASSERT_FALSE(esp_dir_exists(part));
    free(part);
    free(dir);
}

/* One number of an adapter, in a tensor of any rank's share. */
static void test_broken_adapter(void)
{
    const float none[] = { NAN, INFINITY, -INFINITY };
    esp_params p;
    esp_adapter a;
    small s;

    small_init(&s, &two_qwen2, ESP_BF16);
    make_adapter(&p, &a, &s.model, UINT64_MAX);
    for (size_t i = 0; i < 3; i++) {
        size_t at = (p.n - 1) * i / 2;
        float value = p.value[at];
        char *dir = fresh_dir("broken");

        p.value[at] = none[i];
        expect_nothing(
            dir, esp_adapter_save(esp_export_to(dir, "peft"), &a, &s.model, 0, MPI_COMM_WORLD));
        dir = fresh_dir("broken");
        expect_nothing(dir, esp_merge(NULL, esp_export_to(dir, "huggingface"), &s.model, &p, &a,
                                      MPI_COMM_WORLD));
        p.value[at] = value;
    }
    esp_params_free(&p);
    esp_adapter_free(&a);
    small_free(&s);
}

/* 70000 is a number of BF16 and of F32, not of F16. */
static void test_beyond_f16(void)
{
    for (int t = 0; t < ESP_N_DTYPES; t++) {
        char *dir = fresh_dir("beyond");
        esp_params p;
        esp_status st;
        small s;

        small_init(&s, &two_qwen2, (esp_dtype)t);
        esp_params_full(&p, &s.model);
        p.value[p.n / 2] = -70000;
        st = esp_merge(NULL, esp_export_to(dir, "huggingface"), &s.model, &p, NULL, MPI_COMM_WORLD);
        if (t == ESP_F16) {
            expect_nothing(dir, st);
        } else {
            CU_ASSERT_EQUAL(st, ESP_OK);
            free(dir);
        }
        esp_params_free(&p);
        small_free(&s);
    }
}

ESP_TEST_MAIN("adapters and merged models", { "an adapter written and read", test_adapter },
              { "malformed adapters", test_refused },
              { "merged is base and adapter", test_merged_adapter },
              { "merged in pieces", test_merged_rows },
              { "all weights in their types", test_merged_full },
              { "an adapter with numbers that are none", test_broken_adapter },
              { "weights beyond F16", test_beyond_f16 })
