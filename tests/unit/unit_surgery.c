/* The pruned model computes what the dense one does without the groups that were cut: the program's forward
 * of what surgery wrote against the plain one of the dense model with the groups set to zero. */
#include "espalier/exporters.h"
#include "espalier/reshape.h"
#include "espalier/pass.h"
#include "espalier/surgery.h"
#include "golden_groups.h"
#include "own_weights.h"
#include "reference_model.h"

#define TOLERANCE 1e-5 /* of logits, relative to the largest */

/* ---- a dense model with parts set to zero ------------------------------------------------------- */

static bool is_kept(const esp_kept_groups *kept, size_t group)
{
    for (size_t i = 0; i < kept->n; i++) {
        if ((size_t)kept->index[i] == group) {
            return true;
        }
    }
    return false;
}

static void mask_unit(const esp_model *m, const esp_unit *u, const esp_kept_groups *kept)
{
    for (size_t s = 0; s < u->n_structures; s++) {
        const esp_structure *part = &u->structures[s];

        for (size_t i = 0; i < part->length; i++) {
            int32_t c = part->channel[i];

            if (c >= 0 && !is_kept(kept, (size_t)c / u->channels_per_group)) {
                own_weight_scale(esp_model_weight(m, part->layer, part->slot), part->side, i, 0);
            }
        }
    }
}

static void mask(const esp_model *m, const esp_groups *g, const esp_plan *p)
{
    for (size_t u = 0; u < g->n_units; u++) {
        mask_unit(m, &g->units[u], esp_plan_kept(p, &g->units[u]));
    }
}

/* Logits of the dense model m, whose weights are its own, without what the plan cuts. */
static double *masked_logits(const esp_model *m, const esp_groups *g, const esp_plan *p,
                             const esp_samples *samples)
{
    bool *gone, *skipped;
    double *logits;

    ESP_NEW(gone, p->hidden.total);
    ESP_NEW(skipped, p->n_layers);
    for (size_t c = 0; c < p->hidden.total; c++) {
        gone[c] = !is_kept(&p->hidden, c);
    }
    for (size_t l = 0; l < p->n_layers; l++) {
        skipped[l] = !p->layers[l].kept;
    }
    mask(m, g, p);
    logits = plain_logits(m, samples, gone, skipped, NULL);
    free(gone);
    free(skipped);
    return logits;
}

/* ---- comparison --------------------------------------------------------------------------------- */

/* [n_tok, V] of all samples, f64; gates NULL: none. The caller frees. */
static double *logits_of(size_t *n, const esp_model *m, const esp_samples *samples,
                         const esp_gates *gates)
{
    size_t n_tok = samples->start[samples->n], *pick;
    esp_batch batch;
    esp_pass pass;
    float *logits;
    double *wide;

    *n = n_tok * m->dims.vocab;
    ESP_NEW(pick, samples->n);
    ESP_NEW(logits, *n);
    ESP_NEW(wide, *n);
    for (size_t j = 0; j < samples->n; j++) {
        pick[j] = j;
    }
    esp_model_batch_init(&batch, m, samples->n, n_tok);
    esp_batch_fill(&batch, samples, pick, samples->n);
    esp_pass_init(
        &pass, m,
        (esp_pass_options){ .max_samples = samples->n, .max_tok = n_tok, .gates = gates });
    pass.gates = gates;
    esp_pass_forward(&pass, NULL, &batch);
    esp_pass_logits(logits, &pass, 0, n_tok);
    for (size_t i = 0; i < *n; i++) {
        wide[i] = (double)logits[i];
    }
    esp_pass_free(&pass);
    esp_batch_free(&batch);
    free(logits);
    free(pick);
    return wide;
}

/* Heads and neurons, no channels or layers. */
static bool cuts_groups_alone(const esp_plan *p)
{
    bool all = p->hidden.n == p->hidden.total;

    for (size_t l = 0; l < p->n_layers; l++) {
        all = all && p->layers[l].kept;
    }
    return all;
}

