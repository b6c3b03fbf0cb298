/* Plans: how many groups go, which, and what is refused. */
#include "plan_subject.h"

/* ---- how many ---------------------------------------------------------------------------------- */

/* The counts that the authors of LLM-Pruner report, from shapes alone. */
static void test_parity(void)
{
    static const struct parity {
        shape shape;
        esp_layer_range layers;
        uint64_t dense, pruned;
    } cases[] = {
        { { "llama", 32, 4096, 32, 32, 128, 11008, 32000, false, NULL },
          { 4, 29 },
          6738415616,
          5422977024 },
        { { "llama", 32, 4096, 32, 8, 128, 14336, 128256, false, NULL },
          { 4, 29 },
          8030261248,
          6612586496 },
        { { "llama", 22, 2048, 32, 4, 64, 5632, 32000, false, NULL },
          { 4, 17 },
          1100048384,
          945907712 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        esp_layer_range layers = cases[i].layers;
        esp_plan_options o = { .criterion = ESP_RANDOM,
                               .ratio = 0.25,
                               .attention_layers = { &layers, 1 },
                               .mlp_layers = { &layers, 1 } };
        subject x;

        subject_init(&x, &cases[i].shape);
        CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
        CU_ASSERT_EQUAL(x.p.dense.parameters, cases[i].dense);
        CU_ASSERT_EQUAL(x.p.pruned.parameters, cases[i].pruned);
        CU_ASSERT_EQUAL(x.p.pruned.bytes, 2 * cases[i].pruned);
        CU_ASSERT_EQUAL(x.p.layers[layers.first - 1].mlp.n, cases[i].shape.mlp);
        CU_ASSERT_EQUAL(x.p.layers[layers.first].mlp.n, cases[i].shape.mlp * 3 / 4);
        CU_ASSERT_EQUAL(x.p.layers[layers.last].attention.n, cases[i].shape.kv_heads * 3 / 4);
        CU_ASSERT_EQUAL(x.p.layers[layers.last + 1].attention.n, cases[i].shape.kv_heads);
        subject_free(&x);
    }
}

static void test_local_counts(void)
{
    static const struct count {
        double ratio;
        size_t round_to, min_keep, attention, mlp; /* kept of 4 heads of 2 channels and of 10 */
    } cases[] = {
        { 0.0, 0, 0, 4, 10 }, { 0.1, 1, 1, 4, 9 },   { 0.25, 1, 1, 3, 8 }, { 0.7, 1, 1, 2, 3 },
        { 0.99, 1, 1, 1, 1 }, { 0.5, 4, 1, 2, 8 },   { 0.25, 2, 1, 3, 8 }, { 0.8, 2, 3, 3, 4 },
        { 0.5, 1, 3, 3, 5 },  { 0.05, 4, 1, 4, 10 }, { 0.3, 1, 1, 3, 7 }, /* 10 * 0.3 is 3 */
        { 0.1, 4, 1, 4, 10 }, /* 9 rounds up to 12, but there are 10 */
    };
    subject x;

    subject_init(&x, &small);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        esp_plan_options o = { .criterion = ESP_RANDOM,
                               .ratio = cases[i].ratio,
                               .round_to = cases[i].round_to,
                               .min_keep = cases[i].min_keep };

        CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
        for (size_t l = 0; l < x.p.n_layers; l++) {
            CU_ASSERT_EQUAL(x.p.layers[l].attention.n, cases[i].attention);
            CU_ASSERT_EQUAL(x.p.layers[l].mlp.n, cases[i].mlp);
            CU_ASSERT_EQUAL(x.p.layers[l].mlp.total, 10);
            CU_ASSERT_TRUE(x.p.layers[l].kept);
        }
    }
    subject_free(&x);
}

/* Of n groups floor(n ratio) go, for every whole percent, as whole numbers count. */
static void test_never_beyond_the_ratio(void)
{
    static const size_t sizes[] = { 3, 4, 7, 10, 32, 100, 1000, 11008 };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        shape s = { "llama", 1, 16, 2, 2, 2, sizes[i], 3, false, NULL };
        subject x;

        subject_init(&x, &s);
        for (size_t percent = 0; percent < 100; percent++) {
            esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = (double)percent / 100 };
            size_t gone = sizes[i] * percent / 100;

            CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
            CU_ASSERT_EQUAL(x.p.layers[0].mlp.n, sizes[i] - gone);
            o.global = true;
            gone = (sizes[i] + 2) * percent / 100;
            if (gone > sizes[i]) { /* one stays in each unit */
                continue;
            }
            CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
            CU_ASSERT_EQUAL(x.p.layers[0].mlp.n + x.p.layers[0].attention.n, sizes[i] + 2 - gone);
        }
        subject_free(&x);
    }
}

