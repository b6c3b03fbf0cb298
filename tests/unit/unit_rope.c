/* unit_rope.c - rotary positions of config.json: frequencies, gain, border and reach by every scaling.
 *
 * All constants are those of transformers in float64.
 */
#include <math.h>

#include "config_patch.h"

static bool same_list(const double *list, const double *wanted, size_t n)
{
    bool same = true;

    for (size_t i = 0; i < n; i++) {
        same = same && fabs(list[i] / wanted[i] - 1) < 1e-13;
    }
    return same;
}

static void check_angles(const char *patch, const double *wanted)
{
    esp_model m = shape_of(patch);

    CU_ASSERT_EQUAL(m.rope.n, 16);
    CU_ASSERT_EQUAL(m.rope.gain, 1);
    CU_ASSERT_EQUAL(m.rope.border, 0);
    CU_ASSERT(same_list(m.rope.inv_freq, wanted, 8));
    esp_model_free(&m);
}

/* For theta 500000 and 16 channels. */
static void test_rotary_angles(void)
{
    const double plain[] = { 1,
                             0.19392274474868576,
                             0.037606030930863933,
                             0.0072926647372171093,
                             0.001414213562373095,
                             0.0002742481756762073,
                             5.3182958969449883e-05,
                             1.031338537721246e-05 };
    double llama3[] = { 1,
                        0.19392274474868576,
                        0.010538232746455323,
                        0.00091158309215213867,
                        0.00017677669529663688,
                        3.4281021959525912e-05,
                        6.6478698711812354e-06,
                        1.2891731721515574e-06 };
    double linear[8];

    for (size_t i = 0; i < 8; i++) {
        linear[i] = plain[i] / 4;
    }
    check_angles("{}", plain);
    check_angles("{\"rope_scaling\": null}", plain);
    check_angles("{\"rope_scaling\": {\"rope_type\": \"default\"}}", plain);
    check_angles("{\"rope_theta\": null, \"rope_parameters\": {\"rope_theta\": 500000.0}}", plain);
    check_angles("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}", linear);
    check_angles("{\"rope_theta\": null, \"rope_parameters\": {\"rope_theta\": 500000.0,"
                 "\"rope_type\": \"linear\", \"factor\": 4.0}}",
                 linear);
#define LLAMA3                                                                                     \
    "\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": " \
    "4.0"
#define OF_256 ", \"original_max_position_embeddings\": 256"
    check_angles("{\"rope_scaling\": {" LLAMA3 OF_256 "}}", llama3);
    check_angles(
        "{\"rope_theta\": null, \"rope_parameters\": {\"rope_theta\": 500000, " LLAMA3 OF_256 "}}",
        llama3);
    /* without the tokens of the first training these are max_position_embeddings */
    llama3[2] = 0.0273441373147213;
    check_angles("{\"rope_scaling\": {" LLAMA3 "}}", llama3);
    check_angles("{\"original_max_position_embeddings\": 512, \"rope_scaling\": {" LLAMA3 OF_256
                 "}}",
                 llama3);
#undef OF_256
#undef LLAMA3
    /* of two spellings the old one counts, with its own theta, unless it is empty */
    check_angles("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}, \"rope_parameters\": "
                 "{\"rope_theta\": 77.0}}",
                 linear);
    check_angles("{\"rope_scaling\": {}, \"rope_theta\": null, \"rope_parameters\": "
                 "{\"rope_type\": \"linear\", \"factor\": 4, \"rope_theta\": 500000.0}}",
                 linear);
}

#define YARN "\"rope_type\": \"yarn\", \"original_max_position_embeddings\": 128, \"factor\": "

