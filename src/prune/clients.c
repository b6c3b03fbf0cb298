/* clients.c - which sizes the inference engines can load, as a table of rules, and the search for a ratio
 * that keeps them.
 *
 * A size that the plan leaves as it was is not judged: an engine that loads it now loads it afterwards.
 */
#include "espalier/clients.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/reshape.h"
#include "candidates_impl.h"

#define RATIOS 100000 /* ratios tried: multiples of 1 / RATIOS */

enum { ONE, HEADS, HIDDEN, QUERY, MLP, N_SIZES };

static const char *const size_names[] = { "", "heads", "hidden size", "heads * head_dim",
                                          "MLP width" };

static const char *const client_names[ESP_N_CLIENTS] = { "transformers", "vllm", "llama.cpp" };

const char *esp_client_name(esp_client c)
{
    return c < ESP_N_CLIENTS ? client_names[c] : NULL;
}

#define HF        (1u << ESP_CLIENT_TRANSFORMERS)
#define VLLM      (1u << ESP_CLIENT_VLLM)
#define LLAMA_CPP (1u << ESP_CLIENT_LLAMA_CPP)

typedef struct rule {
    unsigned clients;
    const char *type; /* model_type that config.json says; NULL: any */
    int what;         /* this size is a multiple of (exact: is)      */
    size_t times;     /* times                                       */
    int of;           /* that size                                   */
    bool exact;
    bool lists; /* only of models with a list of factors for rotary positions */
} rule;

static const rule rules[] = {
    /* The configuration classes of transformers refuse these; vLLM reads config.json through them. */
    { HF | VLLM, "gemma2", HIDDEN, 1, HEADS, false, false },
    { HF | VLLM, "llama", HIDDEN, 1, HEADS, false, false },
    /* The format of BLOOM has no width of heads and none of the MLP. */
    { HF | VLLM | LLAMA_CPP, "bloom", HIDDEN, 1, QUERY, true, false },
    { HF | VLLM | LLAMA_CPP, "bloom", MLP, 4, HIDDEN, true, false },
    /* These divide hidden_size by the heads: the authors' code of Baichuan and those who follow it;
     * OPTAttention; vLLM's Qwen2Attention and GLMAttention; llama.cpp's converter for the rotary
     * channels of Phi-3 and ChatGLM. */
    { HF | VLLM | LLAMA_CPP, "baichuan", HIDDEN, 1, QUERY, true, false },
    { HF | VLLM, "opt", HIDDEN, 1, QUERY, true, false },
    { VLLM, "qwen2", HIDDEN, 1, QUERY, true, false },
    { VLLM | LLAMA_CPP, "chatglm", HIDDEN, 1, QUERY, true, false },
    { LLAMA_CPP, "phi3", HIDDEN, 1, QUERY, true, false },
    /* So does Phi3Config, when it checks the lists of longrope. */
    { HF | VLLM, "phi3", HIDDEN, 1, QUERY, true, true },
    /* Rows of matrices in K-quants are whole super-blocks of QK_K = 256 weights. */
    { LLAMA_CPP, NULL, HIDDEN, 256, ONE, false, false },
    { LLAMA_CPP, NULL, QUERY, 256, ONE, false, false },
    { LLAMA_CPP, NULL, MLP, 256, ONE, false, false },
};

#define N_RULES (sizeof rules / sizeof *rules)

/* What is judged: the sizes of a pruned model, by the rules of some engines. */
typedef struct trial {
    const esp_model *model;
    const char *type; /* model_type that it is written under */
    unsigned clients;
    esp_dims dims; /* layer [n_layers] owned */
} trial;

/* ---- rules ------------------------------------------------------------------------------------- */

static bool same_layer(const esp_layer_dims *a, const esp_layer_dims *b)
{
    return a->heads == b->heads && a->kv_heads == b->kv_heads && a->mlp == b->mlp;
}

/* The first layer that differs from layer 0; n_layers where all are alike. */
static size_t odd_layer(const esp_dims *d)
{
    size_t l = 1;

    while (l < d->n_layers && same_layer(&d->layer[0], &d->layer[l])) {
        l++;
    }
    return l < d->n_layers ? l : d->n_layers;
}

/* Of a model whose layers are alike. */
static void sizes_of(size_t sizes[N_SIZES], const esp_dims *d)
{
    sizes[ONE] = 1;
    sizes[HEADS] = d->layer[0].heads;
    sizes[HIDDEN] = d->hidden;
    sizes[QUERY] = d->layer[0].heads * d->head_dim;
    sizes[MLP] = d->layer[0].mlp;
}