/* Groups kept in all units of a plan for `small`, and the least of a unit. */
static size_t count_kept(size_t *least, const esp_plan *p)
{
    size_t n = 0;

    *least = SIZE_MAX;
    for (size_t l = 0; l < p->n_layers; l++) {
        size_t a = p->layers[l].attention.n, f = p->layers[l].mlp.n;

        n += a + f;
        *least = a < *least ? a : *least;
        *least = f < *least ? f : *least;
    }
    return n;
}

static void test_global_counts(void)
{
    subject x;
    size_t least;

    subject_init(&x, &small);
    for (int percent = 1; percent < 70; percent += 13) {
        esp_plan_options o = {
            .criterion = ESP_RANDOM, .ratio = percent / 100.0, .global = true, .min_keep = 2
        };

        CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
        CU_ASSERT_EQUAL(count_kept(&least, &x.p), (size_t)(56 - 56 * percent / 100));
        CU_ASSERT_TRUE(least >= 2);
    }
    subject_free(&x);
}

static void test_global_rounding(void)
{
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.5, .global = true, .round_to = 2 };
    subject x;
    size_t least, kept;

    subject_init(&x, &small);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    kept = count_kept(&least, &x.p);
    CU_ASSERT_TRUE(kept == 28 || kept == 29); /* neurons go in pairs, heads one by one */
    for (size_t l = 0; l < x.p.n_layers; l++) {
        CU_ASSERT_EQUAL(x.p.layers[l].mlp.n % 2, 0);
    }
    subject_free(&x);
}

/* ---- targets ----------------------------------------------------------------------------------- */

/* Largest saving of one group of a mode, from costs of models that lack it. */
static uint64_t largest_group(const esp_plan_options *o)
{
    shape less = small;
    esp_model m, one;
    uint64_t all, most = 0;

    shape_model(&m, &small);
    all = cost_of(esp_model_cost(&m, o->target_tokens), o->target_kind);
    for (int i = 0; i < 4; i++) {
        bool of_mode = i < 2 ? o->mode == ESP_PRUNE_BLOCK
                             : o->mode == (i == 2 ? ESP_PRUNE_CHANNEL : ESP_PRUNE_LAYER);
        uint64_t saves;

        less = small;
        less.kv_heads -= i == 0;
        less.heads -= i == 0 ? 2 : 0;
        less.mlp -= i == 1;
        less.hidden -= i == 2;
        less.layers -= i == 3;
        shape_model(&one, &less);
        saves = all - cost_of(esp_model_cost(&one, o->target_tokens), o->target_kind);
        saves /= i < 2 ? small.layers : 1;
        most = of_mode && saves > most ? saves : most;
        esp_model_free(&one);
    }
    esp_model_free(&m);
    return most;
}

static void test_targets(void)
{
    static const esp_prune_mode modes[] = { ESP_PRUNE_BLOCK, ESP_PRUNE_CHANNEL, ESP_PRUNE_LAYER };
    subject x;

    subject_init(&x, &small);
    for (size_t i = 0; i < 3 * 3 * 2; i++) {
        esp_plan_options o = { .criterion = ESP_RANDOM,
                               .mode = modes[i % 3],
                               .target_kind = ESP_TARGET_PARAMETERS + i / 3 % 3,
                               .target_tokens = 5,
                               .global = i >= 9 };
        uint64_t largest = largest_group(&o);

        for (o.target = 0.97; o.target > 0.5; o.target -= 0.09) {
            check_target(&x, &o, largest);
        }
        o.target = (double)(cost_of(x.p.dense, o.target_kind) * 7 / 10);
        check_target(&x, &o, largest);
    }
    subject_free(&x);
}

/* The target stops at the first group that meets it, and local cuts all units alike. */
static void test_local_target(void)
{
    esp_plan_options o = {
        .criterion = ESP_RANDOM, .target_kind = ESP_TARGET_PARAMETERS, .target = 0.7, .round_to = 2
    };
    size_t most = 0, least = SIZE_MAX;
    subject x;

    subject_init(&x, &small);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    for (size_t l = 0; l < x.p.n_layers; l++) {
        size_t n = x.p.layers[l].mlp.n;

        CU_ASSERT_EQUAL(n % 2, 0);
        most = n > most ? n : most;
        least = n < least ? n : least;
    }
    CU_ASSERT_TRUE(least < 10);
    CU_ASSERT_TRUE(most - least <= 2);
    subject_free(&x);
}

/* ---- which ------------------------------------------------------------------------------------- */

