/* Plans as data: sizes, digest, plan.json and what of it is refused. */
#include "plan_subject.h"

/* ---- sizes, digest and file -------------------------------------------------------------------- */

static void test_dims(void)
{
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.5 };
    esp_dims d;
    subject x;

    subject_init(&x, &small);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    esp_plan_dims(&d, &x.p, &x.m);
    CU_ASSERT_EQUAL(d.n_layers, 4);
    CU_ASSERT_EQUAL(d.hidden, 16);
    CU_ASSERT_EQUAL(d.head_dim, 2);
    CU_ASSERT_EQUAL(d.layer[3].heads, 4);
    CU_ASSERT_EQUAL(d.layer[3].kv_heads, 2);
    CU_ASSERT_EQUAL(d.layer[3].mlp, 5);
    free(d.layer);
    subject_free(&x);
}

/* The digest is that of the sequence the contract states. */
static void test_digest(void)
{
    static const shape tiny = { "llama", 1, 2, 2, 2, 2, 3, 4, true, NULL };
    static const unsigned char bytes[] = {
        1, 0, 0, 0,                                     /* layers             */
        2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, /* hidden 0 1 of 2    */
        1, 0, 0, 0,                                     /* kept               */
        2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,             /* attention 1 of 2   */
        3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, /* mlp 0 2 of 3       */
    };
    esp_plan_options o = { .criterion = ESP_L1, .aggregation = ESP_SUM, .ratio = 0.5 };
    char expected[ESP_DIGEST_SIZE];
    subject x;

    subject_init(&x, &tiny);
    give_scores(&x, ESP_L1, ESP_SUM);
    scores_of(&x, ESP_UNIT_ATTENTION, 0, ESP_L1, ESP_SUM)[0] = -1;
    scores_of(&x, ESP_UNIT_MLP, 0, ESP_L1, ESP_SUM)[1] = -1;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    esp_digest_bytes(expected, bytes, sizeof bytes);
    CU_ASSERT_STRING_EQUAL(x.p.digest, expected);
    subject_free(&x);
}

/* Query heads that go without their key/value head are in it, those that go with it are not. */
static void test_digest_of_queries(void)
{
    static const shape tiny = { "llama", 1, 2, 4, 2, 2, 3, 4, true, NULL };
    static const unsigned char bytes[] = {
        1, 0, 0, 0,                                     /* layers           */
        2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, /* hidden 0 1 of 2  */
        1, 0, 0, 0,                                     /* kept             */
        2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, /* attention 0 1    */
        3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, /* mlp 0 2 of 3     */
        4, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, /* query 1 2 of 4   */
    };
    esp_plan_options o = { .attention = ESP_ATTENTION_QUERIES,
                           .criterion = ESP_L1,
                           .aggregation = ESP_SUM,
                           .ratio = 0.5 };
    char expected[ESP_DIGEST_SIZE];
    subject x;

    subject_init(&x, &tiny);
    give_scores(&x, ESP_L1, ESP_SUM);
    scores_of(&x, ESP_UNIT_QUERY, 0, ESP_L1, ESP_SUM)[0] = -1;
    scores_of(&x, ESP_UNIT_QUERY, 0, ESP_L1, ESP_SUM)[3] = -1;
    scores_of(&x, ESP_UNIT_MLP, 0, ESP_L1, ESP_SUM)[1] = -1;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    esp_digest_bytes(expected, bytes, sizeof bytes);
    CU_ASSERT_STRING_EQUAL(x.p.digest, expected);
    subject_free(&x);
}

static char *plan_path(void)
{
    char *dir = esp_test_dir("plan"), *path = esp_path(dir, "plan.json");

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    free(dir);
    return path;
}

static void test_round_trip(void)
{
    static const esp_prune_mode modes[] = { ESP_PRUNE_BLOCK, ESP_PRUNE_CHANNEL, ESP_PRUNE_LAYER };
    char *path = plan_path();
    esp_plan back;
    subject x;

    subject_init(&x, &small);
    for (size_t i = 0; i < 5; i++) {
        esp_plan_options o = { .mode = modes[i < 3 ? i : 0],
                               .criterion = ESP_RANDOM,
                               .ratio = 0.5 };

        o.attention = i < 3    ? ESP_ATTENTION_GROUPS
                      : i == 3 ? ESP_ATTENTION_QUERIES
                               : ESP_ATTENTION_BOTH;
        o.target_tokens = 64;
        CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
        CU_ASSERT_EQUAL(esp_plan_save(&x.p, &o, NULL, path), ESP_OK);
        CU_ASSERT_EQUAL(esp_plan_load(&back, &x.m, path), ESP_OK);
        CU_ASSERT_TRUE(same_plan(&x.p, &back));
        esp_plan_free(&back);
    }
    subject_free(&x);
    free(path);
}

