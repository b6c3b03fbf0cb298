/* Plans that cut query heads: of each key/value head as many, of its own the least. */
#include "plan_subject.h"

/* 4 layers, 9 query heads of 2 channels in 3 groups, 10 neurons: the proportions of SmolLM2-135M. */
static const shape threes = { "llama", 4, 16, 9, 3, 2, 10, 11, false, NULL };

static bool has_sizes(const esp_plan *p, size_t layer, size_t attention, size_t query, size_t mlp)
{
    const esp_layer_plan *l = &p->layers[layer];

    return l->attention.n == attention && l->query.n == query && l->mlp.n == mlp;
}

/* Of every key/value head the least query head of its own, though another has two that are less. */
static void test_queries(void)
{
    static const double heads[] = { 3, 1, 2, 9, 8, 7, 0.1, 0.2, 5 };
    static const int32_t kept[] = { 0, 2, 3, 4, 7, 8 }, last[] = { 0, 3, 8 };
    esp_plan_options o = { .attention = ESP_ATTENTION_QUERIES,
                           .criterion = ESP_MIX,
                           .aggregation = ESP_MAX,
                           .ratio = 0.34 };
    subject x;

    subject_init(&x, &threes);
    give_scores(&x, ESP_MIX, ESP_MAX);
    memcpy(scores_of(&x, ESP_UNIT_QUERY, 2, ESP_MIX, ESP_MAX), heads, sizeof heads);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(keeps(&x.p.layers[2].query, kept, 6));
    for (size_t l = 0; l < 4; l++) {
        CU_ASSERT_TRUE(has_sizes(&x.p, l, 3, 6, 7));
    }
    o.ratio = 0.7;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(keeps(&x.p.layers[2].query, last, 3));
    o.ratio = 0.99; /* a query head of each stays */
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(has_sizes(&x.p, 2, 3, 3, 1));
    o.min_keep = 4; /* of query heads 4, which is 6 of 3 groups */
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(has_sizes(&x.p, 2, 3, 6, 4));
    o.min_keep = 1;
    o.round_to = 9; /* 6 and 12 channels of heads are no multiples of it, 18 are */
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_EQUAL(x.p.layers[2].query.n, 9);
    subject_free(&x);
}

/* Heads have a ratio of their own. */
static void test_attention_ratio(void)
{
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.2, .attention_ratio = 0.7 };
    subject x;

    subject_init(&x, &threes);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(has_sizes(&x.p, 0, 1, 3, 8));
    o.attention = ESP_ATTENTION_QUERIES;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(has_sizes(&x.p, 0, 3, 3, 8));
    o.attention_ratio = 1;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_EUSAGE);
    CU_ASSERT_TRUE(error_has("prune.attention_ratio: 1"));
    subject_free(&x);
}

/* A step is a query head of each group, its score their sum. */
static void test_global_queries(void)
{
    static const double two[] = { 2, 50, 50, 2, 50, 50, 2, 50, 50 };
    static const double three[] = { 0, 50, 50, 0, 50, 50, 9, 50, 50 };
    static const int32_t kept[] = { 1, 2, 4, 5, 7, 8 };
    esp_plan_options o = { .attention = ESP_ATTENTION_QUERIES,
                           .criterion = ESP_L2,
                           .aggregation = ESP_SUM,
                           .global = true,
                           .ratio = 3 / 76.0 };
    subject x;

    subject_init(&x, &threes);
    give_scores(&x, ESP_L2, ESP_SUM);
    for (size_t l = 0; l < 4; l++) {
        for (size_t i = 0; i < 10; i++) {
            scores_of(&x, ESP_UNIT_MLP, l, ESP_L2, ESP_SUM)[i] = 7;
        }
        memcpy(scores_of(&x, ESP_UNIT_QUERY, l, ESP_L2, ESP_SUM), l == 1 ? two : three, sizeof two);
    }
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK); /* 6 is less than 7, and than 9 */
    CU_ASSERT_TRUE(keeps(&x.p.layers[1].query, kept, 6));
    CU_ASSERT_TRUE(has_sizes(&x.p, 0, 3, 9, 10) && has_sizes(&x.p, 1, 3, 6, 10));
    o.ratio = 4 / 76.0;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(has_sizes(&x.p, 0, 3, 9, 9) && has_sizes(&x.p, 1, 3, 6, 10));
    subject_free(&x);
}