static void test_lowest_go(void)
{
    static const double heads[] = { 3, 1, 2, 1 };
    static const double neurons[] = { 5, 1, 4, 1 + 1e-12, 9, 1, 2, 8, 7, 6 };
    static const int32_t kept_heads[] = { 0, 2, 3 }; /* of equal ones the first goes */
    static const int32_t kept_neurons[] = { 0, 2, 4, 5, 6, 7, 8, 9 }; /* 1 + 1e-12 is 1 */
    esp_plan_options o = { .criterion = ESP_MIX, .aggregation = ESP_MAX, .ratio = 0.25 };
    subject x;

    subject_init(&x, &small);
    give_scores(&x, ESP_MIX, ESP_MAX);
    memcpy(scores_of(&x, ESP_UNIT_ATTENTION, 2, ESP_MIX, ESP_MAX), heads, sizeof heads);
    memcpy(scores_of(&x, ESP_UNIT_MLP, 2, ESP_MIX, ESP_MAX), neurons, sizeof neurons);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(keeps(&x.p.layers[2].attention, kept_heads, 3));
    CU_ASSERT_TRUE(keeps(&x.p.layers[2].mlp, kept_neurons, 8));
    CU_ASSERT_EQUAL(x.p.hidden.n, 16);
    subject_free(&x);
}

/* Products of many structures leave the range of f32 long before they are alike. */
static void test_tiny_scores(void)
{
    static const int32_t kept[] = { 0, 3, 4, 5, 6, 7, 8, 9 };
    esp_plan_options o = { .criterion = ESP_L1, .aggregation = ESP_PROD, .ratio = 0.2 };
    double *score;
    subject x;

    subject_init(&x, &small);
    give_scores(&x, ESP_L1, ESP_PROD);
    score = scores_of(&x, ESP_UNIT_MLP, 0, ESP_L1, ESP_PROD);
    for (size_t i = 0; i < 10; i++) {
        score[i] = i == 1 || i == 2 ? 1e-80 : 1e-79;
    }
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(keeps(&x.p.layers[0].mlp, kept, 8));
    subject_free(&x);
}

/* One ranking over all layers and both units. */
static void test_global_ranking(void)
{
    esp_plan_options o = { .criterion = ESP_L2, .aggregation = ESP_SUM, .ratio = 3 / 56.0 };
    static const int32_t no_5[] = { 0, 1, 2, 3, 4, 6, 7, 8, 9 };
    static const int32_t no_0_3[] = { 1, 2 };
    subject x;

    o.global = true;
    subject_init(&x, &small);
    give_scores(&x, ESP_L2, ESP_SUM);
    scores_of(&x, ESP_UNIT_ATTENTION, 1, ESP_L2, ESP_SUM)[0] = -1;
    scores_of(&x, ESP_UNIT_ATTENTION, 1, ESP_L2, ESP_SUM)[3] = -2;
    scores_of(&x, ESP_UNIT_MLP, 3, ESP_L2, ESP_SUM)[5] = -3;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(keeps(&x.p.layers[1].attention, no_0_3, 2));
    CU_ASSERT_TRUE(keeps(&x.p.layers[3].mlp, no_5, 9));
    CU_ASSERT_EQUAL(x.p.layers[0].mlp.n, 10);
    o.min_keep = 3; /* the second head of layer 1 may not go: another group does */
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_EQUAL(x.p.layers[1].attention.n, 3);
    CU_ASSERT_EQUAL(x.p.layers[1].attention.index[2], 2); /* 3, the lowest, is gone */
    subject_free(&x);
}

static void test_channels(void)
{
    esp_plan_options o = {
        .mode = ESP_PRUNE_CHANNEL, .criterion = ESP_RANDOM, .ratio = 0.25, .round_to = 4
    };
    shape narrow = small;
    esp_model m;
    subject x;

    narrow.hidden = 12;
    shape_model(&m, &narrow);
    subject_init(&x, &small);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_EQUAL(x.p.hidden.n, 12);
    CU_ASSERT_EQUAL(x.p.hidden.total, 16);
    CU_ASSERT_EQUAL(x.p.layers[0].mlp.n, 10);
    CU_ASSERT_EQUAL(x.p.pruned.parameters, esp_model_cost(&m, 0).parameters);
    esp_model_free(&m);
    subject_free(&x);
}

