/* mpi_memory.c - memory and messages that are predicted from shapes are what is allocated and sent, byte by
 * byte. */
#include "espalier/compensate.h"
#include "espalier/exporters.h"
#include "espalier/eval.h"
#include "espalier/masks.h"
#include "espalier/merge.h"
#include "espalier/reshape.h"
#include "espalier/recover.h"
#include "espalier/surgery.h"
#include "espalier/synth.h"
#include "espalier/folder.h"
#include "espalier/traffic.h"
#include "heap_counter.h"
#include "small_model.h"

/* All families, with heads that share keys where the family has that. */
static const char *const families[] = {
    "llama",        "mistral",       "qwen2", "qwen3", "phi3",   "baichuan-7b", "baichuan2-7b",
    "baichuan-13b", "baichuan2-13b", "opt",   "bloom", "gemma2", "chatglm2",    "chatglm"
};
enum { N_FAMILIES = sizeof families / sizeof *families };

static esp_synth_options sizes_of(const char *family)
{
    bool narrow = strcmp(family, "phi3") == 0 || strcmp(family, "qwen2") == 0;
    bool bloom = strcmp(family, "bloom") == 0;

    return (esp_synth_options){ .model_type = family,
                                .layers = 6,
                                .hidden = 48,
                                .heads = 4,
                                .kv_heads = narrow ? 2 : 0,
                                .mlp = bloom ? 4 * 48 : 80,
                                .vocab = 300,
                                .max_positions = 64,
                                .dtype = ESP_BF16,
                                .std = 0.1,
                                .rope_theta = 10000,
                                .seed = 3 };
}

/* What a model of other shapes has of its own; all else it takes over. */
static void forget_own(esp_model *m)
{
    m->dims.layer = NULL;
    m->rope.inv_freq = m->rope.longer = NULL;
    m->slopes = NULL;
    m->head_and_norm = m->block = NULL;
    m->config = NULL;
    m->dir = NULL;
}

static void test_reshape(void)
{
    for (size_t i = 0; i < N_FAMILIES; i++) {
        esp_synth_options o = sizes_of(families[i]);
        esp_model m, same, seen[2];

        CU_ASSERT_EQUAL(esp_synth_shape(&m, &o), ESP_OK);
        m.precision = ESP_PRECISION_BF16;
        m.bare = true;
        esp_model_reshape(&same, &m, &m.dims);
        seen[0] = m;
        seen[1] = same;
        forget_own(&seen[0]);
        forget_own(&seen[1]);
        CU_ASSERT_EQUAL(memcmp(&seen[0], &seen[1], sizeof *seen), 0);
        esp_model_free(&same);
        esp_model_free(&m);
    }
}

/* ---- what is allocated --------------------------------------------------------------------------- */

/* What a model is like, and how the ranks share its layers out. */
typedef struct kind {
    const char *family;
    esp_dtype dtype;
    esp_precision precision;
    bool tied;
    bool uneven;     /* layers of different sizes    */
    size_t n_stages; /* of the pipeline              */
} kind;

/* A model of files, its samples and the ranks. */
typedef struct job {
    kind kind;
    small m;
    esp_samples samples;
    esp_grid grid;
} job;

/* Every rank has one of the longest. */
static esp_samples samples_of(int n_ranks)
{
    esp_samples s = { 0 };
    int32_t ids[23];

    for (size_t t = 0; t < 23; t++) {
        ids[t] = (int32_t)(5 + t * t % 11);
    }
    for (size_t j = 0; j < 24; j++) {
        esp_samples_add(&s, ids, NULL, j / (size_t)n_ranks % 2 ? 12 : 23);
    }
    return s;
}

/* The sizes that a plan may leave: heads and neurons of a layer, more in the middle than at the ends. */
static void make_uneven(esp_model *m)
{
    static const size_t eighths[] = { 3, 5, 8, 4, 6, 2 };
    esp_model even = *m;
    esp_dims dims = m->dims;

    ESP_NEW(dims.layer, dims.n_layers);
    for (size_t l = 0; l < dims.n_layers; l++) {
        esp_layer_dims *d = &dims.layer[l];
        size_t part = eighths[l % 6], group;

        *d = even.dims.layer[l];
        group = d->heads / d->kv_heads;
        d->kv_heads = esp_max(d->kv_heads * part / 8, 1);
        d->heads = group * d->kv_heads;
        d->mlp = d->mlp * part / 8;
    }
    esp_model_reshape(m, &even, &dims);
    esp_model_free(&even);
    free(dims.layer);
}

