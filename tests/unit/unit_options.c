/* unit_options.c - defaults, file, -s, refusals, and the text that gives the same settings again. */
#include "test.h"

#include "espalier/config.h"
#include "espalier/distance.h"
#include "espalier/file.h"

static esp_status load_text(esp_config *c, const char *text)
{
    char *path = esp_test_dir("run.cfg");
    esp_status st;

    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    st = esp_config_load(c, path, NULL, 0);
    free(path);
    return st;
}

/* The file is refused and the message has all of the parts, which spaces separate. */
static void refused(const char *text, const char *const *parts)
{
    esp_config c;

    CU_ASSERT_EQUAL(load_text(&c, text), ESP_EUSAGE);
    CU_ASSERT_PTR_NULL(c.model);
    for (; *parts; parts++) {
        if (!strstr(esp_error_message(), *parts)) {
            printf("  \"%s\" is not in \"%s\"\n", *parts, esp_error_message());
            CU_FAIL("message");
        }
    }
}
#define REFUSED(text, ...) refused(text, (const char *const[]){ __VA_ARGS__, NULL })

static void test_defaults(void)
{
    esp_config c;

    CU_ASSERT_EQUAL(esp_config_load(&c, NULL, NULL, 0), ESP_OK);
    CU_ASSERT_STRING_EQUAL(c.model, "");
    CU_ASSERT_EQUAL(c.calibration.samples, 10);
    CU_ASSERT_EQUAL(c.calibration.sequence, 64);
    CU_ASSERT_EQUAL(c.prune.ratio, 0.25);
    CU_ASSERT_EQUAL(c.importance.criteria, 1u << ESP_ELEMENT1);
    CU_ASSERT_EQUAL(c.importance.aggregations, 1u << ESP_SUM);
    CU_ASSERT_EQUAL(c.importance.units,
                    1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_MLP | 1u << ESP_UNIT_HIDDEN);
    CU_ASSERT_EQUAL(c.recover.rank, 8);
    CU_ASSERT_EQUAL(c.recover.alpha, 16);
    CU_ASSERT_EQUAL(c.recover.dropout, 0.05);
    CU_ASSERT_EQUAL(c.recover.learning_rate, 1e-4);
    CU_ASSERT_EQUAL(c.recover.batch, 64);
    CU_ASSERT_EQUAL(c.recover.epochs, 2);
    CU_ASSERT_EQUAL(c.recover_cutoff, 256);
    CU_ASSERT_EQUAL(c.recover_targets.n, 0);
    esp_config_free(&c);
    esp_config_free(&c);
}

/* Bytes have units, and are told in the largest binary one that divides them. */
static void test_bytes(void)
{
    static const struct {
        const char *set, *text;
        size_t bytes;
    } cases[] = { { "memory_limit=6 GiB", "6 GiB", (size_t)6 << 30 },
                  { "memory_limit=1.5GiB", "1536 MiB", (size_t)3 << 29 },
                  { "memory_limit=500 MB", "500000000", 500000000 },
                  { "memory_limit=12345", "12345", 12345 },
                  { "memory_limit=0", "0", 0 } };
    const esp_option *o = esp_option_find("memory_limit");
    static const char *const wrong[] = { "memory_limit=6 GB/s", "memory_limit=-1",
                                         "memory_limit=GiB", "memory_limit=1e30" };
    esp_config c;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *set = esp_strdup(cases[i].set), *text;

        CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, &set, 1), ESP_OK);
        CU_ASSERT_EQUAL(c.memory_limit, cases[i].bytes);
        text = esp_option_text(&c, o);
        CU_ASSERT_STRING_EQUAL(text, cases[i].text);
        free(text);
        free(set);
        esp_config_free(&c);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *set = esp_strdup(wrong[i]);

        CU_ASSERT_EQUAL(esp_config_load(&c, NULL, &set, 1), ESP_EUSAGE);
        CU_ASSERT(strstr(esp_error_message(), "memory_limit") != NULL);
        free(set);
    }
    CU_ASSERT_EQUAL_FATAL(load_text(&c, "memory_limit = \"2 GiB\";"), ESP_OK);
    CU_ASSERT_EQUAL(c.memory_limit, (size_t)2 << 30);
    esp_config_free(&c);
    CU_ASSERT_EQUAL_FATAL(load_text(&c, "memory_limit = 6442450944;"), ESP_OK);
    CU_ASSERT_EQUAL(c.memory_limit, (size_t)6 << 30);
    esp_config_free(&c);
}