static bool is_kept(const rule *r, const size_t sizes[N_SIZES])
{
    size_t base = r->times * sizes[r->of];

    return r->exact ? sizes[r->what] == base : sizes[r->what] % base == 0;
}

static bool concerns(const rule *r, const trial *t)
{
    return (r->clients & t->clients) && (!r->type || strcmp(r->type, t->type) == 0) &&
           (!r->lists || t->model->rope.longer);
}

/* The first rule of the engines that does not hold, NULL when all do. */
static const rule *broken_rule(const trial *t)
{
    size_t now[N_SIZES], dense[N_SIZES];

    sizes_of(now, &t->dims);
    sizes_of(dense, &t->model->dims);
    for (size_t i = 0; i < N_RULES; i++) {
        const rule *r = &rules[i];
        bool changed = now[r->what] != dense[r->what] || now[r->of] != dense[r->of];

        if (concerns(r, t) && changed && !is_kept(r, now)) {
            return r;
        }
    }
    return NULL;
}

static bool is_admissible(const trial *t)
{
    return odd_layer(&t->dims) == t->dims.n_layers && !broken_rule(t);
}

/* ---- what is admissible ------------------------------------------------------------------------ */

/* Sets dims to those that a local ratio leaves; whole layers count by their number alone. Returns how
 * many groups go. */
static size_t cut_by_ratio(trial *t, const esp_candidates *pools, const esp_plan_options *o)
{
    const esp_dims *dense = &t->model->dims;
    size_t n_cut = 0;

    t->dims.hidden = dense->hidden;
    t->dims.n_layers = dense->n_layers;
    memcpy(t->dims.layer, dense->layer, dense->n_layers * sizeof *dense->layer);
    for (size_t k = 0; k < pools->n; k++) {
        const esp_unit_candidates *p = &pools->pools[k];
        size_t gone = p->n - esp_unit_min_kept(p, o);
        esp_layer_dims *d = p->layer == ESP_NO_LAYER ? NULL : &t->dims.layer[p->layer];

        n_cut += gone;
        if (p->kind == ESP_UNIT_ATTENTION) {
            d->heads -= gone * (d->heads / d->kv_heads);
            d->kv_heads -= gone;
        } else if (p->kind == ESP_UNIT_QUERY) {
            d->heads -= gone * d->kv_heads;
        } else if (p->kind == ESP_UNIT_MLP) {
            d->mlp -= gone;
        } else if (p->kind == ESP_UNIT_HIDDEN) {
            t->dims.hidden -= gone;
        }
    }
    return n_cut;
}

/* Sets o->ratio to the nearest in (0, 1) that cuts something and is admissible, false when there is
 * none. */
static bool find_ratio(trial *t, const esp_groups *g, esp_plan_options *o)
{
    long wish = lround(o->ratio * RATIOS);
    esp_candidates pools = { 0 };
    bool found = false;

    if (esp_candidates_find(&pools, t->model, g, NULL, o) == ESP_OK) {
        for (long i = 0; i < 2 * RATIOS && !found; i++) {
            long at = wish + (i % 2 ? (i + 1) / 2 : -i / 2);

            o->ratio = (double)at / RATIOS;
            found = at > 0 && at < RATIOS && cut_by_ratio(t, &pools, o) > 0 && is_admissible(t);
        }
    }
    esp_candidates_free(&pools);
    return found;
}

/* Share of the groups that a plan cuts, where the options give no local ratio. */
static double share_cut(const esp_plan *p, const esp_groups *g, const esp_plan_options *o)
{
    size_t n = 0, kept = 0;

    for (size_t u = 0; u < g->n_units; u++) {
        const esp_kept_groups *k = esp_plan_kept(p, &g->units[u]);
        bool cut = esp_plan_units(o) >> g->units[u].kind & 1 && k->n < k->total;

        n += cut ? k->total : 0;
        kept += cut ? k->n : 0;
    }
    return n ? 1 - (double)kept / (double)n : 0;
}