/* Gates of 0 on the groups that a plan cuts. */
static void set_gates(esp_gates *gates, const fixture *t, const esp_plan *p)
{
    for (size_t u = 0; u < t->groups.n_units; u++) {
        const esp_unit *unit = &t->groups.units[u];
        float *gate;

        ESP_NEW(gate, unit->n_groups);
        for (size_t i = 0; i < unit->n_groups; i++) {
            gate[i] = is_kept(esp_plan_kept(p, unit), i);
        }
        if (unit->kind != ESP_UNIT_HIDDEN) {
            esp_unit_scale_gates(gates, unit, gate);
        }
        free(gate);
    }
}

/* The dense model with gates of 0 gives what the pruned one does. */
static void check_gates(const fixture *t, const esp_plan *p, const double *pruned)
{
    esp_gates gates;
    double *found;
    size_t n;

    esp_gates_init(&gates, &t->golden.model);
    set_gates(&gates, t, p);
    found = logits_of(&n, &t->golden.model, &t->golden.samples, &gates);
    if (!esp_test_close(found, pruned, n, golden_largest(pruned, n), TOLERANCE)) {
        printf("  %s\n", t->golden.model.dir);
        CU_FAIL("the pruned model is not the dense one with gates of 0");
    }
    free(found);
    esp_gates_free(&gates);
}

/* Cuts by the plan, loads what was written, and compares with the dense model of dir masked. */
static void check_cut(const fixture *t, const esp_plan *p, const char *what)
{
    char *root = esp_test_dir("surgery"), *dir = esp_path(root, "pruned");
    esp_model pruned, masked;
    double *found, *wanted;
    size_t n;

    CU_ASSERT_EQUAL(esp_mkdirs(root), ESP_OK);
    CU_ASSERT_EQUAL(esp_surgery(NULL, esp_export_to(dir, "huggingface"), &t->golden.model,
                                &t->groups, p, MPI_COMM_SELF),
                    ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&pruned, dir, MPI_COMM_SELF), ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&masked, t->golden.model.dir, MPI_COMM_SELF), ESP_OK);
    own_weights(&masked);
    found = logits_of(&n, &pruned, &t->golden.samples, NULL);
    wanted = masked_logits(&masked, &t->groups, p, &t->golden.samples);
    if (!esp_test_close(found, wanted, n, golden_largest(wanted, n), TOLERANCE)) {
        printf("  %s, %s\n", t->golden.model.dir, what);
        CU_FAIL("the pruned model is not the dense one with the groups masked");
    }
    if (cuts_groups_alone(p)) {
        check_gates(t, p, found);
    }
    CU_ASSERT_EQUAL(esp_model_cost(&pruned, 64).parameters, p->pruned.parameters);
    CU_ASSERT_EQUAL(pruned.head_and_norm[ESP_SLOT_EMBED].dtype,
                    t->golden.model.head_and_norm[ESP_SLOT_EMBED].dtype);
    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    free(found);
    free(wanted);
    own_weights_free(&masked);
    esp_model_free(&masked);
    esp_model_free(&pruned);
    free(dir);
    free(root);
}

static void make_plan(esp_plan *p, const fixture *t, esp_plan_options o)
{
    o.criterion = ESP_RANDOM;
    o.round_to = o.min_keep = 1;
    o.target_tokens = 64;
    o.seed = 3;
    CU_ASSERT_EQUAL(esp_plan_make(p, &t->golden.model, &t->groups, NULL, &o), ESP_OK);
}

static void check_mode(const fixture *t, esp_plan_options o, const char *what)
{
    esp_plan p;

    make_plan(&p, t, o);
    CU_ASSERT(p.pruned.parameters < p.dense.parameters);
    check_cut(t, &p, what);
    esp_plan_free(&p);
}