static void test_layers(void)
{
    esp_layer_range first = { 0, 1 }, third = { 2, 2 };
    esp_plan_options o = { .mode = ESP_PRUNE_LAYER, .criterion = ESP_VECTOR, .ratio = 0.5 };
    shape half = small;
    esp_model m;
    subject x;

    half.layers = 2;
    shape_model(&m, &half);
    subject_init(&x, &small);
    give_scores(&x, ESP_VECTOR, ESP_SUM);
    scores_of(&x, ESP_UNIT_MLP, 3, ESP_VECTOR, ESP_SUM)[0] -= 100;
    scores_of(&x, ESP_UNIT_ATTENTION, 1, ESP_VECTOR, ESP_SUM)[2] -= 90;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(x.p.layers[0].kept && !x.p.layers[1].kept);
    CU_ASSERT_TRUE(x.p.layers[2].kept && !x.p.layers[3].kept);
    CU_ASSERT_EQUAL(x.p.layers[3].mlp.n, 0);
    CU_ASSERT_EQUAL(x.p.layers[2].mlp.n, 10);
    CU_ASSERT_EQUAL(x.p.pruned.parameters, esp_model_cost(&m, 0).parameters);

    o.attention_layers = (esp_layer_ranges){ &first, 1 }; /* 3, the lowest, is in neither list */
    o.mlp_layers = (esp_layer_ranges){ &third, 1 };
    o.ratio = 0.34;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_TRUE(x.p.layers[0].kept && !x.p.layers[1].kept);
    CU_ASSERT_TRUE(x.p.layers[2].kept && x.p.layers[3].kept);
    esp_model_free(&m);
    subject_free(&x);
}

/* Seeds differ, a seed does not. */
static void test_random(void)
{
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.3, .seed = 1 };
    char first[ESP_DIGEST_SIZE];
    subject x;

    subject_init(&x, &small);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    memcpy(first, x.p.digest, sizeof first);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_STRING_EQUAL(x.p.digest, first);
    o.seed = 2;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_STRING_NOT_EQUAL(x.p.digest, first);
    subject_free(&x);
}

/* ---- refused ----------------------------------------------------------------------------------- */

static void test_refused_options(void)
{
    esp_layer_range beyond = { 2, 4 }, turned = { 3, 1 };
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 1 };
    subject x;

    subject_init(&x, &small);
    refused(&x, &o, ESP_EUSAGE, "prune.ratio: 1");
    o.ratio = NAN;
    refused(&x, &o, ESP_EUSAGE, "prune.ratio: nan");
    o = (esp_plan_options){ .criterion = ESP_RANDOM, .ratio = 0.9, .global = true, .min_keep = 4 };
    refused(&x, &o, ESP_EUSAGE, "24 of 56 groups go, a ratio of 0.428571");
    o = (esp_plan_options){ .criterion = ESP_RANDOM, .target_kind = ESP_TARGET_BYTES, .target = 5 };
    refused(&x, &o, ESP_EUSAGE, "5 bytes cannot be met; the least");
    o.target = 80;
    refused(&x, &o, ESP_EUSAGE, "a fraction is written as 0.8");
    o.target = 1e9;
    refused(&x, &o, ESP_EUSAGE, "1000000000 bytes are not below the");
    o.target = 1;
    refused(&x, &o, ESP_EUSAGE, "nothing would go");
    o.target = 0;
    refused(&x, &o, ESP_EUSAGE, "prune.target: 0");
    o = (esp_plan_options){ .criterion = ESP_RANDOM,
                            .ratio = 0.2,
                            .attention_layers = { &beyond, 1 } };
    refused(&x, &o, ESP_EUSAGE, "prune.attention_layers: 2-4 is not a range of the layers 0-3");
    o = (esp_plan_options){ .criterion = ESP_RANDOM, .ratio = 0.2, .mlp_layers = { &turned, 1 } };
    refused(&x, &o, ESP_EUSAGE, "prune.mlp_layers: 3-1");
    subject_free(&x);
}

/* ---- foreseen ---------------------------------------------------------------------------------- */

