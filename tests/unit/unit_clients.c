/* Rules of inference engines: which plans are refused, by which rule, and what is named instead. */
#include "espalier/clients.h"
#include "plan_subject.h"

#define HF        (1u << ESP_CLIENT_TRANSFORMERS)
#define VLLM      (1u << ESP_CLIENT_VLLM)
#define LLAMA_CPP (1u << ESP_CLIENT_LLAMA_CPP)
#define ALL       (HF | VLLM | LLAMA_CPP)

#define BLOOM ", \"n_layer\": 2, \"n_head\": 4, \"layer_norm_epsilon\": 1e-5"

#define LONGROPE                                                                             \
    ", \"original_max_position_embeddings\": 8, \"rope_scaling\": {\"type\": \"longrope\", " \
    "\"short_factor\": [1, 1], \"long_factor\": [1, 2]}"

#define WIDE                                             \
    {                                                    \
        "llama", 2, 320, 8, 8, 64, 1024, 11, false, NULL \
    }

static const shape wide = WIDE;

static esp_status check(subject *x, const esp_plan_options *o, unsigned clients)
{
    CU_ASSERT_EQUAL(make(x, o), ESP_OK);
    return esp_clients_check(&x->p, &x->m, &x->g, o, clients);
}

/* ---- rules ------------------------------------------------------------------------------------- */

/* What local plans of the families break, and who refuses them. */
static const struct rule_case {
    shape shape;
    esp_prune_mode mode;
    double ratio;
    unsigned taken, refused; /* bits of esp_client */
    const char *words[3];
} cases[] = {
    /* 6 heads of 64 channels, 717 intermediate channels; the hidden size of 320 stays: no rule counts */
    { WIDE, ESP_PRUNE_BLOCK, 0.3, HF | VLLM, LLAMA_CPP, { "llama.cpp", "head_dim 384", "256" } },
    { WIDE, ESP_PRUNE_BLOCK, 0.6, HF | VLLM, LLAMA_CPP, { "llama.cpp", "MLP width 410", "256" } },
    { WIDE, ESP_PRUNE_LAYER, 0.5, ALL, 0, { NULL } },
    { WIDE, ESP_PRUNE_CHANNEL, 0.2, ALL, 0, { NULL } },
    { { "llama", 2, 64, 4, 4, 16, 100, 11, false, ", \"attention_bias\": true" },
      ESP_PRUNE_BLOCK,
      0.25,
      0,
      HF,
      { "transformers", "64 of a llama", "multiple of 3" } },
    { { "llama", 2, 64, 4, 4, 16, 100, 11, false, ", \"mlp_bias\": true" },
      ESP_PRUNE_CHANNEL,
      0.3,
      0,
      HF,
      { "transformers", "45 of a llama", "multiple of 4" } },
    { { "opt", 2, 64, 4, 4, 16, 100, 11, false, NULL },
      ESP_PRUNE_CHANNEL,
      0.25,
      0,
      HF,
      { "transformers", "48 of a opt", "must be 64" } },
    { { "phi3", 2, 16, 4, 4, 4, 100, 11, false, LONGROPE },
      ESP_PRUNE_CHANNEL,
      0.25,
      0,
      HF,
      { "transformers", "12 of a phi3", "must be 16" } },
    { { "gemma2", 2, 64, 4, 4, 16, 100, 11, false, NULL },
      ESP_PRUNE_BLOCK,
      0.25,
      0,
      VLLM,
      { "vllm", "gemma2", "prune.ratio = 0.24999" } },
    { { "qwen2", 2, 64, 4, 4, 16, 100, 11, false, NULL },
      ESP_PRUNE_BLOCK,
      0.5,
      HF,
      VLLM,
      { "hidden size 64 of a qwen2", "must be 32", "prune.ratio = 0.24999" } },
    { { "phi3", 2, 16, 4, 4, 4, 100, 11, false, NULL }, ESP_PRUNE_BLOCK, 0.5, HF, 0, { NULL } },
    { { "phi3", 2, 16, 4, 4, 4, 100, 11, false, LONGROPE },
      ESP_PRUNE_BLOCK,
      0.5,
      0,
      HF,
      { "transformers", "hidden size 16 of a phi3", "must be 8" } },
    { { "bloom", 2, 64, 4, 4, 16, 256, 11, false, BLOOM },
      ESP_PRUNE_CHANNEL,
      0.25,
      0,
      ALL,
      { "transformers", "bloom", "must be 64" } },
    { { "bloom", 2, 64, 4, 4, 16, 256, 11, false, BLOOM }, ESP_PRUNE_LAYER, 0.5, ALL, 0, { NULL } },
};

static void test_rules(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        esp_plan_options o = { .criterion = ESP_RANDOM,
                               .mode = cases[i].mode,
                               .ratio = cases[i].ratio };
        subject x;

        subject_init(&x, &cases[i].shape);
        CU_ASSERT_EQUAL(check(&x, &o, cases[i].taken), ESP_OK);
        CU_ASSERT_EQUAL(check(&x, &o, cases[i].refused), cases[i].refused ? ESP_EUSAGE : ESP_OK);
        for (size_t w = 0; w < 3 && cases[i].words[w]; w++) {
            CU_ASSERT_TRUE(error_has(cases[i].words[w]));
        }
        subject_free(&x);
    }
}