/* The second pair is the one that is mixed. */
static void check_yarn(const char *more, double factor, double mixed, double gain)
{
    char *patch = esp_format("{\"rope_scaling\": {" YARN "%g%s}}", factor, more);
    esp_model plain = shape_of("{}"), m = shape_of(patch);

    CU_ASSERT_DOUBLE_EQUAL(m.rope.gain, gain, 1e-15);
    CU_ASSERT_EQUAL(m.rope.border, 0);
    CU_ASSERT_EQUAL(m.rope.inv_freq[0], 1);
    CU_ASSERT_DOUBLE_EQUAL(m.rope.inv_freq[1] / mixed, 1, 1e-14);
    for (size_t i = 2; i < 8; i++) {
        CU_ASSERT_DOUBLE_EQUAL(m.rope.inv_freq[i] / plain.rope.inv_freq[i] * factor, 1, 1e-14);
    }
    esp_model_free(&plain);
    esp_model_free(&m);
    free(patch);
}

/* Without the tokens of the first training these are max_position_embeddings, 512. */
static void test_yarn_of_all_positions(void)
{
    const double wanted[] = { 1,
                              0.14544205856151435,
                              0.018803015465431967,
                              0.0018231661843042771,
                              0.00035355339059327376,
                              6.856204391905182e-05,
                              1.3295739742362472e-05,
                              2.578346344303115e-06 };
    esp_model m = shape_of("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}}");

    CU_ASSERT_DOUBLE_EQUAL(m.rope.gain, 1.138629436111989, 1e-15);
    CU_ASSERT(same_list(m.rope.inv_freq, wanted, 8));
    esp_model_free(&m);
}

static void test_yarn(void)
{
    check_yarn("", 4, 0.1212017154679286, 1.138629436111989);
    check_yarn(", \"truncate\": false", 4, 0.11477350208666744, 1.138629436111989);
    check_yarn(", \"attention_factor\": 1.25", 4, 0.1212017154679286, 1.25);
    check_yarn(", \"mscale\": 0.707", 4, 0.1212017154679286, 1.138629436111989);
    check_yarn(", \"mscale\": 0.707, \"mscale_all_dim\": 0", 4, 0.1212017154679286,
               1.138629436111989);
    check_yarn(", \"mscale\": 0.707, \"mscale_all_dim\": 1, \"beta_fast\": 16, \"beta_slow\": 2",
               40, 0.09938540668370145, 0.9210423553163399);
    check_yarn(", \"beta_fast\": 1, \"truncate\": false", 4, 0.19392274474868576,
               1.138629436111989);
}

#define SHORT "\"short_factor\": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]"
#define LONG  "\"long_factor\": [1.0, 1.5, 2.5, 4.0, 8.0, 12.0, 16.0, 20.0]"
#define PHI   "\"model_type\": \"phi3\", \"rope_theta\": 10000.0, "
#define PHI_LISTS                                                                             \
    PHI "\"original_max_position_embeddings\": 128, \"rope_scaling\": {" SHORT ", " LONG ", " \
        "\"type\": "

static void check_longrope(const char *patch, size_t border, double gain)
{
    const double shorter[] = { 1.0,
                               0.2874797872880344,
                               0.08333333333333333,
                               0.024325212770525996,
                               0.007142857142857143,
                               0.0021081851067789193,
                               0.000625,
                               0.00018601633295108115 };
    const double longer[] = { 1.0,     0.21081851067789195,   0.04,     0.007905694150420948,
                              0.00125, 0.0002635231383473649, 6.25e-05, 1.5811388300841894e-05 };
    esp_model m = shape_of(patch);

    CU_ASSERT(same_list(m.rope.inv_freq, shorter, 8));
    CU_ASSERT(same_list(m.rope.longer, longer, 8));
    CU_ASSERT_EQUAL(m.rope.border, border);
    CU_ASSERT_DOUBLE_EQUAL(m.rope.gain, gain, 1e-15);
    CU_ASSERT_EQUAL(m.dims.max_positions, 512);
    esp_model_free(&m);
}