/* "@file" among the assignments: its settings, over what came before and under what follows. */
static void test_second_file(void)
{
    char *path = esp_test_dir("more.cfg"), *at = esp_format("@%s", path);
    char *sets[] = { "cluster.nodes=2", at, "cluster.cores=8" };
    static const char text[] = "cluster = { nodes = 4; cores = 64; memory = \"256 GiB\"; };";
    esp_config c;

    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, sets, 3), ESP_OK);
    CU_ASSERT_EQUAL(c.cluster.nodes, 4);
    CU_ASSERT_EQUAL(c.cluster.cores, 8);
    CU_ASSERT_EQUAL(c.cluster.memory, (size_t)256 << 30);
    esp_config_free(&c);
    free(at);
    free(path);
}

static void test_file(void)
{
    esp_config c;
    const char *text = "# a comment with 99999999999\n"
                       "model = \"m 99999999999\"; /* 99999999999 */\n"
                       "importance = { criteria = [\"mix\", \"l2\"]; };\n"
                       "prune: { criterion = \"vector\"; attention_layers = (\"1-3\", 7);\n"
                       "         mlp_layers = \"2-4,6\"; target = { parameters = 5422977024; }; }\n"
                       "recover = { answer_only = false; alpha = 32; targets = [\"q_proj\"]; }\n";

    CU_ASSERT_EQUAL_FATAL(load_text(&c, text), ESP_OK);
    CU_ASSERT_STRING_EQUAL(c.model, "m 99999999999");
    CU_ASSERT_EQUAL(c.importance.criteria, 1u << ESP_MIX | 1u << ESP_L2 | 1u << ESP_VECTOR);
    CU_ASSERT_EQUAL(c.prune_targets[ESP_TARGET_PARAMETERS], 5422977024.0);
    CU_ASSERT_EQUAL(c.prune.ratio, 0);
    CU_ASSERT_EQUAL_FATAL(c.prune.attention_layers.n, 2);
    CU_ASSERT_EQUAL(c.prune.attention_layers.range[0].last, 3);
    CU_ASSERT_EQUAL(c.prune.attention_layers.range[1].first, 7);
    CU_ASSERT_EQUAL_FATAL(c.prune.mlp_layers.n, 2);
    CU_ASSERT_EQUAL(c.prune.mlp_layers.range[0].first, 2);
    CU_ASSERT_EQUAL(c.recover_answer_only, false);
    CU_ASSERT_EQUAL(c.recover.alpha, 32);
    CU_ASSERT_EQUAL_FATAL(c.recover_targets.n, 1);
    CU_ASSERT_STRING_EQUAL(c.recover_targets.item[0], "q_proj");
    esp_config_free(&c);
}

