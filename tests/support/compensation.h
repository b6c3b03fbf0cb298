/* compensation.h - a model of which something is to go, text, and compensations of it that are heard. */
#ifndef ESPALIER_TEST_COMPENSATION_H
#define ESPALIER_TEST_COMPENSATION_H

#include "espalier/cholesky.h"
#include "espalier/compensate.h"
#include "espalier/pass.h"
#include "espalier/synth.h"
#include "small_model.h"

enum { MOST = 48 }; /* projections */

/* A model, what of it is to go, and text. */
typedef struct subject {
    small m;
    esp_groups groups;
    esp_plan plan;
    esp_samples samples;
} subject;

static inline esp_samples text(void)
{
    esp_rng r = { .key = esp_rng_key(4, 0, 0) };
    esp_samples s = { 0 };
    int32_t ids[40];

    for (size_t j = 0; j < 26; j++) {
        size_t n = 20 + esp_rng_below(&r, 20);

        for (size_t t = 0; t < n; t++) {
            ids[t] = (int32_t)(6 + esp_rng_below(&r, 290));
        }
        esp_samples_add(&s, ids, NULL, n);
    }
    return s;
}

static inline void subject_init(subject *s, const char *family, esp_prune_mode mode, double ratio)
{
    bool narrow = strcmp(family, "phi3") == 0 || strcmp(family, "qwen2") == 0;
    esp_synth_options of = { .model_type = family,
                             .layers = 4,
                             .hidden = 32,
                             .heads = 4,
                             .kv_heads = narrow ? 2 : 0,
                             .mlp = strcmp(family, "bloom") == 0 ? 4 * 32 : 60,
                             .vocab = 300,
                             .max_positions = 64,
                             .dtype = ESP_F32,
                             .std = 0.1,
                             .rope_theta = 10000,
                             .seed = 3 };
    esp_plan_options o = { .mode = mode,
                           .criterion = ESP_RANDOM,
                           .ratio = ratio,
                           .round_to = 1,
                           .min_keep = 1,
                           .target_tokens = 64,
                           .seed = 5 };

    CU_ASSERT_EQUAL(esp_synth_shape(&s->m.model, &of), ESP_OK);
    small_weights(&s->m, ESP_F32);
    free(s->m.model.dir);
    s->m.model.dir = esp_test_dir("empty"); /* no small files to be copied */
    CU_ASSERT_EQUAL(esp_mkdirs(s->m.model.dir), ESP_OK);
    esp_groups_find(&s->groups, &s->m.model);
    CU_ASSERT_EQUAL(esp_plan_make(&s->plan, &s->m.model, &s->groups, NULL, &o), ESP_OK);
    s->samples = text();
}

static inline void subject_free(subject *s)
{
    esp_samples_free(&s->samples);
    esp_plan_free(&s->plan);
    esp_groups_free(&s->groups);
    small_free(&s->m);
}

/* ---- a compensation ------------------------------------------------------------------------------- */

/* What was said, and after how many projections it is to stop; 0: never. */
typedef struct news {
    esp_compensate_news of[MOST];
    size_t n, stop_after;
} news;

static inline void hear(void *ctx, const esp_compensate_news *n)
{
    news *all = ctx;

    ESP_REQUIRE(all->n < MOST);
    all->of[all->n++] = *n;
}

static inline bool is_enough(void *ctx)
{
    const news *all = ctx;

    return all->stop_after > 0 && all->n >= all->stop_after;
}

/* A folder for the results, with what it had before or fresh. Collective on grid->world. */
static inline char *folder(const char *name, const esp_grid *grid, bool fresh)
{
    static const char *const names[] = { ESP_COMPENSATE_NAMES };
    char *dir = esp_test_dir(name);

    if (grid->rank == 0) {
        CU_ASSERT_EQUAL(fresh ? esp_test_remove(dir) : ESP_OK, ESP_OK);
        CU_ASSERT_EQUAL(esp_folder_make(dir, names, sizeof names / sizeof *names), ESP_OK);
    }
    MPI_Barrier(grid->world);
    return dir;
}

/* The numbers of all projections [*n], as they are afterwards; NULL where the status is not `want`. The
 * caller frees. */