/* Layers that differ are nobody's; where the ratio is not a local one, a local one is named. */
static void test_unlike_layers(void)
{
    esp_layer_range second = { 1, 1 };
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.3, .global = true };
    subject x;

    subject_init(&x, &wide);
    CU_ASSERT_EQUAL(check(&x, &o, HF), ESP_EUSAGE);
    CU_ASSERT_TRUE(error_has("transformers: layer 1 is left with"));
    CU_ASSERT_TRUE(error_has("prune.ratio = 0.3"));
    CU_ASSERT_TRUE(error_has("prune.scope = \"local\""));
    CU_ASSERT_EQUAL(check(&x, &o, 0), ESP_OK);
    o = (esp_plan_options){ .criterion = ESP_RANDOM, .ratio = 0.5, .mlp_layers = { &second, 1 } };
    CU_ASSERT_EQUAL(check(&x, &o, VLLM), ESP_EUSAGE);
    CU_ASSERT_TRUE(error_has("vllm: layer 1 is left with 4 heads, 4 key/value heads and 512 "));
    CU_ASSERT_TRUE(error_has("no prune.ratio"));
    subject_free(&x);
}

/* ---- before there are scores --------------------------------------------------------------------- */

/* What is refused without scores is what is refused with them, in the same words. */
static void check_foreseen(const shape *s, const esp_plan_options *o, unsigned clients,
                           bool settled)
{
    subject x;
    esp_plan_options random = *o;
    esp_status st;
    char *said;

    subject_init(&x, s);
    random.criterion = ESP_RANDOM;
    CU_ASSERT_EQUAL(make(&x, &random), ESP_OK);
    esp_error_clear();
    st = esp_clients_check(&x.p, &x.m, &x.g, o, clients);
    said = esp_strdup(esp_error_message());
    esp_error_clear();
    CU_ASSERT_EQUAL(esp_clients_check_early(&x.m, &x.g, o, clients), settled ? st : ESP_OK);
    CU_ASSERT_STRING_EQUAL(esp_error_message(), settled ? said : "");
    free(said);
    subject_free(&x);
}

static void test_foreseen(void)
{
    const shape odd = {
        "llama", 2,    320, 8,     8,
        64,      1024, 11,  false, ", \"espalier\": {\"intermediate_size\": [1024, 512]}"
    };
    esp_plan_options o = { .criterion = ESP_MIX, .ratio = 0.3 };
    subject x;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        esp_plan_options c = { .criterion = ESP_MIX,
                               .mode = cases[i].mode,
                               .ratio = cases[i].ratio };

        check_foreseen(&cases[i].shape, &c, cases[i].taken, true);
        check_foreseen(&cases[i].shape, &c, cases[i].refused, true);
    }
    check_foreseen(&wide, &o, 0, true);
    o.target_kind = ESP_TARGET_PARAMETERS; /* met by shares of each unit: the sizes are known */
    o.target = 0.7;
    o.target_tokens = 64;
    check_foreseen(&wide, &o, LLAMA_CPP, true);
    o.global = true;
    check_foreseen(&wide, &o, LLAMA_CPP, false);
    o.mode = ESP_PRUNE_CHANNEL; /* one unit, whatever the scope */
    check_foreseen(&wide, &o, LLAMA_CPP, true);
    o = (esp_plan_options){ .criterion = ESP_MIX, .ratio = 0.5, .mode = ESP_PRUNE_LAYER };
    check_foreseen(&odd, &o, HF, false); /* which layer stays decides on what there is to check */

    o = (esp_plan_options){ .criterion = ESP_MIX, .ratio = 1.5 };
    subject_init(&x, &wide);
    CU_ASSERT_EQUAL(esp_clients_check_early(&x.m, &x.g, &o, HF), ESP_EUSAGE);
    CU_ASSERT_TRUE(error_has("prune.ratio: 1.5"));
    subject_free(&x);
}

/* ---- what is named instead --------------------------------------------------------------------- */

/* The named ratio is taken, and so is the one with round_to; none between it and the refused is. */
static void test_nearest(void)
{
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.49 };
    subject x;

    subject_init(&x, &wide);
    CU_ASSERT_EQUAL(check(&x, &o, LLAMA_CPP), ESP_EUSAGE);
    CU_ASSERT_TRUE(error_has("prune.ratio = 0.50000"));
    for (o.ratio = 0.4905; o.ratio < 0.49999; o.ratio += 0.0005) {
        CU_ASSERT_EQUAL(check(&x, &o, LLAMA_CPP), ESP_EUSAGE);
    }
    o.ratio = 0.49999;
    CU_ASSERT_EQUAL(check(&x, &o, LLAMA_CPP), ESP_EUSAGE);
    o.ratio = 0.5;
    CU_ASSERT_EQUAL(check(&x, &o, LLAMA_CPP), ESP_OK);
    CU_ASSERT_EQUAL(x.p.layers[0].attention.n, 4);
    CU_ASSERT_EQUAL(x.p.layers[0].mlp.n, 512);

    o.ratio = 0.3;
    CU_ASSERT_EQUAL(check(&x, &o, LLAMA_CPP), ESP_EUSAGE);
    CU_ASSERT_TRUE(error_has("with prune.round_to = 256 it is 0.30000"));
    o.round_to = 256;
    CU_ASSERT_EQUAL(check(&x, &o, LLAMA_CPP), ESP_OK);
    subject_free(&x);
}

ESP_TEST_MAIN("clients", { "rules", test_rules }, { "unlike layers", test_unlike_layers },
              { "foreseen", test_foreseen }, { "nearest", test_nearest })