/* ~ and variables are written out, in paths only, and the text gives the same path again. */
static void test_paths(void)
{
    static const struct {
        const char *text, *path; /* NULL: refused */
        const char *says;
    } cases[] = {
        { "~", "/home/of", NULL },
        { "~/m", "/home/of/m", NULL },
        { "a/~", "a/~", NULL },
        { "$ESP_A/x", "one/x", NULL },
        { "x${ESP_A}y$ESP_B$ESP_A", "xoney~$one", NULL },
        { "a$$b$", "a$b$", NULL },
        { "$5", "$5", NULL },
        { "$ESP_NONE/x", NULL, "model = $ESP_NONE/x: $ESP_NONE is not set" },
        { "${ESP_A", NULL, "${ is not followed" },
        { "~nobody-here/x", NULL, "~nobody-here has no home" },
        { "caf\xe9", NULL, "not UTF-8" },
    };
    esp_config c, again;

    setenv("HOME", "/home/of", 1);
    setenv("ESP_A", "one", 1);
    setenv("ESP_B", "~$", 1); /* not looked at again */
    unsetenv("ESP_NONE");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *set = esp_format("model=%s", cases[i].text), *text;

        if (!cases[i].path) {
            CU_ASSERT_EQUAL(esp_config_load(&c, NULL, &set, 1), ESP_EUSAGE);
            CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), cases[i].says));
        } else {
            CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, &set, 1), ESP_OK);
            CU_ASSERT_STRING_EQUAL(c.model, cases[i].path);
            text = esp_config_text(&c);
            CU_ASSERT_EQUAL_FATAL(load_text(&again, text), ESP_OK);
            CU_ASSERT_STRING_EQUAL(again.model, c.model);
            free(text);
            esp_config_free(&again);
            esp_config_free(&c);
        }
        free(set);
    }
    CU_ASSERT_EQUAL_FATAL(load_text(&c, "eval = { corpus = \"~/$ESP_A\"; };"
                                        "generate = { prompt = \"~ $ESP_A\"; };"),
                          ESP_OK);
    CU_ASSERT_STRING_EQUAL(c.eval.corpus, "/home/of/one");
    CU_ASSERT_STRING_EQUAL(c.generate_prompt, "~ $ESP_A");
    esp_config_free(&c);
}

/* The authors' names, of values and of settings; what is near to a name. */
static void test_names(void)
{
    static const struct {
        const char *set;
        unsigned criterion, mode;
    } cases[] = { { "prune.criterion=vectorize", ESP_VECTOR, 0 },
                  { "prune.criterion=param_first", ESP_ELEMENT1, 0 },
                  { "prune.criterion=param_second", ESP_ELEMENT2, 0 },
                  { "prune.criterion=param_mix", ESP_MIX, 0 },
                  { "prune.mode=layer_wise", ESP_ELEMENT1, ESP_PRUNE_LAYER },
                  { "prune.mode=channel_wise", ESP_ELEMENT1, ESP_PRUNE_CHANNEL },
                  { "prune.mode=block_wise", ESP_ELEMENT1, ESP_PRUNE_BLOCK } };
    esp_config c;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *set = esp_strdup(cases[i].set);

        CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, &set, 1), ESP_OK);
        CU_ASSERT_EQUAL(c.prune.criterion, cases[i].criterion);
        CU_ASSERT_EQUAL(c.prune.mode, cases[i].mode);
        esp_config_free(&c);
        free(set);
    }
    REFUSED("prune = { criterion = \"taylor\"; }", "element1 (their param_first)");
    REFUSED("prune = { pruning_ratio = 0.2; }", "it is called prune.ratio");
    REFUSED("lora_r = 8;", "it is called recover.rank");
    CU_ASSERT_STRING_EQUAL(esp_option_meant("--prune.ratio")->path, "prune.ratio");
    CU_ASSERT_STRING_EQUAL(esp_option_meant("--pruning-ratio")->path, "prune.ratio");
    CU_ASSERT_STRING_EQUAL(esp_option_meant("min-keep")->path, "prune.min_keep");
    CU_ASSERT_PTR_NULL(esp_option_meant("--frobnicate"));
    CU_ASSERT_EQUAL(esp_distance("kitten", "sitting"), 3);
    CU_ASSERT_EQUAL(esp_distance("", "abc"), 3);
    CU_ASSERT_TRUE(esp_is_slip("rnu", esp_distance("rnu", "run")));
    CU_ASSERT_FALSE(esp_is_slip("frobnicate", esp_distance("frobnicate", "generate")));
}