static inline double *numbers_of(const esp_remnant *r, const esp_groups *g, size_t *n)
{
    double *all = NULL;

    *n = 0;
    for (size_t l = 0; l < r->left.dims.n_layers; l++) {
        for (esp_unit_kind k = ESP_UNIT_ATTENTION; k <= ESP_UNIT_MLP; k++) {
            const esp_unit *u = esp_groups_unit(g, k, r->layer[l]);
            int slot = u->structures[u->n_structures - 1].slot;
            const esp_weight *w = esp_model_weight(&r->left, l, slot);
            esp_tensor_ref t = {
                .layer = l, .slot = slot, .weight = w, .n_dims = 2, .shape = { w->rows, w->cols }
            };
            float *rows;

            ESP_NEW(rows, w->rows * w->cols);
            esp_remnant_rows(rows, r, &t, 0, w->rows);
            all = esp_grow(all, *n + w->rows * w->cols, sizeof *all);
            for (size_t i = 0; i < w->rows * w->cols; i++) {
                all[(*n)++] = (double)rows[i];
            }
            free(rows);
        }
    }
    return all;
}

static inline double *compensate(news *said, const subject *s, const esp_compensate_options *o,
                                 const char *name, bool fresh, esp_status want, size_t *n,
                                 const esp_grid *grid)
{
    const esp_compensate_calls calls = { said, hear, is_enough };
    char *dir = folder(name, grid, fresh);
    esp_compensated done;
    esp_remnant r;
    double *numbers = NULL;
    esp_status st;

    esp_remnant_init(&r, &s->m.model, &s->groups, &s->plan);
    st = esp_compensate(&done, &r, &s->samples, o, dir, &calls, grid);
    CU_ASSERT_EQUAL(st, want);
    if (st != want) {
        printf("  %s: status %d: %s\n", s->m.model.arch->model_type, st, esp_error_message());
    }
    if (st == ESP_OK) {
        numbers = numbers_of(&r, &s->groups, n);
    }
    esp_error_clear();
    esp_remnant_free(&r);
    esp_compensated_free(&done);
    free(dir);
    return numbers;
}

/* Inputs or outputs of a projection of all samples, one behind the other; of one layer and slot. */
typedef struct column {
    size_t layer;
    int slot;
    bool input;
    size_t width, n_tok;
    double *rows; /* [n_tok, width] owned */
} column;

static inline void record(void *ctx, size_t layer, int slot, const float *x, const float *y,
                          const esp_batch *chunk)
{
    column *c = ctx;
    const float *from = c->input ? x : y;

    if (layer == c->layer && slot == c->slot) {
        c->rows = esp_grow(c->rows, (c->n_tok + chunk->n_tok) * c->width, sizeof *c->rows);
        for (size_t i = 0; i < chunk->n_tok * c->width; i++) {
            c->rows[c->n_tok * c->width + i] = (double)from[i];
        }
        c->n_tok += chunk->n_tok;
    }
}

static inline void record_column(column *c, const esp_model *m, const esp_samples *s)
{
    const esp_tap tap = { c, record, -1 };
    size_t n = s->n, *pick;
    esp_pass_options o = { .max_samples = n, .max_tok = s->start[n], .layers_only = true };
    esp_batch batch;
    esp_pass p;

    ESP_NEW(pick, n);
    for (size_t j = 0; j < n; j++) {
        pick[j] = j;
    }
    esp_model_batch_init(&batch, m, n, s->start[n]);
    esp_batch_fill(&batch, s, pick, n);
    esp_pass_init(&p, m, o);
    esp_pass_begin(&p, &batch);
    for (size_t l = 0; l <= c->layer; l++) {
        esp_pass_layer(&p, l, 0, &tap, &batch);
    }
    esp_pass_free(&p);
    esp_batch_free(&batch);
    free(pick);
}

/* sum over tokens of row i of a times row j of b, [n_a, n_b]; a one at the end of the rows of b. */
static inline double *sums(const column *a, size_t n_a, const column *b, size_t n_b)
{
    double *to;

    ESP_NEW(to, n_a * n_b);
    for (size_t t = 0; t < a->n_tok; t++) {
        for (size_t i = 0; i < n_a; i++) {
            double x = i < a->width ? a->rows[t * a->width + i] : 1;

            for (size_t j = 0; j < n_b; j++) {
                to[i * n_b + j] += x * (j < b->width ? b->rows[t * b->width + j] : 1);
            }
        }
    }
    return to;
}

/* Makes one byte of the first result another. Rank 0. */
static inline void damage(const char *name, const char *projection)
{
    char *dir = esp_test_dir(name), *path = esp_path(dir, projection);
    FILE *f = fopen(path, "r+b");
    int byte;

    CU_ASSERT_PTR_NOT_NULL(f);
    if (f) {
        fseek(f, 100, SEEK_SET);
        byte = fgetc(f);
        fseek(f, 100, SEEK_SET);
        fputc(byte ^ 1, f);
        fclose(f);
    }
    free(path);
    free(dir);
}

#endif