static void test_longrope(void)
{
    check_longrope("{" PHI_LISTS "\"longrope\"}}", 128, 1.1338934190276817);
    check_longrope("{" PHI_LISTS "\"su\"}}", 128, 1.1338934190276817);
    check_longrope("{" PHI_LISTS "\"yarn\"}}", 128, 1.1338934190276817);
    check_longrope("{" PHI_LISTS "\"longrope\", \"attention_factor\": 1.5}}", 128, 1.5);
    check_longrope("{" PHI_LISTS "\"longrope\", \"factor\": 32}}", 128, 1.3093073414159544);
    check_longrope("{" PHI "\"rope_scaling\": {\"type\": \"longrope\", " SHORT ", " LONG "}}", 4096,
                   1);
    check_longrope("{" PHI "\"rope_scaling\": {\"type\": \"longrope\", " SHORT ", " LONG ", "
                   "\"original_max_position_embeddings\": 128}}",
                   4096, 1);
    check_longrope("{\"rope_theta\": null, \"rope_parameters\": {\"rope_type\": \"longrope\", "
                   "\"original_max_position_embeddings\": 128, " SHORT ", " LONG "}}",
                   128, 1.1338934190276817);
    check_longrope(
        "{\"rope_theta\": null, \"rope_parameters\": {\"rope_type\": \"longrope\", " SHORT ", " LONG
        "}}",
        512, 1);
}

/* Of a Phi-3 only the first channels of a head turn. */
static void test_partial_rotary(void)
{
    const double some[] = { 1.0,  0.2154434690031884,    0.0464158883361278,
                            0.01, 0.0021544346900318843, 0.0004641588833612777 };
    esp_model m = shape_of("{" PHI "\"partial_rotary_factor\": 0.75}");

    CU_ASSERT_EQUAL(m.rope.n, 12);
    CU_ASSERT(same_list(m.rope.inv_freq, some, 6));
    esp_model_free(&m);
    m = shape_of("{" PHI "\"partial_rotary_factor\": 0.4, \"rope_parameters\": "
                 "{\"partial_rotary_factor\": 0.75}}");
    CU_ASSERT_EQUAL(m.rope.n, 12); /* 0.4 of 16 channels: 6 */
    esp_model_free(&m);
}

static void test_dynamic(void)
{
    esp_model m = shape_of("{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}");

    CU_ASSERT_EQUAL(m.rope.border, 512);
    CU_ASSERT_EQUAL(m.rope.stretch, 2);
    CU_ASSERT_PTR_NULL(m.rope.longer);
    CU_ASSERT_DOUBLE_EQUAL(m.rope.inv_freq[1], 0.19392274474868576, 1e-15);
    esp_model_free(&m);
}

/* How far samples may go: 512 is what config.json says. */
static void test_scaled_positions(void)
{
    CU_ASSERT_EQUAL(positions("{\"rope_scaling\": {" YARN "4}}"), 512);
    CU_ASSERT_EQUAL(positions("{\"rope_scaling\": {" YARN "2.5}}"), 512);
    CU_ASSERT_EQUAL(positions("{\"rope_scaling\": {" YARN "16}}"), 2048);
    CU_ASSERT_EQUAL(positions("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}"), 2048);
    CU_ASSERT_EQUAL(positions("{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}"), 1024);
}