/* Heads, neurons, channels and the first layer, all in one plan. */
static void check_all_at_once(const fixture *t)
{
    esp_plan block, channel;
    esp_kept_groups hidden;
    esp_model left;
    esp_dims dims;

    make_plan(&block, t,
              (esp_plan_options){ .mode = ESP_PRUNE_BLOCK, .ratio = 0.3, .global = true });
    make_plan(&channel, t, (esp_plan_options){ .mode = ESP_PRUNE_CHANNEL, .ratio = 0.25 });
    hidden = block.hidden;
    block.hidden = channel.hidden;
    channel.hidden = hidden;
    block.layers[0].kept = false;
    block.layers[0].attention.n = block.layers[0].query.n = block.layers[0].mlp.n = 0;
    esp_plan_dims(&dims, &block, &t->golden.model);
    esp_model_reshape(&left, &t->golden.model, &dims);
    block.pruned = esp_model_cost(&left, 64);
    check_cut(t, &block, "all at once");
    free(dims.layer);
    esp_model_free(&left);
    esp_plan_free(&block);
    esp_plan_free(&channel);
}

static void check_model(const fixture *t)
{
    check_mode(t, (esp_plan_options){ .mode = ESP_PRUNE_BLOCK, .ratio = 0.5 }, "block, local");
    check_mode(t, (esp_plan_options){ .mode = ESP_PRUNE_BLOCK, .ratio = 0.4, .global = true },
               "block, global");
    for (esp_attention_units a = ESP_ATTENTION_QUERIES; a <= ESP_ATTENTION_BOTH; a++) {
        if (fixture_shares_keys(t)) {
            check_mode(t, (esp_plan_options){ .attention = a, .ratio = 0.5 },
                       esp_attention_units_name(a));
            check_mode(t, (esp_plan_options){ .attention = a, .ratio = 0.4, .global = true },
                       "one ranking with query heads");
        }
    }
    check_mode(t, (esp_plan_options){ .mode = ESP_PRUNE_LAYER, .ratio = 0.5 }, "layer");
    check_mode(t, (esp_plan_options){ .mode = ESP_PRUNE_CHANNEL, .ratio = 0.3 }, "channel");
    check_all_at_once(t);
}

/* The plain forward itself, against the values of another program. */
static void check_plain(const fixture *t)
{
    size_t n;
    double *found = plain_logits(&t->golden.model, &t->golden.samples, NULL, NULL, NULL);
    double *wanted = golden_read(&n, &t->golden, "logits");

    CU_ASSERT(esp_test_close(found, wanted, n, golden_largest(wanted, n), TOLERANCE));
    free(found);
    free(wanted);
}

static void test_plain(void)
{
    fixture_each(false, check_plain);
    fixture_each(true, check_plain);
}

static void test_repository(void)
{
    fixture_each(false, check_model);
}

static void test_shared(void)
{
    fixture_each(true, check_model);
}

/* A plan that keeps everything gives the same tensors. */
static void test_nothing_cut(void)
{
    fixture *t = fixture_of(OWN_MODEL);
    char *root = esp_test_dir("surgery"), *dir = esp_path(root, "whole");
    esp_plan p;
    esp_model copy;

    make_plan(&p, t, (esp_plan_options){ .mode = ESP_PRUNE_BLOCK, .ratio = 0 });
    CU_ASSERT_EQUAL(esp_mkdirs(root), ESP_OK);
    CU_ASSERT_EQUAL(esp_surgery(NULL, esp_export_to(dir, "huggingface"), &t->golden.model,
                                &t->groups, &p, MPI_COMM_SELF),
                    ESP_OK);
    CU_ASSERT_EQUAL(esp_model_load(&copy, dir, MPI_COMM_SELF), ESP_OK);
    for (size_t i = 0; i < t->golden.model.dims.n_layers * own_weights_n_block(&t->golden.model);
         i++) {
        const esp_weight *a = &t->golden.model.block[i], *b = &copy.block[i];

        CU_ASSERT_EQUAL(memcmp(a->data, b->data, a->rows * a->cols * esp_dtype_size(a->dtype)), 0);
        CU_ASSERT_EQUAL(a->has_bias, b->has_bias);
    }
    esp_model_free(&copy);
    esp_plan_free(&p);
    fixture_free(t);
    free(dir);
    free(root);
}

ESP_TEST_MAIN("surgery", { "the plain forward", test_plain },
              { "pruned = masked dense, repository's model", test_repository },
              { "pruned = masked dense, shared models", test_shared },
              { "a plan that keeps everything", test_nothing_cut })