/* Files that are no libconfig are told by what they are. */
static void test_formats(void)
{
    REFUSED("{\"prune\": {\"ratio\": 0.2}}", "run.cfg:1: looks like JSON", "libconfig", "--show");
    REFUSED("---\nmodel: x\n", "looks like YAML");
    REFUSED("prune:\n  ratio: 0.2\n", "looks like YAML");
    REFUSED("[prune]\nratio = 0.2\n", "looks like TOML or INI");
    REFUSED("prune = { ratio = ; };", "run.cfg:1: syntax error");
    CU_ASSERT_PTR_NULL(strstr(esp_error_message(), "dot"));
    REFUSED("prune.ratio = 0.2;", "run.cfg:1: syntax error", "prune: { ratio = 0.2; };");
    REFUSED("seed = 1;\n prune.target.macs= 0.5\n", "run.cfg:2",
            "prune: { target: { macs= 0.5; }; };");
}

/* What is set and not read is told by name; what is as it was, or is read, is not. */
static void test_idle(void)
{
    static const struct {
        const char *text, *says; /* NULL: nothing */
    } cases[] = {
        { "recover = { method = \"full\"; rank = 4; };", "recover.rank = 4 has no effect" },
        { "recover = { method = \"full\"; rank = 8; };", NULL },
        { "recover = { rank = 4; };", NULL },
        { "recover = { steps = 5; epochs = 3; };", "recover.epochs = 3 has no effect" },
        { "prune = { mode = \"channel\"; mlp_layers = [1]; };", "prune.mlp_layers = 1-1 has no" },
        { "prune = { mode = \"layer\"; mlp_layers = [1]; };", NULL },
        { "prune = { criterion = \"random\"; steps = 2; };", "prune.steps = 2 has no effect" },
        { "calibration = { tokens = \"x\"; samples = 3; };", "calibration.samples = 3 has no" },
        { "generate = { top_p = 0.5; };", "generate.top_p = 0.5 has no effect" },
        { "recover = { validation = 0; patience = 1; };", "recover.patience = 1 has no effect" },
    };
    esp_config c;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        esp_ear ear = esp_test_hear();
        esp_status st = load_text(&c, cases[i].text);
        char *said = esp_test_heard(&ear);

        CU_ASSERT_EQUAL_FATAL(st, ESP_OK);
        if (cases[i].says ? !strstr(said, cases[i].says) : *said) {
            printf("  \"%s\" said \"%s\"\n", cases[i].text, said);
            CU_FAIL("other words");
        }
        free(said);
        esp_config_free(&c);
    }
}

static void test_sets(void)
{
    esp_config c;
    char *sets[] = { "prune.ratio=0.5",        "recover.targets=k_proj, v_proj",
                     "importance.criteria=l1", "prune.attention_layers=4-29",
                     "generate.prompt=a=b",    "prune.ratio=0.125" };

    CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, sets, sizeof sets / sizeof *sets), ESP_OK);
    CU_ASSERT_EQUAL(c.prune.ratio, 0.125);
    CU_ASSERT_EQUAL_FATAL(c.recover_targets.n, 2);
    CU_ASSERT_STRING_EQUAL(c.recover_targets.item[1], "v_proj");
    CU_ASSERT_EQUAL(c.prune.attention_layers.range[0].first, 4);
    CU_ASSERT_STRING_EQUAL(c.generate_prompt, "a=b");
    esp_config_free(&c);
}