static void job_init(job *j, kind k)
{
    esp_synth_options o = sizes_of(k.family);
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    *j = (job){ .kind = k, .samples = samples_of(size) };
    esp_grid_init(&j->grid, strcmp(k.family, "gemma2") == 0 ? 2 : 1, MPI_COMM_WORLD);
    CU_ASSERT_EQUAL(esp_grid_shape(&j->grid, k.n_stages), ESP_OK);
    o.tied = k.tied;
    CU_ASSERT_EQUAL(esp_synth_shape(&j->m.model, &o), ESP_OK);
    if (k.uneven) {
        make_uneven(&j->m.model);
    }
    small_weights(&j->m, k.dtype);
    j->m.model.precision = k.precision;
    free(j->m.model.dir);
    j->m.model.dir = esp_test_dir("empty"); /* no small files to be copied */
    CU_ASSERT_EQUAL(esp_mkdirs(j->m.model.dir), ESP_OK);
}

static void job_free(job *j)
{
    esp_samples_free(&j->samples);
    small_free(&j->m);
    esp_grid_free(&j->grid);
}

static void compare(const job *j, const char *what, double predicted, double counted)
{
    const kind *k = &j->kind;

    CU_ASSERT_EQUAL(counted, predicted);
    if (counted != predicted) {
        printf("  %s of %s, %s in %s%s%s, rank %d of %zu x %d: predicted %.0f, counted %.0f\n",
               what, k->family, esp_dtype_name(k->dtype), esp_precision_name(k->precision),
               k->tied ? ", tied" : "", k->uneven ? ", uneven" : "", j->grid.rank, k->n_stages,
               j->grid.n_data, predicted, counted);
    }
}

/* With all families, types of the files and precisions, and layers of one size or of several; on several
 * ranks each family in two of the ways to share them out. */
static void with_all(void (*check)(const job *))
{
    int size;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (size_t i = 0; i < N_FAMILIES; i++) {
        for (size_t k = 0; k < 8; k++) {
            const size_t n_stages[] = { 1, (size_t)size, 2 };
            size_t uneven = k / 4, n_ways = size == 1 ? 1 : size == 4 ? 3 : 2;
            kind of = { .family = families[i],
                        .dtype = k % 2 ? ESP_BF16 : ESP_F32,
                        .precision = k % 4 < 2 ? ESP_PRECISION_F32 : ESP_PRECISION_BF16,
                        .tied = (i / 2 + uneven) % 2,
                        .uneven = uneven,
                        .n_stages = n_stages[(i + uneven) % n_ways] };
            job j;

            if ((size > 1 || uneven) && k % 4 != i % 4) {
                continue;
            }
            if (esp_precision_check(of.precision) != ESP_OK) {
                esp_error_clear();
                continue;
            }
            job_init(&j, of);
            check(&j);
            job_free(&j);
        }
    }
}

static void check_eval(const job *j)
{
    esp_eval e;

    heap_begin();
    CU_ASSERT_EQUAL(esp_evaluate(&e, &j->m.model, NULL, &j->samples, 50, &j->grid), ESP_OK);
    compare(j, "eval",
            (double)esp_evaluate_bytes(&j->m.model, 0, esp_samples_size(&j->samples), 50, &j->grid),
            (double)heap_peak());
}

/* The last step's is before anything is saved. */
/* A pass with gates on every head and neuron, forward and back. */
static void check_gates(const job *j)
{
    const esp_model *m = &j->m.model;
    esp_pass_options o = { .max_samples = 2,
                           .max_tok = 46,
                           .chunk_tok = 23,
                           .backward = true,
                           .gates = true,
                           .grid = &j->grid };
    esp_gates gates;
    esp_pass p;

    heap_begin();
    esp_pass_init(&p, m, o);
    esp_gates_init(&gates, m);
    compare(j, "gates", (double)(esp_gates_bytes(m) + esp_pass_bytes(m, o)), (double)heap_peak());
    esp_pass_free(&p);
    esp_gates_free(&gates);
}

static void test_gates(void)
{
    with_all(check_gates);
}

static void note_peak(void *ctx, const esp_recover_news *news)
{
    (void)news;
    *(size_t *)ctx = heap_peak();
}

