/* generate.c - text from a model, a token at a time, with cached keys and values.
 *
 * Letters: V vocabulary.
 */
#include "espalier/eval.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/rng.h"

typedef struct candidate {
    double weight; /* probability up to a common factor */
    int32_t id;
} candidate;

typedef struct decoder {
    const esp_model *model;
    esp_pass pass;
    esp_cache cache;
    esp_batch batch;
    float *logits;         /* [V] of the last position */
    candidate *candidates; /* [V]                      */
} decoder;

static esp_status check_prompt(const esp_ids *ids, const esp_model *m)
{
    if (ids->n == 0) {
        return esp_fail(ESP_EUSAGE, "the prompt has no token; give a text to continue");
    }
    if (ids->n >= m->dims.max_positions) {
        return esp_fail(ESP_EUSAGE,
                        "the prompt has %zu tokens, the model %zu positions: shorten it", ids->n,
                        m->dims.max_positions);
    }
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->id[i] < 0 || (size_t)ids->id[i] >= m->dims.vocab) {
            return esp_fail(ESP_EFORMAT,
                            "the prompt has token %d, the model's vocabulary has %zu: "
                            "the tokenizer is not this model's",
                            ids->id[i], m->dims.vocab);
        }
    }
    return ESP_OK;
}

static void decoder_init(decoder *d, const esp_model *m, size_t n_prompt, size_t n_all)
{
    size_t anew = esp_model_anew(m), at_once = n_prompt < anew && anew <= n_all ? anew : n_prompt;
    esp_pass_options options = { .max_samples = 1, .max_tok = at_once, .resident = true };

    *d = (decoder){ .model = m };
    esp_pass_init(&d->pass, m, options);
    esp_cache_init(&d->cache, m, n_all);
    esp_model_batch_init(&d->batch, m, 1, at_once);
    ESP_NEW(d->logits, m->dims.vocab);
    ESP_NEW(d->candidates, m->dims.vocab);
}

static void decoder_free(decoder *d)
{
    esp_pass_free(&d->pass);
    esp_cache_free(&d->cache);
    esp_batch_free(&d->batch);
    free(d->logits);
    free(d->candidates);
}

/* Continues the cache by the batch; logits become those after its last token. */
static void decode(decoder *d)
{
    d->batch.position = d->cache.n;
    esp_pass_forward(&d->pass, &d->cache, &d->batch);
    esp_pass_logits(d->logits, &d->pass, d->batch.n_tok - 1, 1);
}

static void decode_all(decoder *d, const esp_ids *ids)
{
    esp_samples s = { 0 };
    size_t first = 0;

    esp_samples_add(&s, ids->id, NULL, ids->n);
    esp_batch_fill(&d->batch, &s, &first, 1);
    esp_samples_free(&s);
    d->cache.n = 0;
    decode(d);
}

/* The last of ids, all of which but that are in the cache. */
static void decode_last(decoder *d, const esp_ids *ids)
{
    if (ids->n == esp_model_anew(d->model)) {
        decode_all(d, ids);
        return;
    }
    d->batch.ids[0] = ids->id[ids->n - 1];
    d->batch.n_tok = d->batch.start[1] = 1;
    decode(d);
}

static int32_t largest(const float *logits, size_t V)
{
    size_t best = 0;

    for (size_t i = 1; i < V; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int32_t)best;
}

/* Heavier first, then by id. */
static int by_weight(const void *a, const void *b)
{
    const candidate *x = a, *y = b;

    if (x->weight != y->weight) {
        return x->weight > y->weight ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Draws from softmax(logits / temperature) within the nucleus: the fewest most probable tokens that
 * hold top_p of the probability. u uniform in [0, 1). */
static int32_t draw(decoder *d, const esp_generate_options *o, double u)
{
    size_t V = d->model->dims.vocab, n = 0;
    double most = d->logits[largest(d->logits, V)], total = 0, nucleus = 0, at = 0;
    candidate *c = d->candidates;

    for (size_t i = 0; i < V; i++) {
        c[i] = (candidate){ exp((d->logits[i] - most) / o->temperature), (int32_t)i };
        total += c[i].weight;
    }
    qsort(c, V, sizeof *c, by_weight);
    while (n < V && (n == 0 || nucleus < o->top_p * total)) {
        nucleus += c[n++].weight;
    }
    for (size_t i = 0; i + 1 < n; i++) {
        at += c[i].weight;
        if (u * nucleus < at) {
            return c[i].id;
        }
    }
    return c[n - 1].id;
}

static esp_status check_logits(const decoder *d)
{
    size_t V = d->model->dims.vocab, bad = esp_find_nonfinite(d->logits, ESP_F32, V);

    if (bad < V) {
        return esp_fail(ESP_EFAILED,
                        "after token %zu the logit of id %zu is %g: weights are too large for "
                        "f32 or broken; get the model anew",
                        d->cache.n, bad, fabs((double)d->logits[bad])); /* a NaN may have a sign */
    }
    return ESP_OK;
}

/* The number drawn depends on the seed and the position alone. */
static int32_t choose(decoder *d, const esp_generate_options *o)
{
    esp_rng r = { .key = esp_rng_key(o->seed, d->cache.n, 0) };

    return o->temperature > 0 ? draw(d, o, esp_rng_uniform(&r))
                              : largest(d->logits, d->model->dims.vocab);
}

esp_status esp_generate(esp_ids *ids, const esp_model *m, const esp_generate_options *o,
                        void (*each)(void *ctx, int32_t id), void *ctx)
{
    size_t capacity, n_all;
    esp_status st;
    decoder d;

    ESP_TRY(check_prompt(ids, m));
    capacity = m->dims.max_positions - ids->n;
    n_all = ids->n + esp_min(o->tokens, capacity);
    decoder_init(&d, m, ids->n, n_all);
    decode_all(&d, ids);
    while ((st = check_logits(&d)) == ESP_OK && ids->n < n_all) {
        int32_t id = choose(&d, o);

        if (id == m->eos) {
            break;
        }
        esp_ids_add(ids, id);
        if (each) {
            each(ctx, id);
        }
        if (ids->n < n_all) {
            decode_last(&d, ids);
        }
    }
    decoder_free(&d);
    return st;
}