static void test_refused(void)
{
    REFUSED("\nprune = { rato = 0.5; }", "run.cfg:2", "prune.rato", "nearest is prune.ratio");
    REFUSED("ratio = 0.5;", "run.cfg:1", "prune.ratio");
    REFUSED("calibraton = { samples = 3; }", "nearest is calibration.samples");
    REFUSED("prune = {\n\n ratio = 1.5; }", "run.cfg:3", "prune.ratio", "1.5", "from 0 to 1");
    REFUSED("prune = { ratio = \"0.5\"; }", "prune.ratio is a string", "must be a number",
            "without quotes");
    REFUSED("prune = { ratio = \"20%\"; }", "prune.ratio is a string", "20 % is written as 0.2");
    REFUSED("prune = { ratio = 20; }", "prune.ratio = 20", "20 % is written as 0.2");
    REFUSED("recover = { beta1 = 1; }", "recover.beta1 = 1: must be a number from 0 to below 1");
    CU_ASSERT_PTR_NULL(strstr(esp_error_message(), "written as")); /* no share, so not in percent */
    REFUSED("recover = { epsilon = 5; }", "recover.epsilon = 5: must be a number from 1e-30 to 1");
    CU_ASSERT_PTR_NULL(strstr(esp_error_message(), "written as"));
    REFUSED("recover = { dropout = 5; }", "5 % is written as 0.05");
    REFUSED("prune = { ratio = 1; }", "prune.ratio = 1 leaves nothing");
    REFUSED("recover = { learning_rate = 1e-5; min_learning_rate = 1e-4; }", "min_learning_rate");
    REFUSED("recover = { epochs = 0; }", "no step to train");
    REFUSED("prune = { ratio = 0.25; target = { macs = 0.5; }; }", "prune.ratio = 0.25",
            "both set");
    REFUSED("prune = { criterion = \"elment1\"; }", "elment1", "one of vector element1",
            "did you mean element1?");
    REFUSED("prune = { steps = 0; }", "run.cfg:1", "prune.steps = 0", "from 1 to");
    REFUSED("prune = { steps = -1; }", "prune.steps = -1");
    REFUSED("prun = {};", "prun", "no such setting");
    REFUSED("model = { x = 1; };", "model is a group");
    REFUSED("prune = 5;", "run.cfg:1: prune is a group of settings, such as prune.mode");
    REFUSED("seed = 1;\n  seed = 2;\n", "run.cfg:2: duplicate setting name: seed = 2;");
    REFUSED("@include \"nowhere.cfg\"\n", "run.cfg:1", "@include \"nowhere.cfg\"");
    REFUSED("\nparallel = { layers = 2; pipeline = 3; };",
            "run.cfg:2: parallel.pipeline: parallel.pipeline is given already", "at", "run.cfg:2");
    REFUSED("parallel = { pipeline = 2;\n layers = 3; };",
            "run.cfg:2: parallel.layers: ", "already");
    REFUSED("parallel = { layers = \"x\"; };", "run.cfg:1: parallel.layers: ", "is a string");
    REFUSED("prune = { attention_layers = [\"9-4\"]; }", "9-4", "inclusive ranges");
    REFUSED("prune = { attention_layers = [\"x\"]; }", "inclusive ranges");
    REFUSED("model = {};", "model is a group");
    REFUSED("prune = { target = { parameters = 0.5; macs = 0.5; }; }", "run.cfg", "only one of");
    REFUSED("prune = { ratio = 0.3; target = { macs = 0.5; }; }", "prune.ratio", "prune.target");
    REFUSED("parallel = { layers = 5000; }", "parallel.pipeline = 5000", "must be");
    REFUSED("eval = { window = 8; stride = 9; }", "eval.stride = 9", "eval.window = 8");
    REFUSED("model = \"x\"\nrun_dir \"y\"", "run.cfg:2");
    REFUSED("recover = { epochs = 1e999; }", "recover.epochs");
}

static void test_refused_sets(void)
{
    esp_config c;
    char *unknown[] = { "prune.rato=1" }, *bad[] = { "recover.rank=0x8" }, *bare[] = { "seed" };
    char *large[] = { "seed=99999999999999999999999" };

    CU_ASSERT_EQUAL(esp_config_load(&c, NULL, unknown, 1), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "prune.ratio"));
    CU_ASSERT_EQUAL(esp_config_load(&c, NULL, bad, 1), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "recover.rank = 0x8"));
    CU_ASSERT_EQUAL(esp_config_load(&c, NULL, bare, 1), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_config_load(&c, NULL, large, 1), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_config_load(&c, "/nowhere/run.cfg", NULL, 0), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "/nowhere/run.cfg"));
}