/* How many states find their place on their own rank is chance: about one in n_data, as predicted. */
static void check_states_sent(const job *j, const esp_recover_work *work, const esp_traffic *then)
{
    double sent = esp_traffic_since(then, j->grid.world).bytes[ESP_SENT_TEACHER];

    CU_ASSERT(fabs(sent - work->states) <= 0.5 * work->states);
    CU_ASSERT((sent > 0) == (work->states > 0));
}

/* teacher: NULL, or one that the training follows. */
static void check_recover_by(const job *j, esp_method method, const esp_model *teacher,
                             const esp_samples *samples)
{
    char *dir = esp_test_dir("checkpoints");
    esp_recover_options o = { .method = method,
                              .rank = 4,
                              .alpha = 8,
                              .dropout = 0.1,
                              .learning_rate = 1e-3,
                              .beta1 = 0.9,
                              .beta2 = 0.99,
                              .epsilon = 1e-8,
                              .steps = 2,
                              .batch = 14,
                              .micro_batch = 2,
                              .kept_layers = (size_t)j->grid.size % 3,
                              .validation = 5,
                              .max_skipped = 1,
                              .keep = 1,
                              .teacher = teacher,
                              .kd_ratio = 0.5,
                              .kd_temperature = 2,
                              .dir = dir,
                              .settings = "" };
    size_t predicted, allocated = 0;
    esp_traffic then = esp_traffic_now();
    esp_recover_work work;
    esp_recover_result result;
    esp_adapter adapter;
    esp_params params;

    for (int slot = ESP_SLOT_BLOCK; slot < (int)j->m.model.arch->n_slots; slot++) {
        bool matrix = j->m.model.arch->slots[slot].cols != ESP_W_ONE;

        o.targets |= matrix ? UINT64_C(1) << slot : 0;
    }
    predicted = esp_recover_bytes(&j->m.model, &o, esp_samples_size(samples), &j->grid);
    esp_recover_work_of(&work, &j->m.model, &o, esp_samples_size(samples), &j->grid);
    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    heap_begin();
    esp_recover_prepare(&params, &adapter, (esp_model *)&j->m.model, &o);
    CU_ASSERT_EQUAL(esp_recover(&params, &result, &j->m.model, &adapter, samples, &o, note_peak,
                                &allocated, NULL, &j->grid),
                    ESP_OK);
    compare(j,
            teacher                     ? "recover with a teacher"
            : method == ESP_METHOD_LORA ? "recover, LoRA"
                                        : "recover, full",
            (double)predicted, (double)allocated);
    check_states_sent(j, &work, &then);
    esp_adapter_free(&adapter);
    esp_params_free(&params);
    free(dir);
}

static void check_recover(const job *j)
{
    bool same = (j->kind.dtype == ESP_BF16) == (j->m.model.precision == ESP_PRECISION_BF16);

    check_recover_by(j, same ? ESP_METHOD_LORA : ESP_METHOD_FULL, NULL, &j->samples);
}

/* A teacher of other widths. Samples are of one length: what a rank keeps is stated for their mean. */
static void check_taught(const job *j)
{
    esp_synth_options o = sizes_of("llama");
    esp_samples samples = { 0 };
    int32_t ids[23] = { 0 };
    small teacher;

    o.hidden = j->kind.uneven ? 96 : 32;
    CU_ASSERT_EQUAL(esp_synth_shape(&teacher.model, &o), ESP_OK);
    small_weights(&teacher, j->kind.dtype);
    teacher.model.precision = j->kind.precision;
    for (size_t i = 0; i < 5 + 24; i++) { /* 5 held out, the others the same number on each rank */
        ids[0] = (int32_t)i;
        esp_samples_add(&samples, ids, NULL, 23);
    }
    check_recover_by(j, j->kind.tied ? ESP_METHOD_LORA : ESP_METHOD_FULL, &teacher.model, &samples);
    esp_samples_free(&samples);
    small_free(&teacher);
}

static void test_taught(void)
{
    with_all(check_taught);
}

static void test_recover(void)
{
    with_all(check_recover);
}