/* What other tools read: digest, costs, and lists of kept indices for each layer. */
static void test_file(void)
{
    esp_plan_options o = { .criterion = ESP_RANDOM, .target_kind = ESP_TARGET_PARAMETERS };
    const char *digest, *mode;
    json_t *root, *mlp;
    json_int_t dense, pruned, saved, index, layer;
    double target;
    char *path = plan_path();
    subject x;

    o.target = 0.8;
    subject_init(&x, &small);
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_EQUAL(esp_plan_save(&x.p, &o, NULL, path), ESP_OK);
    root = json_load_file(path, 0, NULL);
    CU_ASSERT_EQUAL(
        json_unpack(root, "{s:s, s:s, s:{s:F}, s:{s:I}, s:{s:I}, s:{s:I}, s:[{}, {}, {s:I, s:o}]}",
                    "digest", &digest, "mode", &mode, "target", "parameters", &target, "dense",
                    "parameters", &dense, "pruned", "parameters", &pruned, "saves", "parameters",
                    &saved, "layers", "layer", &layer, "mlp", &mlp),
        0);
    CU_ASSERT_STRING_EQUAL(digest, x.p.digest);
    CU_ASSERT_STRING_EQUAL(mode, "block");
    CU_ASSERT_EQUAL(target, 0.8);
    CU_ASSERT_EQUAL(dense - pruned, saved);
    CU_ASSERT_EQUAL((uint64_t)pruned, x.p.pruned.parameters);
    CU_ASSERT_EQUAL(layer, 2);
    CU_ASSERT_EQUAL(json_array_size(mlp), x.p.layers[2].mlp.n);
    index = json_integer_value(json_array_get(mlp, 1));
    CU_ASSERT_EQUAL(index, x.p.layers[2].mlp.index[1]);
    json_decref(root);
    subject_free(&x);
    free(path);
}

/* ---- files refused ----------------------------------------------------------------------------- */