/* What no run could take is refused by the table, and the limit is told. */
static void test_limits(void)
{
    static const char *const cases[][2] = {
        { "seed=9223372036854775808", "from 0 to 9223372036854775807" },
        { "seed=99999999999999999999", "from 0 to 9223372036854775807" },
        { "recover.steps=99999999999999999999", "from 0 to 2147483647" },
        { "memory_limit=99999999 TiB", "below 8192 TiB" },
        { "memory_limit=1e30 GiB", "below 8192 TiB" },
        { "prune.attention_layers=99999999999999999999", "up to 65535" },
        { "recover.epsilon=0", "from 1e-30 to 1" },
        { "calibration.samples=9223372036854775807", "from 1 to 2147483647" },
        { "calibration.sequence=9223372036854775807", "from 2 to 2147483647" },
        { "recover.batch=9223372036854775807", "from 1 to 1048576" },
        { "recover.micro_batch=9223372036854775807", "from 1 to 1048576" },
        { "eval.batch_tokens=9223372036854775807", "from 1 to 2147483647" },
        { "eval.samples=9223372036854775807", "from 0 to 2147483647" },
        { "estimate.documents=9223372036854775807", "from 1 to 2147483647" },
        { "estimate.windows=9223372036854775807", "from 1 to 2147483647" },
        { "cluster.nodes=2147483648", "from 1 to 200000" },
        { "synth.hidden=100000000", "from 1 to 1048576" },
        { "synth.vocab=2147483647", "from 2 to 268435456" },
        { "synth.std=1e300", "from 0 to 1e+30" },
    };
    char *largest = "seed=9223372036854775807", *text;
    esp_config c, again;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *set = esp_strdup(cases[i][0]);

        CU_ASSERT_EQUAL(esp_config_load(&c, NULL, &set, 1), ESP_EUSAGE);
        if (!strstr(esp_error_message(), cases[i][1])) {
            printf("  %s: \"%s\"\n", set, esp_error_message());
            CU_FAIL("message");
        }
        free(set);
    }
    CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, &largest, 1), ESP_OK);
    text = esp_config_text(&c);
    CU_ASSERT_EQUAL_FATAL(load_text(&again, text), ESP_OK);
    CU_ASSERT_EQUAL(again.seed, INT64_MAX);
    esp_config_free(&again);
    esp_config_free(&c);
    free(text);
    REFUSED("\nseed = 99999999999999999999;",
            "run.cfg:2: 99999999999999999999: whole numbers end at "
            "9223372036854775807");
    REFUSED("seed = 99999999999999999999L;", "run.cfg:1", "9223372036854775807");
    REFUSED("seed = 0xFFFFFFFFFFFFFFFFF;", "run.cfg:1", "9223372036854775807");
    CU_ASSERT_EQUAL_FATAL(load_text(&c, "seed = 0x1FFFFFFFF; recover = { epochs = 1e20; };"),
                          ESP_OK);
    CU_ASSERT_EQUAL(c.seed, 0x1FFFFFFFF);
    esp_config_free(&c);
}

/* Numbers of a file that another includes are not cut to 32 bits in silence. */
static void test_included(void)
{
    static const char *const cases[][2] = {
        { "# 99999999999\nseed = 99999999999L;", NULL },
        { "model = \"99999999999\";\nseed = 8589934592;", "more.cfg:2: 8589934592: in a file" },
        { "seed = 99999999999999999999L;", "more.cfg:1: 99999999999999999999L: whole numbers end" },
    };
    char *path = esp_test_dir("more.cfg"), *text = esp_format("\n  @include \"%s\"\n", path);
    esp_config c;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CU_ASSERT_EQUAL(esp_file_write(path, cases[i][0], strlen(cases[i][0])), ESP_OK);
        CU_ASSERT_EQUAL(load_text(&c, text), cases[i][1] ? ESP_EUSAGE : ESP_OK);
        if (cases[i][1]) {
            CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), cases[i][1]));
        } else {
            CU_ASSERT_EQUAL(c.seed, 99999999999);
        }
        esp_config_free(&c);
    }
    free(text);
    free(path);
}