static void test_rotary_angles_that_are_refused(void)
{
    check_refused("{\"rope_scaling\": {\"rope_type\": \"mrope\", \"factor\": 4}}",
                  "rope_scaling: rope_type is \"mrope\", must be one of default, linear, dynamic, "
                  "yarn, longrope, su, llama3");
    check_refused("{\"rope_parameters\": {\"rope_type\": 7}}", "rope_parameters: rope_type is 7");
    check_refused("{" PHI "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}",
                  "type is \"linear\", must be one of default, longrope, su, yarn");
    check_refused("{\"rope_scaling\": {\"type\": \"dynamic\"}}", "factor is missing");
    check_refused("{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": -2}}", "factor is -2");
    check_refused("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
                  "\"original_max_position_embeddings\": null}}",
                  "rope_scaling: original_max_position_embeddings is null");
    check_refused("{\"original_max_position_embeddings\": null, \"rope_scaling\": {" YARN "4}}",
                  "original_max_position_embeddings is null");
    check_refused("{" PHI "\"original_max_position_embeddings\": null, \"rope_scaling\": "
                  "{\"type\": \"longrope\", " SHORT ", " LONG "}}",
                  "original_max_position_embeddings is null");
    check_refused("{\"rope_scaling\": {" YARN "-4}}", "rope_scaling: factor is -4");
    check_refused("{\"rope_scaling\": {" YARN "4, \"beta_fast\": 1, \"beta_slow\": 2}}",
                  "beta_fast is 1, must be at least beta_slow");
    check_refused("{\"rope_scaling\": {" YARN "4, \"truncate\": 1}}", "truncate is 1");
    check_refused("{\"rope_scaling\": {" YARN "4, \"mscale\": -1}}", "mscale is -1");
    check_refused("{\"rope_scaling\": {" YARN "4, \"attention_factor\": 0}}",
                  "attention_factor is 0");
    check_refused("{\"rope_theta\": 1, \"rope_scaling\": {" YARN "4}}", "must be above 1 for yarn");
    check_refused("{" PHI_LISTS "\"longrope\", \"long_factor\": [1, 2]}}", "long_factor is [1,2]");
    check_refused("{" PHI "\"rope_scaling\": {\"type\": \"su\", " LONG ", \"short_factor\": "
                  "[1, 1, 1, 1, 1, 1, 1, -1]}}",
                  "must be a list of 8 numbers above 0");
    check_refused("{" PHI "\"rope_scaling\": {\"type\": \"su\", " LONG "}}",
                  "short_factor is missing");
    check_refused("{" PHI "\"partial_rotary_factor\": 1.5}", "partial_rotary_factor is 1.5");
    check_refused("{" PHI "\"partial_rotary_factor\": 0.2}", "must turn an even number of the 16");
    check_refused("{\"original_max_position_embeddings\": 1, \"rope_parameters\": {\"rope_type\": "
                  "\"longrope\", " SHORT ", " LONG "}}",
                  "give angles that are none");
    check_refused(
        "{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}",
        "rope_parameters: full_attention is {\"rope_type\":\"default\"}, must be a value: "
        "this model_type has one scaling for layers of all types");
    check_refused("{\"rope_scaling\": {}, \"rope_parameters\": \"yarn\"}",
                  "rope_parameters is \"yarn\", must be an object");
    check_refused("{\"rope_scaling\": {\"type\": \"linear\"}}", "factor is missing");
    check_refused("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "factor is 0");
    check_refused("{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}",
                  "low_freq_factor is missing");
    check_refused(
        "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
        "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 256}}",
        "high_freq_factor is 4, must be above low_freq_factor");
    check_refused("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 1e-308}}",
                  "give angles that are none");
    check_refused("{\"original_max_position_embeddings\": 0.5, \"rope_scaling\": {" YARN "4}}",
                  "original_max_position_embeddings is 0.5, must be the tokens that");
    check_refused("{\"rope_scaling\": \"linear\"}",
                  "rope_scaling is \"linear\", must be an object");
    check_refused("{\"rope_theta\": -1}", "rope_theta is -1");
    check_refused("{\"partial_rotary_factor\": 0.75}", "partial_rotary_factor is 0.75");
    check_refused("{\"head_dim\": 15}", "head_dim is 15, must be a multiple of 2");
}

/* ---- ChatGLM ---- */

#define GLM                                                                                    \
    "\"model_type\": \"chatglm\", \"multi_query_attention\": true, \"add_qkv_bias\": true, "   \
    "\"multi_query_group_num\": 2, "                                                           \
    "\"num_layers\": 2, \"kv_channels\": 16, \"ffn_hidden_size\": 96, \"padded_vocab_size\": " \
    "100, \"seq_length\": 64, "                                                                \
    "\"tie_word_embeddings\": false, \"rope_theta\": null"