/* What is left after a cut of block, with more layers left alone on some jobs. */
static void check_compensate(const job *j)
{
    static const char *const names[] = { ESP_COMPENSATE_NAMES };
    const esp_compensate_calls calls = { NULL, NULL, NULL };
    esp_compensate_options o = { .holdout = 4, .chunk_tok = 50 };
    esp_plan_options of = { .criterion = ESP_RANDOM, .ratio = 0.5, .target_tokens = 64 };
    char *dir = esp_test_dir("projections");
    esp_text_size own =
        esp_text_share(esp_samples_size(&j->samples), j->samples.n, (size_t)j->grid.n_data);
    esp_compensated done;
    esp_remnant r;
    esp_groups g;
    esp_plan p;

    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
        CU_ASSERT_EQUAL(esp_folder_make(dir, names, sizeof names / sizeof *names), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    esp_groups_find(&g, &j->m.model);
    CU_ASSERT_EQUAL(esp_plan_make(&p, &j->m.model, &g, NULL, &of), ESP_OK);
    esp_remnant_init(&r, &j->m.model, &g, &p);
    heap_begin();
    CU_ASSERT_EQUAL(esp_compensate(&done, &r, &j->samples, &o, dir, &calls, &j->grid), ESP_OK);
    compare(j, "compensate", (double)esp_compensate_bytes(&j->m.model, &r.left, &o, own, &j->grid),
            (double)heap_peak());
    esp_compensated_free(&done);
    esp_remnant_free(&r);
    esp_plan_free(&p);
    esp_groups_free(&g);
    free(dir);
}

/* The same with a choice of the groups that go. */
static void check_select(const job *j)
{
    static const char *const names[] = { ESP_COMPENSATE_NAMES };
    const esp_compensate_calls calls = { NULL, NULL, NULL };
    esp_compensate_options o = { .holdout = 4,
                                 .chunk_tok = 50,
                                 .target = ESP_BRANCH_OWN,
                                 .choose_only = j->kind.dtype == ESP_BF16 };
    esp_plan_options of = { .criterion = ESP_RANDOM, .ratio = 0.5, .target_tokens = 64 };
    char *dir = esp_test_dir("choices");
    esp_text_size own =
        esp_text_share(esp_samples_size(&j->samples), j->samples.n, (size_t)j->grid.n_data);
    esp_choices done;
    esp_remnant r;
    esp_groups g;
    esp_plan p;

    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
        CU_ASSERT_EQUAL(esp_folder_make(dir, names, sizeof names / sizeof *names), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    esp_groups_find(&g, &j->m.model);
    CU_ASSERT_EQUAL(esp_plan_make(&p, &j->m.model, &g, NULL, &of), ESP_OK);
    esp_remnant_init(&r, &j->m.model, &g, &p);
    heap_begin();
    CU_ASSERT_EQUAL(
        esp_reconstruct(&done, &p, &j->m.model, &g, &j->samples, &o, dir, &calls, &j->grid),
        ESP_OK);
    compare(j, "select", (double)esp_reconstruct_bytes(&j->m.model, &g, &r.left, &o, own, &j->grid),
            (double)heap_peak());
    esp_choices_free(&done);
    esp_remnant_free(&r);
    esp_plan_free(&p);
    esp_groups_free(&g);
    free(dir);
}

static void test_compensate(void)
{
    with_all(check_compensate);
    with_all(check_select);
}

static void check_merge(const job *j)
{
    char *dir = esp_test_dir("merged"), digest[ESP_DIGEST_SIZE];
    esp_recover_options o = { .method = ESP_METHOD_LORA, .rank = 2, .alpha = 1, .targets = ~0u };
    esp_adapter adapter;
    esp_params params;

    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    esp_recover_prepare(&params, &adapter, (esp_model *)&j->m.model, &o);
    heap_begin();
    CU_ASSERT_EQUAL(esp_merge(digest, esp_export_to(dir, "huggingface"), &j->m.model, NULL,
                              &adapter, j->grid.world),
                    ESP_OK);
    compare(j, "merge", (double)esp_merge_bytes(&j->m.model, esp_exporter_find("huggingface")),
            (double)heap_peak());
    esp_adapter_free(&adapter);
    esp_params_free(&params);
    free(dir);
}

/* A writer that another one is measured by. */
static struct {
    const esp_writer *of;
    size_t predicted, allocated;
} measured;

static esp_status measured_begin(void **state, const esp_contents *c)
{
    measured.predicted = measured.of->bytes(c);
    heap_begin();
    return measured.of->begin(state, c);
}

static esp_status measured_rows(void *state, size_t i, size_t first, size_t n, const void *data)
{
    return measured.of->rows(state, i, first, n, data);
}

static esp_status measured_end(void *state, esp_status st)
{
    st = measured.of->end(state, st);
    measured.allocated = heap_peak();
    return st;
}

static void check_adapter(const job *j)
{
    const esp_writer writer = { .name = "measured",
                                .adapters = true,
                                .begin = measured_begin,
                                .rows = measured_rows,
                                .end = measured_end };
    char *dir = esp_test_dir("adapter");
    esp_recover_options o = { .method = ESP_METHOD_LORA, .rank = 3, .alpha = 1, .targets = ~0u };
    esp_adapter adapter;
    esp_params params;

    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    measured.of = esp_exporter_find("peft");
    esp_recover_prepare(&params, &adapter, (esp_model *)&j->m.model, &o);
    CU_ASSERT_EQUAL(esp_adapter_save((esp_output){ .writer = &writer, .dir = dir }, &adapter,
                                     &j->m.model, 0, j->grid.world),
                    ESP_OK);
    compare(j, "files of an adapter", (double)measured.predicted, (double)measured.allocated);
    esp_adapter_free(&adapter);
    esp_params_free(&params);
    free(dir);
}

static void check_prune(const job *j)
{
    char *dir = esp_test_dir("pruned"), digest[ESP_DIGEST_SIZE];
    esp_plan_options o = { .criterion = ESP_RANDOM, .ratio = 0.5, .min_keep = 1, .round_to = 1 };
    esp_dims dims;
    esp_groups groups;
    esp_model to;
    esp_plan plan = { 0 };
    size_t predicted;

    if (j->grid.rank == 0) {
        CU_ASSERT_EQUAL(esp_remove(dir), ESP_OK);
    }
    MPI_Barrier(j->grid.world);
    esp_groups_find(&groups, &j->m.model);
    CU_ASSERT_EQUAL(esp_plan_make(&plan, &j->m.model, &groups, NULL, &o), ESP_OK);
    esp_plan_dims(&dims, &plan, &j->m.model);
    esp_model_reshape(&to, &j->m.model, &dims);
    predicted = esp_surgery_bytes(&j->m.model, &groups, &to, esp_exporter_find("huggingface"));
    esp_model_free(&to);
    free(dims.layer);
    heap_begin();
    CU_ASSERT_EQUAL(esp_surgery(digest, esp_export_to(dir, "huggingface"), &j->m.model, &groups,
                                &plan, j->grid.world),
                    ESP_OK);
    compare(j, "prune", (double)predicted, (double)heap_peak());
    esp_plan_free(&plan);
    esp_groups_free(&groups);
    free(dir);
}

/* They multiply nothing. */
static void check_writers(const job *j)
{
    if (j->kind.precision == ESP_PRECISION_BF16) {
        return;
    }
    if (j->kind.dtype == ESP_BF16) {
        check_merge(j);
        check_adapter(j);
    } else {
        check_prune(j);
    }
}

static void test_writers(void)
{
    with_all(check_writers);
}

/* Each rank counts its share of the bytes, a fraction. */
static void compare_sent(const job *j, esp_traffic_kind what, double predicted,
                         const esp_traffic *sent)
{
    compare(j, esp_traffic_name(what), predicted, nearbyint(sent->bytes[what]));
}

static void check_score_by(const job *j, const char *what, unsigned criteria, unsigned units)
{
    esp_importance_options o = { .criteria = criteria,
                                 .aggregations = 1u << ESP_SUM | 1u << ESP_MAX,
                                 .units = units,
                                 .model_labels = criteria & 1u << ESP_GATE2,
                                 .chunk_tok = 60,
                                 .kept_layers = (size_t)j->grid.size % 2 };
    esp_text_size all = esp_samples_size(&j->samples), own = { .longest = all.longest };
    esp_traffic before = esp_traffic_now(), of_stage, of_all;
    esp_importance_work work;
    esp_scores scores;
    esp_groups groups;

    for (size_t i = (size_t)j->grid.i_data; i < all.samples; i += (size_t)j->grid.n_data) {
        own.samples++;
        own.tokens += j->samples.start[i + 1] - j->samples.start[i];
    }
    esp_groups_find(&groups, &j->m.model);
    esp_importance_work_of(&work, &j->m.model, &groups, &o, all, own, &j->grid);
    heap_begin();
    CU_ASSERT_EQUAL(
        esp_importance_estimate(&scores, &j->m.model, &groups, &j->samples, &o, &j->grid), ESP_OK);
    compare(j, what, (double)work.bytes, (double)heap_peak());
    of_stage = esp_traffic_since(&before, j->grid.data);
    of_all = esp_traffic_since(&before, j->grid.world);
    compare_sent(j, ESP_SENT_WEIGHT_GRADIENTS, work.weight_gradients, &of_stage);
    compare_sent(j, ESP_SENT_SUMS, work.sums, &of_all);
    compare_sent(j, ESP_SENT_ACTIVATIONS, work.activations, &of_all);
    esp_scores_free(&scores);
    esp_groups_free(&groups);
}

/* The training of gates takes its room beside the scores. */
static void check_masks(const job *j)
{
    const esp_importance_options o = { .criteria = 1u << ESP_MASKS,
                                       .aggregations = 1u << ESP_SUM,
                                       .units = (1u << ESP_N_UNITS) - 1 };
    const esp_mask_options of = { .steps = 2, .batch = 5, .learning_rate = 0.1 };
    const esp_plan_options plan = { .ratio = 0.5, .global = true };
    esp_traffic before, sent;
    esp_mask_work work;
    esp_scores scores;
    esp_groups groups;

    esp_groups_find(&groups, &j->m.model);
    CU_ASSERT_EQUAL(esp_importance_estimate(&scores, &j->m.model, &groups, NULL, &o, &j->grid),
                    ESP_OK);
    esp_mask_work_of(&work, &j->m.model, &groups, esp_samples_size(&j->samples), &plan, &of,
                     &j->grid);
    before = esp_traffic_now();
    heap_begin();
    CU_ASSERT_EQUAL(
        esp_masks_train(&scores, &j->m.model, &groups, &j->samples, &plan, &of, &j->grid), ESP_OK);
    compare(j, "masks", (double)work.bytes, (double)heap_peak());
    sent = esp_traffic_since(&before, j->grid.world);
    compare_sent(j, ESP_SENT_SUMS, work.sums, &sent);
    esp_scores_free(&scores);
    esp_groups_free(&groups);
}

static void test_masks(void)
{
    with_all(check_masks);
}

static void check_score(const job *j)
{
    unsigned blocks = 1u << ESP_UNIT_ATTENTION | 1u << ESP_UNIT_MLP;
    unsigned queries = 1u << ESP_UNIT_QUERY | 1u << ESP_UNIT_MLP;

    check_score_by(j, "score of query heads", 1u << ESP_MIX | 1u << ESP_GATE2 | 1u << ESP_KFAC,
                   queries);
    check_score_by(j, "score of both kinds of heads", 1u << ESP_ELEMENT1 | 1u << ESP_FLAP,
                   queries | blocks);
    check_score_by(j, "score", 1u << ESP_ELEMENT1 | 1u << ESP_MIX, blocks | 1u << ESP_UNIT_HIDDEN);
    check_score_by(j, "score without hidden", 1u << ESP_VECTOR | 1u << ESP_L1, blocks);
    check_score_by(j, "score of weights alone", 1u << ESP_L2, blocks);
    check_score_by(j, "score by gates", 1u << ESP_GATE1 | 1u << ESP_GATE2, blocks);
    check_score_by(j, "score by gates, elements, weights",
                   1u << ESP_GATE2 | 1u << ESP_ELEMENT1 | 1u << ESP_L1, 1u << ESP_UNIT_MLP);
    check_score_by(j, "score by a forward", 1u << ESP_WANDA_SP | 1u << ESP_FLAP, blocks);
    check_score_by(j, "score by kfac and others",
                   1u << ESP_KFAC | 1u << ESP_FLAP | 1u << ESP_L1 | 1u << ESP_GATE1,
                   blocks | 1u << ESP_UNIT_HIDDEN);
    check_score_by(j, "score by gates and weights", 1u << ESP_GATE1 | 1u << ESP_L1,
                   blocks | 1u << ESP_UNIT_HIDDEN);
}

static void test_score(void)
{
    with_all(check_score);
}

static void test_eval(void)
{
    with_all(check_eval);
}

ESP_TEST_MAIN("memory", { "a reshaped model keeps its properties", test_reshape },
              { "eval", test_eval }, { "gates", test_gates }, { "masks", test_masks },
              { "score", test_score }, { "recover", test_recover },
              { "recover with a teacher", test_taught }, { "compensate", test_compensate },
              { "merge, adapter and prune", test_writers })