/* Every setting, changed, survives its text. */
static void test_text(void)
{
    char *sets[] = { "model=a \"b\" \\c\n\t\x01",
                     "prune.target.bytes=13476831232",
                     "prune.attention_layers=0-3,8",
                     "recover.learning_rate=0.1",
                     "recover.epochs=3",
                     "importance.criteria=l1,mix",
                     "recover.targets=",
                     "recover.answer_only=false" };
    esp_config c, again;
    char *text, *second;

    CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, sets, sizeof sets / sizeof *sets), ESP_OK);
    text = esp_config_text(&c);
    CU_ASSERT_EQUAL_FATAL(load_text(&again, text), ESP_OK);
    second = esp_config_text(&again);
    CU_ASSERT_STRING_EQUAL(text, second);
    CU_ASSERT_STRING_EQUAL(again.model, c.model);
    CU_ASSERT_EQUAL(again.prune_targets[ESP_TARGET_BYTES], 13476831232.0);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "learning_rate = 0.1;"));
    CU_ASSERT_EQUAL(again.recover_targets.n, 0);
    free(text);
    free(second);
    esp_config_free(&c);
    esp_config_free(&again);
}

/* Sets and choices are stored by place, so the table must list the names in the enumerations' order. */
static void test_choices(void)
{
    esp_config c;

    for (unsigned i = 0; i < ESP_N_CRITERIA; i++) {
        char *set = esp_format("prune.criterion=%s", esp_criterion_name((esp_criterion)i));

        CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, &set, 1), ESP_OK);
        CU_ASSERT_EQUAL(c.prune.criterion, i);
        esp_config_free(&c);
        free(set);
    }
    for (unsigned i = 0; i < ESP_N_AGGREGATIONS; i++) {
        char *set = esp_format("prune.aggregation=%s", esp_aggregation_name((esp_aggregation)i));

        CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, &set, 1), ESP_OK);
        CU_ASSERT_EQUAL(c.prune.aggregation, i);
        esp_config_free(&c);
        free(set);
    }
    for (unsigned i = 0; i < ESP_N_ATTENTION_UNITS; i++) {
        static const unsigned units[] = { 1u << ESP_UNIT_ATTENTION, 1u << ESP_UNIT_QUERY,
                                          1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_QUERY };
        char *sets[] = { esp_format("prune.attention=%s",
                                    esp_attention_units_name((esp_attention_units)i)),
                         "importance.units=mlp" };

        CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, sets, 2), ESP_OK);
        CU_ASSERT_EQUAL(c.prune.attention, i);
        CU_ASSERT_EQUAL(c.importance.units, units[i] | 1u << ESP_UNIT_MLP);
        esp_config_free(&c);
        free(sets[0]);
    }
    for (unsigned i = 0; i < ESP_N_UNITS; i++) {
        char *sets[] = { esp_format("importance.units=%s", esp_unit_name((esp_unit_kind)i)),
                         "prune.mode=channel" };

        CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, sets, 2), ESP_OK);
        CU_ASSERT_EQUAL(c.importance.units, 1u << i | 1u << ESP_UNIT_HIDDEN);
        esp_config_free(&c);
        free(sets[0]);
    }
    for (unsigned i = 0; i < ESP_N_DTYPES; i++) {
        char *set = esp_format("synth.dtype=%s", esp_dtype_name((esp_dtype)i));

        CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, &set, 1), ESP_OK);
        CU_ASSERT_EQUAL(c.synth.dtype, i);
        esp_config_free(&c);
        free(set);
    }
}

/* Options of the parts of the program hold what is set for all of them, or elsewhere. */
static void test_complete(void)
{
    char *sets[] = { "seed=7",
                     "precision=bf16",
                     "parallel.scratch=/s",
                     "prune.target.macs=0.5",
                     "prune.scope=global",
                     "importance.fisher=sum" };
    esp_config c;

    CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, sets, sizeof sets / sizeof *sets), ESP_OK);
    CU_ASSERT(c.importance.seed == 7 && c.prune.seed == 7 && c.recover.seed == 7);
    CU_ASSERT(c.generate.seed == 7 && c.synth.seed == 7);
    CU_ASSERT_STRING_EQUAL(c.importance.scratch, "/s");
    CU_ASSERT_STRING_EQUAL(c.recover.scratch, "/s");
    CU_ASSERT_EQUAL(c.prune.precision, ESP_PRECISION_BF16);
    CU_ASSERT_EQUAL(c.prune.target_kind, ESP_TARGET_MACS);
    CU_ASSERT_EQUAL(c.prune.target, 0.5);
    CU_ASSERT_EQUAL(c.prune.target_tokens, ESP_MACS_TOKENS);
    CU_ASSERT(c.prune.global && c.importance.fisher_sum);
    esp_config_free(&c);
}