/* Of layer 2 a group has gone in an earlier step: its query heads do not make those of the others less. */
static void test_after_a_step(void)
{
    static const double groups[] = { 50, -1, 50 };
    static const double left[] = { 5, 6, 7, -1, -1, -1, 5, 6, 7 };
    static const double least[] = { 3.2, 6, 7, 3.2, 6, 7, 3.2, 6, 7 };
    esp_plan_options o = { .attention = ESP_ATTENTION_BOTH,
                           .criterion = ESP_L2,
                           .aggregation = ESP_SUM,
                           .global = true,
                           .ratio = 4 / 88.0 };
    subject x;

    subject_init(&x, &threes);
    give_scores(&x, ESP_L2, ESP_SUM);
    for (size_t l = 0; l < 4; l++) {
        for (size_t i = 0; i < 10; i++) {
            scores_of(&x, ESP_UNIT_MLP, l, ESP_L2, ESP_SUM)[i] = 50;
        }
        for (size_t i = 0; i < 3; i++) {
            scores_of(&x, ESP_UNIT_ATTENTION, l, ESP_L2, ESP_SUM)[i] = l == 2 ? groups[i] : 50;
        }
        memcpy(scores_of(&x, ESP_UNIT_QUERY, l, ESP_L2, ESP_SUM), l == 0 ? least : left,
               sizeof left);
    }
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK); /* 9.6 of layer 0 is less than 10 */
    CU_ASSERT_TRUE(has_sizes(&x.p, 2, 2, 6, 10) && has_sizes(&x.p, 0, 3, 6, 10));
    subject_free(&x);
}

/* Groups and query heads lose a share each, and costs are those of the model that is left. */
static void test_both(void)
{
    esp_plan_options o = { .attention = ESP_ATTENTION_BOTH,
                           .criterion = ESP_RANDOM,
                           .ratio = 0.34 };
    shape left = threes;
    esp_model m;
    subject x;

    left.heads = 4;
    left.kv_heads = 2;
    left.mlp = 7;
    shape_model(&m, &left);
    subject_init(&x, &threes);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    for (size_t l = 0; l < 4; l++) {
        CU_ASSERT_TRUE(has_sizes(&x.p, l, 2, 4, 7));
        for (size_t i = 0; i < 4; i++) { /* two of each group that stays */
            CU_ASSERT_EQUAL(x.p.layers[l].query.index[i] / 3, x.p.layers[l].attention.index[i / 2]);
        }
    }
    CU_ASSERT_EQUAL(x.p.pruned.parameters, esp_model_cost(&m, 0).parameters);
    esp_model_free(&m);
    subject_free(&x);
}

/* By each kind of heads, at or under the target, by less than the largest step. */
static void test_targets_of_queries(void)
{
    subject x;

    subject_init(&x, &threes);
    for (size_t i = 0; i < 3 * 3 * 2; i++) {
        esp_plan_options o = { .attention = (esp_attention_units)(i % 3),
                               .criterion = ESP_RANDOM,
                               .target_kind = ESP_TARGET_PARAMETERS + i / 3 % 3,
                               .target_tokens = 5,
                               .global = i >= 9 };
        uint64_t largest;

        o.target = 0.99;
        CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
        largest = cost_of(x.p.dense, o.target_kind) / 4 / 3; /* a third of a layer, or less */
        for (o.target = 0.97; o.target > 0.5; o.target -= 0.06) {
            check_target(&x, &o, largest);
        }
    }
    subject_free(&x);
}

/* Where every query head has a key/value head, there are none to be cut alone. */
static void test_refused_queries(void)
{
    static const shape alone = { "llama", 2, 16, 4, 4, 4, 10, 11, false, NULL };
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.5 };
    subject x;

    subject_init(&x, &alone);
    o.attention = ESP_ATTENTION_QUERIES;
    refused(&x, &o, ESP_EUSAGE,
            "prune.attention = queries: the model has a key/value head for each");
    o.attention = ESP_ATTENTION_BOTH;
    refused(&x, &o, ESP_EUSAGE, "prune.attention = both: ");
    o.mode = ESP_PRUNE_LAYER; /* cuts no heads */
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    subject_free(&x);
}

ESP_TEST_MAIN("plans of query heads", { "the least of each group", test_queries },
              { "a ratio of heads", test_attention_ratio }, { "one ranking", test_global_queries },
              { "after a step", test_after_a_step }, { "groups and query heads", test_both },
              { "targets", test_targets_of_queries }, { "refused", test_refused_queries })