/* The text with the first `from` replaced; the caller frees. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);

    ESP_REQUIRE(at);
    return esp_format("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void refused_file(const esp_model *m, const char *path, const char *text, const char *part)
{
    esp_plan p;

    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    esp_error_clear();
    CU_ASSERT_EQUAL(esp_plan_load(&p, m, path), ESP_EFORMAT);
    CU_ASSERT_TRUE(error_has(part) && error_has(path));
    CU_ASSERT_PTR_NULL(p.layers);
    esp_plan_free(&p);
}

static void test_refused_files(void)
{
    static const struct change {
        const char *from, *to, *part;
    } changes[] = {
        { "\"attention\":[0,1,3]", "\"attention\":[0,1,2]", "digest: " },
        { "\"attention\":[0,1,3]", "\"attention\":[0,1]", "digest: " },
        { "\"attention\":[0,1,3]", "\"attention\":[0,1,4]",
          "layers[0]: attention[2]: is not an index" },
        { "\"attention\":[0,1,3]", "\"attention\":[1,0,3]", "layers[0]: attention[1]" },
        { "\"attention\":[0,1,3]", "\"attention\":[0,1,-3]", "attention[2]" },
        { "\"attention\":[0,1,3]", "\"attention\":[0,1.5,3]", "attention[1]" },
        { "\"attention\":[0,1,3]", "\"attention\":[]", "keeps 0 groups of a layer that stays" },
        { "\"attention\":[0,1,3]", "\"attention\":7", "attention: a list" },
        { "\"attention_of\":4", "\"attention_of\":5", "plan is for 5 groups, the model has 4" },
        { "\"kept\":true", "\"kept\":false", "keeps 3 groups of a layer that goes" },
        { "\"kept\":true", "\"kept\":1", "layers[0]" },
        { "\"layer\":1", "\"layer\":2", "layers[1]: \"layer\": 1" },
        { "\"hidden_of\": 16", "\"hidden_of\": 17", "hidden: the plan is for 17 groups" },
        { "\"digest\"", "\"digets\"", "digest: is not a digest" },
        { "\"digest\": \"", "\"digest\": \"x", "digest: is not a digest" },
        { "\"model\"", "\"mode1\"", "model: is not a digest" },
        { "\"layers\"", "\"layer\"", "layers: a list of 4" },
        { "\"tokens\": 0", "\"tokens\": -1", "tokens: " },
        { "\"mode\"", "\"digest\"", "line 4: duplicate" },
        { "\"mode\"", "mode", "line 4" },
    };
    esp_plan_options o = { .criterion = ESP_L1, .aggregation = ESP_SUM, .ratio = 0.25 };
    char *path = plan_path(), *text;
    size_t n;
    subject x;
    esp_plan p;

    subject_init(&x, &small);
    give_scores(&x, ESP_L1, ESP_SUM);
    scores_of(&x, ESP_UNIT_ATTENTION, 0, ESP_L1, ESP_SUM)[2] = -1;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_EQUAL(esp_plan_save(&x.p, &o, NULL, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_read(&text, &n, path), ESP_OK);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char *changed = replaced(text, changes[i].from, changes[i].to);

        refused_file(&x.m, path, changed, changes[i].part);
        free(changed);
    }
    refused_file(&x.m, path, "", "line");
    refused_file(&x.m, path, "[1, 2]", "digest");
    text[n / 2] = '\0';
    refused_file(&x.m, path, text, "line");
    free(text);
    CU_ASSERT_EQUAL(esp_test_remove(path), ESP_OK);
    CU_ASSERT_EQUAL(esp_plan_load(&p, &x.m, path), ESP_EUSAGE);
    subject_free(&x);
    free(path);
}

/* As above, of a plan that cuts query heads alone. */
static void test_refused_queries(void)
{
    static const struct change {
        const char *from, *to, *part;
    } changes[] = {
        { "\"query\":[1,2,5,6]", "\"query\":[1,3,5,6]", "digest: " },
        { "\"query\":[1,2,5,6]", "\"query\":[0,1,5,6]",
          "layers[0]: query: is not as many heads of each key/value head" },
        { "\"query\":[1,2,5,6]", "\"query\":[1,2,5]", "query: is not as many" },
        { "\"query\":[1,2,5,6]", "\"query\":[1]", "query: is not as many" },
        { "\"query\":[1,2,5,6]", "\"query\":[1,2,5,8]", "query[3]: is not an index" },
        { "\"query\":[1,2,5,6]", "\"query\":[]", "keeps 0 groups" },
        { "\"query_of\":8", "\"query_of\":4", "query: the plan is for 4 groups, the model has 8" },
        { "\"query\":", "\"queries\":", "digest: " },
    };
    esp_plan_options o = { .attention = ESP_ATTENTION_QUERIES,
                           .criterion = ESP_L1,
                           .aggregation = ESP_SUM,
                           .ratio = 0.5 };
    char *path = plan_path(), *text;
    double *score;
    size_t n;
    subject x;

    subject_init(&x, &small);
    give_scores(&x, ESP_L1, ESP_SUM);
    score = scores_of(&x, ESP_UNIT_QUERY, 0, ESP_L1, ESP_SUM);
    score[0] = score[3] = score[4] = score[7] = -1;
    CU_ASSERT_EQUAL(make(&x, &o), ESP_OK);
    CU_ASSERT_EQUAL(esp_plan_save(&x.p, &o, NULL, path), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_read(&text, &n, path), ESP_OK);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char *changed = replaced(text, changes[i].from, changes[i].to);

        refused_file(&x.m, path, changed, changes[i].part);
        free(changed);
    }
    free(text);
    CU_ASSERT_EQUAL(esp_test_remove(path), ESP_OK);
    subject_free(&x);
    free(path);
}

ESP_TEST_MAIN("plan as data", { "sizes", test_dims }, { "digest", test_digest },
              { "digest with query heads", test_digest_of_queries },
              { "query heads refused", test_refused_queries }, { "round trip", test_round_trip },
              { "file", test_file }, { "files refused", test_refused_files })