/* A path of an earlier version is read, in a file and with -s, and told with its place. */
static void test_old_paths(void)
{
    char *set = "parallel.layers=2";
    esp_config c;
    esp_ear ear = esp_test_hear();
    esp_status st = esp_config_load(&c, NULL, &set, 1);
    char *heard = esp_test_heard(&ear);

    CU_ASSERT_EQUAL_FATAL(st, ESP_OK);
    CU_ASSERT_EQUAL(c.parallel.pipeline, 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "-s: parallel.layers is called parallel.pipeline now"));
    free(heard);
    esp_config_free(&c);
    ear = esp_test_hear();
    st = load_text(&c, "\nparallel = { layers = 4; };");
    heard = esp_test_heard(&ear);
    CU_ASSERT_EQUAL_FATAL(st, ESP_OK);
    CU_ASSERT_EQUAL(c.parallel.pipeline, 4);
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "run.cfg:2: parallel.layers is called"));
    free(heard);
    esp_config_free(&c);
}

/* What settings say together is told of where they were given. */
static void test_places(void)
{
    static const struct {
        const char *text, *set, *says;
    } cases[] = {
        { "seed = 1;", "prune.ratio=1", "-s: prune.ratio = 1 leaves nothing" },
        { "seed = 1;\nprune = { ratio = 1; };", "seed=2", "run.cfg:2: prune.ratio = 1 leaves" },
        { "seed = 1;", "recover.mpi_io_hints=x", "-s: recover.mpi_io_hints = x: " },
        { "seed = 1;", "eval.stride=200", "-s: eval.stride = 200" },
        { "\neval = { window = 8; };", "eval.stride=9", "-s, " },
        { "\neval = { window = 8; };", "eval.stride=9", "run.cfg:2: eval.stride = 9 is longer" },
        { "prune = { ratio = 0.5; };", "prune.target.macs=0.5",
          "run.cfg:1, -s: prune.ratio = 0.5" },
        { "recover = { epochs = 0; };", "seed=1", "run.cfg:1: recover.epochs and" },
    };
    char *path = esp_test_dir("run.cfg");
    esp_config c;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *set = esp_strdup(cases[i].set);
        const char *text = cases[i].text, *place;

        CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
        CU_ASSERT_EQUAL(esp_config_load(&c, path, &set, 1), ESP_EUSAGE);
        place = strstr(esp_error_message(), cases[i].says);
        if (!place || (*cases[i].says == '-' && place != esp_error_message())) {
            printf("  %s, -s %s: \"%s\"\n", text, set, esp_error_message());
            CU_FAIL("place");
        }
        free(set);
    }
    free(path);
}

static void test_need(void)
{
    esp_config c;
    char *set = "model=x";

    CU_ASSERT_EQUAL_FATAL(esp_config_load(&c, NULL, &set, 1), ESP_OK);
    CU_ASSERT_EQUAL(esp_config_need(&c, "model"), ESP_OK);
    CU_ASSERT_EQUAL(esp_config_need(&c, "run_dir"), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "run_dir is not set"));
    esp_config_free(&c);
}

ESP_TEST_MAIN("options", { "defaults", test_defaults }, { "bytes", test_bytes },
              { "a second file", test_second_file }, { "file", test_file }, { "-s", test_sets },
              { "paths", test_paths }, { "without effect", test_idle }, { "names", test_names },
              { "other formats", test_formats }, { "refused in a file", test_refused },
              { "refused in -s", test_refused_sets }, { "limits", test_limits },
              { "places", test_places }, { "included files", test_included },
              { "text gives the same settings", test_text },
              { "names fit enumerations", test_choices }, { "need", test_need },
              { "options of the parts", test_complete },
              { "paths of earlier versions", test_old_paths })
