/* unit_spread.c - scores of a cut model at the dense model's places, for every unit and a layer that went. */
#include "espalier/file.h"
#include "espalier/reshape.h"
#include "espalier/scores_expand.h"

#include "test.h"

static const char *const config =
    "{\"model_type\": \"llama\", \"hidden_size\": 12, \"intermediate_size\": 5,"
    " \"num_hidden_layers\": 3, \"num_attention_heads\": 6, \"num_key_value_heads\": 3,"
    " \"head_dim\": 4, \"vocab_size\": 11, \"max_position_embeddings\": 32, \"rms_norm_eps\": "
    "1e-5}";

static void open_shape(esp_model *m)
{
    char *dir = esp_test_dir("spread"), *path = esp_path(dir, "config.json");

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, config, strlen(config)), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(esp_model_shape(m, dir), ESP_OK);
    free(path);
    free(dir);
}

static esp_kept_groups keep(size_t total, size_t n, const int32_t *index)
{
    esp_kept_groups k = { .n = n, .total = total };

    ESP_NEW(k.index, n);
    memcpy(k.index, index, n * sizeof *index);
    return k;
}

/* Layer 1 goes; of layer 0 key/value heads 0, 2 with a query head each and neurons 1, 2, 4 stay, of layer 2
 * key/value head 1 with both its query heads and neuron 0; six of the hidden channels. */
static esp_plan make_plan(void)
{
    static const int32_t heads[] = { 0, 2 }, neurons[] = { 1, 2, 4 }, one[] = { 1 }, zero[] = { 0 };
    static const int32_t queries[] = { 0, 5 }, pair[] = { 2, 3 }, hidden[] = { 1, 3, 5, 7, 9, 11 };
    esp_plan p = { .n_layers = 3 };

    ESP_NEW(p.layers, 3);
    p.layers[0] = (esp_layer_plan){ .kept = true,
                                    .attention = keep(3, 2, heads),
                                    .query = keep(6, 2, queries),
                                    .mlp = keep(5, 3, neurons) };
    p.layers[1] = (esp_layer_plan){ .attention = keep(3, 0, zero),
                                    .query = keep(6, 0, zero),
                                    .mlp = keep(5, 0, zero) };
    p.layers[2] = (esp_layer_plan){ .kept = true,
                                    .attention = keep(3, 1, one),
                                    .query = keep(6, 2, pair),
                                    .mlp = keep(5, 1, zero) };
    p.hidden = keep(12, 6, hidden);
    return p;
}

/* Scores of the model that is left by criterion random, a number of its own for every group. */
static void score(esp_scores *s, const esp_model *m, const esp_groups *g)
{
    esp_importance_options o = { .criteria = 1u << ESP_RANDOM,
                                 .aggregations = 1u << ESP_SUM | 1u << ESP_MAX,
                                 .units = (1u << ESP_N_UNITS) - 1,
                                 .seed = 7 };
    esp_grid grid;

    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(esp_importance_estimate(s, m, g, NULL, &o, &grid), ESP_OK);
    esp_grid_free(&grid);
}

/* The unit's scores are those of left (NULL: gone) at the kept places, -1 elsewhere. */
static void check_unit(const esp_scores *spread, const esp_unit *u, const esp_scores *scores,
                       const esp_unit *left, const esp_kept_groups *kept)
{
    const double *to = esp_scores_group(spread, u, ESP_RANDOM, ESP_MAX);
    size_t next = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(to);
    for (size_t i = 0; i < u->n_groups; i++) {
        if (left && next < kept->n && kept->index[next] == (int32_t)i) {
            const double *from = esp_scores_group(scores, left, ESP_RANDOM, ESP_MAX);

            CU_ASSERT_EQUAL(to[i], from[next]);
            next++;
        } else {
            CU_ASSERT_EQUAL(to[i], -1);
        }
    }
    CU_ASSERT_EQUAL(next, left ? kept->n : 0);
}

/* Query heads that are each alone with their key/value head rank above those that have gone. */
static void check_no_choice(const esp_scores *spread, const esp_unit *u,
                            const esp_kept_groups *kept)
{
    const double *to = esp_scores_group(spread, u, ESP_RANDOM, ESP_MAX);
    size_t next = 0;

    for (size_t i = 0; i < u->n_groups; i++) {
        bool stays = next < kept->n && kept->index[next] == (int32_t)i;

        CU_ASSERT_EQUAL(to[i], stays ? 0 : -1);
        next += stays;
    }
}

static void test_spread(void)
{
    esp_plan p = make_plan();
    esp_model dense, left;
    esp_groups g, h;
    esp_dims dims;
    esp_scores scores, spread;

    open_shape(&dense);
    esp_plan_dims(&dims, &p, &dense);
    esp_model_reshape(&left, &dense, &dims);
    esp_groups_find(&g, &dense);
    esp_groups_find(&h, &left);
    score(&scores, &left, &h);
    esp_scores_expand(&spread, &g, &scores, &p);

    for (esp_unit_kind k = ESP_UNIT_ATTENTION; k <= ESP_UNIT_MLP; k++) {
        for (size_t l = 0; l < 3; l++) {
            const esp_kept_groups *kept =
                k == ESP_UNIT_MLP ? &p.layers[l].mlp : &p.layers[l].attention;

            check_unit(&spread, esp_groups_unit(&g, k, l), &scores,
                       l == 1 ? NULL : esp_groups_unit(&h, k, l / 2), kept);
        }
    }
    check_unit(&spread, esp_groups_unit(&g, ESP_UNIT_HIDDEN, ESP_NO_LAYER), &scores,
               esp_groups_unit(&h, ESP_UNIT_HIDDEN, ESP_NO_LAYER), &p.hidden);
    check_unit(&spread, esp_groups_unit(&g, ESP_UNIT_QUERY, 2), &scores,
               esp_groups_unit(&h, ESP_UNIT_QUERY, 1), &p.layers[2].query);
    CU_ASSERT_PTR_NULL(esp_groups_unit(&h, ESP_UNIT_QUERY, 0));
    check_no_choice(&spread, esp_groups_unit(&g, ESP_UNIT_QUERY, 0), &p.layers[0].query);
    CU_ASSERT_PTR_NULL(
        esp_scores_group(&spread, esp_groups_unit(&g, ESP_UNIT_MLP, 0), ESP_RANDOM, ESP_LAST));

    esp_scores_free(&spread);
    esp_scores_free(&scores);
    esp_groups_free(&h);
    esp_groups_free(&g);
    esp_model_free(&left);
    esp_model_free(&dense);
    esp_plan_free(&p);
    free(dims.layer);
}

ESP_TEST_MAIN("spread", { "scores of what is left", test_spread })
