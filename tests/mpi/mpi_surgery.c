/* The pruned folder is the same whatever number of ranks writes it. */
#include "espalier/exporters.h"
#include "espalier/surgery.h"
#include "golden_groups.h"

/* What was written as a digest; the folder goes. */
static void cut(char digest[ESP_DIGEST_SIZE], const fixture *t, const esp_plan *p, const char *dir,
                MPI_Comm comm)
{
    esp_model pruned;
    int rank;

    CU_ASSERT_EQUAL(
        esp_surgery(NULL, esp_export_to(dir, "huggingface"), &t->golden.model, &t->groups, p, comm),
        ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&pruned, dir, comm), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_cost(&pruned, 64).parameters, p->pruned.parameters);
    CU_ASSERT_EQUAL(esp_model_digest(digest, &pruned, 0, pruned.dims.n_layers, comm), ESP_OK);
    esp_model_free(&pruned);
    ESP_MPI(MPI_Barrier(comm));
    ESP_MPI(MPI_Comm_rank(comm, &rank));
    if (rank == 0) {
        CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    }
}

static void check_mode(const fixture *t, esp_prune_mode mode)
{
    esp_plan_options o = { .mode = mode,
                           .criterion = ESP_RANDOM,
                           .ratio = 0.4,
                           .global = mode == ESP_PRUNE_BLOCK,
                           .round_to = 1,
                           .min_keep = 1,
                           .target_tokens = 64,
                           .seed = 5 };
    char *root = esp_test_dir("surgery"), *together = esp_path(root, "together"), *alone;
    char of_all[ESP_DIGEST_SIZE], of_one[ESP_DIGEST_SIZE];
    esp_plan p;
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    alone = esp_format("%s/alone-%d", root, rank);
    CU_ASSERT_EQUAL(esp_mkdirs(root), ESP_OK);
    CU_ASSERT_EQUAL(esp_plan_make(&p, &t->golden.model, &t->groups, NULL, &o), ESP_OK);
    cut(of_all, t, &p, together, MPI_COMM_WORLD);
    cut(of_one, t, &p, alone, MPI_COMM_SELF);
    CU_ASSERT_STRING_EQUAL(of_all, of_one);
    esp_plan_free(&p);
    free(together);
    free(alone);
    free(root);
}

static void check_model(const fixture *t)
{
    check_mode(t, ESP_PRUNE_BLOCK);
    check_mode(t, ESP_PRUNE_CHANNEL);
    check_mode(t, ESP_PRUNE_LAYER);
}

static void test_own(void)
{
    fixture_each(false, check_model);
}

static void test_shared(void)
{
    fixture_each(true, check_model);
}

ESP_TEST_MAIN("surgery on ranks", { "repository's model", test_own },
              { "shared models", test_shared })
