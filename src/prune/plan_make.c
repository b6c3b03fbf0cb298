/* plan_make.c - how many groups go, and from where (docs/method.md, eq. 16-18).
 *
 * Flow: pools of ranked candidates -> steps, the smallest cuts that round_to allows, each with a key ->
 * all steps in ascending order of key, taken until the goal is reached. The key of a step is its score
 * where one ranking goes over all pools, else the share of its pool that is gone after it.
 */
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "near_ties_impl.h"
#include "plan_impl.h"
#include "candidates_impl.h"

typedef struct step {
    double key;
    size_t pool, n_cut; /* of the pool, after the step */
} step;

/* The measure is the number of groups, or the kind of cost of the target. */
typedef struct cut {
    const esp_model *model;
    const esp_plan_options *o;
    esp_candidates pools;
    size_t *n_cut; /* [pools.n] owned; candidates of each pool that go */
    step *steps;   /* [n_steps] owned                                  */
    size_t n_steps;
    uint64_t left; /* measure of what stays */
    double goal;   /* of the measure        */
    bool spent;    /* all steps are taken   */
} cut;

/* ---- measure and goal -------------------------------------------------------------------------- */

static uint64_t cost_of(const cut *c, const esp_plan *p)
{
    esp_cost cost = esp_plan_cost(p, c->model, c->o->target_tokens);

    switch (c->o->target_kind) {
    case ESP_TARGET_PARAMETERS:
        return cost.parameters;
    case ESP_TARGET_MACS:
        return cost.macs;
    default:
        return cost.bytes;
    }
}

/* The list that a pool of groups cuts from. */
static esp_kept_groups *kept_of(esp_plan *p, const esp_unit_candidates *from)
{
    switch (from->kind) {
    case ESP_UNIT_ATTENTION:
        return &p->layers[from->layer].attention;
    case ESP_UNIT_QUERY:
        return &p->layers[from->layer].query;
    case ESP_UNIT_MLP:
        return &p->layers[from->layer].mlp;
    default:
        return &p->hidden;
    }
}

/* Takes slices of a pool of groups out of the counts of a plan: a slice of query heads is one of each
 * key/value head that stays, and these take theirs along. */
static void shrink(esp_plan *p, const esp_unit_candidates *from, size_t by)
{
    esp_kept_groups *k = kept_of(p, from);
    esp_layer_plan *l = from->layer == ESP_NO_LAYER ? NULL : &p->layers[from->layer];
    size_t queries = l ? l->query.n / l->attention.n : 0; /* of a key/value head */

    k->n -= by * (from->kind == ESP_UNIT_QUERY ? l->attention.n : 1);
    if (from->kind == ESP_UNIT_ATTENTION) {
        l->query.n = queries * l->attention.n;
    }
}

/* Counts of the whole model again. */
static void restore(esp_plan *p, const esp_unit_candidates *from)
{
    esp_kept_groups *k = kept_of(p, from);

    k->n = k->total;
    if (from->kind == ESP_UNIT_ATTENTION) {
        p->layers[from->layer].query.n = p->layers[from->layer].query.total;
    }
}

/* What the dense model costs less without one slice. Costs are linear in the groups of a mode, whichever
 * others go, but for those of attention where both kinds do. */
static uint64_t saving(const cut *c, esp_plan *whole, const esp_unit_candidates *from, size_t i)
{
    uint64_t without;

    if (from->kind == ESP_UNIT_LAYER) {
        whole->layers[from->c[i].index].kept = false;
        without = cost_of(c, whole);
        whole->layers[from->c[i].index].kept = true;
    } else {
        shrink(whole, from, 1);
        without = cost_of(c, whole);
        restore(whole, from);
    }
    return c->left - without;
}

static void set_savings(const cut *c, esp_plan *whole)
{
    for (size_t k = 0; k < c->pools.n; k++) {
        const esp_unit_candidates *p = &c->pools.pools[k];

        for (size_t i = 0; i < p->n; i++) { /* slices of one unit save alike */
            p->c[i].saves =
                i == 0 || p->kind == ESP_UNIT_LAYER ? saving(c, whole, p, i) : p->c[0].saves;
        }
    }
}

static void count_groups(cut *c)
{
    c->left = 0;
    for (size_t k = 0; k < c->pools.n; k++) {
        const esp_unit_candidates *p = &c->pools.pools[k];

        c->left += p->lanes * p->n;
        for (size_t i = 0; i < p->n; i++) {
            p->c[i].saves = p->lanes;
        }
    }
}