/* Frequencies of a rope_ratio of 4 by either use. */
static bool is_ratio(const esp_model *m, esp_ratio_use use)
{
    bool same = m->rope.n == 8;

    for (int i = 0; i < 4; i++) {
        double wanted = use == ESP_RATIO_BASE ? pow(40000, -i / 4.0) : pow(10000, -i / 4.0) / 4;

        same = same && fabs(m->rope.inv_freq[i] / wanted - 1) < 1e-14;
    }
    return same;
}

static esp_model glm_with_code(const char *code)
{
    char *dir = put("{" GLM ", \"rope_ratio\": 4}"), *path = esp_path(dir, "modeling_chatglm.py");
    esp_model m;

    CU_ASSERT_EQUAL(esp_file_write(path, code, strlen(code)), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_model_shape(&m, dir), ESP_OK);
    CU_ASSERT_EQUAL(remove(path), 0);
    free(path);
    free(dir);
    return m;
}

static void test_rope_ratio(void)
{
    esp_model m = shape_of("{" GLM "}");

    CU_ASSERT_EQUAL(m.rope_ratio, 1);
    CU_ASSERT_DOUBLE_EQUAL(m.rope.inv_freq[2], 0.01, 1e-17);
    CU_ASSERT_EQUAL(esp_model_use_ratio(&m, ESP_RATIO_POSITIONS), ESP_OK);
    CU_ASSERT_DOUBLE_EQUAL(m.rope.inv_freq[2], 0.01, 1e-17);
    esp_model_free(&m);
    m = shape_of("{" GLM ", \"rope_ratio\": 4}");
    CU_ASSERT(is_ratio(&m, ESP_RATIO_BASE));
    CU_ASSERT_EQUAL(esp_model_use_ratio(&m, ESP_RATIO_POSITIONS), ESP_OK);
    CU_ASSERT(is_ratio(&m, ESP_RATIO_POSITIONS));
    CU_ASSERT_EQUAL(esp_model_use_ratio(&m, ESP_RATIO_AUTO), ESP_OK);
    CU_ASSERT(is_ratio(&m, ESP_RATIO_BASE));
    esp_model_free(&m);
}

/* The code that lies in the folder decides, where no setting does. */
static void test_rope_ratio_by_code(void)
{
    esp_model m = glm_with_code("self.rope_ratio = rope_ratio\n"
                                "at = torch.arange(n) /\n  self.rope_ratio\n");

    CU_ASSERT(is_ratio(&m, ESP_RATIO_POSITIONS));
    CU_ASSERT_EQUAL(esp_model_use_ratio(&m, ESP_RATIO_BASE), ESP_OK);
    CU_ASSERT(is_ratio(&m, ESP_RATIO_BASE));
    esp_model_free(&m);
    m = glm_with_code("self.rope_ratio = rope_ratio\nbase = base * self.rope_ratio\n");
    CU_ASSERT(is_ratio(&m, ESP_RATIO_BASE));
    esp_model_free(&m);
}

static void test_unread_keys_are_refused(void)
{
    check_refused("{" GLM ", \"rope_theta\": 20000}",
                  "rope_theta is 20000, must be 10000: the code");
    check_refused("{" GLM ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
                  "must be null: the code of this model_type does not read it");
    check_refused("{" GLM ", \"rope_ratio\": 0}", "rope_ratio is 0");
    check_refused("{" GLM ", \"rope_ratio\": 1e300}", "must be from 1e-6 to 1e6");
    check_refused(
        "{\"model_type\": \"baichuan\", \"num_key_value_heads\": null, \"rope_ratio\": 2, "
        "\"rope_theta\": null}",
        "rope_ratio is 2, must be 1");
}

ESP_TEST_MAIN("rotary positions", { "angles", test_rotary_angles }, { "yarn", test_yarn },
              { "yarn of all positions", test_yarn_of_all_positions },
              { "longrope", test_longrope }, { "dynamic", test_dynamic },
              { "partial", test_partial_rotary }, { "positions", test_scaled_positions },
              { "refused", test_rotary_angles_that_are_refused }, { "rope_ratio", test_rope_ratio },
              { "rope_ratio by code", test_rope_ratio_by_code },
              { "keys that code does not read", test_unread_keys_are_refused })
