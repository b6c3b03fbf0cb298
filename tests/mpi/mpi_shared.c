/* mpi_shared.c - ranks of a node hold frozen weights once: the shares that the system counts for them add up
 * to one copy of the file. */
#include "espalier/exporters.h"
#include "espalier/recover.h"

#include "espalier/file.h"
#include "espalier/rng.h"
#include "espalier/synth.h"
#include "test.h"

enum { N_SAMPLES = 8, LENGTH = 16 };

/* Bytes of mapped weights that count for this process, pages of several shared out among them; < 0: the
 * system does not tell. */
static double mapped_share(void)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    double bytes = f ? 0 : -1;
    bool weights = false;
    char line[4096];
    unsigned long begin, end;
    long kilobytes;

    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "Pss: %ld kB", &kilobytes) == 1) {
            bytes += weights ? 1024 * (double)kilobytes : 0;
        } else if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) { /* of another mapping */
            weights = strstr(line, ".safetensors") != NULL;
        }
    }
    if (f) {
        fclose(f);
    }
    return bytes;
}

/* Summed over ranks, which must all be there while it is counted. */
static double shares_together(const esp_grid *grid)
{
    double bytes, least;

    MPI_Barrier(grid->world);
    bytes = least = mapped_share();
    MPI_Barrier(grid->world);
    MPI_Allreduce(MPI_IN_PLACE, &bytes, 1, MPI_DOUBLE, MPI_SUM, grid->world);
    MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_DOUBLE, MPI_MIN, grid->world);
    return least < 0 ? -1 : bytes;
}

/* 46 MB of weights, most of them in blocks. */
static void load_model(esp_model *m, const esp_grid *grid)
{
    const esp_synth_options o = { .model_type = "llama",
                                  .hidden = 512,
                                  .mlp = 1536,
                                  .layers = 6,
                                  .heads = 8,
                                  .vocab = 1000,
                                  .max_positions = 64,
                                  .dtype = ESP_BF16,
                                  .std = 0.02,
                                  .rope_theta = 10000 };
    char *dir = esp_test_dir("shared-model");

    ESP_REQUIRE(esp_synth(esp_export_to(dir, "huggingface"), &o, grid->world) == ESP_OK);
    ESP_REQUIRE(esp_model_load(m, dir, grid->world) == ESP_OK);
    free(dir);
}

static void add_samples(esp_samples *s, size_t vocab)
{
    esp_rng r = { .key = 1 };
    int32_t ids[LENGTH];

    for (size_t j = 0; j < N_SAMPLES; j++) {
        for (size_t t = 0; t < LENGTH; t++) {
            ids[t] = (int32_t)esp_rng_below(&r, vocab);
        }
        esp_samples_add(s, ids, NULL, LENGTH);
    }
}

typedef struct memory {
    const esp_grid *grid;
    double during; /* of all ranks, in the middle of the training  */
    size_t own;    /* anonymous memory of this rank by then        */
} memory;

static void look(void *ctx, const esp_recover_news *news)
{
    memory *m = ctx;

    CU_ASSERT(news->step == 1 && news->loss > 0 && news->grad_norm > 0);
    m->during = shares_together(m->grid);
    m->own = esp_anonymous_resident();
}

/* One step of LoRA goes through all weights on every rank. */
static void train(memory *during, esp_model *m)
{
    char *dir = esp_test_dir("shared-training");
    esp_recover_options o = { .rank = 4,
                              .alpha = 8,
                              .targets = UINT64_C(1) << ESP_SLOT_BLOCK,
                              .learning_rate = 1e-4,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .epsilon = 1e-8,
                              .steps = 1,
                              .batch = N_SAMPLES,
                              .micro_batch = 2,
                              .keep = 1,
                              .dir = dir,
                              .settings = "shared" };
    esp_samples samples = { 0 };
    esp_recover_result result;
    esp_adapter adapter;
    esp_params params;

    ESP_REQUIRE(esp_agree(during->grid->world,
                          during->grid->rank == 0 ? esp_test_remove(dir) : ESP_OK) == ESP_OK);
    for (int slot = ESP_SLOT_BLOCK; slot < (int)m->arch->n_slots; slot++) {
        o.targets |= m->arch->slots[slot].cols == ESP_W_ONE ? 0 : UINT64_C(1) << slot;
    }
    add_samples(&samples, m->dims.vocab);
    esp_recover_prepare(&params, &adapter, m, &o);
    CU_ASSERT_EQUAL(
        esp_recover(&params, &result, m, &adapter, &samples, &o, look, during, NULL, during->grid),
        ESP_OK);
    esp_adapter_free(&adapter);
    esp_params_free(&params);
    esp_samples_free(&samples);
    free(dir);
}

static void test_one_copy(void)
{
    size_t own = esp_anonymous_resident();
    double copies, bytes;
    memory during;
    esp_grid all;
    esp_model m;

    esp_grid_init(&all, 1, MPI_COMM_WORLD);
    if (shares_together(&all) < 0) {
        printf("skipped: /proc/self/smaps does not tell what is shared\n");
        esp_grid_free(&all);
        return;
    }
    load_model(&m, &all);
    during.grid = &all;
    train(&during, &m);
    bytes = (double)esp_model_cost(&m, 1).bytes;
    copies = during.during / bytes;
    CU_ASSERT(copies > 0.9 && copies < 1.05);
    CU_ASSERT((double)during.own - (double)own < 0.5 * bytes);
    if (all.rank == 0) {
        printf("%.2f copies of %.0f MB on %d ranks, %.0f MB beside\n", copies, bytes / 1e6,
               all.size, ((double)during.own - (double)own) / 1e6);
    }
    esp_model_free(&m);
    esp_grid_free(&all);
}

ESP_TEST_MAIN("memory of a node", { "frozen weights are there once", test_one_copy })