static void set_goal(cut *c, esp_plan *whole)
{
    if (c->o->target_kind == ESP_TARGET_NONE) {
        count_groups(c);
        c->goal =
            esp_candidates_each_alike(c->o) ? 0 : (double)esp_after_ratio(c->o->ratio, c->left);
        return;
    }
    c->left = cost_of(c, whole);
    c->goal = c->o->target <= 1 ? c->o->target * (double)c->left : c->o->target;
    set_savings(c, whole);
}

/* ---- steps ------------------------------------------------------------------------------------- */

static void add_steps(cut *c, size_t pool)
{
    const esp_unit_candidates *p = &c->pools.pools[pool];
    size_t least = esp_unit_min_kept(p, c->o);

    for (size_t kept = p->n; kept > least;) {
        size_t n_cut;

        kept = (kept - 1) / p->bundle * p->bundle;
        n_cut = p->n - kept;
        c->steps[c->n_steps++] = (step){
            .key = c->o->global ? esp_slice_score(p, n_cut - 1) : (double)n_cut / (double)p->n,
            .pool = pool,
            .n_cut = n_cut,
        };
    }
}

static int compare(const void *a, const void *b)
{
    const step *x = a, *y = b;

    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    if (x->pool != y->pool) {
        return x->pool < y->pool ? -1 : 1;
    }
    return x->n_cut < y->n_cut ? -1 : x->n_cut > y->n_cut;
}

static void find_steps(cut *c)
{
    size_t capacity = 0;

    for (size_t k = 0; k < c->pools.n; k++) {
        capacity += c->pools.pools[k].n;
    }
    ESP_NEW(c->steps, capacity);
    for (size_t k = 0; k < c->pools.n; k++) {
        add_steps(c, k);
    }
    qsort(c->steps, c->n_steps, sizeof *c->steps, compare);
}

/* Key/value heads and query heads: what one of them saves follows from how many of the others have gone. */
static bool saves_by_others(const cut *c, const esp_unit_candidates *p)
{
    return c->o->target_kind != ESP_TARGET_NONE && c->o->attention == ESP_ATTENTION_BOTH &&
           (p->kind == ESP_UNIT_ATTENTION || p->kind == ESP_UNIT_QUERY);
}

/* counts: of what stays so far, of kinds that go together. */
static void take_step(cut *c, esp_plan *counts, const step *s)
{
    const esp_unit_candidates *p = &c->pools.pools[s->pool];
    size_t before = c->n_cut[s->pool];

    if (s->n_cut > before && saves_by_others(c, p)) {
        uint64_t cost = cost_of(c, counts);

        shrink(counts, p, s->n_cut - before);
        c->left -= cost - cost_of(c, counts);
        c->n_cut[s->pool] = s->n_cut;
    }
    while (c->n_cut[s->pool] < s->n_cut) {
        c->left -= p->c[c->n_cut[s->pool]++].saves;
    }
}

/* A target is met by the step that passes it; a ratio is never passed. */
static void take_steps(cut *c, esp_plan *counts)
{
    bool pass = c->o->target_kind != ESP_TARGET_NONE;
    size_t i = 0;

    for (; i < c->n_steps && (double)c->left > c->goal; i++) {
        const step *s = &c->steps[i];
        size_t lanes = c->pools.pools[s->pool].lanes;

        if (!pass && (double)(c->left - lanes * (s->n_cut - c->n_cut[s->pool])) < c->goal) {
            break;
        }
        take_step(c, counts, s);
    }
    c->spent = i == c->n_steps;
}

/* ---- the plan ---------------------------------------------------------------------------------- */

static esp_status check_amount(const esp_plan_options *o)
{
    if (o->target_kind == ESP_TARGET_NONE && !(o->ratio >= 0 && o->ratio < 1)) {
        return esp_fail(ESP_EUSAGE, "prune.ratio: %g is not in [0, 1)", o->ratio);
    }
    if (!(o->attention_ratio >= 0 && o->attention_ratio < 1)) {
        return esp_fail(ESP_EUSAGE, "prune.attention_ratio: %g is not in [0, 1)",
                        o->attention_ratio);
    }
    if (o->target_kind != ESP_TARGET_NONE && !(o->target > 0)) {
        return esp_fail(ESP_EUSAGE, "prune.target: %g is not above 0", o->target);
    }
    return ESP_OK;
}

/* Groups of all pools, and those of them that go. */
static void count_cut(const cut *c, size_t *n, size_t *n_cut)
{
    *n = *n_cut = 0;
    for (size_t k = 0; k < c->pools.n; k++) {
        *n += c->pools.pools[k].lanes * c->pools.pools[k].n;
        *n_cut += c->pools.pools[k].lanes * c->n_cut[k];
    }
}

