/* plan_check.c - what is known of a plan before there are scores: whether it can be made, how much goes. */
#include <math.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "candidates_impl.h"

#define FAR 0.01 /* of the groups of a unit: a share that is further from the ratio is told */

/* ---- nothing would go ------------------------------------------------------------------------------ */

static bool cuts_nothing(const esp_plan *p)
{
    return p->pruned.parameters == p->dense.parameters;
}

/* The ratio from which on something goes: of one pool alone where each is cut alike, else of all groups
 * together, whichever pool comes first. 1 where min_keep and round_to let nothing go. */
static double least_ratio(const esp_candidates *pools, const esp_plan_options *o)
{
    bool alike = esp_candidates_each_alike(o);
    size_t n = 0, most = 0;
    double least = 1;

    for (size_t k = 0; k < pools->n; k++) {
        const esp_unit_candidates *p = &pools->pools[k];
        size_t first = p->n > 0 ? esp_unit_first_cut(p) : 0;

        n += p->lanes * p->n;
        if (first > 0 && first < p->n && p->lanes * (p->n - first) >= o->min_keep) {
            least = fmin(least, (double)first / (double)p->n);
            most = esp_max(most, p->lanes * first);
        }
    }
    return alike || most == 0 ? least : (double)most / (double)n;
}

static esp_status nothing_goes(const esp_candidates *pools, const esp_plan_options *o)
{
    double least = least_ratio(pools, o);

    if (o->ratio == 0) {
        esp_warn("prune.ratio is 0: the plan will keep all");
        return ESP_OK;
    }
    return least < 1 ? esp_fail(ESP_EUSAGE,
                                "prune.ratio = %g cuts nothing: of n groups floor(n ratio) go; the "
                                "least ratio "
                                "that cuts something is %g",
                                o->ratio, ceil(least * 1e6 - 1e-6) / 1e6)
                     : esp_fail(ESP_EUSAGE,
                                "prune.ratio = %g cuts nothing, nor does any other with these "
                                "layers, min_keep "
                                "and round_to",
                                o->ratio);
}

/* ---- groups that cannot follow --------------------------------------------------------------------- */

/* Pools [first, end) of one kind, layer by layer, from which as many of as many groups go. */
typedef struct stretch {
    const esp_unit_candidates *first, *last;
} stretch;

static bool is_alike(const esp_unit_candidates *a, const esp_unit_candidates *b,
                     const esp_plan_options *o)
{
    return a->n == b->n && a->lanes == b->lanes &&
           esp_unit_min_kept(a, o) == esp_unit_min_kept(b, o);
}

static const char *name_of(esp_unit_kind kind)
{
    return kind == ESP_UNIT_LAYER ? "layers" : esp_unit_name(kind);
}

static void tell(const stretch *s, size_t n_layers, const esp_plan_options *o)
{
    const esp_unit_candidates *p = s->first;
    size_t gone = p->n - esp_unit_min_kept(p, o), from = p->layer, to = s->last->layer;
    double ratio = esp_unit_ratio(p, o), share = p->n > 0 ? (double)gone / (double)p->n : ratio;
    char where[64] = "";

    if (fabs(share - ratio) <= FAR) {
        return;
    }
    if (from != ESP_NO_LAYER && from == 0 && to + 1 == n_layers) {
        snprintf(where, sizeof where, " in each layer");
    } else if (from != ESP_NO_LAYER) {
        snprintf(where, sizeof where, from == to ? " in layer %zu" : " in layers %zu-%zu", from,
                 to);
    }
    esp_warn("plan: %s: %zu of %zu groups (%.0f %%)%s for a ratio of %.4g %%", name_of(p->kind),
             p->lanes * gone, p->lanes * p->n, 100 * share, where, 100 * ratio);
}

static void tell_kind(const esp_candidates *pools, esp_unit_kind kind, size_t n_layers,
                      const esp_plan_options *o)
{
    stretch s = { 0 };

    for (size_t k = 0; k < pools->n; k++) {
        const esp_unit_candidates *p = &pools->pools[k];

        if (p->kind != kind) {
            continue;
        }
        if (s.last && !(p->layer == s.last->layer + 1 && is_alike(s.last, p, o))) {
            tell(&s, n_layers, o);
            s.last = NULL;
        }
        s.first = s.last ? s.first : p;
        s.last = p;
    }
    if (s.last) {
        tell(&s, n_layers, o);
    }
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static esp_status check_share(const esp_plan *p, const esp_model *m, const esp_groups *g,
                              const esp_plan_options *o)
{
    esp_candidates pools;
    esp_status st = esp_candidates_find(&pools, m, g, NULL, o);

    if (st == ESP_OK && cuts_nothing(p)) {
        st = nothing_goes(&pools, o);
    } else if (st == ESP_OK && esp_candidates_each_alike(o)) {
        for (esp_unit_kind kind = 0; kind <= ESP_UNIT_LAYER; kind++) {
            tell_kind(&pools, kind, m->dims.n_layers, o);
        }
    }
    esp_candidates_free(&pools);
    return st;
}

esp_status esp_plan_check_early(const esp_model *m, const esp_groups *g, const esp_plan_options *o)
{
    esp_plan_options any = *o;
    esp_plan p;
    esp_status st;

    any.criterion =
        ESP_RANDOM; /* which groups go decides neither on how many nor on what can be met */
    ESP_TRY(esp_plan_make(&p, m, g, NULL, &any));
    st = check_share(&p, m, g, &any);
    esp_plan_free(&p);
    return st;
}