static void test_foreseen(void)
{
    static esp_layer_range middle = { 1, 2 };
    static const struct {
        esp_plan_options o;
        const char *says;    /* on stderr, one line or none */
        const char *refuses; /* NULL: it does not           */
    } cases[] = {
        /* 4 heads of 2 channels and 10 neurons in each of 4 layers, 16 channels of the hidden state */
        { { .ratio = 0.25 },
          "plan: mlp: 2 of 10 groups (20 %) in each layer for a ratio of 25 %\n",
          NULL },
        { { .ratio = 0.1 },
          "plan: attention: 0 of 4 groups (0 %) in each layer for a ratio of 10 %\n",
          NULL },
        { { .ratio = 0.3, .attention_layers = { &middle, 1 } },
          "plan: attention: 1 of 4 groups (25 %) in layers 1-2 for a ratio of 30 %\n",
          NULL },
        { { .ratio = 0.5, .min_keep = 3 },
          "plan: attention: 1 of 4 groups (25 %) in each layer for a ratio of 50 %\n",
          NULL },
        { { .ratio = 0.5 }, "", NULL },
        { { .ratio = 0.3, .attention = ESP_ATTENTION_QUERIES },
          "plan: query: 0 of 8 groups (0 %) in each layer for a ratio of 30 %\n",
          NULL },
        { { .ratio = 0.7, .attention = ESP_ATTENTION_QUERIES },
          "plan: query: 4 of 8 groups (50 %) in each layer for a ratio of 70 %\n",
          NULL },
        { { .ratio = 0.3, .mode = ESP_PRUNE_LAYER },
          "plan: layers: 1 of 4 groups (25 %) for a ratio of 30 %\n",
          NULL },
        { { .ratio = 0.1, .mode = ESP_PRUNE_CHANNEL },
          "plan: hidden: 1 of 16 groups (6 %) for a ratio of 10 %\n",
          NULL },
        { { .ratio = 0 }, "prune.ratio is 0", NULL },
        { { .ratio = 0.05 },
          "",
          "cuts nothing: of n groups floor(n ratio) go; the least ratio that "
          "cuts something is 0.1" },
        { { .ratio = 0.2, .mode = ESP_PRUNE_LAYER }, "", "cuts something is 0.25" },
        { { .ratio = 0.01, .global = true }, "", "cuts something is 0.017858" },
        { { .ratio = 0.2, .min_keep = 10 }, "", "nor does any other" },
        { { .ratio = 0.9, .global = true, .min_keep = 4 }, "", "24 of 56" },
        { { .target_kind = ESP_TARGET_PARAMETERS, .target = 1e9 }, "", "not below" },
        { { .target_kind = ESP_TARGET_PARAMETERS, .target = 0.8 }, "", NULL },
    };
    subject x;

    subject_init(&x, &small);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        esp_plan_options o = cases[i].o;
        esp_status st;
        esp_ear ear;
        char *said;

        o.criterion = ESP_MIX; /* of which there are no scores yet */
        ear = esp_test_hear();
        esp_error_clear();
        st = esp_plan_check_early(&x.m, &x.g, &o);
        said = esp_test_heard(&ear);
        CU_ASSERT_EQUAL(st, cases[i].refuses ? ESP_EUSAGE : ESP_OK);
        CU_ASSERT_TRUE(error_has(cases[i].refuses ? cases[i].refuses : ""));
        if (!strstr(said, cases[i].says) || (!*cases[i].says && *said)) {
            printf("  case %zu said %s\n", i, said);
            CU_FAIL("other words");
        }
        free(said);
    }
    subject_free(&x);
}

static void test_refused_scores(void)
{
    esp_plan_options o = { .criterion = ESP_L2, .aggregation = ESP_SUM, .ratio = 0.2 };
    subject x;

    subject_init(&x, &small);
    refused(&x, &o, ESP_EUSAGE, "criterion l2, aggregation sum");
    give_scores(&x, ESP_L2, ESP_SUM);
    o.aggregation = ESP_LAST;
    refused(&x, &o, ESP_EUSAGE, "criterion l2, aggregation last");
    o.aggregation = ESP_SUM;
    scores_of(&x, ESP_UNIT_MLP, 2, ESP_L2, ESP_SUM)[3] = NAN;
    refused(&x, &o, ESP_EFAILED, "layer 2, mlp group 3 is nan");
    o.mode = ESP_PRUNE_LAYER;
    refused(&x, &o, ESP_EFAILED, "layer 2, mlp group 3 is nan");
    o.mode = ESP_PRUNE_CHANNEL;
    scores_of(&x, ESP_UNIT_HIDDEN, 0, ESP_L2, ESP_SUM)[15] = INFINITY;
    refused(&x, &o, ESP_EFAILED, "hidden group 15 is inf");
    subject_free(&x);
}

ESP_TEST_MAIN("plan", { "the authors' counts", test_parity }, { "local counts", test_local_counts },
              { "never beyond the ratio", test_never_beyond_the_ratio },
              { "global counts", test_global_counts }, { "global rounding", test_global_rounding },
              { "targets", test_targets }, { "local target", test_local_target },
              { "the lowest go", test_lowest_go }, { "tiny scores", test_tiny_scores },
              { "global ranking", test_global_ranking }, { "channels", test_channels },
              { "layers", test_layers }, { "random", test_random },
              { "options refused", test_refused_options }, { "foreseen", test_foreseen },
              { "scores refused", test_refused_scores })