/* A target that the dense model meets would leave it as it is. */
static esp_status check_goal(const cut *c)
{
    return c->o->target_kind == ESP_TARGET_NONE || c->goal < (double)c->left
               ? ESP_OK
               : esp_fail(
                     ESP_EUSAGE,
                     "prune.target: %.0f %s are not below the %llu of the dense model: nothing "
                     "would go",
                     c->goal, esp_target_name(c->o->target_kind), (unsigned long long)c->left);
}

static esp_status check_met(const cut *c)
{
    const esp_plan_options *o = c->o;
    size_t n, n_cut;

    if ((double)c->left <= c->goal || !c->spent || esp_candidates_each_alike(o)) {
        return ESP_OK;
    }
    if (o->target_kind != ESP_TARGET_NONE) {
        return esp_fail(
            ESP_EUSAGE,
            "prune.target: %.0f %s cannot be met; the least with these layers, min_keep "
            "and round_to is %llu%s",
            c->goal, esp_target_name(o->target_kind), (unsigned long long)c->left,
            o->target > 1 && o->target <= 100 ? "; a fraction is written as 0.8" : "");
    }
    count_cut(c, &n, &n_cut);
    return esp_fail(ESP_EUSAGE,
                    "prune.ratio: %g cannot be met; min_keep and round_to let %zu of %zu groups "
                    "go, a ratio of %.6f",
                    o->ratio, n_cut, n, n ? (double)n_cut / (double)n : 0);
}

/* The first slices of a pool. */
static void remove_groups(esp_kept_groups *k, const esp_unit_candidates *p, size_t n_cut)
{
    bool *gone;
    size_t n = 0;

    ESP_NEW(gone, k->total);
    for (size_t lane = 0; lane < p->lanes; lane++) {
        for (size_t i = 0; i < n_cut; i++) {
            gone[p->c[lane * p->n + i].index] = true;
        }
    }
    for (size_t i = 0; i < k->n; i++) {
        if (!gone[k->index[i]]) {
            k->index[n++] = k->index[i];
        }
    }
    k->n = n;
    free(gone);
}

static void apply(esp_plan *p, const cut *c)
{
    for (size_t k = 0; k < c->pools.n; k++) {
        const esp_unit_candidates *from = &c->pools.pools[k];

        if (from->kind != ESP_UNIT_LAYER) {
            restore(p, from);
            remove_groups(kept_of(p, from), from, c->n_cut[k]);
            continue;
        }
        for (size_t i = 0; i < c->n_cut[k]; i++) {
            esp_plan_drop_layer(&p->layers[from->c[i].index]);
        }
    }
    for (size_t l = 0; l < p->n_layers; l++) {
        esp_plan_drop_queries(&p->layers[l]);
    }
}

/* Identity of a model by its configuration; a caller that has the weights may replace it by their digest. */
static void set_model(esp_plan *p, const esp_model *m)
{
    char *text = json_dumps(m->config, JSON_COMPACT | JSON_SORT_KEYS);

    ESP_REQUIRE(text);
    esp_digest_bytes(p->model, text, strlen(text));
    free(text);
}

static esp_status choose(esp_plan *p, cut *c)
{
    set_goal(c, p);
    ESP_TRY(check_goal(c));
    ESP_NEW(c->n_cut, c->pools.n);
    p->dense = esp_plan_cost(p, c->model, c->o->target_tokens);
    find_steps(c);
    take_steps(c, p);
    ESP_TRY(check_met(c));
    apply(p, c);
    esp_near_ties_find(p, &c->pools, c->n_cut, c->model, c->o);
    p->pruned = esp_plan_cost(p, c->model, c->o->target_tokens);
    ESP_REQUIRE(c->o->target_kind == ESP_TARGET_NONE || c->left == cost_of(c, p));
    set_model(p, c->model);
    esp_plan_seal(p);
    return ESP_OK;
}

esp_status esp_plan_make(esp_plan *p, const esp_model *m, const esp_groups *g,
                         const esp_scores *scores, const esp_plan_options *o)
{
    cut c = { .model = m, .o = o };
    esp_status st;

    *p = (esp_plan){ 0 };
    ESP_TRY(check_amount(o));
    st = esp_candidates_find(&c.pools, m, g, scores, o);
    if (st == ESP_OK) {
        esp_plan_whole(p, m);
        st = choose(p, &c);
    }
    if (st != ESP_OK) {
        esp_plan_free(p);
    }
    esp_candidates_free(&c.pools);
    free(c.n_cut);
    free(c.steps);
    return st;
}
