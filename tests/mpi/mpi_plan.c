/* Plans over ranks: what rank 0 commits is what all hold, and any rank would have made the same. */
#include "plan_subject.h"

static int rank_of(void)
{
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

/* Every mode: rank 0's plan goes round and equals what each rank makes by itself. */
static void test_share(void)
{
    static const esp_prune_mode modes[] = { ESP_PRUNE_BLOCK, ESP_PRUNE_CHANNEL, ESP_PRUNE_LAYER };
    subject x;

    subject_init(&x, &small);
    for (size_t i = 0; i < 5; i++) {
        esp_plan_options o = { .mode = i < 3 ? modes[i] : ESP_PRUNE_BLOCK,
                               .attention = i < 3    ? ESP_ATTENTION_GROUPS
                                            : i == 3 ? ESP_ATTENTION_QUERIES
                                                     : ESP_ATTENTION_BOTH,
                               .criterion = ESP_RANDOM,
                               .ratio = 0.5,
                               .target_tokens = 9 };
        esp_plan shared = { 0 };

        CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
        if (rank_of() == 0) {
            CU_ASSERT_EQUAL(esp_plan_make(&shared, &x.m, &x.g, NULL, &o), ESP_OK);
        }
        CU_ASSERT_EQUAL(esp_plan_share(&shared, MPI_COMM_WORLD), ESP_OK);
        CU_ASSERT_TRUE(same_plan(&shared, &x.p));
        esp_plan_free(&shared);
    }
    subject_free(&x);
}

/* A plan whose digest is not that of its indices is refused by all. */
static void test_share_refuses(void)
{
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.4 };
    subject x;

    subject_init(&x, &small);
    if (rank_of() == 0) {
        CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
        x.p.layers[1].mlp.index[0] ^= 1;
    }
    CU_ASSERT_EQUAL(esp_plan_share(&x.p, MPI_COMM_WORLD), ESP_EFAILED);
    subject_free(&x);
}

/* Sums in this rank's own order: alike but for the last bits, with ties between groups. */
static void disturb_scores(subject *x)
{
    for (size_t u = 0; u < x->g.n_units; u++) {
        const esp_unit *unit = &x->g.units[u];
        double *score = scores_of(x, unit->kind, unit->layer, ESP_ELEMENT1, ESP_SUM);

        for (size_t i = 0; i < unit->n_groups; i++) {
            double noise = 1e-14 * esp_score_random((uint64_t)rank_of(), unit, i);

            score[i] = (1 + floor(4 * score[i])) / 3 * (1 + noise);
        }
    }
}

static void test_same_digest(void)
{
    static const char *const digests[] = { "ffa382514d6c2d17bb8e328fe4745429",
                                           "0416c5c12d194dbd9e399c1ab35e2738",
                                           "1d61e186976cbdcba344bcf0c0136593",
                                           "3244b4b8adba99e40a3865f74712607e" };
    esp_plan_options o = { .criterion = ESP_ELEMENT1, .aggregation = ESP_SUM, .ratio = 0.4 };
    subject x;

    subject_init(&x, &small);
    give_scores(&x, ESP_ELEMENT1, ESP_SUM);
    disturb_scores(&x);
    for (int i = 0; i < 4; i++) {
        o.global = i % 2;
        o.attention = i < 2 ? ESP_ATTENTION_GROUPS : ESP_ATTENTION_QUERIES;
        o.ratio = i < 2 ? 0.4 : 0.5;
        CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
        CU_ASSERT_STRING_EQUAL(x.p.digest, digests[i]); /* on any number of ranks */
    }
    subject_free(&x);
}

ESP_TEST_MAIN("plans over ranks", { "share", test_share }, { "share refuses", test_share_refuses },
              { "the same digest", test_same_digest })
