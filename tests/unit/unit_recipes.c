/* unit_recipes.c - what recipe = "paper" sets, and what goes before it. */
#include "test.h"

#include "espalier/config.h"

/* Settings as -s takes them; the caller frees c. */
static void load(esp_config *c, const char *const *sets)
{
    char *owned[8];
    size_t n = 0;

    for (; sets[n]; n++) {
        owned[n] = esp_strdup(sets[n]);
    }
    CU_ASSERT_EQUAL_FATAL(esp_config_load(c, NULL, owned, n), ESP_OK);
    for (size_t i = 0; i < n; i++) {
        free(owned[i]);
    }
}
#define LOAD(c, ...) load(c, (const char *const[]){ __VA_ARGS__, NULL })

static void has(const esp_config *c, const char *path, const char *wanted)
{
    const esp_option *o = esp_option_find(path);
    char *text = esp_option_text(c, o);

    if (strcmp(text, wanted) != 0) {
        printf("  %s = %s, wanted %s\n", path, text, wanted);
        CU_FAIL("value");
    }
    free(text);
}

/* The flags of the authors' scripts, by the names that they have here. */
static void test_paper(void)
{
    static const char *const wanted[][2] = { { "calibration.samples", "10" },
                                             { "calibration.sequence", "64" },
                                             { "prune.criterion", "element1" },
                                             { "prune.aggregation", "sum" },
                                             { "prune.ratio", "0.25" },
                                             { "prune.scope", "local" },
                                             { "prune.attention_layers", "4-n-3" },
                                             { "prune.mlp_layers", "4-n-3" },
                                             { "prune.compensate", "none" },
                                             { "recover.method", "lora" },
                                             { "recover.rank", "8" },
                                             { "recover.alpha", "16" },
                                             { "recover.dropout", "0.05" },
                                             { "recover.learning_rate", "0.0001" },
                                             { "recover.warmup", "100" },
                                             { "recover.epochs", "2" },
                                             { "recover.batch", "64" },
                                             { "recover.cutoff", "256" },
                                             { "recover.validation", "2000" },
                                             { "recover.patience", "0" } };
    esp_config c;

    LOAD(&c, "recipe=paper");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        has(&c, wanted[i][0], wanted[i][1]);
    }
    CU_ASSERT_EQUAL(c.prune.attention_layers.range[0].last, ESP_LAYER_FROM_END(3));
    esp_config_free(&c);
}

static void test_default(void)
{
    esp_config c;

    LOAD(&c, "recipe=default");
    for (size_t i = 0; i < esp_n_options; i++) {
        CU_ASSERT_STRING_EQUAL(esp_recipe_value(&c, &esp_options[i]), esp_options[i].preset);
    }
    esp_config_free(&c);
}

/* Given settings go before, wherever they stand; a target, too, before the ratio. */
static void test_given(void)
{
    esp_config c, again;
    char *text;

    LOAD(&c, "prune.criterion=l2", "recipe=paper", "recover.validation=7");
    has(&c, "prune.criterion", "l2");
    has(&c, "recover.validation", "7");
    has(&c, "recover.patience", "0");
    CU_ASSERT_PTR_NULL(esp_recipe_of(&c, esp_option_find("prune.criterion")));
    CU_ASSERT_STRING_EQUAL(esp_recipe_of(&c, esp_option_find("recover.patience")), "paper");
    CU_ASSERT_PTR_NULL(esp_recipe_of(&c, esp_option_find("run_dir")));
    text = esp_config_text(&c);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "recipe = \"paper\";"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "attention_layers = [\"4-n-3\"];"));
    free(text);
    esp_config_free(&c);

    LOAD(&again, "recipe=paper", "prune.target.parameters=0.5");
    has(&again, "prune.ratio", "0");
    esp_config_free(&again);
}

static void test_refused(void)
{
    char *sets[] = { (char[]){ "recipe=papers" } };
    esp_config c;

    CU_ASSERT_EQUAL(esp_config_load(&c, NULL, sets, 1), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "one of default paper"));
}

static void test_layers(void)
{
    static const char *const wrong[] = { "prune.mlp_layers=n",         "prune.mlp_layers=n-0",
                                         "prune.mlp_layers=4-n",       "prune.mlp_layers=5-4",
                                         "prune.mlp_layers=4-n-70000", "prune.mlp_layers=4--3" };
    esp_config c;

    LOAD(&c, "prune.mlp_layers=n-6-n-3,n-1,2");
    has(&c, "prune.mlp_layers", "n-6-n-3,n-1-n-1,2-2");
    esp_config_free(&c);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *set = esp_strdup(wrong[i]);

        if (esp_config_load(&c, NULL, &set, 1) != ESP_EUSAGE) {
            printf("  %s is taken\n", wrong[i]);
            CU_FAIL("layers");
        }
        free(set);
    }
}

static void test_place(void)
{
    esp_config c;

    LOAD(&c, "recipe=paper", "prune.mlp_layers=n-6-n-3,1");
    CU_ASSERT(esp_config_counts_from_end(&c));
    CU_ASSERT_EQUAL(esp_config_place_layers(&c, 32), ESP_OK);
    CU_ASSERT(!esp_config_counts_from_end(&c));
    has(&c, "prune.attention_layers", "4-29"); /* as the authors have it of LLaMA-7B */
    has(&c, "prune.mlp_layers", "26-29,1-1");
    esp_config_free(&c);
    LOAD(&c, "recipe=paper");
    CU_ASSERT_EQUAL(esp_config_place_layers(&c, 6), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "4-n-3 is not a range of the layers 0-5"));
    esp_config_free(&c);
    LOAD(&c, "prune.mlp_layers=n-9-3");
    CU_ASSERT_EQUAL(esp_config_place_layers(&c, 8), ESP_EUSAGE);
    esp_config_free(&c);
}

/* Settings of results that are no part of a recipe: which models and texts, how much is to go instead of the
 * ratio, who is to load it, what is scored beside. */
static bool is_free(const esp_option *o)
{
    static const char *const free_ones[] = { "seed",
                                             "precision",
                                             "rope_ratio",
                                             "prune.target.",
                                             "prune.clients",
                                             "importance.criteria",
                                             "importance.aggregations",
                                             "importance.units",
                                             "compensate.",
                                             "masks.",
                                             "eval." };
    bool is = o->type == ESP_O_PATH || o->type == ESP_O_STRING || o->type == ESP_O_FILES;

    for (size_t i = 0; i < sizeof free_ones / sizeof *free_ones; i++) {
        is = is || strncmp(o->path, free_ones[i], strlen(free_ones[i])) == 0;
    }
    return is;
}

/* Who adds a setting says what the paper has there, else another default would change what "paper" is. */
static void test_complete(void)
{
    esp_config c;

    LOAD(&c, "recipe=paper");
    for (size_t i = 0; i < esp_n_options; i++) {
        const esp_option *o = &esp_options[i];

        if (o->stages && !is_free(o) && !esp_recipe_of(&c, o)) {
            printf("  %s: what is it in the paper? (src/config/recipes.c)\n", o->path);
            CU_FAIL("setting without a value by the paper");
        }
    }
    esp_config_free(&c);
}

ESP_TEST_MAIN("recipes", { "paper", test_paper }, { "default", test_default },
              { "what is given", test_given }, { "refused", test_refused },
              { "layers from the end", test_layers }, { "layers in a model", test_place },
              { "complete", test_complete })