/* What to set instead; round_to: where above 1, with that prune.round_to, too. The caller frees. */
static char *advice(trial *t, const esp_plan *p, const esp_groups *g, const esp_plan_options *o,
                    size_t round_to)
{
    bool local = esp_candidates_each_alike(o);
    esp_plan_options as = *o, rounded;
    char *text, *both;

    as.criterion = ESP_RANDOM; /* which groups go does not matter */
    as.global = false;
    as.target_kind = ESP_TARGET_NONE;
    as.ratio = local ? o->ratio : share_cut(p, g, o);
    rounded = as;
    rounded.round_to = round_to;
    text = find_ratio(t, g, &as)
               ? esp_format("the nearest admissible is prune.ratio = %.5f%s", as.ratio,
                            local ? "" : " with prune.scope = \"local\"")
               : esp_strdup("no prune.ratio is admissible with these settings; prune.mode = "
                            "\"layer\" leaves all widths as they are");
    if (round_to <= 1 || !find_ratio(t, g, &rounded)) {
        return text;
    }
    both = esp_format("%s; with prune.round_to = %zu it is %.5f", text, round_to, rounded.ratio);
    free(text);
    return both;
}

/* ---- the check --------------------------------------------------------------------------------- */

static const char *first_client(unsigned clients)
{
    size_t i = 0;

    while (!(clients >> i & 1)) {
        i++;
    }
    return client_names[i];
}

/* What is wrong, "layer 3 has ..."; the caller frees. */
static char *odd_text(const esp_dims *d)
{
    size_t l = odd_layer(d);
    const esp_layer_dims *a = &d->layer[0], *b = &d->layer[l];

    return esp_format(
        "layer %zu is left with %zu heads, %zu key/value heads and %zu intermediate channels, "
        "layer 0 with %zu, %zu and %zu; all must be alike",
        l, b->heads, b->kv_heads, b->mlp, a->heads, a->kv_heads, a->mlp);
}

static char *broken_text(const rule *r, const trial *t)
{
    const char *must = r->exact ? "must be" : "must be a multiple of";
    size_t sizes[N_SIZES];

    sizes_of(sizes, &t->dims);
    return r->of == ONE
               ? esp_format("%s %zu %s %zu", size_names[r->what], sizes[r->what], must, r->times)
               : esp_format("%s %zu of a %s %s %zu (%zu times its %s)", size_names[r->what],
                            sizes[r->what], t->type, must, r->times * sizes[r->of], r->times,
                            size_names[r->of]);
}

/* "transformers: what is wrong; what to set instead"; the caller frees. */
static char *complaint(trial *t, const esp_plan *p, const esp_groups *g, const esp_plan_options *o)
{
    bool odd = odd_layer(&t->dims) < t->dims.n_layers;
    const rule *r = odd ? NULL : broken_rule(t);
    char *what = r ? broken_text(r, t) : odd_text(&t->dims); /* before dims are tried others */
    char *instead = advice(t, p, g, o, r && r->of == ONE ? r->times : 1);
    char *text = esp_format("%s: %s; %s", first_client(r ? r->clients & t->clients : t->clients),
                            what, instead);

    free(what);
    free(instead);
    return text;
}

esp_status esp_clients_check(const esp_plan *p, const esp_model *m, const esp_groups *g,
                             const esp_plan_options *o, unsigned clients)
{
    trial t = { .model = m, .type = esp_model_uneven_type(m), .clients = clients ? clients : HF };
    esp_status st = ESP_OK;
    char *text;

    esp_plan_dims(&t.dims, p, m);
    text = is_admissible(&t) ? NULL : complaint(&t, p, g, o);
    if (text && clients) {
        st = esp_fail(ESP_EUSAGE, "prune.clients: %s", text);
    } else if (text) {
        esp_warn("plan: the result will not load in %s (prune.clients refuses such a plan)", text);
    }
    free(text);
    free(t.dims.layer);
    return st;
}

bool esp_clients_sizes_known(const esp_model *m, const esp_plan_options *o)
{
    switch (o->mode) {
    case ESP_PRUNE_CHANNEL: /* one unit */
        return true;
    case ESP_PRUNE_LAYER:
        return odd_layer(&m->dims) == m->dims.n_layers;
    default:
        return !o->global;
    }
}

esp_status esp_clients_check_early(const esp_model *m, const esp_groups *g,
                                   const esp_plan_options *o, unsigned clients)
{
    esp_plan_options any = *o;
    esp_plan p;
    esp_status st;

    if (!esp_clients_sizes_known(m, o)) {
        return ESP_OK;
    }
    any.criterion = ESP_RANDOM;
    ESP_TRY(esp_plan_make(&p, m, g, NULL, &any));
    st = esp_clients_check(&p, m, g, o, clients);
    esp_plan_free(&p);
    return st;
}
