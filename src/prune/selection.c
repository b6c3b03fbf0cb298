/* selection.c - the groups of a projection that go, chosen by the error that is left, and the file of that
 * choice: complete, or not there.
 */
#include <stdlib.h>
#include <string.h>

#include "compensate_walk_impl.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "plan_impl.h"

/* Where none is set: much less, and inputs that a few tokens have decide. */
#define DAMPING 0.1

/* ---- the plan ------------------------------------------------------------------------------------ */

static esp_kept_groups *kept_of(esp_plan *p, const esp_unit *u)
{
    esp_layer_plan *l = &p->layers[u->layer];

    switch (u->kind) {
    case ESP_UNIT_ATTENTION:
        return &l->attention;
    case ESP_UNIT_QUERY:
        return &l->query;
    default:
        return &l->mlp;
    }
}

static void keep_all(esp_kept_groups *k)
{
    for (k->n = 0; k->n < k->total; k->n++) {
        k->index[k->n] = (int32_t)k->n;
    }
}

static void remove_groups(esp_kept_groups *k, const int32_t *order, size_t n)
{
    bool *gone;

    ESP_NEW(gone, k->total);
    for (size_t i = 0; i < n; i++) {
        gone[order[i]] = true;
    }
    k->n = 0;
    for (size_t i = 0; i < k->total; i++) {
        if (!gone[i]) {
            k->index[k->n++] = (int32_t)i;
        }
    }
    free(gone);
}

void esp_selection_apply(esp_plan *plan, const esp_unit *u, const int32_t *order, size_t n)
{
    remove_groups(kept_of(plan, u), order, n);
    if (u->kind == ESP_UNIT_ATTENTION) {
        keep_all(&plan->layers[u->layer].query);
        esp_plan_drop_queries(&plan->layers[u->layer]);
    }
}

/* ---- the choice ---------------------------------------------------------------------------------- */

/* Of query heads each key/value head loses as many. */
static size_t lanes_of(const esp_model *m, const esp_unit *u)
{
    return u->kind == ESP_UNIT_QUERY ? m->dims.layer[u->layer].kv_heads : 1;
}

/* order and error of the choice, where the weight is whole. Collective on the grid's data. */
static bool order_groups(esp_choice_head *choice, esp_walk *w, const esp_projection *p)
{
    const esp_weight *at = esp_walk_weight(w, p->layer, p->slot);
    double *error = (void *)(choice + 1), *w0;
    double damping = w->options->damping > 0 ? w->options->damping : DAMPING;
    size_t first, end;
    esp_input_groups groups;
    esp_reconstruction s;
    bool done;

    esp_share(&first, &end, at->rows, w->grid->i_data, w->grid->n_data);
    esp_choice_groups(&groups, p->unit, lanes_of(w->remnant->model, p->unit));
    esp_reconstruction_init(&s, w->fit.n, end - first, &groups);
    ESP_NEW(w0, (end - first) * w->fit.n);
    esp_projection_rows(w0, at, first, end - first);
    done = esp_reconstruction_order((void *)(error + p->n_gone + 1), error, p->n_gone, &groups, w0,
                                    &w->fit, damping, first, end - first, &s, w->grid->data);
    free(w0);
    esp_reconstruction_free(&s);
    free(groups.input);
    return done;
}

/* The inputs of the projection that stay, from its sums; cut: the plan has been. */
static void keep_inputs(esp_walk *w, const esp_projection *p)
{
    const esp_kept_groups *cols = esp_remnant_source_cols(w->remnant, p->layer, p->slot);

    esp_gram_keep(&w->fit, cols->index, cols->n);
    esp_gram_keep(&w->held, cols->index, cols->n);
}

esp_status esp_selection_choose(esp_walk *w, const esp_projection *p)
{
    esp_choice_head *choice = esp_calloc(esp_choice_bytes(p->n_gone), 1);
    const int32_t *order = (const void *)((double *)(choice + 1) + p->n_gone + 1);
    esp_status st = ESP_OK;

    choice->n_gone = p->n_gone;
    choice->squares = w->fit.y2;
    choice->tokens = w->fit.tokens;
    if (!order_groups(choice, w, p)) {
        st = esp_fail(ESP_EFAILED,
                      "prune.select = reconstruction: layer %zu, %s: its inputs are so alike that "
                      "a damping of %g leaves no solution: set a larger compensate.damping",
                      p->layer, esp_walk_role(w, p), w->options->damping);
    }
    st = esp_agree(w->grid->data, st);
    if (st == ESP_OK) {
        esp_selection_apply(w->plan, p->unit, order, p->n_gone);
        esp_walk_recut(w, p->layer);
        keep_inputs(w, p);
        st = w->grid->i_data == 0 ? esp_choice_write(choice, w->dir, &w->remnant->left, p) : ESP_OK;
        st = esp_agree(w->grid->data, st);
    }
    free(choice);
    return st;
}
